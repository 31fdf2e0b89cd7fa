"""Teachers: the shipped ones are what their cards say, and damaged or foreign files are refused."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from cake_core import data, evaluation, runs, teacher
from cake_core.errors import CakeError
from cake_core.training import TrainConfig

MNIST = ["mnist/cnn", "mnist/lenet5", "mnist/mlp", "mnist/resnet4", "mnist/vit3"]
FASHION = ["fashion-mnist/lenet5", "fashion-mnist/lenet5_part", "fashion-mnist/resnet4"]
BUILT_IN = ["digits/lenet5", "digits/resnet4", "moons/mlp", "moons/mlp-norm"]  # their data need no download
PHOTOS = ["cifar10/resnet18", "cifar10/resnet34", "cifar10/resnet4", "cifar10/vit4", "cifar10/wrn40-2_part"]
SHIPPED = sorted([*PHOTOS, *BUILT_IN, *FASHION, *MNIST, "usps/lenet5"])


def test_shipped_teachers_and_their_goals():
    cards = teacher.shipped()
    assert sorted(cards) == SHIPPED
    assert cards["mnist/lenet5"].accuracy.value >= 0.990
    assert all(cards[name].accuracy.value >= 0.98 for name in MNIST)
    assert all(cards[name].accuracy.value >= 0.895 for name in FASHION)
    assert all(cards[f"cifar10/{name}"].accuracy.value >= 0.94 for name in ("resnet18", "resnet34"))
    assert cards["mnist/lenet5"].accuracy.n == cards["fashion-mnist/lenet5"].accuracy.n == 10_000
    for name, card in cards.items():
        assert card.name == name
        assert card.accuracy.low < card.accuracy.value < card.accuracy.high
        assert card.recipe["updates"] > 0
        assert len(card.sha256) == 64


def check(name: str) -> None:
    """The card's accuracy is what the weights give on the test data; of large ones on the first 2,000, or 200."""
    loaded = teacher.load(name)
    dataset = data.load(loaded.card.data_config)
    few = 2000 if loaded.card.parameters < 2e6 else 200
    said, n = loaded.card.accuracy.value, min(few, len(dataset.test_y))
    measured = evaluation.accuracy(
        evaluation.predict(loaded.network, dataset.test_x[:n], dataset.inputs), dataset.test_y[:n]
    )
    # Another machine may round differently at a handful of images, and a part may be a little harder than the whole.
    part = 4 * (said * (1 - said) / n) ** 0.5 if n < len(dataset.test_y) else 0
    assert abs(measured.value - said) <= 5 / n + part
    assert not loaded.network.training


@pytest.mark.parametrize("name", BUILT_IN)
def test_cards_tell_the_truth(name):
    check(name)


@pytest.mark.data
@pytest.mark.parametrize("name", [n for n in SHIPPED if n not in BUILT_IN])
def test_cards_tell_the_truth_on_downloaded_sets(name, mnist_folder):
    if not data.info(name.split("/")[0]).on_disk():
        pytest.skip(f"the data of {name} are not in {mnist_folder}")
    check(name)


def test_training_gives_the_shipped_teacher_again():
    """moons/mlp, trained afresh with the recipe of its card; other processors may round differently on the way."""
    card = teacher.shipped()["moons/mlp"]
    training = teacher.TeacherTraining(data.load(card.data_config), card.data_config, "mlp", seed=card.seed)
    for _ in training:
        pass
    assert training.teacher.card.recipe == TrainConfig.from_dict(card.recipe).to_dict()
    assert abs(training.teacher.card.accuracy.value - card.accuracy.value) < 0.01


@pytest.fixture
def trained() -> teacher.Teacher:
    config = data.DataConfig(points=100)
    training = teacher.TeacherTraining(data.load(config), config, "mlp", teacher.recipe("moons", updates=20))
    for _ in training:
        pass
    return training.teacher


def test_rounded_weights_are_stored_in_half_the_room_and_tested_as_stored(trained, tmp_path):
    config = data.DataConfig(points=100)
    settings = teacher.recipe("moons", updates=20)
    training = teacher.TeacherTraining(data.load(config), config, "mlp", settings, rounding="float16")
    for _ in training:
        pass
    training.teacher.save(tmp_path, "half")
    trained.save(tmp_path, "whole")
    half, whole = (load_file(tmp_path / f"{name}.safetensors") for name in ("half", "whole"))
    assert {v.dtype for v in half.values()} == {torch.float16}
    assert {v.dtype for v in whole.values()} == {torch.float32}
    for name, value in whole.items():
        torch.testing.assert_close(half[name].float(), value, rtol=1e-3, atol=1e-6)
        assert torch.equal(half[name].float(), training.network.state_dict()[name])


