"""The generative baseline: its terms by hand, and its known failure."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from cake_core.methods.generative import REPEL_FLOOR, ConditionalGenerator
from cake_core.oracle import Oracle
from cake_core.rng import Streams, generator
from cake_core.synthesis import synthesize
from cake_core.synthetic import Problem


def test_terms_against_a_direct_computation(plane_teacher):
    plane_teacher.requires_grad_(False)
    method = ConditionalGenerator(ConditionalGenerator.Config(weight_contrast=0.5, weight_repel=0.1, pairs=7))
    problem = Problem(Oracle(plane_teacher), (2,), 2, 1, torch.device("cpu"))
    state = method.init(problem, Streams(3, [0]))
    rng = generator(3, 2**31)
    state.generator.rng = generator(3, 2**31)
    terms = method.losses(state)

    u = torch.rand(2, 7, 5, generator=rng)
    c = torch.rand(7, 2, generator=rng).argsort(dim=-1)
    x = torch.stack([state.generator.network(torch.cat([u[0], F.one_hot(c[:, k], 2)], dim=1)) for k in (0, 1)], dim=1)
    other = torch.stack([state.generator.network(torch.cat([u[1], F.one_hot(c[:, k], 2)], dim=1)) for k in (0, 1)], 1)
    z = plane_teacher(x.flatten(0, 1)).view(7, 2, 2)
    torch.testing.assert_close(terms["classification"], F.cross_entropy(z.flatten(0, 1), c.flatten()))
    torch.testing.assert_close(terms["contrast"], (z[:, 0] - z[:, 1]).square().mean())
    repel = (1 / (REPEL_FLOOR + (x - other).square().mean(dim=-1))).mean()
    torch.testing.assert_close(terms["repel"], repel)


def test_repelling_stays_finite_when_two_draws_coincide(plane_teacher):
    method = ConditionalGenerator(ConditionalGenerator.Config(weight_repel=1.0))
    problem = Problem(Oracle(plane_teacher), (2,), 2, 1, torch.device("cpu"))
    state = method.init(problem, Streams(0, [0]))
    torch.nn.init.zeros_(state.generator.network[-2].weight)  # every latent gives the same point
    assert method.losses(state)["repel"].item() == 1 / REPEL_FLOOR


def test_a_group_shares_its_latent(plane_teacher):
    run = synthesize(plane_teacher, "generative", shape=(2,), classes=2, device="cpu", batches=1, samples=40, steps=1)
    next(run)
    assert run.total == 1
    list(run)
    assert run.result.x.isfinite().all()


def test_it_collapses_compared_with_the_noise(moons_teacher):
    """Within a class its samples are far more alike than samples of the prior."""
    run = synthesize(
        moons_teacher, "generative", shape=(2,), classes=2, device="cpu", batches=1, samples=400, steps=1500
    )
    list(run)
    hit = (run.result.y.argmax(dim=1) == run.result.labels).float().mean()
    assert hit > 0.9
    within = run.result.x[run.result.labels == 0].std(dim=0).norm()
    assert within < 0.7 * 2**0.5
