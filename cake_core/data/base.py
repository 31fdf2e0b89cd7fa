"""What a data set is: raw examples, labels, and the normalisation that networks see."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import platformdirs
import torch
from torch import Tensor

from ..errors import CakeError

if TYPE_CHECKING:
    from . import DataConfig

__all__ = ["Dataset", "DatasetInfo", "data_folder"]


def data_folder() -> Path:
    """Where image sets lie: the environment variable CAKE_DATA_DIR, or a folder of this user."""
    return Path(os.environ.get("CAKE_DATA_DIR") or platformdirs.user_data_path("cake-lab") / "data")


@dataclass(frozen=True)
class DatasetInfo:
    """What is known about a data set before it is loaded.

    Attributes:
        name: as in the URL and on the command line.
        title: for people.
        kind: "points" (2-D, drawn on the fly) or "images".
        shape: shape of one example: (2,) or (channels, height, width).
        classes: names of the classes.
        source: where the data come from, with a reference.
        load: makes the `Dataset`.
        on_disk: whether loading needs no network now.
        examples: how many there are to train on, where that is known before they are loaded.
        like: a data set whose presets suit this one, which has none of its own.
        has_examples: whether there is anything to train and test on; without, the loaded parts have no rows.
        drawn: whether the settings' noise, number and seed say which points there are.
    """

    name: str
    title: str
    kind: Literal["points", "images"]
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    source: str
    load: Callable[[DataConfig], Dataset]
    on_disk: Callable[[], bool] = lambda: True
    examples: int | None = None
    like: str = ""
    has_examples: bool = True
    drawn: bool = False

    @property
    def preset_names(self) -> tuple[str, str]:
        """What presets are looked up by, the general one first: its kind, and its name or that of a set like it."""
        return self.kind, self.like or self.name


@dataclass(frozen=True)
class Dataset:
    """Examples for training and testing.

    Raw images are uint8 (N, C, H, W); raw points are float32 (N, 2). Networks see normalised float32 inputs, which
    `inputs` makes on the tensor's own device, so that a whole set stays small wherever it lives.

    Attributes:
        info: the description.
        train_x, train_y: raw training examples and int64 labels (N,).
        test_x, test_y: raw test examples and labels.
        mean, std: normalisation, shaped to broadcast against one example: per feature (2,) for points, per channel
            (C, 1, 1) of pixels in [0, 1] for images.
    """

    info: DatasetInfo
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    mean: Tensor
    std: Tensor

    def to(self, device: torch.device) -> Dataset:
        """The same data on another device."""
        return Dataset(self.info, *(getattr(self, f.name).to(device) for f in fields(self)[1:]))

    def part(self, images: Sequence[int] | None) -> Dataset:
        """The same data with some of the training examples alone: from the first named up to before the second.

        Raises:
            CakeError: there are no such examples.
        """
        if images is None:
            return self
        first, last = images
        if not 0 <= first < last <= len(self.train_x):
            raise CakeError(f"Training examples {first} to {last} are not there: there are {len(self.train_x):,}.")
        return replace(self, train_x=self.train_x[first:last], train_y=self.train_y[first:last])

    def inputs(self, raw: Tensor) -> Tensor:
        """Normalised float32 inputs: (raw / 255 - mean) / std for images, (raw - mean) / std for points."""
        x = raw.float() / 255 if raw.dtype == torch.uint8 else raw
        return (x - self.mean) / self.std

    def pixels(self, x: Tensor) -> Tensor:
        """The inverse for images: uint8 pixels of normalised inputs, clamped to what can be shown."""
        return ((x * self.std + self.mean).clamp(0, 1) * 255).round().to(torch.uint8)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of the raw examples and labels, training part first."""
        digest = hashlib.sha256()
        for tensor in (self.train_x, self.train_y, self.test_x, self.test_y):
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @cached_property
    def half_width(self) -> float:
        """Half the side of the square of the plane that is looked at: all training points, and a margin.

        Without points: three standard deviations, which is where nearly all of them would be.
        """
        if not len(self.train_x):
            return 3.0
        return round(1.15 * self.inputs(self.train_x).abs().max().item(), 1)
