"""What goes into a synthesis, what can be seen while it runs, and what comes out of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .oracle import Oracle

__all__ = ["Problem", "Snapshot", "SyntheticSet"]


@dataclass(frozen=True)
class Problem:
    """What a method is asked to do.

    Attributes:
        teacher: whose knowledge is wanted.
        shape: shape of one input: (2,) or (channels, height, width).
        classes: number of classes C.
        batches: number of mini-batches M of the whole run (the step-size schedule spans them).
        device: where to compute.
        student: makes a fresh student from a seed, for methods that have one in their loop.
    """

    teacher: Oracle
    shape: tuple[int, ...]
    classes: int
    batches: int
    device: torch.device
    student: Callable[[int], nn.Module] | None = None


@dataclass(frozen=True)
class Snapshot:
    """One moment of a synthesis. Its tensors are copies that stay as they are while the run goes on.

    Attributes:
        step: steps done in the whole run, counting each step of all mini-batches in flight as one.
        total: steps that the whole run will take.
        batches: indices of the mini-batches in flight.
        x: their samples (M, N, *shape), in the teacher's input space.
        labels: steering labels (M, N).
        logits: the teacher's logits (M, N, C) before the latest move, or None where it was not asked.
        gradient: the latest gradient of the loss with respect to x, or None.
        losses: the unweighted loss terms by name, each (M,), before the latest move.
        weights: the weight of each term.
    """

    step: int
    total: int
    batches: tuple[int, ...]
    x: Tensor
    labels: Tensor
    logits: Tensor | None
    gradient: Tensor | None
    losses: dict[str, Tensor]
    weights: dict[str, float]


@dataclass(frozen=True)
class SyntheticSet:
    """Samples to teach a student with.

    Attributes:
        x: samples (N, *shape), normalised as the teacher's inputs are.
        y: the teacher's probabilities for them (N, C): the targets.
        labels: the steering labels (N,), never a target.
        batch: index of the mini-batch each sample comes from (N,).
        provenance: how it was made: method, settings, seed, calls, seconds.
    """

    x: Tensor
    y: Tensor
    labels: Tensor
    batch: Tensor
    provenance: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def join(cls, parts: Iterable[SyntheticSet], provenance: dict[str, Any]) -> SyntheticSet:
        """One set of several."""
        parts = list(parts)
        return cls(*(torch.cat([getattr(p, k) for p in parts]) for k in ("x", "y", "labels", "batch")), provenance)

    def to(self, device: torch.device) -> SyntheticSet:
        """The same samples on another device."""
        return SyntheticSet(*(getattr(self, k).to(device) for k in ("x", "y", "labels", "batch")), self.provenance)

    def take(self, index: Tensor) -> SyntheticSet:
        """The samples at some positions, with the same provenance."""
        return SyntheticSet(self.x[index], self.y[index], self.labels[index], self.batch[index], self.provenance)

    def digest(self) -> str:
        """SHA-256 of all samples, targets and labels, by which a copy is known to be whole."""
        found = hashlib.sha256()
        for k in ("x", "y", "labels", "batch"):
            found.update(getattr(self, k).cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return found.hexdigest()

    def save(self, path: Path) -> None:
        """Writes a safetensors file with the provenance in its header."""
        tensors = {k: getattr(self, k).cpu().contiguous() for k in ("x", "y", "labels", "batch")}
        save_file(tensors, path, metadata={"provenance": json.dumps(self.provenance)})

    @classmethod
    def load(cls, path: Path) -> SyntheticSet:
        """Reads what `save` wrote.

        Raises:
            SafetensorError, OSError: there is no such file, or it is damaged.
            ValueError: it holds something else.
        """
        with safe_open(path, "pt") as f:
            provenance = json.loads((f.metadata() or {}).get("provenance", "{}"))
            found = cls(*(f.get_tensor(k) for k in ("x", "y", "labels", "batch")), provenance)
        lengths = [t.shape[:1] for t in (found.x, found.y, found.labels, found.batch)]
        if lengths.count(found.x.shape[:1]) < 4 or not isinstance(provenance, dict) or found.y.dim() != 2:
            raise ValueError("it holds no samples with a target and a label each")
        return found
