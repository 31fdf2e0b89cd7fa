"""Image data sets: scikit-learn's digits (no network), and those that torchvision downloads."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..errors import CakeError
from . import arrays
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
    """One of torchvision's sets: where it lies, how it is fetched and normalised.

    `<CAKE_DATA_DIR>/<name>/{train,test}.npz` goes before torchvision's own files, where it is there.

    Args:
        name, title, classes, source: see `DatasetInfo`.
        cls: its class in torchvision.datasets.
        shape: of one image.
        files: what is on disk when it is complete, below `folder`.
        megabytes: of the download, for its progress.
        mean, std: normalisation; taken from the training images where they are left out.
    """

    def __init__(
        self,
        name: str,
        title: str,
        cls: str,
        shape: tuple[int, int, int],
        classes: tuple[str, ...],
        source: str,
        *,
        files: tuple[str, ...],
        megabytes: float,
        mean: float | None = None,
        std: float | None = None,
    ):
        self.cls, self.files, self.bytes, self.mean, self.std = cls, files, int(megabytes * 1e6), mean, std
        self.info = DatasetInfo(
            name, title, "images", shape, classes, f"{source}; downloaded by torchvision", self.load, self.on_disk
        )

    @property
    def folder(self) -> Path:
        """Where torchvision keeps it."""
        return data_folder() / self.cls / ("raw" if "MNIST" in self.cls else "")

    def on_disk(self) -> bool:
        """Whether all of its files are here."""
        return arrays.is_here(self._own) or all((self.folder / name).is_file() for name in self.files)

    def load(self, config: DataConfig) -> Dataset:
        """The set, downloaded first where it is missing."""
        for _ in self.download():
            pass
        if arrays.is_here(self._own):
            train, test = arrays.read(self._own, "train"), arrays.read(self._own, "test")
            if tuple(train[0].shape[1:]) != self.info.shape:
                raise CakeError(f"The images in {self._own} are not {self.info.shape} as those of {self.info.title}.")
        else:
            try:
                train, test = self._parts()
            except CakeError:
                if not self._fetched_again():
                    raise
                train, test = self._parts()
        if self.mean is None:
            mean, std = arrays.normalisation(train[0])
        else:
            mean, std = _channels(self.mean), _channels(self.std)
        return Dataset(self.info, *train, *test, mean, std)

    def download(self) -> Iterator[float]:
        """Fetches missing files through torchvision in a thread; yields the share done, judged by bytes on disk."""
        if self.on_disk():
            return
        failure: list[Exception] = []

        def fetch() -> None:
            try:
                for train in (True, False):
                    self._open(train, download=True)
            except Exception as error:  # whatever went wrong, it is told below in one sentence
                failure.append(error)

        thread = threading.Thread(target=fetch, daemon=True)
        thread.start()
        while thread.is_alive():
            done = sum(f.stat().st_size for f in self.folder.glob("*") if f.suffix in (".gz", ".mat", ".bz2"))
            yield min(done / self.bytes, 0.99)
            time.sleep(0.1)
        if failure:
            raise CakeError(
                f"{self.info.title} is not on this machine and could not be downloaded: is there a network? "
                f"Connect once, or put its files ({', '.join(self.files)}) into {self.folder}, "
                "or choose 'digits', which needs no download."
            ) from failure[0]

    def _parts(self) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        """Training and test part.

        Raises:
            CakeError: a file is cut off or damaged.
        """
        try:
            return self._part(train=True), self._part(train=False)
        except Exception as error:  # damaged files make torchvision fail in any way, some by assertions
            raise CakeError(
                f"The files of {self.info.title} in {self.folder} can't be read ({error}). "
                "Delete that folder and try again; it will be downloaded afresh."
            ) from None

    def _fetched_again(self) -> bool:
        """Whether files that can't be read could be had afresh; where not, those that are there stay."""
        aside = self.folder.with_name(f"{self.folder.name}-damaged-{secrets.token_hex(4)}")
        try:
            self.folder.rename(aside)
        except OSError:  # it belongs to others
            return False
        try:
            for _ in self.download():
                pass
        except CakeError:
            shutil.rmtree(self.folder, ignore_errors=True)
            aside.rename(self.folder)
            return False
        shutil.rmtree(aside, ignore_errors=True)
        return True

    @property
    def _own(self) -> Path:
        return data_folder() / self.info.name

    def _part(self, train: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (N, C, H, W) uint8 and labels (N,) int64, whatever torchvision's class has made of them."""
        raw = self._open(train)
        x = torch.as_tensor(raw.data)
        if x.dim() == 3:
            x = x[:, None]
        elif tuple(x.shape[1:]) != self.info.shape:
            x = x.permute(0, 3, 1, 2).contiguous()
        labels = raw.labels if hasattr(raw, "labels") else raw.targets
        return x, torch.as_tensor(labels, dtype=torch.int64)

    def _open(self, train: bool, download: bool = False):
        # Imported here: torchvision takes over a second to import, and not every run needs it.
        from torchvision import datasets

        root = data_folder() if "MNIST" in self.cls else self.folder
        if download:
            root.mkdir(parents=True, exist_ok=True)
        part = {"split": "train" if train else "test"} if self.cls == "SVHN" else {"train": train}
        return getattr(datasets, self.cls)(str(root), **part, download=download)


_DIGITS = tuple("0123456789")
_CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

_IDX = tuple(f"{part}-ubyte" for part in (
    "train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1",
))  # fmt: skip
_PHOTOS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_BATCHES = tuple(f"cifar-10-batches-py/{name}" for name in (
    *(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta",
))  # fmt: skip

_DOWNLOADS = {
    one.info.name: one
    for one in (
        TorchvisionSet(
            "mnist", "MNIST", "MNIST", (1, 28, 28), _DIGITS, "LeCun, Cortes and Burges 1998",
            files=_IDX, megabytes=11.6, mean=0.1307, std=0.3081,
        ),
        TorchvisionSet(
            "fashion-mnist", "Fashion-MNIST", "FashionMNIST", (1, 28, 28), _CLOTHES,
            "Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747",
            files=_IDX, megabytes=30.9, mean=0.2860, std=0.3530,
        ),
        TorchvisionSet(
            "usps", "USPS", "USPS", (1, 16, 16), _DIGITS, "Hull 1994, digits from envelopes",
            files=("usps.bz2", "usps.t.bz2"), megabytes=8.4,
        ),
        TorchvisionSet(
            "svhn", "SVHN", "SVHN", (3, 32, 32), _DIGITS, "Netzer et al. 2011, house numbers",
            files=("train_32x32.mat", "test_32x32.mat"), megabytes=246,
        ),
        TorchvisionSet(
            "cifar10", "CIFAR-10", "CIFAR10", (3, 32, 32), _PHOTOS, "Krizhevsky 2009, small photos",
            files=_BATCHES, megabytes=170.5,
        ),
    )
}  # fmt: skip

INFOS = (DIGITS, *(d.info for d in _DOWNLOADS.values()))


def download(name: str) -> Iterator[float]:
    """Fetches an image set that is not on disk yet; yields the share done from 0 to 1, nothing where it is there.

    Raises:
        CakeError: there is no network.
    """
    if name in _DOWNLOADS:
        yield from _DOWNLOADS[name].download()
