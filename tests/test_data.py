"""Data sets: the right shapes, standardised, the same for the same seed, and a sentence when they are not there."""

from __future__ import annotations

import bz2
import pickle

import numpy as np
import pytest
import torch
from scipy.io import savemat

from cake_core import data
from cake_core.data import DATASETS, DataConfig
from cake_core.errors import CakeError

POINTS = [name for name, d in DATASETS.items() if d.kind == "points"]


@pytest.mark.parametrize("name", POINTS)
def test_points_are_standardised_and_reproducible(name):
    config = DataConfig(name=name, points=400)
    first, again, other = data.load(config), data.load(config), data.load(config.replace(seed=1))
    x = first.inputs(first.train_x)
    assert x.shape == (400, 2)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x.mean(dim=0), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(x.std(dim=0, correction=0), torch.ones(2), atol=1e-4, rtol=0)
    assert set(first.train_y.tolist()) == set(range(len(first.info.classes)))
    assert torch.equal(first.train_x, again.train_x)
    assert not torch.equal(first.train_x, other.train_x)
    assert not torch.equal(first.train_x, first.test_x)  # the test points are a fresh draw
    assert first.half_width > x.abs().max()


@pytest.mark.parametrize("name", POINTS)
def test_noise_spreads_points(name):
    def spread(noise: float) -> np.ndarray:
        calm = data.load(DataConfig(name=name, points=1000, noise=0.0)).train_x
        return (data.load(DataConfig(name=name, points=1000, noise=noise)).train_x - calm).norm(dim=1).mean()

    if name == "moons" or name == "circles":  # scikit-learn draws the noise after the points, so they can be paired
        assert spread(0.1) < spread(0.3)
    calm, noisy = (data.load(DataConfig(name=name, points=2000, noise=n)).train_x.std() for n in (0.01, 1.0))
    assert noisy > calm


def test_spirals_and_checkerboard_have_the_shape_that_they_are_named_for():
    board = data.load(DataConfig(name="checkerboard", points=2000, noise=0.0))
    cell = board.train_x.floor().long().sum(dim=1) % 2
    assert torch.equal(cell, board.train_y)
    spiral = data.load(DataConfig(name="spirals", points=2000, noise=0.0))
    radius = spiral.train_x.norm(dim=1)
    angle = torch.atan2(spiral.train_x[:, 1], spiral.train_x[:, 0])
    turned = (3 * torch.pi * radius + torch.pi * spiral.train_y - angle) / (2 * torch.pi)
    torch.testing.assert_close(turned, turned.round(), atol=1e-3, rtol=0)  # the angle grows with the radius


def test_digits_need_no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("CAKE_DATA_DIR", str(tmp_path))
    digits = data.load(DataConfig(name="digits"))
    assert digits.train_x.shape == (1297, 1, 8, 8)
    assert digits.test_x.shape == (500, 1, 8, 8)
    assert digits.train_x.dtype == torch.uint8
    x = digits.inputs(digits.train_x)
    assert x.mean().abs() < 1e-4
    assert (x.std() - 1).abs() < 1e-3
    assert torch.equal(digits.pixels(x), digits.train_x)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_a_missing_set_is_a_sentence_and_the_others_still_work(name, monkeypatch, tmp_path):
    monkeypatch.setenv("CAKE_DATA_DIR", str(tmp_path))
    # A machine without network: whatever torchvision asks for is refused.
    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", _no_network)
    assert not data.info(name).on_disk()
    with pytest.raises(CakeError, match="could not be downloaded: is there a network") as caught:
        data.load(DataConfig(name=name))
    assert str(tmp_path) in str(caught.value)
    assert "choose 'digits'" in str(caught.value)
    assert len(data.load(DataConfig(name="digits")).test_x) == 500


def _no_network(*args, **kwargs):
    raise OSError("Name or service not known")


def test_download_reports_its_progress(monkeypatch, tmp_path):
    """The download itself is torchvision's; we watch the files grow."""
    import time

    from cake_core.data import images

    monkeypatch.setenv("CAKE_DATA_DIR", str(tmp_path))
    mnist = images._DOWNLOADS["mnist"]

    def slow_fetch(train, download=False):
        mnist.folder.mkdir(parents=True, exist_ok=True)
        with (mnist.folder / f"{'train' if train else 't10k'}-images-idx3-ubyte.gz").open("wb") as f:
            for _ in range(3):
                f.write(bytes(2_000_000))
                f.flush()
                time.sleep(0.12)

    monkeypatch.setattr(mnist, "_open", slow_fetch)
    shares = list(mnist.download())
    assert shares == sorted(shares)
    assert shares[-1] > 0.5


def test_a_damaged_file_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("CAKE_DATA_DIR", str(tmp_path))
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{part}-ubyte").write_bytes(b"\x00\x00\x08\x03cut short")
    with pytest.raises(CakeError, match="can't be read .* Delete that folder and try again"):
        data.load(DataConfig(name="mnist"))


