"""What the job runner can run, by kind: iterators with a few more methods around them."""

from __future__ import annotations

import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar

import plotly.graph_objects as go
import torch
from safetensors.torch import save_file

from . import (
    admission,
    ages,
    cluster,
    data,
    devices,
    evaluation,
    figures,
    imports,
    inbox,
    models,
    runs,
    trackers,
)
from . import teacher as teachers
from .budget import Budget
from .comparison import GLANCE, SOURCES, MethodComparison, StudentComparison, summarise
from .data import DataConfig
from .embedding import Embedding, Placing
from .errors import CakeError
from .frames import DistillationView, encode
from .grid import Grid
from .jobs import Ring
from .keeping import Keeper, Kept
from .methods import METHODS
from .paper import beside
from .pieces import NOWHERE, Pieces
from .pipeline import (
    Distillation,
    Experiment,
    Update,
    default_teacher,
    need_examples,
    noise_only,
    resolve_teacher,
)
from .student import KDConfig, StudentConfig
from .teacher import TeacherTraining
from .training import TrainStep

__all__ = ["Charts", "Task", "find"]


class Task(ABC, Iterator[Update]):
    """Work that the worker drives: each `next` works for a moment and says where it is.

    Attributes:
        kind: the name under which jobs ask for it.
        threads: on how many it computes, None for as many as there may be; operations on points are too small to be
            shared.
        pieces: what it has finished, by which it goes on in another process.
    """

    kind: ClassVar[str]
    threads: int | None = None
    abreast = 1  # processes, each of which has one of its experiments in hand
    pieces: Pieces = NOWHERE

    @property
    def device_type(self) -> str:
        """The type of the device that it computes on, as the log has it."""
        device = getattr(self, "device", None) or getattr(getattr(self, "run", None), "device", None)
        return getattr(device, "type", "cpu")

    @property
    def experiments(self) -> Sequence[Experiment]:
        """What it runs, one after the other."""
        return ()

    def need(self) -> admission.Need | None:
        """How much memory it takes, about; None where that is little, or not known."""
        return self._widest[1].abreast(self.abreast) if self.experiments else None

    def less(self, room: float) -> str:
        """What to change so that it takes no more than so many bytes, a sentence."""
        widest, needed = self._widest
        fitting = sum(needed.abreast(n).alone <= room for n in range(1, self.abreast))
        if fitting:
            return f"Choose {fitting} worker{'s' * (fitting > 1)} instead of {self.abreast}."
        return admission.fewer(widest, room)

    @cached_property
    def _widest(self) -> tuple[Experiment, admission.Need]:
        return admission.widest(self.experiments)

    @abstractmethod
    def __init__(self, **spec: Any):
        """Takes what the job was submitted with; raises `CakeError` where that makes no sense."""

    @abstractmethod
    def finish(self) -> dict[str, Any]:
        """Called once after the last update: stores what is worth keeping, returns plain numbers."""

    def edit(self, /, **settings: Any) -> None:
        """Changes settings while it runs."""
        raise CakeError("The settings of this job can't change while it runs. Start a new one with them.")

    def close(self) -> None:
        """Cancels; nothing is left behind."""

    def fail(self, message: str) -> None:
        """Told before `close` when an error has ended it, with the sentence about it."""

    def primed(self, update: Update) -> bool:
        """Whether there is something to see. Until then a job gets turns though nobody has pressed Play."""
        return True

    def rest(self) -> None:
        """Told before `close` when the process ends, or the job is put away: keeps what it can go on from."""
        self.pieces.rest()

    @property
    def kept(self) -> str:
        """The run that it can go on from when it is begun again; empty where there is none (yet)."""
        return ""

    @property
    def hurries(self) -> bool:
        """Whether it only does again what was seen before, and so takes no pauses."""
        return False

    def past(self) -> list[bytes]:
        """Frames of a life before, which a view sees behind the scene."""
        return []

    def look(self, arrows: bool = False, sample: int | None = None, anatomy: bool = False) -> None:
        """What somebody wants to see in the frames: gradients of points, details of one image (by its place), what a
        step is made of."""

    def again(self) -> bytes | None:
        """The latest frame once more, with what somebody now wants to see; None where that changes nothing."""

    def scene(self) -> bytes | None:
        """What the live view needs to be told once; None until it is known."""
        return encode({"type": "scene", "kind": "curves", "curves": "Loss"})

    def frame(self, update: Update, version: int, last: bool) -> bytes | None:
        """A picture of this moment: here, the losses of a training."""
        step = update.training
        if step is None:
            return None
        return self.message(update, step.update, step.total, {"loss": step.loss})

    def message(self, update: Update, step: int, total: int, curves: dict[str, float], **header: Any) -> bytes:
        """A frame without arrays: points of the curves, and whatever else a view may know."""
        header = {
            "type": "frame",
            "t": ages.milliseconds(),
            "stage": update.stage,
            "step": step,
            "total": total,
        } | header
        return encode({**header, "progress": update.progress, "version": 0, "losses": curves})


