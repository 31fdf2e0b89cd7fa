"""LAKE: the Langevin noise has the right size, and the samples the right distribution."""

from __future__ import annotations

import torch
from torch import nn

from cake_core.synthesis import synthesize

SHARED = {"shape": (2,), "classes": 2, "device": "cpu"}


def test_without_temperature_it_is_cake(plane_teacher):
    settings = {"batches": 2, "samples": 20, "steps": 10}
    lake = synthesize(plane_teacher, "lake", temperature=0.0, **SHARED, **settings)
    cake = synthesize(plane_teacher, "cake", **SHARED, **settings)
    list(lake), list(cake)
    torch.testing.assert_close(lake.result.x, cake.result.x)


def test_one_step_adds_noise_of_variance_two_eta_tau(plane_teacher):
    settings = {"batches": 1, "samples": 20_000, "steps": 1, "step_size": 0.05}
    lake = synthesize(plane_teacher, "lake", temperature=0.5, **SHARED, **settings)
    cake = synthesize(plane_teacher, "cake", **SHARED, **settings)
    list(lake), list(cake)
    noise = lake.result.x - cake.result.x
    torch.testing.assert_close(noise.var(dim=0), torch.full((2,), 2 * 0.05 * 0.5), atol=0, rtol=0.05)
    assert noise.mean().abs() < 0.01


class Bowl(nn.Module):
    """Two classes; the difference of their logits is k x_0, so contrast makes a parabola of it."""

    def forward(self, x):
        return torch.stack([x[:, 0], -x[:, 0]], dim=1)


def test_it_samples_the_distribution_that_it_should():
    """With contrast alone, a pair of samples has energy 1/(2C) * 2 * ||z_1 - z_2||^2 = (x_1 - x_2)^2 along the first
    axis, so u = (x_1 - x_2) is Gaussian with density exp(-u^2 / tau): variance tau / 2."""
    tau = 0.4
    run = synthesize(
        Bowl(), "lake", **SHARED, batches=1, samples=20_000, steps=400, step_size=0.02, temperature=tau,
        weight_classification=0.0, weight_contrast=1.0,
    )  # fmt: skip
    list(run)
    pairs = run.result.x.view(-1, 2, 2)
    difference = pairs[:, 0, 0] - pairs[:, 1, 0]
    torch.testing.assert_close(difference.var(), torch.tensor(tau / 2), atol=0, rtol=0.1)
