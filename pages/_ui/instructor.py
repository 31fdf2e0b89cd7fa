"""The instructor's part of the page Status: everybody's jobs, and buttons that watch and stop one."""

from __future__ import annotations

import threading
import time

import streamlit as st

from cake_core import runs
from cake_core.errors import CakeError
from cake_core.jobs import ACTIVE, Job

from . import account
from .cached import runner
from .owner import is_mine, key
from .page import watch
from .run_panels import KINDS, method_on

__all__ = ["is_instructor", "offer_key", "show_jobs"]

ORDER = ("running", "queued", "paused", "ready")
MOST = 200  # jobs in the table
SECONDS_BETWEEN_TRIES = 1.0
SHORT = 8  # characters of the key under which somebody's runs are stored
SENTENCE = "The instructor has stopped this run."

_one_try = threading.Lock()  # for all sessions: a key can't be guessed by many at once


def is_instructor() -> bool:
    """Whether this session may see and stop everybody's jobs."""
    if account.login_is_on():
        return account.is_instructor(account.claims_of_session())
    return bool(st.session_state.get("instructor"))


def offer_key() -> None:
    """Says by what name an instructor sees this session; asks for the key, where one makes an instructor."""
    if is_instructor():
        return
    asked = account.has_instructor_key()
    if asked or (account.login_is_on() and account.instructors()):
        st.caption(f"An instructor sees your jobs as those of `{key()[:SHORT]}`.")
    if not asked:
        return
    with st.expander("For instructors", icon=":material/co_present:"), st.form("status:key", border=False):
        given = st.text_input("Key", type="password", help="What the server has as CAKE_INSTRUCTOR_KEY.", max_chars=200)
        if st.form_submit_button("See all jobs"):
            with _one_try:
                time.sleep(SECONDS_BETWEEN_TRIES)
            if account.is_instructor_key(given):
                st.session_state["instructor"] = True
                st.rerun()
            st.error("That is not the key. Whoever runs this server has it.", icon=":material/error:")


def show_jobs() -> None:
    """The jobs of all sessions, those that run first."""
    if not is_instructor():  # not any more
        return
    st.subheader("Everybody's jobs", anchor=False)
    resting = st.toggle("Also those at rest", key="status:resting", help="Ready or paused: they take memory, no time.")
    listed = sorted(_jobs(ORDER if resting else ORDER[:2]), key=_place)
    if not listed:
        st.caption("Nothing runs, and nothing waits.")
    if len(listed) > MOST:
        st.caption(f"The first {MOST} of {len(listed)} are shown.")
    watched = None
    for job in listed[:MOST]:
        with st.container(
            horizontal=True,
            horizontal_alignment="distribute",
            vertical_alignment="center",
            border=True,
            key=f"status:job:{job.name}",
        ):
            st.markdown(_sentence(job))
            if job.kind == "distill" and st.button(
                "Watch",
                icon=":material/visibility:",
                key=f"status:watch:{job.name}",
                help="Opens it on its page, where only its owner steers.",
            ):
                watched = job
            st.button(
                "Stop",
                icon=":material/stop_circle:",
                key=f"status:stop:{job.name}",
                on_click=_stop,
                args=(job,),
                help="Ends it. What it has stored stays, and whoever it belongs to can begin it again.",
            )
    st.caption(
        "Owners have short names that say nothing about them; the same name is the same browser or person, and this "
        f"page tells each their own. Yours is `{key()[:SHORT]}`."
    )
    if watched is not None:
        try:
            watch(watched)
        except CakeError:
            st.error(
                "That run is on data or a teacher of its owner's own, which nobody else may see. They can share it.",
                icon=":material/lock:",
            )


def short_name(job: Job) -> str:
    """What stands for a job's owner."""
    return runs.key_of(job.owner)[:SHORT] or "server"


def _jobs(states: tuple[str, ...]) -> list[Job]:
    with runner().lock:
        return [j for j in runner().jobs.values() if j.state in states]


def _place(job: Job) -> tuple[int, int]:
    return ORDER.index(job.state), runner().position(job) or 0


def _sentence(job: Job) -> str:
    whose = "yours" if is_mine(job) else f"`{short_name(job)}`"
    place = f", place {position}" if (position := runner().position(job)) else ""
    note = f", {job.note[0].lower()}{job.note[1:]}" if job.note and job.state == "running" else ""
    return f"**{whose}** &nbsp; {_title(job)} &nbsp; {job.state}{place}{note}, {100 * job.progress:.0f} %"


def _title(job: Job) -> str:
    said, kind = job.spec.get("experiment"), KINDS.get(job.kind, job.kind)
    return f"{kind}: {method_on(said)}" if isinstance(said, dict) else kind


def _stop(job: Job) -> None:
    if is_instructor() and job.state in ACTIVE:
        job.stop(SENTENCE)