def test_the_card_knows_its_data(trained):
    """Other examples, or the same in another order, have another checksum."""
    same = data.load(data.DataConfig(points=100))
    assert trained.card.data_sha256 == same.checksum
    assert data.load(data.DataConfig(points=100, seed=1)).checksum != same.checksum
    assert all(len(card.data_sha256) == 64 for card in teacher.shipped().values())


def test_recipes_know_data_and_architecture():
    assert teacher.recipe("cifar10", "resnet50").learning_rate == 0.1
    assert teacher.recipe("cifar10", "resnet34").batch_size == 512
    assert teacher.recipe("cifar10", "vit4").optimizer == "adam"
    assert teacher.recipe("cifar10", "lenet5").flip
    assert teacher.recipe("digits", "vit3").updates == teacher.recipe("digits").updates
    assert teacher.recipe("mnist", "vit3", updates=5).updates == 5


def test_where_none_is_named_a_quick_teacher_is_taken():
    assert teacher.shipped_for(data.DataConfig(name="cifar10")).name == "cifar10/resnet4"
    assert teacher.shipped_for(data.DataConfig(name="mnist")).name == "mnist/lenet5"
    assert teacher.shipped_for(data.DataConfig(name="mnist"), batch_norm=True).name == "mnist/resnet4"


def test_a_teacher_trained_here_can_be_loaded(trained):
    run = runs.create()
    trained.save(runs.find(run), "teacher")
    loaded = teacher.load(f"run:{run}")
    x = torch.randn(5, 2)
    assert torch.equal(loaded.network(x), trained.network(x))
    assert loaded.card.accuracy == trained.card.accuracy
    assert loaded.card.data_config == data.DataConfig(points=100)


def test_a_damaged_file_is_refused(trained):
    run = runs.create()
    trained.save(runs.find(run), "teacher")
    weights = runs.find(run) / "teacher.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[:-4], whole[:-1] + b"x", b""):
        weights.write_bytes(damaged)
        with pytest.raises(CakeError, match="missing or damaged: teacher.safetensors does not match its card"):
            teacher.load(f"run:{run}")
    weights.unlink()
    with pytest.raises(CakeError, match="missing or damaged"):
        teacher.load(f"run:{run}")


def test_weights_that_do_not_fit_are_refused(trained):
    run = runs.create()
    folder = runs.find(run)
    trained.save(folder, "teacher")
    shutil.copy(teacher.SHIPPED_FOLDER / "digits" / "lenet5.safetensors", folder / "teacher.safetensors")
    card = json.loads((folder / "teacher.json").read_text())
    card["sha256"] = teacher.shipped()["digits/lenet5"].sha256
    (folder / "teacher.json").write_text(json.dumps(card))
    with pytest.raises(CakeError, match="do not fit mlp"):
        teacher.load(f"run:{run}")


@pytest.mark.parametrize("text", ["", "{}", "not json", '{"name": "x", "accuracy": {}}'])
def test_a_broken_card_is_refused(text, tmp_path):
    path = tmp_path / "card.json"
    path.write_text(text)
    with pytest.raises(CakeError, match="card.json is not a teacher's card"):
        teacher.TeacherCard.read(path)


@pytest.mark.parametrize("name", ["mnist/gpt", "run:nope", "run:../../etc/passwd", "../x"])
def test_unknown_teachers_get_a_sentence(name):
    with pytest.raises(CakeError, match="There is no such run|There is no teacher"):
        teacher.load(name)


def test_the_shipped_teacher_of_a_data_set():
    assert teacher.shipped_for(data.DataConfig()).name == "moons/mlp"
    assert teacher.shipped_for(data.DataConfig(noise=0.3)) is None  # it learned other points
    assert teacher.shipped_for(data.DataConfig(name="digits", noise=0.3)).name == "digits/lenet5"
    assert teacher.shipped_for(data.DataConfig(name="circles")) is None


def test_inspection():
    seen = teacher.inspect("digits/lenet5", torch.device("cpu"), most=5)
    confusion = torch.tensor(seen["confusion"])
    card = teacher.shipped()["digits/lenet5"]
    assert confusion.sum() == 500
    assert confusion.trace().item() / 500 == pytest.approx(card.accuracy.value, abs=0.01)
    confidences = [m["confidence"] for m in seen["mistakes"]]
    assert len(confidences) == 5
    assert confidences == sorted(confidences, reverse=True)
    assert all(m["label"] != m["answer"] for m in seen["mistakes"])
    seen = teacher.inspect("moons/mlp", torch.device("cpu"))
    assert len(seen["surface"]["probabilities"]) == 80
    assert len(seen["surface"]["points"]) == len(seen["surface"]["labels"]) == 500


def test_where_several_teachers_are_shipped_the_first_choice_stays_lenet():
    assert teacher.shipped_for(data.DataConfig(name="mnist")).name == "mnist/lenet5"
    assert teacher.shipped_for(data.DataConfig(name="moons")).name == "moons/mlp"
    assert teacher.shipped_for(data.DataConfig(name="moons", noise=0.3)) is None
