"""Who may begin: memory that is asked for against what is free, limits, shares of the time, and places in the queue."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from cake_core import admission, data, models, runs, studies, worker
from cake_core.admission import Ledger, Need
from cake_core.data import own
from cake_core.errors import CakeError
from cake_core.jobs import Job, JobRunner
from cake_core.limits import Limits
from cake_core.methods import METHODS
from cake_core.pipeline import Experiment, Update
from cake_core.studies import TuneConfig
from cake_core.tasks import find

from .test_jobs import LONG, Viewer, spec
from .waiting import until

GB = 10**9


def experiment(**flat: str) -> Experiment:
    return Experiment.from_query({"data": "digits", "device": "cpu", **flat})


# -- how much a run takes ---------------------------------------------------------------------------------------------

MEASURE = """
import re, sys, torch
from cake_core import admission, data, models
from cake_core.oracle import Oracle
def most():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
for model, name, count in (("cnn", "mnist", 200), ("mlp", "moons", 200_000)):
    info = data.info(name)
    oracle = Oracle(models.build(model, info.shape, len(info.classes)).eval(), "cpu")
    oracle.memory_trial(info.shape, 2)()
    open("/proc/self/clear_refs", "w").write("5")
    before = most()
    oracle.memory_trial(info.shape, count)()
    print(model, most() - before, count * admission.per_sample(model, info))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is read from /proc")
def test_the_estimate_is_about_what_a_step_really_takes():
    """A pass forward and back in a process of its own, whose peak Linux measures."""
    told = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in told.splitlines()]
    assert len(lines) == 2
    for model, measured, estimated in lines:
        assert 0.4 < int(estimated) / int(measured) < 4, model


def test_every_usual_architecture_has_an_estimate():
    for model in (m for m in models.MODELS.values() if not m.for_a_gpu):
        info = data.info("mnist" if "images" in model.kinds else "moons")
        learned = admission.per_sample(model.name, info, training=True)
        assert 0 < learned < 1e9, model.name
        assert admission.parameter_bytes(model.name, info) > 0
        if model.name != "linear":  # whose gradient needs nothing but its weights
            assert 0 < admission.per_sample(model.name, info) < 1e9, model.name


def test_the_need_follows_the_shapes():
    small, more = experiment(batches="10", samples="100"), experiment(batches="1000", samples="100")
    # 99,000 more samples of 64 pixels and 10 probabilities, a label and an index; as they are made, and joined
    assert admission.need(more).held - admission.need(small).held == pytest.approx(
        2 * 99_000 * (4 * (64 + 10) + 16), rel=0.01
    )
    wide = experiment(batches="1", samples="20000")
    lenet = admission.per_sample("lenet5", data.info("digits"))
    assert admission.need(wide).step == 20_000 * lenet
    assert admission.need(small.replace(teacher="resnet4")).step > 0


@pytest.mark.parametrize(
    ("flat", "room"),
    [
        ({"batches": "10000", "samples": "2000"}, 1 * GB),
        ({"batches": "1", "samples": "20000"}, 0.5 * GB),
        ({"data": "cifar10", "student": "resnet34", "batches": "100", "samples": "2000"}, 3 * GB),
        ({"batches": "10000", "samples": "20000", "student": "cnn", "student.batch_size": "1024"}, 0.08 * GB),
    ],
)
def test_what_it_says_to_lower_is_enough(flat, room):
    """The sentence names settings and values; with these the run fits."""
    e = experiment(**flat)
    assert admission.need(e).alone > room
    said = admission.fewer(e, room)
    found = re.findall(r"“(.+?)”( of the student)? from ([\d,]+) to ([\d,]+)", said)
    assert found, said
    names = {"Samples per mini-batch": ("settings", "samples"), "Mini-batches": ("settings", "batches"),
             "Batch size": ("student", "batch_size")}  # fmt: skip
    for label, _, now, then in found:
        part, name = names[label]
        config = getattr(e, part)
        assert getattr(config, name) == int(now.replace(",", ""))
        e = e.replace(**{part: config.replace(**{name: int(then.replace(",", ""))})})
    assert admission.need(e).alone <= room


