"""Where questions come from: how many, of which classes, in which frame, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from cake_core import data, proxies
from cake_core.data import DataConfig
from cake_core.errors import CakeError
from cake_core.proxies import BLUR, Drawing, ProxyConfig, sources_for


def drawn(name: str, seed: int = 0, **config) -> Drawing:
    data_config = DataConfig(name=name)
    info = data.info(name)
    drawing = Drawing(data.load(data_config), ProxyConfig.for_data(info, **config), data_config, seed)
    for _ in drawing:
        pass
    return drawing


def frame(name: str) -> Drawing:
    """A drawing for images of a set whose examples are not here."""
    info = data.info(name)
    empty = torch.zeros(0, *info.shape, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64)
    dataset = data.Dataset(info, *empty, *empty, torch.full((1, 1, 1), 0.1), torch.full((1, 1, 1), 0.5))
    return Drawing(dataset, ProxyConfig(source="noise"), DataConfig(name=name))


def test_sources_suit_the_data():
    assert sources_for(data.info("moons")) == ["blurred", "noise"]
    assert sources_for(data.info("digits")) == ["diffusion", "noise", "text"]
    assert sources_for(data.info("mnist")) == ["diffusion", "other", "noise", "text"]
    assert "diffusion" not in sources_for(data.info("usps"))  # it was trained on these
    with pytest.raises(CakeError, match="can't come from a diffusion model of another set. Choose one of: blurred"):
        drawn("moons", source="diffusion")


def test_as_many_of_each_class_whatever_the_source(monkeypatch, tmp_path):
    monkeypatch.setenv("CAKE_RUNS_DIR", str(tmp_path))
    for name, source in (("moons", "blurred"), ("digits", "noise"), ("digits", "diffusion")):
        found = drawn(name, source=source, per_class=6, steps=2).proxies
        classes = len(data.info(name).classes)
        assert found.prompt.bincount().tolist() == [6] * classes
        assert found.x.shape == (6 * classes, *data.info(name).shape)
        assert found.x.isfinite().all()


def test_the_same_seed_gives_the_same_and_another_does_not(monkeypatch, tmp_path):
    monkeypatch.setenv("CAKE_RUNS_DIR", str(tmp_path))
    for name in ("moons", "digits"):
        first, again, other = (drawn(name, seed, per_class=4, steps=2).proxies.x for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_what_was_drawn_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("CAKE_RUNS_DIR", str(tmp_path))
    drawn("digits", per_class=4, steps=2)
    monkeypatch.setattr(proxies.diffusion, "load", None)  # not needed again
    drawn("digits", per_class=4, steps=2)


def test_blurred_points_are_another_draw_with_noise():
    data_config = DataConfig(name="moons", noise=0.0)
    dataset = data.load(data_config)
    drawing = Drawing(dataset, ProxyConfig.for_data(dataset.info, per_class=1000), data_config)
    for _ in drawing:
        pass
    x = drawing.proxies.x
    own = dataset.inputs(dataset.train_x)
    nearest = torch.cdist(x, own).min(dim=1).values
    assert nearest.min() > 0  # none is a training point
    # The mean is that of a class, its spread grown by the blur.
    ours, theirs = x[drawing.proxies.prompt == 0], own[dataset.train_y == 0]
    assert torch.allclose(ours.mean(dim=0), theirs.mean(dim=0), atol=0.1)
    assert torch.allclose(ours.var(dim=0), theirs.var(dim=0) + BLUR**2, atol=0.1)


def test_a_digit_fills_the_middle_of_an_mnist_image():
    x = frame("mnist")._inputs(torch.full((2, 1, 16, 16), 255, dtype=torch.uint8))
    assert x.shape == (2, 1, 28, 28)
    white, black = (1 - 0.1) / 0.5, (0 - 0.1) / 0.5
    assert torch.allclose(x[:, :, 4:24, 4:24], torch.tensor(white), atol=1e-5)
    outside = torch.ones(28, 28, dtype=torch.bool)
    outside[4:24, 4:24] = False
    assert torch.allclose(x[:, 0, outside], torch.tensor(black), atol=1e-6)


def test_colours_become_grey_by_their_brightness():
    red = torch.zeros(1, 3, 28, 28, dtype=torch.uint8)
    red[:, 0] = 255
    assert torch.allclose(frame("fashion-mnist")._inputs(red), torch.tensor((0.299 - 0.1) / 0.5), atol=1e-5)


def test_without_a_pipeline_there_is_a_sentence(tmp_path):
    with pytest.raises(CakeError, match="no text-to-image pipeline here"):
        drawn("digits", source="text", per_class=2)
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(CakeError, match="can't be loaded"):
        drawn("digits", source="text", per_class=2, pipeline=str(tmp_path))


def test_a_pipeline_is_asked_by_the_names_of_the_classes(monkeypatch):
    asked = []

    def pipeline(prompts, num_inference_steps, guidance_scale, generator, output_type):
        asked.extend(prompts)
        assert (num_inference_steps, guidance_scale, output_type) == (4, 3.0, "pt")
        return SimpleNamespace(images=torch.ones(len(prompts), 3, 64, 64))

    monkeypatch.setattr(proxies, "_pipeline", lambda folder, device: pipeline)
    found = drawn("digits", source="text", per_class=2, steps=4, guidance=3.0, prompt="the digit {class}").proxies
    assert asked[:3] == ["the digit 0", "the digit 1", "the digit 2"]
    assert found.x.shape == (20, 1, 8, 8)


def test_a_large_diffusion_model_draws_fewer_where_nobody_says_how_many():
    assert ProxyConfig.for_data(data.info("cifar10")).per_class == 20
    assert ProxyConfig.for_data(data.info("mnist")).per_class == 100
    assert ProxyConfig.for_data(data.info("cifar10"), per_class=50).per_class == 50
