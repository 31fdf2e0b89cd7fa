"""One long synthesis in parts: each makes some of the mini-batches on a node of a Ray cluster.

A mini-batch's random numbers come from (seed, mini-batch) alone and its step size from its place in the whole run, so
the samples are those of one machine, up to the rounding of larger and smaller products.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import cluster, devices
from .errors import CakeError
from .history import History
from .methods import Method, MethodConfig
from .oracle import Oracle
from .synthesis import Synthesis
from .synthetic import Problem, Snapshot, SyntheticSet

__all__ = ["Made", "Order", "Sharded", "Teaching", "make"]

SECONDS_BETWEEN_STEPS = 0.3  # of what a part says of itself
SHOWN = 2**19  # numbers of the samples that it shows, at most


@dataclass(frozen=True)
class Teaching:
    """What all parts of a synthesis have in common.

    Attributes:
        method: with its settings.
        network: the teacher, on the CPU.
        access, precision, compiled, data: as the oracle has them.
        shape, classes, batches, student: as the problem has them.
        device: the type of device that computes; samples depend on it.
        seed, in_flight, every: see `synthesize`.
    """

    method: Method
    network: Callable[[Tensor], Tensor]
    access: frozenset[str]
    precision: str
    compiled: bool
    data: tuple[Tensor, Tensor] | None
    shape: tuple[int, ...]
    classes: int
    batches: int
    student: Callable[[int], nn.Module] | None
    device: str
    seed: int
    in_flight: int
    every: int

    @classmethod
    def of(cls, method: Method, problem: Problem, **how: Any) -> Teaching:
        """What a method and a problem come to."""
        oracle, device = problem.teacher, problem.device
        network = oracle.network
        if isinstance(network, nn.Module) and device.type != "cpu":
            network = copy.deepcopy(network).cpu()
        data = None if oracle.examples is None else tuple(t.cpu() for t in oracle.examples)
        of_oracle = {"network": network, "access": oracle.access, "precision": oracle.precision, "data": data}
        of_problem = {k: getattr(problem, k) for k in ("shape", "classes", "batches", "student")}
        return cls(method=method, compiled=oracle.compiled, device=device.type, **of_oracle, **of_problem, **how)

    def synthesis(self, only: Sequence[int]) -> Synthesis:
        """The synthesis of some mini-batches, on this node."""
        device = devices.choose(self.device)
        network = self.network.to(device) if isinstance(self.network, nn.Module) else self.network
        data = None if self.data is None else tuple(t.to(device) for t in self.data)
        how = {"precision": self.precision, "compiled": self.compiled, "frozen": True, "data": data}
        oracle = Oracle(network, device, self.access, **how)
        student = None if self.student is None else (lambda seed: self.student(seed).to(device))
        problem = Problem(oracle, self.shape, self.classes, self.batches, device, student)
        return Synthesis(
            self.method, problem, seed=self.seed, in_flight=self.in_flight, every=self.every, only=tuple(only)
        )


@dataclass(frozen=True)
class Order:
    """A part of a synthesis.

    Attributes:
        teaching: a reference to the `Teaching` in the cluster's store.
        only: the mini-batches to make, by their indices.
        shown: whether it sends samples while they move.
    """

    teaching: Any
    only: tuple[int, ...]
    shown: bool


@dataclass(frozen=True)
class Made:
    """Mini-batches that are finished; their provenance counts their own calls of the teacher."""

    samples: SyntheticSet
    note: str


@dataclass(frozen=True)
class Moved:
    """How far a part is: mini-batches made, those in flight counted by their steps; and what there is to see of it."""

    made: float
    snapshot: Snapshot | None


def make(order: Order) -> Iterator[Made | Moved]:
    """A part of a synthesis, on its node: yields what is finished, and now and then how far it is."""
    import ray

    run = ray.get(order.teaching).synthesis(order.only)
    sent, before, said = 0, {"forward_calls": 0, "gradient_calls": 0}, 0.0

    def finished() -> Iterator[Made]:
        nonlocal sent
        for part in run.parts[sent:]:
            now = {k: part.provenance[k] for k in before}
            own = {k: now[k] - before[k] for k in before}
            before.update(now)
            sent += 1
            yield Made(replace(part.to(torch.device("cpu")), provenance=part.provenance | own), run.note)

    for snapshot in run:
        yield from finished()
        if time.monotonic() - said > SECONDS_BETWEEN_STEPS:
            said = time.monotonic()
            share = snapshot.step / max(1, snapshot.total)
            yield Moved(share * len(order.only), _small(snapshot) if order.shown else None)
    yield from finished()


def _small(snapshot: Snapshot) -> Snapshot:
    """The first mini-batches of a snapshot, on the CPU: as many as are small enough to be sent around."""
    each = max(1, snapshot.x[0].numel())
    count = min(len(snapshot.x), max(1, SHOWN // each))
    tensors = {
        f.name: value[:count].cpu() for f in fields(snapshot) if isinstance(value := getattr(snapshot, f.name), Tensor)
    }
    losses = {k: v[:count].cpu() for k, v in snapshot.losses.items()}
    return replace(snapshot, batches=snapshot.batches[:count], losses=losses, **tensors)


class Sharded(Iterator[Snapshot]):
    """A synthesis on the cluster, with the interface of `Synthesis`. Its settings can't be edited while it runs.

    Args:
        method, problem: see `Synthesis`.
        shards: in how many parts (0: as many as the cluster has room for).
        seed, in_flight, every, parts: see `Synthesis`; samples have no history.

    Attributes:
        in_flight: mini-batches that each part works on at once, 0 for as many as suit its device.
        note: what has happened that people should know.
        parts: the mini-batches that are finished, as they were finished together.
        lost: how many parts were lost and begun again.
        seen: snapshots that have been given.
        result: the samples, when the iterator is exhausted.

    Raises:
        CakeError: the method's mini-batches can't be made apart from each other.
    """

    state = None
    history: History | None = None

    def __init__(
        self,
        method: Method,
        problem: Problem,
        *,
        shards: int = 0,
        seed: int = 0,
        in_flight: int = 0,
        every: int = 1,
        parts: Path | None = None,
    ):
        if method.whole and shards > 1:
            raise CakeError(
                f"{method.title} trains one generator for all mini-batches, so it can't be made in {shards} parts. "
                "Choose --shards 1, or another method."
            )
        self.method, self.problem, self.seed, self.every = method, problem, seed, every
        self.shards, self.in_flight = 1 if method.whole else shards, in_flight
        self.note, self.lost, self.seen = "", 0, 0
        self.parts: list[SyntheticSet] = []
        self.result: SyntheticSet | None = None
        self._folder = parts
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
        """The settings.

        Raises:
            CakeError: on assignment.
        """
        return self.method.config

    @config.setter
    def config(self, new: MethodConfig) -> None:
        if new != self.method.config:
            raise CakeError("The settings of a run in several parts can't change while it goes on. Start a new one.")

    @property
    def total(self) -> int:
        """Steps of the whole run, those of each mini-batch counted."""
        return self.method.steps * self.problem.batches

    def _loop(self) -> Iterator[Snapshot]:
        ray = cluster.connect()
        self.parts = self._stored()
        made = {m for p in self.parts for m in p.batch.unique().tolist()}
        left = [m for m in range(self.problem.batches) if m not in made]
        shards = min(self.shards or cluster.room(cluster.Share.from_environment(), ray), max(1, len(left)))
        plan = [tuple(map(int, part)) for part in np.array_split(left, shards)] if left else []
        try:
            teaching = ray.put(
                Teaching.of(self.method, self.problem, seed=self.seed, in_flight=self.in_flight, every=self.every)
            )
        except Exception as error:
            raise CakeError(
                f"This teacher can't be sent to other nodes ({error}). Hand over a module, or a function of a module."
            ) from error

        def order(number: int) -> Order | None:
            only = tuple(m for m in plan[number] if m not in made)
            return Order(teaching, only, shown=number == 0) if only else None

        def lost(number: int) -> Order | None:
            self.lost += 1
            self.note = "A part of the run was lost with its process or node, and is made again."
            base[number] = moved[number] = sum(m in made for m in plan[number])
            return order(number)

        before, base = self.problem.batches - len(left), dict.fromkeys(range(len(plan)), 0.0)
        moved = dict(base)
        seen: Snapshot | None = None
        for found in cluster.spread(make, [order(k) for k in range(len(plan))], lost=lost):
            if found is None:
                if seen is not None:
                    yield seen  # so that who reads can pause or cancel
                continue
            number, item = found
            if isinstance(item, Made):
                self.parts.append(item.samples.to(self.problem.device))
                made.update(item.samples.batch.unique().tolist())
                self.note = item.note or self.note
                self._store(item.samples)
                continue
            moved[number] = base[number] + item.made
            seen = item.snapshot or seen
            if seen is not None:
                done = before + sum(moved.values())
                seen = replace(seen, step=min(self.total, round(done * self.method.steps)), total=self.total)
                yield seen
        if seen is not None:
            yield replace(seen, step=self.total, total=self.total)
        joined = SyntheticSet.join(self.parts, self._provenance())
        self.result = joined.take(joined.batch.argsort(stable=True))

    def _stored(self) -> list[SyntheticSet]:
        """What was finished before."""
        if self._folder is None:
            return []
        return [SyntheticSet.load(p).to(self.problem.device) for p in sorted(self._folder.glob("shard-*.safetensors"))]

    def _store(self, part: SyntheticSet) -> None:
        """Writes what has just been finished."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"shard-{int(part.batch[0]):05d}.safetensors"
        part.save(path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)  # whole, or not there

    def _provenance(self) -> dict[str, Any]:
        """How it was made. Calls for what was lost are not in it: they made nothing."""
        calls = {k: sum(p.provenance[k] for p in self.parts) for k in ("forward_calls", "gradient_calls")}
        about = {"method": self.method.name, "settings": self.config.to_dict(), "seed": self.seed}
        return {**about, **calls}
