"""Teachers of one's own: kept under a name that any process finds, judged, tried, and copied without data."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cake_core import cli, data, imports, inbox, models, runs, teacher
from cake_core.data import DataConfig, own
from cake_core.errors import CakeError
from cake_core.evaluation import Rate
from cake_core.imports import Brought, Normalisation, TeacherImport
from cake_core.pipeline import Distillation, Experiment
from cake_core.tasks import find

from .test_onnx_network import export

DIGITS = DataConfig(name="digits")
QUICK = {"batches": "5", "samples": "40", "steps": "4", "student.updates": "40", "student": "mlp"}


@pytest.fixture
def digits_file(tmp_path) -> Path:
    """The shipped teacher of digits as somebody's file."""
    path = tmp_path / "mine.safetensors"
    shutil.copy(teacher.SHIPPED_FOLDER / "digits" / "lenet5.safetensors", path)
    return path


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory) -> Path:
    return export(teacher.load("digits/lenet5").network, tmp_path_factory.mktemp("onnx") / "digits.onnx")


def brought(path: Path, **changes) -> Brought:
    values = {"data": DIGITS, "model": "" if path.suffix == ".onnx" else "lenet5", **changes}
    return Brought(path, path.name, **values)


def finish(b: Brought) -> TeacherImport:
    run = TeacherImport(b)
    assert len(list(run)) >= 4
    return run


def something(**changes) -> dict:
    return {"data": None, "title": "Signs", "classes": tuple("abcdefghij"), "shape": (1, 8, 8), **changes}


# -- importing --------------------------------------------------------------------------------------------------------


def test_safetensors_are_kept_as_they_came(digits_file):
    run = finish(brought(digits_file))
    name = f"run:{run.run}"
    card = teacher.card(name)
    assert (card.name, card.origin, card.file, card.format) == (name, "imported", "mine.safetensors", "safetensors")
    assert card.title == "LeNet-5 on Digits (8x8)"
    assert card.accuracy == teacher.shipped()["digits/lenet5"].accuracy
    assert card.parameters == 61_706
    assert card.rescaling is None
    assert (runs.find(run.run) / "teacher.safetensors").read_bytes() == digits_file.read_bytes()
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(teacher.load(name).network(x), teacher.load("digits/lenet5").network(x))


def test_onnx_is_found_by_any_process(onnx_file):
    run = finish(brought(onnx_file))
    name = f"run:{run.run}"
    assert teacher.card(name).title == "ONNX network on Digits (8x8)"
    code = (
        "import sys, torch; from cake_core import teacher; "
        "print(teacher.load(sys.argv[1]).network(torch.ones(1, 1, 8, 8)).argmax().item())"
    )
    done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=True)
    expected = teacher.load("digits/lenet5").network(torch.ones(1, 1, 8, 8)).argmax().item()
    assert int(done.stdout) == expected


def test_the_app_starts_without_the_converter():
    """onnx and its converter are imported when an ONNX file is, and not before."""
    code = "import sys, cake_core.tasks, cake_core.cli; print([m for m in sys.modules if m.startswith('onnx')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_changed_weights_are_not_loaded(onnx_file):
    run = finish(brought(onnx_file))
    path = runs.find(run.run) / "teacher.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(CakeError, match=r"teacher.onnx does not match its card.*import the teacher again"):
        teacher.load(f"run:{run.run}")


def test_shipped_cards_are_those_of_trained_teachers():
    assert {(c.origin, c.format, c.rescaling) for c in teacher.shipped().values()} == {("trained", "safetensors", None)}


