"""What breaks from outside: processes that are killed, disks that are full, files cut off, clocks and networks.

Each test does the real thing, and looks for three: what was written is whole, a sentence says what happened and what to
do, and work goes on as if nothing had been.
"""

from __future__ import annotations

import gzip
import http.server
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cake_core import data, export, inbox, jobs, journal, keeping, runs, studies
from cake_core import teacher as teachers
from cake_core.cli import main
from cake_core.data import images, own
from cake_core.errors import DISK_FULL, CakeError, DiskFull, disk_is_full
from cake_core.frames import decode
from cake_core.grid import Grid
from cake_core.jobs import JobRunner
from cake_core.limits import Limits
from cake_core.pipeline import Distillation, Experiment
from cake_core.run_tasks import Pictures
from cake_core.tasks import Distill, find

from .waiting import until

ROOT = Path(__file__).parents[1]
OWNER = "a-secret-of-twenty-letters.2"  # another session of the browser that begins servers' jobs here
# Five times two mini-batches of images at once: what is killed in the middle has something to go on from.
IN_PARTS = {
    "data": "digits",
    "batches": "10",
    "samples": "10",
    "steps": "20",
    "student.updates": "40",
    "device": "cpu",
}


@pytest.fixture
def store(tmp_path, monkeypatch) -> Path:
    """A folder of runs for one test."""
    monkeypatch.setenv("CAKE_RUNS_DIR", str(tmp_path / "runs"))
    return tmp_path / "runs"


@contextmanager
def a_runner() -> Iterator[JobRunner]:
    """With compute processes of its own, which see the environment as it is now."""
    made = JobRunner(Limits(max_running=4, threads=1))  # as many as what it is compared with has
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


@pytest.mark.long
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


@pytest.mark.long
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


def unfinished(store: Path) -> list[Path]:
    """What jobs other than distillations have finished, and go on from."""
    return [p for p in store.glob("unfinished/**/*") if p.suffix in (".piece", ".safetensors")]


def without_clocks(value: object) -> object:
    """Results without what a clock or a dice says."""
    if isinstance(value, dict):
        return {k: without_clocks(v) for k, v in value.items() if k != "run" and not k.startswith("seconds")}
    return [without_clocks(v) for v in value] if isinstance(value, list | tuple) else value


COMPARISON = {
    "experiment": Experiment.from_query({**IN_PARTS, "batches": "6", "samples": "100", "steps": "60"}).to_dict(),
    "methods": ["cake", "noise", "naive"],
    "seeds": 1,
}
# Long enough that a moment of it is stored, which happens every ten seconds.
TRAINING = {"data_config": {"name": "digits"}, "model": "lenet5", "settings": {"updates": "7000"}, "seed": 1}


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "spec", "come_to"),
    [
        # A cell, and the first mini-batches of another.
        ("compare", COMPARISON, lambda store: list(store.glob("unfinished/*/cell-1.piece"))
         and list(store.glob("unfinished/*/*/samples/*.safetensors"))),
        ("teacher", {**TRAINING, "device": "cpu"}, unfinished),
    ],
    ids=["compare", "teacher"],
)  # fmt: skip
def test_other_jobs_go_on_where_they_were_when_their_process_is_killed(store, kind, spec, come_to):
    """kill -9; nobody has to press anything, the numbers are those of a life without it, and nothing is left over."""
    with a_runner() as runner:
        job = runner.submit(kind, json.loads(json.dumps(spec)), owner=OWNER, play=True, page=kind)
        until(lambda: come_to(store))
        reached = job.progress
        os.kill(runner.processes()["compute"], signal.SIGKILL)
        until(lambda: job.message)
        assert job.message == (
            "The compute process ended unexpectedly (SIGKILL). A new one goes on with this run from what was kept."
        )
        job.progress = 0.0
        until(lambda: job.progress > 0.11 or job.state == "done")  # behind loading the data
        assert job.progress > reached / 2  # it did not begin anew
        until(lambda: job.state == "done", 900)  # what takes ten seconds here may take minutes elsewhere
        assert not unfinished(store)
    torch.set_num_threads(1)
    task = find(kind)(**spec)
    list(task)
    assert without_clocks(job.result) == without_clocks(json.loads(json.dumps(task.finish())))


