"""Panels: each takes a core object and shows it. They compute nothing."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cake_core import figures
from cake_core.jobs import Job

__all__ = ["rate", "show_outcome"]


def rate(values: dict[str, Any], name: str) -> str:
    """ "97.2 % (95.4 to 98.3)" of a rate and its interval."""
    low, high = values[f"{name}_interval"]
    return f"{100 * values[name]:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def show_outcome(job: Job, *, key: str) -> None:
    """How well the student of a finished distillation copies its teacher, beside the noise-only control."""
    if job.state != "done" or not job.result:
        return
    outcome, control = job.result["outcome"], job.result["control"]
    st.subheader("How well does it copy?", anchor=False)
    with st.container(horizontal=True):
        _metric("Student's accuracy", outcome, "student_accuracy", "On real test data that it has never seen.")
        _metric("Agreement with the teacher", outcome, "agreement", "Share of real test data on which both agree.")
        if outcome["plane_agreement"] is not None:
            _metric("Agreement over the plane", outcome, "plane_agreement", "Share of the plane in view.")
            st.metric(
                "Boundary covered",
                f"{100 * outcome['coverage']:.0f} %",
                help="Share of the boundary's length in view that has a sample within 0.1.",
                border=True,
            )
        _metric("Samples near the boundary", outcome, "near_boundary", "Within 0.1 of it, to first order.")
    left, right = st.columns([3, 2])
    with left:
        st.plotly_chart(figures.copies(outcome, control), key=f"{key}:bars", config={"displayModeBar": False})
    with right:
        st.markdown(
            f"Judged on **{outcome['n_test']:,} real test examples**; whiskers are 95 % intervals. "
            f"It took {outcome['samples']:,} synthetic samples, {outcome['forward_calls']:,} answers of the teacher "
            f"and {outcome['gradient_calls']:,} gradients."
        )
        if control is not None:
            gain = 100 * (outcome["student_accuracy"] - control["student_accuracy"])
            st.markdown(
                f"**The control** is a student of as many samples of pure noise. "
                f"The samples that were moved are worth {gain:+.1f} points against it."
            )


def _metric(label: str, values: dict[str, Any], name: str, help: str) -> None:
    low, high = values[f"{name}_interval"]
    st.metric(
        label,
        f"{100 * values[name]:.1f} %",
        delta=f"{100 * low:.1f} to {100 * high:.1f} %",
        delta_color="off",
        delta_arrow="off",
        help=f"{help} Below it its 95 % interval.",
        border=True,
    )
