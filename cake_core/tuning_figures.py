"""Optuna's figures of a study, in the app's colours; they suit both themes."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable
from typing import Any

import optuna
import plotly.graph_objects as go
from optuna import visualization
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import TrialState
from plotly.colors import sample_colorscale

from . import runs, studies
from .studies import OBJECTIVES, TuneConfig
from .trials import LOOKS, RUNGS
from .tuning import opened, rated

__all__ = ["drawn", "live", "write"]

BLUE, SKY, ORANGE, GREY = "#0072B2", "#56B4E9", "#D55E00", "#8A8A8A"
# Low, middle, high: seen on light and on dark pages, and told apart with every kind of colour vision.
SCALE = [[0.0, ORANGE], [0.5, "#A8A8A8"], [1.0, BLUE]]
MOST = 4  # settings in the figures of several; the most important ones
MIN_TRIALS = 4  # finished ones, before anything is said about importance


def live(study: optuna.Study, name: str) -> list[go.Figure]:
    """What is to be seen while a study runs: its history or its front, and the live curves of its trials."""
    config, found = studies.config_of(name), rated(study, name)
    done = [t for t in found.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    if not done:
        return []
    if len(config.objectives) > 1:
        return [front(found, config)]
    figures = [history(found, config)]
    if any(t.intermediate_values for t in done):
        figures.append(curves(found, config))
    for figure in figures:  # the live view has a font of its own, in which Plotly's legends come out too narrow
        figure.update_layout(showlegend=False, margin_l=85)
    figures[0].update_xaxes(title="Trial (line: the best so far)")
    return figures


def drawn(study: optuna.Study, name: str) -> dict[str, list[go.Figure]]:
    """All figures that a study has enough trials for, by name; one of each for every objective, but for the front."""
    config, found = studies.config_of(name), rated(study, name)
    done = [t for t in found.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    figures: dict[str, list[go.Figure]] = {}
    if not done:
        return figures
    if len(config.objectives) > 1:
        figures["front"] = [front(found, config)]
    figures["history"] = [history(found, config, k) for k in range(len(config.objectives))]
    if len(config.objectives) == 1 and any(t.intermediate_values for t in done):
        figures["curves"] = [curves(found, config)]
    if len(done) < MIN_TRIALS:
        return figures
    several = len(config.space) > 1
    for k, objective in enumerate(config.objectives):
        weights = importance(found, k) if several else {}
        chosen = list(weights)[:MOST] or list(config.space)[:MOST]
        if weights:
            figures.setdefault("importance", []).append(bars(weights, config, objective))
        figures.setdefault("parallel", []).append(parallel(found, config, k, chosen))
        figures.setdefault("slices", []).append(slices(found, config, k, chosen))
        if len(chosen) > 1:
            figures.setdefault("contour", []).append(contour(found, config, k, chosen[:3]))
    return figures


def write(name: str) -> None:
    """Writes a study's figures.json, for pages, which have no Optuna."""
    made = drawn(opened(name), name)
    plain = {k: [json.loads(f.to_json()) for f in figures] for k, figures in made.items()}
    runs.write_json(runs.find(name) / "figures.json", plain)


def history(study: optuna.Study, config: TuneConfig, k: int = 0) -> go.Figure:
    """The value of each trial in their order, and the best so far."""
    figure = visualization.plot_optimization_history(study, target=_target(config, k), target_name=_title(config, k))
    for trace, colour in zip(figure.data, (BLUE, ORANGE), strict=False):
        trace.update(marker={"color": colour, "size": 7}, line={"color": colour})
    for trace in figure.data:
        trace.name = {"Best Value": "Best so far"}.get(trace.name, "A trial")
    figure.data = figure.data[:2]
    if len(config.objectives) == 1:
        order = {t.number: t.user_attrs.get("number", t.number) for t in study.get_trials(deepcopy=False)}
        for trace in figure.data:
            trace.x = [order.get(n, n) + 1 for n in trace.x]
    if len(study.get_trials(deepcopy=False)) <= 12:
        figure.update_xaxes(dtick=1)
    return styled(figure, 320, xaxis_title="Trial", yaxis_title=_title(config, k), yaxis=_axis(config, k))


def curves(study: optuna.Study, config: TuneConfig) -> go.Figure:
    """The live curves of the trials: those given up early end early."""
    figure = visualization.plot_intermediate_values(study)
    states = {t.number: t.state for t in study.get_trials(deepcopy=False)}
    for trace in figure.data:
        pruned = states.get(int("".join(c for c in trace.name if c.isdigit()) or -1)) == TrialState.PRUNED
        trace.update(line={"color": ORANGE if pruned else SKY, "width": 1.5}, marker={"size": 4}, opacity=0.8)
    samples = config.objectives[0] in ("coverage", "near_boundary")
    what = "samples" if samples else "student"
    words = [f"{a} of<br>samples" for a in "¼½"] + [f"{a} of<br>{what}" for a in "¼½¾"]  # narrow, for phones
    seen = sorted({k for t in study.get_trials(deepcopy=False) for k in t.intermediate_values})
    places = len(RUNGS) + LOOKS
    figure.update_xaxes(tickvals=seen, ticktext=[words[(k - 1) % places] for k in seen])
    return styled(
        figure,
        320,
        showlegend=False,
        xaxis_title="How far the trial was (orange: given up)",
        yaxis_title=_title(config, 0),
        yaxis=_axis(config, 0),
    )


