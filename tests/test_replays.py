"""A hundred who open the same link: computed once, played to each, and one's own as soon as somebody changes it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest

from cake_core import metrics, replays, runs
from cake_core.frames import decode
from cake_core.jobs import REPLAY, Job, JobRunner
from cake_core.limits import Limits
from cake_core.pipeline import Distillation, Experiment

from .test_jobs import LONG, Viewer, spec
from .waiting import until


@pytest.fixture(scope="module")
def only_runner(runs_folder) -> Iterator[JobRunner]:
    made = JobRunner(Limits(threads=1))
    yield made
    made.close()


@pytest.fixture
def runner(only_runner) -> Iterator[JobRunner]:
    only_runner.limits = Limits(max_running=4, max_jobs_per_owner=4)
    yield only_runner
    with only_runner.lock:
        for job in list(only_runner.jobs.values()):
            only_runner.forget(job)
        only_runner.replayer.recordings.clear()
        only_runner.replayer._asked.clear()


STEPS = {"steps": "60", "seed": "7"}


def asked(runner: JobRunner, count: int, **flat: str) -> list[Job]:
    """The same experiment, asked for by so many browsers."""
    return [runner.submit("distill", spec(**{**STEPS, **flat}), owner=f"browser{k}.tab") for k in range(count)]


def sources(runner: JobRunner) -> list[Job]:
    return [j for j in runner.jobs.values() if j.browser == replays.OWNER]


def shown(job: Job) -> dict[int, np.ndarray]:
    """Where the samples were in each step that was shown."""
    found = {}
    for header, arrays in map(decode, job.ring.all()):
        if header["stage"] == "synthesis":
            found[header["step"]] = arrays["xy"]
    return found


def test_a_hundred_with_the_same_link_are_one_computation(runner):
    jobs = asked(runner, 100)
    assert [j.worker for j in jobs] == ["compute"] + [REPLAY] * 99  # who is alone has it as ever
    assert len(sources(runner)) == 1
    views = [Viewer(j) for j in jobs]
    until(lambda: all(v.scenes and v.frames for v in views))  # something to see before anybody presses Play
    assert {j.state for j in jobs} == {"ready"}
    for job in jobs:
        job.pace(0)
        job.play()
    assert sum(j.state == "running" for j in jobs) == 100  # nobody waits for a place
    until(lambda: all(j.state == "done" for j in jobs))
    assert len(sources(runner)) == 1
    assert all(j.result["outcome"] == jobs[1].result["outcome"] for j in jobs[1:])
    first, other = jobs[0].result["outcome"], jobs[50].result["outcome"]
    assert {k: v for k, v in first.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}
    # every step of the synthesis was shown to each, as it was computed for the first
    theirs = shown(jobs[99])
    assert sorted(theirs) == list(range(61))
    for step, x in shown(jobs[0]).items():
        assert np.array_equal(theirs[step], x)
    assert len({j.result["run"] for j in jobs}) == 100


def test_each_has_a_run_of_ones_own_in_the_store(runner):
    jobs = asked(runner, 3)
    for job in jobs:
        job.pace(0)
        job.play()
    until(lambda: all(j.state == "done" for j in jobs))
    for job in jobs[1:]:
        (entry,) = (e for e in runs.entries(runs.key_of(job.owner)) if e.run == job.result["run"])
        assert entry.finished
        assert entry.agreement == job.result["outcome"]["agreement"]
        assert len(Distillation.restore(entry.run).samples) == 100
    # one's deletion and notes leave the others as they are
    mine, theirs = jobs[1].result["run"], jobs[2].result["run"]
    runs.mark(mine, runs.key_of(jobs[1].owner), note="mine")
    runs.log(mine, "looked")
    assert runs.entry(theirs).note == ""
    assert "looked" not in {e["event"] for e in runs.events(theirs)}
    runs.delete(mine, runs.key_of(jobs[1].owner))
    assert len(Distillation.restore(theirs).samples) == 100


def test_who_is_alone_takes_no_place_from_what_many_wait_for(runner):
    """The first one's own run goes at a slow pace, and ends long after those who share theirs have seen it all."""
    runner.limits = Limits(max_running=1, max_jobs_per_owner=4)
    alone, *many = asked(runner, 3)
    alone.pace(0.5)
    alone.play()
    for job in many:
        job.pace(0)
        job.play()
    until(lambda: all(j.state == "done" for j in many))
    assert alone.state == "running"
    # They have one place too: what others share waits for it, and so does another one who is alone.
    _, first = asked(runner, 2, seed="1", steps="2000")
    _, second = asked(runner, 2, seed="2")
    first.play()
    second.play()
    waiting = next(j for j in sources(runner) if j.state == "queued")
    assert waiting.spec["experiment"]["seed"] == 2
    other = runner.submit("distill", alone.spec | {"every": 2}, owner="another", play=True)
    assert (runner.position(waiting), runner.position(other)) == (1, 1)
    runner.forget(alone)
    assert other.state == "running"
    assert waiting.state == "queued"