CONTROL = 0.12  # share of a distillation's work that its control is taken to be


class Distill(Task):
    """Two moons and Images: one experiment from the first sample to the last number, and its control.

    With `resume`, the id of a run that was broken off, it goes on behind that run's last finished mini-batch, with its
    settings and edits, as if it had never stopped.
    """

    kind = "distill"

    def __init__(self, experiment: dict[str, Any], every: int = 1, resume: str = "", **more: Any):
        kept, planned = None, more.get("edits", ())
        if resume:
            kept = Kept.read(resume)
            experiment, every, parts = kept.experiment, kept.every, runs.find(resume) / runs.PARTS
            more |= {"in_flight": kept.in_flight, "edits": kept.edits, "teacher": kept.teacher, "parts": parts}
        self.run = Distillation(Experiment.from_dict(experiment), every=every, keep_history=True, **more)
        self.control: Distillation | None = None
        self.view = DistillationView(self.run)
        self.keeper = Keeper(self.run, every, kept, planned)
        if data.info(self.run.experiment.data.name).kind == "points":
            self.threads = 1
        self._updates = self._both()

    def __next__(self) -> Update:
        return next(self._updates)

    def _both(self) -> Iterator[Update]:
        """The experiment, then as many samples of pure noise for the same student."""
        share = 1.0 if self.run.experiment.method == "noise" else 1 - CONTROL
        for update in self.run:
            self.keeper.see(update, self.view)
            yield replace(update, progress=share * update.progress)
        if share < 1:
            experiment = noise_only(self.run.experiment)
            self.control = Distillation(
                experiment, teacher=self.run.teacher, every=sys.maxsize, judge=self.run.judge
            )  # judged on the very same inputs
            for update in self.control:
                yield Update("control", share + CONTROL * update.progress, "Control: a student of noise alone")

    def moments(self) -> Iterator[Update]:
        """The same updates where nobody watches; some frames are kept all the same."""
        for update in self:
            if self.keeper.wants(update):
                self.frame(update, 0, last=update.progress >= 1)
            yield update

    @property
    def experiments(self) -> Sequence[Experiment]:
        return (self.run.experiment,)

    def edit(self, /, **settings: Any) -> None:
        self.run.edit(**settings)
        self.keeper.edited(settings)

    def close(self) -> None:
        self._updates.close()
        self.run.close()
        self.keeper.close()

    def fail(self, message: str) -> None:
        self.keeper.failed(message)

    def rest(self) -> None:
        self.keeper.rest()

    @property
    def kept(self) -> str:
        return self.keeper.run

    @property
    def hurries(self) -> bool:
        return self.keeper.hurries

    def past(self) -> list[bytes]:
        return self.keeper.past()

    def primed(self, update: Update) -> bool:
        if self.keeper.hurries:
            return False
        if update.stage not in ("data", "teacher", "synthesis"):
            return True  # it goes on behind the synthesis
        # A teacher for points is trained in a second; one for images is not trained before somebody asks for it.
        return update.snapshot is not None or (update.stage == "teacher" and self.run.dataset.info.kind == "images")

    def look(self, arrows: bool = False, sample: int | None = None, anatomy: bool = False) -> None:
        self.view.arrows, self.view.sample, self.view.anatomy = arrows, sample, anatomy

    def again(self) -> bytes | None:
        return self.view.again()

    def scene(self) -> bytes | None:
        self.keeper.scene = self.view.scene()
        return self.keeper.scene

    def frame(self, update: Update, version: int, last: bool) -> bytes | None:
        frame = None if update.stage == "data" else self.view.frame(update, version)
        self.keeper.keep(frame)
        return frame

    def finish(self) -> dict[str, Any]:
        result = {
            "experiment": self.run.experiment.to_dict(),
            "outcome": self.run.outcome.to_dict(),
            "control": self.control.outcome.to_dict() if self.control else None,
        }
        run = self.keeper.finish(result)
        trackers.begin(run)
        return {"run": run, **result}


