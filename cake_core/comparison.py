"""Several runs side by side: methods against methods, and students against their controls, over several seeds."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import data, evaluation
from .budget import Budget, fit
from .errors import CakeError, disk_is_full
from .evaluation import Rate
from .methods import find
from .oracle import Oracle
from .pieces import NOWHERE, Halfway, Piece, Pieces, joined
from .pipeline import Distillation, Experiment, Update, need_examples, noise_only
from .student import KDConfig, Lesson, StudentConfig, StudentTraining, TeacherLogits, fresh
from .synthesis import Synthesis
from .synthetic import Problem, SyntheticSet
from .teacher import Teacher
from .training import TrainStep

__all__ = [
    "CONTROL",
    "GLANCE",
    "SOURCES",
    "Look",
    "MethodComparison",
    "StudentComparison",
    "StudentResult",
    "differences",
    "summarise",
]

SHARED = ("batches", "samples", "sigma")  # what all methods of a comparison get the same of


class MethodComparison(Iterator[Update]):
    """Distils one teacher by several methods, each with several seeds.

    All methods get the same teacher, the same number of samples from the same prior (or the same budget of another
    kind), and students with the same initial weights and the same number of updates. Everything else is each method's
    own default for these data, the temperature of its students included.

    Args:
        experiment: teacher, data, student, and the settings named in `SHARED`; its first seed is where seeds begin.
        methods: names of methods.
        seeds: how many seeds.
        settings: settings of a method that differ from its defaults, by the method's name.
        budget: what all get the same of.
        amount: how much of it, for each method and seed; with "samples" the settings say it.
        pieces: where what is finished is stored, to go on from.

    Attributes:
        experiments: every run, in order; with a budget other than samples their settings are fitted to it first.
        rows: one for each finished run: method, seed and the numbers of its outcome.
        refused: why a method could not run, by its name; the others go on.
    """

    def __init__(
        self,
        experiment: Experiment,
        methods: Sequence[str],
        seeds: int,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        budget: Budget = "samples",
        amount: float = 0,
        pieces: Pieces = NOWHERE,
    ):
        need_examples(experiment.data, "methods can't be compared on it, for nothing judges all of them alike")
        self.experiment, self.methods, self.seeds = experiment, list(methods), seeds
        self.rows: list[dict[str, Any]] = []
        self.refused: dict[str, str] = {}
        self._budget, self._amount, self._pieces = budget, amount, pieces
        shared = {k: getattr(experiment.settings, k) for k in SHARED}
        # Built now, so that a wrong name or setting is refused before anything is computed.
        self.experiments = [
            Experiment.from_dict(
                {
                    **experiment.to_dict(),
                    "method": find(name).name,
                    "settings": {**shared, **(settings or {}).get(name, {})},
                    "student": {**experiment.student.to_dict(), **self._own(name)},
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

    def _own(self, name: str) -> dict[str, Any]:
        """What a method wants of its students, but for their architecture, which is the same for all."""
        wanted = find(name).student_for(data.info(self.experiment.data.name))
        return {k: v for k, v in wanted.items() if k != "model"}

    def _loop(self) -> Iterator[Update]:
        teacher: Teacher | None = None  # trained or loaded once, for all
        fitted: dict[str, dict[str, Any]] = {}
        for number, experiment in enumerate(self.experiments):
            method = experiment.method
            title, share = f"{find(method).title}, seed {experiment.seed}", number / len(self.experiments)
            if method in self.refused:
                continue
            if (known := self._pieces.get(f"cell-{number}")) is not None:
                self._take(method, known.values)
                yield Update("evaluation", share + 1 / len(self.experiments), title)
                continue
            run = None
            try:
                if teacher is None and (first := self._pieces.get("teacher")) is not None:
                    teacher = yield from self._teacher(self.experiments[first.values["of"]], share)
                if self._budget != "samples" and method not in fitted:
                    yield Update("synthesis", share, f"{find(method).title}: what does it cost?")
                    teacher = teacher or (yield from self._teacher(experiment, share))
                    self._hold(number)
                    fitted[method] = self._fitted(experiment, teacher)
                if method in fitted:
                    experiment = experiment.replace(settings=fitted[method])
                run = Distillation(experiment, teacher=teacher, every=50, pieces=self._pieces)
                for update in run:
                    if update.progress == 1:
                        self._hold(number)
                        self._keep(number, {"row": {"method": method, **run.outcome.to_dict()}})
                    progress = share + update.progress / len(self.experiments)
                    yield Update(update.stage, progress, title, training=update.training)
            except CakeError as error:
                if disk_is_full(error):
                    raise
                if run is not None and run.teacher is not None:
                    self._hold(number)
                self._keep(number, {"refused": str(error)})
            if run is not None:
                teacher = run.teacher
                run.forget()
        yield Update("evaluation", 1.0, "Done")

    def _fitted(self, experiment: Experiment, teacher: Teacher) -> dict[str, Any]:
        """The settings with which a method stays within the budget; measured once, for a clock is no dice."""
        name = f"fitted-{experiment.method}"
        if (known := self._pieces.get(name)) is not None:
            return known.values
        found = fit(experiment, teacher, self._budget, self._amount).settings.to_dict()
        self._pieces.put(name, found)
        return found

    def _hold(self, number: int) -> None:
        """Notes whose experiment has brought the teacher of all, if none has before."""
        if self._pieces.get("teacher") is None:
            self._pieces.put("teacher", {"of": number})

    def _keep(self, number: int, found: dict[str, Any]) -> None:
        """Stores what a method has come to with a seed, and takes it."""
        self._pieces.put(f"cell-{number}", found)
        self._take(self.experiments[number].method, found)

    def _take(self, method: str, found: Mapping[str, Any]) -> None:
        """Takes what a method has come to with a seed: a row, or the sentence why there is none.

        Raises:
            CakeError: no method is left.
        """
        if "row" in found:
            self.rows.append(found["row"])
            return
        self.refused[method] = found["refused"]
        if len(self.refused) == len(self.methods):
            raise CakeError(found["refused"])

    def _teacher(self, experiment: Experiment, share: float) -> Generator[Update, None, Teacher]:
        """The teacher of the comparison, trained first where there is none."""
        run = Distillation(experiment, pieces=self._pieces)
        for update in run:
            if run.oracle is not None:
                break
            yield Update(update.stage, share, update.note, training=update.training)
        run.close()
        return run.teacher


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
    """One student: what it learned from, its seed, and how it did on the real test data.

    Attributes:
        plane_agreement: share of the plane in view on which it agrees with the teacher (2-D only).
    """

    source: str
    seed: int
    accuracy: Rate
    agreement: Rate
    calibration_error: float
    plane_agreement: Rate | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values: each rate as its value, with its interval beside it."""
        plain: dict[str, Any] = {"source": self.source, "seed": self.seed}
        for name in ("accuracy", "agreement", "plane_agreement"):
            if (rate := getattr(self, name)) is not None:
                plain |= {name: rate.value, f"{name}_interval": [rate.low, rate.high]}
        return {**plain, "calibration_error": self.calibration_error, "n_test": self.accuracy.n}


