"""What several pages share: the screen of Two moons and Images, and jobs that a button begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from cake_core import data
from cake_core.errors import CakeError
from cake_core.jobs import GOES_ON, Job
from cake_core.journal import Left
from cake_core.methods import METHODS
from cake_core.pipeline import Experiment

from . import controls, kiosk, live, panels
from .cached import runner
from .page import Screen, remember
from .toolbar import toolbar

__all__ = ["begin", "begun", "distillation_lab"]


def distillation_lab(name: str, default: str, presets: Mapping[str, Mapping[str, str]], *, rate: float = 30) -> Screen:
    """A distillation to watch and to steer.

    Args:
        name: of the page.
        default: the data set it begins with; sets of the same kind can be chosen.
        presets: by name, the keys of the URL that they set.
        rate: steps per second at speed 1.

    Returns:
        What the page shows now.
    """
    screen = Screen(name, Experiment.from_query({"data": default}))
    if kiosk.is_show(screen):
        kind = data.info(default).kind
    else:
        kind = controls.experiment_controls(screen, default)
        toolbar(screen, kind, kiosk=True)
        controls.presets(screen, presets)
    screen.show_error()
    job = screen.job()
    if screen.watches:
        with st.container(horizontal=True, vertical_alignment="center", key=f"{name}:watches"):
            why = "they share" if job.shared else "you see as an instructor"
            st.info(f"This is somebody else's run, which {why}. Only they can steer it.", icon=":material/visibility:")
            st.button("One of my own", icon=":material/add:", key=f"{name}:leave", on_click=screen.leave)
    screen.show_finished()
    if screen.options.kiosk:
        kiosk.watch(screen, presets, job)
        kiosk.play(screen, job)
    if screen.former is None:
        _watch(screen, job, kind, rate)
    else:
        _side_by_side(screen, job, kind, rate)
    screen.mirror()
    return screen


def _watch(screen: Screen, job: Job, kind: str, rate: float) -> None:
    """The run of a screen, with its sliders and what came of it."""
    live.watch(
        job,
        key=f"{screen.name}:live",
        sliders=controls.sliders(screen.experiment.settings, kind, locked=screen.options.locks("sliders"))
        if screen.options.shows("sliders")
        else (),
        rate=rate,
        settings_changed=screen.settle,
        view=screen.view.to_dict(),
        view_changed=screen.look,
    )
    remember(job)
    panels.show_outcome(job, key=f"{screen.name}:outcome")


def _side_by_side(screen: Screen, job: Job, kind: str, rate: float) -> None:
    """The run before and the one now: the same start, other weights, one clock for both."""
    former = screen.former_job(job)
    changed = screen.former.differences(screen.experiment)
    _what_differs(screen, changed)
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader(f"Before: {METHODS[screen.former.method].title}", anchor=False)
        live.watch(former, key=f"{screen.name}:former", rate=rate, view=screen.view.to_dict())
        remember(former)
        panels.show_outcome(former, key=f"{screen.name}:former:outcome")
    with right:
        st.subheader(f"Now: {METHODS[screen.experiment.method].title}", anchor=False)
        _watch(screen, job, kind, rate)


def _what_differs(screen: Screen, changed: Mapping[str, tuple[str, str]]) -> None:
    """What the two runs do not share, and the way out."""
    with st.container(border=True):
        if changed:
            lines = [f"{label}: {then} → **{now}**" for label, (then, now) in changed.items() if then and now]
            for which, k in (("before", 0), ("now", 1)):  # what the other method does not know
                alone = [
                    f"{label} ({values[k]})" for label, values in changed.items() if values[k] and not values[1 - k]
                ]
                lines += [f"only {which}: {', '.join(alone)}"] if alone else []
            st.markdown(f"**What differs.** {'; '.join(lines)}. Press Play in either: both take each step together.")
        else:
            st.markdown(
                "**Both are still the same**: same seed, same start, same weights. Move a slider below *Now*, or "
                "choose something else in the sidebar, then press Play: both take each step together."
            )
        if "Seed" in changed:
            st.caption("The seeds differ, so the two do not start from the same noise any more.")
        st.button(
            "Close the run before", icon=":material/close:", key=f"{screen.name}:release", on_click=screen.release
        )


def begin(page: str, kind: str, spec: Mapping[str, Any]) -> None:
    """Starts what a page's button asks for; `begun` shows it.

    Raises:
        CakeError: this session holds too many jobs.
    """
    before = runner().find(st.session_state.get(f"{page}:job", ""))
    if before is not None:
        runner().forget(before)  # the page shows it no more, and it would take time from the new one
    owner = st.session_state.owner
    job = runner().submit(kind, dict(spec), owner=owner, play=True, page=page if kind in GOES_ON else "")
    while (left := runner().journal.left_by(owner, page)) is not None:
        runner().journal.forget(left.key)  # what was begun before is not offered any more
    st.session_state[f"{page}:job"] = job.name


def begun(page: str, hint: str, *, watched: bool = True) -> Job | None:
    """Shows the job that the page's button began last; a hint where there is none.

    Args:
        page: under which it was begun.
        hint: what to do where there is none.
        watched: whether there is something to watch; where not, what it does is said until it is done.
    """
    if f"{page}:job" not in st.session_state and (own := runner().begun_by(st.session_state.owner, page)):
        st.session_state[f"{page}:job"] = own.name  # the page was opened anew while it goes on
    job = runner().find(st.session_state.get(f"{page}:job", ""))
    if job is None and (left := runner().journal.left_by(st.session_state.owner, page)) is not None:
        _offer(page, left)
    elif job is None:
        st.info(hint, icon=":material/touch_app:")
    elif watched:
        live.watch(job, key=f"{page}:live", rate=0)
    else:
        live.wait_for(job)
    return job


def _offer(page: str, left: Left) -> None:
    """What a server has left of a page's job, and the button with which it goes on."""
    st.warning(f"{left.sentence} What was finished is kept, and is not computed again.", icon=":material/restart_alt:")

    def go_on() -> None:
        try:
            begin(page, left.kind, left.spec)
        except CakeError as error:
            st.session_state[f"{page}:refused"] = str(error)

    st.button("Continue", icon=":material/resume:", key=f"{page}:continue", on_click=go_on, type="primary")
    if refused := st.session_state.pop(f"{page}:refused", ""):
        st.error(refused, icon=":material/error:")