class TrainTeacher(Task):
    """Teacher: trains one, with its loss and its accuracy on test data as they change."""

    kind = "teacher"

    def __init__(self, data_config: dict[str, Any], model: str, settings: dict[str, Any], seed: int, device: str):
        self.config = DataConfig.from_dict(data_config)
        self.settings = teachers.recipe(self.config.name, model, **settings)
        self.model, self.seed, self.device = model, seed, devices.choose(device)
        spec = {"data": data_config, "model": model, "settings": settings, "seed": seed, "device": device}
        self.pieces = Pieces.of(self.kind, spec, self.device.type)
        self._curve = Ring(10**9, MOST_POINTS)  # updates of how many, loss, accuracy and time of each point, as JSON
        self._halfway = self.pieces.halfway(
            "training", lambda: {"curve": [json.loads(point) for point in self._curve.all()]}
        )
        self._before: list[list[Any]] = self._halfway.noted.get("curve", [])  # what a life before has shown
        for point in self._before:
            self._curve.add(json.dumps(point).encode())
        self.training: TeacherTraining | None = None
        self._looked, self._accuracy = 0.0, None
        self._updates = self._loop()

    def __next__(self) -> Update:
        return next(self._updates)

    def _loop(self) -> Iterator[Update]:
        for share in data.images.download(self.config.name):
            yield Update("data", 0.1 * share, "Downloading the data")
        need_examples(self.config, "no teacher can be trained on it. Choose another data set")
        self.dataset = data.load(self.config).to(self.device)
        how = {"seed": self.seed, "halfway": self._halfway}
        self.training = TeacherTraining(self.dataset, self.config, self.model, self.settings, **how)
        yield Update("data", 0.1, "Data loaded")
        for step in self.training:
            yield self._at(step)
        yield replace(self._at(step), progress=1.0, note="Done")

    @staticmethod
    def _at(step: TrainStep) -> Update:
        return Update("teacher", 0.1 + 0.89 * step.update / step.total, "Training the teacher", training=step)

    def need(self) -> admission.Need:
        return self._with_batches_of(self.settings.batch_size)

    def less(self, room: float) -> str:
        return admission.smaller_batch(self._with_batches_of, self.settings.batch_size, room)

    def _with_batches_of(self, size: int) -> admission.Need:
        info = data.info(self.config.name)
        return admission.learning(info, [(self.model, size)], device=self.device.type)

    def close(self) -> None:
        self._updates.close()
        self.pieces.end()

    def past(self) -> list[bytes]:
        found, now = [], ages.milliseconds()
        for *place, accuracy, t in self._before:  # as if they had just been seen: whoever watches has this clock
            t = now + t - self._before[-1][-1]
            found.append(self._picture(self._at(TrainStep(*place)), accuracy, t))
        return found

    def frame(self, update: Update, version: int, last: bool) -> bytes | None:
        step = update.training
        if step is None:
            return None
        if last or time.monotonic() - self._looked > 1:
            self._looked = time.monotonic()
            network, part = self.training.network, slice(None if last else 1000)
            with evaluation.in_eval_mode(network):
                logits = evaluation.predict(network, self.dataset.test_x[part], self.dataset.inputs)
            self._accuracy = evaluation.accuracy(logits, self.dataset.test_y[part]).value
        point = [step.update, step.total, step.loss, self._accuracy, now := ages.milliseconds()]
        self._curve.add(json.dumps(point).encode())
        return self._picture(update, self._accuracy, now)

    def _picture(self, update: Update, accuracy: float | None, t: float) -> bytes:
        step = update.training
        return self.message(update, step.update, step.total, {"loss": step.loss}, values={"accuracy": accuracy}, t=t)

    def finish(self) -> dict[str, Any]:
        run = runs.create()
        self.training.teacher.save(runs.find(run), "teacher")
        seen = teachers.inspect(f"run:{run}", self.device)
        runs.write_json(runs.find(run) / "run.json", {"kind": self.kind, **seen})
        return {"run": run, **seen}


