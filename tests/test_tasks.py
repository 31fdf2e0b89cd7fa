"""Tasks: what each delivers when the worker has driven it to its end."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.torch import load_file

import cake_core.frames
from cake_core import data, evaluation, models, runs, tasks
from cake_core.comparison import SOURCES
from cake_core.embedding import Embedding
from cake_core.errors import CakeError
from cake_core.frames import decode
from cake_core.history import History
from cake_core.pipeline import Experiment
from cake_core.tasks import find

QUICK = {"batches": "2", "samples": "50", "steps": "5", "student.updates": "50"}


def drive(kind: str, **spec) -> tuple[dict, list[dict]]:
    """What the worker does: steps, frames, and the result as it goes over the wire."""
    task, frames = find(kind)(**spec), []
    for update in task:
        frame = task.frame(update, 0, update.progress >= 1)
        if frame:
            frames.append(decode(frame)[0])
    return json.loads(json.dumps(task.finish())), frames


@pytest.fixture
def finished() -> str:
    experiment = Experiment.from_query({"data": "digits", **QUICK, "samples": "200"})
    return drive("distill", experiment=experiment.to_dict())[0]["run"]


def test_distill_adds_the_control():
    result, frames = drive("distill", experiment=Experiment.from_query(QUICK).to_dict())
    assert result["control"]["samples"] == result["outcome"]["samples"] == 100
    assert result["control"]["gradient_calls"] == 0
    assert [f["progress"] for f in frames] == sorted(f["progress"] for f in frames)
    stored = runs.read(result["run"])
    assert stored["kind"] == "distill"
    assert stored["outcome"] == result["outcome"]


@pytest.mark.parametrize("name", ["moons", "digits"])
def test_the_last_picture_has_the_student_that_was_judged(name, monkeypatch):
    """Also where another one was drawn a moment ago: here no time goes by at all."""
    monkeypatch.setattr(cake_core.frames, "time", SimpleNamespace(monotonic=lambda: 0.0))
    experiment = Experiment.from_query({"data": name, **QUICK, "student.updates": "500"})
    task, accuracies, surfaces = find("distill")(experiment=experiment.to_dict()), [], []
    for update in task:
        if frame := task.frame(update, 0, update.progress >= 1):
            header, arrays = decode(frame)
            accuracies.append(header["values"].get("student_accuracy"))
            surfaces += [arrays["student"]] if "student" in arrays else []
    run = task.run
    assert accuracies[-1] == run.outcome.student_accuracy.value
    if name == "digits":
        assert len({*accuracies} - {None}) == 2  # the first and the last
    else:
        assert len(surfaces) == 2
        of_student = evaluation.predict(run.student, evaluation.grid(run.dataset.half_width, len(surfaces[1])))
        assert np.abs(surfaces[1].reshape(-1, 2) / 255 - of_student.softmax(dim=1).numpy()).max() < 0.003


def test_the_control_of_noise_is_itself():
    experiment = Experiment.from_query({"method": "noise", "batches": "2", "samples": "50", "student.updates": "50"})
    assert drive("distill", experiment=experiment.to_dict())[0]["control"] is None


def test_teacher():
    spec = {"model": "mlp", "settings": {"updates": "100"}, "seed": 0, "device": "cpu"}
    result, frames = drive("teacher", data_config={"name": "blobs", "points": 200}, **spec)
    assert len(result["classes"]) == 3
    assert sum(map(sum, result["confusion"])) == 200
    accuracy = result["card"]["accuracy"]["value"]
    assert frames[-1]["values"]["accuracy"] == pytest.approx(accuracy)
    # It can be copied from now on.
    experiment = {"data": {"name": "blobs", "points": 200}, "teacher": f"run:{result['run']}"}
    assert tasks.Distill(experiment).run.experiment.teacher.startswith("run:")


def test_inspect():
    result, _ = drive("inspect", teacher="digits/lenet5")
    assert len(result["mistakes"]) == 12
    assert len(result["mistakes"][0]["pixels"][0]) == 8
    with pytest.raises(CakeError, match="There is no teacher"):
        find("inspect")(teacher="digits/gpt")


def test_students(finished):
    result, frames = drive("students", run=finished, student={"model": "mlp", "updates": 40}, seeds=2)
    kinds = ["samples", "noise", "kd", "labels"]
    assert [(r["source"], r["seeds"]) for r in result["summary"]] == [(k, 2) for k in kinds]
    assert result["teacher_accuracy"]["n"] == 500
    assert len(frames[-1]["figure"]) == 4
    # Mean and its band for each kind.
    assert [t.get("name") for t in frames[-1]["figure"][2]["data"] if t.get("name")] == [SOURCES[k] for k in kinds]
    stored = runs.read(result["run"])
    assert stored["rows"] == result["rows"]
    assert {(p["source"], p["seed"]) for p in stored["curves"]} == {(k, s) for k in kinds for s in (0, 1)}


def test_a_students_weights_can_be_loaded(finished):
    """What is downloaded is the student of the first seed, and answers as the confusion matrix says."""
    spec = {"student": {"model": "mlp", "updates": 40}, "seeds": 1, "sources": ["labels"]}
    result, _ = drive("students", run=finished, **spec, kd={"temperature": 2.0, "weight": 0.5})
    assert result["kd"] == {"temperature": 2.0, "weight": 0.5}
    low, high = result["summary"][0]["accuracy_interval"]  # one seed: n and interval instead of a spread
    assert low < result["summary"][0]["accuracy_mean"] < high
    digits = data.load(data.DataConfig(name="digits"))
    for row in result["rows"]:
        network = models.build("mlp", (1, 8, 8), 10).eval()
        network.load_state_dict(load_file(runs.find(result["run"]) / f"{row['source']}.safetensors"))
        logits = evaluation.predict(network, digits.test_x, digits.inputs)
        assert evaluation.accuracy(logits, digits.test_y).value == pytest.approx(row["accuracy"])


def test_parameters_are_counted_without_making_the_networks():
    result, _ = drive("parameters", data_name="digits")
    fitting = [m.name for m in models.MODELS.values() if "images" in m.kinds]
    assert list(result["parameters"]) == fitting
    for name in ("lenet5-half", "resnet4", "vit3"):
        assert result["parameters"][name] == models.parameter_count(models.build(name, (1, 8, 8), 10))
    assert list(drive("parameters", data_name="moons")[0]["parameters"]) == ["mlp", "mlp-norm", "linear"]


def test_embedding(finished):
    spec = {"run": finished, "network": "student", "how": "pca", "dimensions": 3}
    result, _ = drive("embedding", **spec)
    assert 0 < result.pop("explained") <= 1
    assert result == {"real": 500, "synthetic": 400, "tracked": 200, "moments": [0, 1, 2, 3, 4, 5]}
    task = find("embedding")(**spec)
    assert task.scene() is None
    notes = [update.note for update in task]
    assert notes[0] == "Reading the run"
    assert notes[1] == "Features of 1,900 inputs"
    found = Embedding.decode(task.scene())
    assert found.position.shape == (500 + 400 + 5 * 200, 3)
    with pytest.raises(CakeError, match="teacher or student"):
        find("embedding")(run=finished, network="neighbour", how="pca", dimensions=2)
    with pytest.raises(CakeError, match="There is no such run"):
        find("embedding")(run="nope", network="student", how="pca", dimensions=2)


def test_embedding_of_a_run_without_history(finished):
    History.path(runs.find(finished)).unlink()
    result, _ = drive("embedding", run=finished, network="teacher", how="pca", dimensions=2)
    assert (result["synthetic"], result["tracked"], result["moments"]) == (400, 0, [])


def test_compare():
    experiment = Experiment.from_query(QUICK).to_dict()
    result, frames = drive("compare", experiment=experiment, methods=["cake", "noise"], seeds=2)
    assert [(r["method"], r["seeds"]) for r in result["summary"]] == [("cake", 2), ("noise", 2)]
    assert len(result["rows"]) == 4
    figure = frames[-1]["figure"]
    assert figure[0]["data"][0]["x"] == ["CAKE", "Noise only"]
    assert runs.read(result["run"])["rows"] == result["rows"]


def test_compare_networks(monkeypatch, tmp_path):
    monkeypatch.setattr(runs, "folder", lambda: tmp_path)
    experiment = Experiment.from_query(QUICK).to_dict()
    spec = {"teachers": ["moons/mlp"], "students": ["mlp"], "seeds": 2, "student": {"updates": 20}}
    result, frames = drive("grid", experiment=experiment, **spec)
    assert [(r["method"], r["seeds"]) for r in result["summary"]] == [("cake", 2), ("noise", 1)]
    assert result["titles"] == {"moons/mlp": "MLP", "mlp": "MLP"}
    [figure] = frames[-1]["figure"]
    assert figure["data"][0]["x"] == ["taught by MLP"]
    assert frames[-1]["step"] == frames[-1]["total"] == 3
    assert runs.read(result["run"])["rows"] == result["rows"]


def test_what_cannot_change_says_so(finished):
    task = find("students")(run=finished, student={"model": "mlp"}, seeds=1)
    with pytest.raises(CakeError, match="can't change while it runs"):
        task.edit(updates=3)
