"""Architectures: the paper's parameter counts, shapes, gradients, and the same weights for the same seed."""

from __future__ import annotations

import pytest
import torch

from cake_core import hooks, models
from cake_core.errors import CakeError
from cake_core.models import MODELS

MNIST = (1, 28, 28)
SHAPES = {"points": [(2,)], "images": [(1, 8, 8), MNIST, (1, 32, 32), (3, 32, 32)]}
LARGE = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")  # tried at one size, for time's sake
CASES = [
    (name, shape)
    for name, m in MODELS.items()
    for kind in m.kinds
    for shape in ([(3, 32, 32)] if name in LARGE else SHAPES[kind])
]


@pytest.mark.parametrize(
    ("name", "count", "printed"),
    [
        ("lenet5", 61_706, 61.7),
        ("lenet5-half", 15_738, 15.7),
        ("cnn", 107_658, 107),
        ("mlp", 118_282, 118),
        ("resnet4", 98_042, 98),
    ],
)
def test_parameter_counts_of_the_paper(name, count, printed):
    """On MNIST; `printed` is what the CAKE paper prints, in thousands."""
    assert models.parameter_count(models.build(name, MNIST, 10)) == count
    assert abs(count / 1000 - printed) < 0.7


@pytest.mark.parametrize(
    ("name", "count", "printed"),
    [
        ("resnet4", 1_232_810, 1.2),
        ("resnet18", 11_173_962, 11.2),
        ("resnet34", 21_282_122, 21.3),
        ("resnet50", 23_520_842, 23.5),
        ("resnet101", 42_512_970, 42.5),
        ("resnet152", 58_156_618, 58.2),
    ],
)
def test_parameter_counts_on_cifar(name, count, printed):
    """`printed` is what the CAKE paper prints, in millions."""
    assert models.parameter_count(models.build(name, (3, 32, 32), 10)) == count
    assert abs(count / 1e6 - printed) < 0.06


def test_the_stem_keeps_small_images_whole():
    """The CAKE paper's ResNets see 32x32 pixels at full size: the first scale has not lost any."""
    network = models.build("resnet18", (3, 32, 32), 10)
    assert network.body[:4](torch.zeros(2, 3, 32, 32)).shape == (2, 64, 32, 32)


def test_the_plane_network_has_three_layers_of_twenty():
    assert models.parameter_count(models.build("mlp", (2,), 2)) == (2 * 20 + 20) + 2 * (20 * 20 + 20) + (20 * 2 + 2)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_logits_features_and_gradients(name, shape):
    network = models.build(name, shape, 7).eval()
    x = torch.randn(4, *shape, requires_grad=True)
    with hooks.features(network) as seen:
        logits = network(x)
    assert logits.shape == (4, 7)
    assert seen[0].shape == (4, network.head.in_features)
    (grad,) = torch.autograd.grad(logits.sum(), x)
    assert grad.shape == x.shape
    assert grad.abs().sum() > 0


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_seeds_and_state(name, shape):
    before = torch.random.get_rng_state()
    one, same, other = (models.build(name, shape, 3, seed).eval() for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    x = torch.randn(2, *shape)
    assert torch.equal(one(x), same(x))
    assert not torch.equal(one(x), other(x))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x), other(x))


def test_pooling_before_relu_is_the_same_network():
    """LeNet-5 pools before its ReLU, which is four times cheaper; logits and input gradients stay what they were."""
    network = models.build("lenet5", MNIST, 10).eval()
    layers = list(network.body)
    swapped = []
    while layers:
        layer = layers.pop(0)
        if isinstance(layer, torch.nn.MaxPool2d):
            swapped += [layers.pop(0), layer]
        else:
            swapped.append(layer)
    usual = torch.nn.Sequential(*swapped, network.head)
    x = torch.randn(3, *MNIST, requires_grad=True)
    torch.testing.assert_close(network(x), usual(x))
    grads = [torch.autograd.grad(f(x).square().sum(), x)[0] for f in (network, usual)]
    torch.testing.assert_close(*grads)


def test_wrong_pairs_get_a_sentence():
    with pytest.raises(CakeError, match="LeNet-5 takes images, not points. For points choose: mlp."):
        models.build("lenet5", (2,), 2)
    with pytest.raises(CakeError, match="There is no model 'gpt'. Choose one of: mlp, lenet5"):
        models.build("gpt", (2,), 2)


def test_hooks_are_gone_also_after_a_failure(plane_teacher):
    head = hooks.last_linear(plane_teacher)
    with pytest.raises(ZeroDivisionError), hooks.features(plane_teacher):
        1 / 0  # noqa: B018
    assert not head._forward_pre_hooks
    with hooks.features(plane_teacher) as seen:
        plane_teacher(torch.zeros(3, 2))
    assert len(seen) == 1
    assert not head._forward_pre_hooks


def test_a_network_without_linear_layer_has_no_features():
    with pytest.raises(CakeError, match="no linear layer"), hooks.features(torch.nn.Identity()):
        pass