def test_where_no_number_of_samples_does_it_says_so():
    e = experiment(data="cifar10", teacher="", student="resnet152", device="cpu")
    assert "choose a smaller teacher or student" in admission.fewer(e, 0.2 * GB)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_an_estimate_that_grows_with_its_samples(method):
    few, many = (experiment(method=method, batches=b, samples="100") for b in ("2", "2000"))
    assert 0 < admission.need(few).alone < admission.need(many).alone


def test_of_several_experiments_the_widest_counts():
    small, wide = experiment(samples="100"), experiment(samples="5000")
    assert admission.widest([small, wide, small.replace(seed=3)]) == (wide, admission.need(wide))
    one = admission.need(small)
    assert one.abreast(1) == one
    assert one.abreast(3).alone == 3 * one.alone + 2 * admission.LIBRARIES


STUDENT = {"model": "resnet4", "batch_size": 1000, "updates": 10}


def task(kind: str, **more):
    return find(kind)(**more)


def teaching(batch_size: int):
    return task("teacher", data_config={"name": "digits"}, model="resnet4", settings={"batch_size": batch_size},
                seed=0, device="cpu")  # fmt: skip


def stealing(**more):
    student = {"batch_size": 200, "updates": 10, "model": "cnn"} | more.pop("student", {})
    return task("steal", config={"data": {"name": "mnist"}, "student": student, "device": "cpu"} | more)


def test_who_trains_a_teacher_is_told_which_batch_would_do():
    big = teaching(4000)
    room = big.need().alone / 4
    said = re.fullmatch(r"Lower “Batch size” from 4,000 to ([\d,]+)\.", big.less(room))
    fitting = int(said[1].replace(",", ""))
    assert teaching(fitting).need().alone <= room < teaching(2 * fitting).need().alone
    assert "choose a smaller network" in big.less(1e5)


def test_students_of_a_run_are_counted_with_their_sources():
    small = {"batches": "1", "samples": "20", "steps": "5", "student.updates": "5"}
    task_ = find("distill")(**spec(data="digits", **small))
    for _ in task_:
        pass
    run = task_.finish()["run"]
    four = task("students", run=run, student=STUDENT, seeds=2)
    two = task("students", run=run, student=STUDENT, seeds=2, sources=["samples"])
    one = admission.parameter_bytes("resnet4", data.info("digits"))
    assert four.need().held - two.need().held == 2 * admission.LEARNED * one  # the control is always there
    assert (
        four.need().step
        == two.need().step
        == 1000 * admission.per_sample("resnet4", data.info("digits"), training=True)
    )
    assert re.match("Lower “Batch size” from 1,000 to ", four.less(four.need().alone / 2))


def test_few_calls_are_counted_with_what_draws_the_proxies():
    coloured = {"data": {"name": "cifar10"}, "student": {"batch_size": 16}}
    drawn, plain = (stealing(**coloured, proxies={"source": s, "per_class": 50}) for s in ("diffusion", "noise"))
    assert drawn.need().step == 250 * admission.drawing((3, 32, 32), 64) > plain.need().step
    noise = stealing(proxies={"source": "noise"})
    many = stealing(proxies={"source": "noise", "per_class": 20_000})
    assert many.need().held - noise.need().held > 10 * 19_000 * 28 * 28 * 4
    room = 0.5 * many.need().alone
    said = re.fullmatch(r"Lower “(.+)” from 20,000 to ([\d,]+)\.", many.less(room))
    fitting = int(said[2].replace(",", ""))
    assert stealing(proxies={"source": "noise", "per_class": fitting}).need().alone <= room
    assert "Batch size" in stealing(proxies={"source": "noise"}, student={"batch_size": 1000}).less(6e7)
    sweep = task(
        "steal-sweep", config={"data": {"name": "mnist"}, "device": "cpu"}, variants=["noise"], budgets=[1, 4], seeds=1
    )
    assert sweep.need().alone > 0
    assert sweep.less(sweep.need().alone / 2)


