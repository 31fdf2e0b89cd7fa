"""ZSDB3KD: distances on a teacher whose boundary is known, pushes, soft labels, and labels alone."""

from __future__ import annotations

import math

import torch
from torch import nn

from cake_core.methods.zsdb3kd import Search, Zsdb3kd, unit
from cake_core.oracle import Oracle
from cake_core.rng import Streams
from cake_core.synthesis import synthesize
from cake_core.synthetic import Problem


class Line(nn.Module):
    """Two classes; the boundary is the line x_0 = 1."""

    def forward(self, x):
        return torch.stack([1 - x[:, 0], x[:, 0] - 1], dim=1)


def begin(teacher: nn.Module, samples: int = 60, **settings):
    method = Zsdb3kd(Zsdb3kd.Config(batches=1, samples=samples, **settings))
    problem = Problem(Oracle(teacher, "cpu", Zsdb3kd.access), (2,), 2, 1, torch.device("cpu"))
    rng = Streams(0, [0])
    return method, method.init(problem, rng), rng


def test_bisection_finds_the_boundary():
    method, state, _ = begin(Line(), precision_steps=20)
    search = Search(state, method.config)
    d = unit(torch.randn(60, 2, generator=torch.Generator().manual_seed(0)))
    exact = (1 - search.x[:, 0]) / d[:, 0]  # where the ray meets the line
    hit = ((exact > 0) & (exact < 20)).nonzero()[:, 0]
    found = search._bisected(hit, torch.full((len(hit),), 20.0), d[hit])
    torch.testing.assert_close(found, exact[hit], atol=1e-3, rtol=0)
    # And a ray that misses it says so.
    missed = (exact < 0).nonzero()[:, 0]
    assert not search.left(missed, torch.full((len(missed),), 20.0), d[missed]).any()


def test_descent_brings_the_direction_to_the_nearest_boundary():
    """After a few descents the distances are those to the line, within a few percent."""
    method, state, rng = begin(
        Line(), starts=3, directions=12, iterations=12, precision_steps=16, nearness=0.3, push=0.0, rounds=1
    )
    nearest = (1 - state.x[..., 0]).abs().flatten()
    method.step(state, rng)
    first = (state.extra["distance"] / nearest).median().item()
    for _ in range(12):
        method.step(state, rng)
    ratio = state.extra["distance"] / nearest
    assert (ratio > 0.99).all()  # never nearer than the boundary is
    assert ratio.median().item() < min(1.1, first)


def test_samples_move_away_from_the_boundary_and_keep_their_class():
    method, state, rng = begin(Line(), push=0.5, rounds=2, iterations=4)
    before, y = (1 - state.x[..., 0]).abs(), state.y.clone()
    while state.t < method.steps:
        method.step(state, rng)
    after = (1 - state.x[..., 0]).abs()
    assert (after > before).float().mean() > 0.95
    assert torch.equal(Line()(state.x.flatten(0, 2)).argmax(dim=1), y.flatten())


def test_soft_labels_by_hand():
    """One sample of each class, 1 and 3 away from the line along the ray between them: with two classes both logits are
    1 / r, so the soft label is even, and the target is 3/4 for the own class."""
    method, state, _ = begin(Line(), samples=2, precision_steps=20, softness=0.5)
    state.x = torch.tensor([[[[0.0, 0.0], [4.0, 0.0]]]])
    state.y = torch.tensor([[[0, 1]]])
    targets = Search(state, method.config).targets()[0, 0]
    torch.testing.assert_close(targets, torch.tensor([[0.75, 0.25], [0.25, 0.75]]), atol=1e-4, rtol=0)


class Corner(nn.Module):
    """Three classes: left of 0, between 0 and 2, right of 2."""

    def forward(self, x):
        return torch.stack([-x[:, 0], 0 * x[:, 0], x[:, 0] - 2], dim=1)


def test_nearer_classes_get_more():
    method = Zsdb3kd(Zsdb3kd.Config(batches=1, samples=3, precision_steps=20, softness=0.5))
    problem = Problem(Oracle(Corner(), "cpu", Zsdb3kd.access), (2,), 3, 1, torch.device("cpu"))
    state = method.init(problem, Streams(0, [0]))
    state.x = torch.tensor([[[[-1.0, 0.0], [0.5, 0.0], [3.0, 0.0]]]])
    state.y = torch.tensor([[[0, 1, 2]]])
    middle = Search(state, method.config).targets()[0, 0, 1]
    left, right = 1 / 0.5, 1 / 1.5  # the distances to the two boundaries
    soft = torch.tensor([left, left + right, right]).div(0.5).softmax(dim=0)
    torch.testing.assert_close(middle, (soft + torch.tensor([0.0, 1.0, 0.0])) / 2, atol=1e-3, rtol=0)


def test_classes_come_in_equal_numbers_where_they_occur():
    _, state, _ = begin(Line(), samples=100)
    counts = state.y.flatten().bincount(minlength=2)
    assert counts.sum() == 100
    assert counts.min() >= 40


def test_every_query_is_counted_and_none_is_more_than_a_label(moons_teacher):
    run = synthesize(moons_teacher, "zsdb3kd", shape=(2,), classes=2, device="cpu", batches=2, samples=20)
    list(run)
    assert run.result.provenance["gradient_calls"] == 0
    assert run.result.provenance["forward_calls"] > 40 * 100
    entropy = -(run.result.y * run.result.y.log()).sum(dim=1)
    assert (entropy < math.log(2)).all()
