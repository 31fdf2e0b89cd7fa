"""What all sessions of a server share."""

from __future__ import annotations

import streamlit as st

from cake_core.jobs import Job, JobRunner

from . import owner

__all__ = ["parameter_counts", "runner"]


@st.cache_resource(show_spinner=False)
def runner() -> JobRunner:
    """The one job runner of this server."""
    return JobRunner(check=owner.check)


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
