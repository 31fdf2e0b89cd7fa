"""A stand: presets play by themselves until somebody touches the screen, and again when nobody has for a while."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from cake_core.jobs import Job
from cake_core.methods import METHODS

from . import panels, routes
from .kiosk_watch import kiosk_watch
from .page import Screen

__all__ = ["is_show", "play", "watch"]

SECONDS = 60  # for which a preset is shown at most
REST = 6  # seconds for which its outcome is shown


def is_show(screen: Screen) -> bool:
    """Whether presets play by themselves now: there is nothing to be set then."""
    return screen.options.kiosk and not screen.kiosk["taken"]


def watch(screen: Screen, presets: Mapping[str, Mapping[str, str]], job: Job) -> None:
    """Shows what is on, and takes notice of touches and keys.

    Args:
        screen: that plays.
        presets: by name, the keys of the URL that they set, in the order in which they are shown.
        job: of the experiment that is shown.
    """
    key, state = f"{screen.name}:kiosk", screen.kiosk
    names = list(presets)
    method = METHODS[screen.experiment.method]
    at = names[(state["turn"] - 1) % len(names)] if state["turn"] else method.title
    data = {
        "mode": "show" if is_show(screen) else "taken",
        "turn": state["turn"],
        "ended": job.state in ("done", "failed", "stopped"),
        "now": f"Now: {at}. {method.summary}",
        "idle": screen.options.idle,
        "seconds": SECONDS,
        "rest": REST,
        "outcome": panels.OUTCOME,
    }

    def follow() -> None:
        screen.follow(presets[names[state["turn"] % len(names)]])

    def take() -> None:
        state["taken"] = True

    kiosk_watch(
        data,
        key=key,
        served=routes.are_mounted(),
        on_next_change=follow,
        on_taken_change=take,
        on_idle_change=screen.begin_again,
    )


def play(screen: Screen, job: Job) -> None:
    """While the show goes on, what is shown also runs."""
    if is_show(screen) and job.state in ("ready", "paused") and not screen.watches:
        job.play()
    if is_show(screen):
        st.html("<style>[data-testid=stHeader] { visibility: hidden; }</style>")
