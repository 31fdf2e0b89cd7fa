"""Links: a whole screen as the query of an address. Each carries the version it was written in, so old ones keep their
meaning: `UPGRADES` leads from every version to the next.

    v=3&method=lake&sigma=0.1&seed=7&on=cpu&show=trails&lock=method,sliders

The keys of the experiment are those of `Experiment.to_query`: only what differs from the defaults, so that a link is
short and can be read. The others are reserved (`RESERVED`); no setting may have their names. `pass` is for the pages:
it opens what somebody shares (`cake_core.access`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from .config import as_text
from .errors import CakeError

__all__ = ["KINDS_OF_DEVICE", "PARTS", "RESERVED", "SPEEDS", "UPGRADES", "VERSION", "Link", "Options", "View", "read"]

Flat = dict[str, str]

VERSION = 3  # raise it when keys, values or defaults get another meaning, and write down the way from the one before
RESERVED = ("v", "on", "job", "show", "speed", "hide", "lock", "keep", "kiosk", "idle", "pass")
KINDS_OF_DEVICE = {"cpu": "a CPU", "cuda": "an NVIDIA GPU", "mps": "an Apple GPU"}

# What can be hidden or locked, and how it is called.
PARTS = {
    "data": "Data set",
    "method": "Method",
    "schedule": "Schedule",
    "student": "Student",
    "more": "Teacher and more",
    "seed": "Seed",
    "presets": "Presets",
    "sliders": "Sliders beside the picture",
    "tools": "Undo, snapshots, share",
    "figures": "Figures below",
    "navigation": "Other pages",
}
LOCKABLE = tuple(p for p in PARTS if p not in ("tools", "figures", "navigation"))
SHOWN = ("trails", "arrows", "data", "stretched")
SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
IDLE = (5, 3600)  # seconds


def _first(flat: Flat) -> Flat:
    """From 1 to 2. Version 1 is what addresses held before they named a version: the same keys for the experiment, and
    nothing about the type of device, what is shown or what is locked. A run that they name is not theirs to steer from
    another server; where it has gone, the experiment beside it counts."""
    return {key: value for key, value in flat.items() if key not in RESERVED or key == "job"}


def _second(flat: Flat) -> Flat:
    """From 2 to 3. CAKE+ had no shapes then, no gain on MNIST, and on CIFAR-10 the settings of CAKE."""
    if flat.get("method") != "cake_plus":
        return flat
    as_cake = {"weight_variation": "1000", "step_size": "0.03", "steps": "64", "batches": "40", "moments": "4"}
    former = {"mnist": {"gain": "1"}, "cifar10": as_cake}
    return {"shapes": "false", **former.get(flat.get("data", ""), {}), **flat}


UPGRADES: dict[int, Callable[[Flat], Flat]] = {1: _first, 2: _second}


@dataclass(frozen=True)
class View:
    """How a screen shows its run.

    Attributes:
        show: of "trails", "arrows", "data" (the teacher's) and "stretched" (images), those that are on.
        speed: of playing, one of `SPEEDS`.
    """

    show: tuple[str, ...] = ()
    speed: float = 1.0

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> View:
        """From what the live view tells; what makes no sense is left out."""
        speed = told.get("speed", 1.0)
        return cls(tuple(s for s in SHOWN if s in told.get("show", ())), speed if speed in SPEEDS else 1.0)

    def to_dict(self) -> dict[str, Any]:
        """What the live view takes."""
        return {"show": list(self.show), "speed": self.speed}


@dataclass(frozen=True)
class Options:
    """What whoever prepares a screen for others has decided. It keeps order in a class; it protects nothing.

    Attributes:
        hide: parts that are not shown (keys of `PARTS`).
        lock: parts that are shown and can't be changed.
        keep: whether presets and the like leave the seed as it is.
        kiosk: whether presets play by themselves until somebody touches the screen.
        idle: seconds without a touch after which a kiosk begins again.
    """

    hide: tuple[str, ...] = ()
    lock: tuple[str, ...] = ()
    keep: bool = False
    kiosk: bool = False
    idle: int = 60

    def shows(self, part: str) -> bool:
        """Whether a part is to be seen."""
        return part not in self.hide

    def locks(self, part: str) -> bool:
        """Whether a part can't be changed."""
        return part in self.lock


@dataclass(frozen=True)
class Link:
    """A screen, as its address has it.

    Attributes:
        flat: the experiment, by the keys of `Experiment.to_query`.
        on: type of the device that computed it ("cpu", "cuda", "mps"); empty where the link does not say.
        job: the run that is shown, where this very run is meant: its name, or the pass by which others watch it; empty
            for a new one of the same kind.
        view: how it is shown.
        options: what is hidden, locked, or played in a loop.
    """

    flat: Flat = field(default_factory=dict)
    on: str = ""
    job: str = ""
    view: View = View()
    options: Options = Options()

    def to_query(self) -> Flat:
        """The query of the address; `read` is the inverse."""
        o, v = self.options, self.view
        whole = {
            "v": str(VERSION),
            **self.flat,
            "on": self.on,
            "show": ",".join(v.show),
            "speed": as_text(v.speed) if v.speed != 1 else "",
            "hide": ",".join(o.hide),
            "lock": "all" if o.lock == LOCKABLE else ",".join(o.lock),
            "keep": "seed" if o.keep else "",
            "kiosk": "1" if o.kiosk else "",
            "idle": str(o.idle) if o.kiosk else "",
            "job": self.job,
        }
        return {key: value for key, value in whole.items() if value or key in self.flat}


def read(query: Mapping[str, str]) -> Link:
    """What an address says, whatever version it was written in.

    Args:
        query: of the address, decoded.

    Raises:
        CakeError: it comes from a later version, or says something about the screen that makes no sense. (What it says
            about the experiment is checked by `Experiment.from_query`.)
    """
    flat = upgraded(query)
    show = _some(flat, "show", SHOWN)
    speed = _one(flat, "speed", [as_text(s) for s in SPEEDS], "1")
    lock = LOCKABLE if flat.get("lock") == "all" else _some(flat, "lock", LOCKABLE)
    options = Options(
        _some(flat, "hide", PARTS),
        lock,
        bool(_one(flat, "keep", ("seed",), "")),
        _one(flat, "kiosk", ("0", "1"), "0") == "1",
        _idle(flat.get("idle", str(Options.idle))),
    )
    rest = {key: value for key, value in flat.items() if key not in RESERVED}
    on = _one(flat, "on", tuple(KINDS_OF_DEVICE), "")
    return Link(rest, on, flat.get("job", ""), View(show, float(speed)), options)


def upgraded(query: Mapping[str, str]) -> Flat:
    """The same link in the words of today.

    Raises:
        CakeError: it comes from a later version of the program, or from none.
    """
    flat = dict(query)
    text = flat.pop("v", "1")
    version = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0
    if not 1 <= version <= VERSION:
        later = f"it was made by a later CAKE Lab (links of version {text}; this one reads up to {VERSION})"
        raise CakeError(
            f"{later}." if version > VERSION else f"'v' must be a whole number up to {VERSION}, not {text!r}."
        )
    for step in range(version, VERSION):
        flat = UPGRADES[step](flat)
    return flat


def _some(flat: Flat, key: str, known: Collection[str]) -> tuple[str, ...]:
    """The words of a list, in the order in which they are known."""
    given = [word for word in flat.get(key, "").split(",") if word]
    if wrong := [word for word in given if word not in known]:
        raise CakeError(f"'{key}' knows no {wrong[0]!r}. There are: {', '.join(known)}.")
    return tuple(word for word in known if word in given)


def _one(flat: Flat, key: str, known: Collection[str], default: str) -> str:
    value = flat.get(key, default)
    if value != default and value not in known:
        raise CakeError(f"'{key}' can't be {value!r}. Choose one of: {', '.join(known)}.")
    return value


def _idle(text: str) -> int:
    seconds = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else -1
    if not IDLE[0] <= seconds <= IDLE[1]:
        raise CakeError(f"'idle' must be a whole number from {IDLE[0]} to {IDLE[1]} seconds; {text!r} is not.")
    return seconds
