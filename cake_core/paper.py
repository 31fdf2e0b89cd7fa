"""Tables of the CAKE paper, replayed: every method that it compares with, beside the figures that it prints.

References: | Deep Classifier Mimicry without Data Access (Braun, Mundt, Kersting 2024), Tables 1 to 3 | https://arxiv.org/abs/2306.02090
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch

from . import devices, runs
from .comparison import summarise
from .errors import CakeError
from .grid import Cells
from .methods import METHODS
from .pipeline import Experiment

__all__ = ["PUBLISHED", "Cell", "Table1", "Table2", "Table3", "beside", "published"]

PUBLISHED = Path(__file__).parents[1] / "assets" / "paper" / "results.csv"

# What the paper calls things, and what they are called here.
METHOD = {
    "KD": "kd", "DAFL": "dafl", "RDSKD": "rdskd", "DI": "deepinversion", "ADI": "adi", "ZSKD": "zskd", "GD": "gd",
    "DD": "deepdream", "CAKE": "cake",
}  # fmt: skip
DATA = {"MNIST": "mnist", "FMNIST": "fashion-mnist", "SVHN": "svhn", "CIFAR-10": "cifar10"}
MODEL = {
    "LeNet-5": "lenet5", "LeNet-5-Half": "lenet5-half", "HintonNet": "hinton", "HintonNet-Half": "hinton-half",
    "WResNet-40-2": "wrn40-2", "WResNet-16-1": "wrn16-1", "ResNet-34": "resnet34", "ResNet-18": "resnet18",
    "ResNet18": "resnet18", "VGG-11": "vgg11", "AlexNet": "alexnet", "AlexNet-Half": "alexnet-half",
    "MobileNetV2": "mobilenetv2", "ViT-8": "vit8", "ViT-4": "vit4",
}  # fmt: skip


@cache
def published() -> tuple[dict[str, str], ...]:
    """The figures that the paper prints, row by row; an empty value is one that it does not print."""
    with PUBLISHED.open(newline="") as f:
        return tuple(csv.DictReader(f))


@dataclass(frozen=True)
class Cell:
    """One line of a table: how it is made here, and what the paper prints for it.

    Attributes:
        row: its name, for `--rows`.
        label: what it is called in the table.
        experiment: everything but the seed, as `Experiment.from_dict` takes it.
        paper: the paper's row that it stands beside, if there is one.
        same: whether the paper's row is of the same data, teacher and student.
    """

    row: str
    label: str
    experiment: dict[str, Any]
    paper: Mapping[str, str] = field(default_factory=dict)
    same: bool = False


class Table(Iterator[float]):
    """A table of the paper; yields the share done. What is finished is stored, and the same command goes on from there.

    Args:
        seeds: how many seeds.
        device: where to compute.
        scale: "quick" (two cores, with the stated reductions) or "paper" (the paper's budget, for a GPU).
        rows: names of rows to do now (all, where none is named).
        folder: where cells are stored (None: among the runs).
        shards: see `grid.Cells`.
    """

    name: ClassVar[str]
    statement: ClassVar[str]
    reductions: ClassVar[str]

    def __init__(
        self,
        seeds: int = 3,
        device: str = "auto",
        scale: str = "quick",
        rows: Sequence[str] = (),
        folder: Path | None = None,
        shards: int | None = None,
    ):
        self.seeds, self.device, self.scale = seeds, device, scale or "quick"
        makers = {"quick": self.quick, "paper": self.full}
        if self.scale not in makers:
            raise CakeError(f"There is no scale '{scale}'. Choose one of: {', '.join(makers)}.")
        cells = makers[self.scale]()
        known = list(dict.fromkeys(c.row for c in cells))
        if strange := [r for r in rows if r not in known]:
            raise CakeError(f"At scale {self.scale} there is no row '{strange[0]}'. Choose of: {', '.join(known)}.")
        self.cells = [c for c in cells if not rows or c.row in rows]
        precision = "bf16" if self.scale == "paper" else "fp32"
        self._experiments = [
            [
                Experiment.from_dict({"precision": precision, **c.experiment, "seed": n, "device": device})
                for n in range(seeds)
            ]
            for c in self.cells
        ]
        # Lines that differ in their student alone share samples: they stand in one round.
        rounds: dict[str, list[Experiment]] = {}
        for experiments in self._experiments:
            for e in experiments:
                plain = e.to_dict()
                plain.pop("student")
                rounds.setdefault(json.dumps(plain, sort_keys=True), []).append(e)
        self._cells = Cells(list(rounds.values()), folder, shards=shards)

    def quick(self) -> list[Cell]:
        """The lines at the small scale."""
        raise NotImplementedError

    def full(self) -> list[Cell]:
        """The lines at the paper's scale."""
        raise NotImplementedError

    def __next__(self) -> float:
        return next(self._cells).progress

    def result(self) -> dict[str, Any]:
        """All numbers: `rows` by line, beside the paper's, and how they were made."""
        found = {row["experiment"]: row for row in self._cells.rows}
        rows = []
        for cell, experiments in zip(self.cells, self._experiments, strict=True):
            mine = [found[e.digest()] for e in experiments if e.digest() in found]
            if mine:
                rows.append(self._line(cell, experiments[0], mine))
        return {
            "table": self.name,
            "scale": self.scale,
            "rows": rows,
            "statement": self.statement,
            "reductions": self.reductions if self.scale == "quick" else "none",
            "device": devices.describe(devices.choose(self.device)),
            "torch": torch.__version__,
            "date": date.today().isoformat(),
        }

    def _line(self, cell: Cell, experiment: Experiment, mine: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        values = ["teacher_accuracy", "student_accuracy", "agreement", "forward_calls", "gradient_calls"]
        (line,) = summarise(mine, [], [*values, "seconds_samples", "seconds_student"])
        paper = cell.paper
        return {
            "row": cell.row,
            "label": cell.label,
            "method": experiment.method,
            "data": experiment.data.name,
            "teacher": experiment.teacher,
            "student": experiment.student.model,
            "samples": mine[0]["samples"],
            "n_test": mine[0]["n_test"],
            **line,
            "paper_pair": f"{paper['dataset']}, {paper['teacher']} to {paper['student']}" if paper else "",
            "paper_teacher": paper.get("teacher_acc", ""),
            "paper_student": paper.get("student_acc", ""),
            "paper_std": paper.get("student_std", ""),
            "same_pair": cell.same,
            "settings": experiment.settings.to_dict(),
            "student_settings": experiment.student.to_dict(),
        }

    def write(self, folder: Path) -> None:
        """Writes <name>_<scale>.csv, one row for each line; settings stand in it as JSON."""
        result = self.result()
        made = {k: result[k] for k in ("device", "torch", "date")}
        runs.write_csv(folder / f"{self.name}_{self.scale}.csv", [{**row, **made} for row in result["rows"]])


# -- the tables -----------------------------------------------------------------------------------------------------

SMALL = {"batches": 20, "samples": 250}  # of every method at the quick scale
PLAIN, NORM = ("lenet5", "lenet5-half"), ("resnet4", "resnet4-half")  # pairs without and with batch normalisation
QUICK = (
    "5,000 samples of each method, and each method's own shipped defaults; LeNet-5 to LeNet-5-Half, or ResNet-4 to "
    "ResNet-4-Half where batch normalisation is needed"
)


def _quick(name: str, method: str, pair: tuple[str, str], **more: Any) -> dict[str, Any]:
    settings = {**SMALL, **more.pop("settings", {})}
    return {
        "data": {"name": name},
        "teacher": f"{name}/{pair[0]}",
        "method": method,
        "settings": settings,
        "student": {"model": pair[1], **more.pop("student", {})},
    }


def beside(table: str, method: str, name: str, pair: tuple[str, str]) -> tuple[Mapping[str, str], bool]:
    """The paper's row of a method: of the same pair if there is one, else of the same data, else the first."""
    rows = [r for r in published() if r["source_table"] == table and METHOD.get(r["method"]) == method]
    same = [r for r in rows if DATA[r["dataset"]] == name and (MODEL[r["teacher"]], MODEL[r["student"]]) == pair]
    near = [r for r in rows if DATA[r["dataset"]] == name]
    return next(iter(same or near or rows), {}), bool(same)


def _lines(table: str, name: str, methods: Sequence[str]) -> list[Cell]:
    """Methods on one data set at the quick scale, each on the pair that it needs."""
    cells = []
    for method in methods:
        both = method in ("kd", "cake", "noise")  # what the others on either pair are to be compared with
        norm = "batchnorm" in METHODS[method].access
        for pair in (PLAIN, NORM) if both else (NORM,) if norm else (PLAIN,):
            paper, same = beside(table, method, name, pair)
            cells.append(Cell(method, METHODS[method].title, _quick(name, method, pair), paper, same))
    return cells


# The papers' own budgets, in the units of the methods here; what is not named is as shipped. Sources: see each method.
PAPER_SCALE: dict[str, dict[str, Any]] = {
    "kd": {"batches": 200, "samples": 250},
    "cake": {
        "batches": 2000,
        "samples": 250,
        "steps": 256,
        "step_size": 0.1,
        "decades": 4.0,
        "weight_variation": 200.0,
    },
    "dafl": {"batches": 2000, "samples": 250, "steps": 24_000, "batch_size": 512, "width": 128},
    "rdskd": {"batches": 2000, "samples": 250, "steps": 2400, "batch_size": 512, "width": 128},
    "deepinversion": {"batches": 1000, "samples": 256, "steps": 2000, "step_size": 0.05},
    "adi": {"batches": 1000, "samples": 256, "steps": 2000, "step_size": 0.05, "rounds": 20, "student_updates": 2500},
    "deepdream": {"batches": 1000, "samples": 256, "steps": 2000, "step_size": 0.05, "weight_variation": 2.5e-5},
    "zskd": {"batches": 160, "samples": 250, "steps": 1500},
    "gd": {"batches": 2000, "samples": 250},
}
PAPER_STUDENT = {"updates": 60_000, "batch_size": 256, "optimizer": "sgd", "learning_rate": 0.5, "weight_decay": 1e-4}


def _full(table: str) -> list[Cell]:
    """Every line of the paper's table, at its budget; teachers that are not shipped are trained first."""
    cells = []
    for r in published():
        if r["source_table"] != table or r["method"] not in METHOD:
            continue
        method, name = METHOD[r["method"]], DATA[r["dataset"]]
        experiment = {
            "data": {"name": name},
            "teacher": MODEL[r["teacher"]],
            "method": method,
            "settings": PAPER_SCALE[method],
            "student": {"model": MODEL[r["student"]], "precision": "bf16", **PAPER_STUDENT},
        }
        cells.append(Cell(method, METHODS[method].title, experiment, r, same=True))
    return cells


class Table1(Table):
    """Table 1: what each part of CAKE's loss gives, with its own schedule and with LAKE's noise."""

    name = "table1"
    statement = (
        "contrast and the image prior each help CAKE, soft targets help a little, and the noise of LAKE helps where "
        "there is no contrast"
    )
    reductions = "MNIST, LeNet-5 to LeNet-5-Half for CIFAR-10, ResNet-34 to ResNet-18; 20 mini-batches for 500"
    # What the paper adds, line by line: soft targets (its L_KD), contrast, the image prior.
    LINES: ClassVar = (
        ("baseline", False, False, False),
        ("+ L_KD", True, False, False),
        ("+ L_contr", False, True, False),
        ("+ L_KD + L_contr", True, True, False),
        ("+ L_KD + L_contr + L_TV", True, True, True),
    )

    def quick(self) -> list[Cell]:
        def experiment(method: str, off: dict[str, Any], student: dict[str, Any]) -> dict[str, Any]:
            return _quick("mnist", method, PLAIN, settings=off, student=student)

        cells = [Cell("noise", "Noise only", experiment("noise", {}, {}))]
        return cells + self._ablation(experiment)

    def full(self) -> list[Cell]:
        def experiment(method: str, off: dict[str, Any], student: dict[str, Any]) -> dict[str, Any]:
            return {
                "data": {"name": "cifar10"},
                "teacher": "resnet34",
                "method": method,
                "settings": {**PAPER_SCALE["cake"], "batches": 500, **off},
                "student": {"model": "resnet18", "precision": "bf16", **PAPER_STUDENT, "updates": 15_000, **student},
            }

        return self._ablation(experiment)

    def _ablation(self, experiment: Any) -> list[Cell]:
        cells = []
        for method in ("lake", "cake"):
            for title, soft, contrast, prior in self.LINES:
                off = ({} if contrast else {"weight_contrast": 0.0}) | ({} if prior else {"weight_variation": 0.0})
                label = f"{METHODS[method].title} ({title})"
                paper = next(r for r in published() if r["source_table"] == "Table 1" and r["method"] == label)
                student = {"targets": "soft" if soft else "hard"}
                cells.append(Cell(method, label, experiment(method, off, student), paper))
        return cells


class Table2(Table):
    """Table 2: CAKE beside a selection of other methods."""

    name = "table2"
    statement = (
        "CAKE comes near methods that need more of the teacher, and far exceeds DeepDream, the other agnostic one"
    )
    reductions = f"MNIST and Fashion-MNIST without SVHN and CIFAR-10; {QUICK}"

    def quick(self) -> list[Cell]:
        methods = ("kd", "dafl", "deepinversion", "adi", "deepdream", "cake", "noise")
        return [
            *_lines("Table 2", "mnist", methods),
            *_lines("Table 2", "fashion-mnist", ("kd", "dafl", "deepdream", "cake", "noise")),
        ]

    def full(self) -> list[Cell]:
        return _full("Table 2")


class Table3(Table):
    """Table 3: all methods that the paper compares with, and those beside it that are here."""

    name = "table3"
    statement = (
        "methods that see inside the teacher do best, CAKE needs only its input gradient and no knowledge of its type"
    )
    reductions = f"MNIST alone; {QUICK}"

    def quick(self) -> list[Cell]:
        return _lines("Table 3", "mnist", [m for m in METHODS if m != "brownian"])

    def full(self) -> list[Cell]:
        return _full("Table 3")
