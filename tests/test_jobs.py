"""The job runner with a real compute process: pause, step, edit, stop, reset, queue, and kill -9."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from cake_core import jobs, runs
from cake_core.errors import CakeError
from cake_core.frames import decode
from cake_core.jobs import Job, JobRunner, Ring
from cake_core.limits import Limits
from cake_core.pipeline import Experiment

from .waiting import until


@pytest.fixture(scope="module")
def only_runner(runs_folder) -> Iterator[JobRunner]:
    """One for all tests here: its compute process takes seconds to start."""
    made = JobRunner()
    yield made
    made.close()


@pytest.fixture
def runner(only_runner) -> Iterator[JobRunner]:
    """Without jobs, and with limits of the tests' own."""
    only_runner.limits = Limits(max_shared_mb=0, max_running=2, max_jobs_per_owner=4)
    yield only_runner
    for job in list(only_runner.jobs.values()):
        only_runner.forget(job)


def spec(**flat: str) -> dict:
    quick = {"batches": "2", "samples": "50", "steps": "30", "student.updates": "100", "device": "cpu"}
    return {"experiment": Experiment.from_query({**quick, **flat}).to_dict()}


LONG = {"steps": "20000"}


class Viewer:
    """Keeps what a job shows."""

    def __init__(self, job: Job):
        self.frames: list[dict] = []
        self.scenes: list[dict] = []
        self.texts: list[dict] = []
        for message in job.subscribe(self):
            self(message)

    def __call__(self, message: bytes | str) -> None:
        if isinstance(message, str):
            self.texts.append(json.loads(message))
        else:
            header, _ = decode(message)
            (self.scenes if header["type"] == "scene" else self.frames).append(header)

    @property
    def step(self) -> int:
        return self.frames[-1].get("step", 0) if self.frames else 0


def test_from_the_beginning_to_the_result(runner):
    job = runner.submit("distill", spec())
    viewer = Viewer(job)
    until(lambda: viewer.scenes)  # there is something to see before anybody presses Play
    until(lambda: any(f["stage"] == "synthesis" for f in viewer.frames))
    assert job.state == "ready"
    assert viewer.step == 0
    job.pace(0)
    job.play()
    until(lambda: job.state == "done")
    assert job.progress == 1
    assert [f["step"] for f in viewer.frames if f["stage"] == "synthesis"][-1] == 30  # the samples as they are at last
    outcome = job.result["outcome"]
    assert outcome["samples"] == 100
    assert job.result["control"]["samples"] == 100
    assert runs.read(job.result["run"])["outcome"] == outcome
    assert (runs.find(job.result["run"]) / "samples.safetensors").is_file()
    # Somebody who comes later sees all of it.
    late = Viewer(job)
    assert late.texts[0]["state"] == "done"
    assert late.scenes
    assert late.frames[-1]["progress"] == 1


def test_a_paused_job_shows_another_sample_without_a_step(runner):
    job = runner.submit("distill", spec(data="digits", samples="200", **LONG))
    viewer = Viewer(job)
    until(lambda: viewer.step == 0 and viewer.frames)
    job.step()
    until(lambda: viewer.step == 1)
    seen, kept = viewer.frames[-1], len(job.ring.all())
    job.look(sample=13)
    until(lambda: viewer.frames[-1] is not seen)
    again = viewer.frames[-1]
    assert (again["t"], again["step"], again["version"]) == (seen["t"], 1, seen["version"])
    assert job.state == "paused"
    assert len(job.ring.all()) == kept  # a frame once more is not kept twice
    # It still holds after a reset.
    job.reset()
    until(lambda: viewer.frames[-1]["t"] > seen["t"])
    _, arrays = decode(job.ring.all()[-1])
    assert set(range(10, 20)) <= set(arrays["ids"].tolist())


