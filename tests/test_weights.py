"""Weights from safetensors: what fits is read exactly, what does not is refused by name and shape."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cake_core import models, weights
from cake_core.errors import CakeError

SHAPE = (1, 8, 8)


@pytest.fixture
def network():
    return models.build("resnet4", SHAPE, 10, seed=5).eval()


def write(tmp_path: Path, state: dict) -> Path:
    path = tmp_path / "mine.safetensors"
    save_file({k: v.contiguous() for k, v in state.items()}, path)
    return path


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weights_of_every_real_type_become_float32(tmp_path, network, dtype):
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in network.state_dict().items()}
    read = weights.read(write(tmp_path, state), "resnet4", SHAPE, 10)
    assert not read.training
    for key, value in read.state_dict().items():
        assert value.dtype == (torch.float32 if state[key].is_floating_point() else torch.int64)
        assert torch.equal(value, state[key].float() if state[key].is_floating_point() else state[key])


def refused(tmp_path, state, model="resnet4", shape=SHAPE, classes=10) -> str:
    with pytest.raises(CakeError) as error:
        weights.read(write(tmp_path, state), model, shape, classes)
    assert str(error.value).startswith("mine.safetensors")
    return str(error.value)


def test_the_first_misfit_is_named_with_both_shapes(tmp_path, network):
    state = network.state_dict()
    state["head.weight"] = torch.zeros(10, 7)
    text = refused(tmp_path, state)
    assert "`head.weight` is 10 x 7 in the file and 10 x 64 in ResNet-4." in text
    assert "bring an ONNX file" in text


def test_missing_and_surplus_are_a_few_and_a_count(tmp_path, network):
    state = {f"encoder.{k}": v for k, v in network.state_dict().items()}
    text = refused(tmp_path, state)
    assert f"Missing: `body.1.weight`, `body.2.weight`, `body.2.bias` and {len(state) - 3} more." in text
    assert f"and {len(state) - 3} more." in text.split("Not part of it:")[1]


def test_another_listed_architecture_that_fits_is_named(tmp_path):
    state = models.build("lenet5-half", SHAPE, 10).state_dict()
    assert "the file fits LeNet-5-Half. Choose LeNet-5-Half." in refused(tmp_path, state, "lenet5")


def test_another_number_of_classes_is_named(tmp_path):
    state = models.build("lenet5", SHAPE, 7).state_dict()
    assert "It is a LeNet-5 for 7 classes, and 10 were asked for." in refused(tmp_path, state, "lenet5")


def test_a_wrapper_around_the_network_is_named(tmp_path, network):
    state = {f"module.{k}": v for k, v in network.state_dict().items()}
    assert "All names begin with `module.`" in refused(tmp_path, state)


def test_wrong_types_are_refused(tmp_path, network):
    state = network.state_dict() | {"head.bias": torch.zeros(10, dtype=torch.int64)}
    assert "`head.bias` is of type I64; it has to be float16" in refused(tmp_path, state)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_values_that_are_not_finite_are_refused_by_name(tmp_path, network, value):
    state = network.state_dict()
    state["head.bias"] = torch.tensor([0.0] * 9 + [value], dtype=torch.float64)
    assert "`head.bias` has values that are not finite" in refused(tmp_path, state)


@pytest.mark.parametrize("model", models.MODELS)
def test_the_layout_of_each_architecture_is_known_without_building_it(model):
    kind = models.MODELS[model].kinds[0]
    shape = (2,) if kind == "points" else (3, 32, 32)
    with torch.device("meta"):
        built = models.build(model, shape, 4).state_dict()
    layout = weights._layout(model, shape, 4)
    assert {k: s for k, (_, s) in layout.items()} == {k: tuple(v.shape) for k, v in built.items()}


@pytest.mark.parametrize("shape", [(3, 5, 4), (2,)])
def test_renormalised_inputs_are_those_that_the_network_wants(shape):
    """From pixels p: the app's (p - m) / s goes in, (p - m') / s' has to arrive."""
    p = torch.rand(6, *shape, dtype=torch.float64)
    each = (-1,) + (1,) * (len(shape) - 1)
    m, s, theirs_m, theirs_s = (torch.rand(shape[0], dtype=torch.float64) + 0.1 for _ in range(4))
    network = weights.Renormalised(torch.nn.Identity(), s / theirs_s, (m - theirs_m) / theirs_s)
    arrived = network((p - m.view(each)) / s.view(each))
    torch.testing.assert_close(arrived, (p - theirs_m.view(each)) / theirs_s.view(each), rtol=1e-12, atol=1e-12)


def test_rounding_to_int8_takes_a_quarter_of_the_room_and_comes_back_exactly(tmp_path):
    network = models.build("resnet4", (3, 32, 32), 10, seed=5)
    with torch.no_grad():
        network.head.weight[3] = 0  # a channel of zeros has no step size of its own
    before = {k: v.clone() for k, v in network.state_dict().items()}
    weights.write(tmp_path / "whole.safetensors", before)
    weights.rounded(network, "int8")
    weights.write(tmp_path / "rounded.safetensors", network.state_dict())
    for key, value in weights.load(tmp_path / "rounded.safetensors").items():
        assert torch.equal(value, network.state_dict()[key])
        if value.dim() > 1:  # off by half a step at most, and by the rounding of the step itself
            step = before[key].flatten(1).abs().amax(dim=1) / 127
            assert ((value - before[key]).flatten(1).abs().amax(dim=1) <= 0.8 * step).all()
            assert len(value[0].unique()) <= 255
    small, large = (tmp_path / f"{name}.safetensors" for name in ("rounded", "whole"))
    assert small.stat().st_size < 0.27 * large.stat().st_size
    assert set(weights.load(small)) == set(before)


def test_what_is_not_rounded_comes_back_exactly_too(tmp_path, network):
    weights.write(tmp_path / "mine.safetensors", network.state_dict())
    loaded = weights.load(tmp_path / "mine.safetensors")
    assert all(torch.equal(loaded[k], v) for k, v in network.state_dict().items())


def test_an_unknown_rounding_is_refused(network):
    with pytest.raises(CakeError, match="float16, int8"):
        weights.rounded(network, "int4")
