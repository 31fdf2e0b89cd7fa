"""Settings: one declaration per parameter drives widgets, URL, command line, stored runs and documentation.

A settings class derives from `Config` and declares each field with `param`:

    class Settings(Config):
        step_size: float = param(0.1, low=1e-5, high=10.0, scale="log", symbol="η", help="How far a sample moves.")

`Settings.params()` then tells a page which widget to draw, `from_strings` reads what a URL or a command line says, and
every value that is out of bounds, of the wrong type or unknown is refused with a sentence (`CakeError`).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import CakeError

__all__ = ["Config", "Param", "as_text", "named", "param"]

Scale = Literal["linear", "log"]


@dataclass(frozen=True)
class Param:
    """What a widget, a help text or a URL needs to know about one field.

    Attributes:
        name: the field's name, as in the URL and after `--set`.
        label: a short label for people.
        kind: "int", "float", "bool", "choice" or "text".
        default: the value when nothing is said.
        low, high: inclusive bounds (None where there are none).
        step: the increment of a slider (None: the widget's own).
        unit: the unit of the value, empty for pure numbers.
        scale: "log" where a slider should be logarithmic.
        choices: the permitted values of a "choice".
        help: one or two sentences for people.
        symbol: the letter the equations use.
        live: whether the value may change while a run goes on.
        group: where the widget belongs: "Data", "Method", "Schedule", "Student" or "Advanced".
        suits: the kind of data it has a meaning for, "points" or "images"; empty for both.
    """

    name: str
    label: str
    kind: Literal["int", "float", "bool", "choice", "text"]
    default: Any
    low: float | None
    high: float | None
    step: float | None
    unit: str
    scale: Scale
    choices: tuple[Any, ...]
    help: str
    symbol: str
    live: bool
    group: str
    suits: str


def param(
    default: Any,
    *,
    help: str,
    low: float | None = None,
    high: float | None = None,
    step: float | None = None,
    unit: str = "",
    scale: Scale = "linear",
    choices: Sequence[Any] = (),
    label: str = "",
    symbol: str = "",
    live: bool = False,
    group: str = "Method",
    suits: str = "",
) -> Any:
    """Declares one field of a `Config`: its default, bounds and everything a widget says about it.

    Args:
        default: the value when nothing is said.
        help: one or two sentences for people; a test refuses fields without it.
        low, high: inclusive bounds. A slider with a log scale and a `low` of 0 has 0 at its end.
        step, unit, scale, choices, label, symbol, live, group, suits: see `Param`.
    """
    extra = {
        "step": step,
        "unit": unit,
        "scale": scale,
        "choices": tuple(choices),
        "label": label,
        "symbol": symbol,
        "live": live,
        "group": group,
        "suits": suits,
    }
    return Field(default, ge=low, le=high, description=help, json_schema_extra=extra)


class Config(BaseModel):
    """A frozen set of settings. Subclasses declare fields with `param`; a field may itself be a `Config`."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check_choices(self) -> Self:
        for p in self.params():
            if p.kind == "choice" and not self.permits(p, getattr(self, p.name)):
                raise CakeError(_choose(p, getattr(self, p.name)))
        return self

    @classmethod
    def permits(cls, p: Param, value: Any) -> bool:
        """Whether a field may have a value: one of its choices, or what a subclass knows beside them."""
        return value in p.choices

    # -- what the fields are ------------------------------------------------------------------------------------

    @classmethod
    def params(cls) -> tuple[Param, ...]:
        """The declarations of all fields that are plain values, in the order they were written."""
        return _params(cls)

    @classmethod
    def param(cls, name: str) -> Param:
        """The declaration of one field."""
        return next(p for p in cls.params() if p.name == name)

    # -- making and changing ------------------------------------------------------------------------------------

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Builds the settings from plain values (as stored in a run or sent over the socket).

        Raises:
            CakeError: a key is unknown, or a value is of the wrong type or out of bounds; or there are no keys.
        """
        try:
            return cls.model_validate(named(values))
        except ValidationError as error:
            raise CakeError(_sentence(cls, error)) from None

    def replace(self, /, **changes: Any) -> Self:
        """A copy with some fields changed; raises `CakeError` as `from_dict` does."""
        return self.from_dict({**{k: getattr(self, k) for k in type(self).model_fields}, **changes})

    def to_dict(self) -> dict[str, Any]:
        """All values as plain JSON types."""
        return self.model_dump(mode="json")

    # -- flat text form: URL and command line -------------------------------------------------------------------

    def to_query(self, prefix: str = "") -> dict[str, str]:
        """The values that differ from the defaults, flattened with dots: {"data.noise": "0.2", ...}."""
        flat: dict[str, str] = {}
        for name, info in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Config):
                flat |= value.to_query(f"{prefix}{name}.")
            elif value != info.default:
                flat[prefix + name] = as_text(value)
        return flat

    @classmethod
    def from_query(cls, flat: Mapping[str, str]) -> Self:
        """The inverse of `to_query`: missing keys keep their defaults, unknown keys are refused."""
        values = _nest(flat)
        for name, value in values.items():
            part = cls.model_fields[name].annotation if name in cls.model_fields else None
            if isinstance(part, type) and issubclass(part, Config) and not isinstance(value, Mapping):
                first = next(iter(part.model_fields))
                raise CakeError(f"'{name}' holds several settings. Write one of them, such as {name}.{first}.")
        return cls.from_dict(values)

    def digest(self) -> str:
        """A short hash of all values: equal settings have equal digests."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def _params(cls: type[Config]) -> tuple[Param, ...]:
    found = []
    for name, info in cls.model_fields.items():
        extra = info.json_schema_extra
        if not isinstance(extra, dict):
            continue  # a nested Config, or a field that is no setting
        bounds = {type(m).__name__: m for m in info.metadata}
        choices = get_args(info.annotation) if get_origin(info.annotation) is Literal else extra["choices"]
        kinds = {bool: "bool", int: "int", float: "float"}
        found.append(
            Param(
                name=name,
                label=extra["label"] or name.replace("_", " ").capitalize(),
                kind="choice" if choices else kinds.get(info.annotation, "text"),
                default=info.default,
                low=bounds["Ge"].ge if "Ge" in bounds else None,
                high=bounds["Le"].le if "Le" in bounds else None,
                choices=tuple(choices),
                help=info.description or "",
                **{k: extra[k] for k in ("step", "unit", "scale", "symbol", "live", "group", "suits")},
            )
        )
    return tuple(found)


def as_text(value: Any) -> str:
    """Plain text of a value, as a URL or a sentence wants it: 0.1, not 0.10000000000000001; true, not True."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.10g}"
    return str(value)


def named(values: Any) -> dict[str, Any]:
    """Settings by their names, as somebody gave them; nothing at all gives none.

    Raises:
        CakeError: they are something else, such as a list or a word.
    """
    if values is not None and not isinstance(values, Mapping):
        raise CakeError(f"Settings have names and values; {_short(repr(values))} has not. Write {{name: value}}.")
    return dict(values or {})


def _nest(flat: Mapping[str, str]) -> dict[str, Any]:
    """{"data.noise": "0.2"} -> {"data": {"noise": "0.2"}}."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *path, last = key.split(".")
        place = nested
        for part in path:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise CakeError(f"'{key}' can't be set: '{part}' is a single value.")
        place[last] = value
    return nested


def _sentence(cls: type[Config], error: ValidationError) -> str:
    """One sentence for each of the first problems: what was wrong with which setting, and what would be right."""
    problems = error.errors()
    sentences = [_one_sentence(cls, problem) for problem in problems[:MOST_PROBLEMS]]
    more = len(problems) - MOST_PROBLEMS
    return " ".join(sentences + ([f"{more} more settings are wrong."] if more > 0 else []))


MOST_PROBLEMS = 3  # that are told at once
LONGEST_SHOWN = 60  # characters of what somebody wrote


def _short(value: Any) -> str:
    """What somebody wrote, fit for a sentence."""
    text = str(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _one_sentence(cls: type[Config], problem: Mapping[str, Any]) -> str:
    *path, name = problem["loc"] or ("",)
    for part in path:  # walk to the nested Config that the problem is in
        cls = cls.model_fields[part].annotation
    value, kind = problem["input"], problem["type"]
    known = {p.name: p for p in cls.params()}
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(str(name), cls.model_fields, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else f" There are: {', '.join(cls.model_fields)}."
        return f"There is no setting '{_short(name)}'.{hint}"
    p = known.get(str(name))
    if p is None:
        return f"'{name}' can't be {_short(repr(value))}: {problem['msg'].lower()}."
    if p.choices:
        return _choose(p, value)
    wanted = {"int": "a whole number", "float": "a number", "bool": "true or false", "text": "text"}[p.kind]
    unit = f" {p.unit}" if p.unit else ""
    if p.low is not None and p.high is not None:
        wanted += f" from {as_text(p.low)} to {as_text(p.high)}{unit}"
    elif p.low is not None:
        wanted += f" of at least {as_text(p.low)}{unit}"
    elif p.high is not None:
        wanted += f" of at most {as_text(p.high)}{unit}"
    got = repr(value) if not isinstance(value, float) or math.isfinite(value) else str(value)
    return f"'{name}' must be {wanted}; {_short(got)} is not."


def _choose(p: Param, value: Any) -> str:
    return f"'{p.name}' can't be {_short(repr(value))}. Choose one of: {', '.join(map(str, p.choices))}."
