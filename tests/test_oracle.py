"""The teacher as methods see it: folded, it answers as it did. What it opens to whom: test_methods."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from cake_core import hooks, models
from cake_core.oracle import Oracle, folded, frozen_copy


@pytest.mark.parametrize("name", ["mlp-norm", "resnet4", "resnet18", "wrn16-1", "mobilenetv2", "vgg11"])
def test_folded_normalisation_gives_the_same_logits_and_gradients(name):
    shape = (2,) if name == "mlp-norm" else (3, 32, 32)
    network = models.build(name, shape, 10, seed=1)
    draws = torch.Generator().manual_seed(7)
    with torch.no_grad():
        network.train()(0.5 + 1.5 * torch.randn(4, *shape, generator=draws))  # statistics of their own
    network = frozen_copy(network, "cpu").double()
    x = torch.randn(2, *shape, generator=draws).double().requires_grad_()
    made = folded(network)
    assert len(hooks.batch_norms(made)) < len(hooks.batch_norms(network))
    torch.testing.assert_close(made(x), network(x), rtol=1e-6, atol=1e-8)
    (ours,) = torch.autograd.grad(made(x).square().sum(), x)
    (theirs,) = torch.autograd.grad(network(x).square().sum(), x)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-8 * theirs.abs().max().item())


def test_the_teacher_keeps_its_layers_and_methods_still_see_them(image_norm_teacher):
    before = copy.deepcopy(image_norm_teacher.state_dict())
    oracle = Oracle(image_norm_teacher, "cpu", frozenset({"logits", "gradient", "batchnorm"}))
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    z, layers = oracle.normalised(x)
    assert len(layers) == 2
    torch.testing.assert_close(oracle(x), z)
    assert all(torch.equal(v, before[k]) for k, v in image_norm_teacher.state_dict().items())


def test_what_has_nothing_to_fold_or_is_foreign_stays_itself(image_teacher):
    assert folded(image_teacher) is image_teacher
    foreign = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 10)).eval()
    assert folded(foreign) is foreign
