"""Data sets that people bring: stored whole or not at all, found by name in any process, used like any other."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from cake_core import data, teacher
from cake_core.data import DataConfig, own
from cake_core.errors import CakeError
from cake_core.methods import METHODS
from cake_core.pipeline import Distillation, Experiment, default_teacher, resolve_teacher
from cake_core.student import StudentConfig


@pytest.fixture(autouse=True)
def uploads(monkeypatch, tmp_path):
    monkeypatch.setenv("CAKE_UPLOADS_DIR", str(tmp_path / "uploads"))
    return tmp_path / "uploads"


def images(n: int = 30, channels: int = 1, seed: int = 0) -> own.Part:
    """Two classes, dark and bright."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 2
    x = torch.randint(0, 100, (n, channels, 8, 8), generator=rng) + 120 * y[:, None, None, None]
    return x.to(torch.uint8), y


def points(n: int = 60, seed: int = 0) -> own.Part:
    y = torch.arange(n) % 2
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)) * 0.3
    return x + torch.tensor([10.0, -4.0]) + 2 * y[:, None], y


def make(kind: str = "images", **changes) -> str:
    part, shape = (images, (1, 8, 8)) if kind == "images" else (points, (2,))
    given = {"train": part(), "test": part(seed=1), **changes}
    return own.create("My shapes", kind, shape, ("dark", "bright"), **given)


def test_images_come_back_as_they_were():
    name = make()
    assert own.is_own(name)
    info = data.info(name)
    assert (info.title, info.kind, info.shape, info.classes) == ("My shapes", "images", (1, 8, 8), ("dark", "bright"))
    assert info.has_examples and not info.drawn
    loaded = data.load(DataConfig(name=name))
    assert torch.equal(loaded.train_x, images()[0])
    assert torch.equal(loaded.test_y, images(seed=1)[1])
    assert loaded.train_x.dtype == torch.uint8
    x = loaded.inputs(loaded.train_x)
    assert x.mean().abs() < 1e-5
    assert abs(x.std(correction=0) - 1) < 1e-4
    assert torch.equal(loaded.pixels(x), loaded.train_x)


def test_parts_may_be_views_of_the_same_tensor():
    x, y = images()
    whole = x.permute(0, 1, 3, 2)
    loaded = data.load(DataConfig(name=make(train=(whole, y), test=(whole, y))))
    assert torch.equal(loaded.train_x, whole)
    assert torch.equal(loaded.test_x, whole)


