"""Measures against oracles: textbook values, another library, geometry."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from cake_core import evaluation
from cake_core.evaluation import Rate


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_against_published_values(k, n, low, high):
    """81 of 263 is the example of Newcombe (1998), Stat. Med. 17, 857-872, method 3: 0.2553 to 0.3662."""
    assert evaluation.wilson(k, n) == pytest.approx((low, high), abs=1e-4)


def test_rates_say_how_many():
    rate = Rate.of(90, 100)
    assert rate.value == 0.9
    assert str(rate) == "90.0 % (82.6 to 94.5, n = 100)"


def test_accuracy_and_agreement_by_hand():
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [0.0, 5.0]])
    assert evaluation.accuracy(logits, torch.tensor([0, 1, 1, 1])).value == 0.75
    assert evaluation.agreement(logits, logits.flip(1)).value == 0
    assert evaluation.agreement(logits, 2 * logits).value == 1


def test_accuracy_by_batch_forgets_what_the_training_data_were_like():
    """Two classes told apart by the sign of one number; the real inputs are the training data moved and stretched."""
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(2049, 1, generator=draws)
    labels = (x[:, 0] > 0).long()
    network = nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[-1.0], [1.0]]))
        network[1].bias.zero_()
    network.eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    real = 3 * x + 7
    assert evaluation.accuracy(evaluation.predict(network, real), labels).value < 0.55  # nearly all in one class
    found = evaluation.accuracy_by_batch(network, real, labels)
    assert found.n == 2049  # three batches of 683: no batch is left with a single example, which has no spread
    assert found.value > 0.97
    sorted_labels, order = labels.sort()
    assert evaluation.accuracy_by_batch(network, real[order], sorted_labels).value > 0.97  # batches are mixed
    doubled = evaluation.accuracy_by_batch(network, x, labels, inputs=lambda part: 2 * part - 1)
    assert doubled.value > 0.97
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert evaluation.accuracy(evaluation.predict(network, x), labels).value > 0.99  # and goes by them again
    assert evaluation.accuracy_by_batch(network[1], x, labels) is None
    assert evaluation.accuracy_by_batch(network, x[:1], labels[:1]) is None


def test_calibration_error_against_a_loop():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(500, 4, generator=generator)
    labels = torch.randint(0, 4, (500,), generator=generator)
    confidence, predicted = logits.softmax(dim=1).max(dim=1)
    expected, edges = 0.0, np.linspace(0, 1, 16)
    for low, high in pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            gap = (predicted[inside] == labels[inside]).float().mean() - confidence[inside].mean()
            expected += inside.float().mean().item() * abs(gap.item())
    assert evaluation.calibration_error(logits, labels) == pytest.approx(expected, abs=1e-5)


def test_calibration_error_by_hand():
    """Four answers at confidence 0.75, three of them right: perfectly calibrated; none right: off by 0.75."""
    logits = torch.tensor([[math.log(3.0), 0.0]]).repeat(4, 1)
    assert evaluation.calibration_error(logits, torch.tensor([0, 0, 0, 1])) == pytest.approx(0, abs=1e-6)
    assert evaluation.calibration_error(logits, torch.ones(4, dtype=torch.int64)) == pytest.approx(0.75, abs=1e-6)


class Line(nn.Module):
    """Two classes, divided by the line 3x + 4y = 5."""

    def forward(self, x):
        side = 3 * x[:, 0] + 4 * x[:, 1] - 5
        return torch.stack([side, -side], dim=1)


class Circle(nn.Module):
    """Two classes, divided by the circle of radius 1."""

    def forward(self, x):
        outside = x.square().sum(dim=1) - 1
        return torch.stack([outside, torch.zeros_like(outside)], dim=1)


class Sectors(nn.Module):
    """Three classes in sectors of 120 degrees around the origin."""

    def forward(self, x):
        angles = torch.tensor([90.0, 210.0, 330.0]).deg2rad()
        return x @ torch.stack([angles.cos(), angles.sin()])


def test_distance_to_a_line_is_exact():
    x = torch.randn(100, 2)
    exact = (3 * x[:, 0] + 4 * x[:, 1] - 5).abs() / 5
    torch.testing.assert_close(evaluation.boundary_distance(Line(), x), exact)


def test_distance_close_to_a_circle_is_right_to_first_order():
    angle = torch.linspace(0, 6, 50)
    radius = torch.linspace(0.98, 1.02, 50)
    x = radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    torch.testing.assert_close(evaluation.boundary_distance(Circle(), x), (radius - 1).abs(), atol=5e-4, rtol=0)


def test_distance_where_the_input_does_not_matter_is_infinite():
    class Flat(nn.Module):
        def forward(self, x):
            return torch.tensor([[1.0, 0.0]]) + 0 * x.sum(dim=1, keepdim=True)

    assert evaluation.boundary_distance(Flat(), torch.zeros(3, 2)).isinf().all()


def length(line: torch.Tensor) -> float:
    return (line[:, 1] - line[:, 0]).norm(dim=1).sum().item()


def test_boundary_line_of_a_circle():
    line = evaluation.boundary_line(Circle(), 2.0)
    torch.testing.assert_close(line.flatten(0, 1).norm(dim=1), torch.ones(2 * len(line)), atol=2e-3, rtol=0)
    assert length(line) == pytest.approx(2 * math.pi, rel=2e-3)


def test_boundary_line_of_a_line_is_clipped_to_the_view():
    line = evaluation.boundary_line(Line(), 1.0)  # 3x + 4y = 5 cuts the corner of [-1, 1]^2 from (1, 1/2) to (1/3, 1)
    assert length(line) == pytest.approx(math.hypot(2 / 3, 1 / 2), rel=1e-3)


def test_boundary_line_of_three_classes_has_each_border_twice():
    line = evaluation.boundary_line(Sectors(), 1.0)
    # Three rays from the origin, each seen from both sides: down (length 1), and two at 30 degrees above the axis.
    assert length(line) == pytest.approx(2 * (1 + 2 / math.cos(math.pi / 6)), rel=0.02)


def test_boundary_line_where_there_is_none():
    class Sure(nn.Module):
        def forward(self, x):
            return torch.stack([x[:, 0] * 0 + 1, x[:, 0] * 0], dim=1)

    line = evaluation.boundary_line(Sure(), 1.0)
    assert line.shape == (0, 2, 2)
    assert math.isnan(evaluation.coverage(line, torch.zeros(1, 2), 0.1))


def test_coverage_by_hand():
    line = torch.tensor([[[0.0, 0.0], [1.0, 0.0]], [[5.0, 5.0], [5.0, 6.0]]])  # two pieces of length 1
    assert evaluation.coverage(line, torch.tensor([[0.5, 0.0]]), radius=0.25) == pytest.approx(0.25, abs=0.02)
    assert evaluation.coverage(line, torch.tensor([[0.5, 0.0], [5.0, 5.5]]), radius=0.51) == pytest.approx(1.0)
    assert evaluation.coverage(line, torch.tensor([[9.0, 9.0]]), radius=0.1) == 0
    assert evaluation.coverage(line, torch.zeros(0, 2), radius=0.1) == 0


def test_grid_goes_row_by_row_from_below():
    points = evaluation.grid(1.0, 3)
    assert points[:4].tolist() == [[-1, -1], [0, -1], [1, -1], [-1, 0]]


def test_looking_at_a_network_in_training_leaves_it_in_training():
    network = nn.Linear(2, 2).train()
    with evaluation.in_eval_mode(network):
        assert not network.training
    assert network.training
    network.eval()
    with evaluation.in_eval_mode(network):
        pass
    assert not network.training


def test_confusion_counts_pairs():
    rows, columns = torch.tensor([0, 0, 2, 1, 0]), torch.tensor([0, 1, 2, 1, 1])
    assert evaluation.confusion(rows, columns, 3).tolist() == [[1, 2, 0], [0, 1, 0], [0, 0, 1]]
