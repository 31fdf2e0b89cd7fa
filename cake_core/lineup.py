"""A line-up for detection: teachers that are hard to tell apart, students that copied one of them or nobody, and what
probes made from each student say about it. Whatever is finished is stored, so that a line-up goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import data, detection, devices, evaluation, models, runs
from . import teacher as teachers
from .black_box import LocalBlackBox
from .config import Config, param
from .data import DataConfig, Dataset
from .data.images import download
from .detection import SCORES, SETS, ProbeConfig
from .errors import CakeError
from .few_call import FewCall, FewCallConfig
from .methods import METHODS
from .pieces import NOWHERE, Pieces
from .pipeline import Distillation, Experiment, Update, need_examples
from .rng import generator
from .student import KDConfig, Lesson, StudentConfig, StudentTraining, TeacherLogits
from .teacher import Teacher, TeacherCard, TeacherTraining

__all__ = [
    "COUNTS",
    "KINDS",
    "PROBES",
    "PUBLISHED",
    "LineUp",
    "LineUpConfig",
    "Suspect",
    "everyone",
    "hidden",
    "letter",
    "summary",
    "verdicts",
]

Row = dict[str, Any]

# How a student came to be. Any other name in METHODS is one that learned from that method's samples.
KINDS = {
    "kd": "Distilled with data",
    "cake": "Copied by CAKE, without data",
    "dafl": "Copied by DAFL, without data",
    "aspkd": "Copied with few calls (ASPKD)",
    "outsider": "Distilled from a teacher that is not in the line-up",
    "scratch": "Learned from the labels alone",
}
TAUGHT = ("scratch", "kd", "outsider", "aspkd")  # by answers or labels; all others by samples made without data
NOBODY = ("outsider", "scratch")  # those that copied none of the teachers in the line-up

# What teachers are asked about. The first two are made from the student; the others are baselines.
PROBES = {
    "direct": "Made from the student, directly",
    "generator": "Made from the student, by a generator",
    "real": "Real training images (oracle)",
    "other": "Other images",
    "surest": "Other images of which the student is surest",
    "noise": "Noise (control)",
}
COUNTS = (1, 50, 100)  # how many probes: the published table's numbers

# Accuracy and AUC that the paper prints for CIFAR-10 by source and number of probes, with KL; from notes, not checked
# against its tables. Its MIA filter picks probes by membership inference, which "surest" is the simplest form of.
PUBLISHED = {
    "generator": {1: (0.62, 0.75), 50: (0.87, 0.94), 100: (0.87, 0.94)},
    "real": {1: (0.45, 0.64), 50: (0.87, 0.96), 100: (0.95, 0.99)},
    "surest": {1: (0.43, 0.66), 50: (0.54, 0.79), 100: (0.55, 0.80)},
}
PUBLISHED["direct"] = PUBLISHED["generator"]
POOL = 1000  # other images among which the surest are looked for
# By data set, or else by kind of data: the architectures of a mixed line-up, in turn. Twins are all of the first.
ARCHITECTURES = {
    "digits": ("mlp", "lenet5-half", "mlp-norm", "lenet5"),
    "images": ("lenet5", "lenet5-half", "mlp", "resnet4-half"),
    "points": ("mlp", "mlp-norm"),
}
STUDENTS = {"digits": "mlp-norm", "images": "lenet5-half", "points": "mlp"}  # likewise, where none is named


class LineUpConfig(Config):
    """Who stands in a line-up, and how they came to be."""

    data: DataConfig = DataConfig(name="digits")
    teachers: int = param(
        4, low=2, high=8, group="Data", symbol="K", help="Teachers in the line-up. A blind guess is right once in K."
    )
    resemblance: Literal["twins", "mixed"] = param(
        "twins",
        group="Data",
        help="Twins: one architecture, trained on the same data from different initial weights. Mixed: different "
        "architectures on the same data.",
    )
    teacher_updates: int = param(
        1500, low=1, high=1_000_000, scale="log", group="Data", help="Gradient steps of each teacher."
    )
    student: str = param(
        "", choices=("", *models.MODELS), group="Student", help="Architecture of all students; empty: the data's usual."
    )
    updates: int = param(
        600,
        low=1,
        high=1_000_000,
        scale="log",
        label="Student updates",
        group="Student",
        help="Gradient steps of each student.",
    )
    kd_weight: float = param(
        0.9,
        low=0.0,
        high=1.0,
        step=0.05,
        symbol="a",
        group="Student",
        label="Weight of the teacher",
        help="Share of the teacher's answers in what distilled students learn; the rest are the true labels.",
    )
    batches: int = param(
        10,
        low=1,
        high=10_000,
        scale="log",
        label="Sample batches",
        group="Method",
        help="Mini-batches of samples for copies without data.",
    )
    nulls: int = param(
        5,
        low=0,
        high=100,
        label="Null students",
        group="Advanced",
        help="Students that learned from labels alone and set what it takes to be named; they are not judged. With n "
        "of them, at most one in n + 1 of their kind is named falsely.",
    )
    runs: int = param(
        1, low=1, high=100, group="Advanced", help="How often each student is judged, with new probes each time."
    )
    probes: ProbeConfig = ProbeConfig()
    seed: int = param(0, low=0, high=2**31 - 1, group="Data", help="Of all weights, samples and probes.")
    device: Literal["auto", "cpu", "cuda", "mps"] = param("auto", group="Advanced", help="Where to compute.")

    def check(self) -> None:
        """Refuses what can't be, before anything is computed.

        Raises:
            CakeError: the data set has no examples, or the architecture does not take them.
        """
        need_examples(self.data, "no line-up can be made of it. Choose another data set")
        models.build(self.student_model, self.info.shape, len(self.info.classes))

    @property
    def info(self) -> data.DatasetInfo:
        """The data set."""
        return data.info(self.data.name)

    @property
    def student_model(self) -> str:
        """The students' architecture."""
        return self.student or STUDENTS.get(self.info.name, STUDENTS[self.info.kind])

    def teacher_model(self, number: int) -> str:
        """The architecture of one teacher."""
        found = ARCHITECTURES.get(self.info.name, ARCHITECTURES[self.info.kind])
        return found[0 if self.resemblance == "twins" else number % len(found)]


