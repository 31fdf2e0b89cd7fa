"""Figures of results: plain values in, Plotly figures out. No torch, no Streamlit; colours suit both themes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

__all__ = ["bars", "copies", "ink"]

# One colour for each method wherever it appears: Okabe and Ito's for those of the paper's Fig. 1, others beside them.
COLOURS = {
    "cake": "#0072B2",
    "cake_plus": "#1B3A8A",
    "lake": "#009E73",
    "naive": "#D55E00",
    "generative": "#CC79A7",
    "noise": "#8A8A8A",
    "brownian": "#B8860B",
    "kd": "#3D3D3D",
    "deepdream": "#E69F00",
    "deepinversion": "#7A5195",
    "adi": "#A05195",
    "dafl": "#2F8F9D",
    "rdskd": "#665191",
    "dfad_activation": "#C0392B",
    "zskd": "#8B7500",
    "zsdb3kd": "#6B4226",
    "gd": "#5F9E6E",
    "teacher": "#56B4E9",
}


def ink(ground: str) -> str:
    """White or nearly black: whichever stands out more against a colour.

    Args:
        ground: the colour that is written on, as "#rrggbb".

    References: | WCAG 2.2, contrast ratio | https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
    """
    parts = [int(ground[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    dark = 0.0078  # the luminance of #101516
    return "#ffffff" if 1.05 / (light + 0.05) >= (light + 0.05) / (dark + 0.05) else "#101516"


def copies(outcome: dict[str, Any], control: dict[str, Any] | None) -> go.Figure:
    """Accuracy of teacher, student and the control's student, with 95 % intervals; where there are no test data, the
    agreement of both students with the teacher.

    Args:
        outcome, control: numbers of an experiment and of its noise-only control, as `Outcome.to_dict` gives them.
    """
    real = outcome["judged_on"] == "test"
    value = "student_accuracy" if real else "agreement"
    rows = [("Teacher", "teacher_accuracy", outcome, COLOURS["teacher"])] if real else []
    rows.append(("Student", value, outcome, COLOURS["cake"]))
    if control is not None:
        rows.append(("Student of noise only", value, control, COLOURS["noise"]))
    return bars(
        [label for label, *_ in rows],
        [values[name] for _, name, values, _ in rows],
        [values[f"{name}_interval"] for _, name, values, _ in rows],
        [colour for *_, colour in rows],
        "Accuracy on real test data" if real else "Agreement with the teacher on fresh samples",
    )


SHORT = 0.2  # shares below have their value behind their bar: on a phone there is no room within


def bars(
    labels: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[Sequence[float]],
    colours: Sequence[str],
    title: str,
) -> go.Figure:
    """Horizontal bars of shares, in percent, with whiskers. Each has its value in it, or behind it where it is short.

    Args:
        labels: of the bars, from the top.
        values: shares of one.
        intervals: lower and upper end of each whisker, shares too.
        colours: of the bars.
        title: what the shares are of.
    """
    written = [f"{100 * v:.1f} %" for v in values]
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
            text=["" if v < SHORT else text for v, text in zip(values, written, strict=True)],
            textposition="inside",
            insidetextanchor="start",
            textfont={"color": [ink(c) for c in colours]},
            hoverinfo="skip",
        )
    )
    for label, v, (_, high), text in zip(labels, values, intervals, written, strict=True):
        if v < SHORT:
            figure.add_annotation(x=100 * high, y=label, text=text, xanchor="left", xshift=4, showarrow=False)
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
            text=[f"{m:.1f}<br>± {d:.1f} %" for m, d in zip(means, deviations, strict=True)],  # narrow, as bars are
            textposition="inside",
            textangle=0,  # smaller rather than turned on a phone
            insidetextanchor="start",
            textfont={"color": [ink(COLOURS.get(r["method"], COLOURS["noise"])) for r in rows]},
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


COSTS = {"calls": "Calls of the teacher, forward and gradient", "seconds": "Seconds of making samples"}


def costs(summary: Sequence[dict[str, Any]], value: str, cost: str) -> go.Figure:
    """What a value costs each method: one point for each, with one standard deviation each way.

    Args:
        summary: rows of `comparison.summarise` by method, with a "title" for each.
        value: which value, a key of `METRICS`.
        cost: a key of `COSTS`; on a logarithmic axis, since costs differ by powers of ten.
    """
    figure = go.Figure()
    for r in summary:
        if r[f"{value}_mean"] is None:
            continue
        figure.add_scatter(
            x=[max(r[f"{cost}_mean"], 1e-3)],
            y=[100 * r[f"{value}_mean"]],
            error_y={"type": "data", "array": [100 * r[f"{value}_std"]], "visible": True},
            error_x={"type": "data", "array": [r[f"{cost}_std"]], "visible": r[f"{cost}_std"] > 0},
            mode="markers+text",
            marker={"size": 11, "color": COLOURS[r["method"]], "symbol": _symbol(r["method"])},
            text=[r["title"]],
            textposition=PLACES[list(COLOURS).index(r["method"]) % len(PLACES)],
            cliponaxis=False,
            name=r["title"],
        )
    figure.update_layout(
        height=340,
        margin={"l": 50, "r": 30, "t": 20, "b": 45},
        xaxis={"type": "log", "title": COSTS[cost], "dtick": 1},
        yaxis={"range": [0, 108], "ticksuffix": " %", "title": METRICS[value]},
        showlegend=False,
    )
    return figure


PLACES = ("middle right", "top center", "bottom center", "middle left")  # of labels, so that few overlap
# Shapes as well as colours tell methods apart.
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "triangle-down", "hexagon")


def beside_paper(rows: Sequence[dict[str, str]], labels: Sequence[str]) -> go.Figure:
    """Accuracy of students as made here, beside what the paper prints, from the rows of a reproduced table.

    Args:
        rows: as `paper.Table.write` writes them, read back from CSV.
        labels: what each row is called, all different.
    """
    ours = go.Bar(
        y=labels,
        x=[100 * float(r["student_accuracy_mean"]) for r in rows],
        error_x={"type": "data", "array": [100 * float(r["student_accuracy_std"]) for r in rows]},
        orientation="h",
        marker_color=[COLOURS[r["method"]] for r in rows],
        name="here",
        hovertemplate="%{y}: %{x:.1f} %<extra>here</extra>",
    )
    printed = [(label, r) for label, r in zip(labels, rows, strict=True) if r["paper_student"]]
    symbols = ["diamond" if r["same_pair"] == "True" else "diamond-open" for _, r in printed]
    theirs = go.Scatter(
        y=[label for label, _ in printed],
        x=[float(r["paper_student"]) for _, r in printed],
        mode="markers",
        marker={"symbol": symbols, "size": 10, "line": {"width": 1.5, "color": "#8A8A8A"}, "color": "#8A8A8A"},
        name="in the paper, at its own budget (open: of other data or networks)",
        hovertemplate="%{y}: %{x:.1f} %<extra>the paper</extra>",
    )
    figure = go.Figure([ours, theirs])
    figure.update_layout(
        height=90 + 36 * len(rows),
        margin={"l": 10, "r": 20, "t": 10, "b": 40},
        xaxis={"range": [0, 104], "ticksuffix": " %", "title": "Accuracy on real test data"},
        yaxis={"autorange": "reversed"},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )
    return figure


def _symbol(method: str) -> str:
    return SYMBOLS[list(COLOURS).index(method) % len(SYMBOLS)]


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


def confusion(
    matrix: Sequence[Sequence[int]],
    classes: Sequence[str],
    rows: str = "true class",
    columns: str = "the teacher's answer",
) -> go.Figure:
    """A confusion matrix: colour by share of the row, numbers are counts.

    Args:
        matrix: counts (C, C).
        classes: names of the classes.
        rows, columns: what they are.
    """
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
            hovertemplate=f"{rows} %{{y}}, {columns} %{{x}}: %{{text}}<extra></extra>",
        )
    )
    figure.update_layout(
        height=120 + 32 * len(classes),
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        xaxis={"title": columns, "type": "category", "showgrid": False},
        yaxis={"title": rows, "type": "category", "autorange": "reversed", "showgrid": False},
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


def embedding(found: Any, colour: str) -> go.Figure:
    """Feature space: real inputs as open circles, synthetic samples as filled diamonds. Every point carries its name.

    Args:
        found: an `Embedding`.
        colour: "class", "source", "confidence", "batch" or "step".
    """
    three = found.position.shape[1] == 3
    scatter, size = (go.Scatter3d, 2.6) if three else (go.Scattergl, 5)
    figure = go.Figure()

    def add(name: str, rows: Sequence[int], look: dict[str, Any]) -> None:
        synthetic = rows[0] >= found.real
        figure.add_trace(
            scatter(
                **dict(zip("xyz", found.position[rows].T, strict=False)),
                mode="markers",
                name=name,
                marker={"size": size, "symbol": "diamond" if synthetic else "circle-open", "opacity": 0.8, **look},
                customdata=[found.name(row) for row in rows],
                hovertext=[
                    f"{'synthetic' if synthetic else 'real'} {found.classes[found.label[row]]}, "
                    f"confidence {found.confidence[row]:.2f}"
                    + (f", mini-batch {found.batch[row] + 1}" if synthetic else "")
                    for row in rows
                ],
                hoverinfo="text",
            )
        )

    for source, mine in (("real", range(found.real)), ("synthetic", range(found.real, found.ended))):
        mine, synthetic = list(mine), source == "synthetic"
        if colour == "class":
            for k, name in enumerate(found.classes):
                if chosen := [row for row in mine if found.label[row] == k]:
                    add(f"{name}, {source}", chosen, {"color": CLASS_COLOURS[k % len(CLASS_COLOURS)]})
        elif colour == "source":
            add(source, mine, {"color": COLOURS["cake"] if synthetic else COLOURS["noise"]})
        elif synthetic or colour == "confidence":
            values = getattr(found, colour)[mine]
            add(source, mine, {"color": values, "colorscale": "Viridis", "showscale": synthetic})
        else:  # real inputs belong to no mini-batch and take no steps
            add(source, mine, {"color": COLOURS["noise"]})
    layout = {"height": 620, "margin": {"l": 0, "r": 0, "t": 10, "b": 0}, "legend": LEGEND_BELOW}
    bare = {"showticklabels": False, "title": "", "zeroline": False, "showgrid": False}
    if three:
        figure.update_layout(**layout, scene={f"{a}axis": bare for a in "xyz"} | {"aspectmode": "data"})
    else:
        figure.update_layout(**layout, xaxis=bare, yaxis={**bare, "scaleanchor": "x"})
    return figure


def _rgba(colour: str, alpha: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


# Colour and dash of students, by what they learned from.
LINES = {
    "samples": (COLOURS["cake"], "solid"),
    "noise": (COLOURS["noise"], "dot"),
    "kd": (COLOURS["lake"], "dash"),
    "labels": (COLOURS["naive"], "dashdot"),
}


def students(summary: Sequence[dict[str, Any]], teacher: dict[str, float], titles: Mapping[str, str]) -> go.Figure:
    """Students by what they learned from, and the teacher's accuracy as a line. Whiskers are one standard deviation
    over seeds, or the 95 % interval where there is a single seed.

    Args:
        summary: rows with "source", "seeds", "accuracy_mean", "accuracy_std", and "accuracy_interval" of a single seed.
        teacher: "value" of the teacher's accuracy.
        titles: what a source is called.
    """
    figure = bars(
        [titles[r["source"]] for r in summary],
        [r["accuracy_mean"] for r in summary],
        [
            (r["accuracy_mean"] - r["accuracy_std"], r["accuracy_mean"] + r["accuracy_std"])
            if r["seeds"] > 1
            else r["accuracy_interval"]
            for r in summary
        ],
        [LINES[r["source"]][0] for r in summary],
        "Accuracy on real test data",
    )
    line = {"dash": "dot", "color": COLOURS["teacher"]}
    left = {"annotation_position": "top left", "annotation_text": "teacher"}  # at the right it would be cut off
    figure.add_vline(x=100 * teacher["value"], line=line, **left)
    figure.update_layout(margin={"t": 24})
    return figure


CURVES = {
    "training_loss": "Loss on what it learns from",
    "test_loss": "Loss on real test data",
    "accuracy": "Accuracy on real test data",
    "agreement": "Agreement with the teacher",
}


def curves(
    looks: Sequence[Mapping[str, Any]], seeds: int, epoch: int, updates: int, titles: Mapping[str, str]
) -> list[go.Figure]:
    """Students in training: a small chart for each number of `CURVES`, with one line for each source.

    A line is the seed in training; earlier seeds stand behind it, thin. When all have finished it is their mean, with
    one standard deviation around it.

    Args:
        looks: points with "source", "seed", "update" and the numbers, in order; None where a number is missing.
        seeds: how many seeds there will be.
        epoch: updates in one pass over the synthetic samples.
        updates: of a whole training.
        titles: what a source is called.
    """
    began = list(dict.fromkeys(p["seed"] for p in looks))
    finished = {p["seed"] for p in looks if p["update"] == updates}
    figures = []
    for name, title in CURVES.items():
        figure, share = go.Figure(), name in ("accuracy", "agreement")
        latest = []
        for source in dict.fromkeys(p["source"] for p in looks):
            mine = [p for p in looks if p["source"] == source and p[name] is not None]
            by_seed = [[p for p in mine if p["seed"] == s] for s in began]
            complete = len(finished) == seeds > 1
            mean = _add_band(figure, by_seed, name, epoch, LINES[source][0]) if complete else by_seed[-1]
            for points in () if complete else by_seed[:-1]:
                figure.add_trace(_line(points, name, epoch, LINES[source], thin=True))
            figure.add_trace(_line(mean, name, epoch, LINES[source], title=titles[source]))
            if mean:
                latest.append(
                    f"{titles[source]} {100 * mean[-1][name]:.0f} %"
                    if share
                    else f"{titles[source]} {mean[-1][name]:.2f}"
                )
        figure.update_layout(
            title={"text": title, "font": {"size": 13}, "x": 0, "xanchor": "left", "y": 0.97},
            height=220,
            margin={"l": 44, "r": 8, "t": 30, "b": 38},
            xaxis={
                "title": {"text": f"epochs of {epoch:,} updates", "standoff": 4, "font": {"size": 11}},
                "range": [0, updates / epoch],
                "nticks": 6,
            },
            yaxis={"range": [0, 1.02], "tickformat": ".0%"} if share else {"rangemode": "tozero", "nticks": 5},
            showlegend=False,
            meta=f"{title}. Now: {', '.join(latest) or 'nothing yet'}.",
        )
        figures.append(figure)
    return figures


def _line(
    points: Sequence[Mapping[str, Any]],
    name: str,
    epoch: int,
    look: tuple[str, str],
    title: str = "",
    thin: bool = False,
) -> go.Scatter:
    colour, dash = look
    return go.Scatter(
        x=[p["update"] / epoch for p in points],
        y=[p[name] for p in points],
        mode="lines",
        name=title,
        line={"color": colour, "dash": dash, "width": 1 if thin else 2.2},
        opacity=0.45 if thin else 1,
        hoverinfo="skip" if thin else "name+y",
    )


def _add_band(
    figure: go.Figure, by_seed: Sequence[Sequence[Mapping[str, Any]]], name: str, epoch: int, colour: str
) -> list[dict[str, Any]]:
    """Adds mean ± one standard deviation over seeds; returns the mean as points."""
    mean, low, high = [], [], []
    for points in zip(*by_seed, strict=True):
        values = [p[name] for p in points]
        centre, spread = statistics.fmean(values), statistics.stdev(values)
        mean.append({"update": points[0]["update"], name: centre})
        low.append(centre - spread)
        high.append(centre + spread)
    x = [p["update"] / epoch for p in mean]
    figure.add_trace(
        go.Scatter(
            x=x + x[::-1],
            y=high + low[::-1],
            fill="toself",
            fillcolor=_rgba(colour, 0.18),
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
        )
    )
    return mean


def difference(seen: Mapping[str, Any], classes: Sequence[str]) -> go.Figure:
    """The plane in view: tinted by the teacher's answers, orange where the student answers otherwise.

    Args:
        seen: "half_width", and the answers of "teacher" and "student" on a grid (R, R), rows from below.
        classes: names of the classes.
    """
    width, teacher, student = seen["half_width"], seen["teacher"], seen["student"]
    step = 2 * width / (len(teacher) - 1)
    axis = [-width + step * i for i in range(len(teacher))]
    figure = go.Figure()
    for k, name in enumerate(classes):
        z = [[1 if answer == k else None for answer in row] for row in teacher]
        figure.add_trace(_area(axis, z, _rgba(CLASS_COLOURS[k % len(CLASS_COLOURS)], 0.3), f"teacher: {name}"))
    z = [[1 if a != b else None for a, b in zip(*rows, strict=True)] for rows in zip(teacher, student, strict=True)]
    figure.add_trace(_area(axis, z, "#E69F00", "the student says otherwise"))
    figure.update_layout(
        height=420,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        xaxis={"range": [-width, width], "showgrid": False, "zeroline": False},
        yaxis={"range": [-width, width], "showgrid": False, "zeroline": False, "scaleanchor": "x"},
        legend=LEGEND_BELOW,
    )
    return figure


def _area(axis: Sequence[float], z: list[list[int | None]], colour: str, name: str) -> go.Heatmap:
    return go.Heatmap(
        x=axis,
        y=axis,
        z=z,
        colorscale=[[0, colour], [1, colour]],
        showscale=False,
        name=name,
        showlegend=True,
        hoverinfo="skip",
    )


def agreement_by_samples(rows: Sequence[dict[str, str]], titles: Mapping[str, str]) -> go.Figure:
    """Agreement with the teacher against the number of synthetic samples, one line for each method, one panel for each
    spread of the prior.

    Args:
        rows: as in fig1_samples.csv: method, sigma, samples, agreement_mean, agreement_std.
        titles: of the methods.
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
                    name=titles[name],
                    legendgroup=name,
                    showlegend=column == 1,
                    line={"color": COLOURS[name], "dash": "dot" if name in ("noise", "brownian") else "solid"},
                ),
                row=1,
                col=column,
            )
    figure.update_xaxes(type="log", dtick=1, title="synthetic samples")
    figure.update_yaxes(title="agreement with the teacher, %", range=[30, 102], col=1)
    figure.update_layout(
        height=380, margin={"l": 10, "r": 10, "t": 40, "b": 40}, legend={"orientation": "h", "y": -0.2}
    )
    return figure


