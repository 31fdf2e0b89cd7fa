"""What all sessions of a server share."""

from __future__ import annotations

import streamlit as st

from cake_core.jobs import JobRunner

__all__ = ["runner"]


@st.cache_resource(show_spinner=False)
def runner() -> JobRunner:
    """The one job runner of this server."""
    return JobRunner()
