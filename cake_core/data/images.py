"""Image data sets: scikit-learn's digits (no network), MNIST and Fashion-MNIST (downloaded by torchvision)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..errors import CakeError
from .base import Dataset, DatasetInfo, data_folder

if TYPE_CHECKING:
    from . import DataConfig

__all__ = ["INFOS", "download"]

# The last 500 of the 1,797 images. Neighbours in this set are alike, so a shuffled split would flatter every model.
DIGITS_TEST = 500


def _load_digits(config: DataConfig) -> Dataset:
    from sklearn.datasets import load_digits

    raw = load_digits()
    x = torch.as_tensor(raw.images).mul(255 / 16).round().to(torch.uint8)[:, None]  # (1797, 1, 8, 8), were 0..16
    y = torch.as_tensor(raw.target, dtype=torch.int64)
    split = len(x) - DIGITS_TEST
    pixels = x[:split].float() / 255
    return Dataset(
        DIGITS, x[:split], y[:split], x[split:], y[split:], mean=_channels(pixels.mean()), std=_channels(pixels.std())
    )


def _channels(value: float | torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(value).view(1, 1, 1)  # (C, 1, 1) with C = 1


DIGITS = DatasetInfo(
    name="digits",
    title="Digits (8x8)",
    kind="images",
    shape=(1, 8, 8),
    classes=tuple("0123456789"),
    source="Optical recognition of handwritten digits (UCI), in scikit-learn as load_digits",
    load=_load_digits,
)


class TorchvisionSet:
    """One of torchvision's MNIST-like sets: where it lies, how it is fetched and normalised."""

    def __init__(self, name, title, cls, classes, source, *, megabytes: float, mean: float, std: float):
        self.cls, self.bytes, self.mean, self.std = cls, int(megabytes * 1e6), mean, std
        self.info = DatasetInfo(name, title, "images", (1, 28, 28), classes, source, self.load, self.on_disk)

    @property
    def folder(self) -> Path:
        return data_folder() / self.cls / "raw"

    def on_disk(self) -> bool:
        """Whether all of its files are here."""
        parts = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
        return all((self.folder / f"{part}-ubyte").is_file() for part in parts)

    def load(self, config: DataConfig) -> Dataset:
        """The set, downloaded first where it is missing."""
        for _ in self.download():
            pass
        try:
            train, test = self._open(train=True), self._open(train=False)
        except (RuntimeError, ValueError, OSError) as error:
            raise CakeError(
                f"The files of {self.info.title} in {self.folder} can't be read ({error}). "
                "Delete that folder and try again; it will be downloaded afresh."
            ) from None
        parts = (train.data[:, None], train.targets, test.data[:, None], test.targets)  # images (N, 1, 28, 28)
        return Dataset(self.info, *parts, mean=_channels(self.mean), std=_channels(self.std))

    def download(self) -> Iterator[float]:
        """Fetches missing files through torchvision in a thread; yields the share done, judged by bytes on disk."""
        if self.on_disk():
            return
        failure: list[Exception] = []

        def fetch() -> None:
            try:
                self._open(train=True, download=True)
            except Exception as error:  # whatever went wrong, it is told below in one sentence
                failure.append(error)

        thread = threading.Thread(target=fetch, daemon=True)
        thread.start()
        while thread.is_alive():
            done = sum(f.stat().st_size for f in self.folder.glob("*.gz"))
            yield min(done / self.bytes, 0.99)
            time.sleep(0.1)
        if failure:
            raise CakeError(
                f"{self.info.title} is not on this machine and could not be downloaded: is there a network? "
                f"Connect once, or put its four files into {self.folder}, or choose 'digits', which needs no download."
            ) from failure[0]

    def _open(self, train: bool, download: bool = False):
        # Imported here: torchvision takes over a second to import, and not every run needs it.
        from torchvision import datasets

        return getattr(datasets, self.cls)(str(data_folder()), train=train, download=download)


_CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

_DOWNLOADS = {
    "mnist": TorchvisionSet(
        "mnist",
        "MNIST",
        "MNIST",
        tuple("0123456789"),
        "LeCun, Cortes and Burges 1998; downloaded by torchvision",
        megabytes=11.6,
        mean=0.1307,
        std=0.3081,
    ),
    "fashion-mnist": TorchvisionSet(
        "fashion-mnist",
        "Fashion-MNIST",
        "FashionMNIST",
        _CLOTHES,
        "Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747; downloaded by torchvision",
        megabytes=30.9,
        mean=0.2860,
        std=0.3530,
    ),
}

INFOS = (DIGITS, *(d.info for d in _DOWNLOADS.values()))


def download(name: str) -> Iterator[float]:
    """Fetches an image set that is not on disk yet; yields the share done from 0 to 1, nothing where it is there.

    Raises:
        CakeError: there is no network.
    """
    if name in _DOWNLOADS:
        yield from _DOWNLOADS[name].download()
