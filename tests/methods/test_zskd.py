"""ZSKD: class similarity by hand, the targets' distribution, and impressions that match their targets."""

from __future__ import annotations

import torch

from cake_core import models
from cake_core.methods.zskd import FLOOR, class_similarity, dirichlet
from cake_core.rng import Streams, generator
from cake_core.synthesis import synthesize


def test_class_similarity_by_hand():
    """Rows (1, 0), (1, 1) and (-1, 0): cosines 1, 1/sqrt 2, -1, and each row scaled to [0, 1]."""
    found = class_similarity(torch.tensor([[2.0, 0.0], [1.0, 1.0], [-3.0, 0.0]]))
    half = (2**-0.5 + 1) / 2
    expected = torch.tensor([[1, half, 0], [2**0.5 / (1 + 2**0.5) * 2**0.5, 1, 0], [0, (1 - 2**-0.5) / 2, 1]])
    expected[1, 0] = (2**-0.5 + 2**-0.5) / (1 + 2**-0.5)
    torch.testing.assert_close(found, expected)


def test_draws_have_the_distributions_mean_and_variance():
    a = torch.tensor([0.9, 0.3, 0.05, 0.001], dtype=torch.float64)
    drawn = dirichlet(a.expand(40_000, 4), generator(0))
    torch.testing.assert_close(drawn.sum(dim=1), torch.ones(40_000, dtype=torch.float64))
    mean = a / a.sum()
    variance = mean * (1 - mean) / (a.sum() + 1)
    torch.testing.assert_close(drawn.mean(dim=0), mean, atol=0.01, rtol=0)
    torch.testing.assert_close(drawn.var(dim=0), variance, atol=0.01, rtol=0)


def test_tiny_concentrations_still_give_a_distribution():
    drawn = dirichlet(torch.full((1000, 10), FLOOR, dtype=torch.float64), generator(1))
    assert drawn.isfinite().all()
    assert (drawn.max(dim=1).values > 0.99).float().mean() > 0.9


def test_impressions_come_closer_to_their_targets(moons_teacher):
    """Every sample starts from its own noise and ends with softened answers near its own target."""
    run = synthesize(
        moons_teacher, "zskd", shape=(2,), classes=2, device="cpu", batches=4, samples=40, steps=200, step_size=0.05
    )
    match = [s.losses["match"].sum().item() for s in list(run)[1:]]
    assert match[-1] < 0.5 * match[0]


def test_halves_of_the_run_have_different_concentrations():
    """The first mini-batches draw from beta c, the later ones from beta c / 10: those are nearer to one class."""
    teacher = models.build("mlp", (2,), 5, seed=2).eval()
    peaks = []
    for m in (0, 1):
        run = synthesize(teacher, "zskd", shape=(2,), classes=5, device="cpu", batches=2, samples=400, steps=1)
        run.method.config = run.method.config.replace(concentration=3.0)
        state = run.method.init(run.problem, Streams(0, [m]))
        targets = state.extra["targets"]
        torch.testing.assert_close(targets.sum(dim=-1), torch.ones(1, 80, 5))
        peaks.append(targets.max(dim=-1).values.mean().item())
    assert peaks[1] > peaks[0] + 0.1
