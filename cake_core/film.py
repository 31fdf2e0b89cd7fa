"""Films and stills of a run: its frames as a GIF, an MP4, or a strip of pictures, in memory."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .errors import CakeError
from .frames import decode
from .plane_picture import moments_of, panes

__all__ = ["KINDS", "LOOKS", "film", "last_picture", "pixels", "strip"]

KINDS = {"gif": "image/gif", "mp4": "video/mp4"}
LOOKS = ("pixels", "stretched")
WIDTHS = {"gif": 300, "mp4": 480}  # pixels, about; small images are enlarged by whole numbers
SHADES = 32  # of grey in a GIF: noise, which can't be compressed, takes a quarter of the bytes that 256 would take
COLOURS = 128  # likewise
MOST_PICTURES = 180
MOST_VALUES = 6_000_000  # pixels of samples in one film, so that noise, which can't be compressed, stays small
RATES = {40: 5, 100: 10, MOST_PICTURES: 20}  # pictures per second, by how many there are at most: few are shown slower
REST = 1.0  # seconds that the last picture stays
WEBP_HEIGHT = 16_383  # pixels, at most
BACKGROUND, TEXT = 24, 235  # shades of grey
LINE = 18  # pixels

Moment = tuple[dict[str, Any], dict[str, np.ndarray]]


def film(
    scene: bytes | None,
    frames: Sequence[bytes],
    kind: str,
    *,
    sample: int | None = None,
    look: str,
    most: int = MOST_PICTURES,
) -> bytes:
    """A film of a run's samples, each picture with its step below it.

    Args:
        scene, frames: messages of the live view (see `cake_core.frames`).
        kind: "gif" or "mp4".
        sample: only this one, by its place among those in flight; None for the sheet.
        look: "pixels" or "stretched".
        most: pictures, at most `MOST_PICTURES`; longer runs are thinned out.

    Returns:
        The file.

    Raises:
        CakeError: there is nothing to see yet, or no such kind or look.
    """
    if kind not in KINDS or look not in LOOKS:
        raise CakeError(f"A film is one of {', '.join(KINDS)}, and its look one of {', '.join(LOOKS)}.")
    about, moments = _moments(scene, frames, sample)
    points = about["kind"] == "points"
    shown = 1 if sample is not None or points else max(h["sheet"] for h, _ in moments)
    pixels = math.prod(about["shape"]) if not points else MOST_VALUES // MOST_PICTURES
    chosen = thinned(moments, min(most, MOST_PICTURES, MOST_VALUES // (shown * pixels)))
    pictures = (_picture(about, moment, shown, sample, look, WIDTHS[kind]) for moment in chosen)
    rate = next(r for count, r in RATES.items() if len(chosen) <= count)
    return (_gif if kind == "gif" else _mp4)(pictures, len(chosen), rate)


def strip(scene: bytes | None, frames: Sequence[bytes], *, most: int = 40, width: int = 480) -> tuple[bytes, list[int]]:
    """All moments one below the other, for a view that moves through them.

    Args:
        scene, frames: messages of the live view.
        most: pictures at most.
        width: of a picture, about.

    Returns:
        A WebP file of n pictures of equal size, and their steps.

    Raises:
        CakeError: there is nothing to see.
    """
    about, moments = _moments(scene, frames, None)
    shown = max(h.get("sheet", 1) for h, _ in moments)

    def draw(moment: Moment) -> Image.Image:
        return _picture(about, moment, shown, None, "pixels", width, caption=False).convert("RGB")

    chosen = thinned(moments, min(most, WEBP_HEIGHT // draw(moments[0]).height))
    pictures = [draw(m) for m in chosen]
    tall = Image.new("RGB", (pictures[0].width, sum(p.height for p in pictures)))
    for n, picture in enumerate(pictures):
        tall.paste(picture, (0, n * picture.height))
    file = io.BytesIO()
    tall.save(file, "WEBP", quality=80, method=2)
    return file.getvalue(), [header["step"] for header, _ in chosen]


def last_picture(scene: bytes | None, frames: Sequence[bytes], width: int = 960) -> Image.Image:
    """The last moment of the samples.

    Raises:
        CakeError: there is nothing to see.
    """
    about, moments = _moments(scene, frames, None)
    return _picture(about, moments[-1], moments[-1][0].get("sheet", 1), None, "pixels", width, caption=False)


def _moments(scene: bytes | None, frames: Sequence[bytes], sample: int | None) -> tuple[dict[str, Any], list[Moment]]:
    """What the scene says (with its arrays under "arrays"), and the moments that show samples.

    Raises:
        CakeError: there are none.
    """
    header, arrays = decode(scene) if scene else ({}, {})
    if header.get("kind") not in ("images", "points"):
        raise CakeError("Only a run that shows samples can be made into a film. Wait until it shows some.")
    about, moments = {**header, "arrays": arrays}, list(map(decode, frames))
    if header["kind"] == "points":
        if sample is not None:
            raise CakeError("A film of a single sample is made of images alone.")
        moments = moments_of(moments)
    else:
        moments = [m for m in moments if "images" in m[1]]
    if sample is not None:
        moments = [m for m in moments if sample % m[0]["in_flight"] in m[1]["ids"]]
    if not moments:
        raise CakeError("There is nothing to make a film of yet. Choose a sample, press Play, and try again.")
    return about, moments


def thinned(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many items, evenly spread, with the first and the last."""
    count = min(len(items), max(2, most))
    return [items[round(i * (len(items) - 1) / max(1, count - 1))] for i in range(count)]


