"""How long the list of runs takes. Run: python benchmarks/run_list.py --out benchmarks/results/run_list.csv

Folders as distillations leave them (settings, results, losses, events; tensors as empty files) are listed three times
over: without an index, with the index of the time before, and after ten of them have changed.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from cake_core import runs
from cake_core.pipeline import Experiment

KEY = runs.key_of("benchmark")


def fill(count: int) -> list[str]:
    """So many runs, an hour old."""
    experiment = Experiment().to_dict()
    rate = {"student_accuracy": 0.9, "student_accuracy_interval": [0.88, 0.92], "agreement": 0.9, "samples": 2000}
    result = {"kind": "distill", "experiment": experiment, "outcome": rate, "control": rate, "begun": experiment}
    curves = {"curves": {"synthesis": {name: [0.5] * 200 for name in ("step", "classification", "contrast")}}}
    old = time.time() - 3600
    names = []
    for number in range(count):
        name = f"20250101-{number:06d}-{number:016x}"
        folder = runs.folder() / name
        folder.mkdir(parents=True)
        about = {"kind": "distill", "experiment": experiment, "owner": KEY, "created": old + number}
        for file, values in (("config", about), ("run", result), ("metrics", curves)):
            runs.write_json(folder / f"{file}.json", values)
        for file in ("samples", "history", "student", "teacher"):
            (folder / f"{file}.safetensors").touch()
        os.utime(folder, (old, old))
        names.append(name)
    return names


def timed(repeats: int, before) -> float:
    """The median of some lists, in seconds; `before` is called before each."""
    taken = []
    for _ in range(repeats):
        before()
        start = time.perf_counter()
        runs.entries(KEY)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--counts", nargs="+", type=int, default=[100, 1000, 5000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for count in arguments.counts:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["CAKE_RUNS_DIR"] = folder
            names = fill(count)
            index = Path(folder) / "index.json"

            def change(names=names) -> None:
                for name in names[:10]:
                    runs.mark(name, KEY, star=True)

            cases = {
                "no index": lambda index=index: index.unlink(missing_ok=True),
                "index": lambda: None,
                "ten changed": change,
            }
            for case, before in cases.items():
                seconds = timed(arguments.repeats, before)
                machine = f"{os.cpu_count()} cores, {platform.system()}"
                row = {"runs": count, "case": case, "milliseconds": 1000 * seconds, "repeats": arguments.repeats}
                rows.append({**row, "machine": machine, "date": str(date.today())})
                print(f"{count:6d} runs, {case}: {1000 * seconds:.1f} ms")
    if arguments.out:
        runs.write_csv(arguments.out, rows)


if __name__ == "__main__":
    main()
