"""Figures of the CAKE paper, replayed: numbers where the paper prints a picture, with several seeds and the controls.

References: | Deep Classifier Mimicry without Data Access (Braun, Mundt, Kersting 2024) | https://arxiv.org/abs/2306.02090
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, ClassVar

import torch

from . import devices, evaluation, runs
from .comparison import summarise
from .errors import CakeError
from .grid import Grid
from .methods import METHODS
from .paper import Table1, Table2, Table3
from .pipeline import Distillation, Experiment
from .rng import generator
from .student import StudentTraining

__all__ = ["FIGURES", "Fig1", "Fig2", "Fig3", "fig1_settings"]

FIRST = ("cake", "generative", "lake", "naive", "brownian", "noise")  # the figure's methods, and the controls
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
    at 1 for each sample; every student of a seed starts from the same weights. What is finished is stored, and the same
    command goes on from there.

    Args:
        seeds: how many seeds.
        device: where to compute.
        scale: "paper"; the setting is the paper's, and small enough for two cores.

    Attributes:
        runs: one row for each run with all samples.
        subsets: one row for each student of fewer samples.
    """

    def __init__(self, seeds: int = 5, device: str = "auto", scale: str = "paper"):
        if scale not in ("", "paper"):
            raise CakeError("Fig. 1 is small enough to be made at the paper's scale; leave --scale out.")
        self.seeds, self.device = seeds, device
        self.runs: list[dict[str, Any]] = []
        self.subsets: list[dict[str, Any]] = []
        self._shares = self._loop()

    def __next__(self) -> float:
        return next(self._shares)

    def _loop(self) -> Iterator[float]:
        torch.set_num_threads(1)  # operations on points are too small to be shared
        self._start = time.perf_counter()
        cells = [(s, m, n) for s in SIGMAS for m in FIRST for n in range(self.seeds)]
        folder = runs.folder() / "fig1"
        folder.mkdir(parents=True, exist_ok=True)
        for done, (sigma, method, seed) in enumerate(cells):
            experiment = self._experiment(method, sigma, seed)
            path = folder / f"{experiment.digest()}-{runs.code()['source']}.json"
            stored = runs.read_json(path)
            if not stored:
                stored = self._cell(experiment, method, sigma)
                runs.write_json(path, stored)
            self.runs.append(stored["row"])
            self.subsets += stored["subsets"]
            yield (done + 1) / len(cells)

    def _cell(self, experiment: Experiment, method: str, sigma: float) -> dict[str, Any]:
        """The numbers of one run with all samples, and of the students of fewer."""
        run = Distillation(experiment, every=sys.maxsize)
        for _ in run:
            pass
        steps = getattr(run.experiment.settings, "steps", 0)
        row = {"method": method, "sigma": sigma, "steps": steps, **run.outcome.to_dict()}
        return {"row": row, "subsets": self._learn_from_fewer(run, method, sigma)}

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

    def _learn_from_fewer(self, run: Distillation, method: str, sigma: float) -> list[dict[str, Any]]:
        """Students of random parts of a run's samples."""
        found = []
        seed = run.experiment.seed
        order = torch.randperm(len(run.samples), generator=generator(seed, SUBSETS)).to(run.device)
        dataset = run.dataset
        of_teacher = evaluation.predict(run.network, dataset.test_x, dataset.inputs)
        for count in COUNTS:
            training = StudentTraining(run.samples.take(order[:count]), run.experiment.student, seed=seed)
            for _ in training:
                pass
            of_student = evaluation.predict(training.network, dataset.test_x, dataset.inputs)
            agreement = evaluation.agreement(of_student, of_teacher).value
            found.append({"method": method, "sigma": sigma, "samples": count, "agreement": agreement})
        return found

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
            "settings": {f"{m} sigma {s:g}": fig1_settings(m, s) for m in FIRST for s in SIGMAS},
            "student": self._experiment("cake", 1.0, 0).student.to_dict(),
            "device": devices.describe(devices.choose(self.device)),
            "torch": torch.__version__,
            "seconds": round(time.perf_counter() - self._start, 1),
        }

    def write(self, folder: Path) -> None:
        """Writes fig1.csv and fig1_samples.csv."""
        result = self.result()
        runs.write_csv(folder / "fig1.csv", result["rows"])
        runs.write_csv(folder / "fig1_samples.csv", result["by_samples"])


