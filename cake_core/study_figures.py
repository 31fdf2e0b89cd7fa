"""Figures of a study that pages draw themselves: plain values in, Plotly figures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from .figures import CLASS_COLOURS, COLOURS, SYMBOLS, bars

__all__ = ["finals", "samples"]

BARS = {"tuned": COLOURS["cake"], "default": COLOURS["teacher"], "noise": COLOURS["noise"]}


def finals(lines: Sequence[Mapping[str, Any]], value: str, titles: Mapping[str, str]) -> go.Figure:
    """The tuned setting beside the defaults and noise: means with the 95 % interval of the mean.

    Args:
        lines: rows of `tuning.summary`.
        value: "student_accuracy" or "agreement".
        titles: of the setups.
    """
    rows = [r for r in lines if r["setup"] in BARS]
    means = [r[f"{value}_mean"] for r in rows]
    ends = [r[f"{value}_interval"] or (m, m) for r, m in zip(rows, means, strict=True)]
    title = "Accuracy on real test data" if value == "student_accuracy" else "Agreement with the teacher"
    return bars([titles[r["setup"]] for r in rows], means, ends, [BARS[r["setup"]] for r in rows], title)


def samples(seen: Mapping[str, Any]) -> go.Figure:
    """Samples of a trial in the plane, by the teacher's answer, and its decision boundary.

    Args:
        seen: "points" (N, 2), "classes" (N,), "boundary" as segments (S, 2, 2), "half_width".
    """
    width, figure = seen["half_width"], go.Figure()
    xs, ys = ([v for a, b in seen["boundary"] for v in (a[i], b[i], None)] for i in (0, 1))
    figure.add_trace(go.Scatter(x=xs, y=ys, mode="lines", line={"color": COLOURS["noise"], "width": 2}))
    for k in sorted(set(seen["classes"])):
        mine = [p for p, label in zip(seen["points"], seen["classes"], strict=True) if label == k]
        marker = {"color": CLASS_COLOURS[k % len(CLASS_COLOURS)], "symbol": SYMBOLS[k % len(SYMBOLS)], "size": 6}
        figure.add_trace(go.Scatter(x=[p[0] for p in mine], y=[p[1] for p in mine], mode="markers", marker=marker))
    figure.update_traces(hoverinfo="skip")
    figure.update_layout(
        height=380,
        margin={"l": 4, "r": 4, "t": 4, "b": 4},
        xaxis={"range": [-width, width], "visible": False},
        yaxis={"range": [-width, width], "visible": False, "scaleanchor": "x"},
        showlegend=False,
    )
    return figure
