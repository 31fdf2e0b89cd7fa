"""From settings to numbers: data -> teacher -> synthesis -> student -> evaluation, as one iterator.

`Experiment` says everything that a result depends on. `Distillation` runs one experiment; `repeat` runs several and
sums them up.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import SerializeAsAny, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from . import data, devices, evaluation, models, runs
from . import teacher as teachers
from .config import Config, as_text, named, param
from .data import DataConfig, Dataset
from .data.images import download
from .errors import CakeError
from .evaluation import Rate
from .history import History
from .methods import METHODS, MethodConfig, find
from .oracle import ACCESS, Oracle, frozen_copy, lacks
from .pieces import NOWHERE, Halfway, Pieces
from .shards import Sharded
from .student import StudentConfig, StudentTraining, fresh
from .synthesis import Synthesis
from .synthetic import Problem, Snapshot, SyntheticSet
from .teacher import Teacher, TeacherTraining
from .training import TrainStep

__all__ = [
    "Distillation",
    "Distilled",
    "Experiment",
    "Outcome",
    "Update",
    "check_access",
    "distill",
    "evaluate",
    "need_examples",
    "summary",
]

Stage = Literal["data", "teacher", "synthesis", "student", "evaluation", "control"]

# Share of the work that each stage is taken to be, for the progress bar.
SHARES: dict[Stage, float] = {"data": 0.01, "teacher": 0.14, "synthesis": 0.6, "student": 0.24, "evaluation": 0.01}


class Experiment(Config):
    """Everything that a result depends on, the seed included. It goes to the URL and comes back the same."""

    data: DataConfig = DataConfig()
    teacher: str = param(
        "",
        group="Data",
        help="A shipped teacher ('mnist/lenet5'), one trained here ('run:...'), or an architecture to train now. "
        "Empty: the shipped teacher of these data, or a fresh one where there is none.",
    )
    method: str = param("cake", choices=tuple(METHODS), help="How the synthetic samples are made.")
    settings: SerializeAsAny[MethodConfig] = MethodConfig()
    student: StudentConfig = StudentConfig()
    seed: int = param(
        0, low=0, high=2**31 - 1, group="Data", help="Seed of the samples and of the student. Same seed, same result."
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = param(
        "auto", group="Advanced", help="Where to compute. The samples depend on the type of device."
    )

    precision: str = param(
        "fp32",
        choices=devices.PRECISIONS,
        group="Advanced",
        help="Number format of the teacher's products while samples move. bf16 is faster on GPUs and some CPUs.",
    )
    compiled: bool = param(
        False,
        group="Advanced",
        label="Compile the teacher",
        help="Has torch.compile build machine code for the teacher: minutes at first, faster after. For long runs on a "
        "GPU.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        """Settings may be given as plain values; what is not given comes from the presets of method and data."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        config = values.get("data")
        if not isinstance(config, DataConfig):
            config = named(config)
            config = DataConfig.from_dict({**config, "name": data.info(config.get("name", "moons")).name})
        values["data"] = config
        method, info = find(values.get("method", "cake")), data.info(config.name)
        if not isinstance(values.get("settings"), method.Config):
            values["settings"] = method.config_for(info, **named(values.get("settings")))
        if not isinstance(values.get("student"), StudentConfig):
            student = method.student_for(info) | named(values.get("student"))
            values["student"] = StudentConfig.for_data(info, **student)
        return values

    @model_validator(mode="after")
    def _check_fit(self) -> Self:
        """A student or a teacher that can't see these data is refused here, before anything is computed."""
        info = data.info(self.data.name)
        for role, model in (("student", self.student.model), ("teacher", self.teacher)):
            if model in models.MODELS and info.kind not in models.MODELS[model].kinds:
                fitting = ", ".join(m.name for m in models.MODELS.values() if info.kind in m.kinds)
                raise CakeError(f"A {model} can't be the {role} for {info.title}. Choose one of: {fitting}.")
        return self

    # The flat form is what people type: settings of the method stand bare, the others under their part's name, and
    # `data` and `student` alone mean the data set's and the architecture's name.

    def to_query(self, prefix: str = "") -> dict[str, str]:
        info = data.info(self.data.name)
        preset = {
            "data": DataConfig(),
            "settings": find(self.method).config_for(info),
            "student": StudentConfig.for_data(info, **find(self.method).student_for(info)),
        }
        flat: dict[str, str] = {}
        for name, declared in type(self).model_fields.items():
            value = getattr(self, name)
            if name not in preset:
                flat |= {name: as_text(value)} if value != declared.default else {}
                continue
            for key, v in value:
                if v != getattr(preset[name], key):
                    flat[SHORT.get((name, key), key if name == "settings" else f"{name}.{key}")] = as_text(v)
        return flat

    @classmethod
    def from_query(cls, flat: Mapping[str, str]) -> Self:
        """The inverse of `to_query`.

        Raises:
            CakeError: a key is unknown, or a value is wrong.
        """
        values: dict[str, Any] = {"data": {}, "settings": {}, "student": {}}
        parts = {short: place for place, short in SHORT.items()}
        for key, value in flat.items():
            part, dot, rest = key.partition(".")
            if key in parts:
                part, rest = parts[key]
                values[part][rest] = value
            elif dot and part in ("data", "student"):
                values[part][rest] = value
            elif key in ("teacher", "method", "seed", "device", "precision", "compiled"):
                values[key] = value
            else:
                values["settings"][key] = value
        return cls.from_dict(values)

    def differences(self, other: Experiment) -> dict[str, tuple[str, str]]:
        """What is not the same in another experiment: by label, the value here and there; empty where one has none.
        Settings that do not suit the data are left out: nothing follows from them."""
        told: dict[str, tuple[str, str]] = {}
        kinds = ("", data.info(self.data.name).kind)
        for name in ("", "data", "settings", "student"):
            mine, theirs = (getattr(e, name) if name else e for e in (self, other))
            for p in (*mine.params(), *(p for p in theirs.params() if p.name not in type(mine).model_fields)):
                values = tuple(as_text(getattr(c, p.name, "")) for c in (mine, theirs))
                if values[0] != values[1] and p.suits in kinds:
                    told[p.label] = values
        return told


