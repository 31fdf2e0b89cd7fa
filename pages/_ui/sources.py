"""Where Student and Embeddings take their samples from: a run of this session, or one made on the spot."""

from __future__ import annotations

import streamlit as st

from cake_core import data
from cake_core.methods import METHODS
from cake_core.pipeline import Experiment

from . import live
from .page import Screen, finished_runs, remember

__all__ = ["choose_run", "title_of"]


def title_of(experiment: Experiment) -> str:
    """A run in a few words."""
    s = experiment.settings
    return (
        f"{METHODS[experiment.method].title} on {data.info(experiment.data.name).title}, "
        f"{s.batches * s.samples:,} samples, seed {experiment.seed}"
    )


def choose_run(key: str) -> tuple[str, Experiment] | None:
    """A select box over the runs of this session; where there is none, samples can be made here.

    Args:
        key: prefix of the widgets' keys.

    Returns:
        The run's name and experiment, or None as long as there is none, or it has nothing to compare with.
    """
    known = finished_runs()
    if known:
        names = list(known)[::-1]
        run = st.selectbox("Samples", names, format_func=lambda r: title_of(known[r]), key=f"{key}:run")
        info = data.info(known[run].data.name)
        if not info.has_examples:
            st.info(
                f"{info.title} has no real examples here, and this page compares with real ones. Choose samples of "
                "another data set, or make some on **Two moons** or **Images**.",
                icon=":material/lightbulb:",
            )
            return None
        return run, known[run]
    screen = Screen("samples", Experiment.from_query({"data": "digits"}))
    st.info(
        "There are no samples in this session yet. Make some on **Two moons** or **Images**, "
        "or press Play below: CAKE on the small digits, in about half a minute.",
        icon=":material/lightbulb:",
    )
    job = screen.job()
    live.watch(job, key=f"{key}:making", rate=60)
    remember(job)
    if finished_runs():
        st.rerun()
    return None
