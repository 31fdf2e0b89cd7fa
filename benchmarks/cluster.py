"""One long synthesis and a grid on two local nodes of a Ray cluster against one. Run: python benchmarks/cluster.py

Every node has one core and every process one thread. One and two nodes take turns, so that both meet the same machine
(the other one then waits); times are medians, speed-ups medians of the pairs. A warm-up run is not counted, for a
process takes seconds to import torch. In the middle of one more run the process of one part is killed with kill -9. The
samples of each run are compared with those of the embedded engine. The teacher is LeNet-5 of MNIST; the grid distils
the shipped teacher of digits.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0")

import psutil  # noqa: E402
import torch  # noqa: E402

from cake_core import cluster, runs, synthesize, teacher  # noqa: E402
from cake_core.grid import Grid  # noqa: E402
from cake_core.pipeline import Experiment  # noqa: E402

STORE = 128 * 2**20


@contextmanager
def two_nodes() -> Iterator[Any]:
    """A cluster of two nodes with one core each."""
    from ray.cluster_utils import Cluster

    args = {"num_cpus": 1, "object_store_memory": STORE}
    made = Cluster(initialize_head=True, head_node_args={**args, "include_dashboard": False})
    made.add_node(**args)
    os.environ["RAY_ADDRESS"] = made.address
    cluster.connect()
    try:
        yield made
    finally:
        cluster.leave()
        made.shutdown()


class Wait:
    """Holds the core of a node."""

    def ready(self) -> bool:
        return True


@contextmanager
def only(count: int) -> Iterator[None]:
    """Inside the block so many of the two nodes are free."""
    import ray

    waits = [ray.remote(num_cpus=1)(Wait).remote() for _ in range(2 - count)]
    ray.get([w.ready.remote() for w in waits])
    try:
        yield
    finally:
        for w in waits:
            ray.kill(w)


def busy(made: Any) -> list[psutil.Process]:
    """The processes that work on a part now."""
    raylets = [psutil.Process(n.all_processes["raylet"][0].process.pid) for n in made.list_all_nodes()]
    return [p for r in raylets for p in r.children() if "_work" in " ".join(p.cmdline())]


def made_of(
    shards: int | None, arguments: argparse.Namespace, disturb: Callable[[Any], None] = lambda run: None
) -> Any:
    network = teacher.load("mnist/lenet5").network
    run = synthesize(
        network, "cake", shape=(1, 28, 28), classes=10, device="cpu", shards=shards, in_flight=1, every=4,
        batches=arguments.batches, samples=250, steps=arguments.steps, step_size=0.06,
    )  # fmt: skip
    for _ in run:
        disturb(run)
    return run


def grid(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    experiment = Experiment.from_query({"data": "digits", "batches": "4", "steps": "24", "device": "cpu"})
    with tempfile.TemporaryDirectory() as folder:
        run = Grid(
            experiment, ["digits/lenet5"], ["lenet5-half", "mlp"], arguments.seeds, student={"updates": 400},
            controls=0, folder=Path(folder),
        )  # fmt: skip
        for _ in run:
            pass
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in run.rows]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def killing(made: Any, when: int) -> Callable[[Any], None]:
    """What kills a process that works on a part, once so many mini-batches are finished."""
    killed: list[int] = []

    def disturb(run: Any) -> None:
        if not killed and len(run.parts) >= when and (at_work := busy(made)):
            killed.append(at_work[-1].pid)
            os.kill(killed[0], signal.SIGKILL)

    return disturb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=16, help="mini-batches of 250 samples (default 16)")
    parser.add_argument("--steps", type=int, default=32, help="steps of each (default 32)")
    parser.add_argument("--seeds", type=int, default=4, help="of the grid, two students each (default 4)")
    parser.add_argument("--times", type=int, default=3, help="runs of which the median counts (default 3)")
    parser.add_argument("--out", type=Path, help="a CSV file to write to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []

    def note(what: str, workers: str, seconds: list[float], **more: Any) -> None:
        rows.append(
            {
                "date": date.today().isoformat(), "what": what, "workers": workers,
                "seconds": round(statistics.median(seconds), 2), "speed_up": "", "largest_difference": "",
                "cells_equal": "", "lost": "", **more, "times": len(seconds), "cores": os.cpu_count(),
                "load": round(os.getloadavg()[0], 1),
            }
        )  # fmt: skip
        print(rows[-1], flush=True)

    os.environ.pop("CAKE_ENGINE", None)
    seconds, reference = timed(lambda: made_of(None, arguments))
    note("synthesis", "embedded", [seconds], largest_difference=0.0)
    seconds, cells = timed(lambda: grid(arguments))
    note("grid", "embedded", [seconds])
    os.environ["CAKE_ENGINE"] = "ray"
    with two_nodes() as made:
        few = argparse.Namespace(**vars(arguments) | {"batches": 2, "steps": 1, "seeds": 1})
        made_of(2, few)
        grid(few)
        for what in ("synthesis", "grid"):
            taken: dict[int, list[float]] = {1: [], 2: []}
            more: dict[int, dict[str, Any]] = {1: {}, 2: {}}
            for _ in range(arguments.times):
                for count in (1, 2):
                    with only(count):
                        work = (
                            (lambda n=count: made_of(n, arguments)) if what == "synthesis" else lambda: grid(arguments)
                        )
                        seconds, found = timed(work)
                    taken[count].append(seconds)
                    if what == "synthesis":
                        more[count]["largest_difference"] = apart(found, reference)
                    else:
                        more[count]["cells_equal"] = found == cells
            more[2]["speed_up"] = round(statistics.median(a / b for a, b in zip(*taken.values(), strict=True)), 2)
            for count in (1, 2):
                note(what, str(count), taken[count], **more[count])
        seconds, run = timed(lambda: made_of(2, arguments, killing(made, arguments.batches // 4)))
        note("synthesis, one killed", "2", [seconds], largest_difference=apart(run, reference), lost=run.lost)
    if arguments.out:
        runs.write_csv(arguments.out, rows)


def apart(one: Any, other: Any) -> float:
    """The largest difference of any number of the samples of two runs."""
    return float((one.result.x - other.result.x).abs().max())


if __name__ == "__main__":
    main()