MOST_POINTS = 240  # of a teacher's curve, that are kept for who looks later


class ImportTeacher(Task):
    """Teacher: reads a file of somebody's own, checks it, judges it, and keeps it."""

    kind = "import"
    steps = 6  # about how many things it says that it does

    def __init__(
        self,
        upload: str,
        name: str,
        data_config: dict[str, Any] | None,
        model: str = "",
        normalisation: dict[str, Any] | None = None,
        something: dict[str, Any] | None = None,
        picture: str = "",
        point: Sequence[float] | None = None,
        device: str = "auto",
    ):
        self._files = [upload, picture]
        self._result: dict[str, Any] = {}
        try:
            brought = imports.Brought.from_dict(inbox.find(upload), name, data_config, model, normalisation, something)
            self.device = devices.choose(device)
            self.run = imports.TeacherImport(brought, self.device)
            shape = brought.inputs[0]
            # Looked at before the file is, so that a picture that can't be read costs no time.
            self.example = imports.example(inbox.find(picture) if picture else None, point, shape)
        except BaseException:
            self.close()
            raise
        self._updates = self._loop()

    def __next__(self) -> Update:
        return next(self._updates)

    def _loop(self) -> Iterator[Update]:
        for number, note in enumerate(self.run, start=1):
            yield Update("teacher", min(0.9, number / self.steps), note)
        yield Update("evaluation", 1.0, "Done")

    def finish(self) -> dict[str, Any]:
        return {"run": self.run.run, **self.run.keep(self.example)}

    def close(self) -> None:
        if hasattr(self, "_updates"):
            self._updates.close()
            self.run.close()
        for name in self._files:
            inbox.drop(name)


class InspectTeacher(Task):
    """Teacher: what a trained one gets right and wrong on its test data."""

    kind = "inspect"

    def __init__(self, teacher: str, device: str = "auto"):
        teachers.card(teacher)  # refused here if it does not exist
        self.teacher, self.device = teacher, devices.choose(device)
        self._seen: dict[str, Any] | None = None

    def __next__(self) -> Update:
        if self._seen is not None:
            raise StopIteration
        self._seen = teachers.inspect(self.teacher, self.device)
        return Update("evaluation", 1.0, "Done")

    def finish(self) -> dict[str, Any]:
        return self._seen


class CountParameters(Task):
    """Student: how large every architecture is for some data. A task, because some of them take long to import."""

    kind = "parameters"

    def __init__(self, data_name: str):
        self.info = data.info(data_name)
        self.found: dict[str, int] = {}
        self._updates = self._loop()

    def __next__(self) -> Update:
        return next(self._updates)

    def _loop(self) -> Iterator[Update]:
        fitting = [m.name for m in models.MODELS.values() if self.info.kind in m.kinds]
        for number, name in enumerate(fitting, start=1):
            with torch.device("meta"):  # shapes without values: quick, whatever the size
                model = models.build(name, self.info.shape, len(self.info.classes))
            self.found[name] = models.parameter_count(model)
            yield Update("data", number / len(fitting), "Counting parameters")

    def finish(self) -> dict[str, Any]:
        return {"parameters": self.found}


