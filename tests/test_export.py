"""Exports of a run: programs are run and give the same samples, files are opened by other programs."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load, load_file

from cake_core import export, film, models, runs
from cake_core.cli import main
from cake_core.data import info
from cake_core.errors import CakeError
from cake_core.pipeline import Distillation, Experiment
from cake_core.run_tasks import Export
from cake_core.tasks import Distill

ROOT = Path(__file__).parents[1]


def kept(edits: dict[int, dict] | None = None, **flat: str) -> str:
    quick = {"batches": "4", "samples": "30", "steps": "12", "student.updates": "40", "device": "cpu"}
    task = Distill(Experiment.from_query({**quick, **flat}).to_dict(), in_flight=2)
    seen = 0
    for update in task.moments():
        seen += update.snapshot is not None
        if update.snapshot is not None and seen in (edits or {}):
            task.edit(**edits[seen])
    return task.finish()["run"]


@pytest.fixture(scope="module")
def points(runs_folder) -> str:
    """A run with awkward numbers, whose settings were changed twice while it went on."""
    return kept({6: {"step_size": 0.1 + 0.2}, 17: {"step_size": 1 / 30}}, sigma=repr(1 / 3), method="lake")


@pytest.fixture(scope="module")
def images(runs_folder) -> str:
    return kept(data="digits")


def content(run: str, name: str) -> bytes:
    return export.make(run, name)[1]


def run_program(words: list[str], folder: Path) -> str:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(words, cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_same(run: str, path: Path) -> None:
    ours, theirs = load_file(runs.find(run) / "samples.safetensors"), load_file(path)
    assert set(ours) == set(theirs)
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


# -- programs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["points", "images"])
def test_the_script_gives_the_same_samples(which, tmp_path, request):
    run = request.getfixturevalue(which)
    (tmp_path / "run.py").write_bytes(content(run, "script"))
    out = run_program([sys.executable, "run.py"], tmp_path)
    assert_same(run, tmp_path / "samples.safetensors")
    accuracy = runs.read(run)["outcome"]["student_accuracy"]
    assert f"'student_accuracy': {accuracy}" in out


def test_the_command_gives_the_same_samples(points, tmp_path):
    text = content(points, "command").decode()
    assert text.count("\npython -m cake_core distill") == 1
    words = text.replace("python -m", f"exec {sys.executable} -m")
    run_program(["sh", "-c", words], tmp_path)
    assert_same(points, tmp_path / "made-again" / "samples.safetensors")
    theirs = load_file(tmp_path / "made-again" / "student.safetensors")
    for name, ours in load_file(runs.find(points) / "student.safetensors").items():
        assert torch.equal(ours, theirs[name])


def test_the_notebook_gives_the_same_samples(points, tmp_path, monkeypatch):
    book = nbformat.reads(content(points, "notebook").decode(), as_version=4)
    nbformat.validate(book)
    monkeypatch.chdir(tmp_path)
    threads, names = torch.get_num_threads(), {}
    try:
        for cell in book.cells:
            if cell.cell_type == "code":
                exec(compile(cell.source, cell.id, "exec"), names)
    finally:
        torch.set_num_threads(threads)
    assert_same(points, tmp_path / "samples.safetensors")


def test_programs_are_exact_and_say_what_they_need(points):
    stored = export.Stored(points)
    assert Experiment.from_query(stored.flat) == stored.experiment
    assert stored.experiment.settings.sigma == 1 / 3
    text = content(points, "script").decode()
    assert "edits=[(6, {'step_size': 0.30000000000000004}), (17, {'step_size': 0.03333333333333333})]" in text
    assert f"Run {points}, made by CAKE Lab" in text
    compile(text, "run.py", "exec")


# -- tables and pictures ----------------------------------------------------------------------------------------------


def test_tables(points):
    rows = list(csv.DictReader(io.StringIO(content(points, "numbers").decode())))
    outcome = runs.read(points)["outcome"]
    assert [r["student"] for r in rows] == ["samples", "noise only"]
    assert float(rows[0]["student_accuracy"]) == outcome["student_accuracy"]
    assert float(rows[0]["agreement_high"]) == outcome["agreement_interval"][1]
    curves, found = runs.metrics(points)["curves"], {}
    for row in csv.DictReader(io.StringIO(content(points, "losses").decode())):
        found.setdefault((row["stage"], row["name"]), []).append((int(row["step"]), float(row["value"])))
    assert found["synthesis", "contrast"] == list(
        zip(curves["synthesis"]["step"], curves["synthesis"]["contrast"], strict=True)
    )


@pytest.mark.parametrize("which", ["points", "images"])
def test_pictures_open(which, request):
    run = request.getfixturevalue(which)
    picture = Image.open(io.BytesIO(content(run, "png")))
    messages = export.Stored(run).messages
    assert np.array_equal(np.asarray(picture), np.asarray(film.last_picture(messages[0], messages[1:])))
    for name in ("svg", "curves"):
        tree = ElementTree.fromstring(content(run, name))
        assert tree.tag == "{http://www.w3.org/2000/svg}svg"
    assert Image.open(io.BytesIO(content(run, "gif"))).n_frames > 5
    assert content(run, "mp4")[4:8] == b"ftyp"


def test_the_svg_has_every_point_in_its_place(points):
    """The circles stand where the samples lie: x from left, y from below, over two half widths."""
    tree = ElementTree.fromstring(content(points, "svg"))
    circles = [(float(c.get("cx")) / 480, 1 - float(c.get("cy")) / 480) for c in tree.findall("{*}circle")]
    run = Distillation.restore(points)
    x = run.samples.x[-len(circles) :].double() / run.dataset.half_width  # the last two mini-batches are shown
    wanted = ((x + 1) / 2).tolist()
    assert len(circles) == 60
    assert np.allclose(circles, wanted, atol=2e-3)


def test_the_curves_svg_ends_where_the_losses_end(points):
    tree = ElementTree.fromstring(content(points, "curves"))
    lines = tree.findall("{*}polyline")
    curves = runs.metrics(points)["curves"]
    assert len(lines) == sum(len(c) - 1 for c in curves.values())
    for line, values in zip(lines, (v for c in curves.values() for k, v in c.items() if k != "step"), strict=True):
        ys = [float(p.split(",")[1]) for p in line.get("points").split()]
        assert len(ys) == len(values)
        assert int(np.argmin(ys)) == int(np.argmax(values))  # up is more


# -- networks ---------------------------------------------------------------------------------------------------------


def answers(raw: bytes, x: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(raw, providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {"x": x.numpy()})
    return found


@pytest.mark.parametrize("which", ["points", "images"])
def test_onnx_answers_as_torch_does(which, request):
    run = request.getfixturevalue(which)
    restored, raw = Distillation.restore(run), content(run, "onnx")
    onnx.checker.check_model(onnx.load_from_string(raw))
    for n in (1, 7):
        x = restored.samples.x[:n]
        with torch.no_grad():
            wanted = restored.student(x).numpy()
        assert np.allclose(answers(raw, x), wanted, atol=1e-4)
    about = {p.key: p.value for p in onnx.load_from_string(raw).metadata_props}
    assert json.loads(about["classes"]) == list(restored.dataset.info.classes)
    assert np.allclose(json.loads(about["mean"]), restored.dataset.mean.flatten())


@pytest.mark.parametrize("model", ["resnet4-half", "vit3"])
def test_onnx_of_other_architectures(images, model, tmp_path, monkeypatch):
    """Batch normalisation and attention: the run's student is put in the place of one of another architecture."""
    stored = export.Stored(images)
    shape = info("digits").shape
    network = models.build(model, shape, 10, seed=5).eval()
    stored.experiment = stored.experiment.replace(student=stored.experiment.student.replace(model=model))
    stored.folder = tmp_path
    from safetensors.torch import save_file

    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, tmp_path / "student.safetensors")
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert np.allclose(answers(export.onnx(stored), x), network(x).numpy(), atol=1e-4)


