"""Share: the screen as an address to copy, as a QR code for a lecture hall, and what others may do with it.

An address opens settings to everybody; what is somebody's own, a run, data or a teacher, only while they share it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import quote, urlencode, urlparse

import segno
import streamlit as st

from cake_core import runs
from cake_core.data import own
from cake_core.errors import CakeError
from cake_core.links import IDLE, KINDS_OF_DEVICE, LOCKABLE, PARTS, Link, Options

from .owner import key as owner_key
from .page import Screen

__all__ = ["address", "qr", "share", "share_run"]

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
        this_run = _this_run(screen, key)
        _with_mine(screen, key)
        with st.expander("For a class, or a stand", icon=":material/school:"):
            options = _options(screen.options, key, kiosk)
        text = address(screen.link(job=this_run, options=options), _passes(screen))
        with place:
            st.code(text, language=None, wrap_lines=True)
            picture = qr(text)
            if picture is None:
                st.caption("The link is too long for a QR code.")
            else:
                st.image(picture, width=200, alt="QR code of the link to this screen")
                st.caption("Point at the code for a button that enlarges it, for a lecture hall.")


def _this_run(screen: Screen, key: str) -> bool:
    """The switch that lets others watch the run itself; returns whether the link is to the run."""
    if screen.watches:
        st.caption(":material/visibility: The link leads to the run that you watch, as long as its owner shares it.")
        return True

    def switch() -> None:
        if (job := screen.shown_job()) is None:
            return
        if st.session_state[f"{key}:run"]:
            job.share()
            for _, _, opened, _ in _mine(screen):
                opened()
        else:
            job.unshare()

    job = screen.shown_job()
    st.session_state[f"{key}:run"] = job is not None and bool(job.shared)
    return st.toggle(
        "This very run",
        key=f"{key}:run",
        on_change=switch,
        help="Whoever opens the link on this server watches this run as long as it is kept; only you can steer it. "
        "Switched off, the link is dead, and those who watch are sent away. Without it everybody has their own run.",
    )


def _mine(screen: Screen) -> list[tuple[str, bool, Callable[[], object], Callable[[], None]]]:
    """What of this session's owner the screen needs: its name, whether it is shared, and what opens and closes it."""
    e, found = screen.experiment, []
    if own.is_own(e.data.name) and own.owner(e.data.name) == owner_key():
        name = e.data.name
        found.append(("data", bool(own.shared(name)), lambda: own.share(name), lambda: own.unshare(name)))
    run = e.teacher.removeprefix("run:")
    key = owner_key()
    if e.teacher.startswith("run:") and runs.belongs_to(run, key):
        found.append(("teacher", bool(runs.shared(run)), lambda: runs.share(run, key), lambda: runs.unshare(run, key)))
    return found


def _with_mine(screen: Screen, key: str) -> None:
    """The switch that gives data and teachers of one's own along."""
    if not (mine := _mine(screen)):
        return

    def switch() -> None:
        for _, _, opened, closed in mine:
            opened() if st.session_state[f"{key}:mine"] else closed()

    st.session_state[f"{key}:mine"] = all(shared for _, shared, _, _ in mine)
    st.toggle(
        f"With my {' and '.join(what for what, *_ in mine)}",
        key=f"{key}:mine",
        on_change=switch,
        help="Whoever opens the link on this server can use what is your own, until you switch this off. Without it "
        "the link says that it is not there.",
    )


def _passes(screen: Screen) -> list[str]:
    """What opens the screen's data and teacher to others, as far as they are shared."""
    e = screen.experiment
    given = [own.shared(e.data.name)]
    if e.teacher.startswith("run:"):
        given.append(runs.shared(e.teacher.removeprefix("run:")))
    return [p for p in given if p]


def share_run(run: str, parameter: str) -> None:
    """The popover with which a stored run, or a study, is opened to others by a link, and closed again.

    Args:
        run: its id.
        parameter: under which the page's address has it.
    """
    key, shared = f"share:{run}", runs.shared(run)

    def switch(change: Callable[..., object]) -> None:
        try:
            change(run, owner_key())
        except CakeError as error:
            st.session_state["runs:error"] = str(error)

    with st.popover("Shared" if shared else "Share", icon=":material/share:", key=key):
        if not shared:
            st.markdown(
                "Only you can open this. With a link others can look at it and take it away, but not change it."
            )
            st.button("Make a link", type="primary", key=f"{key}:on", on_click=switch, args=(runs.share,))
            return
        st.markdown("Whoever has this link can look at it and take it away:")
        st.code(f"{st.context.url or ''}?{parameter}={run}&pass={shared}", language=None, wrap_lines=True)
        st.button("Stop sharing", icon=":material/link_off:", key=f"{key}:off", on_click=switch, args=(runs.unshare,))
        st.caption("The link is dead then, also for those who have it open. A later one is another.")


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


def address(link: Link, passes: Sequence[str] = ()) -> str:
    """The whole address of a link to the page that is open.

    Args:
        link: what the address says.
        passes: what opens to others what is somebody's own.
    """
    query = link.to_query() | ({"pass": ",".join(passes)} if passes else {})
    return f"{st.context.url or ''}?{urlencode(query, safe=',:/', quote_via=quote)}"


@st.cache_data(max_entries=200, show_spinner=False)
def qr(text: str) -> str | None:
    """A QR code as SVG, dark on white with its quiet zone; None where the text is too long for one."""
    try:
        code = segno.make_qr(text, error="m")
    except segno.DataOverflowError:
        return None
    return code.svg_inline(scale=6, border=4, dark="#000", light="#fff")