SHORT = {("data", "name"): "data", ("student", "model"): "student"}


@dataclass(frozen=True)
class Update:
    """One moment of a pipeline.

    Attributes:
        stage: what it is doing.
        progress: share of the whole work that is done, 0 to 1.
        note: a few words for people.
        snapshot: the samples, while they are made.
        training: the losses of the teacher or the student, while it is trained.
    """

    stage: Stage
    progress: float
    note: str = ""
    snapshot: Snapshot | None = None
    training: TrainStep | None = None


@dataclass(frozen=True)
class Outcome:
    """The numbers of one finished experiment.

    Attributes:
        seed: of the samples and the student.
        teacher_accuracy, student_accuracy: on the real test data; None where there are none.
        agreement: share of the real test data on which both name the same class; where there are none, of fresh
            synthetic samples that the student did not learn from (see `Distillation.judge`).
        calibration_error: of the student on the real test data; None where there are none.
        near_boundary: share of samples near the teacher's boundary (`evaluation.NEAR`), to first order; of more than
            `MEASURED` samples, of every second, third, ... one.
        coverage: share of the boundary's length in view that has a sample near it (2-D only).
        plane_agreement: share of the plane in view on which both name the same class (2-D only).
        samples: number of synthetic samples.
        forward_calls, gradient_calls: samples that the teacher answered, and gave a gradient for.
        seconds: spent on "teacher", "synthesis", "training", "evaluation".
        judged_on: what the agreement was measured on: "test" data, or "fresh" samples.
        by_batch_accuracy: of a student whose batch normalisation remembers the synthetic samples: its accuracy with the
            statistics of the real test data instead (see `evaluation.accuracy_by_batch`); None of others.
    """

    seed: int
    teacher_accuracy: Rate | None
    student_accuracy: Rate | None
    agreement: Rate
    calibration_error: float | None
    near_boundary: Rate
    coverage: float | None
    plane_agreement: Rate | None
    samples: int
    forward_calls: int
    gradient_calls: int
    seconds: dict[str, float]
    judged_on: Literal["test", "fresh"] = "test"
    by_batch_accuracy: Rate | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values: each rate as its value, with its interval beside it."""
        plain: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Rate):
                plain |= {f.name: value.value, f"{f.name}_interval": [value.low, value.high]}
            else:
                plain[f.name] = value
        return {**plain, "n_test": self.agreement.n if self.judged_on == "test" else 0, "n_judged": self.agreement.n}


class Distillation(Iterator[Update]):
    """Runs one experiment. When the iterator is exhausted, `outcome` holds the numbers.

    Args:
        experiment: what to run.
        teacher: a teacher that is loaded already, or any function from normalised inputs to logits.
        student: a network to train in place, instead of a fresh one.
        every: a snapshot after every so many steps of the synthesis.
        in_flight: mini-batches to work on at once (0: as many as suit the device).
        judge: samples to measure the agreement on, where the data set has no test data (None: fresh ones are made by
            the same method and settings with another seed, in a few mini-batches that span the same step sizes).
        keep_history: whether to keep some samples at some moments of their way, and to store them with the run.
        parts: where to store finished mini-batches, to go on from when the run was stopped (see `Synthesis`). The
            edits of the life before have to be given then, too.
        shards: make the samples on a Ray cluster, in so many parts (0: as many as it has room for; None: here). The
            samples are the same, but have no history, and settings can't change while they are made.
        edits: settings to change while it runs, by the number of snapshots that have been seen: what `edits` of an
            earlier run noted makes it take the same way again.
        updates: an update also after every so many of the student's, whatever the clock says (0: by the clock alone).
        pieces: where finished mini-batches, and the trainings of teacher and student every so often, are stored to go
            on from. Several distillations may share them, and then a teacher that is trained is trained once.

    Attributes:
        begun: the experiment as the synthesis began with it, before any edit.
        edits: what was edited since, in order: the number of snapshots seen, and the settings.
        trained: whether the teacher was trained here.
        dataset, teacher, network, oracle, samples, history, student, outcome: each is there as soon as its stage is
            done; `network` (the teacher, frozen), `oracle` (the teacher as the method sees it) and `student` from the
            beginning of theirs.
    """

    def __init__(
        self,
        experiment: Experiment,
        *,
        teacher: Teacher | Callable[[Tensor], Tensor] | None = None,
        student: nn.Module | None = None,
        every: int = 1,
        in_flight: int = 0,
        judge: SyntheticSet | None = None,
        keep_history: bool = False,
        parts: Path | None = None,
        shards: int | None = None,
        edits: Iterable[tuple[int, Mapping[str, Any]]] = (),
        updates: int = 0,
        pieces: Pieces = NOWHERE,
    ):
        self.begun, self.edits, self._planned = experiment, [], list(edits)
        self._seen = 0
        self.experiment, self.teacher, self.student, self.judge = experiment, teacher, student, judge
        self.device = devices.choose(experiment.device)
        self.dataset: Dataset | None = None
        self.network: Callable[[Tensor], Tensor] | None = None
        self.oracle: Oracle | None = None
        self.synthesis: Synthesis | Sharded | None = None
        self.samples: SyntheticSet | None = None
        self.history: History | None = None
        self.outcome: Outcome | None = None
        self._pieces, self._own_pieces = pieces, pieces.within(experiment.digest())
        self._every, self._in_flight, self._keep_history = every, in_flight, keep_history
        self._parts = parts or self._own_pieces.file("samples")
        self._updates, self._shards, self.trained = updates, shards, False
        self._seconds = dict.fromkeys(("teacher", "synthesis", "training", "evaluation"), 0.0)
        self._stages = self._loop()

    def __next__(self) -> Update:
        return next(self._stages)

    def close(self) -> None:
        """Cancels the run."""
        self._stages.close()

    def forget(self) -> None:
        """Removes what it has stored to go on from, but for the teacher: its results are kept elsewhere."""
        self._own_pieces.end()

    def edit(self, /, **settings: Any) -> None:
        """Changes live settings of the method; they count from the next step on.

        Raises:
            CakeError: a setting is unknown, out of bounds or fixed once a run has begun.
        """
        self._edit(settings)
        # What was edited later in a life before the stop gives way to what somebody wants now.
        self._planned = [(n, s) for n, s in self._planned if n <= self._seen or not s.keys() & settings.keys()]

    def _edit(self, settings: Mapping[str, Any]) -> None:
        new = self.experiment.settings.replace(**settings)
        if self.synthesis is not None:
            self.synthesis.config = new
            if self.samples is None:
                self.edits.append((self._seen, dict(settings)))
        self.experiment = self.experiment.replace(settings=new)

    @property
    def seen(self) -> int:
        """Snapshots that the synthesis has given, those of a life before the stop included."""
        return self._seen

    @classmethod
    def restore(cls, run: str) -> Distillation:
        """A finished distillation from the run store, with its data, teacher, samples and student.

        Raises:
            CakeError: there is no such run, or it is no distillation.
        """
        stored, folder = runs.read(run), runs.find(run)
        if not isinstance(stored.get("experiment"), dict):
            raise CakeError("That run made no samples. Choose one from Two moons or Images.")
        runs.check(run)
        found = cls(Experiment.from_dict(stored["experiment"]), teacher=teachers.load(f"run:{run}"))
        found.dataset = data.load(found.experiment.data).to(found.device)
        found.network = frozen_copy(found.teacher.network, found.device)
        found.history = History.load(folder)
        info = found.dataset.info
        found.student = fresh(found.experiment.student, info.shape, len(info.classes)).to(found.device)
        try:  # of runs of older versions nobody has noted the digests
            found.samples = SyntheticSet.load(folder / "samples.safetensors").to(found.device)
            found.student.load_state_dict(load_file(folder / "student.safetensors"))
        except (OSError, SafetensorError, RuntimeError, ValueError) as error:
            raise CakeError(
                f"What is stored of this run is damaged ({str(error)[:200]}). Make the run again: its settings are "
                "still there."
            ) from None
        found.student.eval()
        return found

    def save(self, folder: Path) -> None:
        """Writes samples, their history where it was kept, student and teacher, each whole or not at all."""
        with runs.whole(folder / "samples.safetensors") as part:
            self.samples.save(part)
        if self.history is not None:
            self.history.save(folder)
        with runs.whole(folder / "student.safetensors") as part:
            save_file({k: v.cpu().contiguous() for k, v in self.student.state_dict().items()}, part)
        if isinstance(self.teacher, Teacher):
            self.teacher.save(folder, "teacher")

    # -- the stages ---------------------------------------------------------------------------------------------

    def _loop(self) -> Iterator[Update]:
        if self.teacher is None and (name := resolve_teacher(self.experiment)):
            self.teacher = teachers.load(name)
        if self.teacher is None:
            need_examples(self.experiment.data, "no teacher can be trained. Choose the one that was imported for it")
        used = [s for s in SHARES if s != "teacher" or self.teacher is None]
        whole, before = sum(SHARES[s] for s in used), 0.0
        for stage in used:
            for part, update in getattr(self, f"_{stage}")():
                yield replace(update, progress=(before + SHARES[stage] * part) / whole)
            before += SHARES[stage]

    def _data(self) -> Iterator[tuple[float, Update]]:
        config = self.experiment.data
        for share in download(config.name):
            yield share, Update("data", 0, f"Downloading {data.info(config.name).title}")
        self.dataset = data.load(config).to(self.device)
        yield 1.0, Update("data", 0, "Data loaded")

    def _teacher(self) -> Iterator[tuple[float, Update]]:
        model = self.experiment.teacher or default_teacher(self.experiment)
        config, seed = self.experiment.data, self.experiment.seed
        halfway = self._halfway(self._pieces, f"teacher-{config.digest()}-{model}-{seed}", "teacher")
        training = TeacherTraining(self.dataset, config, model, seed=seed, halfway=halfway)
        for step in self._timed("teacher", training):
            yield step.update / step.total, Update("teacher", 0, "Training a teacher", training=step)
        self.teacher, self.trained = training.teacher, True

    def _synthesis(self) -> Iterator[tuple[float, Update]]:
        e, info = self.experiment, self.dataset.info
        network = self.teacher.network if isinstance(self.teacher, Teacher) else self.teacher
        self.network = frozen_copy(network, self.device) if isinstance(network, nn.Module) else network
        check_access(e, self.network)
        fresh(e.student, info.shape, len(info.classes))  # refused now, not after the samples were made
        self.oracle = self._oracle()
        asked = find(e.method)(e.settings), self._problem(self.oracle, e.settings.batches)
        how = {"seed": e.seed, "in_flight": self._in_flight, "every": self._every, "parts": self._parts}
        if self._shards is None:
            run = Synthesis(*asked, **how, keep_history=self._keep_history)
        else:
            run = Sharded(*asked, **how, shards=self._shards)
        self.synthesis, self.begun = run, e
        for number, settings in [p for p in self._planned if p[0] <= run.seen]:  # of the mini-batches that are there
            self._seen = number
            self._edit(settings)
        parts = len(getattr(run, "parts", ()))
        if parts and (spent := self._own_pieces.get("spent")) is not None:
            self._seconds["synthesis"] += spent.values["synthesis"]
        for snapshot in self._timed("synthesis", run):
            share = snapshot.step / max(1, snapshot.total)
            self._seen = run.seen
            if parts < (parts := len(getattr(run, "parts", ()))):
                self._own_pieces.put("spent", self._seconds)
            yield share, Update("synthesis", 0, run.note or "Moving samples", snapshot=snapshot)
            for _, settings in [p for p in self._planned if p[0] == self._seen]:
                self._edit(settings)
        self.samples, self.history = run.result, run.history
        self._own_pieces.put("spent", self._seconds)

    def _oracle(self) -> Oracle:
        """The teacher, open for what the method declared and closed for everything else."""
        e, access = self.experiment, find(self.experiment.method).access
        data = (self.dataset.inputs(self.dataset.train_x), self.dataset.train_y) if "data" in access else None
        return Oracle(
            self.network, self.device, access, precision=e.precision, compiled=e.compiled, frozen=True, data=data
        )

    def _problem(self, oracle: Oracle, batches: int) -> Problem:
        """What is asked of the method, for so many mini-batches."""
        info, config = self.dataset.info, self.experiment.student
        shape, classes, device = info.shape, len(info.classes), self.device

        def student(seed: int) -> nn.Module:
            return fresh(config, shape, classes, seed).to(device)

        return Problem(oracle, shape, classes, batches, device, student)

    def _student(self) -> Iterator[tuple[float, Update]]:
        e = self.experiment
        how = {"network": self.student, "halfway": self._halfway(self._own_pieces, "student", "training")}
        training = StudentTraining(self.samples, e.student, seed=e.seed, every=self._updates, **how)
        self.student = training.network
        for step in self._timed("training", training):
            yield step.update / step.total, Update("student", 0, "Training the student", training=step)

    def _evaluation(self) -> Iterator[tuple[float, Update]]:
        yield 0.0, Update("evaluation", 0, "Comparing student and teacher")
        if self.judge is None and not self.dataset.info.has_examples:
            yield from self._fresh_samples()
        start = time.perf_counter()
        outcome = evaluate(
            self.network,
            self.student,
            self.samples,
            self.dataset,
            seed=self.experiment.seed,
            judge=self.judge,
        )
        self._seconds["evaluation"] = time.perf_counter() - start
        self.outcome = replace(outcome, seconds=dict(self._seconds))
        yield 1.0, Update("evaluation", 0, "Done")

    def _fresh_samples(self) -> Iterator[tuple[float, Update]]:
        """Makes what the agreement is measured on where nothing real is here. Its calls of the teacher do not count."""
        e = self.experiment
        few = min(e.settings.batches, max(JUDGING_BATCHES, -(-JUDGING_SAMPLES // e.settings.samples)))
        method = find(e.method)(e.settings.replace(batches=few))
        problem = self._problem(self._oracle(), few)
        run = Synthesis(method, problem, seed=(e.seed + JUDGING_SEED) % 2**31, in_flight=self._in_flight)
        for snapshot in run:
            share = snapshot.step / max(1, snapshot.total)
            yield 0.9 * share, Update("evaluation", 0, "Making fresh samples to compare on")
        self.judge = run.result

    def _halfway(self, pieces: Pieces, name: str, stage: str) -> Halfway | None:
        """Where a training is stored, with the time that was spent on it; that of a life before counts on."""
        halfway = pieces.halfway(name, lambda: {"seconds": self._seconds[stage]})
        if halfway is not None:
            self._seconds[stage] += halfway.noted.get("seconds", 0.0)
        return halfway

    def _timed(self, stage: str, run: Iterator[Any]) -> Iterator[Any]:
        """The same items; the time spent on making them is added up."""
        while True:
            start = time.perf_counter()
            item = next(run, None)
            self._seconds[stage] += time.perf_counter() - start
            if item is None:
                return
            yield item


# How many fresh samples judge, where there are no test data, and in how many mini-batches at least.
JUDGING_SAMPLES, JUDGING_BATCHES = 1000, 4
JUDGING_SEED = 1_000_003  # far from the seeds that people choose
MEASURED = 20_000  # samples whose distance to the boundary is measured: their share is known to a point then


def need_examples(config: DataConfig, otherwise: str) -> None:
    """Refuses what can't be done without examples, where a data set has none.

    Args:
        config: which data set.
        otherwise: what does not work then, and what to do; it follows "... has no examples here, so".

    Raises:
        CakeError: the data set has no examples.
    """
    info = data.info(config.name)
    if not info.has_examples:
        raise CakeError(f"{info.title} has no examples here, so {otherwise}.")


def noise_only(experiment: Experiment) -> Experiment:
    """The control of an experiment: as many samples as the method delivers, the same teacher and student, but the
    samples are noise; in shapes, where those of the method are."""
    s = experiment.settings
    settings = {k: v for k, v in s.to_dict().items() if k in ("samples", "sigma", "shapes")}
    settings["batches"] = min(s.batches * find(experiment.method)(s).delivered, s.param("batches").high)
    return Experiment.from_dict({**experiment.to_dict(), "method": "noise", "settings": settings})


def noise_in_words(experiment: Mapping[str, Any]) -> str:
    """What the control of an experiment, given as plain values, is made of."""
    return "smooth noise, cut out in shapes" if experiment["settings"].get("shapes") else "pure noise"


def default_teacher(experiment: Experiment) -> str:
    """The architecture of a teacher that has to be trained first."""
    points, norm = data.info(experiment.data.name).kind == "points", needs_batch_norm(experiment)
    return ("mlp-norm" if norm else "mlp") if points else ("resnet4" if norm else "lenet5")


def needs_batch_norm(experiment: Experiment) -> bool:
    """Whether the method works with teachers with batch normalisation alone."""
    return "batchnorm" in find(experiment.method).access


def check_access(experiment: Experiment, network: Callable[[Tensor], Tensor]) -> None:
    """Refuses a teacher that lacks what the method needs, and says which ones would do.

    Raises:
        CakeError: the teacher lacks something, or the data set has no examples where the method needs them.
    """
    method, info = find(experiment.method), data.info(experiment.data.name)
    if "data" in method.access:
        need_examples(experiment.data, f"{method.title} has nothing to learn from. Choose a method that needs no data")
    missing = lacks(network, method.access)
    if not missing:
        return
    others = [
        c.name
        for c in teachers.shipped().values()
        if c.data["name"] == info.name and not lacks(teachers.load(c.name).network, method.access)
    ]
    fitting = f"choose {' or '.join(others)}, which does" if others else "choose another teacher"
    new = [m for m in ("mlp-norm", "resnet4") if info.kind in models.MODELS[m].kinds]
    if "batchnorm" in missing and info.has_examples:
        fitting += f", or have a new {models.MODELS[new[-1]].title} trained"
    what = " and ".join(ACCESS[w] for w in missing)
    raise CakeError(f"{method.title} needs a teacher that offers {what}, and this one does not: {fitting}.")


def resolve_teacher(experiment: Experiment) -> str | None:
    """The name of the teacher to load, or None where one has to be trained.

    Raises:
        CakeError: the named teacher does not exist, or it learned something else.
    """
    name = experiment.teacher
    if name in models.MODELS:
        return None
    if not name:
        card = teachers.shipped_for(experiment.data, needs_batch_norm(experiment))
        return card.name if card else teachers.imported_for(experiment.data)
    card = teachers.card(name)
    theirs, ours = card.data_config, experiment.data
    if theirs.name != ours.name:
        raise CakeError(f"Teacher '{name}' learned {theirs.name}, not {ours.name}. Choose --data {theirs.name}.")
    if data.info(ours.name).drawn and theirs != ours:
        told = ", ".join(f"{k} {v}" for k, v in theirs.to_dict().items() if k != "name")
        raise CakeError(
            f"Teacher '{name}' learned {theirs.name} with {told}. Choose the same, or leave the teacher out "
            "to have one trained on these data."
        )
    return name


def evaluate(
    teacher: nn.Module,
    student: nn.Module,
    samples: SyntheticSet,
    dataset: Dataset,
    *,
    seed: int = 0,
    judge: SyntheticSet | None = None,
) -> Outcome:
    """Compares a student with its teacher on the real test data, and sees where the samples lie.

    Args:
        teacher, student: networks on the device of `dataset`.
        samples: what the student learned from.
        dataset: whose test part judges.
        seed: noted in the outcome.
        judge: samples to measure the agreement on, where the data set has no test part.
    """
    real = len(dataset.test_x) > 0
    inputs = (dataset.test_x, dataset.inputs) if real else (judge.x,)
    of_teacher, of_student = (evaluation.predict(network, *inputs) for network in (teacher, student))
    measured = samples.x[:: math.ceil(len(samples) / MEASURED)]
    distance = torch.cat([evaluation.boundary_distance(teacher, x) for x in measured.split(1024)])
    cover, plane = None, None
    if dataset.info.kind == "points":
        width = dataset.half_width
        line = evaluation.boundary_line(teacher, width)
        cover = evaluation.coverage(line, samples.x.cpu(), evaluation.NEAR)
        points = evaluation.grid(width, 100, samples.x.device)
        plane = evaluation.agreement(evaluation.predict(student, points), evaluation.predict(teacher, points))
    return Outcome(
        seed=seed,
        teacher_accuracy=evaluation.accuracy(of_teacher, dataset.test_y) if real else None,
        student_accuracy=evaluation.accuracy(of_student, dataset.test_y) if real else None,
        agreement=evaluation.agreement(of_student, of_teacher),
        calibration_error=evaluation.calibration_error(of_student, dataset.test_y) if real else None,
        near_boundary=Rate.of(int((distance <= evaluation.NEAR).sum()), len(measured)),
        coverage=cover,
        plane_agreement=plane,
        samples=len(samples),
        forward_calls=samples.provenance.get("forward_calls", 0),
        gradient_calls=samples.provenance.get("gradient_calls", 0),
        seconds={},
        judged_on="test" if real else "fresh",
        by_batch_accuracy=evaluation.accuracy_by_batch(student, dataset.test_x, dataset.test_y, dataset.inputs),
    )


def summary(outcomes: Iterable[Outcome]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation (n - 1 in the denominator; 0 for a single run) of every number over runs."""
    rows = [o.to_dict() for o in outcomes]
    numbers = [k for k, v in rows[0].items() if isinstance(v, int | float) and k not in ("seed", "n_test", "n_judged")]
    table = {k: [row[k] for row in rows] for k in numbers}
    table |= {f"seconds_{k}": [row["seconds"][k] for row in rows] for k in rows[0]["seconds"]}
    return {
        k: {"mean": statistics.fmean(v), "std": statistics.stdev(v) if len(v) > 1 else 0.0} for k, v in table.items()
    }


