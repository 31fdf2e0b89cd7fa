"""How fast networks are trained, with and without recorded updates. Run: python benchmarks/train_speed.py --device cuda

The same updates twice: as PyTorch launches them, and played from a recording (`graphs.Update`; CUDA only), on random
images, for the time does not depend on them. Updates per second over `--seconds`, after the first updates.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from cake_core import devices, models, runs  # noqa: E402
from cake_core.training import TrainConfig, train  # noqa: E402

# Name -> architecture, shape of the images, settings.
CASES: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "LeNet-5-Half, 256 of 1x28x28": ("lenet5-half", (1, 28, 28), {"batch_size": 256}),
    "ResNet-4, 256 of 3x32x32": ("resnet4", (3, 32, 32), {"batch_size": 256}),
    "ViT-4, 256 of 3x32x32, bf16": ("vit4", (3, 32, 32), {"batch_size": 256, "precision": "bf16"}),
    "ResNet-18, 256 of 3x32x32, bf16": (
        "resnet18",
        (3, 32, 32),
        {"batch_size": 256, "precision": "bf16", "optimizer": "sgd"},
    ),
}
FIRST = 20  # updates before the clock starts


def updates_per_second(case: str, device: torch.device, recorded: bool, seconds: float) -> float:
    """Of one case. Counted where the device has finished them."""
    model, shape, settings = CASES[case]
    network = models.build(model, shape, 10, seed=0).to(device)
    x = torch.randn(4 * settings["batch_size"], *shape, generator=torch.Generator().manual_seed(0)).to(device)
    labels = torch.arange(len(x), device=device) % 10
    config = TrainConfig(updates=1_000_000, **settings)
    start, first = 0.0, 0
    for step in train(network, x, labels, config, repeats=recorded):  # a step is shown after a wait for the device
        now = time.perf_counter()
        if not first and step.update >= FIRST:
            start, first = now, step.update
        if first and now - start > seconds:
            return (step.update - first) / (now - start)
    raise RuntimeError("a training of a million updates came to its end")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--out", type=Path, help="a CSV file to write to")
    arguments = parser.parse_args()
    device = devices.choose(arguments.device)
    rows = []
    for case in CASES:
        plain, recorded = (updates_per_second(case, device, r, arguments.seconds) for r in (False, True))
        row = {
            "date": date.today().isoformat(),
            "device": devices.describe(device),
            "torch": torch.__version__,
            "case": case,
            "updates_per_second_plain": plain,
            "updates_per_second_recorded": recorded,
            "speedup": recorded / plain,
        }
        print(row, flush=True)
        rows.append(row)
    if arguments.out:
        runs.write_csv(arguments.out, rows)


if __name__ == "__main__":
    main()
