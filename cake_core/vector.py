"""Pictures of a run as SVG, drawn by hand: samples and curves that stay sharp at any size."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from PIL import Image

from .figures import CLASS_COLOURS
from .frames import decode
from .plane_picture import moments_of, shares, tint
from .run_figures import STAGES, curve_names

__all__ = ["curves", "plane", "sheet"]

SIDE, GAP = 480, 16
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 420, 240, 56, 34, 30


def plane(scene: bytes, frames: Sequence[bytes], title: str) -> str:
    """The last samples over the teacher's regions, as circles and lines, and the student's regions beside them.

    Args:
        scene, frames: messages of the live view of points; some frame shows samples.
        title: what stands above.
    """
    about, fixed = decode(scene)
    _, arrays = moments_of(list(map(decode, frames)))[-1]
    width, parts = about["half_width"], [_image(tint(fixed["teacher"], 2 * SIDE), 0, SIDE)]
    for segment in fixed["boundary"] if fixed["boundary"].size else ():
        (x0, y0), (x1, y1) = (((x / width + 1) / 2 * SIDE, (1 - y / width) / 2 * SIDE) for x, y in segment)
        parts.append(f'<path d="M{x0:.2f} {y0:.2f}L{x1:.2f} {y1:.2f}" stroke="#282828" stroke-width="1.2"/>')
    for (x, y), label in zip(shares(arrays["xy"]), arrays["labels"], strict=True):
        if 0 <= x <= 1 and 0 <= y <= 1:
            colour = CLASS_COLOURS[int(label) % len(CLASS_COLOURS)]
            at = f'cx="{SIDE * x:.2f}" cy="{SIDE * (1 - y):.2f}"'
            parts.append(f'<circle {at} r="3.2" fill="{colour}" stroke="white" stroke-width="0.6"/>')
    if "student" in arrays:
        parts.append(_image(tint(arrays["student"], 2 * SIDE), SIDE + GAP, SIDE))
    return _document(2 * SIDE + GAP, SIDE, title, parts)


def sheet(picture: Image.Image, title: str) -> str:
    """A sheet of images: pixels can't be drawn as lines, so they are inside as they are."""
    return _document(picture.width, picture.height, title, [_image(picture, 0, picture.width, picture.height)])


def curves(found: Mapping[str, Any], title: str) -> str:
    """The losses of a run, a small chart for each.

    Args:
        found: losses by stage and name, as "curves" of metrics.json.
        title: what stands above.
    """
    names, parts = curve_names([found]), []
    for number, (stage, name) in enumerate(names):
        pairs = zip(found[stage]["step"][-len(found[stage][name]) :], found[stage][name], strict=True)
        steps, values = zip(*((s, v) for s, v in pairs if math.isfinite(v)), strict=True)
        x0, y0 = number % 3 * WIDTH, number // 3 * HEIGHT
        low, high = min(values), max(values)
        across = [x0 + LEFT + (s - steps[0]) / max(1, steps[-1] - steps[0]) * (WIDTH - LEFT - 14) for s in steps]
        upward = [y0 + HEIGHT - BOTTOM - (v - low) / ((high - low) or 1) * (HEIGHT - BOTTOM - TOP - 8) for v in values]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, upward, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{CLASS_COLOURS[0]}" stroke-width="2"/>')
        parts.append(_text(x0 + LEFT, y0 + 18, f"{STAGES[stage]}: {name.replace('_', ' ')}", "start", bold=True))
        base = y0 + HEIGHT - BOTTOM
        parts.append(f'<path d="M{x0 + LEFT} {base + 4}H{x0 + WIDTH - 14}" stroke="#999999"/>')
        ends = ((upward[values.index(v)], v) for v in (low, high))
        parts += [_text(x0 + LEFT - 6, y + 4, f"{v:.3g}", "end") for y, v in ends]
        parts.append(_text(x0 + LEFT, base + 20, str(steps[0]), "middle"))
        parts.append(_text(x0 + WIDTH - 14, base + 20, str(steps[-1]), "end"))
    return _document(min(3, max(1, len(names))) * WIDTH, -(-max(1, len(names)) // 3) * HEIGHT, title, parts)


def _text(x: float, y: float, words: str, anchor: str, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(words)}</text>'


def _image(picture: Image.Image, x: float, width: float, height: float = 0) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    size = f'x="{x}" y="0" width="{width}" height="{height or width}"'
    return f'<image {size} href="data:image/png;base64,{data}"/>'


def _document(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    head += ' font-family="sans-serif" font-size="12" fill="#222222">'
    return "\n".join([head, f"<title>{escape(title)}</title>", *parts, "</svg>", ""])