def test_points_are_standardised_per_feature():
    loaded = data.load(DataConfig(name=make("points")))
    x = loaded.inputs(loaded.train_x)
    torch.testing.assert_close(x.mean(dim=0), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(x.std(dim=0, correction=0), torch.ones(2), atol=1e-4, rtol=0)
    assert loaded.half_width > x.abs().max()


def test_a_set_without_examples():
    name = make(train=None, test=None, mean=[0.2], std=[0.5])
    assert not data.info(name).has_examples
    loaded = data.load(DataConfig(name=name))
    assert loaded.train_x.shape == loaded.test_x.shape == (0, 1, 8, 8)
    assert loaded.train_x.dtype == torch.uint8
    assert loaded.train_y.dtype == torch.int64
    assert (loaded.mean.item(), loaded.std.item()) == pytest.approx((0.2, 0.5))
    colour = own.create("Photos", "images", (3, 16, 16), ("a", "b"), mean=torch.tensor([0.1, 0.2, 0.3]), std=[0.5] * 3)
    assert data.load(DataConfig(name=colour)).mean.shape == (3, 1, 1)
    plane = data.load(DataConfig(name=own.create("Plane", "points", (2,), ("a", "b"))))
    assert plane.train_x.shape == (0, 2)
    assert plane.half_width == 3.0


def test_another_process_finds_it_and_no_list_shows_it():
    name = make()
    assert name not in data.DATASETS
    code = (
        "from cake_core import cli, data\n"
        f"print(data.load(data.DataConfig(name='{name}')).train_x.sum().item())\n"
        "cli.main(['datasets', '--json', '-'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    number, listed = done.stdout.split("\n", maxsplit=1)
    assert int(number) == images()[0].sum()
    assert "digits" in listed
    assert name not in listed


def test_names_can_not_be_guessed_or_lead_elsewhere(uploads):
    assert make() != make()
    for name in (
        "own-0123456789abcdef",
        "own-../../../../etc",
        "own-",
        "own-0123456789ABCDEF",
        "own-0123456789abcdef/",
    ):
        assert own.find(name) is None
        with pytest.raises(CakeError):
            DataConfig(name=name)
    with pytest.raises(CakeError, match="is not here .any more.. Bring the file once more"):
        data.info("own-0123456789abcdef")
    with pytest.raises(CakeError, match="'name' can't be 'mars'. Choose one of: moons"):
        DataConfig.from_dict({"name": "mars"})
    with pytest.raises(CakeError):
        DataConfig.from_dict({"name": 3})


def test_a_crash_before_the_end_leaves_no_set(uploads, monkeypatch):
    monkeypatch.setattr(own.runs, "write_json", lambda path, values: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make()
    (left,) = uploads.iterdir()
    assert own.find(left.name) is None


def test_a_full_disk_is_a_sentence_and_leaves_nothing(uploads, monkeypatch):
    def full(path, values):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(own.runs, "write_json", full)
    with pytest.raises(CakeError, match="can't be stored on the server .*No space left"):
        make()
    assert list(uploads.iterdir()) == []


def test_what_is_gone_or_damaged_is_a_sentence(uploads):
    name = make()
    config = DataConfig(name=name)
    (uploads / name / "data.safetensors").write_bytes(b"garbage")
    with pytest.raises(CakeError, match="'My shapes' can't be read any more"):
        data.load(config)
    own.delete(name)
    assert not (uploads / name).exists()
    with pytest.raises(CakeError, match="Bring the file once more"):
        data.load(config)
    own.delete("own-../..")  # no name of ours: nothing happens
    assert uploads.is_dir()


WRONG = {
    "one part only": ({"test": None}, "both to train and to test on"),
    "floats": ({"train": (torch.zeros(4, 1, 8, 8), torch.arange(4) % 2)}, "must hold torch.uint8 examples"),
    "other size": ({"test": (torch.zeros(4, 1, 9, 8, dtype=torch.uint8), torch.arange(4) % 2)}, "The test part must"),
    "too few labels": ({"train": (images()[0], images()[1][:-1])}, "with a label each"),
    "empty": ({"train": (images()[0][:0], images()[1][:0])}, "with a label each"),
    "unknown class": ({"train": (images()[0], images()[1] + 1)}, "whole numbers from 0 to 1"),
    "negative class": ({"train": (images()[0], images()[1] - 1)}, "whole numbers from 0 to 1"),
    "flat": ({"std": [0.0]}, "standard deviation must be above 0"),
    "wrong channels": ({"mean": [0.1, 0.2]}, "must be 1 finite number"),
    "not finite": ({"mean": [float("nan")]}, "must be 1 finite number"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_a_sentence(what, uploads):
    changes, sentence = WRONG[what]
    with pytest.raises(CakeError, match=sentence):
        make(**changes)
    assert not uploads.exists() or not list(uploads.iterdir())


@pytest.mark.parametrize(
    ("kind", "shape", "classes", "sentence"),
    [
        ("points", (3,), "ab", "two coordinates"),
        ("images", (2, 8, 8), "ab", "one or three channels"),
        ("images", (1, 2, 8), "ab", "4 to 512 pixels"),
        ("images", (8, 8), "ab", "one or three channels"),
        ("images", (1, 8, 8), "a", "2 to 1000 classes"),
    ],
)
def test_shapes_and_classes_that_can_not_be(kind, shape, classes, sentence):
    with pytest.raises(CakeError, match=sentence):
        own.create("x", kind, shape, list(classes))


def test_points_that_are_no_numbers():
    x, y = points()
    x[3, 1] = float("inf")
    with pytest.raises(CakeError, match="no finite numbers"):
        make("points", train=(x, y))


def test_titles_and_classes_are_one_printable_line(uploads):
    name = own.create("a\x00b\n\u202ec" + "d" * 200, "images", (1, 8, 8), ["\n", "x\ty"], train=images(), test=images())
    info = data.info(name)
    assert info.title == "a b c" + "d" * 55
    assert info.classes == ("class 0", "x y")
    assert json.loads((uploads / name / "meta.json").read_text())["title"] == info.title


def blank(n: int, shape: tuple[int, int, int]) -> str:
    part = (torch.arange(n).remainder(256).to(torch.uint8).view(n, 1, 1, 1).expand(n, *shape), torch.arange(n) % 2)
    return own.create("Blank", "images", shape, "ab", train=part, test=part)


@pytest.mark.parametrize("kind", ["images", "points"])
def test_everything_that_asks_by_name_or_kind_knows_it(kind):
    name = blank(5000, (1, 9, 9)) if kind == "images" else make(kind)
    info = data.info(name)
    experiment = Experiment.from_query({"data": name})
    assert Experiment.from_query(experiment.to_query()) == experiment
    assert Experiment.from_dict(json.loads(json.dumps(experiment.to_dict()))) == experiment
    assert teacher.recipe(name) == teacher.TrainConfig.from_dict(teacher.RECIPES[kind])
    assert StudentConfig.for_data(info).model in ("mlp", "lenet5-half")
    assert teacher.shipped_for(experiment.data) is None
    assert resolve_teacher(experiment) is None  # so one is trained
    assert default_teacher(experiment) in ("mlp", "lenet5")
    for method in METHODS.values():
        settings = method.config_for(info)
        assert {k: getattr(settings, k) for k in method.presets.get(kind, {})} == method.presets.get(kind, {})


def test_presets_suit_the_size_and_the_number_of_images():
    few, tiny = data.info(blank(4999, (3, 32, 32))), data.info(blank(20, (1, 8, 8)))
    recipe = teacher.recipe(few.name)
    assert (few.examples, recipe.updates, recipe.optimizer) == (4999, 1500, "adam")
    assert teacher.recipe(few.name, "vit3").learning_rate == 2e-3
    assert StudentConfig.for_data(few) == StudentConfig.for_data(data.info("fashion-mnist"))
    assert StudentConfig.for_data(tiny) == StudentConfig.for_data(data.info("digits"))
    for method in METHODS.values():
        assert method.config_for(few) == method.config_for(data.info("usps"))  # MNIST and its like have their own
        assert method.config_for(tiny) == method.config_for(data.info("digits"))


@pytest.mark.parametrize("kind", ["images", "points"])
def test_a_distillation_of_it_runs_to_the_end_and_can_be_restored(kind, monkeypatch):
    from cake_core import runs

    for key in ("points", "few"):
        monkeypatch.setitem(teacher.RECIPES, key, {**teacher.RECIPES[key], "updates": 30})
    flat = {"data": make(kind), "batches": "1", "samples": "20", "steps": "3", "student.updates": "5", "device": "cpu"}
    run = Distillation(Experiment.from_query(flat))
    for _ in run:
        pass
    assert run.outcome.student_accuracy.n == (30 if kind == "images" else 60)
    folder = runs.create()
    run.save(runs.find(folder))
    runs.write_json(runs.find(folder) / "run.json", {"experiment": run.experiment.to_dict()})
    again = Distillation.restore(folder)
    assert torch.equal(again.dataset.test_x, run.dataset.test_x)
    assert teacher.inspect(f"run:{folder}", torch.device("cpu"))["classes"] == ("dark", "bright")
