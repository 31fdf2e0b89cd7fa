"""Data sets that teachers are trained and students are tested on. Students never see the training part."""

from __future__ import annotations

from typing import Any

from ..config import Config, Param, param
from ..errors import CakeError
from . import arrays, images, own, toy
from .base import Dataset, DatasetInfo, data_folder

__all__ = ["ALIASES", "DATASETS", "DataConfig", "Dataset", "DatasetInfo", "data_folder", "info", "load"]

DATASETS: dict[str, DatasetInfo] = {d.name: d for d in (*toy.INFOS, *images.INFOS)}

# Sets of the server's owner are looked for once, when the program starts; those that can't be used wait with their
# reason. Those that people bring later are in no list; `info` finds them by their names.
_found, REFUSED = arrays.discover(data_folder(), known=DATASETS)
DATASETS |= {d.name: d for d in _found}

# Other names by which people know a set.
ALIASES = {"two-moons": "moons", "fmnist": "fashion-mnist", "cifar-10": "cifar10"}


class DataConfig(Config):
    """Which data set, and how a 2-D one is drawn."""

    name: str = param(
        "moons",
        label="Data set",
        choices=tuple(DATASETS),
        group="Data",
        help="The data the teacher learned. The student never sees it; it is used to test the student.",
    )
    noise: float = param(
        0.1,
        low=0.0,
        high=1.0,
        step=0.01,
        group="Data",
        suits="points",
        help="Spread of the 2-D points around their ideal shape, before standardising. Image sets ignore it.",
    )
    points: int = param(
        2000,
        low=20,
        high=20_000,
        step=20,
        label="Points",
        group="Data",
        suits="points",
        help="How many 2-D points the teacher learns from (and as many again to test on). Image sets ignore it.",
    )
    seed: int = param(
        0,
        low=0,
        high=2**31 - 1,
        label="Data seed",
        group="Data",
        suits="points",
        help="Seed of the 2-D points. Image sets ignore it.",
    )

    @classmethod
    def permits(cls, p: Param, value: Any) -> bool:
        """A data set may also be one that somebody brought, which no list of choices names."""
        return super().permits(p, value) or (p.name == "name" and own.is_own(value) and info(value) is not None)


def info(name: str) -> DatasetInfo:
    """The description of a data set, by its name or an alias; also of one that somebody brought.

    Raises:
        CakeError: there is no such data set.
    """
    if not isinstance(name, str):
        raise CakeError(f"A data set is called by its name, and {str(name)[:60]} is none.")
    name = ALIASES.get(name, name)
    if own.is_own(name):
        if (found := own.find(name)) is None:
            raise CakeError("This data set of somebody's own is not here (any more). Bring the file once more.")
        return found
    if name in REFUSED:
        raise CakeError(f"The data set '{name}' can't be used. {REFUSED[name]}")
    if name not in DATASETS:
        raise CakeError(f"There is no data set '{name}'. Choose one of: {', '.join(DATASETS)}.")
    return DATASETS[name]


def load(config: DataConfig) -> Dataset:
    """Loads (or draws) a data set.

    Raises:
        CakeError: a set is not on this machine and can't be downloaded.
    """
    return info(config.name).load(config)
