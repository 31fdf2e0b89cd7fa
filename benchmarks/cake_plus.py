"""What each part of CAKE+ gives, at the same number of calls of the teacher.

    python benchmarks/cake_plus.py [--seeds 3] [--data mnist fashion-mnist cifar10] [--rows CAKE]

MNIST and Fashion-MNIST, LeNet-5 to half: eight mini-batches of 250, 48 steps, 2,000 updates of the student: 96,000
gradient calls for every row but the noise, and 98,000 forward calls, with a gain, shapes or shorter mini-batches up to
112,000. About half a minute for each seed on one core. CIFAR-10, ResNet-4 to ResNet-4: 640,000 gradient calls, 4,000
updates, five minutes. Each row takes its place in results/cake_plus.csv as soon as it is there.
"""

from __future__ import annotations

import argparse
import csv
import sys
from datetime import date
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from cake_core import runs  # noqa: E402
from cake_core.comparison import summarise  # noqa: E402
from cake_core.pipeline import Distillation, Experiment  # noqa: E402

RESULTS = ROOT / "benchmarks/results/cake_plus.csv"
SMALL = {"batches": "8", "samples": "250", "steps": "48", "student.updates": "2000"}
PHOTOS = {"batches": "10", "samples": "250", "steps": "256", "student": "resnet4", "student.updates": "4000"}
SAME = {"step_size": "0.1", "decades": "0.75", "weight_variation": "400"}  # as CAKE+ has them on CIFAR-10
PLUS = {"method": "cake_plus", "gain": "1", "shapes": "false"}
ROWS_OF_PHOTOS = {
    "CAKE": {"method": "cake", "batches": "40", "steps": "64"},
    "CAKE, settings of CAKE+": {"method": "cake", **SAME},
    "CAKE+": PLUS,
    "CAKE+ with gain": {**PLUS, "gain": "3"},
    "CAKE+ with shapes": {**PLUS, "shapes": "true"},
    "CAKE+ without new classes": {**PLUS, "relabel": "false"},
    "CAKE+ without contrast": {**PLUS, "weight_contrast": "0"},
    "noise only": {"method": "noise", "batches": "40"},
}
ROWS = {
    "CAKE": {"method": "cake"},
    "CAKE, more and shorter mini-batches": {"method": "cake", "batches": "32", "steps": "12"},
    "+ moments": {**PLUS, "relabel": "false"},
    "+ moments, new classes": PLUS,
    "+ moments, new classes, gain": {**PLUS, "gain": "3"},
    "CAKE+ without gain, more and shorter mini-batches": {**PLUS, "batches": "16", "steps": "24"},
    "+ moments, new classes, shapes": {**PLUS, "shapes": "true"},
    "+ moments, new classes, gain, shapes": {**PLUS, "gain": "3", "shapes": "true"},
    "CAKE+ with shapes, more and shorter mini-batches": {**PLUS, "shapes": "true", "batches": "16", "steps": "24"},
    "+ moments, new classes, mixed noise": {**PLUS, "prior": "mixed"},
    "+ mixed noise alone": {**PLUS, "relabel": "false", "prior": "mixed", "moments": "1"},
    "CAKE, momentum": {"method": "cake", "optimizer": "momentum", "step_size": "0.001"},
    "CAKE, Adam": {"method": "cake", "optimizer": "adam", "step_size": "0.2"},
    "noise only": {"method": "noise"},
    "noise in shapes": {"method": "noise", "shapes": "true", "batches": "56"},  # as many samples as CAKE+ with shapes
}


def outcome(data: str, budget: dict[str, str], flat: dict[str, str], seed: int) -> dict:
    """The numbers of one run within the budget."""
    budget = {k: v for k, v in budget.items() if k != "steps" or flat["method"] != "noise"}
    experiment = Experiment.from_query({"data": data, **budget, **flat, "seed": str(seed), "device": "cpu"})
    run = Distillation(experiment, every=sys.maxsize)
    for _ in run:
        pass
    return run.outcome.to_dict()


def put(row: dict[str, object]) -> None:
    """Writes a row in the place of the one for the same data that is called the same, or behind all others."""
    table = list(csv.DictReader(RESULTS.open(newline=""))) if RESULTS.is_file() else []
    keyed = {(r["data"], r["row"]): r for r in [*table, row]}
    columns = dict.fromkeys(c for r in keyed.values() for c in r)  # not every student has batch normalisation
    runs.write_csv(RESULTS, [{c: r.get(c, "") for c in columns} for r in keyed.values()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", nargs="+", default=["mnist", "fashion-mnist"])
    parser.add_argument("--rows", nargs="+", choices=list({**ROWS, **ROWS_OF_PHOTOS}))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.data:
        budget, rows = (PHOTOS, ROWS_OF_PHOTOS) if name == "cifar10" else (SMALL, ROWS)
        for label, flat in rows.items():
            if arguments.rows and label not in arguments.rows:
                continue
            outcomes = [outcome(name, budget, flat, seed) for seed in range(arguments.seeds)]
            values = ["student_accuracy", "agreement", "forward_calls", "gradient_calls", "samples"]
            if outcomes[0]["by_batch_accuracy"] is not None:
                values.append("by_batch_accuracy")
            (line,) = summarise(outcomes, [], values)
            each = " ".join(f"{100 * o['student_accuracy']:.1f}" for o in outcomes)
            settings = " ".join(f"{k}={v}" for k, v in flat.items())
            made = {"torch": torch.__version__, "date": date.today().isoformat()}
            put({"data": name, "row": label, "settings": settings, "n_test": outcomes[0]["n_test"], **line}
                | {"each_percent": each} | made)  # fmt: skip
            print(f"{name:14s} {label:36s} {each}", flush=True)


if __name__ == "__main__":
    main()