@pytest.mark.parametrize("preset", ["unit", "half", "bytes", "custom"])
def test_another_normalisation_gives_the_same_answers(tmp_path, preset):
    """A network that wants other inputs is the shipped one behind the inverse layer; both together change nothing."""
    shipped, dataset = teacher.load("digits/lenet5").network, data.load(DIGITS)
    n = Normalisation("custom", (0.2,), (3.0,)) if preset == "custom" else Normalisation(preset)
    mean, std = (torch.tensor(v) for v in n.numbers((1, 8, 8)))
    # w * (p - m) / s of the app becomes w' * (p - m') / s' of theirs: fold the change into the first convolution.
    first = next(m for m in shipped.modules() if isinstance(m, torch.nn.Conv2d))
    with torch.no_grad():
        scale, shift = std / dataset.std.flatten(), (mean - dataset.mean.flatten()) / dataset.std.flatten()
        first.bias += (first.weight * shift.view(-1, 1, 1)).sum(dim=(1, 2, 3))
        first.weight *= scale.view(-1, 1, 1)
    path = tmp_path / "other.safetensors"
    save_file(shipped.state_dict(), path)
    card = finish(brought(path, normalisation=n)).teacher.card
    assert card.accuracy == teacher.shipped()["digits/lenet5"].accuracy
    assert card.normalisation["preset"] == preset
    x = dataset.inputs(dataset.test_x[:50])
    ours, theirs = (teacher.load(name).network(x) for name in ("digits/lenet5", card.name))
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("normalisation", "sentence"),
    [
        (Normalisation("rgb"), "'rgb' is no normalisation"),
        (Normalisation("imagenet"), "has 3 means and 3 deviations; inputs with 1 channel need"),
        (Normalisation("custom", (0.5,), (0.0,)), "above 0"),
        (Normalisation("custom", (float("nan"),), (1.0,)), "one for all"),
        (Normalisation("custom"), "has 0 means"),
    ],
)
def test_a_normalisation_that_makes_no_sense_is_refused(digits_file, normalisation, sentence):
    with pytest.raises(CakeError, match=sentence):
        TeacherImport(brought(digits_file, normalisation=normalisation))


def test_normalisations_for_three_channels_and_for_points():
    n = Normalisation("imagenet")
    assert n.numbers((3, 32, 32)) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert Normalisation("half").numbers((3, 32, 32)) == ((0.5,) * 3, (0.5,) * 3)
    with pytest.raises(CakeError, match="Choose: data, unit, custom"):
        Normalisation("half").numbers((2,))
    # By hand: pixels 0.8 with m = 0.5, s = 0.2 are x = 1.5; wanted are (0.8 - 0.3) / 0.4 = 1.25.
    r = Normalisation("custom", (0.3,), (0.4,)).rescaling(torch.tensor([0.5]), torch.tensor([0.2]), (1, 8, 8))
    assert r["scale"][0] * 1.5 + r["shift"][0] == pytest.approx(1.25)


def test_refusals_leave_nothing_behind(tmp_path, digits_file, onnx_file):
    before = set(runs.folder().iterdir()), set(own.folder().glob("*"))
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(digits_file.read_bytes()[:-10])
    for b, sentence in (
        (brought(cut), "cut short"),
        (brought(digits_file, model=""), "holds weights alone. Choose the architecture"),
        (brought(digits_file, model="cnn"), "the file fits LeNet-5"),
        (brought(onnx_file, data=None, **{k: v for k, v in something(classes=tuple("abc")).items() if k != "data"},
                 normalisation=Normalisation("unit")), "there are 3 classes"),
    ):  # fmt: skip
        run = TeacherImport(b)
        with pytest.raises(CakeError, match=sentence):
            list(run)
    cancelled = TeacherImport(brought(onnx_file, **something(), normalisation=Normalisation("unit")))
    for _ in range(3):
        next(cancelled)
    cancelled.close()
    assert (set(runs.folder().iterdir()), set(own.folder().glob("*"))) == before


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": "gpt"}, "There is no model 'gpt'"),
        (something(classes=("a",), normalisation=Normalisation("unit")), "at least two classes"),
        (something(classes=("a", "a"), normalisation=Normalisation("unit")), "a name of its own"),
        (something(shape=(8, 8), normalisation=Normalisation("unit")), "channels, height and width"),
        (something(), "Without a data set there is no normalisation"),
    ],
)
def test_what_is_said_is_checked_before_the_file_is_read(tmp_path, changes, sentence):
    with pytest.raises(CakeError, match=sentence):
        TeacherImport(brought(tmp_path / "nowhere.safetensors", **changes))


