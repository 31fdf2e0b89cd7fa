"""Share: the screen as an address to copy, as a QR code for a lecture hall, and what others may do with it."""

from __future__ import annotations

from urllib.parse import quote, urlencode, urlparse

import segno
import streamlit as st

from cake_core.data import own
from cake_core.links import IDLE, KINDS_OF_DEVICE, LOCKABLE, PARTS, Link, Options

from .page import Screen

__all__ = ["address", "qr", "share"]

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def share(screen: Screen, *, kiosk: bool = False) -> None:
    """The popover with the link to copy and its QR code.

    Args:
        screen: to share.
        kiosk: whether it has presets that can play by themselves.
    """
    key = f"{screen.name}:share"
    with st.popover("Share", type="tertiary", icon=":material/share:", key=key):
        where = KINDS_OF_DEVICE.get(screen.link().on, "such a device")
        st.markdown(
            "**This link holds the whole screen**, the seed included. Opened on another machine that computes on "
            f"{where}, it gives the same samples."
        )
        place = st.container()
        for sentence in _caveats(screen):
            st.caption(f":material/info: {sentence}")
        this_run = st.toggle(
            "This very run",
            key=f"{key}:run",
            help="Whoever opens the link on this server watches this run, and can steer it, as long as it is kept. "
            "Otherwise everybody has a run of their own.",
        )
        with st.expander("For a class, or a stand", icon=":material/school:"):
            options = _options(screen.options, key, kiosk)
        text = address(screen.link(job=this_run, options=options))
        with place:
            st.code(text, language=None, wrap_lines=True)
            picture = qr(text)
            if picture is None:
                st.caption("The link is too long for a QR code.")
            else:
                st.image(picture, width=200, alt="QR code of the link to this screen")
                st.caption("Point at the code for a button that enlarges it, for a lecture hall.")


def _options(now: Options, key: str, kiosk: bool) -> Options:
    """What those who open the link see and may change; begins with what this screen has."""
    st.caption("Who opens the link sees less, or can change less. It keeps order in a class; it is no protection.")
    hide = st.multiselect("Hide", list(PARTS), list(now.hide), format_func=PARTS.get, key=f"{key}:hide")
    lock = st.multiselect("Lock", list(LOCKABLE), list(now.lock), format_func=PARTS.get, key=f"{key}:lock")
    loop, idle = now.kiosk, now.idle
    if kiosk:
        loop = st.toggle(
            "Kiosk: presets play by themselves",
            now.kiosk,
            key=f"{key}:kiosk",
            help="For a stand: presets play in turn until somebody touches the screen or presses a key. After some "
            "time without either, everything is put back and the loop begins again.",
        )
        if loop:
            idle = st.number_input("Begin again after (seconds without a touch)", *IDLE, now.idle, key=f"{key}:idle")
    tidy = [tuple(p for p in known if p in chosen) for known, chosen in ((PARTS, hide), (LOCKABLE, lock))]
    return Options(*tidy, keep=now.keep, kiosk=loop, idle=int(idle))


def _caveats(screen: Screen) -> list[str]:
    """What the link can't bring along."""
    e, told = screen.experiment, []
    if own.is_own(e.data.name):
        told.append("These data are on this server only: elsewhere the link says so, and shows the usual ones.")
    if e.teacher.startswith("run:"):
        told.append("This teacher is on this server only: elsewhere the link says so, and the usual one is copied.")
    if urlparse(st.context.url or "").hostname in LOOPBACK:
        told.append(
            "This address is this computer's own name for itself. For phones and a lecture hall, open the app by the "
            "network address that Streamlit printed when it started, and share from there."
        )
    return told


def address(link: Link) -> str:
    """The whole address of a link to the page that is open."""
    return f"{st.context.url or ''}?{urlencode(link.to_query(), safe=',:/', quote_via=quote)}"


@st.cache_data(max_entries=200, show_spinner=False)
def qr(text: str) -> str | None:
    """A QR code as SVG, dark on white with its quiet zone; None where the text is too long for one."""
    try:
        code = segno.make_qr(text, error="m")
    except segno.DataOverflowError:
        return None
    return code.svg_inline(scale=6, border=4, dark="#000", light="#fff")