@dataclass(frozen=True)
class Suspect:
    """A student, and how it came to be.

    Attributes:
        kind: a key of `KINDS`, or of `METHODS`.
        teacher: index of the teacher that it copied; those of outsiders follow the line-up's; None for scratch.
        seed: of its weights and samples, beside the line-up's own.
    """

    kind: str
    teacher: int | None
    seed: int = 0

    @property
    def truth(self) -> int | None:
        """Whom the score should name: a teacher in the line-up, or nobody."""
        return None if self.kind in NOBODY else self.teacher


def everyone(config: LineUpConfig, kinds: Sequence[str] = tuple(KINDS), seeds: int = 1) -> list[Suspect]:
    """Students of every kind from every teacher, over several seeds; as many that copied nobody as one teacher has.

    Raises:
        CakeError: there is no such kind.
    """
    for kind in kinds:
        if kind not in KINDS and (kind not in METHODS or METHODS[kind].control):
            raise CakeError(f"Students can't be of kind '{kind}'. There are: {', '.join(KINDS)}, and methods.")
    found = []
    for seed in range(seeds):
        for kind in kinds:
            if kind == "scratch":
                found += [Suspect(kind, None, seed * config.teachers + k) for k in range(config.teachers)]
            elif kind == "outsider":
                found.append(Suspect(kind, config.teachers + seed, seed))
            else:
                found += [Suspect(kind, k, seed) for k in range(config.teachers)]
    return found


def hidden(config: LineUpConfig, kinds: Sequence[str], count: int) -> list[Suspect]:
    """The suspects of a game: so many, of kinds and teachers that the line-up's seed draws; always one that copied
    nobody, where such a kind is among them.
    """
    draws = random.Random(config.seed)
    copies = [k for k in kinds if k not in NOBODY]
    nobody = [k for k in kinds if k in NOBODY]
    chosen = [draws.choice(nobody)] if nobody else []
    chosen += [draws.choice(copies or nobody) for _ in range(count - len(chosen))]
    draws.shuffle(chosen)
    where = {"scratch": lambda: None, "outsider": lambda: config.teachers}
    return [
        Suspect(kind, where.get(kind, lambda: draws.randrange(config.teachers))(), number)
        for number, kind in enumerate(chosen)
    ]