class TrainStudents(Task):
    """Student: students of one architecture on a run's samples, on noise, and on the teacher's data."""

    kind = "students"

    def __init__(
        self,
        run: str,
        student: dict[str, Any],
        seeds: int,
        sources: Sequence[str] = tuple(SOURCES),
        kd: dict[str, Any] | None = None,
    ):
        self.base, restored = run, Distillation.restore(run)
        spec = {"run": run, "student": student, "seeds": seeds, "sources": list(sources), "kd": kd}
        self.pieces = Pieces.of(self.kind, spec, restored.device.type)
        config = StudentConfig.from_dict(student)
        self.comparison = StudentComparison(restored, config, seeds, sources, KDConfig.from_dict(kd or {}), self.pieces)
        if self.comparison.run.dataset.info.kind == "points":
            self.threads = 1
        self._drawn, self._shown = 0.0, -1

    def __next__(self) -> Update:
        return next(self.comparison)

    def need(self) -> admission.Need:
        return self._with_batches_of(self.comparison.config.batch_size)

    def less(self, room: float) -> str:
        return admission.smaller_batch(self._with_batches_of, self.comparison.config.batch_size, room)

    def _with_batches_of(self, size: int) -> admission.Need:
        c, run = self.comparison, self.comparison.run
        learned = [(c.config.model, size)] * len(c.sources)  # of each seed in lock-step
        teacher, made = [run.teacher.card.model], 2 * len(run.samples)  # samples, and as much noise
        return admission.learning(run.dataset.info, learned, made=made, asked=teacher, device=run.device.type)

    def close(self) -> None:
        self.comparison.close()
        self.pieces.end()

    def scene(self) -> bytes:
        legend = [(SOURCES[k], *figures.LINES[k]) for k in self.comparison.sources]
        run, config, epoch = self.comparison.run, self.comparison.config, self.comparison.epoch
        judged = min(GLANCE, len(run.dataset.test_x))
        note = (
            f"One epoch is one pass over the {len(run.samples):,} synthetic samples: {epoch:,} updates of up to "
            f"{config.batch_size:,}. All students make the same {config.updates:,} updates. While they train they are "
            f"judged on {judged:,} of the {len(run.dataset.test_x):,} real test examples, in the end on all. Losses on "
            "what a student learns from do not compare between students: they learn from different answers."
        )
        return encode({"type": "scene", "kind": "figure", "legend": legend, "note": note})

    def frame(self, update: Update, version: int, last: bool) -> bytes | None:
        """The curves so far, when there is more of them to see."""
        looks, now = self.comparison.looks, time.monotonic()
        if not looks or (not last and (len(looks) == self._shown or now - self._drawn < SECONDS_BETWEEN_CURVES)):
            return None
        self._drawn, self._shown = now, len(looks)
        charts = figures.curves(
            [asdict(p) for p in looks],
            self.comparison.seeds,
            self.comparison.epoch,
            self.comparison.config.updates,
            SOURCES,
        )
        figure = [json.loads(chart.to_json()) for chart in charts]
        return self.message(update, looks[-1].update, self.comparison.config.updates, {}, figure=figure)

    def finish(self) -> dict[str, Any]:
        comparison, dataset = self.comparison, self.comparison.run.dataset
        rows = [r.to_dict() for r in comparison.results]
        summary = summarise(rows, ["source"], ["accuracy", "agreement", "plane_agreement", "calibration_error"])
        if comparison.seeds == 1:  # nothing to spread over: the intervals of the one student
            summary = [{**row, **line} for row, line in zip(rows, summary, strict=True)]
        result = {
            "base": self.base,
            "student": comparison.config.to_dict(),
            "kd": comparison.kd.to_dict(),
            "epoch": comparison.epoch,
            "rows": rows,
            "summary": summary,
            "teacher_accuracy": evaluation.accuracy(comparison.of_teacher, dataset.test_y).to_dict(),
            "classes": dataset.info.classes,
            "confusion": {k: m.tolist() for k, m in comparison.confusion.items()},
            "differences": comparison.differences,
        }
        run = runs.create()
        for source, network in comparison.first.items():
            weights = {k: v.cpu().contiguous() for k, v in network.state_dict().items()}
            about = {"model": comparison.config.model, "data": dataset.info.name, "source": source}
            save_file(weights, runs.find(run) / f"{source}.safetensors", {**about, "seed": str(rows[0]["seed"])})
        curves = [asdict(p) for p in comparison.looks]
        runs.write_json(runs.find(run) / "run.json", {"kind": self.kind, **result, "curves": curves})
        return {"run": run, **result}


SECONDS_BETWEEN_CURVES = 0.5