@dataclass(frozen=True)
class Look:
    """One point of the curves: a student in training, judged on the first test examples.

    Attributes:
        source, seed: which student.
        update: after how many updates; 0 is the untrained student.
        training_loss: mean over the updates since the look before; None for the first.
        test_loss: cross-entropy with the true labels.
        accuracy, agreement: shares, 0 to 1.
    """

    source: str
    seed: int
    update: int
    training_loss: float | None
    test_loss: float
    accuracy: float
    agreement: float


@dataclass
class Pace:
    """Where the students of a seed are, by source.

    Attributes:
        done: updates.
        summed: the losses since the latest look; `since`, when that was.
        waiting: looks by their update, which wait for those of the other students.
        first: the place of the seed's first look among all looks.
    """

    done: dict[str, int]
    summed: dict[str, float]
    since: dict[str, int]
    waiting: dict[int, dict[str, Look]]
    first: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, but for `first`."""
        waiting = [[u, {k: asdict(p) for k, p in looks.items()}] for u, looks in self.waiting.items()]
        return {"done": self.done, "summed": self.summed, "since": self.since, "waiting": waiting}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any], first: int) -> Pace:
        """The inverse of `to_dict`."""
        waiting = {u: {k: Look(**p) for k, p in looks.items()} for u, looks in told["waiting"]}
        return cls(told["done"], told["summed"], told["since"], waiting, first)


# What students learn from, and what it is called. Noise is the control, and never left out.
SOURCES = {
    "samples": "These samples",
    "noise": "Noise only (control)",
    "kd": "Distillation with data",
    "labels": "Real labels",
}
CONTROL = "noise"
GLANCE = 1000  # test examples that the curves are made of
LOOKS = 40  # points of a curve, about


class StudentComparison(Iterator[Update]):
    """Trains students of one architecture in lock-step, each from another source.

    "samples" are the run's synthetic samples; "noise" is as many samples of noise with the teacher's answers, the
    control; "kd" is ordinary distillation with the teacher's own data (`losses.distillation`), the line that data-free
    methods run for; "labels" is training on the same data without a teacher. All get the same number of updates and,
    for each seed, the same initial weights.

    Args:
        run: a distillation whose teacher and samples are there.
        config: the students' architecture and training.
        seeds: how many seeds, from the distillation's own on.
        sources: which of `SOURCES`; the control is added where it is missing.
        kd: settings of "kd".
        pieces: where what is finished is stored, to go on from.

    Attributes:
        epoch: updates in one pass over the synthetic samples.
        results: one for each finished student.
        looks: the curves, one point after the other; of all sources up to the same update.
        confusion: for each source how often the teacher's answer (rows) met the student's (columns) on the test data,
            summed over the seeds, (C, C).
        first: for each source the trained student of the first seed.
        differences: for each source where that student answers otherwise than the teacher (see `differences`).
        of_teacher: the teacher's logits on the test data (N, C), once they are known.

    Raises:
        CakeError: there are no real test data to judge by, a source is unknown, or its data are missing.
    """

    def __init__(
        self,
        run: Distillation,
        config: StudentConfig,
        seeds: int = 1,
        sources: Sequence[str] = tuple(SOURCES),
        kd: KDConfig | None = None,
        pieces: Pieces = NOWHERE,
    ):
        need_examples(run.experiment.data, "students can't be compared on it. Choose a run on a set with examples")
        self.run, self.config, self.seeds, self.kd = run, config, seeds, kd or KDConfig()
        if unknown := set(sources) - set(SOURCES):
            raise CakeError(f"Students can't learn from {', '.join(sorted(unknown))}. There are: {', '.join(SOURCES)}.")
        self.sources = [k for k in SOURCES if k in sources or k == CONTROL]
        self.epoch = math.ceil(len(run.samples) / config.batch_size)
        self.every = spacing(config.updates, self.epoch)
        self.results: list[StudentResult] = []
        self.looks: list[Look] = []
        self.confusion: dict[str, Tensor] = {}
        self.first: dict[str, nn.Module] = {}
        self.differences: dict[str, dict[str, Any]] = {}
        self.of_teacher: Tensor | None = None
        self._answers = TeacherLogits(run.network, run.dataset)
        self._pieces = pieces
        self._updates = self._loop()

    def __next__(self) -> Update:
        return next(self._updates)

    def close(self) -> None:
        """Cancels the comparison; the results so far stay."""
        self._updates.close()

    def begin(self, seed: int) -> dict[str, StudentTraining]:
        """The students of one seed before their first update, by source."""
        dataset, softness = self.run.dataset, (self.config.targets, self.config.temperature)
        lessons: dict[str, Callable[[], Lesson]] = {
            "samples": lambda: Lesson.from_samples(self.run.samples, *softness),
            "noise": lambda: Lesson.from_samples(self._noise(seed), *softness),
            "kd": lambda: Lesson.from_teacher(dataset, self._answers, self.kd),
            "labels": lambda: Lesson.from_labels(dataset),
        }
        return {k: StudentTraining(lessons[k](), self.config, seed=seed, every=self.every) for k in self.sources}

    def _loop(self) -> Iterator[Update]:
        first = self.run.experiment.seed
        self.of_teacher = yield from self._asked(self.run.network, Update("data", 0.0, "Asking the teacher"))
        if (answers := self._pieces.get("answers")) is not None:
            self._answers.know(answers)
        for number, seed in enumerate(range(first, first + self.seeds)):
            if (known := self._pieces.get(f"seed-{seed}")) is not None:
                step = self._take(seed, known)
                yield Update("student", (number + 0.99) / self.seeds, f"Seed {seed} is done", training=step)
                continue
            students = self.begin(seed)
            looked = len(self.looks)
            for step, source, share in self._lock_step(students, seed):
                note = f"Training on {SOURCES[source][0].lower()}{SOURCES[source][1:]}, seed {seed}"
                yield Update("student", (number + 0.98 * share) / self.seeds, note, training=step)
            for source, student in students.items():
                update = Update("student", (number + 0.99) / self.seeds, "Comparing with the teacher", training=step)
                logits = yield from self._asked(student.network, update)
                self._judge(source, seed, student.network, logits)
            self._keep(seed, step, self.looks[looked:])
        yield Update("student", 1.0, "Done", training=step)

    def _asked(self, network: nn.Module, update: Update) -> Generator[Update, None, Tensor]:
        """A network's logits on the test data, in parts: a large one on a CPU must not keep others waiting."""
        parts = []
        for x in self.run.dataset.test_x.split(1024):
            parts.append(evaluation.predict(network, x, self.run.dataset.inputs))
            yield update
        return torch.cat(parts)

    def _lock_step(self, students: dict[str, StudentTraining], seed: int) -> Iterator[tuple[TrainStep, str, float]]:
        """Trains all at the same pace: the one that is furthest behind goes next. Looks at each as it comes along.

        Yields:
            The step, whose it is, and the share of all steps that are done.
        """
        halfway = self._pieces.halfway(f"halfway-{seed}")
        pace = self._resumed(halfway, students)
        if pace is None:
            start = {k: self._look(k, seed, 0, None, s) for k, s in students.items()}
            pace = Pace(*(dict.fromkeys(students, zero) for zero in (0, 0.0, 0)), {0: start}, len(self.looks))
        done, summed, since, waiting = pace.done, pace.summed, pace.since, pace.waiting
        while True:
            # Looks are shown when all students have come so far, so that the lines of a chart are of equal length.
            for update in [u for u, looks in waiting.items() if len(looks) == len(students)]:
                looks = waiting.pop(update)
                self.looks += [looks[k] for k in students]  # in one order, whoever came first
            source = min(done, key=done.get)
            if done[source] == self.config.updates:
                return
            self._store(halfway, students, pace)
            step = next(students[source])
            summed[source] += step.loss * (step.update - done[source])
            done[source] = step.update
            if step.update % self.every == 0 or step.update == self.config.updates:
                mean = summed[source] / (step.update - since[source])
                look = self._look(source, seed, step.update, mean, students[source])
                waiting.setdefault(step.update, {})[source] = look
                summed[source], since[source] = 0.0, step.update
            yield step, source, sum(done.values()) / (len(done) * self.config.updates)

    # -- what is stored to go on from ----------------------------------------------------------------------------------

    def _store(self, halfway: Halfway | None, students: Mapping[str, StudentTraining], pace: Pace) -> None:
        """Stores all students of a seed as they are now, now and then: all of one moment, with their curves."""
        if halfway is None or not halfway.due:
            return
        parts = {k: moment for k, s in students.items() if (moment := s.moment()) is not None}
        if "kd" in parts and not (self._answers.complete and self._pieces.get("answers") is not None):
            answers = self._answers.known()
            parts |= {} if self._answers.complete else {"answers": answers}
            if self._answers.complete:
                self._pieces.put("answers", answers.values, answers.tensors)
        halfway.keep(joined(parts, {"pace": pace.to_dict(), "looks": [asdict(p) for p in self.looks[pace.first :]]}))

    def _resumed(self, halfway: Halfway | None, students: Mapping[str, StudentTraining]) -> Pace | None:
        """Puts the students of a seed back to where they were stored last; None where they have to begin."""
        moment = None if halfway is None else halfway.begun()
        if moment is None:
            return None
        parts = moment.values["parts"]
        for source in parts.keys() & students.keys():
            students[source].go_on(moment.part(source))
        if "answers" in parts:
            self._answers.know(moment.part("answers"))
        pace = Pace.from_dict(moment.values["pace"], len(self.looks))
        self.looks += [Look(**p) for p in moment.values["looks"]]
        return pace

    def _keep(self, seed: int, step: TrainStep, looks: Sequence[Look]) -> None:
        """Stores what the students of a seed have come to."""
        if self._pieces.folder is None:
            return
        if "kd" in self.sources and self._pieces.get("answers") is None:
            answers = self._answers.known()
            self._pieces.put("answers", answers.values, answers.tensors)
        values = {"step": asdict(step), "looks": [asdict(p) for p in looks]}
        values["results"] = [asdict(r) for r in self.results if r.seed == seed]
        tensors = {f"confusion.{k}": m for k, m in self.confusion.items()}  # of all seeds until now
        if seed == self.run.experiment.seed:
            values["differences"] = self.differences
            tensors |= {f"{k}.{name}": t for k, n in self.first.items() for name, t in n.state_dict().items()}
        self._pieces.put(f"seed-{seed}", values, tensors)
        self._pieces.drop(f"halfway-{seed}")

    def _take(self, seed: int, known: Piece) -> TrainStep:
        """Takes what the students of a seed had come to; returns their last step."""
        self.looks += [Look(**p) for p in known.values["looks"]]
        for told in known.values["results"]:
            rates = {k: told[k] and Rate(**told[k]) for k in ("accuracy", "agreement", "plane_agreement")}
            self.results.append(StudentResult(**{**told, **rates}))
        device = self.run.dataset.test_y.device
        self.confusion = {k: known.tensors[f"confusion.{k}"].to(device) for k in self.sources}
        if "differences" in known.values:
            self.differences = known.values["differences"]
            shape, classes = self.run.dataset.info.shape, len(self.run.dataset.info.classes)
            for source in self.sources:
                network = fresh(self.config, shape, classes, seed).to(device)
                start = f"{source}."
                network.load_state_dict(
                    {k.removeprefix(start): t for k, t in known.tensors.items() if k.startswith(start)}
                )
                self.first[source] = network.eval()
        return TrainStep(**known.values["step"])

    # -- judging -------------------------------------------------------------------------------------------------------

    def _look(self, source: str, seed: int, update: int, loss: float | None, student: StudentTraining) -> Look:
        y, of_teacher = self.run.dataset.test_y[:GLANCE], self.of_teacher[:GLANCE]
        with evaluation.in_eval_mode(student.network):
            logits = evaluation.predict(student.network, self.run.dataset.test_x[:GLANCE], self.run.dataset.inputs)
        return Look(
            source,
            seed,
            update,
            loss,
            F.cross_entropy(logits, y).item(),
            evaluation.accuracy(logits, y).value,
            evaluation.agreement(logits, of_teacher).value,
        )

    def _judge(self, source: str, seed: int, network: nn.Module, logits: Tensor) -> None:
        dataset, plane = self.run.dataset, None
        if dataset.info.kind == "points":
            points = evaluation.grid(dataset.half_width, PLANE, dataset.test_x.device)
            plane = evaluation.agreement(
                evaluation.predict(network, points), evaluation.predict(self.run.network, points)
            )
        self.results.append(
            StudentResult(
                source,
                seed,
                evaluation.accuracy(logits, dataset.test_y),
                evaluation.agreement(logits, self.of_teacher),
                evaluation.calibration_error(logits, dataset.test_y),
                plane,
            )
        )
        classes = len(dataset.info.classes)
        met = evaluation.confusion(self.of_teacher.argmax(dim=1), logits.argmax(dim=1), classes)
        self.confusion[source] = self.confusion.get(source, 0) + met
        if source not in self.first:
            self.first[source] = network
            self.differences[source] = differences(self.run, network, self.of_teacher, logits)

    def _noise(self, seed: int) -> SyntheticSet:
        """As many samples of the prior as the run has, with the answers of its teacher."""
        settings, info = noise_only(self.run.experiment).settings, self.run.dataset.info
        device = self.run.dataset.test_x.device
        oracle = Oracle(self.run.network, device, find("noise").access, frozen=True)
        problem = Problem(oracle, info.shape, len(info.classes), settings.batches, device)
        synthesis = Synthesis(find("noise")(settings), problem, seed=seed, every=sys.maxsize)
        for _ in synthesis:
            pass
        return synthesis.result