def test_pause_step_edit_and_stop(runner):
    job = runner.submit("distill", spec(**LONG))
    viewer = Viewer(job)
    job.play()
    until(lambda: viewer.step > 10)
    job.pause()
    assert job.state == "paused"
    time.sleep(0.3)  # what was on its way arrives
    there = viewer.step
    time.sleep(0.3)
    assert viewer.step == there

    job.step()
    until(lambda: viewer.step == there + 1)
    time.sleep(0.2)
    assert viewer.step == there + 1

    version = job.set(step_size=0.7)
    job.step()
    until(lambda: viewer.frames[-1]["version"] == version)
    assert viewer.step == there + 2
    until(lambda: job.spec["experiment"]["settings"]["step_size"] == 0.7)

    for bad in ({"sigma": 2.0}, {"step_size": -1}, {"nonsense": 1}):
        viewer.texts.clear()
        job.set(**bad)
        until(lambda: any(t["type"] == "refused" for t in viewer.texts))
    assert job.state == "paused"
    assert job.spec["experiment"]["settings"]["step_size"] == 0.7

    job.play()
    until(lambda: viewer.step > there + 3)
    job.stop()
    assert job.state == "stopped"
    time.sleep(0.3)
    there = viewer.step
    time.sleep(0.3)
    assert viewer.step == there


def test_reset_begins_anew_with_the_settings_it_has_now(runner):
    job = runner.submit("distill", spec(**LONG))
    viewer = Viewer(job)
    job.play()
    until(lambda: viewer.step > 5)
    job.set(step_size=0.7)
    until(lambda: job.spec["experiment"]["settings"]["step_size"] == 0.7)
    viewer.frames.clear()
    viewer.scenes.clear()
    job.reset()
    until(lambda: viewer.scenes)
    until(lambda: viewer.frames and viewer.frames[-1]["stage"] == "synthesis" and viewer.step == 0)
    assert job.state == "ready"
    assert len(job.ring.all()) < 5


def test_rates_are_kept(runner):
    job = runner.submit("distill", spec(**LONG))
    viewer = Viewer(job)
    until(lambda: viewer.scenes)
    counts = {}
    for rate in (10, 40):
        job.pace(rate)
        job.play()
        time.sleep(0.3)
        before = viewer.step
        time.sleep(1.5)
        counts[rate] = viewer.step - before
        job.pause()
        time.sleep(0.1)
    assert 2.5 < counts[40] / counts[10] < 6  # four times as fast, whatever the machine does beside it


def test_two_jobs_get_the_same_number_of_turns(runner):
    jobs = [runner.submit("distill", spec(**LONG), owner=str(k)) for k in range(2)]
    viewers = [Viewer(j) for j in jobs]
    until(lambda: all(v.scenes for v in viewers))
    for job in jobs:
        job.pace(0)
        job.play()
    until(lambda: all(v.step > 200 for v in viewers))
    # They share the time, and one slow step among the first is much of it: in the long run they come out the same.
    until(lambda: max(v.step for v in viewers) < 1.3 * min(v.step for v in viewers))


def test_a_queue_with_places(runner):
    running = [runner.submit("distill", spec(**LONG), owner=str(k), play=True) for k in range(2)]
    waiting = [runner.submit("distill", spec(), owner=str(k), play=True) for k in range(2, 4)]
    viewer = Viewer(waiting[1])
    assert [j.state for j in running] == ["running"] * 2
    assert [j.state for j in waiting] == ["queued"] * 2
    assert [runner.position(j) for j in waiting] == [1, 2]
    running[0].stop()
    assert waiting[0].state == "running"
    assert runner.position(waiting[1]) == 1
    assert viewer.texts[-1]["queue"] == 1
    waiting[1].pause()  # it gives up its place
    assert runner.position(waiting[1]) is None


