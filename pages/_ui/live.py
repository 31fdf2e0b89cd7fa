"""Puts the live view on a page and keeps it in step with the page's experiment."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterable
from typing import Any

import plotly
import streamlit as st

from cake_core.jobs import ACTIVE, Job, Message

from . import routes, words
from .live_view import live_view
from .owner import is_known, is_mine

__all__ = ["NUMBERS", "prefix", "reachable", "replay", "until", "wait_for", "watch"]

SECONDS_BETWEEN_FEEDS = 0.25  # where the server has no socket

SAID = ("settings", "view")  # what the live view tells, and gets back with the next drawing

# The numbers that frames can carry, in the order they are shown.
NUMBERS = [
    (
        "near_boundary",
        "Near the boundary",
        "percent",
        "Share of samples within 0.1 of the teacher's decision boundary, judged to first order.",
    ),
    ("hit_rate", "Steered where told", "percent", "Share of samples that the teacher puts into their steering class."),
    ("confidence", "Teacher's confidence", "percent", "Mean probability of the class the teacher names."),
    ("variation", "Roughness", "number", "Mean total variation of the images: how much neighbouring pixels differ."),
    (
        "forward_calls",
        "Teacher calls",
        "count",
        "Samples that the teacher has answered. What a copy costs, if calls are counted.",
    ),
    ("gradient_calls", "Gradient calls", "count", "Samples for which the teacher also gave its gradient."),
    ("student_accuracy", "Student's accuracy", "percent", "On real test data that the student has never seen."),
    ("accuracy", "Accuracy", "percent", "On the test data."),
]


def watch(
    job: Job,
    *,
    key: str,
    sliders: Iterable[dict[str, Any]] = (),
    rate: float = 30,
    student: bool = True,
    settings_changed: Callable[[dict[str, Any]], None] | None = None,
    view: dict[str, Any] | None = None,
    view_changed: Callable[[dict[str, Any]], None] | None = None,
    show: Iterable[str] = (),
) -> None:
    """Shows a job.

    Args:
        job: what to watch.
        key: of the component; the same job under the same key goes on where it was.
        sliders: what may change while it runs (see `controls.sliders`).
        rate: steps per second at speed 1.
        student: whether there is a pane for the student.
        settings_changed: gets all live settings when one was moved.
        view: what is shown and how fast, as `links.View.to_dict` gives it; None leaves it to the browser.
        view_changed: gets the same when somebody has changed it.
        show: what is switched on when a job is shown for the first time: "trails", "arrows", "data".
    """
    mine = is_mine(job)
    if job.rate is None and mine:
        job.pace(rate)
    sliders = list(sliders) if mine else []
    said = st.session_state.get(key) or {}
    data = {
        "job": job.name if mine else job.shared or job.shown,
        "watch": not mine,
        "sliders": sliders,
        "numbers": [dict(zip(("name", "label", "format", "help"), n, strict=True)) for n in NUMBERS],
        "rate": rate,
        "student": student,
        "show": list(show),
        "words": words.for_live_view([*(n[0] for n in NUMBERS), *(s["name"] for s in sliders)]),
        "seen": st.session_state.get(f"{key}:seen"),
        "heard": {part: said[part]["at"] for part in SAID if said.get(part)},
        "view": view,
        **(_addresses() if reachable() else {}),
    }

    def on_settings() -> None:
        if settings_changed and (settings := st.session_state[key].get("settings")):
            settings_changed({k: v for k, v in settings.items() if k != "at"})

    def on_view() -> None:
        if view_changed and (told := st.session_state[key].get("view")):
            view_changed(told)

    def on_ended() -> None:
        st.session_state[f"{key}:seen"] = st.session_state[key].get("ended")

    callbacks = {"on_settings_change": on_settings, "on_ended_change": on_ended, "on_view_change": on_view}
    if reachable():
        live_view(data, key=key, served=True, **callbacks)
    else:
        _fed(job, data, key, callbacks)


def wait_for(job: Job) -> bool:
    """For jobs with nothing to watch: says what they do until they are done.

    Returns:
        Whether the job is done. Until then the page reruns by itself when it is.
    """
    if job.state == "failed":
        st.error(job.message, icon=":material/error:")
    if job.state in ("done", "failed", "stopped"):
        return job.state == "done"

    def draw() -> bool:
        job.touch()
        place = f"place {queue} in the queue" if (queue := job.runner.position(job)) else job.note or "starting"
        if job.message and job.state in ACTIVE:  # its process has died, or the disk is full
            st.warning(job.message, icon=":material/restart_alt:")
        if job.state == "paused":
            st.button("Play", icon=":material/play_arrow:", key=f"play:{job.name}", on_click=job.play)
        st.progress(job.progress, f"{place[0].upper()}{place[1:]}…")
        return job.state in ("done", "failed", "stopped")

    until(draw, seconds=0.4)
    return False


def until(draw: Callable[[], bool], *, seconds: float) -> None:
    """Draws a part of a page now and every so often, and the whole page anew once that part says that it is time.

    Where it says so in its first drawing, the page waits for the next: the first belongs to a drawing of the whole
    page, perhaps begun by the press of a button further down, and to start anew before that button is reached would
    lose the press.

    Args:
        draw: draws the part; returns whether the page should be drawn anew.
        seconds: between two drawings.
    """
    with_page = True

    @st.fragment(run_every=seconds)
    def part() -> None:
        nonlocal with_page
        if draw() and not with_page:
            st.rerun()
        with_page = False

    part()


def replay(name: str, *, key: str, folder: str = "recordings", query: str = "") -> None:
    """Shows a stored run in a loop. Needs the server's routes; without them nothing moves, and nothing breaks."""
    if routes.are_mounted():
        data = {"recording": f"{prefix()}live/{folder}/{name}{query}", "curves": False, "numbers": [], **_addresses()}
        live_view(data, key=key, served=True)


