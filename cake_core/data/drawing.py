"""Points that somebody drew: checked, and read as the table that they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import CakeError
from . import tables
from .examples import LEAST_PER_CLASS, Examples

__all__ = ["CLASSES", "LEAST", "MOST", "read"]

CLASSES = ("circles", "squares", "triangles")  # in the order of their letters, which tables keep
LEAST, MOST = 40, 2000  # points
SIDE = 1.0  # half the width of the board


def read(points: Sequence[Any], seed: int = 0) -> Examples:
    """The examples of a drawing, as `tables.read` would have them from a file.

    Args:
        points: [x, y, class] of each, with x and y from -1 to 1 and the class a place in `CLASSES`. They come from a
            browser, so anything may be in them.
        seed: which points are set aside for testing.

    Raises:
        CakeError: there are too few or too many, of one class only, or something else than points.
    """
    several = isinstance(points, Sequence) and not isinstance(points, str)
    if several and len(points) > MOST:
        raise CakeError(f"The drawing has {len(points):,} points; at most {MOST:,} can be used. Take some back.")
    if not several or not all(map(_is_point, points)):
        raise CakeError("The drawing could not be understood. Clear it and draw again.")
    counts = [sum(c == k for *_, c in points) for k in range(len(CLASSES))]
    used = [k for k, n in enumerate(counts) if n]
    if len(used) < 2:
        have = f"All points are {CLASSES[used[0]]}" if used else "Nothing is drawn yet"
        raise CakeError(f"{have}. A teacher tells at least two shapes apart: choose another one and draw it elsewhere.")
    for k in used:
        if counts[k] < LEAST_PER_CLASS:
            raise CakeError(f"There are {counts[k]} {CLASSES[k]}; draw at least {LEAST_PER_CLASS}, or take them back.")
    if len(points) < LEAST:
        raise CakeError(f"There are {len(points)} points; a teacher needs at least {LEAST}. Draw some more.")
    lines = [f"{x:.4f},{y:.4f},{CLASSES[c]}" for x, y, c in points]
    return tables.read("\n".join(["x,y,label", *lines]).encode(), seed)


def _is_point(point: Any) -> bool:
    if not isinstance(point, Sequence) or isinstance(point, str) or len(point) != 3:
        return False
    *place, label = point
    numbers = all(isinstance(v, int | float) and -SIDE <= v <= SIDE for v in place)
    return numbers and type(label) is int and 0 <= label < len(CLASSES)
