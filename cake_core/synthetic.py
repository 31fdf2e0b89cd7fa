"""What goes into a synthesis, what can be seen while it runs, and what comes out of it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from . import devices
from .errors import CakeError

__all__ = ["Oracle", "Problem", "Snapshot", "SyntheticSet"]


class Oracle:
    """The teacher as a method sees it: a function from inputs to logits that counts how often it is asked.

    A call is one sample through the teacher. `forward_calls` counts samples that were answered, `gradient_calls`
    samples for which a gradient flowed back through the teacher to its input.

    The teacher itself is never touched: a module is copied, and the copy is frozen, in eval mode and on the device.

    Args:
        teacher: a module, or any function, from inputs (B, *shape) to logits (B, C).
        device: where to compute.
        gradient: whether gradients may be asked for (methods that declare no such access get none).
        precision: number format of the teacher's products, one of `devices.PRECISIONS`. Logits and gradients are
            float32 in any case.
        compiled: whether the teacher goes through torch.compile: minutes at first, then faster on a GPU.

    Attributes:
        network: the frozen copy.
    """

    def __init__(
        self,
        teacher: Callable[[Tensor], Tensor],
        device: torch.device | str = "cpu",
        gradient: bool = True,
        *,
        precision: str = "fp32",
        compiled: bool = False,
    ):
        self.forward_calls = 0
        self.gradient_calls = 0
        self.gradient, self.precision, self.device = gradient, precision, torch.device(device)
        self.network = frozen_copy(teacher, self.device) if isinstance(teacher, nn.Module) else teacher
        self._answer = torch.compile(self.network, dynamic=False) if compiled else self.network

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (B, C) of inputs (B, *shape)."""
        self.forward_calls += len(x)
        if x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)  # convolutions are up to twice as fast so
        with devices.autocast(self.device, self.precision):
            if not (self.gradient and torch.is_grad_enabled()):
                with torch.no_grad():
                    z = self._answer(x)
            else:
                z = self._answer(_CountGradient.apply(x, self))
        return z.float() if z.dtype == torch.bfloat16 else z


class _CountGradient(torch.autograd.Function):
    """Identity whose backward pass counts the samples that came by."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, oracle: Oracle) -> Tensor:
        ctx.oracle = oracle
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        ctx.oracle.gradient_calls += len(grad)
        return grad, None


def frozen_copy(network: nn.Module, device: torch.device) -> nn.Module:
    """A copy that answers and never changes: eval mode, no parameter gradients, channels-last on the device.

    Raises:
        CakeError: the module can't be copied.
    """
    try:
        copied = copy.deepcopy(network)
    except Exception as error:
        raise CakeError(
            f"This teacher can't be copied ({error}), and CAKE Lab never works on the original. "
            "Wrap it in a function that returns its logits, or remove what can't be copied (open files, locks)."
        ) from error
    return copied.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)


@dataclass(frozen=True)
class Problem:
    """What a method is asked to do.

    Attributes:
        teacher: whose knowledge is wanted.
        shape: shape of one input: (2,) or (channels, height, width).
        classes: number of classes C.
        batches: number of mini-batches M of the whole run (the step-size schedule spans them).
        device: where to compute.
    """

    teacher: Oracle
    shape: tuple[int, ...]
    classes: int
    batches: int
    device: torch.device


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

    def save(self, path: Path) -> None:
        """Writes a safetensors file with the provenance in its header."""
        tensors = {k: getattr(self, k).cpu().contiguous() for k in ("x", "y", "labels", "batch")}
        save_file(tensors, path, metadata={"provenance": json.dumps(self.provenance)})

    @classmethod
    def load(cls, path: Path) -> SyntheticSet:
        """Reads what `save` wrote."""
        with safe_open(path, "pt") as f:
            provenance = json.loads((f.metadata() or {}).get("provenance", "{}"))
            return cls(*(f.get_tensor(k) for k in ("x", "y", "labels", "batch")), provenance)