def test_each_plays_pauses_and_steps_alone(runner):
    _, one, other = asked(runner, 3)
    views = [Viewer(one), Viewer(other)]
    one.play()
    until(lambda: views[0].step > 5)
    assert other.state == "ready"
    one.pause()
    there = views[0].step
    other.step()
    until(lambda: views[1].step == 1)
    other.step()
    until(lambda: views[1].step == 2)
    time.sleep(0.2)
    assert (views[0].step, views[1].step) == (there, 2)
    one.reset()
    until(lambda: one.state == "ready" and views[0].frames[-1].get("step") == 0)
    assert one.worker == REPLAY


def test_who_changes_a_setting_goes_on_alone_from_there(runner):
    """What comes of it is what an edit at that step would have made of a run of one's own."""
    _, mine, other = asked(runner, 3)
    view = Viewer(mine)
    mine.play()
    until(lambda: view.step >= 10)
    mine.pause()
    there, before = view.step, shown(mine)
    scenes = len(view.scenes)
    version = mine.set(step_size=0.7)
    assert mine.worker == "compute"
    mine.step()
    until(lambda: view.frames[-1]["version"] == version)
    assert view.step == there + 1
    assert len(view.scenes) == scenes  # what was seen of it stays on the screen
    assert sorted(shown(mine))[:there] == sorted(before)[:there]
    mine.pace(0)
    mine.play()
    until(lambda: mine.state == "done")
    assert other.worker == REPLAY
    stored = runs.read(mine.result["run"])
    (edit,) = stored["edits"]
    own = Distillation(Experiment.from_dict(stored["begun"]), edits=[edit])
    for _ in own:
        pass
    assert own.outcome.agreement.value == mine.result["outcome"]["agreement"]
    again = Distillation.restore(mine.result["run"]).samples.x
    assert np.array_equal(own.samples.x.cpu().numpy(), again.cpu().numpy())


def test_images_are_shared_with_the_details_that_the_view_opens_with(runner):
    _, one, other = asked(runner, 3, data="digits", steps="10", samples="20", **{"student.updates": "5"})
    for job in (one, other):
        job.look(arrows=False, anatomy=False, sample=0)  # as the view does when it opens
        job.pace(0)
    one.play()
    until(lambda: one.state == "done")
    assert one.worker == other.worker == REPLAY
    moved = [(h, a) for h, a in map(decode, one.ring.all()) if h["stage"] == "synthesis" and h["step"] > 0]
    assert len(moved) == 10
    assert all(np.isfinite(a["distance"][a["ids"].tolist().index(0)]) for _, a in moved)
    other.step()
    until(lambda: other.stage == "synthesis")
    other.look(sample=13)
    assert other.worker == "compute"
    other.step()
    until(lambda: 13 in decode(other.ring.all()[-1])[1]["ids"])


def test_what_is_somebodys_own_or_long_is_not_shared(runner):
    plain = spec(**STEPS)
    assert replays.public("distill", plain)
    assert not replays.public("compare", plain)
    assert not replays.public("distill", {**plain, "every": 2})
    e = plain["experiment"]
    assert not replays.public("distill", {"experiment": {**e, "data": {"name": "own-0123456789abcdef"}}})
    assert not replays.public("distill", {"experiment": {**e, "teacher": "run:20260101-000000-0123456789abcdef"}})
    assert not replays.public("distill", spec(**LONG))
    again = [runner.submit("distill", spec(**STEPS, samples="40"), owner="one.tab") for _ in range(2)]
    assert [j.worker for j in again] == ["compute"] * 2  # two tabs of one browser
    runner.limits = Limits(max_shared_mb=0)
    assert [j.worker for j in asked(runner, 3)] == ["compute"] * 3


def test_when_the_computation_dies_each_computes_for_oneself(runner):
    _, follower = asked(runner, 2, steps="2000", **{"student.updates": "50"})
    view = Viewer(follower)
    follower.play()
    until(lambda: view.step > 5)
    os.kill(runner.processes()["compute"], signal.SIGKILL)
    until(lambda: follower.worker == "compute")
    follower.pace(0)
    until(lambda: follower.state == "done")


def test_recordings_are_bounded_and_given_up(runner, monkeypatch):
    _, follower = asked(runner, 2)
    replayer = runner.replayer
    (recording,) = replayer.recordings.values()
    assert metrics.figures(runner)["replayed"] == 1
    assert metrics.figures(runner)["viewers"] == 0  # the recording itself is nobody who looks
    monkeypatch.setattr(replays, "ABANDONED", 0.1)
    runner.forget(follower)
    until(lambda: not replayer.recordings, 20)
    assert runner.find(recording.source.name) is None
    runner.limits = Limits(max_shared_mb=1, max_running=4, max_jobs_per_owner=4)
    _, other = asked(runner, 2)
    (recording,) = replayer.recordings.values()
    recording.bytes = 10**6  # more than half of what there may be: too much for one
    until(lambda: other.worker == "compute", 20)
