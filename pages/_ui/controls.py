"""Widgets from declarations: one for each field of any settings."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import streamlit as st

from cake_core import data, models
from cake_core.config import Config, Param, as_text
from cake_core.methods import METHODS
from cake_core.oracle import ACCESS
from cake_core.teacher import shipped

from . import drawing, own_data
from .page import Screen, known_teachers
from .words import help_with

__all__ = ["configure", "experiment_controls", "presets", "sliders"]

FEW = 4  # so many choices are all shown
SETTLING = 3.0  # seconds after which a browser has surely drawn what was sent


# -- any settings --------------------------------------------------------------------------------------


def configure(
    config: Config, kind: str, *, key: str, only: Iterable[str] = (), skip: Iterable[str] = ()
) -> dict[str, Any]:
    """One widget for each field, from the field's own declaration; begins with the values given.

    Args:
        config: the values to begin with.
        kind: of the data; fields that suit another kind are left out.
        key: prefix of the widgets' keys.
        only, skip: which fields, by name (all, where neither is given).

    Returns:
        The values that the widgets have now, by field.
    """
    return {
        p.name: widget(p, getattr(config, p.name), key=f"{key}:{p.name}")
        for p in config.params()
        if p.suits in ("", kind) and (not only or p.name in only) and p.name not in skip
    }


def widget(p: Param, value: Any, *, key: str, **events: Any) -> Any:
    """The widget that suits a field: its bounds, scale, unit, choices and help are those declared.

    Args:
        p: the field's declaration.
        value: the value to begin with, and to keep among a slider's stops.
        key: of the widget.
        events: `on_change` and its `args`.

    Returns:
        The value that the widget has now.
    """
    label = p.label + (f" ({p.unit})" if p.unit else "") + (f" ${latex(p.symbol)}$" if p.symbol else "")
    shared = {"key": key, "help": help_with(p.help, p.name), **events}
    number = int if p.kind == "int" else float
    if p.kind == "bool":
        return st.toggle(label, value=value, **shared)
    if p.choices and len(p.choices) <= FEW:
        return st.segmented_control(label, p.choices, required=True, width="stretch", default=value, **shared)
    if p.choices:
        return st.selectbox(label, p.choices, index=p.choices.index(value), **shared)
    if p.scale == "log":
        return st.select_slider(label, ladder(p, value), format_func=as_text, value=value, **shared)
    if p.high is not None and (p.step or p.high - p.low <= 20):
        step = number(p.step or 1)
        return st.slider(label, number(p.low), number(p.high), step=step, value=number(value), **shared)
    step = 1 if number is int else None
    return st.number_input(label, number(p.low), number(p.high), step=step, value=number(value), **shared)


def ladder(p: Param, value: float) -> list[float]:
    """The stops of a logarithmic slider: 1, 2, 5, 10, ... within a field's bounds, and the value it has."""
    number = int if p.kind == "int" else float
    stops = {number(p.low), number(p.high), value}
    for exponent in range(-7, 8):
        for digit in (1, 2, 5):
            stop = float(f"{digit}e{exponent}")
            if p.low <= stop <= p.high and (number is float or stop >= 1):
                stops.add(number(stop))
    return sorted(stops)


def latex(symbol: str) -> str:
    """A field's symbol for a label: "λ_TV" becomes \\lambda_{TV}."""
    letter, _, index = symbol.partition("_")
    greek = {"σ": "\\sigma", "η": "\\eta", "τ": "\\tau", "λ": "\\lambda"}
    return greek.get(letter, letter) + (f"_{{{index}}}" if index else "")


# -- the experiment of a screen --------------------------------------------------------------------------------------


def experiment_controls(screen: Screen, default: str) -> str:
    """The sidebar of Two moons and Images: everything that begins a new run.

    Args:
        screen: whose experiment is shown and changed.
        default: a data set of the kind that may be chosen.

    Returns:
        The kind of data.
    """
    kind = data.info(default).kind
    e, shows = screen.experiment, screen.options.shows
    bound = Bound(screen, kind)
    drawn = data.info(e.data.name).drawn
    with st.sidebar:
        if shows("data"):
            bound.part = "data"
            bound.choice("data", "Data set", own_data.sets(kind, also=e.data.name), e.data.name)
            if not bound.disabled:
                own_data.offer(screen, kind)
                if kind == "points":
                    drawing.offer(screen)
            bound.fields(e.data, prefix="data.", only=("noise",) if drawn else ())
        if shows("method"):
            bound.part = "method"
            bound.choice("method", "Method", list(METHODS.values()), e.method)
            method = METHODS[e.method]
            st.caption(method.summary)
            with st.popover("Equation and source", icon=":material/function:", width="stretch"):
                st.latex(method.equation)
                st.markdown(f"It needs of the teacher: {', '.join(ACCESS[a] for a in ACCESS if a in method.access)}.")
                st.caption(method.reference)
        if shows("schedule"):
            bound.part = "schedule"
            with st.expander("Schedule", icon=":material/timeline:", expanded=True):
                bound.fields(e.settings, groups=("Method", "Schedule"))
        if shows("student"):
            bound.part = "student"
            with st.expander("Student", icon=":material/backpack:"):
                bound.choice("student", "Architecture", bound.models, e.student.model)
                bound.fields(
                    e.student,
                    prefix="student.",
                    only=("targets", "temperature", "updates", "batch_size", "learning_rate"),
                )
        if shows("more"):
            bound.part = "more"
            with st.expander("Teacher and more", icon=":material/tune:"):
                bound.teacher(e.data.name)
                bound.fields(e.data, prefix="data.", only=("points", "seed") if drawn else ())
                bound.fields(e, only=("device", "precision", "compiled"))
                bound.fields(e.settings, groups=("Advanced",))
    return kind


