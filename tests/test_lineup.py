"""Line-ups: who is in them, nothing computed twice, sums by hand; audits and their reports; the command."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from cake_core import audit, cli, data, lineup, runs, teacher
from cake_core.errors import CakeError
from cake_core.frames import decode
from cake_core.lineup import LineUp, LineUpConfig, Suspect, everyone, hidden, summary, verdicts
from cake_core.tasks import find

QUICK = {"teachers": 2, "teacher_updates": 40, "updates": 20, "batches": 1, "nulls": 2, "device": "cpu"}
PROBES = {"count": 8, "steps": 3}


def config(**changes) -> LineUpConfig:
    return LineUpConfig.from_dict({**QUICK, "probes": PROBES, **changes})


@pytest.fixture
def trained(monkeypatch) -> list[str]:
    """What has been trained, in order."""
    begun = []
    for name in ("TeacherTraining", "StudentTraining"):

        class Counted(getattr(lineup, name)):
            what = name

            def __init__(self, *args, **options):
                begun.append(self.what)
                super().__init__(*args, **options)

        monkeypatch.setattr(lineup, name, Counted)
    return begun


def test_everyone_and_the_hidden():
    all_of_them = everyone(config(), ("kd", "outsider", "scratch"), 2)
    assert [s.truth for s in all_of_them] == [0, 1, None, None, None] * 2
    assert [s.teacher for s in all_of_them if s.kind == "outsider"] == [2, 3]  # behind the line-up
    assert len({s.seed for s in all_of_them if s.kind == "scratch"}) == 4
    game = hidden(config(), ("kd", "scratch"), 5)
    assert game == hidden(config(), ("kd", "scratch"), 5)
    assert sum(s.kind == "scratch" for s in game) == 1
    assert len({tuple(hidden(config(seed=k), ("kd", "scratch"), 5)) for k in range(9)}) > 1
    with pytest.raises(CakeError, match="can't be of kind 'pie'"):
        everyone(config(), ("pie",))


@pytest.mark.long
def test_a_student_of_few_calls_is_one_more_kind(tmp_path, monkeypatch):
    monkeypatch.setenv("CAKE_RUNS_DIR", str(tmp_path))
    settings = config(data={"name": "moons"}, updates=60)
    run = LineUp(settings, [Suspect("aspkd", 1)], probes=("noise",), scores=("kl",), counts=(8,))
    progress = [u.progress for u in run]
    assert progress == sorted(progress)
    assert run.suspects[0].truth == 1
    assert run.students[0].card.accuracy.value > 0.6  # of two classes; it never saw a label


@pytest.mark.long
def test_a_line_up_is_made_once(tmp_path, trained):
    suspects = [Suspect("kd", 1), Suspect("cake", 0), Suspect("outsider", 2), Suspect("scratch", None)]
    wanted = {"probes": ("direct", "generator", "real", "other", "surest", "noise"), "scores": ("kl", "cka", "mmd")}
    run = LineUp(config(), suspects, folder=tmp_path, counts=(1, 8, 50), **wanted)
    updates = list(run)
    assert trained.count("TeacherTraining") == 3  # two, and the outsider's
    assert trained.count("StudentTraining") == 6  # four, and two that copied nobody
    progress = [u.progress for u in updates]
    assert progress == sorted(progress)
    assert progress[-1] == 1
    assert run.calls == 8
    # Six sources; KL with 1 and 8 probes, the set scores with 8; four suspects and two nulls.
    assert len(run.rows) == 6 * (2 + 1 + 1) * 6
    assert {r["n"] for r in run.rows} == {1, 8}
    assert all(len(r["raw"]) == len(r["standardised"]) == 2 for r in run.rows)
    assert [r["teacher"] for r in run.rows if (r["probes"], r["n"], r["score"]) == ("noise", 1, "kl")][-4:] == [
        1, 0, None, None,
    ]  # fmt: skip
    assert len(run.clues) == 4
    assert sum(run.clues[0][0]["student"]) == pytest.approx(1, abs=1e-3)
    assert len(run.clues[0][0]["input"][0]) == 8

    again = LineUp(config(), suspects, folder=tmp_path, counts=(1, 8, 50), **wanted)
    list(again)
    assert again.rows == run.rows
    assert len(trained) == 9


def test_it_goes_on_where_it_stopped(tmp_path, trained):
    first = LineUp(config(), [Suspect("kd", 0)], folder=tmp_path)
    while len(first.teachers) < 2:
        next(first)
    first.close()
    list(LineUp(config(), [Suspect("kd", 0)], folder=tmp_path))
    assert trained.count("TeacherTraining") == 2


def test_nonsense_is_refused_before_anything_is_computed():
    with pytest.raises(CakeError, match="There are no probes 'pie'"):
        LineUp(config(), [Suspect("kd", 0)], probes=("pie",))
    with pytest.raises(CakeError, match="nobody to judge"):
        LineUp(config(), [])
    with pytest.raises(CakeError, match="takes images"):
        LineUp(config(data={"name": "moons"}, student="lenet5"), [Suspect("kd", 0)])


def test_points_have_line_ups_too(tmp_path):
    run = LineUp(config(data={"name": "moons", "points": 200}), [Suspect("kd", 0)], probes=("direct", "other"))
    list(run)
    assert len(run.clues[0][0]["input"]) == 2
    assert len(run.clues[0]) == 8


def row(suspect, teacher_of, raw, kind="kd"):
    told = {"probes": "direct", "n": 1, "score": "kl", "run": 0, "standardised": raw}
    return {"suspect": suspect, "kind": kind, "teacher": teacher_of, "seed": 0, "accuracy": 1.0, "raw": raw, **told}


def test_sums_by_hand():
    rows = [
        row(None, None, [0.5, 1.0], "scratch"),
        row(None, None, [0.2, 0.1], "scratch"),
        row(0, 0, [3.0, 1.0]),  # right, and further ahead than by 0.5
        row(1, 1, [0.5, 0.9]),  # right, and no further
        row(2, 0, [1.0, 2.0], "cake"),  # wrong, and further
        row(3, None, [0.1, 1.1], "scratch"),  # a false alarm
        row(4, None, [0.1, 0.3], "scratch"),
    ]
    (line,) = summary(rows)
    assert line["accuracy"] == pytest.approx(2 / 3)
    assert line["accuracy_n"] == 3
    assert line["found"] == pytest.approx(1 / 3)
    assert line["false_alarms"] == 0.5
    assert line["by_kind"]["kd"]["accuracy"] == 1
    assert line["by_kind"]["cake"]["accuracy"] == 0
    assert line["published"] == (0.62, 0.75)
    low, high = line["accuracy_interval"]
    assert low < 2 / 3 < high
    # The true teachers' shares of the softmax are 0.88, 0.60 and 0.27; the wrong ones' 0.12, 0.40 and 0.73.
    assert line["auc"] == pytest.approx(6 / 9)
    found = verdicts(rows, 1, "kl", "direct")
    assert [v["named"] for v in found] == [0, None, 1, 1, None]
    assert found[0]["margin"] == 2
    assert found[0]["needed"] == 1.5
    assert summary([r for r in rows if r["suspect"] is not None])[0]["found"] is None  # nobody set a threshold


def test_the_game_on_points_shows_every_boundary():
    """And what is shown while it runs says nothing about who copied whom."""
    settings = config(data={"name": "moons", "points": 200}, probes={"count": 12, "steps": 2})
    task = find("lineup")(config=settings.to_dict(), kinds=["kd", "scratch"], suspects=2)
    frames = [frame for update in task if (frame := task.frame(update, 0, update.progress >= 1))]
    shown = json.dumps([decode(f)[0].get("figure") for f in frames])
    assert "Suspect B" in shown
    assert "kd" not in shown
    result = json.loads(json.dumps(task.finish()))
    assert len(result["boundaries"]) == 4  # two teachers, two suspects
    assert len(result["clues"][0]) == 12
    assert {t["kind"] for t in result["truth"]} == {"kd", "scratch"}
    for name in result["teachers"]:
        assert teacher.card(name).data["name"] == "moons"
    assert runs.read(result["run"])["kind"] == "lineup"


def test_an_audit_names_the_copy(tmp_path):
    """A student whose weights are a shipped teacher's own is found; the report says so, with its limits."""
    network = teacher.load("digits/resnet4").network
    path = tmp_path / "mine.safetensors"
    save_file(network.state_dict(), path)
    settings = config(nulls=1, updates=2, probes={"count": 10, "steps": 2})
    names = ["digits/lenet5", "digits/resnet4"]
    run = audit.audit(path, "mine.safetensors", "resnet4", names, settings)
    list(run)
    found = json.loads(json.dumps(audit.findings(run, ["the LeNet", "the ResNet"])))
    assert found["verdicts"]["direct"]["kl"]["named"] == 1
    assert found["accuracy"]["n"] == 500
    assert found["calls"] == 10
    text = audit.report(found)
    assert "**Copied from the ResNet, most likely:" in text
    assert found["sha256"] in text
    assert "noise as probes (control)" in text
    for limit in audit.LIMITS:
        assert limit in text
    run.close()


