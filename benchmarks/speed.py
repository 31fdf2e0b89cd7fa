"""How fast samples move, beside a plain PyTorch loop of the same algorithm. Run: python benchmarks/speed.py

The plain loop is what one would write down first: one mini-batch after the other, the contrast as a broadcast over all
pairs, `backward()` at every step, torch's defaults for everything else. Each side runs in processes of its own, so
that neither profits from the other's settings, in turns, on the same random numbers; both finish with the teacher's
probabilities.

Both are then compared in float64 after the first steps, where every sample must be the same to rounding. Later that
holds for almost all: a sample that hops back and forth over a kink of the network doubles its rounding error each time.

With --large (the default on a GPU) there is one more case, the paper's largest: ResNet-34 on 3x32x32 images, in float32
and bfloat16, with steps launched one by one, recorded, and compiled, with the share of the card's own bfloat16 matrix
speed and the memory it took.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from cake_core import data, devices, graphs, models, synthesize  # noqa: E402
from cake_core import teacher as teachers  # noqa: E402
from cake_core.methods.cake import Cake, CakeConfig  # noqa: E402
from cake_core.rng import Streams  # noqa: E402
from cake_core.schedules import step_sizes  # noqa: E402

# Name -> teacher and settings beside the defaults; `check` shortens a case for the comparison in float64.
CASES: dict[str, dict[str, Any]] = {
    "two moons, published size": {
        "teacher": "moons/mlp",
        "settings": {"batches": 100, "samples": 100, "steps": 250},
        "check": {"steps": 25},
    },
    "two moons, as Two moons starts": {"teacher": "moons/mlp", "settings": {}, "check": {"steps": 25}},
    "LeNet-5 on MNIST": {
        "teacher": "mnist/lenet5",
        "settings": {"batches": 8, "steps": 32},
        "check": {"batches": 3, "samples": 50, "steps": 20},
    },
}
SIDES = ("plain", "ours")
# The paper's largest run, Section 5: 500 mini-batches of 250 samples in 40 minutes of 256 steps on an A100.
PAPER_MOVES_PER_SECOND = 500 * 250 * 256 / (40 * 60)
LARGE_SHAPE, LARGE_CLASSES = (3, 32, 32), 10
SEED = 0


def plain(
    teacher: nn.Module, config: CakeConfig, shape: tuple[int, ...], classes: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """CAKE, written down plainly."""
    group = min(classes, config.samples)
    groups = -(-config.samples // group)
    etas = step_sizes(config.step_size, config.decades, range(config.batches), config.batches, config.schedule)
    made, targets = [], []
    for m, eta in enumerate(etas):
        rng = Streams(SEED, [m], device)
        x = config.sigma * rng.normal(groups, group, *shape)[0]
        y = rng.permutations(groups, classes)[0, :, :group]
        for _ in range(config.steps):
            x = x.detach().requires_grad_()
            z = teacher(x.flatten(0, 1)).view(groups, group, classes)
            loss = config.weight_classification * F.cross_entropy(z.flatten(0, 1), y.flatten(), reduction="sum")
            pairs = z[:, :, None] - z[:, None, :]
            loss = loss + config.weight_contrast * pairs.square().sum() / (2 * classes)
            if len(shape) == 3:
                down = (x[..., 1:, :] - x[..., :-1, :]).abs().mean(dim=(-3, -2, -1)).sum()
                right = (x[..., 1:] - x[..., :-1]).abs().mean(dim=(-3, -2, -1)).sum()
                loss = loss + config.weight_variation * (down + right)
            loss.backward()
            with torch.no_grad():
                grad = x.grad
                if config.clip > 0:
                    length = grad.flatten(2).norm(dim=2).clamp(min=1e-12)
                    grad = grad * (config.clip / length).clamp(max=1).view(groups, group, *(1,) * len(shape))
                x = x - eta * grad
        made.append(x.flatten(0, 1).detach())
        with torch.no_grad():
            targets.append(teacher(made[-1]).softmax(dim=1))
    return torch.cat(made), torch.cat(targets)


def ours(
    teacher: nn.Module, config: CakeConfig, shape: tuple[int, ...], classes: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The same through the library, as pages and command line run it; a snapshot only at the end."""
    settings = config.to_dict()
    run = synthesize(
        teacher, "cake", shape=shape, classes=classes, seed=SEED, device=str(device), every=sys.maxsize, **settings
    )
    for _ in run:
        pass
    return run.result.x, run.result.y