NO_MAP = "there is nothing to make a map from, which takes real inputs. Choose a run on a data set with examples"


class Embed(Task):
    """Embeddings: a picture of feature space. It goes out as the scene; the result says what is in it."""

    kind = "embedding"

    def __init__(self, run: str, network: str, how: str, dimensions: int, seed: int = 0):
        if network not in ("teacher", "student") or how not in ("pca", "umap") or dimensions not in (2, 3):
            raise CakeError("An embedding shows teacher or student, by pca or umap, in 2 or 3 dimensions.")
        experiment = runs.read(run).get("experiment", {})
        if "data" in experiment:
            need_examples(DataConfig.from_dict(experiment["data"]), NO_MAP)
        self.spec = (run, network, how, dimensions, seed)
        self._embedding: Embedding | None = None
        self._updates = self._loop()

    def __next__(self) -> Update:
        return next(self._updates)

    def _loop(self) -> Iterator[Update]:
        run, network, how, dimensions, seed = self.spec
        yield Update("data", 0.02, "Reading the run")
        restored = Distillation.restore(run)
        chosen = restored.network if network == "teacher" else restored.student
        placing = Placing(
            chosen, restored.dataset, restored.samples, restored.history, how=how, dimensions=dimensions, seed=seed
        )
        for share, note in placing:
            yield Update("evaluation", 0.1 + 0.9 * share, note)
        self._embedding = placing.result
        yield Update("evaluation", 1.0, "Done")

    def close(self) -> None:
        self._updates.close()

    def scene(self) -> bytes | None:
        return self._embedding.encode() if self._embedding else None

    def finish(self) -> dict[str, Any]:
        found = self._embedding
        return {
            "real": found.real,
            "synthetic": found.ended - found.real,
            "tracked": len(found.tracked) if found.moments else 0,
            "moments": found.moments,
            "explained": found.explained,
        }


class Charts(Task):
    """Shows charts of its rows. They are drawn when there is another row: that takes as long as some steps."""

    _shown = -1

    @abstractmethod
    def count(self) -> tuple[int, int]:
        """How many rows there are, and how many there will be."""

    @abstractmethod
    def charts(self) -> list[go.Figure]:
        """The charts of the rows so far."""

    def scene(self) -> bytes:
        return encode({"type": "scene", "kind": "figure"})

    def frame(self, update: Update, version: int, last: bool) -> bytes | None:
        done, total = self.count()
        if done == self._shown and not last:
            return None
        self._shown = done
        figure = [json.loads(chart.to_json()) for chart in self.charts()] if done else None
        return self.message(update, done, total, {}, figure=figure)