def test_comparisons_take_what_their_widest_run_takes():
    shared = {"experiment": experiment(batches="3", samples="200").to_dict(), "seeds": 2}
    apart = {"lake": {"samples": 5000}}
    several = task("compare", methods=["cake", "lake"], settings=apart, **shared)
    alone = task("compare", methods=["lake"], settings=apart, **shared)
    assert several.need() == alone.need()
    assert task("compare", methods=["cake"], **shared).need().alone < alone.need().alone
    grid = task("grid", teachers=["lenet5", "resnet4"], students=["cnn", "lenet5-half"], **shared)
    pairs = [(t, s) for t in ("lenet5", "resnet4") for s in ("cnn", "lenet5-half")]
    needs = [admission.need(experiment(batches="3", samples="200", teacher=t, student=s)) for t, s in pairs]
    assert grid.need() == max(needs, key=lambda n: n.alone)
    assert "“" in grid.less(grid.need().alone / 2)


def test_a_line_up_holds_everybody_and_the_samples_of_copies():
    def lineup(kinds: list[str], suspects: int):
        return task("lineup", config={"data": {"name": "digits"}, "device": "cpu"}, kinds=kinds, suspects=suspects)

    few, more = lineup(["kd"], 1), lineup(["kd"], 4)
    one = admission.parameter_bytes(few.run.config.student_model, data.info("digits"))
    assert more.need().held - few.need().held == 3 * 2 * one
    assert lineup(["cake"], 1).need().alone > few.need().alone
    assert few.less(1).endswith(".")


def test_a_study_is_counted_with_its_largest_trial_and_all_its_workers():
    space = {"samples": (100, 5000), "step_size": (0.1, 1.0)}
    config = TuneConfig.from_dict({"experiment": experiment(batches="10").to_dict(), "space": space})
    study = studies.begin(config)
    one, four = (task("tune", study=study, trials=2, workers=n) for n in (1, 4))
    assert one.need() == admission.need(experiment(batches="10", samples="5000"))
    assert four.need() == one.need().abreast(4)
    assert four.less(one.need().abreast(2).alone) == "Choose 2 workers instead of 4."
    assert four.less(one.need().alone) == "Choose 1 worker instead of 4."
    assert four.less(one.need().alone / 2).startswith("Lower “")


# -- what is free -----------------------------------------------------------------------------------------------------


def ledger(free: float, **limits: float) -> Ledger:
    return Ledger(Limits(**{"memory_share": 1.0, **limits}), free=lambda device: free, taken=lambda: 0)


def test_what_does_not_fit_beside_others_waits_and_then_goes_on():
    book, big, small = ledger(10 * GB), Need(4 * GB, 2 * GB), Need(1 * GB, 1 * GB)
    assert book.ask("a", big) == ""
    assert book.ask("b", Need(5 * GB, 2 * GB)) == "waits for memory: needs about 7 GB, 6 GB is free"
    assert book.ask("c", small) == ""  # steps are taken in turns: only the widest counts
    assert book.ask("d", None) == ""
    assert book.gone("a")
    assert not book.gone("a")
    assert book.ask("b", Need(5 * GB, 2 * GB)) == ""
    assert book.ask("b", Need(5 * GB, 2 * GB)) == ""  # it is in already


def test_devices_do_not_share_memory():
    book = ledger(10 * GB)
    assert book.ask("a", Need(9 * GB, 0, "cuda")) == ""
    assert book.ask("b", Need(9 * GB, 0, "cpu")) == ""
    assert book.ask("c", Need(9 * GB, 0, "cuda")).startswith("waits for memory")


def test_what_never_fits_is_told_how_to_shrink():
    e = experiment(batches="10000", samples="2000")
    said = "This run needs about .+ GB of memory, and the GPU has 1 GB for runs. Lower “.+” from .+ to .+"
    with pytest.raises(CakeError, match=said):
        needed = Need(admission.need(e).held, admission.need(e).step, "cuda")
        ledger(1 * GB).check(needed, lambda room: admission.fewer(e, room))


def test_the_share_and_the_limit_count():
    assert ledger(10 * GB, memory_share=0.5).room("cpu") == 5 * GB
    assert ledger(10 * GB, memory_gb=3).room("cpu") == 3 * GB
    assert ledger(10 * GB, memory_gb=3).room("cuda") == 10 * GB
    grown = iter((1 * GB, 3 * GB))  # what runs have taken meanwhile is no longer free, but was theirs
    assert Ledger(Limits(memory_share=1.0), lambda d: 8 * GB, lambda: next(grown)).room("cpu") == 10 * GB