def lineup(accuracies: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """Test accuracy of teachers and suspects, with 95 % intervals: all much alike, so it does not tell who copied whom.

    Args:
        accuracies: "value", "low" and "high" by name, in order.
    """
    rates = list(accuracies.values())
    figure = bars(
        list(accuracies),
        [r["value"] for r in rates],
        [(r["low"], r["high"]) for r in rates],
        [COLOURS["teacher" if name.startswith("Teacher") else "noise"] for name in accuracies],
        "Accuracy on real test data",
    )
    figure.update_layout(height=70 + 26 * len(rates), margin={"l": 76})
    return figure


def likeness(
    names: Sequence[str],
    scores: Sequence[float],
    limit: float | None,
    named: int | None,
    truth: int | None = None,
    top: float = 0.0,
) -> go.Figure:
    """How alike a suspect is to each teacher: one bar for each, orange for who is named, a line for what it takes.

    Args:
        names: of the teachers.
        scores: one for each, above 0.
        limit: what it takes to be named; None where it is not known.
        named: who is named, None for nobody.
        truth: who it was, where that is known; ringed.
        top: what the axis reaches at least, so that several such charts have one scale.
    """
    figure = go.Figure(
        go.Bar(
            y=list(names),
            x=list(scores),
            orientation="h",
            marker={
                "color": [NAMED if k == named else COLOURS["teacher"] for k in range(len(names))],
                "line": {"color": COLOURS["noise"], "width": [3 if k == truth else 0 for k in range(len(names))]},
            },
            text=[f"{s:.2f}" for s in scores],
            textposition="auto",
            hoverinfo="skip",
        )
    )
    top = max([*scores, limit or 0.0, top])
    if limit is not None:
        line = {"dash": "dash", "color": COLOURS["noise"], "width": 2}
        # Above the bars, and on the side where there is room.
        place = {"annotation_y": 1, "annotation_yanchor": "bottom", "annotation_yref": "paper"}
        place["annotation_xanchor"] = "right" if limit > 0.6 * top else "left"
        figure.add_vline(x=limit, line=line, annotation_text="to be named", **place)
    figure.update_layout(
        height=80 + 30 * len(names),
        margin={"l": 10, "r": 10, "t": 22, "b": 36},
        xaxis={"title": "likeness of answers", "range": [0, 1.05 * top], "nticks": 6},
        yaxis={"autorange": "reversed"},
        showlegend=False,
    )
    return figure


NAMED = "#D55E00"


def detectability(rows: Sequence[Mapping[str, str]], titles: Mapping[str, str]) -> go.Figure:
    """How often the true teacher is named, against the number of probes: one line for each source of probes.

    Args:
        rows: as in detect.csv, of one score.
        titles: what a source is called; those that are not in it are left out.
    """
    figure = go.Figure()
    for source, title in titles.items():
        mine = [r for r in rows if r["probes"] == source]
        low, high = ([100 * float(r[f"accuracy_{k}"]) for r in mine] for k in ("low", "high"))
        value = [100 * float(r["accuracy"]) for r in mine]
        colour, dash = SOURCES_OF_PROBES[source]
        figure.add_trace(
            go.Scatter(
                x=[f"{int(r['n']):,} probe{'s'[: int(r['n']) > 1]}" for r in mine],
                y=value,
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [h - v for h, v in zip(high, value, strict=True)],
                    "arrayminus": [v - k for v, k in zip(value, low, strict=True)],
                    "thickness": 1,
                },
                mode="lines+markers",
                name=title,
                line={"color": colour, "dash": dash},
            )
        )
    if rows:
        line = {"dash": "dot", "color": COLOURS["noise"]}
        figure.add_hline(y=100 / int(rows[0]["teachers"]), line=line, annotation_text="blind guess")
    figure.update_layout(
        height=380,
        margin={"l": 50, "r": 10, "t": 10, "b": 40},
        yaxis={"range": [0, 104], "ticksuffix": " %", "title": "true teacher named"},
        legend={"orientation": "h", "y": -0.15},
    )
    return figure


