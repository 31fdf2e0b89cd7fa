"""Studies run for real, and small: a kill -9 loses nothing, nobody sees the test part, the numbers meet oracles."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from cake_core import cli, data, runs, studies, trials, tuning, tuning_figures
from cake_core.errors import CakeError
from cake_core.evaluation import predict
from cake_core.frames import decode
from cake_core.jobs import JobRunner
from cake_core.pipeline import Experiment
from cake_core.studies import FREE, HUMAN, TuneConfig
from cake_core.trials import Judge
from cake_core.tuning import Final, Tuning

from .waiting import until

QUICK = {"data": "moons", "batches": "2", "samples": "60", "steps": "24", "student.updates": "80", "sigma": "0.3"}
SPACE = {"step_size": (0.01, 3.0), "weight_contrast": (0.01, 10.0)}


def config(**values) -> TuneConfig:
    return TuneConfig.from_dict({"experiment": Experiment.from_query(QUICK), "space": SPACE, **values})


def run(study: str, trials: int, **more) -> Tuning:
    going = Tuning(study, trials, **more)
    for _ in going:
        pass
    return going


def told(study: str) -> list[tuple]:
    """What a study has found, in the order of its settings, but for trials that were interrupted."""
    rows = tuning.rows(tuning.opened(study), study)
    counted = [
        (r["ordinal"], r["params"], r["values"], r["state"], r["curve"])
        for r in rows
        if "inter" not in r["state"] and r["ordinal"] is not None  # one that has just been asked for has no place yet
    ]
    return sorted(counted, key=lambda row: row[0])


@pytest.fixture(scope="module")
def finished() -> str:
    """A study of 12 trials, with its final runs and figures."""
    study = studies.begin(config(objectives=("agreement",)))
    run(study, 12, finals=2)
    tuning_figures.write(study)
    return study


# -- stopping and going on -------------------------------------------------------------------------------------------

COMMAND = [sys.executable, "-m", "cake_core", "tune", "--data", "two-moons", "--trials", "10", "--finals", "0"]
COMMAND += ["--params", "step_size=0.01:3", "weight_contrast=0.01:10", "--json", "-", "--set"]
COMMAND += [f"{k}={v}" for k, v in QUICK.items() if k != "data"]


def states(path) -> list[str]:
    """The states of all trials, as SQLite has them now."""
    with contextlib.closing(sqlite3.connect(path, timeout=0)) as connection:
        return [row[0] for row in connection.execute("SELECT state FROM trials ORDER BY number")]


def test_a_study_that_was_killed_goes_on_as_if_nothing_had_happened(tmp_path):
    """kill -9 in the middle of a trial, the same command again: nothing is lost, and nothing is different."""
    environment = os.environ | {"CAKE_RUNS_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(COMMAND, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end, before = time.monotonic() + 120, []
    while True:  # stopped first, so that it is known to be in the middle of one when it is killed
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.02)
        process.send_signal(signal.SIGSTOP)
        with contextlib.suppress(StopIteration, sqlite3.OperationalError):
            path = next(tmp_path.glob("*/study.db"))
            before = states(path)
            if before.count("COMPLETE") >= 3 and before[-1] == "RUNNING":
                break
        process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()
    kept = states(path)
    assert kept == before
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert f"{before.count('COMPLETE')} of 10 trials are there" in done.stderr
    assert [r["state"] for r in result["rows"]].count("interrupted") == 1
    killed = result["rows"][len(before) - 1]
    again = next(r for r in result["rows"] if r["ordinal"] == len(before) - 1 and r is not killed)
    assert (killed["state"], killed["values"]) == ("interrupted", {})
    assert killed["params"].items() <= again["params"].items()  # all that it had been given by then
    # An uninterrupted study of the same settings comes to the same.
    torch.set_num_threads(1)
    study = studies.begin(TuneConfig.from_dict(result["config"]))
    run(study, 10)
    counted = [r for r in result["rows"] if r["state"] != "interrupted"]
    there = [(r["ordinal"], r["params"], r["values"], r["state"]) for r in counted]
    assert sorted(there, key=lambda row: row[0]) == [row[:4] for row in told(study)]


@pytest.mark.long
def test_a_worker_that_was_killed_is_replaced_and_the_study_goes_on():
    """As on the page: the compute process dies, and a new one goes on with what there is, and says so."""
    study = studies.begin(config(seed=3))
    runner = JobRunner()
    try:
        job = runner.submit("tune", {"study": study, "trials": 10}, play=True)
        until(lambda: len((studies.read(study) or {"rows": []})["rows"]) >= 3)
        assert list(runner._workers) == ["tune"]  # a process of its own, so that nothing else waits for it, or dies
        before = [r for r in told(study) if r[3] not in ("running", "waiting")]
        os.kill(runner._workers["tune"].pid, signal.SIGKILL)
        until(lambda: "ended unexpectedly" in job.message)
        until(lambda: job.state in ("done", "failed"))
        assert job.state == "done", job.message
        after = told(study)
        assert after[: len(before)] == before
        assert [r[0] for r in after] == list(range(10))
        assert "history" in studies.read(study, "figures")
    finally:
        runner.close()


def test_a_trial_in_the_middle_is_done_again_and_one_of_a_living_worker_is_not():
    study = studies.begin(config(pruner="none"))
    one = Tuning(study, 3)
    while "running" not in [r["state"] for r in tuning.rows(one.study, study)]:
        next(one)
    other = Tuning(study, 3)
    for update in other:  # it does the other two, then waits for the first
        if "Waiting" in update.note:
            break
    assert [r["state"] for r in tuning.rows(one.study, study)] == ["running", "finished", "finished"]
    one.close()
    for _ in other:
        pass
    rows = tuning.rows(other.study, study)
    assert [r["state"] for r in rows] == ["interrupted", "finished", "finished", "finished"]
    assert [r["ordinal"] for r in rows] == [0, 1, 2, 0]
    assert rows[0]["params"] == rows[3]["params"]
    assert not list(runs.find(study).glob("worker-*.lock"))


def test_several_workers_share_the_trials():
    study = studies.begin(config(seed=5))
    going = Tuning(study, 6, workers=2)
    while not going._helpers:
        next(going)
    end = time.monotonic() + 120
    while going.done < 3:  # while this process rests in its first trial, the other one works
        assert time.monotonic() < end
        going._helpers[0].go_on()
        time.sleep(0.05)
    for _ in going:
        pass
    rows = tuning.rows(going.study, study)
    assert sorted(r["ordinal"] for r in rows) == list(range(6))
    workers = [t.user_attrs["worker"] for t in going.study.get_trials()]
    assert 1 <= workers.count(going._worker) <= 3
    assert len(set(workers)) == 2
    assert all(h.process.poll() is not None for h in going._helpers)


def test_more_trials_are_only_those_that_are_missing(finished):
    before = told(finished)
    assert run(finished, 12).done == 12
    assert told(finished) == before


# -- what trials are judged by ---------------------------------------------------------------------------------------


def test_trials_do_not_see_the_test_part(finished, monkeypatch):
    """With a test part of rubbish every trial comes to the same."""
    load = data.load

    def spoiled(settings):
        there = load(settings)
        return replace(there, test_x=there.test_x * 0 + 7, test_y=1 - there.test_y)

    monkeypatch.setattr(data, "load", spoiled)
    study = studies.begin(studies.config_of(finished))
    run(study, 5)
    assert told(study) == told(finished)[:5]


def test_the_judge_meets_a_naive_count():
    judge = Judge(config(objectives=(FREE, "accuracy"), validation=100))
    for _ in judge:
        pass
    student = trials.StudentTraining(judge.free, config().experiment.student.replace(updates=5), seed=1).network
    x, y = judge.dataset.test_x, judge.dataset.test_y
    assert len(x) == 100
    answers = [int(student(judge.dataset.inputs(v[None])).argmax()) for v in x]
    teacher = [int(judge.teacher.network(judge.dataset.inputs(v[None])).argmax()) for v in x]
    assert judge.of_student(student, "accuracy") == sum(a == int(b) for a, b in zip(answers, y, strict=True)) / 100
    assert judge.of_student(student, "agreement") == sum(a == b for a, b in zip(answers, teacher, strict=True)) / 100
    rows = {tuple(v) for v in judge.whole.train_x.tolist()}
    assert all(tuple(v) in rows for v in x.tolist())
    # Free points are spread over the whole plane: as many in each quarter, and beyond most of the data.
    assert len(judge.free) == 900
    quarter = ((judge.free.x > 0).long() * torch.tensor([1, 2])).sum(dim=1).bincount()
    assert quarter.min() > 180
    assert 2.9 < judge.free.x.abs().max() <= 3
    named = predict(judge.teacher.network, judge.free.x).argmax(dim=1)
    assert judge.of_student(judge.teacher.network, FREE) == 1.0
    assert torch.equal(named, judge.free.labels)


def test_free_images_are_noise_samples_and_what_lies_between():
    settings = {"data": "digits", "batches": "2", "samples": "20", "steps": "2"}
    judge = Judge(config(experiment=Experiment.from_query(settings), objectives=(FREE,)))
    for _ in judge:
        pass
    x, made = judge.free.x, judge.free.x[300:340]
    assert len(x) == 300 + 40 + 40
    between = x[340:]
    for k in range(40):  # each is s a + (1 - s) b for its own sample a and some sample b
        rest = between[k] - made
        line = made[k] - made
        share = (rest * line).flatten(1).sum(1) / line.flatten(1).square().sum(1).clamp_min(1e-12)
        left = (rest - share.view(-1, 1, 1, 1) * line).flatten(1).norm(dim=1)
        assert left.min() < 1e-4
    assert torch.equal(judge.free.labels, predict(judge.teacher.network, x).argmax(dim=1))


def test_a_method_with_data_does_not_learn_from_what_judges():
    whole = data.load(data.DataConfig(name="moons", points=200))
    part = trials.hidden(whole, 60, 0, taught=True)
    train, held = ({tuple(v) for v in x.tolist()} for x in (part.train_x, part.test_x))
    assert (len(part.train_x), len(part.test_x)) == (140, 60)
    assert not train & held
    assert len(trials.hidden(whole, 10_000, 0, taught=False).test_x) == 100  # half at most


def test_trials_leave_replay_and_picture(finished):
    number = tuning.best(tuning.opened(finished), finished)
    raw = (studies.folder(finished) / f"{number}.bin").read_bytes()
    headers, at = [], 0
    while at < len(raw):
        length = int.from_bytes(raw[at : at + 4], "little")
        headers.append(decode(raw[at + 4 : at + 4 + length])[0])
        at += 4 + length
    assert headers[0]["type"] == "scene"
    assert {h["stage"] for h in headers[1:]} >= {"synthesis", "student"}
    assert [h["step"] for h in headers[1:] if h["stage"] == "synthesis"][-1] == 24
    seen = studies.picture(finished, number)
    assert len(seen["points"]) == len(seen["classes"]) == 120
    assert seen["boundary"]


def test_the_picture_has_a_column_for_each_class():
    judge = Judge(config(experiment=Experiment.from_query({"data": "digits"}), objectives=("agreement",)))
    for _ in judge:
        pass
    x, answers = judge.dataset.inputs(judge.dataset.test_x[:60]), judge.dataset.test_y[:60]
    image = trials.picture(judge.dataset, x, answers)
    side = image.width // 10
    assert image.size == (10 * side, 4 * side)
    block = side // 10  # tiles of 8x8 with a line around, each pixel a block
    seen = torch.from_numpy(np.array(image)).long()[block // 2 :: block, block // 2 :: block]
    for k in (0, 3, 9):
        first = judge.dataset.pixels(x[answers == k][:1])[0, 0]
        assert torch.equal(seen[1:9, 10 * k + 1 : 10 * k + 9], first.long())
    assert (seen[0] == trials.GAP).all()


def test_hopeless_trials_are_given_up_and_noted(finished):
    rows = tuning.rows(tuning.opened(finished), finished)
    pruned = [r for r in rows if r["state"] == "given up early"]
    best = next(r for r in rows if r["number"] == tuning.best(tuning.opened(finished), finished))
    assert all(len(r["curve"]) < len(best["curve"]) or r["error"] for r in pruned)
    assert all(r["values"] == {} for r in pruned)
    assert best["values"]["agreement"] == max(r["values"]["agreement"] for r in rows if r["values"])


def test_a_setting_that_breaks_is_noted_and_the_study_goes_on(monkeypatch):
    whole = trials.Trial.run

    def breaks(self):
        if self.params["step_size"] > 0.2:
            raise CakeError("The samples ran off to infinity.")
        yield from whole(self)

    monkeypatch.setattr(trials.Trial, "run", breaks)
    study = studies.begin(config(sampler="random"))
    rows = tuning.rows(run(study, 6).study, study)
    assert {r["error"] for r in rows if r["params"]["step_size"] > 0.2} == {"The samples ran off to infinity."}
    assert {r["state"] for r in rows if r["params"]["step_size"] <= 0.2} == {"finished"}


def test_several_objectives_give_the_front():
    study = studies.begin(config(objectives=("coverage", "calls"), space={**SPACE, "steps": (2, 40)}, sampler="nsga2"))
    going = run(study, 10)
    done = [r for r in tuning.rows(going.study, study) if r["state"] == "finished"]
    assert len(done) == 10  # nothing is given up

    def beaten(a, b):
        """Whether b is as good in all and better in one."""
        (ca, na), (cb, nb) = (r["values"].values() for r in (a, b))
        return cb >= ca and nb <= na and (cb, nb) != (ca, na)

    naive = [r["number"] for r in done if not any(beaten(r, other) for other in done)]
    assert sorted(tuning.pareto(going.study, study)) == naive
    assert "front" in tuning_figures.drawn(going.study, study)


# -- people judge ----------------------------------------------------------------------------------------------------


def test_preferences_are_what_the_sampler_sees():
    study = studies.begin(config(objectives=(HUMAN,), space={"step_size": (0.01, 3.0)}))
    going = run(study, 9)
    rows = tuning.rows(going.study, study)
    assert {r["values"][HUMAN] for r in rows} == {0.0}  # nobody has compared yet
    assert all(r["numbers"].keys() == {"calls"} for r in rows)  # no student was trained, nothing real was looked at
    order = sorted(range(9), key=lambda n: rows[n]["params"]["step_size"])
    for k in range(8):
        for m in range(k):
            studies.prefer(study, order[m], order[k])  # small steps are preferred
    strength = studies.strengths(range(9), studies.preferences(study))
    found = tuning.rated(going.study, study)
    assert [t.value for t in found.get_trials()] == pytest.approx([strength[n] for n in range(9)])
    assert tuning.best(going.study, study) == order[0] == tuning.pareto(going.study, study)[0]
    run(study, 15)
    new = [r["params"]["step_size"] for r in tuning.rows(going.study, study)[9:]]
    assert sorted(new)[len(new) // 2] < 0.1  # the middle of the range is 0.17
    tuning_figures.write(study)
    assert "history" in studies.read(study, "figures")


# -- the final runs, figures, command line ---------------------------------------------------------------------------


def test_the_final_runs_have_fresh_seeds_and_controls(finished):
    stored = studies.read(finished)
    final = stored["finals"][str(stored["best"])]
    assert [r["setup"] for r in final["rows"]] == ["tuned", "default", "noise"] * 2
    assert {r["seed"] for r in final["rows"]} == {tuning.FRESH, tuning.FRESH + 1}
    assert {r["n_test"] for r in final["rows"]} == {2000}
    tuned, default, noise = final["rows"][:3]
    assert Experiment.from_query(tuned["experiment"]).settings.step_size == pytest.approx(final["params"]["step_size"])
    assert default["experiment"] == Experiment.from_query({**QUICK, "seed": str(tuning.FRESH)}).to_query()
    assert noise["experiment"]["method"] == "noise"
    again = Final(finished, stored["best"], 2)
    assert sum(1 for _ in again) == 1  # all of it is stored
    with pytest.raises(CakeError, match="Trial 100 is not finished"):
        Final(finished, 99, 2)


def test_intervals_by_hand():
    rows = [{"setup": s, "seed": k, "n_test": 10, "student_accuracy": v, "agreement": v, "coverage": None,
             "near_boundary": 0.5} for s, values in (("tuned", (0.5, 0.6, 0.7)), ("default", (0.5, 0.5, 0.5)))
            for k, v in enumerate(values)]  # fmt: skip
    tuned, default, gain = tuning.summary(rows)
    # Student's t with two degrees of freedom: 4.3027 * 0.1 / sqrt(3) = 0.24842.
    assert tuned["agreement_mean"] == pytest.approx(0.6)
    assert tuned["agreement_interval"] == pytest.approx([0.6 - 0.24842, 0.6 + 0.24842], abs=1e-4)
    assert default["agreement_interval"] == [0.5, 0.5]
    assert (gain["setup"], gain["agreement_mean"]) == ("gain", pytest.approx(0.1))
    assert gain["agreement_interval"] == pytest.approx([0.1 - 0.24842, 0.1 + 0.24842], abs=1e-4)
    assert "coverage_mean" not in tuned


def test_figures_are_drawn_for_both_themes(finished):
    figures = studies.read(finished, "figures")
    assert list(figures) == ["history", "curves", "importance", "parallel", "slices", "contour"]
    for name, made in figures.items():
        for figure in made:
            assert not figure["layout"].get("template", {}).get("layout"), name
            assert "plot_bgcolor" not in figure["layout"], name
    weights = tuning_figures.importance(tuning.opened(finished), 0)
    assert sum(weights.values()) == pytest.approx(1)
    text = json.dumps(figures["parallel"]) + json.dumps(figures["contour"])
    assert "Step size" in text
    assert "step_size" not in text


def test_the_command_line_says_what_is_wrong(capsys):
    assert cli.main(["tune", "--params", "stepsize"]) == 2
    assert "'stepsize' can't be tuned here" in capsys.readouterr().err
    assert cli.main(["tune", "--params", "step_size=1"]) == 2
    assert "two numbers" in capsys.readouterr().err
    assert cli.main(["tune", "--objectives", "fame"]) == 2
    assert "There is no objective 'fame'" in capsys.readouterr().err
    assert cli.main(["tune", "--study", "nope"]) == 2
    assert "There is no such run" in capsys.readouterr().err


def test_nothing_but_studies_imports_optuna():
    code = "import sys, cake_core.tasks, cake_core.cli, pages._ui.tuning_panels; print('optuna' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_table_has_a_row_for_each_trial(finished, tmp_path):
    rows = studies.table(studies.read(finished))
    assert len(rows) == 12
    runs.write_csv(tmp_path / "t.csv", rows)
    head = (tmp_path / "t.csv").read_text().splitlines()[0]
    assert head.startswith("trial,state,step_size,weight_contrast,agreement,accuracy,coverage,near_boundary,calls")
