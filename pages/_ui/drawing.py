"""Draw the teacher's data: a board in a dialog, whose points become a data set of one's own."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cake_core.data import drawing
from cake_core.errors import CakeError

from . import own_data, routes
from .drawing_board import drawing_board
from .page import Screen

__all__ = ["offer"]


def offer(screen: Screen) -> None:
    """The button that opens the board, and the dialog with it."""
    opened = f"{screen.name}:draw:opened"
    st.button(
        "Draw your own…",
        icon=":material/draw:",
        width="stretch",
        key=f"{screen.name}:draw",
        on_click=lambda: st.session_state.update({opened: True}),
        help="Points of two or three shapes, with mouse, finger or keyboard. A teacher learns them, and is copied.",
    )
    if st.session_state.get(opened):
        close = lambda: st.session_state.pop(opened, None)  # noqa: E731
        st.dialog("Draw the teacher's data", width="medium", on_dismiss=close)(_dialog)(screen)


def _dialog(screen: Screen) -> None:
    key = f"{screen.name}:draw"
    st.markdown(
        "Draw each shape where it shall live. A teacher learns to tell the shapes apart and is then copied: "
        "**the student never sees these points**."
    )
    points = _board(f"{key}:board", f"{key}:points")
    try:
        examples = drawing.read(points)
    except CakeError as error:
        st.info(str(error), icon=":material/draw:")
        examples = None
    if st.button(
        "Use this drawing",
        type="primary",
        icon=":material/check:",
        key=f"{key}:use",
        disabled=examples is None,
        help="A teacher is trained on these points, on this server.",
    ):
        try:
            name = own_data.store("My drawing", examples)
        except CakeError as error:
            st.error(str(error), icon=":material/error:")
            return
        own_data.keep(name)
        st.session_state.pop(f"{screen.name}:draw:opened", None)
        screen.change({"data": name})
        st.rerun()


def _board(key: str, place: str) -> list[Any]:
    """The board, with what was drawn on it before; returns what is drawn now."""
    data = {"classes": [c.capitalize() for c in drawing.CLASSES], "most": drawing.MOST}
    data["points"] = st.session_state.get(place, [])
    drawn = drawing_board(data, key=key, served=routes.are_mounted(), on_points_change=lambda: None).points
    if drawn is not None:
        st.session_state[place] = drawn
    return st.session_state.get(place, [])
