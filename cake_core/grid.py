"""Grids: every teacher with every student over several seeds. Each cell is stored as soon as it is done, and within a
cell each part of the samples, so that a grid goes on where it stopped; cells that two grids share are computed once.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from . import data, devices, evaluation, models, runs
from . import teacher as teachers
from .comparison import summarise
from .data import Dataset
from .pipeline import Distillation, Experiment, Update, noise_only
from .student import StudentTraining
from .synthetic import SyntheticSet
from .teacher import Teacher, TeacherTraining

__all__ = ["Cells", "Grid"]

Row = dict[str, Any]

STEPS_BETWEEN_UPDATES = 4  # of a synthesis, so that a pause is felt soon


class Cells(Iterator[Update]):
    """Distils many experiments and stores each as soon as it is done.

    Args:
        rounds: experiments that differ in their student alone stand in one list: they learn from the same samples.
        folder: where cells are stored (None: among the runs).

    Attributes:
        rows: one for each finished cell: teacher, student, method, seed and the numbers.
    """

    def __init__(self, rounds: Sequence[Sequence[Experiment]], folder: Path | None = None):
        self.folder = folder or runs.folder() / "grids"
        self.rows: list[Row] = []
        self._rounds = rounds
        self._datasets: dict[str, Dataset] = {}
        self._updates = self._loop()

    def __next__(self) -> Update:
        return next(self._updates)

    def close(self) -> None:
        """Cancels the grid; finished cells stay."""
        self._updates.close()

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return sum(map(len, self._rounds))

    def _loop(self) -> Iterator[Update]:
        self.folder.mkdir(parents=True, exist_ok=True)
        total, done = self.cells, 0
        for cells in self._rounds:
            title = f"{cells[0].teacher}, {cells[0].method}, seed {cells[0].seed}"
            teacher = None
            if cells[0].teacher in models.MODELS:
                teacher = yield from self._trained(cells[0], done / total)
            else:
                teacher = teachers.load(cells[0].teacher)
            samples: SyntheticSet | None = None
            for cell in cells:
                row = self._stored(cell, teacher)
                if row is None and samples is None:
                    samples, spent = yield from self._samples(cell, teacher, done / total, title)
                if row is None:
                    row = yield from self._student(cell, teacher, samples, done / total, title)
                    row |= {"seconds_samples": round(spent, 2), "experiment": cell.digest()}
                    runs.write_json(self._place(cell, teacher, ".json"), {"experiment": cell.to_dict(), "row": row})
                self.rows.append(row)
                done += 1
                yield Update("evaluation", done / total, title)
            shutil.rmtree(self._parts(cells[0], teacher), ignore_errors=True)

    def _trained(self, cell: Experiment, progress: float) -> Iterator[Update]:
        """A teacher of an architecture, with the first seed of the grid: loaded where it was trained before."""
        first = self._rounds[0][0].seed
        name = f"{cell.data.name}/{cell.teacher}"
        stem = self.folder / "teachers" / f"{cell.data.digest()}-{cell.teacher}-{first}"
        if not teachers.is_whole(stem):
            training = TeacherTraining(self._data(cell), cell.data, cell.teacher, seed=first, name=name)
            for step in training:
                yield Update("teacher", progress, f"Training the teacher {name}", training=step)
            training.teacher.save(stem.parent, stem.name)
        return teachers.read(stem, name)

    def _samples(self, cell: Experiment, teacher: Teacher, progress: float, title: str) -> Iterator[Update]:
        """The samples of a teacher and a seed, and the seconds they took."""
        start = time.perf_counter()
        parts = self._parts(cell, teacher)
        run = Distillation(cell, teacher=teacher, every=STEPS_BETWEEN_UPDATES, parts=parts)
        while run.samples is None:
            yield replace(next(run), progress=progress, note=f"Making samples: {title}", snapshot=None)
        run.close()
        return run.samples, time.perf_counter() - start

    def _parts(self, cell: Experiment, teacher: Teacher) -> Path:
        """Where the mini-batches of a round are stored until its students are done: by all that samples depend on."""
        plain = {k: v for k, v in cell.to_dict().items() if k != "student"}
        digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
        return self.folder / "parts" / f"{digest}-{teacher.card.sha256[:12]}"

    def _student(
        self, cell: Experiment, teacher: Teacher, samples: SyntheticSet, progress: float, title: str
    ) -> Iterator[Update]:
        """Trains and judges one student; returns its row."""
        start, dataset = time.perf_counter(), self._data(cell)
        training = StudentTraining(samples, cell.student, seed=cell.seed)
        for step in training:
            yield Update("student", progress, f"Training {cell.student.model}: {title}", training=step)
        seconds = time.perf_counter() - start
        student = training.network
        weights = {k: v.cpu().contiguous() for k, v in student.state_dict().items()}
        with runs.whole(self._place(cell, teacher, ".safetensors")) as part:
            save_file(weights, part)
        network = teacher.network.to(samples.x.device).eval()
        of_student, of_teacher = (
            evaluation.predict(n, dataset.test_x, dataset.inputs) for n in (student, network)
        )  # each (N, C)
        rates = {
            "teacher_accuracy": evaluation.accuracy(of_teacher, dataset.test_y),
            "student_accuracy": evaluation.accuracy(of_student, dataset.test_y),
            "agreement": evaluation.agreement(of_student, of_teacher),
        }
        return {
            "teacher": cell.teacher,
            "student": cell.student.model,
            "method": cell.method,
            "seed": cell.seed,
            **{k: rate.value for k, rate in rates.items()},
            **{f"{k}_interval": [rate.low, rate.high] for k, rate in rates.items()},
            "calibration_error": evaluation.calibration_error(of_student, dataset.test_y),
            "n_test": len(dataset.test_y),
            "teacher_parameters": teacher.card.parameters,
            "student_parameters": models.parameter_count(student),
            "samples": len(samples),
            "forward_calls": samples.provenance.get("forward_calls", 0),
            "gradient_calls": samples.provenance.get("gradient_calls", 0),
            "seconds_student": round(seconds, 2),
        }

    def _data(self, cell: Experiment) -> Dataset:
        key = cell.data.digest()
        if key not in self._datasets:
            self._datasets = {
                key: data.load(cell.data).to(devices.choose(cell.device))
            }  # one at a time: they are large
        return self._datasets[key]

    def _place(self, cell: Experiment, teacher: Teacher, ending: str) -> Path:
        """Where a cell is stored: by all that it depends on, the teacher's weights included."""
        return self.folder / f"{cell.digest()}-{teacher.card.sha256[:12]}{ending}"

    def _stored(self, cell: Experiment, teacher: Teacher) -> Row | None:
        """The row of a cell that was finished before."""
        return runs.read_json(self._place(cell, teacher, ".json")).get("row")