def pixels(images: np.ndarray, ends: np.ndarray, look: str) -> np.ndarray:
    """What is seen of a frame's images: uint8 (N, channels, H, W).

    Args:
        images: stretched, uint8 (N, channels, H, W).
        ends: what 0 and 255 stand for, (N, 2), where 0 is black and 1 is white.
        look: "stretched" leaves them as they are; "pixels" cuts off what is darker than black or brighter than white.
    """
    if look == "stretched":
        return images
    low, high = (e.reshape(-1, 1, 1, 1) for e in ends.astype(np.float64).T)
    return (255 * (low + (high - low) * images / 255)).clip(0, 255).round().astype(np.uint8)


def _picture(
    about: dict[str, Any],
    moment: Moment,
    shown: int,
    sample: int | None,
    look: str,
    width_wanted: int,
    caption: bool = True,
) -> Image.Image:
    """One moment: the sheet or the sample, enlarged, and its caption. In shades of grey where the images are."""
    header, arrays = moment
    if about["kind"] == "points":
        picture = panes(about["arrays"], about["half_width"], arrays, width_wanted // 2)
        return _captioned(picture, _caption(about, moment, slice(0), None) if caption else [])
    places = slice(header["sheet"])
    if sample is not None:
        at = int(np.flatnonzero(arrays["ids"] == sample % header["in_flight"])[0])
        places = slice(at, at + 1)
    seen = pixels(arrays["images"][places], arrays["range"][places], look)
    _, channels, height, width = seen.shape
    columns, gap = math.ceil(shown**0.5), max(1, round(width / 14))
    rows = math.ceil(shown / columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), BACKGROUND, np.uint8)
    for n, image in enumerate(seen):
        top, left = n // columns * (height + gap), n % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    picture = Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet)
    factor = round(width_wanted / picture.width) or width_wanted / picture.width
    size = [max(1, round(side * factor)) for side in picture.size]
    picture = picture.resize(size, Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX)
    return _captioned(picture, _caption(about, moment, places, sample) if caption else [])


def _captioned(picture: Image.Image, lines: Sequence[str]) -> Image.Image:
    """The picture with lines of text below it; both sides are even, as films want them."""
    height = picture.height + (LINE * len(lines) + 6 if lines else 0)
    canvas = Image.new(
        picture.mode, (picture.width + picture.width % 2, height + height % 2), _grey(picture, BACKGROUND)
    )
    canvas.paste(picture, (0, 0))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for k, line in enumerate(lines):
        draw.text((4, picture.height + 3 + LINE * k), line, _grey(picture, TEXT), font)
    return canvas


def _grey(picture: Image.Image, value: int) -> Any:
    return value if picture.mode == "L" else (value,) * 3


def _caption(about: dict[str, Any], moment: Moment, places: slice, sample: int | None) -> list[str]:
    header, arrays = moment
    first, last = (b + 1 for b in header["batches"])
    step = f"step {header['step']} of {header['total']}"
    if sample is None:
        return [f"{step}, mini-batch{f' {first}' if first == last else f'es {first} to {last}'}"]
    classes = about["classes"]
    words = f"told to become {classes[arrays['labels'][places][0]]}"
    if "probabilities" in arrays:
        chances = arrays["probabilities"][places][0]
        words += f", seen as {classes[chances.argmax()]} ({chances.max() / 655.35:.0f} %)"
    return [f"{step}, mini-batch {first + sample % header['in_flight'] // header['each']}", words]


def _gif(pictures: Iterator[Image.Image], count: int, rate: int) -> bytes:
    fast = Image.Quantize.FASTOCTREE
    shade = [round(round(v / 255 * (SHADES - 1)) * 255 / (SHADES - 1)) for v in range(256)]
    made = (p.point(shade) if p.mode == "L" else p.quantize(COLOURS, fast, dither=Image.Dither.NONE) for p in pictures)
    durations = [1000 // rate] * (count - 1) + [round(1000 * REST)]
    file = io.BytesIO()
    next(made).save(file, "GIF", save_all=True, append_images=made, duration=durations, loop=0)
    return file.getvalue()


def _mp4(pictures: Iterator[Image.Image], count: int, rate: int) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        # 4:2:0, because that is what every player shows; one thread, because runs compute beside it.
        stream = container.add_stream("libx264", rate, options={"crf": "20", "preset": "veryfast", "threads": "1"})
        stream.pix_fmt = "yuv420p"
        for k, picture in enumerate(pictures):
            stream.width, stream.height = picture.size
            for _ in range(1 if k < count - 1 else round(rate * REST)):
                container.mux(stream.encode(av.VideoFrame.from_image(picture.convert("RGB"))))
        container.mux(stream.encode())
    return file.getvalue()
