"""Films of a run: opened again by the libraries that wrote them, and true to the frames."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from PIL import Image

from cake_core.errors import CakeError
from cake_core.film import MOST_PICTURES, film, thinned
from cake_core.frames import encode

SIDE, GAP = 8, 1


def run_of(channels: int, count: int, samples: int = 5, side: int = SIDE) -> tuple[bytes, list[bytes], np.ndarray]:
    """A scene, frames with random images, and the images as pixels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, samples, channels, side, side), dtype=np.uint8)
    classes = ["zero", "one", "two"]
    scene = encode({"type": "scene", "kind": "images", "classes": classes, "shape": (channels, side, side)})
    made = []
    for step, x in enumerate(images):
        header = {"step": step, "total": count, "batches": (0, 1), "sheet": 4, "in_flight": samples, "each": samples}
        arrays = {
            "images": x,
            "range": np.tile(np.array([0.25, 0.5], "<f4"), (samples, 1)),
            "ids": np.arange(samples, dtype="<u4"),
            "labels": np.arange(samples, dtype="<u2") % 3,
            "probabilities": np.full((samples, 3), 21845, "<u2"),
        }
        made.append(encode(header, arrays))
        made.append(encode({"stage": "student", "step": step}))  # those without images are left out
    return scene, made, np.round(255 * (0.25 + 0.25 * images / 255)).astype(int)


def opened(raw: bytes, kind: str) -> list[np.ndarray]:
    """All pictures, uint8 (H, W, 3)."""
    if kind == "mp4":
        with av.open(io.BytesIO(raw)) as container:
            return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    file, pictures = Image.open(io.BytesIO(raw)), []
    for k in range(file.n_frames):
        file.seek(k)
        pictures.append(np.asarray(file.convert("RGB")))
    return pictures


@pytest.mark.parametrize(("kind", "channels"), [("gif", 1), ("gif", 3), ("mp4", 1), ("mp4", 3)])
def test_the_sheet(kind, channels):
    scene, frames, pixels = run_of(channels, 6)
    pictures = opened(film(scene, frames, kind, look="pixels"), kind)
    rest = 5 if kind == "mp4" else 1  # the last one stays for a second
    assert len(pictures) == 6 - 1 + rest
    factor = round((300 if kind == "gif" else 480) / 17)  # two columns of eight, and a gap
    assert pictures[0].shape[1] == 17 * factor + 17 * factor % 2
    assert pictures[0].shape[0] > 17 * factor  # the caption
    # The middle of every pixel of the sample in the second row and column, as it was.
    centres = (np.arange(SIDE) + SIDE + GAP) * factor + factor // 2
    for step in (0, 3):
        got = pictures[step][np.ix_(centres, centres)].astype(int)
        expected = np.broadcast_to(pixels[step, 3].transpose(1, 2, 0), got.shape)
        if channels == 1:
            assert abs(got - expected).max() <= 12
        else:  # few colours, or a coarse grid of them: on the whole
            assert abs(got - expected).mean() <= 12
    assert not np.array_equal(pictures[0], pictures[1])
    caption = pictures[0][17 * factor :]
    assert caption.max() > 200  # something is written there


@pytest.mark.parametrize("kind", ["gif", "mp4"])
def test_one_sample(kind):
    scene, frames, _ = run_of(1, 5)
    pictures = opened(film(scene, frames, kind, sample=4, look="stretched"), kind)
    _, _, ends = run_of(1, 5)
    stretched = np.round((ends[2, 4, 0] / 255 - 0.25) / 0.25 * 255)
    factor = round((300 if kind == "gif" else 480) / SIDE)
    centres = np.arange(SIDE) * factor + factor // 2
    got = pictures[2][np.ix_(centres, centres)][:, :, 0]
    assert abs(got - stretched).max() <= 12
    # A place beyond those in flight counts on from the first.
    assert film(scene, frames, kind, sample=9, look="stretched") == film(
        scene, frames, kind, sample=4, look="stretched"
    )


def test_large_images_are_made_smaller_and_long_runs_thinned():
    scene, frames, _ = run_of(3, 3, samples=4, side=300)
    assert opened(film(scene, frames, "gif", look="pixels"), "gif")[0].shape[1] == 300
    scene, frames, _ = run_of(1, 400)
    made = film(scene, frames, "gif", look="pixels")
    assert Image.open(io.BytesIO(made)).n_frames == MOST_PICTURES
    assert len(made) < 2_000_000  # though every picture is noise
    assert thinned(list(range(10)), 4) == [0, 3, 6, 9]
    assert thinned([5], 4) == [5]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"kind": "avi"}, "A film is one of gif, mp4"),
        ({"look": "x-ray"}, "its look one of pixels, stretched"),
        ({"frames": []}, "There is nothing to make a film of yet"),
        ({"scene": None}, "Only a run that shows samples"),
        ({"scene": encode({"kind": "curves"})}, "Only a run that shows samples"),
        ({"scene": encode({"kind": "points"}), "sample": 0}, "made of images alone"),
    ],
)
def test_what_cannot_be_made_says_so(change, sentence):
    scene, frames, _ = run_of(1, 2)
    wanted = {"scene": scene, "frames": frames, "kind": "gif", "look": "pixels", **change}
    with pytest.raises(CakeError, match=sentence):
        film(**wanted)


def test_a_server_may_want_fewer_pictures():
    scene, frames, _ = run_of(1, 30)
    pictures = opened(film(scene, frames, "gif", look="pixels", most=7), "gif")
    assert len(pictures) == 7
