"""What breaks from outside: processes that are killed, disks that are full, files cut off, clocks and networks.

Each test does the real thing, and looks for three: what was written is whole, a sentence says what happened and what to
do, and work goes on as if nothing had been.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cake_core import runs
from cake_core.errors import CakeError
from cake_core.frames import decode
from cake_core.grid import Grid
from cake_core.jobs import JobRunner, Limits
from cake_core.pipeline import Experiment
from cake_core.tasks import Distill

ROOT = Path(__file__).parents[1]
# Five times two mini-batches of images at once: what is killed in the middle has something to go on from.
IN_PARTS = {
    "data": "digits",
    "batches": "10",
    "samples": "10",
    "steps": "20",
    "student.updates": "40",
    "device": "cpu",
}


def until(true: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def store(tmp_path, monkeypatch) -> Path:
    """A folder of runs for one test."""
    monkeypatch.setenv("CAKE_RUNS_DIR", str(tmp_path / "runs"))
    return tmp_path / "runs"


@contextmanager
def a_runner() -> Iterator[JobRunner]:
    """With compute processes of its own, which see the environment as it is now."""
    made = JobRunner(Limits(max_running=4))
    try:
        yield made
    finally:
        made.close()


def uninterrupted(**flat: str) -> Distill:
    """The same run as it is when nothing happens to it, two mini-batches at once."""
    task = Distill(Experiment.from_query({**IN_PARTS, **flat}).to_dict(), in_flight=2)
    list(task)
    return task


def same_tensors(one: Path, other: Path) -> bool:
    """Whether two files of tensors hold the very same bytes."""
    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all(torch.equal(a[k].view(torch.uint8), b[k].view(torch.uint8)) for k in a)


def parts_of(store: Path) -> list[Path]:
    return sorted(store.glob("2*/parts/*.safetensors"))


# -- runs that were stopped, and go on --------------------------------------------------------------------------------


def command(*words: str) -> list[str]:
    settings = [f"{k}={v}" for k, v in IN_PARTS.items() if k not in ("data", "device")]
    return [
        *(sys.executable, "-m", "cake_core", "distill", "--data", "digits", "--device", "cpu", "--in-flight", "2"),
        *("--threads", "1", *words, "--set", *settings),
    ]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_that_was_killed_goes_on_with_the_very_same_bytes(store, end, tmp_path):
    options = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command("--keep"), **options)
    until(lambda: len(parts_of(store)) >= 1 or process.poll() is not None)
    time.sleep(random.random() / 4)
    process.send_signal(end)
    said, code = process.communicate()[1], process.returncode
    assert code == (143 if end == signal.SIGTERM else -signal.SIGKILL)
    if end == signal.SIGTERM:
        assert "stopped. What was finished is kept; the same command goes on from there." in said
        assert "Traceback" not in said
    (broken,) = runs.entries()
    assert not broken.finished
    assert not runs.going_on(broken.run)
    before = parts_of(store)
    assert before
    done = subprocess.run(command("--keep"), check=True, **options)
    assert f"goes on with run {broken.run}" in done.stderr
    (whole,) = runs.entries()
    assert whole.run == broken.run
    assert whole.finished
    folder = runs.find(whole.run)
    assert not (folder / "parts").exists()
    assert not list(folder.glob("*.part"))
    words = [e["event"] for e in runs.events(whole.run)]
    assert words[0] == "begun"
    assert "continued" in words
    assert words[-1] == "finished"
    there = next(e for e in runs.events(whole.run) if e["event"] == "continued")
    assert there["snapshots"] >= 21 * len(before)  # it did not begin anew
    torch.set_num_threads(1)
    reference = uninterrupted()
    reference.run.save(tmp_path)
    for name in ("samples", "history", "student"):
        assert same_tensors(folder / f"{name}.safetensors", tmp_path / f"{name}.safetensors"), name
    curve = runs.metrics(whole.run)["curves"]["synthesis"]
    assert curve["step"] == sorted(set(curve["step"]))
    assert curve["step"][-1] == 100


def test_without_keep_it_goes_on_too_and_leaves_nothing(store):
    from cake_core.cli import main

    arguments = [*command()[3:], "--json", str(store.parent / "out.json")]
    process = subprocess.Popen([sys.executable, "-m", "cake_core", *arguments], cwd=ROOT)
    until(lambda: list(store.glob("distill/*/*.safetensors")))
    process.kill()
    process.wait()
    kept = {p.name: p.read_bytes() for p in store.glob("distill/*/*.safetensors")}
    assert kept
    assert main(arguments) == 0
    outcome = json.loads((store.parent / "out.json").read_text())["runs"][0]
    assert outcome["agreement"] == uninterrupted().run.outcome.agreement.value
    assert not list(store.glob("distill/*"))


def test_what_was_edited_is_edited_again_when_it_goes_on(store):
    """Edits before and behind the last finished mini-batch, a teacher that was trained for the run, and no kill: the
    process just ends, as it does with SIGTERM."""
    flat = {**IN_PARTS, "teacher": "mlp-norm", "student": "mlp", "batches": "6", "data": "moons"}
    experiment = Experiment.from_query(flat).to_dict()

    def edited(task: Distill) -> None:
        for update in task:
            if update.snapshot is not None and task.run.seen in (10, 30):
                task.edit(step_size=0.03 if task.run.seen == 10 else 0.01)
            yield update

    whole = Distill(experiment, in_flight=2)
    list(edited(whole))
    first = Distill(experiment, in_flight=2)
    for _ in edited(first):
        if first.run.seen == 35:
            break
    first.rest()
    run = first.kept
    second = Distill(experiment, resume=run)
    seen = [(second.run.seen, second.hurries) for update in second if update.snapshot is not None]
    assert seen[0][0] == 21 + 1  # behind the first two mini-batches
    assert [n for n, hurries in seen if hurries][-1] == 34
    assert second.run.edits == whole.run.edits == [(10, {"step_size": 0.03}), (30, {"step_size": 0.01})]
    assert second.run.samples.digest() == whole.run.samples.digest()
    for a, b in zip(second.run.student.state_dict().values(), whole.run.student.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert second.finish()["run"] == run


def test_somebody_who_edits_while_it_goes_back_decides(store):
    experiment = Experiment.from_query({**IN_PARTS, "batches": "4"}).to_dict()
    first = Distill(experiment, in_flight=2)
    for _ in first:
        if first.run.seen == 30:
            first.edit(step_size=0.01)
        if first.run.seen == 35:
            break
    first.rest()
    second = Distill(experiment, resume=first.kept)
    for _ in second:
        if second.run.seen == 25:
            second.edit(step_size=0.05)
    assert second.run.edits == [(25, {"step_size": 0.05})]
    assert runs.edits(first.kept) == second.run.edits


def test_a_run_is_continued_once(store):
    first = Distill(Experiment.from_query(IN_PARTS).to_dict(), in_flight=2)
    for _ in first:
        if first.run.seen == 40:
            break
    with pytest.raises(CakeError, match="still goes on"):
        Distill({}, resume=first.kept)
    first.rest()
    list(second := Distill({}, resume=first.kept))
    second.finish()
    with pytest.raises(CakeError, match="has finished"):
        Distill({}, resume=first.kept)


def test_live_runs_go_on_where_they_were_when_their_process_is_killed(store):
    """Once with kill -9, once with SIGTERM; nobody has to press anything, and the samples are the same."""
    with a_runner() as runner:
        job = runner.submit("distill", {"experiment": Experiment.from_query(IN_PARTS).to_dict(), "in_flight": 2})
        job.pace(0)
        job.play()
        for count, end, name in ((1, signal.SIGKILL, "SIGKILL"), (3, signal.SIGTERM, "exit code 0")):
            until(lambda count=count: len(parts_of(store)) >= count)
            os.kill(runner.processes()["compute"], end)
            until(lambda: job.message)
            assert job.message == (
                f"The compute process ended unexpectedly ({name}). A new one goes on with this run from what was kept."
            )
            assert job.state == "running"
            job.message = ""
        until(lambda: job.state == "done")
        assert job.message == ""
        run = job.result["run"]
        steps = [h["step"] for h, _ in map(decode, job.ring.all()) if h.get("stage") == "synthesis"]
        assert steps == sorted(steps)  # what was to be seen before the kill is still to be seen, once
        assert steps[0] < 20
    words = [e["event"] for e in runs.events(run)]
    assert words.count("continued") == 2
    assert words.count("interrupted") == 1  # with SIGTERM it put the run away itself
    reference = uninterrupted()
    assert torch.equal(load_file(runs.find(run) / "samples.safetensors")["x"], reference.run.samples.x)


def test_the_cells_of_a_grid_go_on_in_the_app_and_on_the_command_line(store):
    student, experiment = {"updates": 100}, Experiment.from_query({**IN_PARTS, "data": "moons"}).to_dict()
    spec = {"experiment": experiment, "teachers": ["moons/mlp"], "students": ["mlp", "mlp-norm"], "seeds": 2}
    spec["student"] = student
    with a_runner() as runner:
        job = runner.submit("grid", spec, owner="me-and-my-secret.1", play=True, page="grid")
        until(lambda: list(store.glob("grids/*.json")))
        kept = {p.name: p.read_bytes() for p in store.glob("grids/*.json")}
        os.kill(runner.processes()["compute"], signal.SIGKILL)
        until(lambda: job.message)
        assert "A new one goes on" in job.message
        until(lambda: job.state == "done")
        rows = job.result["rows"]
        assert all((store / "grids" / name).read_bytes() == content for name, content in kept.items())
    again = Grid(Experiment.from_dict(experiment), ["moons/mlp"], ["mlp", "mlp-norm"], 2, student=student)
    assert len(list(again)) == len(rows)  # nothing is computed again
    assert again.rows == rows