# -- all of them ------------------------------------------------------------------------------------------------------


def test_the_zip_holds_all(images):
    with zipfile.ZipFile(io.BytesIO(content(images, "zip"))) as pack:
        names = set(pack.namelist())
        assert {f.file for f in export.FORMATS.values()} <= names
        assert {"teacher.safetensors", "config.json", "events.jsonl", "run.json", "README.txt"} <= names
        assert "owner" not in json.loads(pack.read("config.json"))
        assert set(load(pack.read("student.safetensors"))) == set(load(content(images, "student")))


def test_the_command_line_writes_files(points, tmp_path, capsys):
    assert main(["export", points, "--out", str(tmp_path / "x"), "--what", "script", "png", "--json", "-"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["export"], r["missing"]) for r in rows] == [("script", ""), ("png", "")]
    assert {p.name: p.stat().st_size for p in (tmp_path / "x").iterdir()} == {
        "run.py": rows[0]["bytes"],
        "samples.png": rows[1]["bytes"],
    }
    assert main(["export", points, "--out", str(tmp_path), "--what", "pdf"]) == 2
    assert "There is no export 'pdf'. Choose among: script," in capsys.readouterr().err
    assert main(["export", "20250101-000000-0123456789abcdef", "--out", str(tmp_path)]) == 2
    assert "There is no such run" in capsys.readouterr().err


