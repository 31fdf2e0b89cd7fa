"""Plans for more than was measured: a thousand viewers, and a week of ImageNet-size synthesis.

Everything follows from unit costs in results/ (load.csv, opening.csv, speed.csv, speed_gpu_large.csv), the size of a
frame as this version makes it, and the arithmetic of a network, counted on empty tensors. Nothing here is a
measurement.

    python benchmarks/plan.py

prints the lines of deploy/README.md; a test compares.
"""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from cake_core.limits import Limits  # noqa: E402
from cake_core.pipeline import Experiment  # noqa: E402
from cake_core.tasks import find  # noqa: E402

RESULTS = Path(__file__).parent / "results"
VIEWERS, RATE, POINTS = 1000, 24, 400  # frames a second, as many as 200 viewers got
WEEK = 7 * 86_400
STEPS, IMAGES, CLASSES = 256, 1_281_167, 1000  # as many samples as ImageNet has images to train on
VALUES, LABELS = 3 * 224 * 224, 16  # numbers of a sample; bytes of its label and the mini-batch's number


def rows(name: str) -> list[dict[str, str]]:
    """A table of measured results."""
    with (RESULTS / f"{name}.csv").open() as f:
        return list(csv.DictReader(f))


def frame_bytes() -> int:
    """A frame of so many points, as the engine makes it."""
    flat = {"batches": "2", "samples": str(POINTS // 2), "steps": "3", "device": "cpu"}
    task = find("distill")(Experiment.from_query(flat).to_dict())
    for update in task:
        if update.snapshot is not None and update.snapshot.step == 2:
            return len(task.frame(update, 0, False))
    raise RuntimeError("no frame was made")


def hall() -> list[str]:
    """A thousand viewers."""
    most = max(rows("load"), key=lambda r: int(r["sessions"]))
    sessions, cores, rate = int(most["sessions"]), int(most["cores"]), float(most["frames_per_second_median"])
    cost = cores / (sessions * rate)  # seconds of a core for a frame, with the clients' own share in it
    wanted, replicas = VIEWERS * RATE * cost, math.ceil(VIEWERS / sessions)
    memory = sum(float(most[f"mib_at_end_{p}"]) for p in ("server", "worker")) / 1024
    network = VIEWERS * RATE * frame_bytes() * 8 / 1e6
    run = next(r for r in rows("speed") if r["case"].startswith("two moons, as"))
    seconds = float(run["ours_seconds"])
    opened = next(r for r in rows("opening") if int(r["sessions"]) == sessions and r["different_links"] == "1")
    megabytes, whole = float(opened["mb_of_each"]), float(opened["whole_s_longest"])
    return [
        f"- A frame for a viewer costs at most {1e3 * cost:.2f} ms of a core ({cores} cores, {sessions} viewers, "
        f"{rate:.0f} frames a second each).",
        f"- {VIEWERS:,} viewers at {RATE} frames a second want {wanted:.0f} cores: {replicas} replicas of {cores} "
        f"cores, for one server process has one interpreter; {replicas * memory:.0f} GiB of memory, and "
        f"{network:.0f} Mbit/s of network at {POINTS} points.",
        f"- A run of Two moons takes {seconds:.2f} s of {cores} cores. A preset that all of them play is computed "
        f"once; if each plays a run of settings of one's own every minute, they take {VIEWERS * seconds / 60:.1f} "
        "such pairs of cores more.",
        f"- Opened by all of them in the same moment, for the first time: {VIEWERS * megabytes / 1000:.1f} GB of "
        f"download, and {whole:.1f} s until the last of each replica's {sessions} has a whole page; "
        f"{whole * VIEWERS / sessions:.0f} s if there is one replica.",
        "- **The bottleneck is the frames**: what sends them is one interpreter for each replica. More replicas help, "
        "more cores for each do not.",
    ]


def arithmetic() -> tuple[float, float]:
    """Operations of a move, forward and back to the input, through a ResNet-34: at 32 x 32 as measured, without
    pooling; and at 224 x 224 with its usual stem, counted."""
    best = max(rows("speed_gpu_large"), key=lambda r: float(r["moves_per_second"]))
    measured = 1e12 * float(best["tera_flops"]) / float(best["moves_per_second"])
    with torch.device("meta"), FlopCounterMode(display=False) as counted:
        torchvision.models.resnet34()(torch.zeros(1, 3, 224, 224))
    return measured, 2.0 * counted.get_total_flops()


def week() -> list[str]:
    """A week of synthesis at ImageNet's size on one GPU."""
    best = max(rows("speed_gpu_large"), key=lambda r: float(r["moves_per_second"]))
    card, speed, share = (
        best["device"].split(",")[0],
        float(best["moves_per_second"]),
        float(best["share_of_bf16_peak"]),
    )
    small, usual = arithmetic()
    rates = {"without pooling": speed / 49, "with its usual stem": speed * small / usual}
    lines = [
        f"- Measured on one {card}: {speed:,.0f} moves a second through a ResNet-34 at 32 x 32, {small / 1e9:.1f} "
        f"GFLOP each, at {100 * share:.0f} % of the card's matrix speed."
    ]
    for name, moves in rates.items():
        made = moves * WEEK / STEPS
        hours = IMAGES * STEPS / moves / 3600
        lines.append(
            f"- At 224 x 224 {name} ({(small * 49 if 'without' in name else usual) / 1e9:.1f} GFLOP a move): "
            f"{moves:,.0f} moves a second, {made / 1e6:.1f} million samples of {STEPS} steps in a week; as many as "
            f"ImageNet has images ({IMAGES:,}) take {hours:.0f} hours."
        )
    each = 2 * (4 * (VALUES + CLASSES) + LABELS)  # as `cake_core.admission.need` counts
    room = float(best["device"].split(" of ")[1].split()[0]) * 2**30 * Limits().memory_share
    fitting = int(room / each // 1000 * 1000)
    lines += [
        f"- One sample takes {each / 2e3:.0f} kB, and a run holds all of its samples twice when it ends: {fitting:,} "
        f"of them in the card's memory, so {math.ceil(IMAGES / fitting)} runs with seeds of their own, and "
        f"{IMAGES * each / 2e9:,.0f} GB of disk.",
        "- **The bottleneck is the card's arithmetic** without pooling, and with the usual stem **the memory that "
        "holds the samples of a run**. Several cards take one process each, with runs of their own.",
    ]
    return lines


def lines() -> list[str]:
    """What deploy/README.md says."""
    return [*hall(), *week()]


if __name__ == "__main__":
    print("\n".join(lines()))
