"""kill -9 at random moments: what was finished must still be there, whole. Run: python benchmarks/kills.py --kills 50

Three things are started again and again and killed after a random time: a grid of teachers and students (cells), a
study of Tune (trials), and kept distillations (run folders). After each kill everything that any file says is finished
is read back: JSON parses, tensors load, and no finished cell, trial or run goes or changes. The same command then goes
on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from safetensors import safe_open  # noqa: E402

from cake_core import runs  # noqa: E402

SMALL = ["batches=2", "samples=40", "steps=40", "student.updates=150"]
GRID = """
from cake_core.grid import Grid
from cake_core.pipeline import Experiment
settings = {"batches": 6, "samples": 40, "steps": 30}
experiment = Experiment.from_dict({"data": {"name": "digits"}, "settings": settings, "device": "cpu"})
for _ in Grid(experiment, ["digits/lenet5", "digits/resnet4"], ["mlp", "lenet5-half"], 60, student={"updates": 150}):
    pass
"""
MODULE = ["-m", "cake_core"]
COMMANDS = {
    "cells": ["-c", GRID],
    "study": [*MODULE, "tune", "--data", "moons", "--trials", "3000", "--finals", "0", "--json", "-", "--set", *SMALL],
    "runs": [*MODULE, "distill", "--data", "digits", "--keep", "--seeds", "200", "--json", "-", "--set", *SMALL],
}


def finished(kind: str, folder: Path) -> dict[str, Any]:
    """What is said to be finished, by its name, with its content; reading it is the check that it is whole."""
    if kind == "cells":
        return {p.name: json.loads(p.read_text())["row"]["student_accuracy"] for p in folder.glob("grids/*.json")}
    if kind == "study":
        found: dict[str, Any] = {}
        for path in folder.glob("*/study.db"):
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
                assert database.execute("pragma integrity_check").fetchone() == ("ok",)
                query = (
                    "select t.number, v.value from trials t join trial_values v on v.trial_id = t.trial_id "
                    "where t.state = 'COMPLETE'"
                )
                found |= {f"{path.parent.name}/{number}": value for number, value in database.execute(query)}
        return found
    found = {}
    for path in folder.glob("2*/run.json"):
        said = json.loads(path.read_text())
        for tensors in path.parent.glob("*.safetensors"):
            with safe_open(tensors, "pt") as f:
                found[f"{path.parent.name}/{tensors.name}"] = [f.get_tensor(key).sum().item() for key in f.keys()]  # noqa: SIM118
        found[path.parent.name] = said["experiment"]
    return found


def killed(kind: str, folder: Path, seconds: float) -> bool:
    """Runs a command for so long and kills it; False where it had ended before."""
    env = os.environ | {"CAKE_RUNS_DIR": str(folder), "CAKE_THREADS": "1"}
    command = [sys.executable, *COMMANDS[kind]]
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="of all commands together (default 50)")
    parser.add_argument("--kinds", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a CSV file to write to")
    arguments = parser.parse_args()
    draws, rows = random.Random(arguments.seed), []
    for place, kind in enumerate(arguments.kinds):
        share = arguments.kills // len(arguments.kinds) + (place < arguments.kills % len(arguments.kinds))
        folder = Path(tempfile.mkdtemp(prefix=f"cake-kills-{kind}-"))
        before, kills, lost, damaged, start = {}, 0, 0, 0, time.perf_counter()
        while kills < share:
            if not killed(kind, folder, draws.uniform(8, 25)):
                break  # it has done all there was to do
            kills += 1
            try:
                after = finished(kind, folder)
            except Exception as error:  # whatever can't be read is what is looked for
                damaged += 1
                print(f"{kind}: {type(error).__name__}: {error}", flush=True)
                continue
            lost += sum(after.get(name) != value for name, value in before.items())
            before = after
            print(f"{kind}: kill {kills}, {len(before)} finished, {lost} lost", flush=True)
        rows.append(
            {
                "date": date.today().isoformat(),
                "kind": kind,
                "kills": kills,
                "finished": len(before),
                "lost_or_changed": lost,
                "damaged": damaged,
                "seconds": round(time.perf_counter() - start),
            }
        )
    for row in rows:
        print(row)
    if arguments.out:
        runs.write_csv(arguments.out, rows)


if __name__ == "__main__":
    main()
