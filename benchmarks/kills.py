"""kill -9 at random moments: what was finished must still be there, whole. Run: python benchmarks/kills.py --kills 50

Three commands are started again and again and killed after a random time: a grid of teachers and students (cells), a
study of Tune (trials), and kept distillations (run folders). And the app: a real server, whose pages Images (one run
after the other), Compare (a sweep) and Teacher (one long training) are open in a headless Chromium, loses its compute
process (worker) or its server (server), drawn at random. After each kill everything that any file says is finished is
read back: JSON parses, tensors load, no finished cell, trial, run or mini-batch goes or changes, and the training's
stored moment does not go back. Each of the pages has to say what happened; then it goes on, by itself or by the button
that it offers.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
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

import psutil  # noqa: E402
from playwright.sync_api import TimeoutError as TooLate  # noqa: E402
from safetensors import safe_open  # noqa: E402

from cake_core import runs  # noqa: E402
from cake_core.pieces import read  # noqa: E402
from tests.browser.harness import FLAGS, PROBE, Server, chromium  # noqa: E402

SMALL = ["batches=2", "samples=40", "steps=40", "student.updates=150"]
GRID = """
from cake_core.grid import Grid
from cake_core.pipeline import Experiment
settings = {"batches": 6, "samples": 40, "steps": 30}
experiment = Experiment.from_dict({"data": {"name": "digits"}, "settings": settings, "device": "cpu"})
for _ in Grid(experiment, ["digits/lenet5", "digits/resnet4"], ["mlp", "lenet5-half"], 60, student={"updates": 150}):
    pass
