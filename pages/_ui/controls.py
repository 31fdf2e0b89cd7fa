"""Widgets from declarations: one for each field of any settings, in the groups that the fields name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import streamlit as st

from cake_core import data, models
from cake_core.config import Config, Param, as_text
from cake_core.methods import METHODS
from cake_core.teacher import shipped

from .page import Screen

__all__ = ["configure", "experiment_controls", "presets", "sliders"]

FEW = 4  # so many choices are all shown


def experiment_controls(screen: Screen, kind: str) -> None:
    """The sidebar of Two moons and Images: everything that begins a new run.

    Args:
        screen: whose experiment is shown and changed.
        kind: "points" or "images".
    """
    e = screen.experiment
    info = data.info(e.data.name)
    with st.sidebar:
        _choice(screen, "data", [d for d in data.DATASETS.values() if d.kind == kind], e.data.name, "Data set")
        if kind == "points":
            configure(screen, e.data, prefix="data.", only=("noise",))
        _choice(screen, "method", list(METHODS.values()), e.method, "Method")
        st.caption(METHODS[e.method].summary)
        configure(screen, e.settings, groups=("Method",))
        with st.expander("Schedule", icon=":material/timeline:", expanded=True):
            configure(screen, e.settings, groups=("Schedule",))
        with st.expander("Student", icon=":material/backpack:"):
            fitting = [m for m in models.MODELS.values() if kind in m.kinds]
            _choice(screen, "student", fitting, e.student.model, "Architecture")
            configure(screen, e.student, prefix="student.", only=("targets", "updates", "batch_size", "learning_rate"))
        with st.expander("Teacher, seeds and more", icon=":material/tune:"):
            _teacher(screen, kind, info.name)
            if kind == "points":
                configure(screen, e.data, prefix="data.", only=("points", "seed"))
            configure(screen, e, only=("seed", "device"))
            configure(screen, e.settings, groups=("Advanced",))


def configure(
    screen: Screen, config: Config, *, prefix: str = "", groups: Iterable[str] = (), only: Iterable[str] = ()
) -> None:
    """One widget for each field that is fixed once a run has begun; live ones stand in the live view.

    Args:
        screen: whose experiment they change.
        config: the values now.
        prefix: of the fields' keys in the URL.
        groups, only: which fields, by group or by name (all, where neither is given).
    """
    for p in config.params():
        wanted = p.name in only or p.group in groups or not (only or groups)
        if wanted and not p.live:
            _widget(screen, p, prefix + p.name, getattr(config, p.name))


def presets(names: Iterable[str], choose: Callable[[str], None], *, key: str) -> None:
    """A row of buttons, one for each preset; the keys 1 to 9 press them too.

    Args:
        names: of the presets.
        choose: gets the name of the one that was pressed.
        key: prefix of the widgets' keys.
    """
    with st.container(horizontal=True, gap="small"):
        for number, name in enumerate(names, start=1):
            shortcut = str(number) if number < 10 else None
            st.button(name, key=f"{key}:{name}", on_click=choose, args=(name,), shortcut=shortcut)


def sliders(config: Config) -> list[dict[str, Any]]:
    """What the live view needs to draw a slider for each number that may change while a run goes on."""
    return [
        {k: getattr(p, k) for k in ("name", "label", "symbol", "low", "high", "scale", "step", "unit", "help")}
        | {"value": getattr(config, p.name)}
        for p in config.params()
        if p.live and p.kind in ("int", "float")
    ]


def _widget(screen: Screen, p: Param, key: str, value: Any) -> None:
    label = p.label + (f" ({p.unit})" if p.unit else "") + (f" ${_latex(p.symbol)}$" if p.symbol else "")
    options = _ladder(p, value) if p.scale == "log" else []
    _show(screen, key, value)
    shared = {"key": _key(screen, key), "help": p.help, "on_change": _changed, "args": (screen, key)}
    if p.kind == "bool":
        st.toggle(label, **shared)
    elif p.choices and len(p.choices) <= FEW:
        st.segmented_control(label, p.choices, required=True, width="stretch", **shared)
    elif p.choices:
        st.selectbox(label, p.choices, **shared)
    elif options:
        st.select_slider(label, options, format_func=as_text, **shared)
    elif p.step and p.high is not None:
        kind = int if p.kind == "int" else float
        st.slider(label, kind(p.low), kind(p.high), step=kind(p.step), **shared)
    else:
        st.number_input(label, p.low, p.high, step=1 if p.kind == "int" else None, **shared)


def _choice(screen: Screen, key: str, options: list[Any], value: str, label: str) -> None:
    """A select box of things that have a name and a title."""
    titles = {o.name: o.title for o in options}
    _show(screen, key, value)
    st.selectbox(
        label,
        list(titles),
        format_func=lambda name: titles.get(name, name),
        key=_key(screen, key),
        on_change=_changed,
        args=(screen, key),
    )


def _teacher(screen: Screen, kind: str, name: str) -> None:
    titles = {"": "Shipped, or trained for these data"}
    titles |= {c.name: f"Shipped: {c.name}" for c in shipped().values() if c.data["name"] == name}
    titles |= {m.name: f"New: {m.title}" for m in models.MODELS.values() if kind in m.kinds}
    now = screen.experiment.teacher
    titles.setdefault(now, f"Trained here: {now}")
    _show(screen, "teacher", now)
    st.selectbox(
        "Teacher",
        list(titles),
        format_func=titles.get,
        key=_key(screen, "teacher"),
        on_change=_changed,
        args=(screen, "teacher"),
        help=screen.experiment.param("teacher").help,
    )


def _key(screen: Screen, key: str) -> str:
    return f"{screen.name}:{key}"


def _show(screen: Screen, key: str, value: Any) -> None:
    """Makes the widget show what the experiment says; the experiment is the truth."""
    st.session_state[_key(screen, key)] = value


def _changed(screen: Screen, key: str) -> None:
    value = st.session_state[_key(screen, key)]
    if value is not None:
        screen.change({key: as_text(value)})


def _ladder(p: Param, value: float) -> list[float]:
    """1, 2, 5, 10, ... within the bounds of a parameter, and the value it has."""
    kind = int if p.kind == "int" else float
    rungs = {kind(p.low), kind(p.high), value}
    for exponent in range(-7, 8):
        for step in (1, 2, 5):
            rung = step * 10.0**exponent
            if p.low <= rung <= p.high and (kind is float or rung >= 1):
                rungs.add(kind(rung) if kind is int else float(f"{rung:g}"))
    return sorted(rungs)


def _latex(symbol: str) -> str:
    greek = {"σ": r"\\sigma", "η": r"\\eta", "τ": r"\\tau", "λ": r"\\lambda"}
    return "".join(greek.get(c, c) for c in symbol).replace("\\\\", "\\")
