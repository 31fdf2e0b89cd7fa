"""CUDA graphs: a step that is always the same work is recorded once and played again, without Python.

A step of a small network is a hundred short kernels; launching them one by one takes longer than they run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from . import devices
from .methods import Method
from .rng import Streams

__all__ = ["Stepper", "Update", "suits"]

WARM_UP = 3  # steps made as usual before one is recorded: libraries set themselves up, algorithms are chosen


def suits(method: Method, device: torch.device) -> bool:
    """Whether the steps of a method can be recorded: on CUDA, and the same work on the same tensors each time."""
    return device.type == "cuda" and method.repeats


class Stepper:
    """Makes the steps of the mini-batches in flight, by playing a recording where that is possible.

    A recording holds the settings of the moment it was made, so a change of them makes a new one. What a recorded step
    writes is written over by the next one.

    Args:
        method, state, rng: what steps.
        recorded: whether to record at all.
    """

    def __init__(self, method: Method, state: Any, rng: Streams, recorded: bool):
        self.method, self.state, self.rng, self.recorded = method, state, rng, recorded
        self._forget()

    def __call__(self) -> dict[str, Tensor]:
        """One step; returns the loss terms by name."""
        if not self.recorded:
            return self.method.step(self.state, self.rng)
        if self.method.config is not self._of:
            self._forget()
        if self._usual < WARM_UP:
            self._usual += 1
            return _aside(self.state.x.device, lambda: self.method.step(self.state, self.rng))
        if self._graph is None:
            self._record()
        self._graph.replay()
        self.state.t += 1
        teacher = self.state.problem.teacher
        teacher.forward_calls += self._calls[0]
        teacher.gradient_calls += self._calls[1]
        return self._losses

    def _forget(self) -> None:
        self._of, self._usual = self.method.config, 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._losses: dict[str, Tensor] = {}
        self._calls = (0, 0)

    def _record(self) -> None:
        """Records one step without making it: the calls that Python counts meanwhile are those of each replay."""
        teacher = self.state.problem.teacher
        before = teacher.forward_calls, teacher.gradient_calls
        x, t = self.state.x, self.state.t
        devices.free_unused(x.device)  # a recording has memory of its own
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._losses = self.method.step(self.state, self.rng)
        if self.state.x.data_ptr() != x.data_ptr():
            raise RuntimeError(f"a step of {self.method.name} moves its samples to another place; it can't be recorded")
        self._calls = teacher.forward_calls - before[0], teacher.gradient_calls - before[1]
        teacher.forward_calls, teacher.gradient_calls = before
        self.state.t = t
        self._graph = graph


class Update:
    """One update of a network's weights after another, played from a recording where that is possible.

    Batches of another size than the first one's are worked on as usual.

    Args:
        work: from the batch's tensors to its loss, detached: forward, backward and the optimiser's step. It must be the
            same work for every batch, without a question to the device, and the learning rate a tensor.
        recorded: whether to record at all.
    """

    def __init__(self, work: Callable[..., Tensor], recorded: bool):
        self.work, self.recorded = work, recorded
        self._usual, self._size = 0, -1
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch: tuple[Tensor, ...] = ()
        self._loss = torch.empty(0)

    def __call__(self, *batch: Tensor) -> Tensor:
        """The loss of this batch before the update; a later one may write over it."""
        if self._size < 0:
            self._size = len(batch[0])
        if not self.recorded or len(batch[0]) != self._size:
            return self.work(*batch)
        if self._usual < WARM_UP:
            self._usual += 1
            return _aside(batch[0].device, lambda: self.work(*batch))
        if self._graph is None:
            self._record(batch)
        for kept, new in zip(self._batch, batch, strict=True):
            kept.copy_(new)
        self._graph.replay()
        return self._loss

    def _record(self, batch: tuple[Tensor, ...]) -> None:
        self._batch = tuple(torch.empty_like(t).copy_(t) for t in batch)
        devices.free_unused(batch[0].device)  # a recording has memory of its own
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._loss = self.work(*self._batch)
        self._graph = graph


def _aside(device: torch.device, work: Callable[[], Any]) -> Any:
    """Work on a stream of its own, as PyTorch asks of what comes before a recording."""
    stream = _beside(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        made = work()
    torch.cuda.current_stream(device).wait_stream(stream)
    return made


@cache
def _beside(device: torch.device) -> torch.cuda.Stream:
    """The one stream of a device for what comes before recordings: each stream keeps memory of its own."""
    return torch.cuda.Stream(device)
