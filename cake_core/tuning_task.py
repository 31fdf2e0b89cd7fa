"""Studies as jobs. Imported by the compute process alone, and only when somebody tunes."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from . import cluster, data, tuning_figures
from .admission import SHRINKABLE
from .frames import encode
from .pipeline import Experiment, Update
from .tasks import Task
from .tuning import Final, Tuning, opened, write

__all__ = ["TASKS", "FinalRuns", "Tune"]

SECONDS_BETWEEN_CHARTS = 1.0
SIZES = {name for _, name in SHRINKABLE}  # settings that memory follows from


class Tune(Task):
    """Tune: trials until the study has so many, and the final runs of the best one."""

    kind = "tune"

    def __init__(self, study: str, trials: int, workers: int = 1, finals: int = 0):
        self.name = study
        self.run = Tuning(study, trials, workers=workers, finals=finals)
        if data.info(self.run.config.experiment.data.name).kind == "points":
            self.threads = 1
        self._drawn, self._shown = 0.0, -1

    def __next__(self) -> Update:
        return next(self.run)

    @property
    def experiments(self) -> Sequence[Experiment]:
        """The largest of its trials."""
        if cluster.engine() == "ray":
            return ()
        largest = {k: v[1] for k, v in self.run.config.space.items() if k.rpartition(".")[2] in SIZES}
        return (self.run.config.tried(largest),)

    @property
    def abreast(self) -> int:
        return self.run.workers

    def close(self) -> None:
        self.run.close()

    def scene(self) -> bytes:
        return encode({"type": "scene", "kind": "figure"})

    def frame(self, update: Update, version: int, last: bool) -> bytes | None:
        """The history and the live curves so far, when there is another trial."""
        now = time.monotonic()
        if not last and now - self._drawn < SECONDS_BETWEEN_CHARTS:
            return None
        self._drawn, done = now, self.run.done
        if done == self._shown and not last:
            return None
        self._shown = done
        figure = [json.loads(f.to_json()) for f in tuning_figures.live(self.run.study, self.name)] or None
        return self.message(update, min(done, self.run.trials), self.run.trials, {}, figure=figure)

    def finish(self) -> dict[str, Any]:
        self.run.write()
        tuning_figures.write(self.name)
        return {"run": self.name}


class FinalRuns(Task):
    """Tune: a trial's setting once more, with fresh seeds beside its controls."""

    kind = "tune-final"

    def __init__(self, study: str, number: int, seeds: int):
        self.name, self.run = study, Final(study, number, seeds)
        if data.info(self.run.config.experiment.data.name).kind == "points":
            self.threads = 1

    def __next__(self) -> Update:
        return next(self.run)

    @property
    def experiments(self) -> Sequence[Experiment]:
        return self.run.experiments

    def close(self) -> None:
        self.run.close()

    def finish(self) -> dict[str, Any]:
        write(opened(self.name), self.name)
        return {"run": self.name}


TASKS = (Tune, FinalRuns)
