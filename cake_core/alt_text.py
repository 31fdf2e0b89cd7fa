"""What a chart says, in words, for who does not see it: read from the chart itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

__all__ = ["alt_text"]

LONGEST = 700  # characters: more is not listened to
FEW = 12  # bars that are all named


def alt_text(figure: go.Figure) -> str:
    """One or two sentences: what the axes are, and what each trace has.

    Args:
        figure: a finished chart of bars, lines, points or an area.
    """
    if figure.layout.meta:
        return str(figure.layout.meta)
    axes = [_plain(axis.title.text) for axis in (figure.layout.xaxis, figure.layout.yaxis)]
    head = [_plain(figure.layout.title.text), " against ".join(filter(None, reversed(axes)))]
    parts = [". ".join(filter(None, head)), *filter(None, map(_trace, figure.data))]
    text = ". ".join(filter(None, parts)) or "A chart"
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rsplit(" ", 1)[0] + "…"


def _trace(trace: Any) -> str:
    name = _plain(trace.name)
    if trace.type == "bar":
        labels, values = (trace.y, trace.x) if trace.orientation == "h" else (trace.x, trace.y)
        texts = trace.text if isinstance(trace.text, list | tuple) else [_number(v) for v in values]
        said = [f"{_plain(label)} {_plain(text)}" for label, text in zip(labels, texts, strict=False)]
        return _named(name, ", ".join(said[:FEW]) + (f" and {len(said) - FEW} more" if len(said) > FEW else ""))
    if trace.type in ("heatmap", "contour"):
        z = trace.z if trace.z is not None else ()
        return _named(name, f"a field of {len(z)} rows" if len(z) else "")
    if trace.type.startswith("scatter"):
        return _named(name, _line(trace))
    return name


def _line(trace: Any) -> str:
    values = [v for v in (trace.y if trace.y is not None else ()) if isinstance(v, int | float) and v == v]
    if not values:
        return ""
    if "lines" not in (trace.mode or "lines"):
        return f"{len(values)} points" if len(values) > 1 else _number(values[0])
    return f"from {_number(values[0])} to {_number(values[-1])}" if len(values) > 1 else _number(values[0])


def _named(name: str, said: str) -> str:
    return f"{name}: {said}" if name and said else name or said


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else str(value)


def _plain(text: Sequence[Any] | str | None) -> str:
    return re.sub(r"<[^>]*>", " ", str(text)).strip() if text is not None else ""
