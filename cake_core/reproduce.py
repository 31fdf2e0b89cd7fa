"""Figures of the CAKE paper, replayed: numbers where the paper prints a picture, with several seeds and the controls.

References: | Deep Classifier Mimicry without Data Access (Braun, Mundt, Kersting 2024) | https://arxiv.org/abs/2306.02090
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from . import devices, evaluation
from .comparison import summarise
from .methods import METHODS
from .pipeline import Distillation, Experiment
from .rng import generator
from .student import StudentTraining

__all__ = ["FIGURES", "Fig1", "fig1_settings"]

SIGMAS = (0.1, 1.0)
COUNTS = (10, 20, 50, 100, 200, 500, 1000)  # synthetic samples that a student gets
SUBSETS = 2**31 + 2  # stream of the choice of samples

# One budget for all that walk. The generator is trained, so it keeps its own number of steps.
BUDGET = {
    "batches": 10,
    "samples": 200,
    "steps": 200,
    "step_size": 0.5,
    "decades": 0.0,
    "clip": 1.0,
    "temperature": 1.0,
}


def fig1_settings(method: str, sigma: float) -> dict[str, Any]:
    """The settings of one method in Fig. 1's setting: those of the common budget that it knows.

    Args:
        method: its name.
        sigma: spread of the prior.
    """
    known = METHODS[method].Config.model_fields
    budget = {k: v for k, v in BUDGET.items() if k in known and not (METHODS[method].whole and k == "steps")}
    return {**budget, "sigma": sigma}


class Fig1(Iterator[float]):
    """Fig. 1: how well students of the different samples agree with a two-moons teacher; yields the share done.

    Two moons with noise 0.1 and the shipped teacher. All samples start in one spot (prior sigma 0.1), or all over the
    plane (sigma 1). Every method has the same step size, number of samples, steps and student, its gradient clipped
    at 1 for each sample; every student of a seed starts from the same weights.

    Args:
        seeds: how many seeds.
        device: where to compute.

    Attributes:
        runs: one row for each run with all samples.
        subsets: one row for each student of fewer samples.
    """

    def __init__(self, seeds: int = 5, device: str = "auto"):
        self.seeds, self.device = seeds, device
        self.runs: list[dict[str, Any]] = []
        self.subsets: list[dict[str, Any]] = []
        self._shares = self._loop()

    def __next__(self) -> float:
        return next(self._shares)

    def _loop(self) -> Iterator[float]:
        torch.set_num_threads(1)  # operations on points are too small to be shared
        self._start = time.perf_counter()
        cells = [(s, m, n) for s in SIGMAS for m in METHODS for n in range(self.seeds)]
        for done, (sigma, method, seed) in enumerate(cells):
            run = Distillation(self._experiment(method, sigma, seed), every=sys.maxsize)
            for _ in run:
                pass
            settings = run.experiment.settings
            row = {"method": method, "sigma": sigma, "steps": getattr(settings, "steps", 0), **run.outcome.to_dict()}
            self.runs.append(row)
            self._learn_from_fewer(run, method, sigma)
            yield (done + 1) / len(cells)

    def _experiment(self, method: str, sigma: float, seed: int) -> Experiment:
        return Experiment.from_dict(
            {
                "data": {"name": "moons", "noise": 0.1},
                "teacher": "moons/mlp",
                "method": method,
                "settings": fig1_settings(method, sigma),
                "seed": seed,
                "device": self.device,
            }
        )

    def _learn_from_fewer(self, run: Distillation, method: str, sigma: float) -> None:
        """Students of random parts of a run's samples."""
        seed = run.experiment.seed
        order = torch.randperm(len(run.samples), generator=generator(seed, SUBSETS)).to(run.device)
        dataset = run.dataset
        of_teacher = evaluation.predict(run.oracle.network, dataset.test_x, dataset.inputs)
        for count in COUNTS:
            training = StudentTraining(run.samples.take(order[:count]), run.experiment.student, seed=seed)
            for _ in training:
                pass
            of_student = evaluation.predict(training.network, dataset.test_x, dataset.inputs)
            agreement = evaluation.agreement(of_student, of_teacher).value
            self.subsets.append({"method": method, "sigma": sigma, "samples": count, "agreement": agreement})

    def result(self) -> dict[str, Any]:
        """All numbers: `rows` with all samples, `by_samples` with fewer, and how they were made."""
        values = ["agreement", "plane_agreement", "student_accuracy", "near_boundary", "coverage"]
        values += ["forward_calls", "gradient_calls"]
        return {
            "figure": "fig1",
            "rows": summarise(self.runs, ["method", "sigma", "samples", "steps"], values),
            "by_samples": summarise(self.subsets, ["method", "sigma", "samples"], ["agreement"]),
            "agreement_is": "share of the real test points on which student and teacher name the same class",
            "n_test": self.runs[0]["n_test"],
            "teacher": "moons/mlp",
            "settings": {f"{m} sigma {s:g}": fig1_settings(m, s) for m in METHODS for s in SIGMAS},
            "student": self._experiment("cake", 1.0, 0).student.to_dict(),
            "device": devices.describe(devices.choose(self.device)),
            "torch": torch.__version__,
            "seconds": round(time.perf_counter() - self._start, 1),
        }

    def write(self, folder: Path) -> None:
        """Writes fig1.csv and fig1_samples.csv."""
        folder.mkdir(parents=True, exist_ok=True)
        result = self.result()
        for name, rows in (("fig1", result["rows"]), ("fig1_samples", result["by_samples"])):
            with (folder / f"{name}.csv").open("w", newline="") as f:
                writer = csv.DictWriter(f, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in r.items()} for r in rows)


FIGURES = {"fig1": Fig1}