@pytest.mark.skipif(sys.platform != "linux", reason="free memory is read from /proc")
def test_the_machines_own_figures_are_read():
    total = 1024 * int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1])
    assert 0 < admission.free_bytes("cpu") <= total
    assert 1e6 < admission.resident_bytes() < total


# -- with a real compute process --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def only_runner(runs_folder) -> Iterator[JobRunner]:
    """Its compute process has one gigabyte for runs."""
    made = JobRunner(Limits(memory_gb=1.0, max_samples=10**9))
    yield made
    made.close()


@pytest.fixture
def runner(only_runner) -> Iterator[JobRunner]:
    yield only_runner
    for job in list(only_runner.jobs.values()):
        only_runner.forget(job)


MUCH = {"data": "digits", "batches": "400", "samples": "2000", **LONG}  # some 0.6 GB in the end


def test_a_run_waits_for_memory_says_so_and_goes_on_when_there_is_some(runner):
    first, second = (runner.submit("distill", spec(**MUCH), owner=o) for o in "ab")
    seen = Viewer(second)
    first.play()
    until(lambda: first.progress > 0)
    second.play()
    until(lambda: second.state == "queued" and second.waits)
    assert re.fullmatch(r"waits for memory: needs about \d+ MB, \d+ MB is free", second.waits)
    assert seen.texts[-1]["waits"] == second.waits
    third = runner.submit("distill", spec(), owner="c", play=True)  # a small one passes
    third.pace(0)
    until(lambda: third.state == "done")
    first.stop()
    until(lambda: second.state == "running" and second.progress > 0)
    assert second.waits == ""


def test_a_run_that_never_fits_fails_at_once_with_what_to_lower(runner):
    job = runner.submit("distill", spec(data="digits", batches="10000", samples="20000"))
    until(lambda: job.state == "failed")
    assert re.search(r"needs about .+ GB of memory, and this machine has 1 GB for runs\. Lower “", job.message)


def test_a_grid_that_never_fits_fails_at_once_too(runner):
    job = runner.submit("grid", {**spec(data="digits", batches="10000", samples="20000"), "teachers": ["lenet5"],
                                 "students": ["cnn"], "seeds": 1})  # fmt: skip
    until(lambda: job.state == "failed")
    assert re.search(r"needs about .+ GB of memory, and this machine has 1 GB for runs\. Lower “", job.message)


@pytest.fixture(scope="module")
def strict(runs_folder) -> Iterator[JobRunner]:
    """As much memory as the machine has; and nobody may have stored anything."""
    made = JobRunner(Limits(max_owner_gb=0.0, max_samples=10**9))
    yield made
    made.close()


def test_the_machines_real_memory_is_the_limit_where_none_is_set(strict):
    """Two hundred million samples of CIFAR-10's size take terabytes, more than any machine that runs this has."""
    job = strict.submit("distill", spec(data="cifar10", batches="10000", samples="20000", student="resnet4"))
    until(lambda: job.state == "failed")
    assert re.search(r"needs about [\d.e+]+ GB of memory, and this machine has [\d.]+ [GM]B for runs", job.message)


# -- limits -----------------------------------------------------------------------------------------------------------


def test_sizes_beyond_the_limits_are_refused_with_a_sentence(runner):
    limits, runner.limits = runner.limits, Limits(max_samples=1000, max_steps=50)
    try:
        with pytest.raises(CakeError, match=r"would make 2,000 samples, .+ allows 1,000 \(CAKE_MAX_SAMPLES\)\. Choose"):
            runner.submit("distill", spec(batches="2", samples="1000"))
        with pytest.raises(CakeError, match=r"would take 51 steps, .+ allows 50 \(CAKE_MAX_STEPS\)\. Choose fewer"):
            runner.submit("distill", spec(steps="51"))
        others = {**spec(), "methods": ["lake"], "seeds": 1, "settings": {"lake": {"samples": 900}}}
        with pytest.raises(CakeError, match="1,800 samples"):
            runner.submit("compare", others)
        assert not runner.jobs
    finally:
        runner.limits = limits


