"""Grids: every teacher with every student over several seeds. Each cell is stored as soon as it is done, and within a
cell each part of the samples, so that a grid goes on where it stopped; cells that two grids share are computed once.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from . import cluster, data, devices, evaluation, models, runs
from . import teacher as teachers
from .comparison import summarise
from .data import Dataset
from .pipeline import Distillation, Experiment, Update, noise_only
from .student import StudentTraining
from .synthetic import SyntheticSet
from .teacher import Teacher, TeacherCard, TeacherTraining

__all__ = ["Cells", "Grid"]

Row = dict[str, Any]

STEPS_BETWEEN_UPDATES = 4  # of a synthesis, so that a pause is felt soon


@dataclass(frozen=True)
class Order:
    """Work for a node: one round of cells, or a teacher to train first.

    Attributes:
        cells: what is to be done of the round.
        first: the seed of teachers that are trained.
        files: what was computed before, by its place among the runs.
        teacher: whether its teacher is all that is wanted.
    """

    cells: tuple[Experiment, ...]
    first: int
    files: dict[str, bytes] = field(repr=False)
    teacher: bool = False


def serve(order: Order) -> Iterator[Update | tuple[str, bytes]]:
    """Does the work on a node; yields moments, and each file as soon as it is whole: its place and content."""
    with cluster.Mirror(order.files) as mirror:
        run = Cells([list(order.cells)], first=order.first, here=True)
        for update in run.training() if order.teacher else run:
            yield replace(update, snapshot=None, training=None)
            yield from mirror.new()
        yield from mirror.new()


class Cells(Iterator[Update]):
    """Distils many experiments and stores each as soon as it is done. With the engine "ray" rounds go to the nodes of a
    cluster, and what was computed comes back.

    Args:
        rounds: experiments that differ in their student alone stand in one list: they learn from the same samples.
        folder: where cells are stored (None: among the runs).
        first: the seed of teachers that are trained (None: that of the first round).
        shards: make the samples of each round in so many parts on the cluster, one round after the other; None for
            whole rounds.
        here: compute in this process, whatever the engine is.

    Attributes:
        rows: one for each finished cell: teacher, student, method, seed and the numbers.
    """

    def __init__(
        self,
        rounds: Sequence[Sequence[Experiment]],
        folder: Path | None = None,
        *,
        first: int | None = None,
        shards: int | None = None,
        here: bool = False,
    ):
        self.folder = folder or runs.folder() / "grids"
        self.rows: list[Row] = []
        self._rounds = rounds
        self._first = rounds[0][0].seed if first is None and rounds else first
        self._shards = shards
        self._datasets: dict[str, Dataset] = {}
        self._updates = self._loop() if here or shards is not None or cluster.engine() != "ray" else self._spread()

    def __next__(self) -> Update:
        return next(self._updates)

    def close(self) -> None:
        """Cancels the grid; finished cells stay."""
        self._updates.close()

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return sum(map(len, self._rounds))

    @property
    def experiments(self) -> list[Experiment]:
        """All of them, in order."""
        return [cell for cells in self._rounds for cell in cells]

    def _loop(self) -> Iterator[Update]:
        self.folder.mkdir(parents=True, exist_ok=True)
        total, done = self.cells, 0
        for cells in self._rounds:
            title = f"{cells[0].teacher}, {cells[0].method}, seed {cells[0].seed}"
            if (stem := self._stem(cells[0])) is not None and not teachers.is_whole(stem):
                yield from self._train(cells[0], stem, done / total)
            teacher = self._load(cells[0])
            samples: SyntheticSet | None = None
            for cell in cells:
                row = self._stored(cell, teacher.card)
                if row is None and samples is None:
                    samples, spent = yield from self._samples(cell, teacher, done / total, title)
                if row is None:
                    row = yield from self._student(cell, teacher, samples, done / total, title)
                    row |= {"seconds_samples": round(spent, 2), "experiment": cell.digest()}
                    runs.write_json(
                        self._place(cell, teacher.card, ".json"), {"experiment": cell.to_dict(), "row": row}
                    )
                self.rows.append(row)
                done += 1
                yield Update("evaluation", done / total, title)
            shutil.rmtree(self._parts(cells[0], teacher.card), ignore_errors=True)

    def _spread(self) -> Iterator[Update]:
        """The same on a cluster: first the teachers that have to be trained, then the rounds."""
        total = self.cells
        untrained = {self._stem(cells[0]): cells[0] for cells in self._rounds}
        untrained = [c for stem, c in untrained.items() if stem is not None and not teachers.is_whole(stem)]
        training = [Order((c,), self._first, {}, teacher=True) for c in untrained]
        for found in cluster.spread(serve, training):
            yield self._taken(found, 0.0)
        rows: dict[str, Row | None] = {}
        for cells in self._rounds:
            card = self._card(cells[0])
            rows |= {self._place(cell, card, ".json").name: self._stored(cell, card) for cell in cells}
        left = [k for k in range(len(self._rounds)) if self._missing(k)]
        self.rows = [row for row in rows.values() if row is not None]
        for found in cluster.spread(serve, [self._order(k) for k in left], lost=lambda n: self._order(left[n])):
            yield self._taken(found, len(self.rows) / total)
            if found is not None and isinstance(found[1], tuple) and (name := Path(found[1][0]).name) in rows:
                rows[name] = json.loads(found[1][1])["row"]
                self.rows = [row for row in rows.values() if row is not None]
        there, self.rows = len(self.rows) / total, []
        yield from (u for u in self._loop() if u.progress >= there)  # which finds everything there

    def _order(self, number: int) -> Order | None:
        """What is still to be done of a round, with all that was computed for it before; None where nothing is."""
        cells = self._missing(number)
        if not cells:
            return None
        files: dict[str, bytes] = {}
        if (stem := self._stem(cells[0])) is not None:
            files = {f"grids/teachers/{p.name}": p.read_bytes() for p in stem.parent.glob(f"{stem.name}.*")}
        elif cells[0].teacher.startswith("run:"):
            run = runs.find(cells[0].teacher.removeprefix("run:"))
            files = {f"{run.name}/{p.name}": p.read_bytes() for p in run.glob("teacher.*")}
        parts = self._parts(cells[0], self._card(cells[0]))
        files |= {f"grids/parts/{parts.name}/{p.name}": p.read_bytes() for p in parts.glob("*.safetensors")}
        return Order(tuple(cells), self._first, files)

    def _taken(self, found: tuple[int, Any] | None, progress: float) -> Update:
        """Keeps a file that a node has sent; returns what to say of it."""
        item = found[1] if found is not None else None
        if isinstance(item, tuple) and item[0].startswith("grids/"):
            path = self.folder / Path(item[0]).relative_to("grids")
            path.parent.mkdir(parents=True, exist_ok=True)
            with runs.whole(path) as part:
                part.write_bytes(item[1])
        if isinstance(item, Update):
            return replace(item, progress=progress)
        return Update("synthesis", progress, "On the cluster")

    def _missing(self, number: int) -> list[Experiment]:
        """The cells of a round that are not stored; its teacher is."""
        cells = self._rounds[number]
        card = self._card(cells[0])
        return [cell for cell in cells if self._stored(cell, card) is None]

    def training(self) -> Iterator[Update]:
        """Trains the teacher of the first round, and no more."""
        cell = self._rounds[0][0]
        yield from self._train(cell, self._stem(cell), 0.0)

    def _stem(self, cell: Experiment) -> Path | None:
        """Where the teacher of an architecture is stored, which has the grid's first seed; None for other teachers."""
        if cell.teacher not in models.MODELS:
            return None
        return self.folder / "teachers" / f"{cell.data.digest()}-{cell.teacher}-{self._first}"

    def _train(self, cell: Experiment, stem: Path, progress: float) -> Iterator[Update]:
        """Trains a teacher of an architecture."""
        name = f"{cell.data.name}/{cell.teacher}"
        training = TeacherTraining(self._data(cell), cell.data, cell.teacher, seed=self._first, name=name)
        for step in training:
            yield Update("teacher", progress, f"Training the teacher {name}", training=step)
        training.teacher.save(stem.parent, stem.name)

    def _card(self, cell: Experiment) -> TeacherCard:
        """What is known of the teacher of a cell."""
        stem = self._stem(cell)
        return teachers.card(cell.teacher) if stem is None else TeacherCard.read(stem.with_suffix(".json"))

    def _load(self, cell: Experiment) -> Teacher:
        stem = self._stem(cell)
        return teachers.load(cell.teacher) if stem is None else teachers.read(stem, f"{cell.data.name}/{cell.teacher}")

    def _samples(self, cell: Experiment, teacher: Teacher, progress: float, title: str) -> Iterator[Update]:
        """The samples of a teacher and a seed, and the seconds they took."""
        start = time.perf_counter()
        parts = self._parts(cell, teacher.card)
        how = {"every": STEPS_BETWEEN_UPDATES, "parts": parts, "shards": self._shards}
        run = Distillation(cell, teacher=teacher, **how)
        while run.samples is None:
            yield replace(next(run), progress=progress, note=f"Making samples: {title}", snapshot=None)
        run.close()
        return run.samples, time.perf_counter() - start

    def _parts(self, cell: Experiment, card: TeacherCard) -> Path:
        """Where the mini-batches of a round are stored until its students are done: by all that samples depend on."""
        plain = {k: v for k, v in cell.to_dict().items() if k != "student"}
        digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
        return self.folder / "parts" / f"{digest}-{card.sha256[:12]}"

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
        with runs.whole(self._place(cell, teacher.card, ".safetensors")) as part:
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

    def _place(self, cell: Experiment, card: TeacherCard, ending: str) -> Path:
        """Where a cell is stored: by all that it depends on, the teacher's weights included."""
        return self.folder / f"{cell.digest()}-{card.sha256[:12]}{ending}"

    def _stored(self, cell: Experiment, card: TeacherCard) -> Row | None:
        """The row of a cell that was finished before."""
        return runs.read_json(self._place(cell, card, ".json")).get("row")


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
        shards: see `Cells`.

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
        shards: int | None = None,
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
        super().__init__(rounds, folder, shards=shards)

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
