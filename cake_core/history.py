"""Where samples were at a few moments of their way: a thinned history that costs little and stays small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from . import runs
from .errors import CakeError

__all__ = ["History", "Recorder", "evenly"]

MOMENTS = 24  # at most, the first and the last included
SAMPLES = 200  # at most, spread evenly over all mini-batches
BYTES = 2**23  # at most, whatever the size of a sample


def evenly(n: int, most: int) -> Tensor:
    """At most so many of the positions 0..n-1, evenly spread."""
    return torch.linspace(0, n - 1, min(n, most), dtype=torch.float64).round().long()


@dataclass(frozen=True)
class History:
    """Some samples at some moments. Mini-batches take their steps at different times, so a moment is counted in the
    steps of a sample's own mini-batch.

    Attributes:
        index: positions (S,) of the samples in the `SyntheticSet`.
        steps: steps (K,) that the samples had taken: the first is 0, the last all of them.
        x: samples (K, S, *shape) in the teacher's input space; images in half precision, within its range.
    """

    index: Tensor
    steps: Tensor
    x: Tensor

    @staticmethod
    def path(folder: Path) -> Path:
        """The file in the folder of a run. Runs of older versions have none."""
        return folder / "history.safetensors"

    def save(self, folder: Path) -> None:
        """Writes it beside the samples of a run."""
        tensors = {k: getattr(self, k).cpu().contiguous() for k in ("index", "steps", "x")}
        with runs.whole(self.path(folder)) as part:
            save_file(tensors, part)

    @classmethod
    def load(cls, folder: Path) -> History | None:
        """Reads what `save` wrote; None where nothing was kept.

        Raises:
            CakeError: the file is damaged.
        """
        path = cls.path(folder)
        if not path.is_file():
            return None
        damaged = CakeError("The history of this run is damaged. Make the run again: its settings are still there.")
        try:
            found = load_file(path)
        except (OSError, SafetensorError):
            raise damaged from None
        if found.keys() != {"index", "steps", "x"} or found["x"].shape[:2] != (
            *found["steps"].shape,
            *found["index"].shape,
        ):
            raise damaged
        return cls(**found)


class Recorder:
    """Keeps the history of a run: it is shown the samples at the moments it `wants`, and at no others.

    It takes copies on the samples' own device and moves them to memory once a mini-batch has finished. Nothing is
    drawn at random, so a run makes the same samples with it and without it.

    Args:
        steps: steps T that each mini-batch takes.
        batches: mini-batches M of the whole run.
        shape: of one sample.
        delivered: samples that a mini-batch delivers for each one begun; the last of them is the one at the end.
    """

    def __init__(self, steps: int, batches: int, shape: tuple[int, ...], delivered: int = 1):
        self._batches, self._steps, self._delivered = batches, steps, delivered
        # Points keep their precision: they are small, and numbers rather than shades.
        self._type = torch.float32 if len(shape) == 1 else torch.float16
        size = self._type.itemsize * torch.Size(shape).numel()
        self._samples = max(1, min(SAMPLES, BYTES // (MOMENTS * size)))
        self._moments = evenly(steps + 1, max(2, min(MOMENTS, BYTES // (self._samples * size)))).tolist()
        self._due = frozenset(self._moments)
        self._parts: dict[int, tuple[Tensor, Tensor]] = {}  # by the first mini-batch: which samples, and their frames
        self._frames: list[Tensor] = []

    def wants(self, step: int) -> bool:
        """Whether this step of a mini-batch is one of the moments."""
        return step in self._due

    def add(self, step: int, x: Tensor, batches: Sequence[int]) -> None:
        """Takes the samples (M, B, G, *shape) of the mini-batches in flight after so many of their steps."""
        x = x.detach().flatten(1, 2)
        if step == 0:  # also where mini-batches begin anew because the memory was full
            n, first = x.shape[1], batches[0] * x.shape[1]
            chosen = evenly(self._batches * n, self._samples)
            self._chosen = chosen[(chosen >= first) & (chosen < first + len(batches) * n)]
            self._rows, self._frames = (self._chosen - first).to(x.device), []
        largest = torch.finfo(self._type).max
        self._frames.append(x.flatten(0, 1)[self._rows].clamp(-largest, largest).to(self._type))
        if step == self._steps:
            batch, place = self._chosen // x.shape[1], self._chosen % x.shape[1]
            index = ((batch + 1) * self._delivered - 1) * x.shape[1] + place
            self._parts[batches[0]] = index, torch.stack(self._frames).cpu()

    def part(self, first: int) -> dict[str, Tensor]:
        """What was kept of the mini-batches that begin with this one, once they have finished: "index" and "x"."""
        return dict(zip(("index", "x"), self._parts[first], strict=True))

    def restore(self, first: int, part: dict[str, Tensor]) -> None:
        """Takes back what `part` gave in a life before."""
        self._parts[first] = part["index"], part["x"]

    def history(self) -> History:
        """What was kept, once all mini-batches have finished."""
        index, frames = zip(*(self._parts[first] for first in sorted(self._parts)), strict=True)
        return History(torch.cat(index), torch.tensor(self._moments), torch.cat(frames, dim=1))