def test_old_runs_give_what_they_can(tmp_path):
    run = kept()
    for name in ("config.json", "events.jsonl", "frames.bin", "metrics.json"):
        (runs.find(run) / name).unlink()
    old = {k: v for k, v in runs.read(run).items() if k in ("kind", "experiment", "outcome", "control")}
    runs.write_json(runs.find(run) / "run.json", old)
    rows = export.write(run, export.FORMATS, tmp_path)
    missing = {r["export"] for r in rows if r["missing"]}
    assert missing == {"losses", "png", "svg", "curves", "gif", "mp4"}
    with pytest.raises(CakeError, match="an older version made it"):
        export.make(run, "gif")
    with zipfile.ZipFile(io.BytesIO(content(run, "zip"))) as pack:
        assert "samples.gif is missing. This run has kept no pictures" in pack.read("README.txt").decode()
    subprocess.run([sys.executable, "-m", "py_compile", str(tmp_path / "run.py")], check=True)


def test_the_task_makes_a_file_that_waits(points):
    task = Export(points, "gif")
    assert [u.progress for u in task] == [1.0]
    result = task.finish()
    assert (runs.made(points) / result["file"]).read_bytes() == content(points, "gif")


def test_a_file_that_is_too_large_is_refused_with_the_limit(points, monkeypatch):
    monkeypatch.setenv("CAKE_MAX_EXPORT_MB", "1")
    monkeypatch.setattr(export, "make", lambda run, what: ("run.zip", bytes(1_200_000)))
    task = Export(points, "zip")
    with pytest.raises(
        CakeError, match=r"has 1 MB, .+ hands out 1 MB at a time \(CAKE_MAX_EXPORT_MB\)\. Take the parts"
    ):
        next(task)
    assert not (runs.made(points) / "run.zip").exists()


def test_what_is_no_finished_distillation_is_refused(runs_folder):
    run = runs.create(kind="distill")
    with pytest.raises(CakeError, match="did not finish"):
        export.make(run, "script")
    runs.write_json(runs.find(run) / "run.json", {"kind": "teacher"})
    with pytest.raises(CakeError, match="Only a finished distillation"):
        export.make(run, "script")


def test_the_report_holds_plotly_once_and_asks_nobody(points):
    text = content(points, "report").decode()
    assert text.count("plotly.js v") == 1
    head = text[: text.index("<script>")] + text[text.index("</script>") :]
    for word in ("http://", "https://", 'src="/', "@import", '<link rel="stylesheet'):
        assert word not in head, word
    runs.mark(points, None, note="<b>bold</b>")
    assert "&lt;b&gt;bold&lt;/b&gt;" in content(points, "report").decode()
