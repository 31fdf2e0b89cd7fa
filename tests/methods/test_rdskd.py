"""RDSKD: its terms by hand, its references, and a generator that is judged as the student sees it."""

from __future__ import annotations

import math

import torch

from cake_core.methods.rdskd import HIGHEST, Rdskd
from cake_core.oracle import Oracle
from cake_core.rng import Streams
from cake_core.synthetic import Problem


def begin(teacher, **settings):
    method = Rdskd(Rdskd.Config(batch_size=20, latent=3, width=8, **settings))
    problem = Problem(Oracle(teacher, "cpu", Rdskd.access), (2,), 2, 1, torch.device("cpu"))
    return method, method.init(problem, Streams(0, [0]))


def test_terms_against_a_direct_computation(plane_teacher):
    plane_teacher.requires_grad_(False)
    method, state = begin(plane_teacher)
    before = state.generator.rng.get_state()
    terms = method.losses(state)
    state.generator.rng.set_state(before)
    x = state.generator.network(torch.randn(20, 3, generator=state.generator.rng))
    z = plane_teacher(x)
    p, mean = z.softmax(dim=1), z.softmax(dim=1).mean(dim=0)
    torch.testing.assert_close(terms["confidence"], -p.max(dim=1).values.log().mean())
    torch.testing.assert_close(terms["balance"], (mean * mean.log()).sum())
    apart = math.sqrt((p[10:] - p[:10]).square().sum()) / math.sqrt((x[10:] - x[:10]).square().sum())
    torch.testing.assert_close(terms["diversity"], torch.tensor(apart))


def test_a_rise_above_the_reference_is_punished_exponentially(plane_teacher):
    method, state = begin(plane_teacher, weight_diversity=2.0, epoch=10)
    terms = {k: torch.tensor(v) for k, v in (("confidence", 0.5), ("balance", -0.6), ("diversity", 0.1))}
    # At first the references are 0.
    torch.testing.assert_close(method.combined(state, terms), torch.tensor(math.exp(0.5) + math.exp(-0.6) + 0.2))
    state.t = 1  # the second step of an epoch sets them, for the steps after it
    method.combined(state, terms)
    state.t = 2
    worse = {**terms, "confidence": torch.tensor(2.5)}
    torch.testing.assert_close(method.combined(state, worse), torch.tensor(math.exp(2.0) + 1.0 + 0.2))
    awful = {**terms, "confidence": torch.tensor(500.0)}
    assert method.combined(state, awful).item() < 1.01 * math.exp(HIGHEST)
    state.t = 11
    method.combined(state, worse)
    state.t = 12
    torch.testing.assert_close(method.combined(state, worse), torch.tensor(2 + 0.2))


def test_the_simple_sum(plane_teacher):
    method, state = begin(plane_teacher, combination="sum")
    terms = {k: torch.tensor(v) for k, v in (("confidence", 0.5), ("balance", -0.6), ("diversity", 0.1))}
    torch.testing.assert_close(method.combined(state, terms), torch.tensor(0.0))


def test_samples_do_not_depend_on_each_other(plane_teacher):
    """In training mode the generator normalises by batch; what is delivered comes from its running statistics."""
    method, state = begin(plane_teacher)
    network = state.generator.network
    for _ in range(3):
        method.step(state, None)
    latents = torch.randn(1, 4, 2, 3)
    with torch.no_grad():
        together = method.decode(network, latents, state.y)
        alone = method.decode(network, latents[:, :1], state.y)
    torch.testing.assert_close(together[:, :1], alone)
    assert network.training


def test_equal_answers_do_not_divide_by_zero(plane_teacher):
    method, state = begin(plane_teacher)
    torch.nn.init.zeros_(state.generator.network[-2].weight)  # every latent gives the same point
    assert all(v.isfinite() for v in method.losses(state).values())