def test_points_keep_their_noise(tmp_path):
    path = tmp_path / "moons.safetensors"
    shutil.copy(teacher.SHIPPED_FOLDER / "moons" / "mlp.safetensors", path)
    run = finish(Brought(path, path.name, DataConfig(noise=0.3), "mlp"))
    assert run.teacher.card.data["noise"] == 0.3
    assert run.teacher.card.accuracy.n == 2000
    seen = imports.report(run.teacher, None, torch.device("cpu"))
    assert len(seen["surface"]["points"]) == 500


# -- trying ------------------------------------------------------------------------------------------------------------


def test_a_doubt_where_chance_would_do_as_well():
    assert "guessing gets 10.0 %" in imports.doubt(Rate.of(11, 100), 10)
    assert imports.doubt(Rate.of(30, 100), 10) == ""
    assert "guessing gets 50.0 %" in imports.doubt(Rate.of(54, 100), 2)
    assert imports.doubt(None, 10) == ""


def test_classes_in_another_order_are_doubted(tmp_path):
    network = teacher.load("digits/lenet5").network
    with torch.no_grad():
        for value in (network.head.weight, network.head.bias):
            value.copy_(value.roll(1, dims=0))
    path = tmp_path / "rolled.safetensors"
    save_file(network.state_dict(), path)
    result = finish(brought(path)).keep()
    assert result["card"]["accuracy"]["value"] < 0.1
    assert "classes stand in another order" in result["doubt"]


def test_a_picture_is_tried_as_the_teacher_gets_it(tmp_path, digits_file):
    dataset = data.load(DIGITS)
    raw, label = dataset.test_x[3], dataset.info.classes[dataset.test_y[3]]
    path = tmp_path / "digit.png"
    Image.fromarray(raw[0].numpy()).save(path)
    example = imports.example(path, None, (1, 8, 8))
    assert torch.equal(example.raw, raw)
    assert example.changed == ""
    result = finish(brought(digits_file)).keep(example)
    assert result["tried"]["answers"][0][0] == label
    assert sum(p for _, p in result["tried"]["answers"]) <= 1.0001
    Image.new("RGB", (40, 20), (255, 0, 0)).save(path)
    assert imports.example(path, None, (1, 8, 8)).changed == "made 8 x 8 from 40 x 20"
    red = imports.example(path, None, (3, 10, 20)).raw
    assert red.shape == (3, 10, 20)
    assert red[0].min() == 255 and red[1:].max() == 0


def test_a_picture_that_is_none_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    for content in (b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + bytes(40)):
        path.write_bytes(content)
        with pytest.raises(CakeError, match="no PNG or JPEG that can be read"):
            imports.example(path, None, (1, 8, 8))
    Image.new("L", (100, 100)).save(path)
    monkeypatch.setattr(imports, "MOST_PIXELS", 5000)
    with pytest.raises(CakeError, match="has 100 x 100 pixels. Make it smaller"):
        imports.example(path, None, (1, 8, 8))
    with pytest.raises(CakeError, match="two coordinates"):
        imports.example(None, [1.0, float("inf")], (2,))


# -- without examples ------------------------------------------------------------------------------------------------


@pytest.fixture
def unknown(onnx_file) -> teacher.Teacher:
    """A teacher of something that nobody has the data of."""
    return finish(brought(onnx_file, **something(), normalisation=Normalisation("unit"))).teacher