@dataclass(frozen=True)
class Distilled:
    """What `distill` returns: the networks, the samples between them, and the numbers."""

    teacher: Callable[[Tensor], Tensor]
    samples: SyntheticSet
    student: nn.Module
    metrics: dict[str, Any]


def distill(
    teacher: str | Callable[[Tensor], Tensor] = "",
    *,
    data: str = "moons",
    method: str = "cake",
    student: str | nn.Module = "",
    seed: int = 0,
    device: str = "auto",
    **settings: Any,
) -> Distilled:
    """Distils a teacher without its data, and judges the student on the real test data.

    >>> import cake_core                                                       # doctest: +SKIP
    >>> done = cake_core.distill("moons/mlp", data="moons", method="lake")     # doctest: +SKIP
    >>> done.metrics["agreement"]                                              # doctest: +SKIP

    Args:
        teacher: a shipped teacher's name, an architecture to train first, or any function from normalised inputs to
            logits, which is not changed.
        data: whose test part judges, and whose shape and classes the samples have.
        method: a name in `METHODS`.
        student: an architecture's name, or a network that is trained in place; empty for the data's default.
        seed: of samples and student.
        device: "auto", "cpu", "cuda" or "mps".
        settings: settings of the method by name; of data and student as `**{"student.updates": 500}`.

    Raises:
        CakeError: a name or setting is unknown or out of bounds.
    """
    named = {"data": data, "method": method, "seed": str(seed), "device": device}
    named |= {"teacher": teacher} if isinstance(teacher, str) else {}
    named |= {"student": student} if isinstance(student, str) and student else {}
    experiment = Experiment.from_query({**named, **{k: as_text(v) for k, v in settings.items()}})
    run = Distillation(
        experiment,
        teacher=None if isinstance(teacher, str) else teacher,
        student=student if isinstance(student, nn.Module) else None,
    )
    for _ in run:
        pass
    own = run.teacher.network if isinstance(run.teacher, Teacher) else run.teacher
    return Distilled(own, run.samples, run.student, run.outcome.to_dict())