def front(study: optuna.Study, config: TuneConfig) -> go.Figure:
    """All trials by two objectives; those that no other beats in both are the Pareto front."""
    titles = [OBJECTIVES[k].title for k in config.objectives]
    if len(titles) > 3:
        return history(study, config)
    figure = visualization.plot_pareto_front(study, target_names=titles)
    for trace, colour in zip(figure.data, (GREY, ORANGE), strict=False):
        trace.update(marker={"color": colour, "size": 6 if colour == GREY else 10, "showscale": False})
        trace.name = "Pareto front" if colour == ORANGE else "Beaten by another"
        trace.showlegend = True
    if len(titles) == 2:
        axes = {f"{axis}axis": _axis(config, k) for k, axis in enumerate("xy")}
        return styled(figure, 380, **axes)
    return styled(figure, 480)


def importance(study: optuna.Study, k: int) -> dict[str, float]:
    """How much of the spread of an objective each setting explains (fANOVA), the most important first; empty where the
    values do not differ."""
    with contextlib.suppress(ValueError, RuntimeError):
        found = optuna.importance.get_param_importances(
            study, evaluator=FanovaImportanceEvaluator(seed=0), target=_value(k)
        )
        return {name: float(v) for name, v in found.items()}
    return {}


def bars(weights: dict[str, float], config: TuneConfig, objective: str) -> go.Figure:
    """Importances as bars."""
    names = list(weights)[::-1]
    figure = go.Figure(
        go.Bar(
            x=[weights[n] for n in names],
            y=[_label(config, n) for n in names],
            orientation="h",
            marker_color=BLUE,
            text=[f"{100 * weights[n]:.0f} %" for n in names],
            textposition="outside",
            cliponaxis=False,
            hoverinfo="skip",
        )
    )
    title = f"Share of the spread of “{OBJECTIVES[objective].title}” that it explains"
    return styled(figure, 90 + 34 * len(names), xaxis={"title": title, "tickformat": ".0%", "rangemode": "tozero"})


def parallel(study: optuna.Study, config: TuneConfig, k: int, names: list[str]) -> go.Figure:
    """Each trial as a line through its settings."""
    figure = visualization.plot_parallel_coordinate(
        study, params=names, target=_target(config, k), target_name=_title(config, k)
    )
    places = figure.layout.xaxis.ticktext or ()
    figure.update_xaxes(ticktext=[_title(config, k), *(_label(config, text) for text in places[1:])], title=None)
    for trace in figure.data:
        if trace.y is None or trace.y[0] is None:  # the colour bar
            trace.marker.update(colorscale=SCALE, reversescale=False)
            continue
        trace.line.color = sample_colorscale(SCALE, min(1.0, max(0.0, trace.y[0])))[0]
        trace.opacity = 0.75
        trace.customdata = [[_label(config, row[0]), row[1]] for row in trace.customdata or ()] or None
    figure.update_annotations(font_color=GREY)
    return styled(figure, 400, margin={"l": 60, "r": 30, "t": 20, "b": 60})


def slices(study: optuna.Study, config: TuneConfig, k: int, names: list[str]) -> go.Figure:
    """The value against each setting by itself."""
    figure = visualization.plot_slice(study, params=names, target=_target(config, k), target_name=_title(config, k))
    for trace in figure.data:
        trace.marker.update(colorscale=SCALE, line={"width": 0}, size=7)
        trace.marker.colorbar.update(title="Trial")
    for axis in figure.select_xaxes():
        axis.title.text = _label(config, axis.title.text)
    return styled(figure, 320)


def contour(study: optuna.Study, config: TuneConfig, k: int, names: list[str]) -> go.Figure:
    """The value against each pair of settings, filled in between the trials."""
    figure = visualization.plot_contour(study, params=names, target=_target(config, k), target_name=_title(config, k))
    for trace in figure.data:
        if trace.type == "contour":
            trace.update(colorscale=SCALE, reversescale=False, line={"width": 0.5}, connectgaps=True)
            trace.colorbar.update(title=None)
        else:
            trace.marker.update(color="#1c2526", size=5, line={"color": "white", "width": 1})
    for axis in (*figure.select_xaxes(), *figure.select_yaxes()):
        axis.update(showgrid=False, zeroline=False)
        if axis.title.text:
            axis.title.text = _label(config, axis.title.text)
    return styled(figure, 420 if len(names) == 2 else 640)


def styled(figure: go.Figure, height: int, **layout: Any) -> go.Figure:
    """The figure without a template and a title of its own: the page says what it shows."""
    margin = {"l": 60, "r": 20, "t": 30, "b": 50}
    figure.update_layout(template=None, title=None, height=height, width=None, margin=margin)
    figure.layout.paper_bgcolor = figure.layout.plot_bgcolor = None  # the page's own
    figure.update_layout(**layout)
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "title": None})
    return figure


def _value(k: int) -> Callable[[Any], float]:
    return lambda t: t.values[k]


def _target(config: TuneConfig, k: int) -> Callable[[Any], float] | None:
    """What Optuna draws: of one objective it knows itself, and then also which end is the good one."""
    return _value(k) if len(config.objectives) > 1 else None


def _title(config: TuneConfig, k: int) -> str:
    return OBJECTIVES[config.objectives[k]].title


def _label(config: TuneConfig, text: str) -> str:
    """What people call a setting that Optuna names, perhaps shortened; other words stay as they are."""
    known = studies.tunable(config.experiment)
    stem = text.removesuffix("...")
    found = [n for n in config.space if n == text or (stem != text and n.startswith(stem))]
    return known[found[0]].label if found else text


def _axis(config: TuneConfig, k: int) -> dict[str, Any]:
    return {"tickformat": ".1~%"} if OBJECTIVES[config.objectives[k]].share else {}


logging.getLogger("optuna").setLevel(logging.ERROR)
