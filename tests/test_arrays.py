"""Image sets of one's own: what can be read is read, and what can't is a sentence."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from cake_core.data import arrays
from cake_core.errors import CakeError


def write(folder: Path, *, images=None, labels=None, test_images=None, test_labels=None) -> Path:
    """A set of 20 training and 10 test images of three classes, or what is given instead."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    images = rng.integers(0, 256, (20, 8, 6, 3), np.uint8) if images is None else images
    labels = np.arange(20) % 3 if labels is None else labels
    test_images = images[:10] if test_images is None else test_images
    test_labels = labels[:10] if test_labels is None else test_labels
    np.savez(folder / "train.npz", images=images, labels=labels)
    np.savez_compressed(folder / "test.npz", images=test_images, labels=test_labels)
    return folder


def test_colour_images_come_as_channels_first(tmp_path):
    folder = write(tmp_path / "mine")
    assert arrays.describe(folder) == ((3, 8, 6), ("0", "1", "2"))
    x, y = arrays.read(folder, "train")
    raw = np.load(folder / "train.npz")["images"]
    assert x.dtype == torch.uint8
    assert torch.equal(x[4, :, 2, 5], torch.from_numpy(raw[4, 2, 5]))
    assert y.dtype == torch.int64
    assert y.tolist() == [i % 3 for i in range(20)]


@pytest.mark.parametrize("shape", [(20, 8, 8), (20, 8, 8, 1)])
def test_grey_images(tmp_path, shape):
    folder = write(tmp_path / "grey", images=np.full(shape, 7, np.uint8))
    assert arrays.describe(folder)[0] == (1, 8, 8)
    assert arrays.read(folder, "test")[0].shape == (10, 1, 8, 8)


def test_normalisation_against_numpy():
    x = torch.randint(0, 256, (50, 3, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = arrays.normalisation(x)
    pixels = x.numpy() / 255
    np.testing.assert_allclose(mean.flatten(), pixels.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(std.flatten(), pixels.std(axis=(0, 2, 3)), rtol=1e-6)
    assert (arrays.normalisation(torch.zeros(2, 1, 4, 4, dtype=torch.uint8))[1] > 0).all()


def test_discovered_sets_load_and_are_normalised(tmp_path, monkeypatch):
    from cake_core import data

    folder = write(tmp_path / "my-shapes")
    (folder / "classes.txt").write_text("round\nflat\n\nsharp\n")
    write(tmp_path / "broken", labels=np.zeros(20, int))
    write(tmp_path / "Bad Name")
    (tmp_path / "unrelated").mkdir()
    (found,), refused = arrays.discover(tmp_path)
    assert (found.name, found.kind, found.shape) == ("my-shapes", "images", (3, 8, 6))
    assert found.classes == ("round", "flat", "sharp")
    assert "at least two classes" in refused["broken"]
    assert "rename 'Bad Name'" in refused["Bad Name"]

    monkeypatch.setitem(data.DATASETS, "my-shapes", found)
    loaded = found.load(data.DataConfig.model_construct(name="my-shapes"))
    x = loaded.inputs(loaded.train_x)
    assert x.mean(dim=(0, 2, 3)).abs().max() < 1e-5
    assert (x.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-2
    monkeypatch.setitem(data.REFUSED, "broken", refused["broken"])
    with pytest.raises(CakeError, match="'broken' can't be used. broken: all training labels are the same"):
        data.info("broken")


def test_no_folder_is_no_set(tmp_path):
    assert arrays.discover(tmp_path / "nowhere") == ([], {})


WRONG = {
    "floats": ({"images": np.zeros((20, 8, 8))}, "images must be uint8 of shape"),
    "two channels": ({"images": np.zeros((20, 8, 8, 2), np.uint8)}, "images must be uint8 of shape"),
    "flat": ({"images": np.zeros((20, 64), np.uint8)}, "images must be uint8 of shape"),
    "tiny": ({"images": np.zeros((20, 2, 8), np.uint8)}, "images are 2 x 8 pixels; 4 to 512"),
    "too few labels": ({"labels": np.arange(19)}, "labels must be 20 whole numbers"),
    "names for labels": ({"labels": np.array(["a", "b"] * 10)}, "labels must be 20 whole numbers"),
    "not a number": ({"labels": np.full(20, np.nan)}, "labels must be 20 whole numbers"),
    "objects": ({"labels": np.array([None] * 20)}, "labels must be 20 whole numbers"),
    "below zero": ({"labels": np.arange(20) - 1}, "labels are counted from 0; -1 is below it"),
    "one class": ({"labels": np.full(20, 3)}, "needs at least two classes"),
    "huge class": ({"labels": np.arange(20) * 1000}, "labels go up to 19000; at most 1000"),
    "other size": ({"test_images": np.zeros((10, 9, 9), np.uint8)}, "training images are 3 x 8 x 6, test images 1 x 9"),
    "unknown class": ({"test_labels": np.full(10, 5)}, "class 5 is in test.npz but not in train.npz"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_can_not_be_used_is_a_sentence(tmp_path, what):
    values, sentence = WRONG[what]
    folder = write(tmp_path / "mine", **values)
    with pytest.raises(CakeError, match=sentence) as caught:
        arrays.describe(folder)
    assert str(caught.value).endswith(".")


def test_too_few_names(tmp_path):
    folder = write(tmp_path / "mine")
    (folder / "classes.txt").write_text("only one")
    with pytest.raises(CakeError, match="classes.txt names 1 classes, the labels need 3"):
        arrays.describe(folder)


def header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"shape": shape, "fortran_order": False, "descr": dtype})
    return out.getvalue()


def test_a_bomb_is_refused_by_what_it_claims(tmp_path):
    """A file of a few kB that claims 10^12 bytes: refused before anything is unpacked."""
    folder = write(tmp_path / "mine")
    with zipfile.ZipFile(folder / "train.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", header((10**6, 1000, 1000)) + bytes(10**6))
        archive.writestr("labels.npy", header((10**6,), "<i8") + bytes(8))
    with pytest.raises(CakeError, match="the images take 931.3 GiB; at most 4 GiB can be read"):
        arrays.describe(folder)


@pytest.mark.parametrize("content", [b"", b"not a zip", "truncated", "missing array", "garbage inside"])
def test_damaged_files(tmp_path, content):
    folder = write(tmp_path / "mine")
    path = folder / "train.npz"
    if content == "truncated":
        path.write_bytes(path.read_bytes()[:-40])
    elif content == "missing array":
        np.savez(path, pictures=np.zeros(3))
    elif content == "garbage inside":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", b"garbage")
            archive.writestr("labels.npy", b"garbage")
    else:
        path.write_bytes(content)
    with pytest.raises(CakeError, match=r"mine/train\.npz"):
        arrays.describe(folder)


def test_pickles_are_never_opened(tmp_path):
    folder = write(tmp_path / "mine")
    np.savez(folder / "train.npz", images=np.zeros((20, 8, 8), np.uint8), labels=np.array([object()] * 20))
    with pytest.raises(CakeError, match="whole numbers"):
        arrays.read(folder, "train")
