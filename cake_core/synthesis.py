"""The one loop that drives every method: an iterator of snapshots.

Closing the iterator is cancelling; not asking for the next item is pausing; replacing `config` between two items is
editing while it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from . import devices, graphs, models, runs
from .errors import CakeError
from .history import History, Recorder
from .methods import Method, MethodConfig, find
from .oracle import Oracle
from .rng import Streams
from .synthetic import Problem, Snapshot, SyntheticSet

if TYPE_CHECKING:
    from .shards import Sharded

__all__ = ["Synthesis", "synthesize"]

# Samples in flight at most. More at once make fewer, larger operations; on a CPU, more images than this no longer fit
# the caches, and a step would take so long that a pause or a slider is felt late.
IN_FLIGHT_CPU = {"points": 2**15, "images": 2**9}
IN_FLIGHT_GPU = 2**14
PROBES = (16, 48)  # samples that tell how much memory one of them takes on a GPU
SHARE_OF_MEMORY = 0.6  # of what is free on a GPU, for samples in flight; the rest is for frames, students, fragments


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
    precision: str = "fp32",
    compiled: bool = False,
    student: str = "",
    data: tuple[Tensor, Tensor] | None = None,
    shards: int | None = None,
    **settings: Any,
) -> Synthesis | Sharded:
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
        precision: number format of the teacher's products, "fp32" or "bf16".
        compiled: whether the teacher goes through torch.compile.
        student: architecture of the student, for methods that have one in their loop (empty: a small one).
        data: the teacher's training inputs (N, *shape), normalised, and labels (N,), for methods that need them.
        shards: on a Ray cluster, in so many parts (0: as many as it has room for); None for this process alone. Does
            not change the samples.
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
    oracle = Oracle(teacher, place, method.access, precision=precision, compiled=compiled, data=data)
    shape = tuple(shape)
    student = student or ("mlp" if len(shape) == 1 else "lenet5-half")

    def fresh(seed: int) -> nn.Module:
        return models.build(student, shape, classes, seed).to(place)

    problem = Problem(oracle, shape, classes, method.config.batches, place, fresh)
    if shards is not None:
        from .shards import Sharded

        return Sharded(method, problem, shards=shards, seed=seed, in_flight=in_flight, every=every)
    return Synthesis(method, problem, seed=seed, in_flight=in_flight, every=every)


class Synthesis(Iterator[Snapshot]):
    """A synthesis in progress. Yields snapshots; when it is exhausted, `result` holds the samples.

    Args:
        method: what makes the samples.
        problem: what is asked of it.
        seed, in_flight, every: see `synthesize`.
        keep_history: whether to keep some samples at some moments of their way.
        only: the mini-batches to make, by their indices (None: all).
        parts: a folder of this run alone, where finished mini-batches are stored, and from which it goes on when it was
            stopped. Methods whose mini-batches are all in flight at once have nothing to go on from.

    Attributes:
        in_flight: mini-batches that are worked on at once; halved when the device's memory is full.
        note: what has happened that people should know, empty as a rule.
        state: what the method is working on, None before it has begun.
        parts: the mini-batches that are finished, in order, as they were finished together.
        seen: snapshots that have been given, those of a life before the stop included.
        result, history: the samples, and what was kept of their way, when the iterator is exhausted.
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
        only: Sequence[int] | None = None,
        parts: Path | None = None,
    ):
        self.method, self.problem, self.seed, self.every = method, problem, seed, every
        batches = method.config.batches
        self.only = range(problem.batches) if only is None else only
        self.in_flight = batches if method.whole else min(in_flight or self._suitable(), len(self.only))
        self.note = ""
        self.state: Any = None
        self.seen = 0
        self.result: SyntheticSet | None = None
        self.history: History | None = None
        keep = keep_history and method.tracks
        self._recorder = Recorder(method.steps, batches, problem.shape, method.delivered) if keep else None
        self._folder = parts if parts is not None and not method.whole else None
        self._seen: Snapshot | None = None
        self._overwrites = False
        self.parts: list[SyntheticSet] = self._stored()
        self._finished_batches = sum(len(p.batch.unique()) for p in self.parts)
        self._finished_steps = method.steps * len(self.parts)
        self._run = self._loop()

    def __next__(self) -> Snapshot:
        snapshot = next(self._run)
        self.seen += 1
        return snapshot

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
        left = len(self.only) - self._finished_batches
        return self._finished_steps + self.method.steps * -(-left // self.in_flight)

    def _suitable(self) -> int:
        """How many mini-batches in flight suit the device."""
        problem, samples = self.problem, self.method.config.samples
        kind = "points" if len(problem.shape) == 1 else "images"
        most = IN_FLIGHT_CPU[kind] if problem.device.type == "cpu" else IN_FLIGHT_GPU
        if problem.device.type == "cuda":
            most = min(most, self._fitting())
        return max(1, most // samples)

    def _fitting(self) -> int:
        """How many samples the free memory of a CUDA device holds, judged by the peaks of two small trials."""
        problem = self.problem
        trials = (problem.teacher.memory_trial(problem.shape, n) for n in PROBES)
        few, many = (devices.peak_memory(trial, problem.device) for trial in trials)
        each = max(1, (many - few) // (PROBES[1] - PROBES[0]))
        return int(SHARE_OF_MEMORY * devices.free_memory(problem.device) / each)

    def _loop(self) -> Iterator[Snapshot]:
        parts = self.parts
        while self._finished_batches < len(self.only):
            batches = self.only[self._finished_batches : self._finished_batches + self.in_flight]
            count = len(batches)
            try:
                parts.append((yield from self._together(batches)))
            except (RuntimeError, MemoryError) as error:
                if not devices.is_out_of_memory(error):
                    raise
            else:
                self._finished_batches += count
                self._finished_steps += self.method.steps
                parts[-1] = replace(parts[-1], provenance=self._told())
                self._store(parts[-1])
                continue
            # Outside the except block, so that what filled the memory is no longer held by the exception.
            self._make_room(count)
        self.result = SyntheticSet.join(parts, self._provenance())
        self.history = self._recorder.history() if self._recorder else None

    def _stored(self) -> list[SyntheticSet]:
        """The mini-batches that were finished before, in order; their calls of the teacher count as made."""
        parts: list[SyntheticSet] = []
        done = 0
        while self._folder is not None and done < len(self.only) and (part := self._read(self.only[done])) is not None:
            parts.append(part.to(self.problem.device))
            done += len(part.batch.unique())
        if parts:
            told = parts[-1].provenance
            self.problem.teacher.forward_calls, self.problem.teacher.gradient_calls = (
                told["forward_calls"],
                told["gradient_calls"],
            )
            self.seen, self.in_flight = told["seen"], told["in_flight"]
        return parts

    def _read(self, first: int) -> SyntheticSet | None:
        """The stored mini-batches that begin with this one; None where there are none, or not all of them is whole."""
        path = self._place(first)
        try:
            part = SyntheticSet.load(path)
            if part.provenance["digest"] != part.digest() or int(part.batch.min()) != first:
                return None
            if self._recorder is not None:
                self._recorder.restore(first, load_file(path.with_suffix(".history")))
        except (OSError, SafetensorError, ValueError, KeyError, RuntimeError):
            return None
        return part

    def keep_in(self, folder: Path) -> None:
        """Stores finished mini-batches in a folder from now on, and those that are finished already."""
        if not self.method.whole:
            self._folder = folder
            for part in self.parts:
                self._store(part)

    def _place(self, first: int) -> Path:
        return self._folder / f"{first:05d}.safetensors"

    def _store(self, part: SyntheticSet) -> None:
        """Writes what has just been finished; whoever stops the run now loses nothing of it.

        Raises:
            DiskFull: there is no room for it.
        """
        if self._folder is None:
            return
        first = int(part.batch.min())
        path = self._place(first)
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._recorder is not None:  # first, so that who has the samples has this too
            with runs.whole(path.with_suffix(".history")) as unfinished:
                save_file({k: v.contiguous() for k, v in self._recorder.part(first).items()}, unfinished)
        with runs.whole(path) as unfinished:
            replace(part, provenance={**part.provenance, "digest": part.digest()}).save(unfinished)

    def _told(self) -> dict[str, Any]:
        """What is stored beside mini-batches, so that a run can go on behind them as if it had never stopped."""
        return {**self._provenance(), "seen": self.seen, "in_flight": self.in_flight}

    def _record(self, step: int, state: Any, batches: Sequence[int]) -> None:
        if self._recorder and self._recorder.wants(step):
            self._recorder.add(step, self.method.positions(state), batches)

    def _make_room(self, count: int) -> None:
        """Halves the mini-batches in flight; their samples stay what they would have been."""
        if count == 1 or self.method.whole:
            raise CakeError(
                "The device's memory is full, with as few samples at once as can be. "
                "Choose fewer samples per mini-batch, a smaller teacher or precision bf16, and start again."
            )
        self.in_flight = count // 2
        devices.free_unused(self.problem.device)
        self.note = f"The device's memory was full; it goes on with {self.in_flight} mini-batches at once."

    def _together(self, batches: Sequence[int]) -> Generator[Snapshot, None, SyntheticSet]:
        """Some mini-batches from the prior to the end; returns their samples."""
        method, done = self.method, self._finished_steps
        rng = Streams(self.seed, batches, self.problem.device)
        state = self.state = method.init(self.problem, rng)
        self._overwrites = graphs.suits(method, self.problem.device)
        step = graphs.Stepper(method, state, rng, self._overwrites)
        self._record(0, state, batches)
        yield self._snapshot(state, rng, done, {})
        for t in range(1, method.steps + 1):
            losses = step()
            self._record(t, state, batches)
            if t % self.every == 0 or t == method.steps:
                yield self._snapshot(state, rng, done + t, losses, again=t % method.glance > 0 and t < method.steps)
        return self._finished(state, rng)

    def _snapshot(
        self, state: Any, rng: Streams, done: int, losses: dict[str, Tensor], again: bool = False
    ) -> Snapshot:
        """One moment; `again` shows the samples of the moment before with the numbers of this one."""
        if again and self._seen is not None:
            shown = {k: v[: len(self._seen.x)] for k, v in losses.items()}
            self._seen = replace(self._seen, step=done, total=self.total, losses=shown)
            return self._seen
        x = self.method.positions(state).detach().flatten(1, 2).clone()
        m = len(x)
        self._seen = Snapshot(
            step=done,
            total=self.total,
            batches=rng.batches[:m],
            x=x,
            labels=state.y[:m].flatten(1) if self.method.steered else self.problem.teacher.look(x),
            logits=None if state.logits is None else self._kept(state.logits[:m].flatten(1, 2)),
            gradient=None if state.gradient is None else self._kept(state.gradient[:m].flatten(1, 2)),
            losses={k: self._kept(v[:m]) for k, v in losses.items()},
            weights=dict(self.method.weights),
        )
        return self._seen

    def _kept(self, values: Tensor) -> Tensor:
        """Values for a snapshot: copied where a recorded step will write over its own, as they are elsewhere."""
        return values.clone() if self._overwrites else values

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
        labels = self.method.labels(state) if self.method.steered else y.argmax(dim=-1)
        return SyntheticSet(x.flatten(0, 1), y.flatten(0, 1), labels.flatten(), batch)

    def _provenance(self) -> dict[str, Any]:
        return {
            "method": self.method.name,
            "settings": self.config.to_dict(),
            "seed": self.seed,
            "forward_calls": self.problem.teacher.forward_calls,
            "gradient_calls": self.problem.teacher.gradient_calls,
        }
