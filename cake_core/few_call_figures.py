"""Figures of an attack with few calls: plain values in, Plotly figures out."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from PIL import Image

from .figures import METRICS

__all__ = ["against_calls", "cloud", "meter", "mosaic", "rounds"]

# A colour and a dash for each variant, so that they are told apart without colours too.
VARIANT_LINES = {
    "aspkd": ("#0072B2", "solid"),
    "no-active": ("#56B4E9", "dash"),
    "no-pseudo": ("#009E73", "dash"),
    "random": ("#B8860B", "dash"),
    "other": ("#CC79A7", "dashdot"),
    "knockoff": ("#D55E00", "dashdot"),
    "cake": ("#7A5195", "solid"),
    "prompts": ("#8A8A8A", "dot"),
    "noise": ("#8A8A8A", "solid"),
}
CLASSES = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9", "#7A5195", "#6B4226", "#2F8F9D", "#8A8A8A",
)  # fmt: skip
SMALL = {"height": 260, "margin": {"l": 48, "r": 10, "t": 34, "b": 42}}
MOSAIC_PIXELS = 320  # of a mosaic's side, about; tiles are enlarged by whole factors


def _titled(figure: go.Figure, title: str, **more: Any) -> go.Figure:
    figure.update_layout(
        title={"text": title, "font": {"size": 13}, "x": 0, "xanchor": "left", "y": 0.97},
        meta=title,
        showlegend=False,
        **{**SMALL, **more},
    )
    return figure


def meter(per_class: Sequence[int], budget: int, classes: Sequence[str]) -> go.Figure:
    """Calls that are left for each class: bars that shrink as the budget is spent."""
    left = [budget - n for n in per_class]
    figure = go.Figure(
        [
            go.Bar(x=list(classes), y=left, marker_color="#0072B2", name="left", hovertemplate="%{x}: %{y} left"),
            go.Bar(
                x=list(classes), y=list(per_class), marker_color="rgba(128,128,128,0.3)", name="spent", hoverinfo="skip"
            ),
        ]
    )
    in_all = budget * len(classes)
    return _titled(
        figure,
        f"Calls left: {sum(left):,} of {in_all:,}",
        barmode="stack",
        bargap=0.25,
        xaxis={"type": "category"},
        yaxis={"range": [0, budget], "title": {"text": "calls", "standoff": 4}, "nticks": 5},
    )


def mosaic(tiles: np.ndarray, columns: int, title: str) -> go.Figure:
    """Images side by side as one picture.

    Args:
        tiles: pixels uint8 (N, C, H, W), row by row.
        columns: images in a row.
        title: above it.
    """
    n, channels, height, width = tiles.shape
    rows = -(-n // columns)
    canvas = np.zeros((rows * columns, channels, height, width), np.uint8)
    canvas[:n] = tiles
    canvas = canvas.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    canvas = canvas.reshape(rows * height, columns * width, channels)
    factor = max(1, MOSAIC_PIXELS // max(canvas.shape[:2]))
    image = Image.fromarray(canvas.squeeze(-1) if channels == 1 else canvas).convert("L" if channels == 1 else "RGB")
    image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    figure = go.Figure(go.Image(source=source, hoverinfo="skip"))
    axis = {"visible": False, "constrain": "domain"}
    return _titled(figure, title, xaxis=axis, yaxis=axis, margin={"l": 4, "r": 4, "t": 34, "b": 6})


def cloud(
    position: np.ndarray,
    labels: Sequence[int],
    asked: Sequence[int],
    centres: np.ndarray,
    classes: Sequence[str],
    title: str,
) -> go.Figure:
    """Proxies in the plane, coloured by class; those that were asked about have a grey rim, class centres a cross.

    Args:
        position: of the proxies (N, 2).
        labels: the class of each (N,).
        asked: positions of those that were asked about.
        centres: of the classes (C, 2).
        classes: their names.
        title: above it.
    """
    # Drawn as SVG: a picture this small is not worth a WebGL context, which browsers without a GPU emulate at a price.
    colours = [CLASSES[k % len(CLASSES)] for k in labels]
    x, y = position.round(3).T.tolist()
    names = [classes[k] for k in labels]
    figure = go.Figure(
        go.Scatter(
            x=x,
            y=y,
            mode="markers",
            marker={"color": colours, "size": 4, "opacity": 0.45},
            text=names,
            hoverinfo="text",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[x[i] for i in asked],
            y=[y[i] for i in asked],
            mode="markers",
            marker={"color": [colours[i] for i in asked], "size": 9, "line": {"color": "#6b7280", "width": 2}},
            text=[f"{names[i]}, asked" for i in asked],
            hoverinfo="text",
        )
    )
    cx, cy = centres.round(3).T.tolist()
    figure.add_trace(
        go.Scatter(
            x=cx,
            y=cy,
            mode="markers+text",
            marker={"symbol": "x", "size": 9, "color": "#111827", "line": {"color": "white", "width": 1}},
            text=list(classes) if len(classes) <= 12 else None,
            textposition="top center",
            hoverinfo="skip",
        )
    )
    axis = {"showticklabels": False, "zeroline": False}
    return _titled(figure, title, xaxis=axis, yaxis=axis, margin={"l": 6, "r": 6, "t": 34, "b": 6})


def rounds(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """What the student knows after each round: accuracy of the neighbours' labels, and of the student.

    Args:
        rows: with "calls", "knn_accuracy", "agreement" and "accuracy" (each a share or None), in order.
    """
    figure, latest = go.Figure(), []
    for name, title, colour, dash in (
        ("knn_accuracy", "neighbours' labels", "#009E73", "dash"),
        ("agreement", "agreement with the teacher", "#0072B2", "solid"),
        ("accuracy", "accuracy", "#D55E00", "dot"),
    ):
        known = [r for r in rows if r[name] is not None]
        if known:
            figure.add_scatter(
                x=[r["calls"] for r in known],
                y=[r[name] for r in known],
                mode="lines+markers",
                name=title,
                line={"color": colour, "dash": dash, "width": 2.2},
            )
            latest.append(f"{title} {100 * known[-1][name]:.0f} %")
    _titled(
        figure,
        "After each round",
        xaxis={"title": {"text": "calls", "standoff": 4}, "rangemode": "tozero"},
        yaxis={"range": [0, 1.02], "tickformat": ".0%"},
    )
    figure.update_layout(
        meta=f"After each round. Now: {', '.join(latest) or 'nothing yet'}.",
        showlegend=True,
        legend={"orientation": "h", "y": 0.02, "yanchor": "bottom", "x": 1, "xanchor": "right"},
    )
    return figure


def against_calls(summary: Sequence[Mapping[str, Any]], value: str, titles: Mapping[str, str]) -> go.Figure:
    """A value against the calls per class, one line for each variant, with one standard deviation each way.

    Args:
        summary: rows with "variant", "budget", "<value>_mean" and "<value>_std".
        value: a key of `figures.METRICS`, or "accuracy".
        titles: of the variants.
    """
    figure = go.Figure()
    budgets = sorted({r["budget"] for r in summary if r["budget"]}) or [1]
    for variant in dict.fromkeys(r["variant"] for r in summary):
        rows = sorted(
            (r for r in summary if r["variant"] == variant and r[f"{value}_mean"] is not None),
            key=lambda r: r["budget"],
        )
        if not rows:
            continue
        colour, dash = VARIANT_LINES[variant]
        if not rows[0]["budget"]:  # it asks nothing: as good for any budget
            rows = [{**rows[0], "budget": b} for b in (budgets[0], budgets[-1])]
        figure.add_scatter(
            x=[r["budget"] for r in rows],
            y=[100 * r[f"{value}_mean"] for r in rows],
            error_y={"type": "data", "array": [100 * r[f"{value}_std"] for r in rows], "visible": True},
            mode="lines+markers",
            name=titles[variant],
            line={"color": colour, "dash": dash, "width": 2.2},
        )
    figure.update_layout(
        height=480,
        margin={"l": 54, "r": 10, "t": 16, "b": 150},
        xaxis={"type": "log", "title": "calls per class", "tickvals": budgets, "ticktext": [f"{b:,}" for b in budgets]},
        yaxis={"range": [0, 102], "ticksuffix": " %", "title": METRICS.get(value, METRICS["student_accuracy"])},
        legend={"orientation": "h", "y": -0.27, "yanchor": "top"},
        meta=METRICS.get(value, METRICS["student_accuracy"]) + " against calls per class",
    )
    return figure