def test_a_study_whose_trials_might_be_too_large_is_not_begun(monkeypatch):
    from pages._ui import cached, tuning_panels

    monkeypatch.setattr(cached.runner(), "limits", Limits(max_samples=100_000))
    space = {"samples": (100, 20_000)}
    before = len(list(runs.folder().glob("*/study.json")))
    config = TuneConfig.from_dict({"experiment": experiment(batches="10").to_dict(), "space": space})
    with pytest.raises(CakeError, match="200,000 samples"):
        tuning_panels.begin_study(config, trials=2)
    assert len(list(runs.folder().glob("*/study.json"))) == before


def test_who_has_stored_much_begins_no_more(runner, monkeypatch, tmp_path):
    """Runs, studies with their folders and data of one's own count; others' do not."""
    monkeypatch.setenv("CAKE_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("CAKE_UPLOADS_DIR", str(tmp_path / "uploads"))
    mine, theirs = runs.key_of("me.1"), runs.key_of("you.1")
    with runs.owned_by(mine):
        run = runs.create(kind="tune")
        own.create("mine", "points", (2,), ("a", "b"))
    (runs.find(run) / "trials").mkdir()
    (runs.find(run) / "trials" / "1.bin").write_bytes(bytes(30_000))
    with runs.owned_by(theirs):
        own.create("theirs", "points", (2,), ("a", "b"))
    assert 30_000 < runs.stored_bytes(mine) < 40_000
    assert 0 < runs.stored_bytes(theirs) < 2000
    runs.check_room(theirs, Limits(max_owner_gb=30e-6))
    runs.check_room("", Limits(max_owner_gb=0))
    with pytest.raises(CakeError, match=r"take 3.+e-05 GB, .+ \(CAKE_MAX_OWNER_GB\)\. Delete some on the page Runs"):
        runs.check_room(mine, Limits(max_owner_gb=30e-6))


def test_a_job_of_who_has_stored_much_says_so_when_it_is_to_begin(strict):
    with runs.owned_by(runs.key_of("somebody")):
        runs.create(kind="distill")
    job, other = (strict.submit("distill", spec(), owner=o, play=True) for o in ("somebody", "another"))
    until(lambda: job.state == "failed")
    assert "CAKE_MAX_OWNER_GB" in job.message
    other.pace(0)
    until(lambda: other.state == "done")


# -- turns ------------------------------------------------------------------------------------------------------------


class Ticking:
    """A task each of whose steps takes a hundredth of a second of a clock that only they move."""

    kind, threads, device_type, kept, hurries = "tick", None, "cpu", "", False

    def __init__(self, clock: list[float]):
        self.clock, self.steps = clock, 0

    def __next__(self) -> Update:
        self.clock[0] += 0.01
        self.steps += 1
        return Update("synthesis", 0.5)

    def __getattr__(self, name: str):
        return lambda *args, **kwargs: None

    def primed(self, update: Update) -> bool:
        return True


@pytest.fixture
def shares(monkeypatch):
    """What each of some jobs gets of a thousand turns: called with (owner, weight) of each."""
    clock = [0.0]
    monkeypatch.setattr(worker.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(worker.torch, "set_num_threads", lambda threads: None)  # which other tests would notice

    def run(*jobs: tuple[str, float]) -> list[int]:
        connection = SimpleNamespace(send_bytes=lambda raw: None)
        w = worker.Worker(connection)
        for number, (owner, weight) in enumerate(jobs):
            task = Ticking(clock)
            w.jobs[str(number)] = worker.Running(str(number), task, owner=owner, weight=weight, rate=0, priming=False)
            w.jobs[str(number)].running = True
        for _ in range(1000):
            w.turn(min(w.jobs.values(), key=lambda j: j.used))
        return [j.task.steps for j in w.jobs.values()]

    return run


def test_turns_go_to_owners_alike_and_by_weight(shares):
    assert shares(("a", 1), ("b", 1)) == pytest.approx([500, 500], abs=2)
    # who runs three jobs gets no more than who runs one
    assert shares(("a", 1), ("a", 1), ("a", 1), ("b", 1)) == pytest.approx([167, 167, 167, 500], abs=3)
    assert shares(("a", 3), ("b", 1)) == pytest.approx([750, 250], abs=2)
    # jobs of nobody in particular are not taken together
    assert shares(("", 1), ("", 1), ("b", 1)) == pytest.approx([333, 333, 333], abs=2)


def test_weights_go_by_kind_and_by_owner():
    limits = Limits(weights="tune=0.5, 3f9a0c1e=4")
    assert limits.weight("tune", "") == 0.5
    assert limits.weight("distill", "3f9a0c1e") == 4
    assert limits.weight("tune", "3f9a0c1e") == 2
    assert limits.weight("distill", "00000000") == 1


# -- places -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def desk(monkeypatch) -> Iterator[JobRunner]:
    """A runner without a compute process: who runs and who waits is decided on this side."""
    monkeypatch.setattr(JobRunner, "_hand_over", lambda self, job: None)
    made = JobRunner(Limits(max_running=2, max_running_per_owner=2, max_jobs_per_owner=50))
    yield made
    made.close()


def playing(desk: JobRunner, count: int, owner: str = "") -> list[Job]:
    return [desk.submit("distill", {}, owner=owner or f"o{k}", play=True) for k in range(count)]


def test_ten_jobs_with_two_places_know_their_place_and_about_how_long_it_takes(desk):
    jobs = playing(desk, 10)
    assert [j.state for j in jobs] == ["running"] * 2 + ["queued"] * 8
    assert [desk.position(j) for j in jobs[2:]] == list(range(1, 9))
    assert all(desk.waiting_seconds(j) is None for j in jobs)  # nothing is known yet
    jobs[0].began = jobs[1].began = time.monotonic() - 30
    desk.change(jobs[0], progress=0.5, seconds_left=10.0)
    desk.change(jobs[1], progress=0.5, seconds_left=40.0)
    assert desk.waiting_seconds(jobs[2]) == 10
    # nothing has ended yet, so as long as those that run will take: (30 + 10 and 30 + 40) / 2 = 55
    assert desk.waiting_seconds(jobs[3]) == 40
    assert desk.waiting_seconds(jobs[4]) == pytest.approx(65, abs=1)
    desk._durations.extend([20.0, 20.0, 500.0])
    # by hand: places are free after 10, 30 (= 10 + 20), 40, 50, 60 ... seconds
    assert [desk.waiting_seconds(j) for j in jobs[2:7]] == [10, 30, 40, 50, 60]
    status = json.loads(jobs[3].status())
    assert (status["state"], status["queue"], status["wait"]) == ("queued", 2, 30)
    desk.change(jobs[0], state="done")
    assert jobs[2].state == "running"
    assert [desk.position(j) for j in jobs[3:]] == list(range(1, 8))


def test_an_owner_at_the_limit_lets_others_pass(desk):
    desk.limits = Limits(max_running=3, max_running_per_owner=1, max_jobs_per_owner=50)
    mine = playing(desk, 3, "me.tab1")
    other_tab = desk.submit("distill", {}, owner="me.tab2", play=True)
    others = playing(desk, 3)
    assert [j.state for j in mine] == ["running", "queued", "queued"]
    assert other_tab.state == "queued"  # a browser is one, however many tabs it has
    assert [j.state for j in others] == ["running", "running", "queued"]
    others[0].stop()
    assert others[2].state == "running"
    assert mine[1].state == "queued"
    mine[0].stop()
    assert mine[1].state == "running"


def test_idle_jobs_are_reaped(desk, monkeypatch):
    desk.limits = Limits(idle_minutes=1 / 60)
    paused, watched, running = (desk.submit("distill", {}, owner=str(k)) for k in range(3))
    watched.subscribe(lambda message: None)
    running.play()
    for job in (paused, watched, running):
        job.touched = time.monotonic() - 5
    until(lambda: desk.find(paused.name) is None, 20)
    assert desk.find(watched.name) is watched
    assert desk.find(running.name) is running


@pytest.mark.parametrize("go", ["rest", "stop", "halt"])
def test_who_goes_gives_its_memory_back_however_it_goes(go):
    w = worker.Worker(SimpleNamespace(send_bytes=lambda raw: None))
    w.jobs["a"] = worker.Running("a", Ticking([0.0]))
    assert w.ledger.ask("a", Need(1e30, 0.0, "cpu")) == ""
    assert w.ledger.ask("b", Need(1.0, 0.0, "cpu")).startswith("waits for memory")
    if go == "halt":
        w.halt(w.jobs["a"])
    else:
        w.command({"op": go, "job": "a"})
    assert w.ledger.ask("b", Need(1.0, 0.0, "cpu")) == ""
