"""The one loop that drives every method: an iterator of snapshots.

Closing the iterator is cancelling; not asking for the next item is pausing; replacing `config` between two items is
editing while it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from . import devices
from .errors import CakeError
from .history import History, Recorder
from .methods import Method, MethodConfig, find
from .rng import Streams
from .synthetic import Oracle, Problem, Snapshot, SyntheticSet

__all__ = ["Synthesis", "synthesize"]

# Samples in flight at most. More at once make fewer, larger operations; on a CPU, more images than this no longer fit
# the caches, and a step would take so long that a pause or a slider is felt late.
IN_FLIGHT_CPU = {"points": 2**15, "images": 2**9}
IN_FLIGHT_GPU = 2**14


def synthesize(
    teacher: Callable[[Tensor], Tensor],
    method: str | Method = "cake",
    *,
    shape: tuple[int, ...],
    classes: int,
    seed: int = 0,
    device: str = "auto",
    in_flight: int = 0,
    every: int = 1,
    **settings: Any,
) -> Synthesis:
    """Makes synthetic samples for a teacher; iterate over the result to run it.

    >>> run = synthesize(teacher, "cake", shape=(2,), classes=2, steps=100)    # doctest: +SKIP
    >>> for snapshot in run:                                                   # doctest: +SKIP
    ...     print(snapshot.step, snapshot.losses)
    >>> run.result.x, run.result.y                                             # doctest: +SKIP

    Args:
        teacher: a module, or any function, from inputs (B, *shape) to logits (B, C). It is not changed.
        method: a name in `METHODS`, or a method with its settings.
        shape: shape of one input: (2,) or (channels, height, width).
        classes: number of classes C.
        seed: the samples are the same for the same seed on the same type of device.
        device: "auto", "cpu", "cuda" or "mps".
        in_flight: mini-batches to work on at once (0: as many as suit the device). Does not change the samples.
        every: a snapshot after every so many steps (the last step of a mini-batch always has one).
        settings: settings of the method, by name.

    Raises:
        CakeError: a setting is unknown or out of bounds, or the samples diverge.
    """
    if isinstance(method, str):
        cls = find(method)
        method = cls(cls.Config.from_dict(settings))
    elif settings:
        method = type(method)(method.config.replace(**settings))
    place = devices.choose(device)
    oracle = Oracle(teacher, place, gradient="gradient" in method.access)
    problem = Problem(oracle, tuple(shape), classes, method.config.batches, place)
    return Synthesis(method, problem, seed=seed, in_flight=in_flight, every=every)


class Synthesis(Iterator[Snapshot]):
    """A synthesis in progress. Yields snapshots; when it is exhausted, `result` holds the samples.

    Args:
        method: what makes the samples.
        problem: what is asked of it.
        seed, in_flight, every: see `synthesize`.
        keep_history: whether to keep some samples at some moments; when it is exhausted, `history` holds them.
    """

    def __init__(
        self,
        method: Method,
        problem: Problem,
        *,
        seed: int = 0,
        in_flight: int = 0,
        every: int = 1,
        keep_history: bool = False,
    ):
        self.method, self.problem, self.seed, self.every = method, problem, seed, every
        batches = method.config.batches
        self.in_flight = batches if method.whole else min(in_flight or self._suitable(), batches)
        self.result: SyntheticSet | None = None
        self.history: History | None = None
        self._recorder = Recorder(method.steps, batches, problem.shape) if keep_history else None
        self._run = self._loop()

    def __next__(self) -> Snapshot:
        return next(self._run)

    def close(self) -> None:
        """Cancels the run; nothing is left behind."""
        self._run.close()

    @property
    def config(self) -> MethodConfig:
        """The settings now. Assign a changed copy to edit the run; it counts from the next step on.

        Raises:
            CakeError: on assignment, when a setting changes that is fixed once a run has begun.
        """
        return self.method.config

    @config.setter
    def config(self, new: MethodConfig) -> None:
        for p in new.params():
            if not p.live and getattr(new, p.name) != getattr(self.config, p.name):
                raise CakeError(f"'{p.name}' can't change while a run goes on. Start a new run with it.")
        self.method.config = new

    @property
    def total(self) -> int:
        """Steps of the whole run, counting each step of all mini-batches in flight as one."""
        return self.method.steps * -(-self.problem.batches // self.in_flight)

    def _suitable(self) -> int:
        """How many mini-batches in flight suit the device."""
        kind = "points" if len(self.problem.shape) == 1 else "images"
        most = IN_FLIGHT_CPU[kind] if self.problem.device.type == "cpu" else IN_FLIGHT_GPU
        return max(1, most // self.method.config.samples)

    def _loop(self) -> Iterator[Snapshot]:
        method, problem, steps = self.method, self.problem, self.method.steps
        parts, done = [], 0
        for first in range(0, problem.batches, self.in_flight):
            batches = range(problem.batches)[first : first + self.in_flight]
            rng = Streams(self.seed, batches, problem.device)
            state = method.init(problem, rng)
            self._record(0, state, batches)
            yield self._snapshot(state, rng, done, {})
            for t in range(1, steps + 1):
                losses = method.step(state, rng)
                done += 1
                self._record(t, state, batches)
                if t % self.every == 0 or t == steps:
                    yield self._snapshot(state, rng, done, losses)
            parts.append(self._finished(state, rng))
        self.result = SyntheticSet.join(parts, self._provenance())
        self.history = self._recorder.history() if self._recorder else None

    def _record(self, step: int, state: Any, batches: Sequence[int]) -> None:
        if self._recorder and self._recorder.wants(step):
            self._recorder.add(step, self.method.positions(state), batches)

    def _snapshot(self, state: Any, rng: Streams, done: int, losses: dict[str, Tensor]) -> Snapshot:
        x = self.method.positions(state).detach()
        return Snapshot(
            step=done,
            total=self.total,
            batches=rng.batches,
            x=x.flatten(1, 2).clone(),
            labels=state.y.flatten(1),
            logits=None if state.logits is None else state.logits.flatten(1, 2),
            gradient=None if state.gradient is None else state.gradient.flatten(1, 2),
            losses=losses,
            weights=dict(self.method.weights),
        )

    def _finished(self, state: Any, rng: Streams) -> SyntheticSet:
        x, y = self.method.samples(state)  # (M, N, *shape), (M, N, C)
        finite = x.isfinite().flatten(1).all(dim=1) & y.isfinite().flatten(1).all(dim=1)
        if not finite.all():
            lost = rng.batches[int(finite.logical_not().nonzero()[0])]
            raise CakeError(
                f"The samples of mini-batch {lost} ran off to infinity. "
                "Lower the step size or the weights, or clip the gradient, and start again."
            )
        batch = torch.tensor(rng.batches, device=x.device).repeat_interleave(x.shape[1])
        return SyntheticSet(x.flatten(0, 1), y.flatten(0, 1), state.y.flatten(), batch)

    def _provenance(self) -> dict[str, Any]:
        return {
            "method": self.method.name,
            "settings": self.config.to_dict(),
            "seed": self.seed,
            "forward_calls": self.problem.teacher.forward_calls,
            "gradient_calls": self.problem.teacher.gradient_calls,
        }
