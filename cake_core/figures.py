"""Figures of results: plain values in, Plotly figures out. No torch, no Streamlit; colours suit both themes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

__all__ = ["copies"]

# Okabe and Ito's colours, one for each method wherever it appears.
COLOURS = {
    "cake": "#0072B2",
    "lake": "#009E73",
    "naive": "#D55E00",
    "generative": "#CC79A7",
    "noise": "#8A8A8A",
    "brownian": "#B8860B",
    "teacher": "#56B4E9",
}


def copies(outcome: dict[str, Any], control: dict[str, Any] | None) -> go.Figure:
    """Accuracy of teacher, student and the control's student, with 95 % intervals.

    Args:
        outcome, control: numbers of an experiment and of its noise-only control, as `Outcome.to_dict` gives them.
    """
    rows = [
        ("Teacher", "teacher_accuracy", outcome, COLOURS["teacher"]),
        ("Student", "student_accuracy", outcome, COLOURS["cake"]),
    ]
    if control is not None:
        rows.append(("Student of noise only", "student_accuracy", control, COLOURS["noise"]))
    return _bars(
        [label for label, *_ in rows],
        [values[name] for _, name, values, _ in rows],
        [values[f"{name}_interval"] for _, name, values, _ in rows],
        [colour for *_, colour in rows],
        "Accuracy on real test data",
    )


def _bars(
    labels: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[Sequence[float]],
    colours: Sequence[str],
    title: str,
) -> go.Figure:
    """Horizontal bars of shares, in percent, with whiskers."""
    figure = go.Figure(
        go.Bar(
            y=labels,
            x=[100 * v for v in values],
            orientation="h",
            marker_color=list(colours),
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [100 * (high - v) for v, (_, high) in zip(values, intervals, strict=True)],
                "arrayminus": [100 * (v - low) for v, (low, _) in zip(values, intervals, strict=True)],
            },
            text=[f"{100 * v:.1f} %" for v in values],
            textposition="inside",
            insidetextanchor="start",
            textfont={"color": "white"},
            hoverinfo="skip",
        )
    )
    figure.update_layout(
        height=60 + 48 * len(labels),
        margin={"l": 10, "r": 20, "t": 10, "b": 40},
        xaxis={"range": [0, 100], "ticksuffix": " %", "title": title},
        yaxis={"autorange": "reversed"},
    )
    return figure