def _fake_usps(folder):
    for name, count in (("usps.bz2", 12), ("usps.t.bz2", 5)):
        # libsvm's format: a label from 1, then index:value with values from -1 to 1
        lines = [f"{n % 10 + 1} " + " ".join(f"{k + 1}:{-1 if k else 1}" for k in range(256)) for n in range(count)]
        (folder / name).write_bytes(bz2.compress("\n".join(lines).encode()))


def _fake_svhn(folder):
    for name, count in (("train_32x32.mat", 12), ("test_32x32.mat", 5)):
        x = np.zeros((32, 32, 3, count), np.uint8)
        x[0, 0, 2] = 255
        savemat(folder / name, {"X": x, "y": np.arange(count)[:, None] % 10 + 1})  # 10 stands for the digit 0


def _fake_cifar10(folder):
    inside = folder / "cifar-10-batches-py"
    inside.mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        x = np.zeros((3, 3, 32, 32), np.uint8)
        x[:, 2, 0, 0] = 255
        (inside / name).write_bytes(pickle.dumps({"data": x.reshape(3, -1), "labels": [0, 1, 2]}))
    (inside / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))


@pytest.mark.parametrize(
    ("name", "cls", "fake", "counts"),
    [
        ("usps", "USPS", _fake_usps, (12, 5)),
        ("svhn", "SVHN", _fake_svhn, (12, 5)),
        ("cifar10", "CIFAR10", _fake_cifar10, (15, 3)),
    ],
)
def test_torchvisions_other_sets(name, cls, fake, counts, monkeypatch, tmp_path):
    """Small files in the layout that torchvision expects, without their checksums."""
    import torchvision

    monkeypatch.setenv("CAKE_DATA_DIR", str(tmp_path))
    assert not data.info(name).on_disk()
    (tmp_path / cls).mkdir()
    fake(tmp_path / cls)
    assert data.info(name).on_disk()
    for module in (torchvision.datasets.svhn, torchvision.datasets.cifar, torchvision.datasets.usps):
        for function in ("check_integrity", "download_url"):
            if hasattr(module, function):
                monkeypatch.setattr(module, function, lambda *args, **kwargs: True)
    loaded = data.load(DataConfig(name=name))
    assert (len(loaded.train_x), len(loaded.test_x)) == counts
    assert loaded.train_x.dtype == torch.uint8
    assert tuple(loaded.train_x.shape[1:]) == loaded.info.shape
    assert loaded.train_x[0, -1, 0, 0] == 255  # the last channel's first pixel is the bright one
    assert loaded.train_x[0, -1, 0, 1] == 0
    assert set(loaded.train_y.tolist()) <= set(range(10))
    assert loaded.mean.shape == (loaded.info.shape[0], 1, 1)


def test_arrays_go_before_torchvisions_files(monkeypatch, tmp_path):
    monkeypatch.setenv("CAKE_DATA_DIR", str(tmp_path))
    (tmp_path / "cifar10").mkdir()
    images, labels = np.zeros((20, 32, 32, 3), np.uint8), np.arange(20) % 10
    for part in ("train", "test"):
        np.savez(tmp_path / "cifar10" / f"{part}.npz", images=images, labels=labels)
    assert data.info("cifar-10").on_disk()
    assert data.load(DataConfig(name="cifar10")).train_x.shape == (20, 3, 32, 32)
    for part in ("train", "test"):
        np.savez(tmp_path / "cifar10" / f"{part}.npz", images=images[:, :16], labels=labels)
    with pytest.raises(CakeError, match="are not .3, 32, 32. as those of CIFAR-10"):
        data.load(DataConfig(name="cifar10"))


@pytest.mark.data
def test_mnist_from_the_data_folder(mnist_folder):
    mnist = data.load(DataConfig(name="mnist"))
    assert mnist.train_x.shape == (60_000, 1, 28, 28)
    assert mnist.test_x.shape == (10_000, 1, 28, 28)
    x = mnist.inputs(mnist.train_x)
    assert x.mean().abs() < 1e-3
    assert (x.std() - 1).abs() < 1e-3


def test_names():
    assert data.info("two-moons").name == "moons"
    with pytest.raises(CakeError, match="There is no data set 'mars'. Choose one of: moons"):
        data.info("mars")


def test_a_part_of_the_training_examples():
    whole = data.load(data.DataConfig(name="digits"))
    some = whole.part([100, 300])
    assert torch.equal(some.train_x, whole.train_x[100:300])
    assert torch.equal(some.train_y, whole.train_y[100:300])
    assert len(some.test_x) == len(whole.test_x)
    assert whole.part(None) is whole
    with pytest.raises(CakeError, match="100 to 2000 are not there: there are 1,297"):
        whole.part([100, 2000])
