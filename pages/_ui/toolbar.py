"""The row above the presets: undo and redo, the seed, snapshots, another run from the same start, share."""

from __future__ import annotations

import random

import streamlit as st

from . import controls
from .page import Screen
from .share import share

__all__ = ["toolbar"]

LONGEST_NAME = 40  # characters of a snapshot's name


def toolbar(screen: Screen, kind: str, *, kiosk: bool = False) -> None:
    """What acts on the experiment as a whole.

    Args:
        screen: whose experiment.
        kind: of its data.
        kiosk: whether the screen's presets can play by themselves.
    """
    tools, name = screen.options.shows("tools"), screen.name
    with st.container(horizontal=True, gap="small", vertical_alignment="center", key=f"row:{name}:tools"):
        if tools:
            st.button(
                "Undo",
                type="tertiary",
                icon=":material/undo:",
                key=f"{name}:undo",
                on_click=screen.undo,
                disabled=not screen.history.past,
                shortcut="Ctrl+Z",
                help="Goes back to the settings before the latest change.",
            )
            st.button(
                "Redo",
                type="tertiary",
                icon=":material/redo:",
                key=f"{name}:redo",
                on_click=screen.redo,
                disabled=not screen.history.future,
                shortcut="Ctrl+Shift+Z",
                help="Takes back the latest undo.",
            )
        if screen.options.shows("seed"):
            _seed(screen, kind)
        if tools:
            _snapshots(screen)
            if not screen.former:
                st.button(
                    "Other weights",
                    type="tertiary",
                    icon=":material/splitscreen_right:",
                    key=f"{name}:hold",
                    on_click=screen.hold,
                    help="Same start, other weights: this run stays, and a second one from the same seed goes beside "
                    "it, step by step at the same pace. Change weights there and see what they do.",
                )
            share(screen, kiosk=kiosk)


def _seed(screen: Screen, kind: str) -> None:
    """The seed, a dice, and a switch that keeps the seed through presets."""
    bound, options, key = controls.Bound(screen, kind), screen.options, f"{screen.name}:keep"
    bound.part = "seed"
    icon = ":material/lock:" if options.keep or bound.disabled else ":material/casino:"
    with st.popover(f"Seed {screen.experiment.seed}", type="tertiary", icon=icon, key=f"{screen.name}:seeds"):
        st.caption("The same seed gives the same samples, another one others. Everything else stays as it is.")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            bound.seed(locked=options.keep)
            st.button(
                "Dice",
                icon=":material/casino:",
                key=f"{screen.name}:dice",
                on_click=lambda: screen.change({"seed": str(random.randrange(10_000))}),
                disabled=bound.disabled or options.keep,
                help="Another seed by chance.",
            )
        st.session_state[key] = options.keep
        st.toggle(
            "Lock it",
            key=key,
            on_change=lambda: screen.keep_seed(st.session_state[key]),
            disabled=bound.disabled,
            help="Presets, snapshots and other data then leave the seed as it is.",
        )


def _snapshots(screen: Screen) -> None:
    """What was kept under a name, to come back to."""
    key = f"{screen.name}:snapshots"
    many = f" ({len(screen.snapshots)})" if screen.snapshots else ""
    with st.popover(f"Snapshots{many}", type="tertiary", icon=":material/bookmark:", key=key):
        st.caption("Settings under a name, for as long as this page stays open. To keep them longer, share the link.")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            usual = f"Snapshot {len(screen.snapshots) + 1}"
            name = st.text_input("Name", usual, max_chars=LONGEST_NAME, key=f"{key}:name:{len(screen.snapshots)}")
            st.button(
                "Keep",
                icon=":material/bookmark_add:",
                key=f"{key}:keep",
                on_click=screen.keep_snapshot,
                args=(name.strip() or usual,),
            )
        for name in list(screen.snapshots):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.button(name, key=f"{key}:show:{name}", on_click=screen.show_snapshot, args=(name,))
                st.button(
                    "Forget",
                    icon=":material/delete:",
                    type="tertiary",
                    key=f"{key}:drop:{name}",
                    on_click=screen.drop_snapshot,
                    args=(name,),
                )
