"""DAFL: its three terms by hand, and mini-batches taken along the training."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from cake_core import teacher
from cake_core.losses import negative_entropy_of_mean
from cake_core.methods.dafl import Dafl
from cake_core.oracle import Oracle
from cake_core.rng import Streams
from cake_core.synthesis import synthesize
from cake_core.synthetic import Problem


def test_terms_against_a_direct_computation(plane_teacher):
    plane_teacher.requires_grad_(False)
    method = Dafl(Dafl.Config(batch_size=30, latent=3, width=8))
    problem = Problem(Oracle(plane_teacher, "cpu", Dafl.access), (2,), 2, 1, torch.device("cpu"))
    state = method.init(problem, Streams(3, [0]))
    before = state.generator.rng.get_state()
    terms = method.losses(state)
    state.generator.rng.set_state(before)
    x = state.generator.network(torch.randn(30, 3, generator=state.generator.rng))
    features = plane_teacher.body(x)
    z = plane_teacher.head(features)
    p = z.softmax(dim=1).mean(dim=0)
    torch.testing.assert_close(terms["confidence"], -z.log_softmax(dim=1).max(dim=1).values.mean())
    torch.testing.assert_close(terms["activation"], -features.abs().mean())
    torch.testing.assert_close(terms["balance"], (p * p.log()).sum())


def test_balance_is_lowest_when_classes_are_equal():
    even = F.one_hot(torch.arange(40) % 4, 4) * 50.0
    one = F.one_hot(torch.zeros(40, dtype=torch.int64), 4) * 50.0
    torch.testing.assert_close(negative_entropy_of_mean(even), torch.tensor(-math.log(4)))
    torch.testing.assert_close(negative_entropy_of_mean(one), torch.tensor(0.0))


def test_mini_batches_are_taken_along_the_training(plane_teacher):
    """Mini-batch m is what the generator makes of its latents after the share (m + 1) / M of the steps."""
    run = synthesize(
        plane_teacher, "dafl", shape=(2,), classes=2, device="cpu", batches=4, samples=20, steps=8, latent=3, width=8
    )
    positions = {s.step: s.x for s in run}
    last = positions[run.total]
    assert torch.equal(run.result.x.view(4, 20, 2)[3], last[3])
    assert not torch.allclose(run.result.x.view(4, 20, 2)[0], last[0])


@pytest.mark.parametrize("weight", [0.0, 5.0])
def test_without_balance_one_class_takes_over(weight):
    network = teacher.load("digits/lenet5").network
    run = synthesize(
        network, "dafl", shape=(1, 8, 8), classes=10, device="cpu", batches=1, samples=400, steps=150, every=10**6,
        weight_balance=weight,
    )  # fmt: skip
    list(run)
    share = run.result.labels.bincount(minlength=10).max().item() / 400
    assert share < 0.2 if weight else share > 0.4