def test_without_nulls_an_audit_says_what_it_cannot(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_file(teacher.load("digits/lenet5").network.state_dict(), path)
    settings = config(nulls=0, probes={"count": 4, "steps": 1})
    run = audit.audit(path, "mine.safetensors", "lenet5", ["digits/resnet4", "digits/lenet5"], settings)
    list(run)
    text = audit.report(audit.findings(run, ["the ResNet", "the LeNet"]))
    assert "Without students that copied nobody it can't be said whether that is much" in text


def test_an_audit_refuses_what_makes_no_sense(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_file(teacher.load("digits/lenet5").network.state_dict(), path)
    with pytest.raises(CakeError, match="Name at least two"):
        audit.audit(path, "mine.safetensors", "lenet5", ["digits/lenet5"], config())
    with pytest.raises(CakeError, match="learned MNIST"):
        audit.audit(path, "mine.safetensors", "lenet5", ["digits/lenet5", "mnist/lenet5"], config())
    with pytest.raises(CakeError, match="fits LeNet-5"):
        audit.audit(path, "mine.safetensors", "mlp", ["digits/lenet5", "digits/resnet4"], config())
    path.write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(CakeError, match="is a pickle"):
        audit.audit(path, "mine.safetensors", "lenet5", ["digits/lenet5", "digits/resnet4"], config())


def test_the_command(tmp_path):
    words = ["detect", "--data", "digits", "--kinds", "kd", "scratch", "--seeds", "1", "--probes", "direct", "noise"]
    words += ["--scores", "kl", "--out", str(tmp_path), "--json", str(tmp_path / "found.json"), "--set"]
    words += [f"{k}={v}" for k, v in QUICK.items()] + [f"probes.{k}={v}" for k, v in PROBES.items()]
    assert cli.main(words) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert [(s["kind"], s["teacher"]) for s in found["students"]] == [
        ("kd", 0), ("kd", 1), ("scratch", None), ("scratch", None),
    ]  # fmt: skip
    assert found["calls_of_each_teacher"] == 8
    assert found["rows"][0]["accuracy_n"] == 2
    lines = (tmp_path / "detect.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * len(found["rows"])
    assert "accuracy_kd" in lines[0]
    assert cli.main(["detect", "--data", "digits", "--kinds", "pie"]) == 2
    assert runs.folder().is_dir()


@pytest.mark.data
def test_mnist_has_other_images(mnist_folder):
    if not data.info("fashion-mnist").on_disk():
        pytest.skip("Fashion-MNIST is not here")
    found = lineup.others(data.load(data.DataConfig(name="mnist")), 5, torch.Generator().manual_seed(0))
    assert found.shape == (5, 1, 28, 28)