def case(name: str, check: bool = False) -> tuple[nn.Module, CakeConfig, tuple[int, ...], int]:
    """Teacher, settings, shape and number of classes of a case."""
    what = CASES[name]
    teacher = teachers.load(what["teacher"])
    info = data.info(teacher.card.data["name"])
    config = Cake.config_for(info, **{**what["settings"], **(what["check"] if check else {})})
    return teacher.network.eval().requires_grad_(False), config, info.shape, len(info.classes)


def timed(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds until the device has finished, after a short warm-up by the caller."""
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def one_side(side: str, name: str, device: str) -> float:
    """Seconds of one side, in this process."""
    teacher, config, shape, classes = case(name)
    # `devices.choose` would also set up the process; the plain loop has to do without.
    place = torch.device(device) if side == "plain" else devices.choose(device)
    teacher = teacher.to(place)
    run = {"plain": plain, "ours": ours}[side]
    run(teacher, config.replace(steps=3, batches=min(4, config.batches)), shape, classes, place)
    return timed(lambda: run(teacher, config, shape, classes, place), place)


def difference(name: str, device: str) -> tuple[int, float]:
    """Steps, and the largest difference between the samples of both sides after them, computed in float64."""
    teacher, config, shape, classes = case(name, check=True)
    place = devices.choose(device)
    torch.set_default_dtype(torch.float64)
    try:
        teacher = teacher.to(place, torch.float64)
        theirs, _ = plain(teacher, config, shape, classes, place)
        mine, _ = ours(teacher, config, shape, classes, place)
    finally:
        torch.set_default_dtype(torch.float32)
    return config.steps, float((theirs - mine).abs().max())


def measure(device: str, repeats: int, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One row for each case."""
    for name in names:
        seconds: dict[str, list[float]] = {side: [] for side in SIDES}
        for _ in range(repeats):
            for side in SIDES:
                command = [sys.executable, __file__, "--device", device, "--side", side, "--case", name]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                seconds[side].append(float(done.stdout))
        config = case(name)[1]
        median = {side: statistics.median(values) for side, values in seconds.items()}
        steps, apart = difference(name, device)
        moved = config.batches * config.samples * config.steps
        yield {
            "date": date.today().isoformat(),
            "device": devices.describe(devices.choose(device)),
            "torch": torch.__version__,
            "case": name,
            "batches": config.batches,
            "samples": config.samples,
            "steps": config.steps,
            "repeats": repeats,
            **{f"{side}_seconds": round(median[side], 3) for side in SIDES},
            **{f"{side}_spread": f"{min(v):.3f}-{max(v):.3f}" for side, v in seconds.items()},
            **{f"{side}_moves_per_second": round(moved / median[side]) for side in SIDES},
            "speedup": round(median["plain"] / median["ours"], 2),
            "max_difference_float64": f"{apart:.1e}",
            "after_steps": steps,
        }


# -- the large case ---------------------------------------------------------------------------------------------------


def large_teacher(model: str) -> nn.Module:
    """A network with random weights: the speed does not depend on them."""
    return models.build(model, LARGE_SHAPE, LARGE_CLASSES).eval().requires_grad_(False)


def flops_per_move(teacher: nn.Module, device: torch.device) -> float:
    """Floating-point operations of one sample's forward pass and input gradient, counted by torch."""
    x = torch.zeros(2, *LARGE_SHAPE, device=device, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        teacher(x).sum().backward()  # the counter does not follow autograd.grad
    return counter.get_total_flops() / len(x)


def matrix_peak(device: torch.device, side: int = 8192, repeats: int = 20) -> float:
    """Floating-point operations a second of products of two square bfloat16 matrices."""
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    a @ a
    seconds = timed(lambda: [a @ a for _ in range(repeats)], device)
    return repeats * 2 * side**3 / seconds


def large_rows(device: torch.device, model: str, batches: int, samples: int, steps: int) -> Iterator[dict[str, Any]]:
    """One row for each way to run the large case; the first is the plain loop."""
    teacher = large_teacher(model).to(device)
    flops, peak = flops_per_move(teacher, device), matrix_peak(device, 8192 if device.type == "cuda" else 512)
    settings = Cake.config_for(data.info("cifar10"), batches=batches, samples=samples, steps=steps)
    # Side, number format, compiled, and whether a step is recorded as a CUDA graph.
    ways = [("plain", "fp32", False, False), ("ours", "fp32", False, False), ("ours", "bf16", False, False)]
    if device.type == "cuda":
        ways += [("ours", "bf16", False, True), ("ours", "bf16", True, True)]
    suits = graphs.suits

    def run(side: str, precision: str, compiled: bool, recorded: bool, steps: int) -> None:
        graphs.suits = suits if recorded else lambda method, device: False
        config = settings.replace(steps=steps)
        if side == "plain":
            plain(teacher, config, LARGE_SHAPE, LARGE_CLASSES, device)
            return
        shape = {"shape": LARGE_SHAPE, "classes": LARGE_CLASSES, "device": str(device)}
        values = {**shape, "precision": precision, "compiled": compiled, "seed": SEED, "every": sys.maxsize}
        made = synthesize(teacher, "cake", **values, **config.to_dict())
        for _ in made:
            pass
        in_flight.append(made.in_flight)

    first = None
    for side, precision, compiled, recorded in ways:
        in_flight: list[int] = []
        way = (side, precision, compiled, recorded)
        run(*way, graphs.WARM_UP + 2)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        seconds = timed(lambda: run(*way, steps), device)  # noqa: B023
        speed = batches * samples * steps / seconds
        first = first or speed
        yield {
            "date": date.today().isoformat(),
            "device": devices.describe(device),
            "torch": torch.__version__,
            "network": model,
            "side": side,
            "precision": precision,
            "compiled": compiled,
            "recorded": recorded,
            "batches": batches,
            "samples": samples,
            "steps": steps,
            "in_flight": in_flight[-1] if in_flight else 1,
            "seconds": round(seconds, 2),
            "moves_per_second": round(speed),
            "times_the_paper": round(speed / PAPER_MOVES_PER_SECOND, 2),
            "times_the_plain_loop": round(speed / first, 2),
            "tera_flops": round(speed * flops / 1e12, 3),
            "share_of_bf16_peak": round(speed * flops / peak, 3),
            "bf16_peak_tera_flops": round(peak / 1e12, 1),
            "memory_gib": round(torch.cuda.max_memory_allocated(device) / 2**30, 2) if device.type == "cuda" else "",
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES), help="only these of the small cases")
    parser.add_argument("--out", type=Path, help="a CSV file to write to")
    parser.add_argument("--large", action="store_true", help="the large case also on a CPU, where it takes minutes")
    parser.add_argument("--model", default="resnet34", help="network of the large case (default resnet34)")
    parser.add_argument("--size", type=int, nargs=3, default=(40, 250, 16), metavar=("BATCHES", "SAMPLES", "STEPS"))
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(one_side(arguments.side, arguments.case, arguments.device))
        return
    rows = []
    for row in measure(arguments.device, arguments.repeats, arguments.cases):
        rows.append(row)
        print(json.dumps(row, indent=1), flush=True)
    if rows:
        write(arguments.out, rows)
    if arguments.large or arguments.device.startswith("cuda"):
        large = []
        for row in large_rows(devices.choose(arguments.device), arguments.model, *arguments.size):
            large.append(row)
            print(json.dumps(row, indent=1), flush=True)
        write(arguments.out and arguments.out.with_stem(f"{arguments.out.stem}_large"), large)


def write(path: Path | None, rows: list[dict[str, Any]]) -> None:
    """Rows as a CSV file, where one is wanted."""
    if path:
        with path.open("w", newline="") as f:
            writer = csv.DictWriter(f, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