class LineUp(Iterator[Update]):
    """Makes teachers and students, judges each student by its probes, and calibrates "none of them".

    Args:
        config: who, and how.
        suspects: the students to judge.
        probes: keys of `PROBES`: what the teachers are asked about.
        scores: keys of `detection.SCORES`.
        counts: numbers of probes to judge by; those above `config.probes.count` are left out.
        teachers: the line-up where it is there already; nothing of it is trained then.
        students: likewise for all suspects.
        folder: where all that is finished is stored (None: among the runs).
        pieces: where what is not finished yet is stored, to go on from.

    Attributes:
        dataset: the data.
        teachers: the line-up, in order.
        students: of the suspects, in order, as far as they are trained.
        rows: one for each student, run, source of probes, number of probes and score.
        clues: for each suspect some probes of the first source, with all answers (see `clues`).
        calls: answers of each teacher that one student's probes of one source and one run took.
    """

    def __init__(
        self,
        config: LineUpConfig,
        suspects: Sequence[Suspect],
        *,
        probes: Sequence[str] = ("direct", "noise"),
        scores: Sequence[str] = ("kl", "acs", "cka"),
        counts: Sequence[int] = COUNTS,
        teachers: Sequence[Teacher] = (),
        students: Sequence[Teacher] = (),
        folder: Path | None = None,
        pieces: Pieces = NOWHERE,
    ):
        self._pieces = pieces
        if teachers:
            config = config.replace(teachers=len(teachers))
        if not (teachers and students and config.nulls == 0):
            config.check()
        for what, named, known in (("probes", probes, PROBES), ("score", scores, SCORES)):
            if unknown := [name for name in named if name not in known]:
                raise CakeError(f"There are no {what} '{unknown[0]}'. Choose among: {', '.join(known)}.")
        if not suspects:
            raise CakeError("There is nobody to judge. Ask for at least one student.")
        self.config, self.suspects = config, list(suspects)
        self.probes, self.scores = list(probes), list(scores)
        self.counts = sorted({min(n, config.probes.count) for n in counts})
        self.folder = folder or runs.folder() / "lineups"
        self.device = devices.choose(config.device)
        self.dataset: Dataset | None = None
        self.teachers, self.students = list(teachers), list(students)
        self.rows: list[Row] = []
        self.clues: list[list[Row]] = []
        self.calls = 0
        self._answers: dict[int, TeacherLogits] = {}
        self._nulls = [Suspect("scratch", None, NULL_SEED + i) for i in range(config.nulls)]
        self._outside = sorted({s.teacher for s in suspects if s.kind == "outsider"})
        self._others: dict[int, Teacher] = {}
        # Teachers, students, and their judging; a copy made without data takes about as long as three others.
        students = [*self.suspects, *self._nulls]
        weights = sum(_weight(s) + 1 for s in students)
        self._done, self._total = 0.0, 2.0 * (config.teachers + len(self._outside)) + weights
        self._updates = self._loop()

    def __next__(self) -> Update:
        return next(self._updates)

    def close(self) -> None:
        """Cancels; what is finished stays."""
        self._updates.close()

    @property
    def experiments(self) -> list[Experiment]:
        """Whose samples students learn from that copy without data."""
        return [self._copying(s, s.seed) for s in self.suspects if s.kind in METHODS and s.kind not in TAUGHT]

    # -- the stages ----------------------------------------------------------------------------------------------------

    def _loop(self) -> Iterator[Update]:
        for _ in download(self.config.data.name):
            yield Update("data", 0.0, f"Downloading {self.config.info.title}")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.dataset = data.load(self.config.data).to(self.device)
        for given in (*self.teachers, *self.students):
            self._ready(given)
        for number in range(len(self.teachers), self.config.teachers):
            self.teachers.append((yield from self._teacher(number)))
        for number in self._outside:
            self._others[number] = yield from self._teacher(number)
        for number in range(len(self.students), len(self.suspects)):
            trained = yield from self._student(self.suspects[number], f"Training suspect {letter(number)}")
            self.students.append(trained)
        for suspect in self._nulls:
            student = yield from self._student(suspect, "Training a student that copies nobody")
            yield from self._judged(suspect, student, None)
        for number, (suspect, student) in enumerate(zip(self.suspects, self.students, strict=True)):
            yield from self._judged(suspect, student, number)
        yield Update("evaluation", 1.0, "Done")

    def _at(self, share: float, stage: str, note: str, weight: float, **more: Any) -> Update:
        """Where the whole is, when a share of a piece of some weight is done."""
        return Update(stage, min(1.0, (self._done + share * weight) / self._total), note, **more)

    def _teacher(self, number: int) -> Generator[Update, None, Teacher]:
        """A teacher, loaded where it was trained before."""
        c = self.config
        model, seed = c.teacher_model(number), SEEDS * c.seed + number
        settings = teachers.recipe(c.info.name, model, updates=c.teacher_updates)
        stem = self._place("teacher", data=c.data.to_dict(), model=model, seed=seed, settings=settings.to_dict())
        name = f"Teacher {number + 1}"
        if not teachers.is_whole(stem):
            own = self._pieces.within(stem.name)
            how = {"seed": seed, "name": name, "halfway": own.halfway("training")}
            training = TeacherTraining(self.dataset, c.data, model, settings, **how)
            for step in training:
                yield self._at(step.update / step.total, "teacher", f"Training {name.lower()}", 2.0, training=step)
            training.teacher.save(stem.parent, stem.name)
            own.end()
        self._done += 2.0
        return self._ready(teachers.read(stem, name))

    def _student(self, suspect: Suspect, note: str) -> Generator[Update, None, Teacher]:
        """A student, loaded where it was trained before. It is kept as teachers are: weights and a card."""
        c, weight = self.config, _weight(suspect)
        settings = StudentConfig.for_data(c.info, model=c.student_model, updates=c.updates)
        taught_by = None if suspect.teacher is None else self._of(suspect.teacher).card.sha256
        about = {"data": c.data.to_dict(), "settings": settings.to_dict(), "teacher": taught_by, "kind": suspect.kind}
        about |= {"kd": c.kd_weight} if suspect.kind in ("kd", "outsider") else {"batches": c.batches}
        seed = SEEDS * c.seed + suspect.seed
        stem = self._place("student", **about, seed=seed)
        if not teachers.is_whole(stem):
            own = self._pieces.within(stem.name)
            lesson = yield from self._lesson(suspect, seed, note, own)
            training = StudentTraining(lesson, settings, seed=seed + APART, halfway=own.halfway("training"))
            for step in training:
                share = (weight - 1 + step.update / step.total) / weight
                yield self._at(share, "student", note, weight, training=step)
            network = training.network
            logits = evaluation.predict(network, self.dataset.test_x, self.dataset.inputs)
            card = TeacherCard(
                name="",
                data=c.data.to_dict(),
                model=c.student_model,
                seed=seed,
                recipe=settings.to_dict(),
                parameters=models.parameter_count(network),
                accuracy=evaluation.accuracy(logits, self.dataset.test_y),
                trained_with=f"torch {torch.__version__}",
            )
            Teacher(card, network).save(stem.parent, stem.name)
            own.end()
        self._done += weight
        return self._ready(teachers.read(stem, "a suspect"))

    def _lesson(self, suspect: Suspect, seed: int, note: str, pieces: Pieces) -> Generator[Update, None, Lesson]:
        """What a student learns from. Another kind of student is one more case here and in `KINDS`."""
        c, whole = self.config, _weight(suspect)
        if suspect.kind == "scratch":
            return Lesson.from_labels(self.dataset)
        if suspect.kind in ("kd", "outsider"):
            if suspect.teacher not in self._answers:
                self._answers[suspect.teacher] = TeacherLogits(self._of(suspect.teacher).network, self.dataset)
            return Lesson.from_teacher(self.dataset, self._answers[suspect.teacher], KDConfig(weight=c.kd_weight))
        if suspect.kind == "aspkd":
            return (yield from self._bought(suspect, seed, note, pieces))
        experiment = self._copying(suspect, seed)
        how = {"every": STEPS_BETWEEN_UPDATES, "pieces": pieces}
        run = Distillation(experiment, teacher=self._of(suspect.teacher), **how)
        for update in run:
            if run.samples is not None:
                break
            yield self._at(update.progress * (whole - 1) / whole, "synthesis", note, whole)
        run.close()
        return Lesson.from_samples(run.samples, experiment.student.targets, experiment.student.temperature)

    def _copying(self, suspect: Suspect, seed: int) -> Experiment:
        """The experiment whose samples a student learns from that copied without data; its teacher is set apart."""
        c = self.config
        flat = {"data": c.data.name, "method": suspect.kind, "batches": str(c.batches), "student": c.student_model}
        return Experiment.from_query({**flat, "seed": str(seed), "device": c.device}).replace(data=c.data)

    def _bought(self, suspect: Suspect, seed: int, note: str, pieces: Pieces) -> Generator[Update, None, Lesson]:
        """What few calls give: proxies with the teacher's answers, and with those of their neighbours."""
        c, whole = self.config, _weight(suspect)
        student = {"model": c.student_model, "updates": c.updates}
        settings = {"data": c.data.to_dict(), "student": student, "seed": seed, "device": c.device}
        config = FewCallConfig.from_dict(settings)
        box = LocalBlackBox.of(self._of(suspect.teacher), budget=config.budget, device=self.device)
        run = FewCall(config, box=box, stranger=True, pieces=pieces)
        for update in run:
            yield self._at(update.progress * (whole - 1) / whole, update.stage, note, whole)
        return Lesson.from_answers(*run.taught)

    def _of(self, number: int) -> Teacher:
        """A teacher of the line-up, or one outside it."""
        return self.teachers[number] if number < len(self.teachers) else self._others[number]

    def _ready(self, kept: Teacher) -> Teacher:
        """The same, on the device and frozen."""
        kept.network.to(self.device).requires_grad_(False)
        return kept

    def _place(self, what: str, **about: Any) -> Path:
        """Where something is stored, without its ending: by all that it depends on."""
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:20]
        return self.folder / f"{what}-{digest}"

    # -- judging -------------------------------------------------------------------------------------------------------

    def _judged(self, suspect: Suspect, student: Teacher, number: int | None) -> Iterator[Update]:
        """Adds a student's rows and clues; computed where they are not stored."""
        note = "Judging a student that copied nobody" if number is None else f"Judging suspect {letter(number)}"
        c = self.config
        shas = [t.card.sha256 for t in (student, *self.teachers)]
        known = {"networks": shas, "probes": c.probes.to_dict(), "of": self.probes, "scores": self.scores}
        path = self._place("verdict", **known, counts=self.counts, runs=c.runs, seed=c.seed).with_suffix(".json")
        found = runs.read_json(path)
        if not found.keys() >= {"rows", "clues"}:
            found = {"rows": [], "clues": []}
            for run in range(c.runs):
                for source in self.probes:
                    steps = probes_for(source, student.network, self.dataset, c.probes, (c.seed, run))
                    share = (run + self.probes.index(source) / len(self.probes)) / c.runs
                    x = yield from _passed_on(steps, lambda _, share=share: self._at(share, "evaluation", note, 1.0))
                    g, answers, calls = answered(student.network, [t.network for t in self.teachers], x)
                    if not found["clues"]:
                        found |= {"clues": clues(self.dataset, x, g, answers), "calls": calls}
                    found["rows"] += [
                        {"run": run, "probes": source, **row} for row in judge(g, answers, self.scores, self.counts)
                    ]
            runs.write_json(path, found)
        about = {"suspect": number, "kind": suspect.kind, "teacher": suspect.truth, "seed": suspect.seed}
        about |= {"accuracy": student.card.accuracy.value if student.card.accuracy else None}
        self.rows += [about | row for row in found["rows"]]
        self.calls = found["calls"]
        if number is not None:
            self.clues.append(found["clues"])
        self._done += 1.0
        yield self._at(0.0, "evaluation", note, 0.0)


