"""One long synthesis and a grid on a Ray cluster of one and of two local nodes. Run: python benchmarks/cluster.py

Every node has one core and every process one thread. Times are medians; a warm-up run is not counted, for a process
takes seconds to import torch. In the middle of one more run the process of one part is killed with kill -9. The samples
of each run are compared with those of the embedded engine. The teacher is LeNet-5 of MNIST; the grid distils the
shipped teacher of digits.
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
def nodes(count: int) -> Iterator[Any]:
    """A cluster of so many nodes with one core each."""
    from ray.cluster_utils import Cluster

    args = {"num_cpus": 1, "object_store_memory": STORE}
    made = Cluster(initialize_head=True, head_node_args={**args, "include_dashboard": False})
    for _ in range(1, count):
        made.add_node(**args)
    os.environ["RAY_ADDRESS"] = made.address
    cluster.connect()
    try:
        yield made
    finally:
        cluster.leave()
        made.shutdown()


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
            experiment, ["digits/lenet5"], ["lenet5-half", "mlp"], arguments.seeds, student={"updates": 800},
            controls=0, folder=Path(folder),
        )  # fmt: skip
        for _ in run:
            pass
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in run.rows]


def timed(work: Callable[[], Any], times: int) -> tuple[float, Any]:
    seconds, found = [], None
    for _ in range(times):
        start = time.perf_counter()
        found = work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=16, help="mini-batches of 250 samples (default 16)")
    parser.add_argument("--steps", type=int, default=32, help="steps of each (default 32)")
    parser.add_argument("--seeds", type=int, default=6, help="of the grid, two students each (default 6)")
    parser.add_argument("--times", type=int, default=3, help="runs of which the median counts (default 3)")
    parser.add_argument("--out", type=Path, help="a CSV file to write to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []

    def note(what: str, engine: str, workers: int, seconds: float, one: float, **more: Any) -> None:
        rows.append(
            {
                "date": date.today().isoformat(), "what": what, "engine": engine, "workers": workers,
                "seconds": round(seconds, 2), "speed_up": round(one / seconds, 2),
                "largest_difference": "", "cells_equal": "", "lost": "", **more, "cores": os.cpu_count(),
            }
        )  # fmt: skip
        print(rows[-1], flush=True)

    os.environ.pop("CAKE_ENGINE", None)
    alone, reference = timed(lambda: made_of(None, arguments), arguments.times)
    note("synthesis", "embedded", 1, alone, alone, largest_difference=0.0)
    alone_grid, cells = timed(lambda: grid(arguments), 1)
    note("grid", "embedded", 1, alone_grid, alone_grid)
    os.environ["CAKE_ENGINE"] = "ray"
    first: dict[str, float] = {}
    for count in (1, 2):
        with nodes(count) as two:
            made_of(count, argparse.Namespace(**vars(arguments) | {"batches": count, "steps": 1}))
            seconds, run = timed(lambda count=count: made_of(count, arguments), arguments.times)
            difference = float((run.result.x - reference.result.x).abs().max())
            note(
                "synthesis",
                "ray",
                count,
                seconds,
                first.setdefault("synthesis", seconds),
                largest_difference=difference,
            )
            seconds, found = timed(lambda: grid(arguments), 1)
            note("grid", "ray", count, seconds, first.setdefault("grid", seconds), cells_equal=found == cells)
            if count == 2:
                killed: list[int] = []

                def disturb(run: Any, two: Any = two, killed: list[int] = killed) -> None:
                    if not killed and len(run.parts) >= arguments.batches // 4 and (at_work := busy(two)):
                        killed.append(at_work[-1].pid)
                        os.kill(killed[0], signal.SIGKILL)

                seconds, run = timed(lambda: made_of(2, arguments, disturb), 1)
                difference = float((run.result.x - reference.result.x).abs().max())
                more = {"largest_difference": difference, "lost": run.lost}
                note("synthesis, one process killed", "ray", 2, seconds, first["synthesis"], **more)
    if arguments.out:
        runs.write_csv(arguments.out, rows)


if __name__ == "__main__":
    main()
