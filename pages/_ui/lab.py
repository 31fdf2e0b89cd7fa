"""What several pages share: the screen of Two moons and Images, and jobs that a button begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from cake_core.jobs import Job
from cake_core.pipeline import Experiment

from . import controls, live, panels
from .cached import runner
from .page import Screen, remember

__all__ = ["begin", "begun", "distillation_lab"]


def distillation_lab(name: str, default: str, presets: Mapping[str, Mapping[str, str]], *, rate: float = 30) -> None:
    """A distillation to watch and to steer.

    Args:
        name: of the page.
        default: the data set it begins with; sets of the same kind can be chosen.
        presets: by name, the keys of the URL that they set.
        rate: steps per second at speed 1.
    """
    screen = Screen(name, Experiment.from_query({"data": default}))
    kind = controls.experiment_controls(screen, default)
    controls.presets(screen, presets)
    screen.show_error()
    job = screen.job()
    live.watch(
        job,
        key=f"{name}:live",
        sliders=controls.sliders(screen.experiment.settings, kind),
        rate=rate,
        settings_changed=screen.settle,
    )
    screen.mirror()
    remember(job)
    panels.show_outcome(job, key=f"{name}:outcome")


def begin(page: str, kind: str, spec: Mapping[str, Any]) -> None:
    """Starts what a page's button asks for; `begun` shows it.

    Raises:
        CakeError: this session holds too many jobs.
    """
    before = runner().find(st.session_state.get(f"{page}:job", ""))
    if before is not None:
        runner().forget(before)  # the page shows it no more, and it would take time from the new one
    job = runner().submit(kind, dict(spec), owner=st.session_state.owner, play=True)
    st.session_state[f"{page}:job"] = job.name


def begun(page: str, hint: str) -> Job | None:
    """Shows the job that the page's button began last; a hint where there is none."""
    job = runner().find(st.session_state.get(f"{page}:job", ""))
    if job is None:
        st.info(hint, icon=":material/arrow_back:")
    else:
        live.watch(job, key=f"{page}:live", rate=0)
    return job