SEEDS = 1000  # seeds that one line-up's seed stands for
NULL_SEED = 500  # of the first student that sets the threshold: none that is judged has such a seed
APART = 77  # so that no student has a teacher's initial weights
STEPS_BETWEEN_UPDATES = 4  # of a synthesis, so that a pause is felt soon


def letter(number: int) -> str:
    """What a suspect is called: A, B, ..., Z, AA, ..."""
    return letter(number // 26 - 1) + letter(number % 26) if number >= 26 else chr(ord("A") + number)


def _weight(suspect: Suspect) -> float:
    """How long a student takes to be made, beside one that learns from data."""
    return 1.0 if suspect.kind in ("kd", *NOBODY) else 4.0


def _passed_on(
    steps: Generator[float, None, Tensor], update: Callable[[float], Update]
) -> Generator[Update, None, Any]:
    """The same steps as updates; returns what they return."""
    while True:
        try:
            share = next(steps)
        except StopIteration as ended:
            return ended.value
        yield update(share)


# -- probes and what is said about them --------------------------------------------------------------------------------


def probes_for(
    source: str, student: nn.Module, dataset: Dataset, config: ProbeConfig, key: Sequence[int]
) -> Generator[float, None, Tensor]:
    """Probes of one of the sources of `PROBES`, as an API can be asked: images are rounded to pixels.

    Args:
        source: a key of `PROBES`.
        student: whom they are made from; looked at by the first two and "surest" alone.
        dataset: whose inputs they look like; its examples are used by "real" alone.
        config: how they are made, and how many.
        key: of the random numbers.

    Yields:
        The share of the work that is done.

    Returns:
        Probes (N, *shape), normalised.
    """
    info, device = dataset.info, dataset.mean.device
    rng = generator(*key, detection.PROBE_STREAM)
    images = info.kind == "images"
    if source in ("direct", "generator"):
        within = ((0 - dataset.mean) / dataset.std, (1 - dataset.mean) / dataset.std) if images else None
        seed = int(torch.randint(2**31, (1,), generator=rng))
        steps = detection.probes(
            student,
            info.shape,
            len(info.classes),
            config.replace(maker=source),
            seed=seed,
            device=device,
            within=within,
        )
        x = yield from steps
    elif source == "real":
        need_examples(DataConfig(name=info.name), "real images can't be the probes")
        x = dataset.inputs(
            dataset.train_x[torch.randperm(len(dataset.train_x), generator=rng)[: config.count].to(device)]
        )
    elif source == "noise":
        x = torch.randn(config.count, *info.shape, generator=rng).to(device)
    else:
        x = others(dataset, POOL if source == "surest" else config.count, rng)
        if source == "surest":
            sure = evaluation.predict(student, x).softmax(dim=1).max(dim=1).values
            x = x[sure.argsort(descending=True)[: config.count]]
    return dataset.inputs(dataset.pixels(x)) if images else x


LOOKALIKES = {"mnist": "fashion-mnist", "fashion-mnist": "mnist"}  # other images of the same size


def others(dataset: Dataset, count: int, rng: torch.Generator) -> Tensor:
    """Inputs that have nothing to do with the data: images of another set of the same size where one is on the disk,
    else smooth random shapes; for points, evenly spread over the plane in view. Normalised, (N, *shape).
    """
    info, device = dataset.info, dataset.mean.device
    if info.kind == "points":
        return ((2 * torch.rand(count, *info.shape, generator=rng) - 1) * dataset.half_width).to(device)
    other = LOOKALIKES.get(info.name)
    if other and data.info(other).on_disk():
        found = data.load(DataConfig(name=other)).test_x
        return dataset.inputs(found[torch.randperm(len(found), generator=rng)[:count]].to(device))
    channels, *sides = info.shape
    coarse = torch.rand(count, channels, *(max(2, s // 4) for s in sides), generator=rng)
    smooth = F.interpolate(coarse, sides, mode="bilinear", align_corners=True)
    return dataset.inputs((((smooth - 0.5) * 3 + 0.5).clamp(0, 1) * 255).to(torch.uint8).to(device))


def answered(student: nn.Module, candidates: Sequence[nn.Module], x: Tensor) -> tuple[Tensor, Tensor, int]:
    """The student's probabilities (N, C), the candidates' (K, N, C) through their APIs, and the calls of each."""
    with torch.no_grad():
        g = student(x).softmax(dim=1)
    classes = [str(k) for k in range(g.shape[1])]
    boxes = [LocalBlackBox(network, tuple(x.shape[1:]), classes, device=x.device) for network in candidates]
    return g, detection.ask(boxes, x), boxes[0].usage().calls


def judge(g: Tensor, answers: Tensor, scores: Sequence[str], counts: Sequence[int]) -> list[Row]:
    """Scores of all candidates by the first probes, for each number of probes and score that has a meaning.

    Args:
        g: the student's probabilities (N, C).
        answers: the candidates' (K, N, C).
        scores: keys of `SCORES`.
        counts: numbers of probes.
    """
    rows = []
    for n in counts:
        for score in scores:
            if n > 1 or score not in SETS:
                raw, standard = detection.scores(g[:n], answers[:, :n], score)
                rows.append({"n": n, "score": score, "raw": raw, "standardised": standard})
    return rows


def clues(dataset: Dataset, x: Tensor, g: Tensor, answers: Tensor) -> list[Row]:
    """The probes about which the candidates differ most, those first: "input" (pixels or coordinates), and the
    probabilities of "student" (C,) and "teachers" (K, C).
    """
    most = 6 if dataset.info.kind == "images" else 100
    differ = answers.var(dim=0).sum(dim=1).argsort(descending=True)[:most]
    raw = dataset.pixels(x) if dataset.info.kind == "images" else x
    return [
        {
            "input": raw[i].tolist(),
            "student": [round(p, 4) for p in g[i].tolist()],
            "teachers": [[round(p, 4) for p in row] for row in answers[:, i].tolist()],
        }
        for i in differ.tolist()
    ]


# -- sums --------------------------------------------------------------------------------------------------------------


def summary(rows: Sequence[Mapping[str, Any]], by: str = "raw") -> list[Row]:
    """How often the true teacher was named, for each source of probes, number of probes and score.

    Args:
        rows: of a line-up.
        by: "raw" scores, as in the paper, or "standardised" ones.

    Returns:
        One row for each combination, in order of first appearance: "accuracy" over copies (whoever has the largest
        score, "none" not allowed) with its interval; "auc"; "found", the share of copies whose teacher was named with
        "none" allowed; "false_alarms", the share of those that copied nobody for whom somebody was named; "by_kind",
        the accuracy of each kind; "published", accuracy and AUC in the paper, where it has that line. Intervals count
        each student once, for its runs are not independent.
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["probes"], row["n"], row["score"]), []).append(row)
    return [
        {
            "probes": probes,
            "n": n,
            "score": score,
            "by": by,
            **_line(members, by),
            "published": PUBLISHED.get(probes, {}).get(n) if score == "kl" else None,
        }
        for (probes, n, score), members in groups.items()
    ]


def _line(members: Sequence[Mapping[str, Any]], by: str) -> Row:
    """The sums of one source of probes, number of probes and score."""
    limits = {
        run: detection.threshold([r[by] for r in members if r["suspect"] is None and r["run"] == run])
        for run in {r["run"] for r in members}
    }
    judged = []
    for r in members:
        if r["suspect"] is not None:
            answer = detection.decide(r[by], limits[r["run"]])
            wrongly = answer.named is not None
            judged.append(
                {**r, "right": answer.best == r["teacher"], "found": answer.named == r["teacher"], "named": wrongly}
            )
    copies = [r for r in judged if r["teacher"] is not None]
    nobody = [r for r in judged if r["teacher"] is None]
    calibrated = all(v is not None for v in limits.values())
    kinds = dict.fromkeys(r["kind"] for r in copies)
    return {
        "teachers": len(members[0][by]),
        **_share(copies, "right", "accuracy"),
        "auc": detection.auc([r[by] for r in copies], [r["teacher"] for r in copies]),
        **_share(copies if calibrated else [], "found", "found"),
        **_share(nobody if calibrated else [], "named", "false_alarms"),
        "by_kind": {k: _share([r for r in copies if r["kind"] == k], "right", "accuracy") for k in kinds},
    }


def verdicts(rows: Sequence[Mapping[str, Any]], n: int, score: str, source: str, by: str = "raw") -> list[Row]:
    """What one score says about each suspect, by the first run's probes.

    Args:
        rows: of a line-up.
        n: number of probes.
        score: a key of `SCORES`.
        source: of the probes, a key of `PROBES`.
        by: "raw" scores or "standardised" ones.

    Returns:
        For each suspect "scores" of all teachers, "best" (who has the largest), its "margin" over the runner-up,
        "needed" (the score with which it is named; None without null students) and "named" (the same as "best", or None
        for none of them).
    """
    chosen = [r for r in rows if (r["n"], r["score"], r["probes"], r["run"]) == (n, score, source, 0)]
    limit = detection.threshold([r[by] for r in chosen if r["suspect"] is None])
    found = []
    for r in chosen:
        if r["suspect"] is not None:
            answer = detection.decide(r[by], limit)
            needed = None if limit is None else r[by][answer.best] - answer.margin + limit
            told = {"best": answer.best, "margin": answer.margin, "needed": needed, "named": answer.named}
            found.append({"scores": r[by], **told})
    return found


def _share(rows: Sequence[Mapping[str, Any]], what: str, name: str) -> Row:
    """The share of rows for which something holds, with its interval and number of students; None without rows."""
    if not rows:
        return {name: None, f"{name}_interval": None, f"{name}_n": 0}
    share, students = sum(r[what] for r in rows) / len(rows), len({r["suspect"] for r in rows})
    return {name: share, f"{name}_interval": list(evaluation.wilson(share * students, students)), f"{name}_n": students}
