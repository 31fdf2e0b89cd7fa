"""The folder of a run, the list of runs, whose they are, what is deleted and what makes way."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cake_core import keeping, runs
from cake_core.cli import main
from cake_core.errors import CakeError
from cake_core.pipeline import Distillation, Experiment
from cake_core.tasks import Distill

QUICK = {"batches": "4", "samples": "30", "steps": "12", "student.updates": "40", "device": "cpu"}
ME, OTHER = runs.key_of("a-secret-of-mine.1"), runs.key_of("a-secret-of-others.1")


@pytest.fixture
def store(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CAKE_RUNS_DIR", str(tmp_path / "runs"))
    return tmp_path / "runs"


def distilled(edits: dict[int, dict] | None = None, key: str = ME, **flat: str) -> str:
    """A stored run; edits by the number of snapshots after which somebody makes them."""
    with runs.owned_by(key):
        task = Distill(Experiment.from_query({**QUICK, **flat}).to_dict(), in_flight=2)
        seen = 0
        for update in task.moments():
            seen += update.snapshot is not None
            if update.snapshot is not None and seen in (edits or {}):
                task.edit(**edits[seen])
        return task.finish()["run"]


def stored(key: str = ME, **result: object) -> str:
    """A run without tensors."""
    with runs.owned_by(key):
        run = runs.create(kind="distill", experiment=Experiment().to_dict())
    runs.write_json(runs.find(run) / "run.json", {"kind": "distill", "outcome": {"student_accuracy": 0.5}, **result})
    return run


# -- the folder of a run ----------------------------------------------------------------------------------------------


def test_the_folder_says_everything(store):
    run = distilled({6: {"step_size": 0.3}})
    names = {f.name for f in runs.find(run).iterdir()}
    assert names == {
        "config.json", "events.jsonl", "frames.bin", "metrics.json", "run.json",
        "samples.safetensors", "history.safetensors", "student.safetensors", "teacher.safetensors", "teacher.json",
    }  # fmt: skip
    config, result = runs.begun(run), runs.read(run)
    assert config["owner"] == ME
    assert config["experiment"]["settings"]["step_size"] != 0.3  # as it began
    assert result["experiment"]["settings"]["step_size"] == 0.3  # as it ended
    assert config["environment"]["torch"] == torch.__version__.split("+")[0]
    assert len(config["code"]["source"]) == 16
    events = runs.events(run)
    assert [e["event"] for e in events] == ["begun", "stage", "edited", "stage", "stage", "finished"]
    assert events[2]["settings"] == {"step_size": 0.3}
    curves = runs.metrics(run)["curves"]
    assert curves["synthesis"]["step"] == [*range(1, 25)]
    assert len(curves["synthesis"]["classification"]) == 24
    assert runs.metrics(run)["outcome"] == result["outcome"]
    scene, *frames = keeping.read_frames(runs.find(run) / "frames.bin")
    assert b'"scene"' in scene[:200]
    assert len(frames) >= 20


def test_losses_are_those_of_the_loop(store):
    run = distilled()
    distillation = Distillation(Experiment.from_query(QUICK), in_flight=2)
    wanted = [
        u.snapshot.weights["contrast"] * u.snapshot.losses["contrast"].mean().item() / 30
        for u in distillation
        if u.snapshot is not None and u.snapshot.losses
    ]
    assert np.allclose(runs.metrics(run)["curves"]["synthesis"]["contrast"], wanted, rtol=1e-4)


def test_a_run_that_was_edited_can_be_made_again(store):
    run = distilled({6: {"step_size": 0.3}, 14: {"step_size": 0.01}}, data="circles")
    result = runs.read(run)
    first = load_file(runs.find(run) / "samples.safetensors")
    assert [settings for _, settings in result["edits"]] == [{"step_size": 0.3}, {"step_size": 0.01}]
    again = Distillation(Experiment.from_dict(result["begun"]), in_flight=result["in_flight"], edits=result["edits"])
    plain = Distillation(Experiment.from_dict(result["begun"]), in_flight=result["in_flight"])
    for run in (again, plain):
        for _ in run:
            pass
    assert torch.equal(again.samples.x, first["x"])
    assert not torch.equal(plain.samples.x, first["x"])  # the edits were no idle ones


def test_what_was_stopped_leaves_nothing_and_what_crashed_leaves_what_it_had(store):
    for end in ("stopped", "failed", "crashed"):
        task = Distill(Experiment.from_query(QUICK).to_dict())
        for update in task.moments():
            if update.stage == "student":
                break
        run = task.keeper.run
        if end == "failed":
            task.fail("The memory is full.")
        if end != "crashed":
            task.close()
        if end == "stopped":
            with pytest.raises(CakeError, match="no such run"):
                runs.find(run)
            continue
        assert not runs.entry(run).finished
        assert runs.metrics(run)["curves"]["synthesis"]["step"]
        assert len(keeping.read_frames(runs.find(run) / "frames.bin")) > 1
        assert ("failed" in [e["event"] for e in runs.events(run)]) == (end == "failed")
        with pytest.raises(CakeError, match="did not finish"):
            runs.read(run)


def test_what_nobody_has_begun_leaves_nothing(store):
    task = Distill(Experiment.from_query(QUICK).to_dict())
    for update in task:
        if task.primed(update):
            break
    task.close()
    assert not store.exists() or not runs.entries()


def test_a_line_that_was_cut_off_is_left_out(store):
    run = stored()
    runs.log(run, "begun")
    with (runs.find(run) / "events.jsonl").open("a") as f:
        f.write('{"time": 1, "ev')
    assert [e["event"] for e in runs.events(run)] == ["begun"]


def test_whole_files_take_the_place_of_old_ones_or_not_at_all(store, tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), runs.whole(path) as part:
        part.write_bytes(b"ne")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    with runs.whole(path) as part:
        part.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    assert [f.name for f in tmp_path.iterdir() if f.suffix == ".part"] == []


def test_runs_of_older_versions_still_open(store):
    run = distilled()
    folder = runs.find(run)
    for name in ("config.json", "events.jsonl", "frames.bin", "metrics.json"):
        (folder / name).unlink()
    old = {k: v for k, v in runs.read(run).items() if k in ("kind", "experiment", "outcome", "control")}
    runs.write_json(folder / "run.json", old)
    e = runs.entry(run)
    assert (e.kind, e.method, e.data, e.finished, e.owner) == ("distill", "cake", "moons", True, "")
    assert abs(e.created - time.time()) < 3600
    assert Distillation.restore(run).samples.x.shape == (120, 2)
    assert runs.entries(ME) == []
    assert [e.run for e in runs.entries()] == [run]


# -- the list ---------------------------------------------------------------------------------------------------------


def test_a_thousand_runs_are_listed_with_one_file_opened(store, monkeypatch):
    for number in range(1000):
        name = f"20250101-{number:06d}-{number:016x}"
        (store / name).mkdir(parents=True)
        config = {"kind": "distill", "owner": ME if number % 2 else OTHER, "created": number}
        (store / name / "config.json").write_text(json.dumps(config))
        (store / name / "run.json").write_text("{}")
        os.utime(store / name, (number, number))
    first = runs.entries(ME)
    opened = []
    original = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda self, *a, **k: opened.append(self) or original(self, *a, **k))
    assert runs.entries(ME) == first
    assert [p.name for p in opened] == ["index.json"]
    assert [e.created for e in first] == list(range(999, 0, -2))


def test_the_index_follows_every_change(store):
    run = stored()
    long_ago = time.time() - 100
    os.utime(runs.find(run), (long_ago, long_ago))
    assert [e.star for e in runs.entries(ME)] == [False]
    runs.mark(run, ME, star=True)
    assert [e.star for e in runs.entries(ME)] == [True]
    (store / "index.json").write_text("{broken")
    assert [e.star for e in runs.entries(ME)] == [True]
    runs.delete(run, ME)
    assert runs.entries(ME) == []


# -- whose it is ------------------------------------------------------------------------------------------------------


def test_everybody_sees_and_changes_only_their_own(store):
    mine, theirs = stored(ME), stored(OTHER)
    assert [e.run for e in runs.entries(ME)] == [mine]
    assert [e.run for e in runs.entries(OTHER)] == [theirs]
    assert runs.entry(theirs).owner == OTHER  # who knows its id may open it
    for change in (runs.delete, lambda run, key: runs.mark(run, key, star=True)):
        with pytest.raises(CakeError, match="somebody else"):
            change(theirs, ME)
    runs.delete(theirs, OTHER)
    with pytest.raises(CakeError, match="somebody else"):
        runs.undelete(theirs, ME)


def test_sessions_of_one_browser_share_runs_and_nobody_can_pose_as_them():
    assert runs.key_of("secret.1") == runs.key_of("secret.2") != runs.key_of("other.1")
    assert "secret" not in runs.key_of("secret.1")
    assert runs.key_of(runs.key_of("secret.1")) != runs.key_of("secret.1")
    assert runs.key_of("") == ""


# -- deleting and making room -----------------------------------------------------------------------------------------


def test_a_deletion_can_be_undone_for_an_hour(store):
    run = stored()
    before = {f.name: f.read_bytes() for f in runs.find(run).iterdir()}
    runs.delete(run, ME)
    with pytest.raises(CakeError, match="no such run"):
        runs.find(run)
    runs.undelete(run, ME)
    assert {f.name: f.read_bytes() for f in runs.find(run).iterdir()} == before
    runs.delete(run, ME)
    old = time.time() - 3601
    os.utime(store / "trash" / run, (old, old))
    runs.empty_trash()
    with pytest.raises(CakeError, match="gone for good"):
        runs.undelete(run, ME)


def test_the_oldest_without_a_star_make_way(store, monkeypatch):
    names = [stored() for _ in range(4)]
    foreign = stored("")  # of the command line
    for number, run in enumerate([*names, foreign]):
        (runs.find(run) / "samples.safetensors").write_bytes(bytes(1_000_000))
        config = runs.begun(run)
        runs.write_json(runs.find(run) / "config.json", {**config, "created": number})
    runs.mark(names[0], ME, star=True)
    monkeypatch.setenv("CAKE_MAX_RUNS_GB", "0.0035")
    new = stored()
    left = {e.run for e in runs.entries()}
    assert left == {names[0], names[3], foreign, new}
    monkeypatch.setenv("CAKE_MAX_RUNS_GB", "0.0019")
    with pytest.raises(CakeError, match="The space for runs is full"):
        stored()


def test_what_was_made_on_demand_goes_after_an_hour(store):
    one, other = stored(), stored()
    (runs.made(one) / "x").write_text("x")
    old = time.time() - 3601
    os.utime(store / "made" / one, (old, old))
    runs.made(other)
    assert not (store / "made" / one).exists()


def test_notes_have_an_end(store):
    run = stored()
    with pytest.raises(CakeError, match="at most 2,000"):
        runs.mark(run, ME, note="x" * 2001)
    runs.mark(run, ME, note="the best")
    runs.mark(run, ME, star=True)
    assert (runs.entry(run).note, runs.entry(run).star) == ("the best", True)


def test_differences():
    one, two = (
        {"data": {"name": "moons"}, "seed": s, "settings": {"steps": 5, **more}} for s, more in ((0, {"a": 1}), (1, {}))
    )
    assert runs.differences([one, two]) == [("seed", [0, 1]), ("settings.a", [1, None])]
    assert runs.differences([one, one]) == []


# -- the command line -------------------------------------------------------------------------------------------------


def test_the_command_line_keeps_lists_and_deletes(store, capsys):
    words = [f"{k}={v}" for k, v in QUICK.items() if k != "device"]
    assert main(["distill", "--keep", "--set", *words, "--json", "-"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["kept"]
    assert main(["runs", "--json", "-"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["run"], row["method"], row["finished"]) == (run, "cake", True)
    assert len(keeping.read_frames(runs.find(run) / "frames.bin")) > 10
    assert main(["runs", "--find", "lake", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["runs", "--delete", run]) == 0
    assert "there are none" in capsys.readouterr().err
    assert main(["runs", "--undelete", run]) == 0
    assert run in capsys.readouterr().out
    assert main(["distill", "--edit", "five"]) == 2
    assert "--edit takes N:KEY=VALUE" in capsys.readouterr().err