# -- servers that are gone, and pages that offer to go on -------------------------------------------------------------

SERVER = """
import json, sys
from cake_core.jobs import JobRunner
from cake_core.limits import Limits

runner = JobRunner(Limits())
kind, page, spec = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
job = runner.submit(kind, spec, owner="a-secret-of-twenty-letters.1", play=True, page=page)
job.pace(0)
print(job.name, flush=True)
sys.stdin.read()
"""


@contextmanager
def killed_server(kind: str, page: str, spec: dict, come_to: Callable[[], object]) -> Iterator[str]:
    """A process with a runner, killed with kill -9 once its job has come to something; the job's name."""
    arguments = [sys.executable, "-c", SERVER, kind, page, json.dumps(spec)]
    process = subprocess.Popen(arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        name = process.stdout.readline().strip()
        until(come_to)
        assert journal.Journal().left(name) is None  # a server that is alive has it
    finally:
        process.kill()
        process.communicate()
    yield name


@pytest.mark.long
def test_what_a_killed_server_did_is_known_to_the_next(store):
    spec = {"experiment": Experiment.from_query(IN_PARTS).to_dict(), "in_flight": 2}
    with killed_server("distill", "", spec, lambda: parts_of(store)) as name, a_runner() as runner:
        left = runner.journal.left(name)
        assert left.kind == "distill"
        assert left.sentence == "The server was started again while this went on."
        assert runner.journal.left("another-name") is None
        until(lambda: not runs.going_on(left.spec["resume"]))  # the orphaned process puts it away
        kept = len(parts_of(store))
        job = runner.take_up(left, OWNER, journal.resumable(left.spec["resume"]))
        assert job.state == "paused"
        assert job.message == f"{left.sentence} {jobs.GO_ON}"
        until(lambda: job.scene)
        job.pace(0)
        job.play()
        assert job.message == ""
        until(lambda: job.state == "done")
        assert job.result["run"] == left.spec["resume"]
        assert runner.journal.left(name) is None
    words = [e["event"] for e in runs.events(job.result["run"])]
    assert words[-2:] == ["stage", "finished"]
    there = next(e for e in runs.events(job.result["run"]) if e["event"] == "continued")
    assert there["snapshots"] == 21 * kept
    assert torch.equal(
        load_file(runs.find(job.result["run"]) / "samples.safetensors")["x"], uninterrupted().run.samples.x
    )


def test_the_page_of_a_sweep_offers_to_go_on(store):
    from pages._ui.cached import runner
    from tests.test_pages import open_page

    experiment = Experiment.from_query({**IN_PARTS, "data": "moons", "steps": "200"}).to_dict()
    spec = {"experiment": experiment, "teachers": ["moons/mlp"], "students": ["mlp"], "seeds": 30}
    spec["student"] = {"updates": 100}
    with killed_server("grid", "grid", spec, lambda: list(store.glob("grids/*.json"))):
        kept = len(list(store.glob("grids/*.json")))
        app = open_page("compare")
        app.session_state["owner"] = OWNER
        app.run()
        assert not app.exception
        assert [w.value for w in app.warning if "started again" in w.value] == [
            "The server was started again while this went on. What was finished is kept, and is not computed again."
        ]
        next(b for b in app.button if b.label == "Continue").click().run()
        assert not app.exception
        job = runner().find(app.session_state["grid:job"])
        assert job.spec == spec
        until(lambda: job.progress >= kept / 60)  # those with their controls, and nothing of it computed again
        job.stop()
        assert not [w for w in app.run().warning if "started again" in w.value]
        runner().forget(job)


@pytest.mark.long
def test_the_page_of_a_comparison_offers_to_go_on(store):
    """A server with its compute process is killed in the middle of the first method's mini-batches."""
    from pages._ui.cached import runner
    from tests.test_pages import open_page

    with killed_server("compare", "compare", COMPARISON, lambda: unfinished(store)):
        pass
    kept = {p.name: p.read_bytes() for p in unfinished(store)}
    app = open_page("compare")
    app.session_state["owner"] = OWNER
    app.run()
    assert not app.exception
    assert any("What was finished is kept, and is not computed again." in w.value for w in app.warning)
    next(b for b in app.button if b.key == "compare:continue").click().run()
    job = runner().find(app.session_state["compare:job"])
    until(lambda: list(store.glob("unfinished/*/cell-0.piece")) or job.state == "done")
    assert kept
    until(lambda: job.state == "done")
    assert not unfinished(store)
    task = find("compare")(**COMPARISON)
    list(task)
    assert without_clocks(job.result) == without_clocks(json.loads(json.dumps(task.finish())))
    runner().forget(job)


@pytest.mark.parametrize(
    ("page", "kind", "place"),
    [
        ("compare", "compare", "compare"),
        ("teacher", "teacher", "teacher"),
        ("few_call", "steal", "few_call"),
        ("detect", "audit", "detect:tool"),
    ],
)
def test_every_page_with_a_job_offers_to_go_on(store, page, kind, place):
    """What a server has noted before it died is found by the page that began it, for its owner alone."""
    from tests.test_pages import open_page

    dead = journal.Journal()
    dead.note("its-name", kind, {"some": "spec"}, OWNER, place)
    dead.close()
    sentence = "The server was started again while this went on. What was finished is kept, and is not computed again."
    app = open_page(page)
    assert sentence not in [w.value for w in app.warning]
    app.session_state["owner"] = OWNER
    app.run()
    assert not app.exception
    assert sentence in [w.value for w in app.warning]
    assert [b.label for b in app.button if b.key == f"{place}:continue"] == ["Continue"]


def test_a_run_that_finished_while_nobody_looked_is_found_again(store):
    with a_runner() as runner:
        job = runner.submit("distill", {"experiment": Experiment.from_query(IN_PARTS).to_dict()}, owner=OWNER)
        job.pace(0)
        job.play()
        until(lambda: job.state == "done")
        runner.put_away(job)
        left = runner.journal.left(job.name)
        assert (left.why, left.spec["resume"]) == ("done", job.result["run"])


# -- a disk that is full ----------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path, monkeypatch) -> Iterator[Path]:
    """A real file system of three megabytes, which holds all that the app keeps."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(place)]
    if not shutil.which("mount") or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a small file system")
    for name in ("CAKE_RUNS_DIR", "CAKE_UPLOADS_DIR", "CAKE_DATA_DIR"):
        monkeypatch.setenv(name, str(place / name.split("_")[1].lower()))
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, leave: int = 0) -> Path:
    """Takes the space that is there, but for so many bytes."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as f, pytest.raises(OSError, match="No space left"):
        while True:
            f.write(bytes(4096))
    if leave:
        os.truncate(filler, filler.stat().st_size - leave)
    return filler


def every_file_is_whole(place: Path) -> None:
    for path in place.rglob("*"):
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix in (".safetensors", ".history"):
            load_file(path)
        elif path.is_file():
            assert path.suffix != ".part"


def test_a_run_on_a_full_disk_waits_for_room_and_then_goes_on(small_disk):
    with a_runner() as runner:
        job = runner.submit("distill", {"experiment": Experiment.from_query(IN_PARTS).to_dict(), "in_flight": 2})
        job.pace(0)
        job.play()
        until(lambda: parts_of(small_disk / "runs"))
        filler = fill(small_disk)
        until(lambda: job.message)
        assert (job.state, job.message) == ("paused", DISK_FULL)
        kept = parts_of(small_disk / "runs")
        every_file_is_whole(small_disk)
        job.play()  # there is still no room
        until(lambda: job.message)
        assert job.state == "paused"
        assert parts_of(small_disk / "runs")[: len(kept)] == kept
        filler.unlink()
        job.play()
        until(lambda: job.state == "done")
        run = job.result["run"]
    every_file_is_whole(small_disk)
    assert torch.equal(load_file(runs.find(run) / "samples.safetensors")["x"], uninterrupted().run.samples.x)


def test_what_else_is_kept_on_a_full_disk_is_refused_with_a_sentence(small_disk, monkeypatch):
    with runs.owned_by("me"):
        there = runs.create(kind="distill", experiment=Experiment().to_dict())
    runs.write_json(runs.find(there) / "run.json", {"kind": "distill"})
    study = studies.begin(studies.TuneConfig(space={"step_size": (0.1, 1.0)}))
    points = torch.randn(40, 2)
    labels = torch.arange(40) % 2
    filler = fill(small_disk)
    before = {p: p.stat().st_size for p in small_disk.rglob("*") if p.is_file()}
    with pytest.raises(DiskFull):
        runs.create(kind="distill")
    with pytest.raises(DiskFull):
        studies.begin(studies.TuneConfig(space={"step_size": (0.1, 1.0)}))
    with pytest.raises(DiskFull):
        runs.mark(there, None, note="x" * 1000)
    with pytest.raises(CakeError, match="Free some space"):
        own.create("Mine", "points", (2,), ["a", "b"], train=(points, labels), test=(points, labels))
    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    with pytest.raises(CakeError, match="can't be kept on the server"):
        inbox.keep(bytes(100_000))
    monkeypatch.undo()
    monkeypatch.setenv("CAKE_RUNS_DIR", str(small_disk / "runs"))
    assert {p: p.stat().st_size for p in small_disk.rglob("*") if p.is_file()} == before  # and nothing half
    assert [e.run for e in runs.entries() if e.kind == "distill"] == [there]  # without its index, too
    with a_runner() as runner:
        job = runner.submit("tune", {"study": study, "trials": 2}, play=True, page="tune")
        until(lambda: job.message)
        assert (job.state, job.message) == ("paused", DISK_FULL)
        filler.unlink()
        small_disk.joinpath("filler").write_bytes(bytes(10))
        job.play()
        until(lambda: job.progress > 0 or job.state == "failed")
        assert job.state == "running"


@pytest.mark.long
def test_a_limit_of_the_size_of_files_is_a_full_disk_too(store):
    """Without root: the process may write files of 20 kB. The command line says the sentence, and ends with 2."""
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
        "from cake_core.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, *command("--keep")[3:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert DISK_FULL in done.stderr
    assert "Traceback" not in done.stderr
    every_file_is_whole(store)
    (broken,) = runs.entries()
    subprocess.run(command("--keep"), cwd=ROOT, check=True, capture_output=True)
    assert [(e.run, e.finished) for e in runs.entries()] == [(broken.run, True)]


def test_other_errors_are_no_full_disk():
    assert not disk_is_full(FileNotFoundError(2, "No such file"))
    assert not disk_is_full(ValueError("28"))
    assert disk_is_full(OSError(28, "No space left on device"))
    assert disk_is_full(RuntimeError("I/O error: No space left on device (os error 28)"))


# -- folders that are half written, and files that are damaged --------------------------------------------------------


def readers(run: str) -> Iterator[Callable[[], object]]:
    """Everything that reads the folder of a run, with a bound: pages, downloads, tasks, and going on with it."""
    yield from (lambda f=f: f(run) for f in (runs.read, runs.begun, runs.events, runs.metrics, runs.entry, runs.edits))
    yield lambda: runs.entries()
    yield lambda: keeping.read_frames(runs.find(run) / "frames.bin")
    yield lambda: list(Pictures([run]))
    yield lambda: Distillation.restore(run)
    yield lambda: teachers.load(f"run:{run}")
    yield lambda: journal.resumable(run)
    yield lambda: keeping.Kept.read(run)
    stored = []
    yield lambda: stored.append(export.Stored(run))
    for kind in export.FORMATS.values():
        if kind.quick:
            yield lambda kind=kind: stored and kind.make(stored[0])


def damaged(content: bytes, draws: random.Random) -> Iterator[bytes]:
    """A file cut off at some places, emptied, with other bytes in the middle, and replaced by nonsense."""
    for cut in sorted({0, 1, len(content) // 3, len(content) - 1}):
        yield content[:cut]
    place = draws.randrange(max(1, len(content) - 8))
    yield content[:place] + draws.randbytes(8) + content[place + 8 :]
    yield draws.randbytes(64)
    yield b"[1, 2]"


@pytest.mark.long
def test_a_folder_that_is_half_written_or_damaged_is_said_and_never_crashes(store):
    """Every file of a finished run, and of one in the middle, is cut off and overwritten; whoever reads it gets what is
    whole, or a sentence. No wrong tensors are ever taken for right ones."""
    draws = random.Random(0)
    flat = {**IN_PARTS, "data": "moons", "teacher": "mlp", "batches": "4", "steps": "6"}
    task = Distill(Experiment.from_query(flat).to_dict(), in_flight=2)
    list(task.moments())
    finished = task.finish()["run"]
    going = Distill(Experiment.from_query(flat).to_dict(), in_flight=2)
    for _ in going.moments():
        if going.run.seen == 9:
            break
    going.rest()
    tried = 0
    for run in (finished, going.kept):
        for path in sorted(p for p in runs.find(run).rglob("*") if p.is_file()):
            content = path.read_bytes()
            for spoilt in damaged(content, draws):
                path.write_bytes(spoilt)
                for read in readers(run):
                    try:
                        read()
                    except CakeError as error:
                        assert str(error)[-1] in ".)", error
                    except Exception as error:
                        raise AssertionError(f"{path.name} with {spoilt[:20]!r}: {error!r}") from error
                tried += 1
                if path.suffix == ".safetensors" and run == finished:
                    with pytest.raises(CakeError, match=r"damaged|can't be read"):
                        Distillation.restore(run)
            path.write_bytes(content)
    assert tried > 100
    assert Distillation.restore(finished).samples.digest() == task.run.samples.digest()


def test_a_damaged_mini_batch_is_made_again(store):
    first = Distill(Experiment.from_query(IN_PARTS).to_dict(), in_flight=2)
    for _ in first:
        if first.run.seen == 70:
            break
    first.rest()
    paths = parts_of(store)
    assert len(paths) == 3
    raw = bytearray(paths[1].read_bytes())
    raw[-40] ^= 1  # one bit of a sample: the file is still read without complaint
    paths[1].write_bytes(raw)
    second = Distill({}, resume=first.kept)
    snapshot = next(u.snapshot for u in second if u.snapshot is not None)
    assert snapshot.batches == (2, 3)  # what lies behind it is made again, too
    list(second)
    assert second.run.samples.digest() == uninterrupted().run.samples.digest()
    assert len(second.run.history.index) == len(uninterrupted().run.history.index)


@pytest.mark.parametrize("ending", [".json", ".safetensors"])
def test_a_damaged_cache_of_a_grid_is_computed_again(store, ending):
    experiment = Experiment.from_query({**IN_PARTS, "data": "moons"})

    def grid() -> Grid:
        return Grid(experiment, ["mlp"], ["mlp"], controls=0, student={"updates": 50})

    list(first := grid())
    for path in [*store.glob(f"grids/teachers/*{ending}"), *store.glob("grids/*.json")]:
        path.write_bytes(path.read_bytes()[:-20])
    list(second := grid())
    times = ("seconds_samples", "seconds_student")
    assert [{k: v for k, v in r.items() if k not in times} for r in second.rows] == [
        {k: v for k, v in r.items() if k not in times} for r in first.rows
    ]


# -- clocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_clock_that_is_set_changes_nothing(store, tmp_path, monkeypatch):
    """A day forward and a day back, while jobs run, wait and rest: nobody is ended for it, nothing is deleted for it,
    and frames stay in order."""
    real = time.time
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # whose files no other test ages
    with a_runner() as runner:
        runner.limits = Limits(max_running=1, unwatched_seconds=3600, idle_minutes=30)
        long = {"experiment": Experiment.from_query({"steps": "20000", "device": "cpu"}).to_dict()}
        running, waiting = (runner.submit("distill", long, owner=str(k), play=True) for k in range(2))
        resting = runner.submit("distill", long, owner="c")
        until(lambda: "resume" in running.spec and resting.scene)
        sent = inbox.keep(b"a file on its way")
        made = runs.made(going := running.spec["resume"])
        for hours in (24, -24):
            monkeypatch.setattr(time, "time", real)
            run = runs.create(kind="distill", experiment=Experiment().to_dict())
            runs.delete(run, None)
            monkeypatch.setattr(time, "time", lambda hours=hours: real() + 3600 * hours)
            before = running.progress
            inbox.keep(b"another")
            runs.empty_trash()
            runs.made(runs.create())
            time.sleep(5.5)  # the reaper comes by every five seconds
            assert [j.state for j in (running, waiting, resting)] == ["running", "queued", "ready"]
            assert running.progress > before
            assert inbox.find(sent).is_file()
            assert made.is_dir()
            runs.undelete(run, None)
            monkeypatch.setenv("CAKE_MAX_RUNS_GB", "0.000001")
            with pytest.raises(CakeError, match="space for runs is full"):
                runs.create()  # the run that goes on does not make way, though it looks a day old
            monkeypatch.delenv("CAKE_MAX_RUNS_GB")
            assert runs.find(going).is_dir()
        times = [decode(m)[0]["t"] for m in running.ring.all()]
        assert times == sorted(times)


def test_frames_are_timed_by_a_clock_that_nobody_sets(monkeypatch):
    from cake_core import ages

    first, real = ages.milliseconds(), time.time
    monkeypatch.setattr(time, "time", lambda: real() - 86_400)
    assert 0 <= ages.milliseconds() - first < 60_000


# -- downloads --------------------------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    """An array of bytes as the MNIST files have it."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@contextmanager
def mirror(files: dict[str, bytes], cut: int = 0) -> Iterator[str]:
    """An HTTP server on this machine; with `cut` it hangs up after so many bytes of each body."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = files[self.path.rpartition("/")[2]]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:cut] if cut else body)

        def log_message(self, *words: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def small_mnist(tmp_path, monkeypatch) -> dict[str, bytes]:
    """MNIST's files with a few images of noise, and a folder without any; what torchvision expects of them."""
    import hashlib

    from torchvision.datasets import MNIST

    monkeypatch.setenv("CAKE_DATA_DIR", str(tmp_path / "sets"))
    draws = np.random.default_rng(0)
    files = {}
    for name, count in (("train", 60), ("t10k", 20)):
        pictures, labels = draws.integers(0, 256, (count, 28, 28), np.uint8), draws.integers(0, 10, count, np.uint8)
        files[f"{name}-images-idx3-ubyte.gz"] = gzip.compress(idx(pictures))
        files[f"{name}-labels-idx1-ubyte.gz"] = gzip.compress(idx(labels))
    monkeypatch.setattr(MNIST, "resources", [(n, hashlib.md5(c).hexdigest()) for n, c in files.items()])
    return files


def test_a_download_that_was_cut_is_said_and_done_again(small_mnist, monkeypatch):
    from torchvision.datasets import MNIST

    config = data.DataConfig(name="mnist")
    with mirror(small_mnist, cut=500) as url:
        monkeypatch.setattr(MNIST, "mirrors", [url])
        with pytest.raises(CakeError, match="could not be downloaded: is there a network"):
            data.load(config)
    assert not data.info("mnist").on_disk()
    with mirror(small_mnist) as url:
        monkeypatch.setattr(MNIST, "mirrors", [url])
        shares = list(images.download("mnist"))
        loaded = data.load(config)
    assert all(0 <= s <= 1 for s in shares)
    assert len(loaded.train_x) == 60
    assert len(loaded.test_x) == 20


def test_no_network_is_said_with_what_to_do(small_mnist, monkeypatch):
    from torchvision.datasets import MNIST

    with mirror(small_mnist) as url:
        pass  # nobody is there any more
    monkeypatch.setattr(MNIST, "mirrors", [url])
    with pytest.raises(CakeError, match=r"MNIST is not on this machine and could not be downloaded: is there"):
        data.load(data.DataConfig(name="mnist"))
    for name in ("http_proxy", "https_proxy"):  # for the job's process, which asks the real mirrors
        monkeypatch.setenv(name, url)
    with a_runner() as runner:
        spec = {"data_config": {"name": "fashion-mnist"}, "model": "lenet5", "settings": {}, "seed": 0}
        job = runner.submit("teacher", {**spec, "device": "cpu"}, play=True)
        until(lambda: job.state == "failed")
    assert job.message.startswith("Fashion-MNIST is not on this machine and could not be downloaded: is there")
    assert "choose 'digits', which needs no download." in job.message


@pytest.mark.parametrize("cut", [0, 3, 10, 100])
def test_a_data_file_that_is_cut_off_is_noticed_and_fetched_again(small_mnist, monkeypatch, cut):
    from torchvision.datasets import MNIST

    with mirror(small_mnist) as url:
        monkeypatch.setattr(MNIST, "mirrors", [url])
        whole = data.load(data.DataConfig(name="mnist"))
        raw = images._DOWNLOADS["mnist"].folder
        path = raw / "train-images-idx3-ubyte"
        path.write_bytes(path.read_bytes()[:cut])
        again = data.load(data.DataConfig(name="mnist"))
    assert torch.equal(again.train_x, whole.train_x)
    path.write_bytes(path.read_bytes()[:cut])
    for packed in raw.glob("*.gz"):
        packed.unlink()
    with pytest.raises(CakeError, match=r"can't be read .*Delete that folder and try again"):
        data.load(data.DataConfig(name="mnist"))  # now without a network
    assert path.stat().st_size == cut


# -- memory that is full ----------------------------------------------------------------------------------------------

LIMITED = """
import json, re, resource, sys
from pathlib import Path
import torch
from cake_core import teacher
from cake_core.errors import CakeError
from cake_core.synthesis import synthesize

torch.set_num_threads(1)
network = teacher.load("digits/lenet5").network.eval()
about = {"shape": (1, 8, 8), "classes": 10, "device": "cpu", "steps": 2}
list(synthesize(network, "cake", batches=2, samples=10, **about))  # all that is imported when it is needed
used = 1024 * int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
resource.setrlimit(resource.RLIMIT_AS, (used + 3_000_000, used + 3_000_000))
try:
    list(synthesize(network, "cake", batches=8, samples=5000, **about))
except CakeError as error:
    print(json.dumps(str(error)))
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the size of a process is read where Linux says it")
def test_memory_that_is_really_full_is_a_sentence():
    """A process that may take 3 MB more and needs hundreds: not even one mini-batch finds room. That fewer at once give
    the same samples, where those find room, tests/test_synthesis.py says with an error that is raised by hand."""
    done = subprocess.run([sys.executable, "-c", LIMITED], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout).startswith(
        "The device's memory is full, with as few samples at once as can be. Choose"
    )