def test_a_dead_process_is_replaced_and_its_runs_go_on(runner):
    runner.limits = Limits(max_shared_mb=0, max_running=1)
    killed = runner.submit("distill", spec(**LONG), owner="a", play=True)
    fresh = runner.submit("distill", spec(), owner="b")
    queued = runner.submit("distill", spec(), owner="c", play=True)
    viewer = Viewer(killed)
    until(lambda: viewer.step > 5 and fresh.scene)
    pid = runner._workers["compute"].process.pid
    there = viewer.step
    os.kill(pid, signal.SIGKILL)
    until(lambda: killed.message)
    assert killed.message.startswith("The compute process ended unexpectedly (SIGKILL). A new one goes on")
    assert [t["message"] for t in viewer.texts if t["message"]][-1] == killed.message
    assert killed.state == "running"  # it has not lost its place
    assert queued.state == "queued"
    until(lambda: viewer.step > there + 5)
    assert runner._workers["compute"].process.pid != pid
    killed.pause()
    assert killed.message == ""  # whoever steers it has read it
    until(lambda: queued.state == "done")  # the queue goes on, in the new process
    assert fresh.state == "ready"
    fresh.play()
    until(lambda: fresh.state == "done")
    killed.reset()
    killed.play()
    until(lambda: viewer.frames[-1]["stage"] == "synthesis" and 3 < viewer.step < there)


def test_a_run_that_kills_its_process_again_and_again_waits_for_somebody(runner, monkeypatch):
    monkeypatch.setattr(jobs, "MOST_DEATHS", 2)
    job = runner.submit("distill", spec(**LONG))
    viewer = Viewer(job)
    until(lambda: viewer.frames)
    job.step()
    until(lambda: viewer.step == 1)
    for _ in range(2):
        job.scene = None
        os.kill(runner._workers["compute"].process.pid, signal.SIGKILL)
        until(lambda: job.scene or job.away)
        until(lambda: job.away or viewer.frames[-1].get("step") is not None)
    assert job.state == "paused"
    assert "has ended 2 times at the same place of this run (SIGKILL). Press Play to try once more" in job.message
    before = len(viewer.frames)
    job.play()
    until(lambda: len(viewer.frames) > before and viewer.step > 1)
    assert job.message == ""


def test_what_can_not_go_on_says_so(runner, monkeypatch):
    monkeypatch.setattr("cake_core.jobs.GOES_ON", ("distill",))
    job = runner.submit("compare", {**spec(**LONG), "methods": ["cake"], "seeds": 1}, play=True)
    until(lambda: job.note)
    os.kill(runner._workers["compute"].process.pid, signal.SIGKILL)
    until(lambda: job.state == "failed")
    assert job.message.endswith("and this run with it. A new process is ready: begin it again.")


def test_what_cannot_run_fails_with_a_sentence(runner):
    experiment = spec()["experiment"] | {"teacher": "run:20260101-000000-0123456789abcdef"}
    job = runner.submit("distill", {"experiment": experiment}, play=True)
    until(lambda: job.state == "failed")
    assert job.message.startswith("There is no such run.")

    diverging = spec(steps="300", step_size="10", weight_contrast="1000", clip="0")
    job = runner.submit("distill", diverging)
    job.pace(0)
    job.play()
    until(lambda: job.state == "failed")
    assert "ran off to infinity" in job.message


def test_a_bug_in_a_task_is_reported_and_hurts_nobody_else(runner):
    broken = runner.submit("distill", {"experiment": spec()["experiment"], "every": "often"}, owner="a", play=True)
    until(lambda: broken.state == "failed")
    assert broken.message.startswith("Something broke inside CAKE Lab (TypeError")
    healthy = runner.submit("distill", spec(), owner="b")
    healthy.pace(0)
    healthy.play()
    until(lambda: healthy.state == "done")


def test_an_owner_can_hold_so_many_jobs(runner):
    runner.limits = Limits(max_shared_mb=0, max_running=8, max_jobs_per_owner=2)
    first, second = (runner.submit("distill", spec(**LONG), owner="a") for _ in range(2))
    third = runner.submit("distill", spec(**LONG), owner="a")  # the oldest at rest makes way
    assert runner.find(first.name) is None
    assert runner.find(second.name) is second
    second.play()
    third.play()
    with pytest.raises(CakeError, match="As many of your runs are going on as may .2.. Stop one"):
        runner.submit("distill", spec(), owner="a")
    assert runner.submit("distill", spec(), owner="b")