def spacing(updates: int, epoch: int) -> int:
    """Updates between two looks at a student: a whole number of epochs, or an even part of one where there are few.

    >>> spacing(2000, 63), spacing(4000, 10), spacing(100, 1000)
    (63, 100, 5)
    """
    if updates >= LOOKS / 2 * epoch:
        return epoch * math.ceil(updates / epoch / LOOKS)
    return max(1, updates // (LOOKS // 2))


def differences(
    run: Distillation, student: nn.Module, of_teacher: Tensor, of_student: Tensor, most: int = 12
) -> dict[str, Any]:
    """Where a student answers otherwise than its teacher.

    Args:
        run: whose teacher and data.
        student: in eval mode, on the device of the data.
        of_teacher, of_student: logits on the test data (N, C).
        most: images to show.

    Returns:
        For images "images": those on which both are surest of different classes, each with its "pixels" (C, H, W), true
        "label", the answers of "teacher" and "student", and their confidences. For points "half_width" and the answers
        of "teacher" and "student" on a grid over the plane in view, row by row from below.
    """
    dataset, names = run.dataset, run.dataset.info.classes
    if dataset.info.kind == "points":
        points = evaluation.grid(dataset.half_width, PLANE, dataset.test_x.device)
        networks = {"teacher": run.network, "student": student}
        answers = {k: evaluation.predict(n, points).argmax(dim=1).view(PLANE, PLANE) for k, n in networks.items()}
        return {"half_width": dataset.half_width, **{k: a.tolist() for k, a in answers.items()}}
    theirs, its = (z.softmax(dim=1).max(dim=1) for z in (of_teacher, of_student))
    differ = (theirs.indices != its.indices).nonzero().flatten()
    surest = torch.minimum(theirs.values[differ], its.values[differ]).argsort(descending=True)[:most]
    return {
        "images": [
            {
                "pixels": dataset.test_x[i].tolist(),
                "label": names[dataset.test_y[i]],
                "teacher": names[theirs.indices[i]],
                "student": names[its.indices[i]],
                "teacher_confidence": theirs.values[i].item(),
                "student_confidence": its.values[i].item(),
            }
            for i in differ[surest]
        ]
    }


PLANE = 100  # grid points along each side of the plane in view
