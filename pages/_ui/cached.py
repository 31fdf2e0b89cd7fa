"""What all sessions of a server share."""

from __future__ import annotations

import gc

import streamlit as st

from cake_core.jobs import Job, JobRunner

from . import owner
from .turns import Turns

__all__ = ["parameter_counts", "runner", "settle", "turns"]


@st.cache_resource(show_spinner=False)
def runner() -> JobRunner:
    """The one job runner of this server."""
    return JobRunner(check=owner.check)


@st.cache_resource(show_spinner=False)
def turns() -> Turns:
    """The turns in which this server draws its pages."""
    return Turns()


@st.cache_resource(show_spinner=False)
def settle() -> bool:
    """What the imports left behind is here to stay; from the first page on the collector need not look at it again.

    To ask the collector whether it has been told counts all of it, which takes as long as drawing a page.
    """
    gc.freeze()
    return True


def parameter_counts(data_name: str) -> Job:
    """The job that counts the parameters of all architectures for a data set; one for all sessions."""
    job = _counting(data_name)
    if job.state in ("failed", "stopped"):
        _counting.clear()
        job = _counting(data_name)
    return job


@st.cache_resource(show_spinner=False)
def _counting(data_name: str) -> Job:
    return runner().submit("parameters", {"data_name": data_name}, play=True)