def test_something_else_becomes_a_data_set_without_examples(unknown):
    info = data.info(unknown.card.data["name"])
    assert (info.title, info.shape, info.classes, info.has_examples) == ("Signs", (1, 8, 8), tuple("abcdefghij"), False)
    assert unknown.card.accuracy is None
    dataset = data.load(unknown.card.data_config)
    p = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    expected = teacher.load("digits/lenet5").network(p.float() / 255)  # this teacher takes pixels from 0 to 1
    torch.testing.assert_close(unknown.network(dataset.inputs(p)), expected, rtol=1e-4, atol=1e-4)
    assert teacher.imported_for(unknown.card.data_config) == unknown.card.name


def test_it_is_copied_and_judged_on_fresh_samples(unknown):
    """Nothing real is here: the agreement is that on samples of another seed, counted by hand; the rest is unknown."""
    experiment = Experiment.from_query({"data": unknown.card.data["name"], **QUICK})
    task = find("distill")(experiment.to_dict())
    for update in task:
        task.frame(update, 0, update.progress >= 1)
    outcome, control = (run.outcome.to_dict() for run in (task.run, task.control))
    for numbers in (outcome, control):
        assert numbers["teacher_accuracy"] is numbers["student_accuracy"] is numbers["calibration_error"] is None
        assert (numbers["judged_on"], numbers["n_test"], numbers["n_judged"]) == ("fresh", 0, 200)
    judge, run = task.run.judge, task.run
    assert task.control.judge is judge  # both on the very same inputs
    assert not (judge.x[:, None] == run.samples.x[None]).flatten(2).all(dim=2).any()  # the student never saw one
    agree = (run.student(judge.x).argmax(dim=1) == run.network(judge.x).argmax(dim=1)).float().mean().item()
    assert outcome["agreement"] == pytest.approx(agree)
    assert outcome["forward_calls"] == run.samples.provenance["forward_calls"]
    result = json.loads(json.dumps(task.finish()))
    restored = Distillation.restore(result["run"])
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(restored.network(x), unknown.network(x))
    for kind, spec in (
        ("students", {"student": {"model": "mlp"}, "seeds": 1}),
        ("embedding", {"network": "teacher", "how": "pca", "dimensions": 2}),
    ):
        with pytest.raises(CakeError, match="Signs has no examples here"):
            find(kind)(run=result["run"], **spec)


def test_what_needs_examples_says_so(unknown):
    config = unknown.card.data_config
    experiment = Experiment.from_dict({"data": config.to_dict()})
    with pytest.raises(CakeError, match="methods can't be compared on it"):
        find("compare")(experiment=experiment.to_dict(), methods=["cake"], seeds=1)
    training = find("teacher")(config.to_dict(), "mlp", {"updates": "5"}, 0, "cpu")
    with pytest.raises(CakeError, match="no teacher can be trained on it"):
        next(training)
    alone = own.create("Alone", "images", (1, 8, 8), ["a", "b"])
    with pytest.raises(CakeError, match="Alone has no examples here, so no teacher can be trained"):
        next(Distillation(Experiment.from_query({"data": alone})))


def test_points_without_examples_have_a_surface(tmp_path):
    network = models.build("mlp", (2,), 3, seed=1)
    path = tmp_path / "plane.safetensors"
    save_file(network.state_dict(), path)
    n = Normalisation("custom", (10.0, 20.0), (2.0, 4.0))
    b = Brought(path, path.name, None, "mlp", n, "Plane", ("a", "b", "c"), (2,))
    run = finish(b)
    example = imports.example(None, [12.0, 16.0], (2,))
    result = run.keep(example)
    assert result["confusion"] is None
    assert result["surface"]["half_width"] == 3.0
    assert result["surface"]["points"] == []
    expected = network(torch.tensor([[1.0, -1.0]])).softmax(dim=1).max().item()  # (12 - 10) / 2, (16 - 20) / 4
    assert result["tried"]["answers"][0][1] == pytest.approx(expected, abs=1e-5)
    quick = {"batches": "2", "samples": "30", "steps": "3", "student.updates": "20"}
    task = find("distill")(Experiment.from_query({"data": run.teacher.card.data["name"], **quick}).to_dict())
    frames = [task.frame(u, 0, u.progress >= 1) for u in task]
    assert task.scene()
    assert any(frames)
    assert task.run.outcome.plane_agreement is not None


