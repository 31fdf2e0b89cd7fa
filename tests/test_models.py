"""Architectures: the paper's parameter counts, shapes, gradients, and the same weights for the same seed."""

from __future__ import annotations

import pytest
import torch

from cake_core import hooks, models
from cake_core.errors import CakeError
from cake_core.models import MODELS
from cake_core.models.vit import HEAD_WIDTH, LocalAttention, ShiftedPatches

MNIST = (1, 28, 28)
SHAPES = {"points": [(2,)], "images": [(1, 8, 8), MNIST, (1, 32, 32), (3, 32, 32)]}
LARGE = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "vgg11",
    "mobilenetv2",
    "wrn40-2",
)  # tried at one size, for time's sake
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
        ("vit3", 109_901, 110),
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
        ("vit8", 1_138_610, 1.1),
        ("vit4", 579_758, 0.58),
    ],
)
def test_parameter_counts_on_cifar(name, count, printed):
    """`printed` is what the CAKE paper prints, in millions."""
    assert models.parameter_count(models.build(name, (3, 32, 32), 10)) == count
    assert abs(count / 1e6 - printed) < 0.06


@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [
        ("vit3", (1, 32, 32), 110_381),
        ("hinton", MNIST, 784 * 1200 + 1200 + 1200 * 1200 + 1200 + 1200 * 10 + 10),
        ("hinton-half", MNIST, 784 * 800 + 800 + 800 * 800 + 800 + 800 * 10 + 10),
        ("alexnet", (3, 32, 32), 1_659_178),
        ("alexnet-half", (3, 32, 32), 417_434),
        ("wrn40-2", (3, 32, 32), 2_243_546),
        ("wrn16-1", (3, 32, 32), 175_066),
        ("vgg11", (3, 32, 32), 9_231_114),
        ("mobilenetv2", (3, 32, 32), 2_236_682),
    ],
)
def test_parameter_counts_of_the_other_networks(name, shape, count):
    """The counts of the networks that the compared methods' own papers and code use."""
    assert models.parameter_count(models.build(name, shape, 10)) == count


def test_shifted_patches_meet_a_naive_loop():
    """A token sees its own patch and the four half a patch away along the diagonals, with black beyond the border."""
    layer = ShiftedPatches(channels=2, patch=4, width=3)
    x = torch.randn(1, 2, 8, 12)
    canvas = torch.zeros(2, 12, 16)
    canvas[:, 2:10, 2:14] = x[0]
    tokens = []
    for row in range(0, 8, 4):
        for column in range(0, 12, 4):
            views = [
                canvas[:, 2 + row + dy : 6 + row + dy, 2 + column + dx : 6 + column + dx]
                for dy, dx in ((0, 0), (-2, -2), (-2, 2), (2, -2), (2, 2))
            ]
            values = torch.cat([view.reshape(2, 16) for view in views]).flatten()
            tokens.append(layer.embed(layer.norm(values)))
    torch.testing.assert_close(layer(x)[0], torch.stack(tokens))


def test_local_attention_meets_a_naive_loop():
    """Token i weighs the others by softmax(q_i k_j exp(t)) and itself not at all."""
    layer = LocalAttention(width=6, heads=2)
    x = torch.randn(1, 5, 6)
    query, key, value = layer.query_key_value(x[0]).view(5, 3, 2, HEAD_WIDTH).unbind(1)  # each (5, heads, width)
    mixed = torch.empty(5, 2, HEAD_WIDTH)
    for head in range(2):
        for i in range(5):
            others = [j for j in range(5) if j != i]
            weights = torch.stack([query[i, head] @ key[j, head] * layer.temperature.exp() for j in others]).softmax(0)
            mixed[i, head] = sum(w * value[j, head] for w, j in zip(weights, others, strict=True))
    torch.testing.assert_close(layer(x)[0], layer.out(mixed.flatten(1)))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 30, 33), (1, 100, 70)])
def test_a_transformer_takes_images_of_any_size(shape):
    assert models.build("vit3", shape, 4).eval()(torch.zeros(2, *shape)).shape == (2, 4)


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
    with pytest.raises(CakeError, match="LeNet-5 takes images, not points. For points choose: mlp, mlp-norm, linear."):
        models.build("lenet5", (2,), 2)
    with pytest.raises(CakeError, match="There is no model 'gpt'. Choose one of: mlp, mlp-norm, linear, lenet5"):
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
