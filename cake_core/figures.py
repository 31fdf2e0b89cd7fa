"""Figures of results: plain values in, Plotly figures out. No torch, no Streamlit; colours suit both themes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

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


METRICS = {
    "student_accuracy": "Accuracy on real test data",
    "agreement": "Agreement with the teacher on real test data",
    "plane_agreement": "Agreement with the teacher over the plane",
    "near_boundary": "Samples near the boundary",
    "coverage": "Boundary covered",
}


def methods(summary: Sequence[dict[str, Any]], value: str) -> go.Figure:
    """Methods side by side: the mean of a value over seeds, with one standard deviation each way.

    Args:
        summary: rows of `comparison.summarise` by method, with a "title" for each.
        value: which value, a key of `METRICS`.
    """
    rows = [r for r in summary if r[f"{value}_mean"] is not None]
    means, deviations = ([100 * r[f"{value}_{k}"] for r in rows] for k in ("mean", "std"))
    figure = go.Figure(
        go.Bar(
            x=[r["title"] for r in rows],
            y=means,
            error_y={"type": "data", "array": deviations, "visible": True},
            marker_color=[COLOURS.get(r["method"], COLOURS["noise"]) for r in rows],
            text=[f"{m:.1f} ± {d:.1f} %" for m, d in zip(means, deviations, strict=True)],
            textposition="inside",
            insidetextanchor="start",
            textfont={"color": "white"},
            hovertext=[f"{r['seeds']} seeds" for r in rows],
        )
    )
    figure.update_layout(
        height=340,
        margin={"l": 50, "r": 10, "t": 10, "b": 40},
        yaxis={"range": [0, 105], "ticksuffix": " %", "title": METRICS[value]},
        showlegend=False,
    )
    return figure


PATTERN = {"shape": "/", "fgopacity": 0.5, "size": 6}
STUDENT_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8B7500", "#7A5195")


def grid(summary: Sequence[dict[str, Any]], titles: dict[str, str]) -> go.Figure:
    """Teachers with all of their students: one group of bars for each teacher, which stands hatched in front of it.

    Whiskers are one standard deviation over seeds; a grey line on a bar is the student of noise alone.

    Args:
        summary: rows of `Grid.summary`, numbers or their text: teacher, student, method, seeds, teacher_accuracy_mean,
            student_accuracy_mean and _std.
        titles: what a teacher (its name or architecture) and a student are called.
    """
    teachers = list(dict.fromkeys(r["teacher"] for r in summary))
    students = list(dict.fromkeys(r["student"] for r in summary))
    cells = {(r["teacher"], r["student"], r["method"] == "noise"): r for r in summary}
    groups = [f"taught by {titles[t]}" for t in teachers]
    own = [float(next(r for r in summary if r["teacher"] == t)["teacher_accuracy_mean"]) for t in teachers]
    figure = go.Figure(
        go.Bar(
            x=groups,
            y=[100 * v for v in own],
            name="the teacher itself",
            marker={"color": COLOURS["noise"], "pattern": PATTERN},
            hovertemplate="%{x}<br>itself %{y:.1f} %<extra></extra>",
            offsetgroup="teacher",
        )
    )
    for number, student in enumerate(students):
        rows = [cells.get((t, student, False)) for t in teachers]
        controls = [cells.get((t, student, True)) for t in teachers]
        name = titles[student]
        figure.add_trace(
            go.Bar(
                x=groups,
                y=[100 * float(r["student_accuracy_mean"]) if r else None for r in rows],
                error_y={
                    "type": "data",
                    "array": [100 * float(r["student_accuracy_std"]) if r else None for r in rows],
                    "thickness": 1,
                },
                name=f"{name} student",
                marker_color=STUDENT_COLOURS[number % len(STUDENT_COLOURS)],
                customdata=[r["seeds"] if r else None for r in rows],
                hovertemplate=f"%{{x}}<br>{name} %{{y:.1f}} %, %{{customdata}} seeds<extra></extra>",
                offsetgroup=student,
            )
        )
        figure.add_trace(
            go.Bar(
                x=groups,
                y=[100 * float(r["student_accuracy_mean"]) if r else None for r in controls],
                marker={"color": "rgba(0,0,0,0)", "line": {"color": COLOURS["noise"], "width": 2}},
                name="a student of noise alone",
                legendgroup="noise",
                showlegend=number == 0,
                hovertemplate=f"%{{x}}<br>{name} on noise alone %{{y:.1f}} %<extra></extra>",
                offsetgroup=student,
            )
        )
    figure.update_layout(
        height=420,
        margin={"l": 50, "r": 10, "t": 10, "b": 40},
        yaxis={"range": [0, 102], "ticksuffix": " %", "title": METRICS["student_accuracy"]},
        legend={"orientation": "h", "y": -0.15},
        barmode="group",
        bargap=0.15,
    )
    return figure


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> go.Figure:
    """A confusion matrix: rows are true classes, columns answers; colour by share of the row, numbers are counts."""
    shares = [[count / sum(row) if count else None for count in row] for row in matrix]
    figure = go.Figure(
        go.Heatmap(
            z=shares,
            x=list(classes),
            y=list(classes),
            zmin=0,
            zmax=1,
            colorscale=[[0, "#b9d7ea"], [1, "#0072B2"]],
            showscale=False,
            text=[[str(c) if c else "" for c in row] for row in matrix],
            texttemplate="%{text}",
            hovertemplate="true %{y}, answered %{x}: %{text}<extra></extra>",
        )
    )
    figure.update_layout(
        height=120 + 32 * len(classes),
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        xaxis={"title": "the teacher's answer", "type": "category", "showgrid": False},
        yaxis={"title": "true class", "type": "category", "autorange": "reversed", "showgrid": False},
    )
    return figure


CLASS_COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8B7500", "#7A5195", "#4D4D4D", "#A8522A",
)  # fmt: skip
# Below the picture and as wide as it, so that it leaves room for the picture on a phone.
LEGEND_BELOW = {"orientation": "h", "y": 0, "yanchor": "top", "x": 0, "itemsizing": "constant"}
SYMBOLS = ("circle", "square", "triangle-up", "diamond", "cross", "x", "star", "hexagon", "pentagon", "bowtie")


def surface(seen: dict[str, Any], classes: Sequence[str]) -> go.Figure:
    """A teacher's decision surface with test points.

    Args:
        seen: "half_width", "probabilities" (R, R, C), "points" (N, 2), "labels" (N,), as `teacher.inspect` gives them.
        classes: names of the classes.
    """
    width, probabilities = seen["half_width"], seen["probabilities"]
    resolution = len(probabilities)
    axis = [-width + 2 * width * i / (resolution - 1) for i in range(resolution)]
    figure = go.Figure()
    for k in range(len(classes)):
        figure.add_trace(
            go.Heatmap(
                x=axis,
                y=axis,
                z=[[p[k] for p in row] for row in probabilities],
                zmin=0,
                zmax=1,
                zsmooth="best",
                colorscale=[[0, _rgba(CLASS_COLOURS[k], 0)], [1, _rgba(CLASS_COLOURS[k], 0.35)]],
                showscale=False,
                hoverinfo="skip",
            )
        )
    for k, name in enumerate(classes):
        chosen = [p for p, label in zip(seen["points"], seen["labels"], strict=True) if label == k]
        figure.add_trace(
            go.Scatter(
                x=[p[0] for p in chosen],
                y=[p[1] for p in chosen],
                mode="markers",
                name=name,
                marker={"color": CLASS_COLOURS[k], "symbol": SYMBOLS[k], "size": 5},
                hoverinfo="skip",
            )
        )
    figure.update_layout(
        height=420,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        xaxis={"range": [-width, width], "showgrid": False, "zeroline": False},
        yaxis={"range": [-width, width], "showgrid": False, "zeroline": False, "scaleanchor": "x"},
        legend={"orientation": "h"},
    )
    return figure


def points(x: Sequence[Sequence[float]], labels: Sequence[int], classes: Sequence[str]) -> go.Figure:
    """Points in the plane, each class with a colour and a symbol of its own.

    Args:
        x: coordinates (N, 2).
        labels: classes (N,) from 0.
        classes: names of at most ten classes.
    """
    figure = go.Figure()
    for k, name in enumerate(classes):
        chosen = [p for p, label in zip(x, labels, strict=True) if label == k]
        figure.add_trace(
            go.Scatter(
                x=[p[0] for p in chosen],
                y=[p[1] for p in chosen],
                mode="markers",
                name=name,
                marker={"color": CLASS_COLOURS[k], "symbol": SYMBOLS[k], "size": 5, "opacity": 0.8},
                hoverinfo="x+y+name",
            )
        )
    figure.update_layout(
        height=320,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        xaxis={"title": "x", "zeroline": False},
        yaxis={"title": "y", "zeroline": False},
        legend={**LEGEND_BELOW, "y": -0.2},
        showlegend=True,
    )
    return figure


def embedding(points: dict[str, Any], colour: str) -> go.Figure:
    """Feature space: real inputs as open, synthetic ones as filled markers.

    Args:
        points: lists as `Embedding.to_dict` gives them, and "classes".
        colour: "class", "source", "confidence" or "batch".
    """
    position, classes = points["position"], points["classes"]
    three = len(position[0]) == 3
    scatter, size = (go.Scatter3d, 2.6) if three else (go.Scattergl, 5)
    figure = go.Figure()

    def add(name: str, chosen: list[int], synthetic: bool, look: dict[str, Any]) -> None:
        axes = dict(zip("xyz", zip(*(position[i] for i in chosen), strict=True), strict=False))
        symbol = ("diamond" if synthetic else "circle") + ("" if synthetic else "-open")
        figure.add_trace(
            scatter(
                **axes,
                mode="markers",
                name=name,
                marker={"size": size, "symbol": symbol, "opacity": 0.8, **look},
                hovertext=[
                    f"{points['source'][i]} {classes[points['label'][i]]}, confidence {points['confidence'][i]:.2f}"
                    + (f", mini-batch {points['batch'][i] + 1}" if synthetic else "")
                    for i in chosen
                ],
                hoverinfo="text",
            )
        )

    for source in ("real", "synthetic"):
        synthetic = source == "synthetic"
        mine = [i for i, s in enumerate(points["source"]) if s == source]
        if colour == "class":
            for k, name in enumerate(classes):
                chosen = [i for i in mine if points["label"][i] == k]
                if chosen:
                    add(f"{name}, {source}", chosen, synthetic, {"color": CLASS_COLOURS[k % len(CLASS_COLOURS)]})
        elif colour == "source":
            add(source, mine, synthetic, {"color": COLOURS["cake"] if synthetic else COLOURS["noise"]})
        else:
            values = [points["confidence" if colour == "confidence" else "batch"][i] for i in mine]
            flat = colour == "batch" and not synthetic  # real inputs belong to no mini-batch
            look = {"color": COLOURS["noise"]} if flat else {"color": values, "colorscale": "Viridis"}
            add(source, mine, synthetic, look | ({"showscale": True} if synthetic else {}))
    layout = {"height": 620, "margin": {"l": 0, "r": 0, "t": 10, "b": 0}, "legend": LEGEND_BELOW}
    bare = {"showticklabels": False, "title": "", "zeroline": False, "showgrid": False}
    if three:
        figure.update_layout(**layout, scene={f"{a}axis": bare for a in "xyz"})
    else:
        figure.update_layout(**layout, xaxis=bare, yaxis=bare)
    return figure


def _rgba(colour: str, alpha: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def students(summary: Sequence[dict[str, Any]], teacher: dict[str, float], titles: dict[str, str]) -> go.Figure:
    """Students by what they learned from, with one standard deviation over seeds, and the teacher's accuracy as a line.

    Args:
        summary: rows with "source", "accuracy_mean" and "accuracy_std".
        teacher: "value", "low" and "high" of the teacher's accuracy.
        titles: what a source is called.
    """
    colours = {"samples": COLOURS["cake"], "noise": COLOURS["noise"], "data": COLOURS["lake"]}
    figure = _bars(
        [titles[r["source"]] for r in summary],
        [r["accuracy_mean"] for r in summary],
        [(r["accuracy_mean"] - r["accuracy_std"], r["accuracy_mean"] + r["accuracy_std"]) for r in summary],
        [colours[r["source"]] for r in summary],
        "Accuracy on real test data",
    )
    figure.add_vline(
        x=100 * teacher["value"], line={"dash": "dot", "color": COLOURS["teacher"]}, annotation_text="teacher"
    )
    return figure


def agreement_by_samples(rows: Sequence[dict[str, str]]) -> go.Figure:
    """Agreement with the teacher against the number of synthetic samples, one line for each method, one panel for each
    spread of the prior.

    Args:
        rows: as in fig1_samples.csv: method, sigma, samples, agreement_mean, agreement_std.
    """
    sigmas = sorted({float(r["sigma"]) for r in rows})
    figure = make_subplots(
        cols=len(sigmas),
        shared_yaxes=True,
        horizontal_spacing=0.04,
        subplot_titles=[f"prior σ = {s:g}" for s in sigmas],
    )
    for name in dict.fromkeys(r["method"] for r in rows):
        for column, sigma in enumerate(sigmas, start=1):
            mine = [r for r in rows if r["method"] == name and float(r["sigma"]) == sigma]
            figure.add_trace(
                go.Scatter(
                    x=[int(r["samples"]) for r in mine],
                    y=[100 * float(r["agreement_mean"]) for r in mine],
                    error_y={"type": "data", "array": [100 * float(r["agreement_std"]) for r in mine], "thickness": 1},
                    mode="lines+markers",
                    name=name,
                    legendgroup=name,
                    showlegend=column == 1,
                    line={"color": COLOURS[name], "dash": "dot" if name in ("noise", "brownian") else "solid"},
                ),
                row=1,
                col=column,
            )
    figure.update_xaxes(type="log", title="synthetic samples")
    figure.update_yaxes(title="agreement with the teacher, %", range=[30, 102], col=1)
    figure.update_layout(
        height=380, margin={"l": 10, "r": 10, "t": 40, "b": 40}, legend={"orientation": "h", "y": -0.2}
    )
    return figure