class GridFigure(Iterator[float]):
    """A figure of the paper that is a grid of teachers and students; yields the share done.

    What is finished is stored, and the same command goes on from there.

    Args:
        seeds: how many seeds.
        device: where to compute.
        scale: a key of `SCALES`.
        rows: teachers to do now (all, where none is named); the result holds what is stored of the others too.
        folder: where cells are stored (None: among the runs).
        shards: see `grid.Cells`.
    """

    name: ClassVar[str]
    data: ClassVar[str]
    statement: ClassVar[str]
    SCALES: ClassVar[dict[str, dict[str, Any]]]

    def __init__(
        self,
        seeds: int = 3,
        device: str = "auto",
        scale: str = "quick",
        rows: Sequence[str] = (),
        folder: Path | None = None,
        shards: int | None = None,
    ):
        scale = scale or "quick"
        if scale not in self.SCALES:
            raise CakeError(f"There is no scale '{scale}'. Choose one of: {', '.join(self.SCALES)}.")
        setting = self.SCALES[scale]
        known = [t.split("/")[-1] for t in setting["teachers"]]
        if strange := [r for r in rows if r not in known]:
            raise CakeError(f"At scale {scale} there is no row '{strange[0]}'. Choose of: {', '.join(known)}.")
        self.seeds, self.scale, self.setting = seeds, scale, setting
        experiment = Experiment.from_dict(
            {
                "data": {"name": self.data},
                "settings": setting["settings"],
                "precision": setting["precision"],
                "device": device,
            }
        )
        self.experiment = experiment
        teachers = [t for t in setting["teachers"] if not rows or t.split("/")[-1] in rows]
        where = {"folder": folder, "shards": shards}
        self.grid = Grid(experiment, teachers, setting["students"], seeds, student=setting["student"], **where)

    def __next__(self) -> float:
        return next(self.grid).progress

    def result(self) -> dict[str, Any]:
        """All numbers: `rows` by pair and method, `runs` of single seeds, and how they were made."""
        return {
            "figure": self.name,
            "scale": self.scale,
            "rows": self.grid.summary(),
            "runs": self.grid.rows,
            "statement": self.statement,
            "reductions": self.setting["reductions"],
            "experiment": self.experiment.to_dict(),
            "student": self.setting["student"],
            "device": devices.describe(devices.choose(self.experiment.device)),
            "torch": torch.__version__,
            "date": date.today().isoformat(),
        }

    def write(self, folder: Path) -> None:
        """Writes <name>_<scale>.csv, one row for each pair and method, and <name>_<scale>_runs.csv with every seed."""
        result = self.result()
        made = {k: result[k] for k in ("device", "torch", "date")}
        runs.write_csv(folder / f"{self.name}_{self.scale}.csv", [{**row, **made} for row in result["rows"]])
        plain = [{k: v for k, v in row.items() if not isinstance(v, list)} for row in result["runs"]]
        runs.write_csv(folder / f"{self.name}_{self.scale}_runs.csv", plain)


# The paper's own sampling (Appendix B) in the units of `methods.cake`: see deviation 1 there.
PAPER = {"samples": 250, "steps": 256, "step_size": 0.1, "decades": 4.0}


class Fig2(GridFigure):
    """Fig. 2: CIFAR-10 across scales, ResNet-4 to ResNet-152 as teachers and students."""

    name = "fig2"
    data = "cifar10"
    statement = "students of equal or larger size do best; teachers too large or too small for a student do worse"
    _ALL: ClassVar[list[str]] = ["resnet152", "resnet101", "resnet50", "resnet34", "resnet18", "resnet4"]
    SCALES: ClassVar = {
        "quick": {
            "teachers": ["cifar10/resnet4"],
            "students": ["resnet4"],
            "settings": {},
            "precision": "fp32",
            "student": {},
            "reductions": "only the smallest of six networks; 10,000 samples of 64 steps for 62,500 of 256",
        },
        "paper": {
            "teachers": _ALL,
            "students": _ALL,
            "settings": {**PAPER, "batches": 250},
            "precision": "bf16",
            "student": {"updates": 7500, "batch_size": 256, "optimizer": "sgd", "learning_rate": 0.5,
                        "weight_decay": 1e-4, "precision": "bf16"},
            "reductions": "none",
        },
    }  # fmt: skip


class Fig3(GridFigure):
    """Fig. 3: MNIST across types, MLP, CNN, ResNet-4 and ViT-3 with about 100,000 parameters each."""

    name = "fig3"
    data = "mnist"
    statement = (
        "MLP teachers teach all types well, ResNet teachers teach others poorly, equal types work well, a ViT student "
        "does well only under a ViT teacher, and ResNet is the safest student"
    )
    _TYPES: ClassVar[list[str]] = ["mlp", "cnn", "resnet4", "vit3"]
    _SHIPPED: ClassVar[list[str]] = [f"mnist/{t}" for t in _TYPES]
    SCALES: ClassVar = {
        "quick": {
            "teachers": _SHIPPED,
            "students": _TYPES,
            "settings": {"batches": 20, "steps": 32, "step_size": 0.06},
            "precision": "bf16",
            "student": {"updates": 2000, "precision": "bf16"},
            "reductions": "5,000 samples of 32 steps for 128,000 of 256, 2,000 updates of 64 for 15,000 of 256",
        },
        "paper": {
            "teachers": _SHIPPED,
            "students": _TYPES,
            "settings": {**PAPER, "batches": 500},
            "precision": "bf16",
            "student": {"updates": 15_000, "batch_size": 256, "optimizer": "sgd", "learning_rate": 0.5,
                        "weight_decay": 1e-4, "precision": "bf16"},
            "reductions": "none",
        },
    }  # fmt: skip


FIGURES = {"fig1": Fig1, "fig2": Fig2, "fig3": Fig3, "table1": Table1, "table2": Table2, "table3": Table3}