def _addresses() -> dict[str, str]:
    if not routes.are_mounted():
        return {}
    return {"socket": f"{prefix()}live/", "plotly": f"{prefix()}live/{plotly.__version__}/plotly.min.js"}


def reachable() -> bool:
    """Whether the server's own endpoints are there, and know whose browser asks; otherwise Python hands things over."""
    return routes.are_mounted() and is_known()


def prefix() -> str:
    """What the addresses of the server's own endpoints begin with."""
    path = st.get_option("server.baseUrlPath").strip("/")
    return f"/{path}/" if path else "/"


def _fed(job: Job, data: dict[str, Any], key: str, callbacks: dict[str, Callable[[], None]]) -> None:
    """The same view without a socket: a fragment hands over what has come, a few times a second."""
    inbox: list[Message] = st.session_state.setdefault(f"{key}:inbox:{job.name}", [])
    if f"{key}:subscribed:{job.name}" not in st.session_state:
        st.session_state[f"{key}:subscribed:{job.name}"] = True
        inbox += job.subscribe(lambda message: inbox.append(message) or _trim(inbox))

    def on_command() -> None:
        if is_mine(job):
            routes.steer(job, st.session_state[key].get("command") or {})

    @st.fragment(run_every=SECONDS_BETWEEN_FEEDS if job.state in ACTIVE else None)
    def feed() -> None:
        messages, inbox[:] = list(inbox), []
        live_view({**data, "feed": packed(messages)}, key=key, served=False, on_command_change=on_command, **callbacks)

    feed()


def _trim(inbox: list[Message]) -> None:
    if len(inbox) > 200:
        del inbox[:100]


def packed(messages: Iterable[Message]) -> str:
    """Messages one after the other, each behind its length and a byte that says whether it is binary; as base64."""
    parts = []
    for message in messages:
        raw = message.encode() if isinstance(message, str) else message
        parts += [struct.pack("<IB", len(raw), isinstance(message, bytes)), raw]
    return base64.b64encode(b"".join(parts)).decode()
