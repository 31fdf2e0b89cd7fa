"""One trial of a study: a distillation that is judged while it runs, and never on the test examples."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from . import data, evaluation
from .data import Dataset
from .errors import CakeError
from .frames import DistillationView
from .methods import METHODS
from .methods.base import mixed_noise
from .pipeline import Distillation, Experiment, Update
from .rng import Streams, generator
from .student import StudentTraining
from .studies import FREE, HUMAN, TuneConfig
from .synthetic import Problem, SyntheticSet
from .teacher import Teacher

__all__ = ["Judge", "Look", "Trial", "hidden"]

EVERY = 4  # steps of a synthesis between two moments, so that a pause is felt soon
LOOKS = 4  # at the student while it learns, and at the samples while they move
RUNGS = (0.25, 0.5)  # shares of the mini-batches after which a short student says what they are good for
SHORT = 0.1  # of the updates that the real student makes
FRAMES = 40  # of a trial's replay, about
FREE_SAMPLES = 300  # of each of the three kinds of inputs made without data
PLANE = 3.0  # points among them lie so many standard deviations of the teacher's inputs to each side, at most
FREE_BATCHES = 4  # in which the samples among them are made, at least
FREE_SEED = 1_500_007  # far from the seeds that people choose
GAP = 128  # grey of the lines between them
TILES = (4, 10)  # rows and columns of a trial's picture of images
POINTS = 400  # points of a trial's picture


def hidden(dataset: Dataset, count: int, seed: int, taught: bool) -> Dataset:
    """A data set without its test part: some of the training examples stand in its place, and judge.

    Args:
        dataset: with its test part.
        count: validation examples; at most half of the training part.
        seed: which ones.
        taught: whether the method learns from the training part itself; then they are taken out of it.
    """
    n = len(dataset.train_x)
    order = torch.randperm(n, generator=generator(seed, 0)).to(dataset.train_x.device)
    chosen, rest = order[: min(count, n // 2)], order[min(count, n // 2) :]
    kept = {"train_x": dataset.train_x[rest], "train_y": dataset.train_y[rest]} if taught else {}
    return replace(dataset, test_x=dataset.train_x[chosen], test_y=dataset.train_y[chosen], **kept)


class Judge(Iterator[Update]):
    """What the trials of a study share: the teacher, the data without their test part, and inputs made without data.

    Iterate until it is exhausted; then everything is there.

    Args:
        config: of the study.

    Attributes:
        teacher: loaded, or trained with the study's first seed.
        whole: the data set with its test part, for the end.
        dataset: the data set without it.
        free: inputs made without data, with the teacher's answers, where they judge; else None.
    """

    def __init__(self, config: TuneConfig):
        self.config = config
        self.teacher: Teacher | None = None
        self.whole: Dataset | None = None
        self.dataset: Dataset | None = None
        self.free: SyntheticSet | None = None
        self._steps = self._loop()

    def __next__(self) -> Update:
        return next(self._steps)

    def close(self) -> None:
        """Cancels."""
        self._steps.close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_steps": iter(())}  # who gets it elsewhere gets it exhausted

    def _loop(self) -> Iterator[Update]:
        base = self.config.experiment
        info = data.info(base.data.name)
        run = Distillation(base.replace(seed=(base.seed + FREE_SEED) % 2**31, settings=self._few()), every=EVERY)
        wanted = FREE in self.config.objectives or not info.has_examples
        for update in run:
            if run.oracle is not None and (info.kind == "points" or not wanted):
                break  # by now it is known that the method can work with this teacher
            if run.samples is not None:
                break
            note = "Making inputs without data to judge by" if update.stage == "synthesis" else update.note
            yield replace(update, progress=0.0, note=note, snapshot=None)
        run.close()
        self.teacher, self.whole = run.teacher, run.dataset
        taught = "data" in METHODS[base.method].access
        self.dataset = hidden(run.dataset, self.config.validation, self.config.seed, taught)
        if wanted:
            self.free = self._inputs(run)

    def _few(self) -> Any:
        """The default settings, with as many samples as judge."""
        s = self.config.experiment.settings
        return s.replace(batches=min(s.batches, max(FREE_BATCHES, -(-FREE_SAMPLES // s.samples))))

    def _inputs(self, run: Distillation) -> SyntheticSet:
        """Inputs with the teacher's answers. Of images: noise, samples of the default settings, and what lies between
        two of these. Of points: all over the plane, which is small enough to be looked at everywhere."""
        info, draws = run.dataset.info, generator(self.config.seed, 1)
        if info.kind == "points":
            return self._answered(
                run, (PLANE * (2 * torch.rand(3 * FREE_SAMPLES, 2, generator=draws) - 1)).to(run.device)
            )
        order = torch.randperm(len(run.samples), generator=draws)[:FREE_SAMPLES].to(run.device)
        made = run.samples.x[order]
        problem = Problem(run.oracle, info.shape, len(info.classes), 1, run.device)
        noise = mixed_noise(problem, Streams(self.config.seed, [0], run.device), FREE_SAMPLES, 1.0)[0]
        share = torch.rand(len(made), generator=draws).to(run.device).view(-1, *(1,) * (made.dim() - 1))
        other = made[torch.randperm(len(made), generator=draws).to(run.device)]
        return self._answered(run, torch.cat([noise, made, share * made + (1 - share) * other]))

    def _answered(self, run: Distillation, x: Tensor) -> SyntheticSet:
        y = evaluation.predict(run.network, x).softmax(dim=1)
        answer = y.argmax(dim=1)
        return SyntheticSet(x, y, answer, torch.zeros_like(answer))

    def of_student(self, student: nn.Module, objective: str) -> float:
        """What an objective says of a student, trained or in training: a share, 0 to 1."""
        with evaluation.in_eval_mode(student):
            if objective == FREE:
                logits = evaluation.predict(student, self.free.x)
                return evaluation.accuracy(logits, self.free.labels).value
            logits = evaluation.predict(student, self.dataset.test_x, self.dataset.inputs)
        target = self.dataset.test_y if objective == "accuracy" else self._answers()
        return evaluation.accuracy(logits, target).value

    def _answers(self) -> Tensor:
        """The classes that the teacher names for the validation examples, asked for once."""
        if not hasattr(self, "_named"):
            network = self.teacher.network.to(self.dataset.test_x.device).eval()
            self._named = evaluation.predict(network, self.dataset.test_x, self.dataset.inputs).argmax(dim=1)
        return self._named


@dataclass(frozen=True)
class Look:
    """A point of a trial's live curve: its number, from 1, and the objective's value at that moment."""

    number: int
    value: float


class Trial:
    """Runs one setting.

    Args:
        config: of the study.
        judge: exhausted.
        params: the settings that are tried, by name.
        stem: where to leave the replay and the picture, without an ending; None for nowhere.

    Attributes:
        values: what every objective says of it, when it is done.
        numbers: what else is known of it then.
    """

    def __init__(self, config: TuneConfig, judge: Judge, params: dict[str, Any], stem: Path | None):
        self.config, self.judge, self.params, self.stem = config, judge, params, stem
        self.values: dict[str, float] = {}
        self.numbers: dict[str, Any] = {}
        self._objective = config.objectives[0] if len(config.objectives) == 1 else ""

    def run(self) -> Generator[Update | Look, None, None]:
        """Yields moments, and between them points of the live curve."""
        found: list[dict[str, float]] = []
        for number in range(self.config.seeds):
            experiment = self.config.tried(self.params, number)
            for item in self._one(experiment, number, found):
                if isinstance(item, Look):
                    yield replace(item, number=item.number + number * (len(RUNGS) + LOOKS))
                else:
                    yield replace(item, progress=(number + item.progress) / self.config.seeds)
        self.values = {k: sum(v[k] for v in found) / len(found) for k in found[0]}
        wrong = [k for k in self.config.objectives if k != HUMAN and not math.isfinite(self.values.get(k, math.nan))]
        if wrong:
            raise CakeError(f"'{wrong[0]}' has no value here: the teacher has no boundary in view.")

    def _one(
        self, experiment: Experiment, number: int, found: list[dict[str, float]]
    ) -> Generator[Update | Look, None, None]:
        run = Distillation(
            experiment,
            teacher=self.judge.teacher,
            every=EVERY,
            judge=self.judge.free,
            updates=between(experiment.student.updates),
        )
        recording = Recording(run) if number == 0 and self.stem is not None else None
        looks = self._looks(run)
        try:
            for update in run:
                if update.stage == "data" and run.dataset is not None:
                    run.dataset = self.judge.dataset  # from here on nothing sees the test part
                if recording is not None:
                    recording.see(update)
                yield replace(update, snapshot=None)
                yield from looks(update)
                if HUMAN in self.config.objectives and run.samples is not None:
                    break  # a picture needs no student
            found.append(self._found(run))
            if recording is not None:
                recording.write(self.stem)
        finally:
            run.close()

    def _found(self, run: Distillation) -> dict[str, float]:
        outcome = run.outcome
        calls = run.samples.provenance["forward_calls"] + run.samples.provenance["gradient_calls"]
        if outcome is None:
            return {"calls": float(calls)}
        real = outcome.judged_on == "test"
        values = {
            "agreement": outcome.agreement.value if real else None,
            "accuracy": outcome.student_accuracy.value if real else None,
            "coverage": outcome.coverage,
            "near_boundary": outcome.near_boundary.value,
            "calls": float(calls),
            FREE: self.judge.of_student(run.student, FREE) if self.judge.free is not None else None,
        }
        return {k: v for k, v in values.items() if v is not None}

    # -- the live curve -----------------------------------------------------------------------------------------

    def _looks(self, run: Distillation) -> Any:
        """What makes points of the live curve of updates; nothing where several objectives, or people, judge."""
        if self._objective in ("coverage", "near_boundary"):
            return Looks(run, lambda: self._of_samples(run), "synthesis")
        if self._objective in (FREE, "agreement", "accuracy"):
            return StudentLooks(run, lambda s: self.judge.of_student(s, self._objective))
        return lambda update: iter(())

    def _of_samples(self, run: Distillation) -> float | None:
        """The objective's value of the samples as they are now; None where not all of them are in flight."""
        synthesis, network = run.synthesis, run.network
        x = synthesis.method.positions(synthesis.state).detach().flatten(0, 2)
        if self._objective == "near_boundary":
            near = evaluation.boundary_distance(network, x[:2000]) <= evaluation.NEAR
            return float(near.float().mean())
        if synthesis.in_flight < synthesis.problem.batches:
            return None
        line = evaluation.boundary_line(network, run.dataset.half_width)
        return evaluation.coverage(line, x.cpu(), evaluation.NEAR)