# -- task and command line --------------------------------------------------------------------------------------------


def test_the_task_reads_judges_and_drops_the_file(digits_file, tmp_path):
    dataset = data.load(DIGITS)
    picture = tmp_path / "p.png"
    Image.fromarray(dataset.test_x[0, 0].numpy()).save(picture)
    upload, shown = inbox.keep(digits_file.read_bytes()), inbox.keep(picture.read_bytes())
    task = find("import")(upload, "mine.safetensors", DIGITS.to_dict(), "lenet5", {"preset": "data"}, None, shown)
    updates = list(task)
    assert [u.progress for u in updates] == sorted(u.progress for u in updates)
    assert all(task.frame(u, 0, False) is None for u in updates)
    result = json.loads(json.dumps(task.finish()))
    task.close()
    assert result["confusion"] and len(result["mistakes"]) == 12
    assert result["tried"]["answers"][0][0] == dataset.info.classes[dataset.test_y[0]]
    assert runs.read(result["run"])["card"] == result["card"]
    for name in (upload, shown):
        with pytest.raises(CakeError, match="not on the server any more"):
            inbox.find(name)


def test_the_task_drops_the_file_also_when_it_is_refused():
    upload = inbox.keep(b"\x80\x04nonsense")
    task = find("import")(upload, "x.safetensors", DIGITS.to_dict(), "lenet5")
    with pytest.raises(CakeError, match="a pickle"):
        list(task)
    task.close()
    other = inbox.keep(b"")
    with pytest.raises(CakeError, match="There is no model"):
        find("import")(other, "x.safetensors", DIGITS.to_dict(), "gpt")
    for name in (upload, other):
        with pytest.raises(CakeError, match="not on the server"):
            inbox.find(name)


def run_cli(capsys, *words: str) -> tuple[int, dict | None, str]:
    code = cli.main([*words, "--json", "-"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else None, err


def test_import_and_distill_on_the_command_line(capsys, digits_file):
    words = ("import-teacher", "--file", str(digits_file), "--data", "digits", "--model", "lenet5")
    code, card, _ = run_cli(capsys, *words)
    assert code == 0
    assert card["name"].startswith("run:")
    assert card["test_accuracy"] > 0.95 and card["n_test"] == 500
    quick = [f"{k}={v}" for k, v in QUICK.items() if k != "student"]
    code, done, _ = run_cli(
        capsys, "distill", "--data", "digits", "--teacher", card["name"], "--student", "mlp", "--set", *quick
    )
    assert code == 0
    assert done["runs"][0]["teacher_accuracy"] == card["test_accuracy"]


def test_something_else_on_the_command_line(capsys, onnx_file):
    words = ("import-teacher", "--file", str(onnx_file), "--classes", *"abcdefghij", "--shape", "1", "8", "8")
    code, card, _ = run_cli(capsys, *words, "--title", "Signs")
    assert code == 0
    assert card["test_accuracy"] is None
    assert card["title"] == "ONNX network on Signs"
    assert data.info(card["card"]["data"]["name"]).classes == tuple("abcdefghij")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--file", "nowhere.onnx"), "There is no file 'nowhere.onnx'"),
        (("--file", "{file}"), "Say what it classifies"),
        (("--file", "{file}", "--data", "digits", "--model", "cnn"), "the file fits LeNet-5"),
        (("--file", "{file}", "--data", "digits", "--model", "lenet5", "--mean", "a"), "are numbers"),
        (("--file", "{file}", "--data", "digits", "--model", "lenet5", "--set", "steps=3"), "can't be set"),
    ],
)
def test_bad_words_get_a_sentence(capsys, digits_file, words, sentence):
    code, _, err = run_cli(capsys, "import-teacher", *(w.format(file=digits_file) for w in words))
    assert code == 2
    assert sentence in " ".join(err.split())