def test_names_cannot_be_guessed(runner):
    names = {runner.submit("distill", spec(), owner=str(k)).name for k in range(3)}
    assert len(names) == 3
    assert all(len(name) >= 24 for name in names)


def test_limits_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("CAKE_MAX_RUNNING", "3")
    monkeypatch.setenv("CAKE_IDLE_MINUTES", "0.5")
    monkeypatch.setenv("CAKE_THREADS", "2")
    monkeypatch.delenv("CAKE_MAX_SHARED_MB")
    assert Limits.from_environment() == Limits(max_running=3, idle_minutes=0.5, threads=2)
    wrong = {"CAKE_MAX_RUNNING": ("many", "0", "2.5", "1e99"), "CAKE_MEMORY_SHARE": ("nan", "2", "0"),
             "CAKE_MAX_OWNER_GB": ("-1", "5 GB"), "CAKE_WEIGHTS": ("tune", "tune=0", "tune=1,=2")}  # fmt: skip
    for name, values in wrong.items():
        for value in values:
            with monkeypatch.context() as m, pytest.raises(CakeError, match=name):
                m.setenv(name, value)
                Limits.from_environment()


def test_the_ring_is_bounded_and_spans_all_of_the_run():
    ring = Ring(most=1000, count=16)
    frames = [bytes([k]) * 10 for k in range(200)]
    for frame in frames:
        ring.add(frame)
    kept = [f[0] for f in ring.all()]
    assert len(kept) <= 17
    assert kept == sorted(kept)
    assert kept[-1] == 199
    assert kept[0] < 40
    gaps = [b - a for a, b in pairwise(kept)]
    assert max(gaps) <= 16
    big = Ring(most=1000, count=1000)
    for frame in frames:
        big.add(frame)
    assert sum(map(len, big.frames)) <= 1000


def test_a_job_that_nobody_watches_makes_way(runner):
    runner.limits = Limits(max_shared_mb=0, max_running=1, unwatched_seconds=0.2)
    left_alone = runner.submit("distill", spec(**LONG), owner="a", play=True)
    left_alone.pace(0)
    until(lambda: left_alone.progress > 0.02)
    time.sleep(0.3)
    mine = runner.submit("distill", spec(), owner="b")
    viewer = Viewer(mine)
    until(lambda: viewer.scenes)
    mine.pace(0)
    mine.play()
    assert mine.state == "running"
    assert left_alone.state == "queued"
    until(lambda: mine.state == "done")
    assert left_alone.state == "running"  # it has not been forgotten
    watched = Viewer(left_alone)
    later = runner.submit("distill", spec(), owner="c", play=True)
    assert later.state == "queued"  # now it is watched, and keeps its place
    there = watched.step
    until(lambda: watched.step > there)


# -- two in lock-step -----------------------------------------------------------------------------------------------


def at_rest(viewers: list[Viewer]) -> bool:
    """Whether nothing new is shown for a while."""
    before = [v.step for v in viewers]
    time.sleep(0.5)
    return [v.step for v in viewers] == before


def test_two_in_lock_step_have_one_clock(runner):
    """A step of one takes many times as long as one of the other; still both are at the same step. A command to one is
    one to both."""
    slow = runner.submit("distill", spec(**LONG, method="generative", pairs="4096"))
    quick = runner.submit("distill", spec(**LONG, method="naive", samples="10"))
    runner.pair(slow, quick)
    seen = [Viewer(slow), Viewer(quick)]
    until(lambda: all(v.scenes for v in seen))
    quick.pace(0)
    assert slow.rate == 0
    quick.play()
    until(lambda: min(v.step for v in seen) > 30)
    assert slow.state == quick.state == "running"
    slow.pause()
    assert slow.state == quick.state == "paused"
    until(lambda: at_rest(seen) and seen[0].step == seen[1].step)  # who was behind has caught up
    there = seen[0].step
    quick.step()
    until(lambda: [v.step for v in seen] == [there + 1] * 2)
    runner.forget(slow)
    assert quick.partner is None
    before = seen[1].step
    quick.play()  # alone again
    until(lambda: seen[1].step > before + 50)