"""
APP = ("worker", "server")
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
        found[path.parent.name] = said.get("experiment", said)
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


# -- the app ----------------------------------------------------------------------------------------------------------

IMAGES = "images?batches=12&samples=250&steps=40&student.updates=1500"
SECONDS_FOR_A_WORD = 90.0
WORDS = {"worker": "(SIGKILL)", "server": "started again while this went on"}


def parts(folder: Path) -> dict[str, str]:
    """The mini-batches that are stored of runs that go on, by their content."""
    found = {}
    for path in folder.glob("2*/parts/*"):
        if path.suffix in (".safetensors", ".history"):
            with safe_open(path, "pt") as f:
                found[str(path.relative_to(folder))] = hashlib.sha256(
                    b"".join(f.get_tensor(key).numpy().tobytes() for key in sorted(f.keys()))
                ).hexdigest()
    return found


def reached(folder: Path) -> int:
    """The update of the training of which a moment is stored; 0 where none is."""
    found = [read(path) for path in folder.glob("unfinished/*/training.piece")]
    if None in found:
        raise ValueError("the stored moment of the training is damaged")
    return max((moment.values["update"] for moment in found), default=0)


class App:
    """A server with three pages of a browser, which can lose its processes.

    Args:
        browser: Chromium.
        folder: for runs and the log.
    """

    def __init__(self, browser: Any, folder: Path):
        self.folder, self.env = folder, {"CAKE_RUNS_DIR": str(folder), "CAKE_THREADS": "1"}
        self.server = Server("app.py", folder / "log", **self.env)
        self.context = browser.new_context(viewport={"width": 1300, "height": 1000})
        self.images, self.sweep, self.teacher = (self.context.new_page() for _ in range(3))
        for page in (self.images, self.sweep, self.teacher):
            page.add_init_script(PROBE)
        self.images.goto(f"{self.server.url}/{IMAGES}")
        self.sweep.goto(f"{self.server.url}/compare")
        self.sweep.get_by_role("tab", name="Teachers and students").click(timeout=60_000)
        self.batches = 9
        self.more()
        self.teacher.goto(f"{self.server.url}/teacher")
        self.teacher.get_by_role("tab", name="Train a teacher").click(timeout=60_000)
        updates = self.teacher.locator("[class*=st-key-teacher-recipe][class*=updates] input").first
        updates.focus(timeout=60_000)
        updates.press("End")  # a million, for which no benchmark waits
        self.teacher.wait_for_timeout(4000)
        self.teacher.get_by_role("button", name="Train", exact=True).click()

    def more(self) -> None:
        """Another sweep: with other samples than any before, so that there is something to compute."""
        self.batches += 1
        box = self.sweep.locator("[class*=st-key-grid-batches] input")
        box.fill(str(self.batches), timeout=60_000)
        box.press("Enter")
        self.sweep.wait_for_timeout(1500)
        self.sweep.locator(".st-key-grid-begin button").click()

    def state(self, page: Any = None) -> str:
        """Of the run on a page, by default on Images."""
        return (page or self.images).evaluate("cakeLive.view?.scene ? cakeLive.view.status.state : ''")

    def go_on(self) -> None:
        """Sees to it that both pages have something to do."""
        end = time.monotonic() + SECONDS_FOR_A_WORD
        while time.monotonic() < end:
            state = self.state()
            with contextlib.suppress(TooLate):  # the page was drawn anew meanwhile: the next round clicks
                if state in ("done", "failed", "stopped"):
                    self.images.click(".cake-live .reset", timeout=3000)
                elif state in ("ready", "paused"):
                    self.images.click(".cake-live .play", timeout=3000)
                self.go_on_with_the_sweep()
                button = self.teacher.locator(".st-key-teacher-continue button")
                if button.count():
                    button.click(timeout=3000)
                elif self.state(self.teacher) == "paused":  # after three deaths at one place
                    self.teacher.click(".cake-live .play", timeout=3000)
            if state == "running":
                return
            self.images.wait_for_timeout(300)

    def go_on_with_the_sweep(self) -> None:
        """By the button that the page offers; where it is done, by another one."""
        button = self.sweep.locator(".st-key-grid-continue button")
        if button.count():
            button.click(timeout=3000)
        elif self.sweep.evaluate("window.cakeLive.view?.status?.state") == "done":
            self.more()

    def computes(self) -> bool:
        """Whether there is a compute process to kill."""
        children = psutil.Process(self.server.process.pid).children(recursive=True)
        return any("cake_core.worker" in " ".join(p.cmdline()) for p in children)

    def kill(self, victim: str) -> None:
        """kill -9, and where it was the server, starts it again."""
        if victim == "worker":
            os.kill(self.server.worker().pid, signal.SIGKILL)
            return
        children = psutil.Process(self.server.process.pid).children(recursive=True)
        self.server.process.kill()
        self.server.process.wait()
        psutil.wait_procs(children, 30)
        self.server = Server("app.py", self.folder / "log", port=self.server.port, **self.env)

    def silent(self, victim: str, expected: set[str]) -> list[str]:
        """The pages among those expected to that do not say what happened."""
        end, pages = time.monotonic() + SECONDS_FOR_A_WORD, self.pages
        left = set(expected)
        while left and time.monotonic() < end:
            left = {k for k in left if WORDS[victim] not in pages[k].evaluate("document.body.innerText")}
            self.images.wait_for_timeout(200)
        return sorted(left)

    @property
    def pages(self) -> dict[str, Any]:
        """By name."""
        return {"images": self.images, "sweep": self.sweep, "teacher": self.teacher}

    def expected(self) -> set[str]:
        """The pages whose job was going on, by what the server noted on the disk."""
        going = {json.loads(p.read_text())["kind"] for p in self.folder.glob("jobs/*.json")}
        kinds = {"images": "distill", "sweep": "grid", "teacher": "teacher"}
        return {page for page, kind in kinds.items() if kind in going}


def break_app(kills: int, draws: random.Random, minutes: float) -> list[dict[str, Any]]:
    """Kills the app's processes so many times; a row for each kind of victim."""
    from playwright.sync_api import sync_playwright

    folder = Path(tempfile.mkdtemp(prefix="cake-kills-app-"))
    rows = {v: {"kills": 0, "lost": 0, "damaged": 0, "words": 0, "silent": 0, "seconds": 0.0} for v in APP}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        app = App(browser, folder)
        try:
            until = time.monotonic() + 60 * minutes
            for number in range(1, kills + 1):
                if time.monotonic() > until:
                    break
                begun, victim = time.perf_counter(), draws.choice(APP)
                row = rows[victim]
                app.go_on()
                app.images.wait_for_timeout(1000 * draws.uniform(2, 9))
                before = {**finished("runs", folder), **finished("cells", folder)}
                kept, expected, update = parts(folder), app.expected(), reached(folder)
                if victim == "worker" and not app.computes():
                    continue  # it has not come up yet
                app.kill(victim)
                row["kills"] += 1
                try:
                    after = {**finished("runs", folder), **finished("cells", folder)}
                    row["lost"] += sum(after.get(name) != value for name, value in before.items())
                    still = parts(folder)
                    # Those of a run that has finished since stand in its samples now.
                    gone = [n for n, v in kept.items() if still.get(n) != v and n.split("/")[0] not in after]
                    row["lost"] += len(gone) + (reached(folder) < update)
                except Exception as error:  # whatever can't be read is what is looked for
                    row["damaged"] += 1
                    print(f"{victim}: {type(error).__name__}: {error}", flush=True)
                silent = app.silent(victim, expected)
                row["words"] += len(expected)
                row["silent"] += len(silent)
                row["seconds"] += time.perf_counter() - begun
                print(f"kill {number}: {victim}, {len(before)} finished, {len(kept)} parts, update {update:,}, said by "
                      f"all of {sorted(expected)} but {silent}", flush=True)  # fmt: skip
                for page in silent:
                    app.pages[page].screenshot(path=folder / f"silent-{number}-{page}.png")
            total = len({**finished("runs", folder), **finished("cells", folder)})
        finally:
            browser.close()
            app.server.close()
    return [
        line(f"app, {v}", r["kills"], total, r["lost"], r["damaged"], r["seconds"], r["words"], r["silent"])
        for v, r in rows.items()
    ]