SOURCES_OF_PROBES = {
    "direct": (COLOURS["cake"], "solid"),
    "generator": (COLOURS["generative"], "solid"),
    "real": (COLOURS["naive"], "dash"),
    "other": (COLOURS["deepdream"], "dash"),
    "surest": (COLOURS["lake"], "dash"),
    "noise": (COLOURS["noise"], "dot"),
}


def plane(networks: Mapping[str, Sequence[Any]], x: Sequence[Sequence[float]], width: float) -> go.Figure:
    """The decision boundaries of a suspect, broad and grey, and of several teachers over the plane; probes among them.

    Args:
        networks: by name, the suspect first, boundaries as line segments (S, 2, 2).
        x: probes (N, 2).
        width: half the side of the square in view.
    """
    figure = go.Figure()
    for number, (name, segments) in enumerate(networks.items()):
        xs, ys = ([v for a, b in segments for v in (a[i], b[i], None)] for i in (0, 1))
        first = number == 0
        colour = COLOURS["noise"] if first else CLASS_COLOURS[(number - 1) % len(CLASS_COLOURS)]
        line = {"color": colour, "width": 5 if first else 1.8}
        figure.add_trace(go.Scatter(x=xs, y=ys, mode="lines", name=name, line=line, hoverinfo="name"))
    figure.add_trace(
        go.Scatter(
            x=[p[0] for p in x],
            y=[p[1] for p in x],
            mode="markers",
            name="probes",
            marker={"size": 5, "color": COLOURS["noise"]},
            hoverinfo="skip",
        )
    )
    figure.update_layout(
        height=420,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        xaxis={"range": [-width, width], "visible": False},
        yaxis={"range": [-width, width], "visible": False, "scaleanchor": "x"},
        legend=LEGEND_BELOW,
    )
    return figure