class Compare(Charts):
    """Compare: several methods with several seeds on one teacher."""

    kind = "compare"
    value = "student_accuracy"  # what the live chart shows

    def __init__(
        self,
        experiment: dict[str, Any],
        methods: Sequence[str],
        seeds: int,
        settings: dict[str, dict[str, Any]] | None = None,
        budget: Budget = "samples",
        amount: float = 0,
    ):
        base = Experiment.from_dict(experiment)
        self.device = devices.choose(base.device)
        self.budget = {"kind": budget, "amount": amount}
        spec = {"experiment": base.to_dict(), "methods": list(methods), "seeds": seeds, "settings": settings}
        self.pieces = Pieces.of(self.kind, {**spec, "budget": self.budget}, self.device.type)
        self.comparison = MethodComparison(base, methods, seeds, settings, budget, amount, self.pieces)
        if data.info(self.comparison.experiment.data.name).kind == "points":
            self.threads = 1

    def __next__(self) -> Update:
        return next(self.comparison)

    def close(self) -> None:
        self.comparison.close()
        self.pieces.end()

    @property
    def experiments(self) -> Sequence[Experiment]:
        return self.comparison.experiments

    def count(self) -> tuple[int, int]:
        return len(self.comparison.rows), len(self.comparison.methods) * self.comparison.seeds

    def charts(self) -> list[go.Figure]:
        summary = self.summary()
        costs = [figures.costs(summary, self.value, cost) for cost in figures.COSTS]
        return [figures.methods(summary, self.value), *costs]

    def summary(self) -> list[dict[str, Any]]:
        """Mean and standard deviation of every number over the seeds of each method."""
        names = ["student_accuracy", "agreement", "plane_agreement", "near_boundary", "coverage"]
        names += ["samples", "forward_calls", "gradient_calls"]
        rows = [
            {**r, "seconds": r["seconds"]["synthesis"], "calls": r["forward_calls"] + r["gradient_calls"]}
            for r in self.comparison.rows
        ]
        summary = summarise(rows, ["method"], [*names, "seconds", "calls"])
        return [{**r, "title": METHODS[r["method"]].title} for r in summary]

    def _published(self) -> dict[str, dict[str, Any]]:
        """What the paper prints for the methods, by name, and whether it is for the same data and networks."""
        e = self.comparison.experiment
        model = resolve_teacher(e) or default_teacher(e)
        model = teachers.card(model).model if model not in models.MODELS else model
        found = {m: beside("Table 3", m, e.data.name, (model, e.student.model)) for m in self.comparison.methods}
        return {m: {**row, "same": same} for m, (row, same) in found.items() if row}

    def finish(self) -> dict[str, Any]:
        rows = self.comparison.rows
        result = {
            "rows": rows,
            "summary": self.summary(),
            "refused": self.comparison.refused,
            "budget": self.budget,
            "paper": self._published(),
            "teacher_accuracy": {
                "value": rows[0]["teacher_accuracy"],
                "interval": rows[0]["teacher_accuracy_interval"],
                "n": rows[0]["n_test"],
            },
        }
        run = runs.create()
        stored = {"kind": self.kind, "base": self.comparison.experiment.to_dict(), **result}
        runs.write_json(runs.find(run) / "run.json", stored)
        return {"run": run, **result}


class CompareNetworks(Charts):
    """Compare: every teacher with every student. Cells that were computed before are taken from the store."""

    kind = "grid"

    def __init__(
        self,
        experiment: dict[str, Any],
        teachers: Sequence[str],
        students: Sequence[str],
        seeds: int,
        student: dict[str, Any] | None = None,
    ):
        if not teachers or not students:
            raise CakeError("A comparison needs at least one teacher and one student. Choose some.")
        self.grid = Grid(Experiment.from_dict(experiment), teachers, students, seeds, student=student)

    def __next__(self) -> Update:
        return next(self.grid)

    @property
    def experiments(self) -> Sequence[Experiment]:
        return () if cluster.engine() == "ray" else self.grid.experiments

    def close(self) -> None:
        self.grid.close()

    def count(self) -> tuple[int, int]:
        return len(self.grid.rows), self.grid.cells

    def charts(self) -> list[go.Figure]:
        return [figures.grid(self.grid.summary(), _titles(self.grid))]

    def finish(self) -> dict[str, Any]:
        result = {"rows": self.grid.rows, "summary": self.grid.summary(), "titles": _titles(self.grid)}
        run = runs.create()
        runs.write_json(runs.find(run) / "run.json", {"kind": self.kind, **result})
        return {"run": run, **result}


def _titles(grid: Grid) -> dict[str, str]:
    """What the teachers and students of a grid are called."""
    return {
        name: models.MODELS[name].title if name in models.MODELS else teachers.card(name).network_title
        for name in grid.names
    }


TASKS: dict[str, type[Task]] = {
    task.kind: task
    for task in (
        Distill,
        TrainTeacher,
        ImportTeacher,
        InspectTeacher,
        CountParameters,
        TrainStudents,
        Embed,
        Compare,
        CompareNetworks,
    )
}

# Tasks in modules of their own, imported when the first such job comes: what they need takes long to import.
ELSEWHERE = {
    "steal": "few_call_tasks",
    "steal-sweep": "few_call_tasks",
    "lineup": "detect_tasks",
    "audit": "detect_tasks",
    "tune": "tuning_task",
    "tune-final": "tuning_task",
    "pictures": "run_tasks",
    "export": "run_tasks",
}


def find(kind: str) -> type[Task]:
    """The task of a kind."""
    if kind not in TASKS:
        module = import_module(f".{ELSEWHERE[kind]}", __package__)
        TASKS.update((task.kind, task) for task in module.TASKS)
    return TASKS[kind]
