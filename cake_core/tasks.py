"""What the job runner can run, by kind: iterators with a few more methods around them."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

from . import data, runs
from .errors import CakeError
from .frames import DistillationView, encode
from .pipeline import Distillation, Experiment, Update, noise_only

__all__ = ["TASKS", "Task"]


class Task(ABC, Iterator[Update]):
    """Work that the worker drives: each `next` works for a moment and says where it is.

    Attributes:
        kind: the name under which jobs ask for it.
        threads: on how many it computes; operations on points are too small to be shared.
    """

    kind: ClassVar[str]
    threads: int = os.cpu_count() or 1

    @abstractmethod
    def __init__(self, **spec: Any):
        """Takes what the job was submitted with; raises `CakeError` where that makes no sense."""

    @abstractmethod
    def finish(self) -> dict[str, Any]:
        """Called once after the last update: stores what is worth keeping, returns plain numbers."""

    def edit(self, **settings: Any) -> None:
        """Changes settings while it runs."""
        raise CakeError("The settings of this job can't change while it runs. Start a new one with them.")

    def close(self) -> None:
        """Cancels; nothing is left behind."""

    def scene(self) -> bytes | None:
        """What the live view needs to be told once; None until it is known."""
        return encode({"type": "scene", "kind": "curves"})

    def frame(self, update: Update, version: int, last: bool) -> bytes | None:
        """A picture of this moment, if there is one."""
        return None

    def primed(self, update: Update) -> bool:
        """Whether there is something to see. Until then a job gets turns though nobody has pressed Play."""
        return True

    def look(self, arrows: bool) -> None:
        """What somebody wants to see in the frames."""


CONTROL = 0.12  # share of a job's work that its control is taken to be


class Distill(Task):
    """Two moons and Images: one experiment from the first sample to the last number."""

    kind = "distill"

    def __init__(self, experiment: dict[str, Any], every: int = 1):
        self.run = Distillation(Experiment.from_dict(experiment), every=every)
        self.control: Distillation | None = None
        self.view = DistillationView(self.run)
        if data.info(self.run.experiment.data.name).kind == "points":
            self.threads = 1
        self._updates = self._both()

    def __next__(self) -> Update:
        return next(self._updates)

    def _both(self) -> Iterator[Update]:
        """The experiment, then its control: the same number of samples of pure noise, the same student."""
        share = 1.0 if self.run.experiment.method == "noise" else 1 - CONTROL
        for update in self.run:
            yield replace(update, progress=share * update.progress)
        if share < 1:
            self.control = Distillation(noise_only(self.run.experiment), teacher=self.run.teacher, every=sys.maxsize)
            for update in self.control:
                progress = share + CONTROL * update.progress
                yield Update("control", progress, "Control: a student of noise alone", training=update.training)

    def edit(self, **settings: Any) -> None:
        self.run.edit(**settings)

    def close(self) -> None:
        self.run.close()

    def scene(self) -> bytes | None:
        return self.view.scene()

    def primed(self, update: Update) -> bool:
        # A teacher for points is trained in a second; one for images is not trained before somebody asks for it.
        return update.snapshot is not None or (update.stage == "teacher" and self.run.dataset.info.kind == "images")

    def frame(self, update: Update, version: int, last: bool) -> bytes:
        return self.view.frame(update, version, last)

    def look(self, arrows: bool) -> None:
        self.view.arrows = arrows

    def finish(self) -> dict[str, Any]:
        run_id = runs.create()
        self.run.save(runs.find(run_id))
        result = {
            "outcome": self.run.outcome.to_dict(),
            "control": self.control.outcome.to_dict() if self.control else None,
            "experiment": self.run.experiment.to_dict(),
        }
        runs.write_json(runs.find(run_id) / "run.json", {"kind": self.kind, **result})
        return {"run": run_id, **result}


TASKS: dict[str, type[Task]] = {task.kind: task for task in (Distill,)}