class Looks:
    """Points of the live curve at even moments of a stage.

    Args:
        run: the distillation.
        value: what to note then; None for nothing.
        stage: of the distillation.
    """

    def __init__(self, run: Distillation, value: Any, stage: str):
        self.run, self.value, self.stage = run, value, stage
        self.taken = 0

    def __call__(self, update: Update) -> Iterator[Look]:
        if update.stage != self.stage or self.taken >= LOOKS - 1:
            return
        if self.due(update) and (value := self.value()) is not None:
            self.taken += 1
            yield Look(self.taken + len(RUNGS), value)

    def due(self, update: Update) -> bool:
        """Whether the next moment has come."""
        snapshot = update.snapshot
        return snapshot is not None and snapshot.step * LOOKS >= (self.taken + 1) * snapshot.total


def between(updates: int) -> int:
    """How many updates of a student lie between two looks at it, whatever the clock says."""
    return max(1, updates // LOOKS)


class StudentLooks(Looks):
    """Points of the live curve of a student: of short ones on the mini-batches that are finished, then of the real one.

    Args:
        run: the distillation.
        of_student: the objective's value of a student.
    """

    def __init__(self, run: Distillation, of_student: Any):
        super().__init__(run, lambda: of_student(run.student), "student")
        self._of_student, self._rungs = of_student, 0

    def __call__(self, update: Update) -> Iterator[Update | Look]:
        if update.stage == "synthesis" and self._rungs < len(RUNGS):
            yield from self._short(update)
        yield from super().__call__(update)

    def due(self, update: Update) -> bool:
        step = update.training
        return step is not None and step.update == (self.taken + 1) * between(step.total)

    def _short(self, update: Update) -> Iterator[Update | Look]:
        """A short student, where enough mini-batches are finished and others are still to come."""
        synthesis = self.run.synthesis
        done = sum(len(p.batch.unique()) for p in synthesis.parts)
        if not RUNGS[self._rungs] * synthesis.problem.batches <= done < synthesis.problem.batches:
            return
        while self._rungs < len(RUNGS) and RUNGS[self._rungs] * synthesis.problem.batches <= done:
            self._rungs += 1  # where few are in flight at most, two moments can be the same
        e = self.run.experiment
        short = e.student.replace(updates=max(50, round(SHORT * e.student.updates)))
        training = StudentTraining(SyntheticSet.join(synthesis.parts, {}), short, seed=e.seed)
        for _ in training:
            yield replace(update, note="A short student judges the first samples", snapshot=None)
        yield Look(self._rungs, self._of_student(training.network))


# -- what a trial leaves ---------------------------------------------------------------------------------------------


class Recording:
    """The replay and the picture of a distillation.

    Args:
        run: the distillation.
    """

    def __init__(self, run: Distillation):
        self.run, self.view = run, DistillationView(run)
        self.messages: list[bytes] = []
        self._next, self._unseen = 0.0, None

    def see(self, update: Update) -> None:
        """Notes a moment, where one is due; the last of every stage is."""
        if not self.messages and (scene := self.view.scene()) is not None:
            self.messages.append(scene)
        if not self.messages:
            return
        if self._unseen is not None and self._unseen.stage != update.stage:
            self._add(self._unseen)
        if update.progress >= self._next or update.progress >= 1:
            self._add(update)
        else:
            self._unseen = update

    def _add(self, update: Update) -> None:
        self._unseen = None
        frame = self.view.frame(update, 0)
        if frame is not None:
            self.messages.append(frame)
            self._next = update.progress + 1 / FRAMES

    def write(self, stem: Path) -> None:
        """Leaves <stem>.bin to be replayed, and <stem>.png or <stem>.json to be looked at."""
        stem.with_suffix(".bin").write_bytes(b"".join(struct.pack("<I", len(m)) + m for m in self.messages))
        samples, dataset = self.run.samples, self.run.dataset
        answers = samples.y.argmax(dim=1)
        if dataset.info.kind == "images":
            picture(dataset, samples.x, answers).save(stem.with_suffix(".png"))
            return
        order = torch.randperm(len(samples), generator=generator(0, 2))[:POINTS].to(samples.x.device)
        line = evaluation.boundary_line(self.run.network, dataset.half_width, 80)
        seen = {
            "points": [[round(v, 3) for v in row] for row in samples.x[order].tolist()],
            "classes": answers[order].tolist(),
            "boundary": [[[round(v, 3) for v in end] for end in piece] for piece in line.tolist()],
            "half_width": dataset.half_width,
        }
        stem.with_suffix(".json").write_text(json.dumps(seen))


def picture(dataset: Dataset, x: Tensor, answers: Tensor) -> Image.Image:
    """Samples (N, C, H, W) as one picture, a few of each class that the teacher names (N,) in a column."""
    rows, columns = TILES
    classes = len(dataset.info.classes)
    tiles = []
    for row in range(rows):
        for column in range(min(columns, classes)):
            mine = (answers == column).nonzero().flatten()
            blank = torch.full_like(x[0], float(x.min()))
            tiles.append(x[mine[row]] if row < len(mine) else blank)
    pixels = dataset.pixels(torch.stack(tiles)).cpu()  # (rows * columns, C, H, W)
    pixels = F.pad(pixels, (1, 1, 1, 1), value=GAP)
    n, channels, height, width = pixels.shape
    grid = pixels.view(rows, n // rows, channels, height, width).permute(0, 3, 1, 4, 2)
    array = grid.reshape(rows * height, n // rows * width, channels).numpy()
    image = Image.fromarray(array[..., 0] if channels == 1 else array)
    factor = max(1, 560 // image.width)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
