"""Several runs side by side: methods against methods, and students against their controls, over several seeds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from . import evaluation
from .data import Dataset
from .evaluation import Rate
from .methods import find
from .pipeline import Distillation, Experiment, Update, need_examples, noise_only
from .student import StudentConfig, StudentTraining
from .synthetic import Oracle, SyntheticSet
from .teacher import Teacher

__all__ = ["MethodComparison", "StudentComparison", "StudentResult", "summarise"]

SHARED = ("batches", "samples", "sigma")  # what all methods of a comparison get the same of


class MethodComparison(Iterator[Update]):
    """Distils one teacher by several methods, each with several seeds.

    All methods get the same teacher, the same number of samples from the same prior, and students with the same
    initial weights and the same number of updates. Everything else is each method's own default for these data.

    Args:
        experiment: teacher, data, student, and the settings named in `SHARED`; its first seed is where seeds begin.
        methods: names of methods.
        seeds: how many seeds.
        settings: settings of a method that differ from its defaults, by the method's name.

    Attributes:
        rows: one for each finished run: method, seed and the numbers of its outcome.
    """

    def __init__(
        self,
        experiment: Experiment,
        methods: Sequence[str],
        seeds: int,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ):
        need_examples(experiment.data, "methods can't be compared on it, for nothing judges all of them alike")
        self.experiment, self.methods, self.seeds = experiment, list(methods), seeds
        self.rows: list[dict[str, Any]] = []
        shared = {k: getattr(experiment.settings, k) for k in SHARED}
        # Built now, so that a wrong name or setting is refused before anything is computed.
        self._experiments = [
            Experiment.from_dict(
                {
                    **experiment.to_dict(),
                    "method": find(name).name,
                    "settings": {**shared, **(settings or {}).get(name, {})},
                    "seed": experiment.seed + number,
                }
            )
            for number in range(seeds)
            for name in self.methods
        ]
        self._updates = self._loop()

    def __next__(self) -> Update:
        return next(self._updates)

    def close(self) -> None:
        """Cancels the comparison; the rows so far stay."""
        self._updates.close()

    def _loop(self) -> Iterator[Update]:
        teacher: Teacher | None = None  # trained or loaded once, for all
        for number, experiment in enumerate(self._experiments):
            run = Distillation(experiment, teacher=teacher, every=50)
            title = f"{find(experiment.method).title}, seed {experiment.seed}"
            for update in run:
                progress = (number + update.progress) / len(self._experiments)
                if update.progress == 1:
                    self.rows.append({"method": experiment.method, **run.outcome.to_dict()})
                yield Update(update.stage, progress, title, training=update.training)
            teacher = run.teacher


def summarise(rows: Iterable[Mapping[str, Any]], by: Sequence[str], values: Sequence[str]) -> list[dict[str, Any]]:
    """Mean and standard deviation (n - 1; 0 for a single row) of some values, over the rows that agree in `by`.

    Returns:
        One row for each group, in order of first appearance: what they agree in, `seeds`, and for each value
        `<value>_mean` and `<value>_std` (None where the value is missing).
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[k] for k in by), []).append(row)
    table = []
    for key, members in groups.items():
        line: dict[str, Any] = {**dict(zip(by, key, strict=True)), "seeds": len(members)}
        for name in values:
            found = [m[name] for m in members if m.get(name) is not None]
            line[f"{name}_mean"] = statistics.fmean(found) if found else None
            line[f"{name}_std"] = (statistics.stdev(found) if len(found) > 1 else 0.0) if found else None
        table.append(line)
    return table


@dataclass(frozen=True)
class StudentResult:
    """One student: what it learned from, its seed, and how it did on the real test data."""

    source: str
    seed: int
    accuracy: Rate
    agreement: Rate
    calibration_error: float


SOURCES = {
    "samples": "these samples",
    "noise": "noise only",
    "data": "the teacher's own data",
}


class StudentComparison(Iterator[Update]):
    """Trains students of one architecture in lock-step: on synthetic samples, on noise, and on the teacher's data.

    All three get the teacher's answers as targets; the second is the control, the third is ordinary distillation with
    data (Hinton, Vinyals and Dean 2015, arXiv 1503.02531, at temperature 1), the line that data-free methods run for.

    Args:
        run: a distillation whose teacher and samples are there.
        config: the students' architecture and training.
        seeds: how many seeds, from the distillation's own on.

    Attributes:
        results: one for each finished student.
        curve: accuracy on (part of) the test data of each student now in training, by source.
    """

    def __init__(self, run: Distillation, config: StudentConfig, seeds: int = 1):
        need_examples(run.experiment.data, "students can't be compared on it. Choose a run on a set with examples")
        self.run, self.config, self.seeds = run, config, seeds
        self.results: list[StudentResult] = []
        self.curve: dict[str, float] = {}
        self._updates = self._loop()

    def __next__(self) -> Update:
        return next(self._updates)

    def close(self) -> None:
        """Cancels the comparison; the results so far stay."""
        self._updates.close()

    def _loop(self) -> Iterator[Update]:
        dataset, oracle, first = self.run.dataset, self.run.oracle, self.run.experiment.seed
        of_teacher = evaluation.predict(oracle.network, dataset.test_x, dataset.inputs)
        with_data = answered(oracle, dataset)
        for number in range(self.seeds):
            seed = first + number
            sets = {"samples": self.run.samples, "noise": self._noise(seed), "data": with_data}
            students = {k: StudentTraining(s, self.config, seed=seed) for k, s in sets.items()}
            done = dict.fromkeys(students, 0)
            looked = 0.0
            while any(d < self.config.updates for d in done.values()):
                # The one that is furthest behind goes next, so that the curves can be compared while they grow.
                source = min((k for k in students if done[k] < self.config.updates), key=done.get)
                step = next(students[source])
                done[source] = step.update
                if time.monotonic() - looked > 1.0 or all(d >= self.config.updates for d in done.values()):
                    looked = time.monotonic()
                    self.curve = {SOURCES[k]: self._glance(s.network) for k, s in students.items()}
                progress = (number + sum(done.values()) / (len(done) * self.config.updates)) / self.seeds
                yield Update(
                    "student", min(progress, 0.999), f"Training on {SOURCES[source]}, seed {seed}", training=step
                )
            for source, student in students.items():
                logits = evaluation.predict(student.network, dataset.test_x, dataset.inputs)
                self.results.append(
                    StudentResult(
                        source,
                        seed,
                        evaluation.accuracy(logits, dataset.test_y),
                        evaluation.agreement(logits, of_teacher),
                        evaluation.calibration_error(logits, dataset.test_y),
                    )
                )
        yield Update("student", 1.0, "Done")

    def _noise(self, seed: int) -> SyntheticSet:
        run = Distillation(noise_only(self.run.experiment).replace(seed=seed), teacher=self.run.teacher)
        while run.samples is None:
            next(run)
        run.close()
        return run.samples

    def _glance(self, network: torch.nn.Module) -> float:
        """Accuracy on the first 1,000 test examples, for the curve."""
        dataset = self.run.dataset
        with evaluation.in_eval_mode(network):
            logits = evaluation.predict(network, dataset.test_x[:1000], dataset.inputs)
        return evaluation.accuracy(logits, dataset.test_y[:1000]).value


def answered(oracle: Oracle, dataset: Dataset) -> SyntheticSet:
    """The teacher's own training inputs with its answers: what ordinary distillation learns from."""
    x = dataset.inputs(dataset.train_x)
    y = evaluation.predict(oracle.network, x).softmax(dim=1)
    nowhere = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    return SyntheticSet(x, y, dataset.train_y, nowhere, {"method": "data"})
