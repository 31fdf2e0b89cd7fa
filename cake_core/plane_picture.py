"""Still pictures of runs on points: the samples over the teacher's regions, and beside them the student's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from .figures import CLASS_COLOURS
from .frames import REACH

__all__ = ["moments_of", "panes", "shares", "tint"]

Moment = tuple[dict[str, Any], dict[str, np.ndarray]]
GAP, TINT, PAPER = 8, 0.3, 250
BOUNDARY = (40, 40, 40)
OVER = 2  # drawn so many times as large, so that edges are smooth


def moments_of(frames: Sequence[Moment]) -> list[Moment]:
    """The moments of the samples, each with the student's surface where one is known; the last has the final one."""
    found: list[Moment] = []
    student = None
    for header, arrays in frames:
        student = arrays.get("student", student)
        if "xy" in arrays:
            found.append((header, {**arrays, **({} if student is None else {"student": student})}))
    if found and student is not None:
        header, arrays = found[-1]
        found[-1] = header, {**arrays, "student": student}
    return found


def tint(surface: np.ndarray, side: int) -> Image.Image:
    """Probabilities over the plane (S, S, C), uint8, rows from below, as a square picture of the classes' colours."""
    colours = np.array([_rgb(CLASS_COLOURS[c % len(CLASS_COLOURS)]) for c in range(surface.shape[2])], float)
    mixed = surface.astype(float) @ colours / np.maximum(surface.sum(axis=2, keepdims=True), 1)
    picture = PAPER + TINT * (mixed - PAPER)
    return Image.fromarray(picture[::-1].round().clip(0, 255).astype(np.uint8)).resize((side, side))


def shares(xy: np.ndarray) -> np.ndarray:
    """Encoded points (N, 2) as shares of the picture from the lower left; outside 0 to 1 they are not in view."""
    return ((xy.astype(float) / 65535 * 2 - 1) * REACH + 1) / 2


def panes(scene: dict[str, np.ndarray], width: float, arrays: dict[str, np.ndarray], side: int) -> Image.Image:
    """The samples over the teacher's regions, and the student's regions beside them, once there is a student.

    Args:
        scene: the scene's arrays.
        width: half the side of the plane in view.
        arrays: of one moment.
        side: pixels of one pane.
    """
    big = OVER * side
    left = tint(scene["teacher"], big)
    draw = ImageDraw.Draw(left)
    for segment in scene["boundary"] if scene["boundary"].size else ():
        ends = [((x / width + 1) / 2 * big, (1 - (y / width + 1) / 2) * big) for x, y in segment]
        draw.line(ends, fill=BOUNDARY, width=OVER)
    radius = OVER * max(1.6, side / 130)
    for (x, y), label in zip(shares(arrays["xy"]), arrays["labels"], strict=True):
        at = x * big, (1 - y) * big
        box = (at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius)
        draw.ellipse(box, fill=_rgb(CLASS_COLOURS[int(label) % len(CLASS_COLOURS)]), outline=(255, 255, 255))
    right = tint(arrays["student"], big) if "student" in arrays else Image.new("RGB", (big, big), (232, 232, 232))
    both = Image.new("RGB", (2 * side + GAP, side), (255, 255, 255))
    both.paste(left.resize((side, side), Image.Resampling.LANCZOS), (0, 0))
    both.paste(right.resize((side, side), Image.Resampling.LANCZOS), (side + GAP, 0))
    return both


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