class Bound:
    """Widgets that show a screen's experiment, and change it.

    Args:
        screen: whose experiment.
        kind: of its data.

    Attributes:
        part: of the screen that the widgets belong to; whoever prepared the screen may have locked it.
    """

    def __init__(self, screen: Screen, kind: str):
        self.screen, self.kind, self.part = screen, kind, ""
        self.models = [m for m in models.MODELS.values() if kind in m.kinds]

    @property
    def disabled(self) -> bool:
        """Whether the part is locked."""
        return self.screen.options.locks(self.part)

    def fields(self, config: Config, *, prefix: str = "", groups: Iterable[str] = (), only: Iterable[str] = ()) -> None:
        """One widget for each field that is fixed once a run has begun; live ones stand in the live view."""
        for p in config.params():
            if (p.name in only or p.group in groups) and not p.live and p.suits in ("", self.kind):
                events = self._show(prefix + p.name, getattr(config, p.name))
                widget(p, getattr(config, p.name), **events)

    def seed(self, *, locked: bool) -> None:
        """The seed, which cannot be changed while it is locked."""
        p, seed = self.screen.experiment.param("seed"), self.screen.experiment.seed
        events = self._show("seed", seed)
        events["disabled"] |= locked
        st.number_input("Seed", p.low, p.high, seed, step=1, help=p.help, width=130, **events)

    def choice(self, key: str, label: str, options: Iterable[Any], value: str, help: str | None = None) -> None:
        """A select box of things that have a name and a title."""
        titles = {o.name: o.title for o in options}
        self._select(key, label, titles, value, help)

    def teacher(self, name: str) -> None:
        """Shipped teachers of these data, this session's own, and architectures to train one of."""
        examples = data.info(name).has_examples
        titles = {"": "Shipped, or trained for these data" if examples else "The one that was imported with it"}
        titles |= {c.name: f"Shipped: {c.name}" for c in shipped().values() if c.data["name"] == name}
        titles |= {n: f"Yours: {t['title']}" for n, t in known_teachers().items() if t["data"] == name}
        titles |= {m.name: f"New: {m.title}" for m in self.models if examples}
        now = self.screen.experiment.teacher
        titles.setdefault(now, "From the page Teacher")
        self._select("teacher", "Teacher", titles, now, self.screen.experiment.param("teacher").help)

    def _select(self, key: str, label: str, titles: Mapping[str, str], value: str, help: str | None) -> None:
        names, shown = list(titles), self._show(key, value)
        st.selectbox(label, names, names.index(value), format_func=lambda n: titles.get(n, n), help=help, **shown)

    def _show(self, key: str, value: Any) -> dict[str, Any]:
        """Makes a widget show what the experiment says (it is the truth) and report what is chosen. Its default must be
        the same value: a browser that is asked for its widgets while it still draws them answers with their defaults.
        """
        name = f"{self.screen.name}:{key}"
        if (shown := st.session_state.get(name, value)) != value:
            self.screen.replaced[name] = (shown, time.monotonic())
        st.session_state[name] = value
        return {"key": name, "on_change": self._changed, "args": (key, name), "disabled": self.disabled}

    def _changed(self, key: str, name: str) -> None:
        """Takes over what was chosen. A value that has just been replaced was not: the browser sent all its widgets
        along with the press of another one before it had heard of the new value."""
        value = st.session_state[name]
        before, when = self.screen.replaced.get(name, (None, 0.0))
        if value is not None and not (value == before and time.monotonic() - when < SETTLING):
            self.screen.change({key: as_text(value)})


def presets(screen: Screen, presets: Mapping[str, Mapping[str, str]]) -> None:
    """A row of buttons, one for each preset; the keys 1 to 9 press them too.

    Args:
        screen: which they change.
        presets: by name, the keys of the URL that they set.
    """
    if not screen.options.shows("presets"):
        return
    with st.container(horizontal=True, gap="small", key=f"row:{screen.name}:presets"):
        for number, (name, preset) in enumerate(presets.items(), start=1):
            st.button(
                name,
                key=f"{screen.name}:preset:{name}",
                on_click=screen.choose,
                args=(preset,),
                disabled=screen.options.locks("presets"),
                shortcut=str(number) if number < 10 else None,
            )


def sliders(config: Config, kind: str, *, locked: bool = False) -> list[dict[str, Any]]:
    """What the live view needs to draw a slider for each number that may change while a run goes on.

    Args:
        config: the method's settings.
        kind: of the data, "points" or "images".
        locked: whether they are shown and can't be moved.
    """
    return [
        {k: getattr(p, k) for k in ("name", "label", "symbol", "low", "high", "scale", "step", "unit", "help")}
        | {"value": getattr(config, p.name), "locked": locked}
        for p in config.params()
        if p.live and p.kind in ("int", "float") and p.suits in ("", kind)
    ]
