"""Figures of stored runs: their curves, one over the other. Plain values in, Plotly figures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from .figures import CLASS_COLOURS

__all__ = ["STAGES", "curve_names", "curves"]

STAGES = {"teacher": "Teacher", "synthesis": "Samples", "student": "Student"}
DASHES = ("solid", "dash", "dot", "dashdot")  # beside the colours, for those who can't tell them apart


def curve_names(found: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The stages and the names of all losses that some run has, in the order of the stages.

    Args:
        found: of each run, its losses by stage and name, as "curves" of its metrics.json.
    """
    names = [(s, name) for s in STAGES for curves in found for name in curves.get(s, {}) if name != "step"]
    return list(dict.fromkeys(names))


def curves(found: Mapping[str, Mapping[str, Any]]) -> list[go.Figure]:
    """A small chart for each loss, with one line for each run that has it.

    Args:
        found: by the run's title, its losses by stage and name.
    """
    figures = []
    for stage, name in curve_names(list(found.values())):
        figure = go.Figure()
        for number, (title, stages) in enumerate(found.items()):
            mine = stages.get(stage, {})
            if name not in mine:
                continue
            steps = mine["step"][-len(mine[name]) :]
            line = {"color": CLASS_COLOURS[number % len(CLASS_COLOURS)], "dash": DASHES[number % len(DASHES)]}
            mode = "lines" if len(steps) > 1 else "markers"  # a line of one point is not to be seen
            figure.add_trace(go.Scatter(x=steps, y=mine[name], mode=mode, name=title, line={**line, "width": 2}))
        what = "loss" if name == "loss" else name.replace("_", " ")
        figure.update_layout(
            title={"text": f"{STAGES[stage]}: {what}", "font": {"size": 13}, "x": 0, "xanchor": "left", "y": 0.97},
            height=230,
            margin={"l": 44, "r": 8, "t": 30, "b": 38},
            xaxis={"title": {"text": "update" if stage != "synthesis" else "step", "standoff": 4}, "nticks": 6},
            yaxis={"nticks": 5},
            showlegend=False,
        )
        figures.append(figure)
    return figures
