"""The diffusion model: its equations, its training, its guidance, its files."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from cake_core import data, diffusion, teacher
from cake_core.data import DataConfig
from cake_core.diffusion import TIMES, Denoising, DiffusionConfig, DiffusionModel, DiffusionTraining, solver
from cake_core.errors import CakeError
from cake_core.pieces import Halfway, Pieces

TINY = DiffusionConfig(updates=12, batch_size=32, width=8)


def digits():
    return data.load(DataConfig(name="digits"))


def trained(seed: int = 0) -> DiffusionModel:
    training = DiffusionTraining(digits(), TINY, seed=seed, name="tiny")
    for _ in training:
        pass
    return training.model


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return trained()


def test_noise_and_velocity_are_those_of_the_equations():
    schedule = solver("ddim")

    def level(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - level((t + 1) / TIMES) / level(t / TIMES), 0.999) for t in range(TIMES)]
    alpha = (1 - torch.tensor(betas, dtype=torch.float64)).cumprod(dim=0)[[3, 500]].float()[:, None]
    x, noise, t = torch.randn(2, 5), torch.randn(2, 5), torch.tensor([3, 500])
    assert torch.allclose(schedule.add_noise(x, noise, t), alpha.sqrt() * x + (1 - alpha).sqrt() * noise, atol=1e-5)
    assert torch.allclose(schedule.get_velocity(x, noise, t), alpha.sqrt() * noise - (1 - alpha).sqrt() * x, atol=1e-5)


def test_training_is_the_same_for_the_same_seed_and_learns(model):
    same, other = trained(), trained(seed=1)
    ours, theirs = model.network.state_dict(), same.network.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert any(not torch.equal(ours[k], v) for k, v in other.network.state_dict().items())
    assert all(p.is_leaf for p in model.network.parameters())  # the average remembers no history
    longer = DiffusionTraining(digits(), TINY.replace(updates=80), name="tiny")
    losses = [step.loss for step in longer]
    assert losses[-1] < 0.8 * losses[0]


def test_a_training_that_is_cut_goes_on_with_the_same_weights(tmp_path, monkeypatch):
    """In the middle of the second epoch, of two batches each."""
    monkeypatch.setattr("cake_core.diffusion.SECONDS_BETWEEN_STEPS", -1.0)
    monkeypatch.setattr(Halfway, "due", property(lambda self: True))
    config, place = TINY.replace(updates=6), Pieces(tmp_path)

    def training(halfway: Halfway | None) -> DiffusionTraining:
        return DiffusionTraining(digits(), config, seed=3, name="tiny", images=(0, 60), halfway=halfway)

    whole = training(None)
    losses = [s.loss for s in whole]
    dead = training(place.halfway("it"))
    next(s for s in dead if s.update == 3)
    again = training(place.halfway("it"))
    assert [(s.update, s.loss) for s in again] == [*enumerate(losses, start=1)][2:]
    ours, theirs = (t.model.network.state_dict() for t in (again, whole))
    assert all(torch.equal(ours[k], v) for k, v in theirs.items())


def test_guidance_blends_with_and_without_the_class(model):
    labels = torch.tensor([3, 7])

    def first_step(guidance: float) -> torch.Tensor:
        return list(Denoising(model, labels, steps=2, guidance=guidance, solver="ddim", seed=5))[1].x

    without, given, more = first_step(0), first_step(1), first_step(3)
    # A step of DDIM is linear in v.
    assert torch.allclose(more, without + 3 * (given - without), atol=1e-4)
    assert not torch.allclose(without, given)


@pytest.mark.parametrize("name", ["ddim", "dpm"])
def test_denoising_goes_from_noise_to_pixels(model, name):
    drawing = Denoising(model, torch.arange(4), steps=3, solver=name, seed=1)
    moments = list(drawing)
    assert [m.step for m in moments] == [0, 1, 2, 3]
    assert moments[0].x.std() == pytest.approx(1, abs=0.2)
    assert drawing.images.shape == (4, 1, 8, 8)
    assert drawing.images.dtype == torch.uint8
    again = Denoising(model, torch.arange(4), steps=3, solver=name, seed=1)
    list(again)
    assert torch.equal(again.images, drawing.images)


def test_a_saved_model_is_checked_when_it_is_loaded(model, tmp_path, monkeypatch):
    monkeypatch.setattr(diffusion, "SHIPPED_FOLDER", tmp_path)
    diffusion.shipped.cache_clear()
    try:
        card = model.save(tmp_path)
        loaded = diffusion.load("tiny")
        assert dataclasses.replace(loaded.card, sha256=card.sha256) == card
        x = torch.randn(2, 1, 8, 8)
        assert torch.allclose(
            loaded.network(x, 10, class_labels=torch.tensor([1, 2])).sample,
            model.network(x, 10, class_labels=torch.tensor([1, 2])).sample,
            atol=0.02,  # it was rounded to float16
        )
        path = tmp_path / "tiny.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(CakeError, match="missing or damaged"):
            diffusion.load("tiny")
    finally:
        diffusion.shipped.cache_clear()


def test_points_and_odd_images_are_refused():
    with pytest.raises(CakeError, match="square images"):
        DiffusionTraining(data.load(DataConfig(name="moons")), TINY, name="tiny")
    with pytest.raises(CakeError, match="no diffusion model 'cherry'"):
        diffusion.load("cherry")


@pytest.mark.parametrize("name", ["ddim", "dpm"])
def test_the_shipped_model_draws_the_digits_it_is_asked_for(name):
    labels = torch.arange(20) % 10
    drawing = Denoising(diffusion.load("usps"), labels, steps=8, guidance=2.0, solver=name, seed=0)
    for _ in drawing:
        pass
    judge = teacher.load("usps/lenet5")
    x = (drawing.images.float() / 255 - MEAN) / STD
    named = judge.network(x).argmax(dim=1)
    assert (named == labels).float().mean() > 0.8


MEAN, STD = 0.2539, 0.3842  # of USPS's training pixels