def line(
    kind: str, kills: int, done: int, lost: int, damaged: int, seconds: float, words: int = 0, silent: int = 0
) -> dict[str, Any]:
    """A row of the table."""
    return {
        "date": date.today().isoformat(),
        "kind": kind,
        "kills": kills,
        "finished": done,
        "lost_or_changed": lost,
        "damaged": damaged,
        "messages_checked": words,
        "messages_missing": silent,
        "seconds": round(seconds),
    }


def added(row: dict[str, Any], path: Path) -> dict[str, Any]:
    """A row with the numbers of an earlier part of the same benchmark."""
    if not path.is_file():
        return row
    with path.open(newline="") as f:
        for before in csv.DictReader(f):
            if before["kind"] == row["kind"]:
                sums = {k: v + int(before.get(k) or 0) for k, v in row.items() if isinstance(v, int)}
                return {**row, **sums}
    return row


def others(rows: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """The rows of a file about other kinds."""
    if not path.is_file():
        return []
    with path.open(newline="") as f:
        mine = {r["kind"] for r in rows}
        return [{k: r.get(k) or 0 for k in rows[0]} for r in csv.DictReader(f) if r["kind"] not in mine]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="of all commands together (default 50)")
    parser.add_argument("--kinds", nargs="+", choices=[*COMMANDS, "app"], default=[*COMMANDS, "app"])
    parser.add_argument("--minutes", type=float, default=60, help="for the app at most (default 60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a CSV file to write to; what it says of other kinds stays")
    parser.add_argument("--add", action="store_true", help="add to what it says of these kinds: a benchmark in parts")
    arguments = parser.parse_args()
    draws, rows = random.Random(arguments.seed), []
    for place, kind in enumerate(arguments.kinds):
        share = arguments.kills // len(arguments.kinds) + (place < arguments.kills % len(arguments.kinds))
        if kind == "app":
            rows += break_app(share, draws, arguments.minutes)
            continue
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
        rows.append(line(kind, kills, len(before), lost, damaged, time.perf_counter() - start))
    for row in rows:
        print(row)
    if arguments.out:
        if arguments.add:
            rows = [added(row, arguments.out) for row in rows]
        runs.write_csv(arguments.out, others(rows, arguments.out) + rows)


if __name__ == "__main__":
    main()
