"""DFAD-AR/VI: the terms by hand, and a game in which the student catches up."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from cake_core.losses import activation_spread
from cake_core.methods.dfad_activation import DfadActivation
from cake_core.oracle import Oracle
from cake_core.rng import Streams
from cake_core.synthetic import Problem


def begin(teacher, **settings):
    method = DfadActivation(DfadActivation.Config(batch_size=30, latent=3, width=8, **settings))
    oracle = Oracle(teacher, "cpu", DfadActivation.access)

    def student(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))

    problem = Problem(oracle, (2,), 2, 1, torch.device("cpu"), student)
    return method, method.init(problem, Streams(0, [0]))


def test_activation_spread_by_hand():
    layers = [torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0]])]
    expected = (torch.tensor(1.0).tanh() ** 2 / 2 + torch.tensor(2.0).tanh() ** 2) / 2
    torch.testing.assert_close(activation_spread(layers), expected)


def test_terms_against_a_direct_computation(plane_teacher):
    plane_teacher.requires_grad_(False)
    method, state = begin(plane_teacher)
    before = state.generator.rng.get_state()
    terms = method.losses(state)
    state.generator.rng.set_state(before)
    x = state.generator.network(torch.randn(30, 3, generator=state.generator.rng))
    h, hidden = x, []
    for layer in plane_teacher.body:
        if isinstance(layer, nn.ReLU):
            hidden.append(h)
        h = layer(h)
    torch.testing.assert_close(terms["disagreement"], -(state.extra["student"](x) - plane_teacher.head(h)).abs().mean())
    torch.testing.assert_close(terms["activation"], torch.stack([a.tanh().square().mean() for a in hidden]).mean())


def test_interpolation_against_a_loop(plane_teacher):
    method, state = begin(plane_teacher)
    x, t = torch.randn(30, 2), torch.randn(30, 2)
    student = state.extra["student"]
    before = state.generator.rng.get_state()
    found = method._between(state, student, x, t)
    state.generator.rng.set_state(before)
    other = torch.randperm(30, generator=state.generator.rng)
    r = torch.rand(30, 1, generator=state.generator.rng)
    errors = []
    for i in range(30):
        v = r[i] * x[i] + (1 - r[i]) * x[other[i]]
        errors.append((student(v[None])[0] - (r[i] * t[i] + (1 - r[i]) * t[other[i]])).abs().mean())
    torch.testing.assert_close(found, torch.stack(errors).mean())


def test_the_student_of_the_game_follows_the_teacher(moons_teacher):
    """Where the generator seeks disagreement, there is less and less of it."""
    method, state = begin(moons_teacher, steps=150, weight_activation=0.1, student_rate=0.01)
    x = torch.randn(500, 2, generator=torch.Generator().manual_seed(2))

    def apart() -> float:
        with torch.no_grad():
            return F.l1_loss(state.extra["student"](x), moons_teacher(x)).item()

    before = apart()
    for _ in range(150):
        method.step(state, Streams(0, [0]))
    assert apart() < before / 3


def test_the_student_is_not_moved_by_the_generators_step(plane_teacher):
    method, state = begin(plane_teacher)
    weights = [p.clone() for p in state.extra["student"].parameters()]
    terms = method.losses(state)
    method._learn(state, method.combined(state, terms))
    assert all(torch.equal(a, b) for a, b in zip(weights, state.extra["student"].parameters(), strict=True))