class Grid(Cells):
    """Distils every teacher into every student. All students of a teacher and a seed learn from the same samples.

    Beside each pair stands its control: a student of noise alone, labelled by the same teacher.

    Args:
        experiment: data, method and its settings, device, precision; its seed is where seeds begin.
        teachers: names of teachers, or architectures, which are trained once and stored with the cells.
        students: architectures.
        seeds: how many seeds.
        student: how the students are trained, where that differs from the defaults of their architecture.
        controls: with how many of the seeds the control is run.
        folder: where cells are stored (None: among the runs).

    Attributes:
        rows: one for each finished cell: teacher, student, method, seed and the numbers.
    """

    def __init__(
        self,
        experiment: Experiment,
        teachers: Sequence[str],
        students: Sequence[str],
        seeds: int = 1,
        *,
        student: Mapping[str, Any] | None = None,
        controls: int = 1,
        folder: Path | None = None,
    ):
        self.teachers, self.students = list(teachers), list(students)
        base = experiment.to_dict()
        # Built now, so that a name or setting that makes no sense is refused before anything is computed.
        rounds = [
            [self._cell(base, teacher, model, number, student or {}, control) for model in self.students]
            for number in range(seeds)
            for teacher in self.teachers
            for control in ((False, True) if number < controls else (False,))
        ]
        super().__init__(rounds, folder)

    @property
    def names(self) -> list[str]:
        """Teachers and students, each once."""
        return list(dict.fromkeys([*self.teachers, *self.students]))

    def summary(self) -> list[Row]:
        """Mean and standard deviation over seeds of each pair and method, in the order of the grid."""
        values = ["teacher_accuracy", "student_accuracy", "agreement", "seconds_samples", "seconds_student"]
        return summarise(self.rows, ["teacher", "student", "method", "n_test", "samples"], values)

    @staticmethod
    def _cell(
        base: Mapping[str, Any], teacher: str, model: str, number: int, student: Mapping[str, Any], control: bool
    ) -> Experiment:
        cell = Experiment.from_dict(
            {**base, "teacher": teacher, "student": {**student, "model": model}, "seed": base["seed"] + number}
        )
        return noise_only(cell) if control else cell
