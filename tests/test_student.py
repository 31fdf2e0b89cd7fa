"""Students learn from the teacher's answers, soft or hard, and never from the steering labels."""

from __future__ import annotations

import pytest
import torch

from cake_core import data
from cake_core.errors import CakeError
from cake_core.student import StudentConfig, StudentTraining
from cake_core.synthetic import SyntheticSet


def samples(n: int = 400) -> SyntheticSet:
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    p = (3 * x[:, 0]).sigmoid()
    wrong = torch.zeros(n, dtype=torch.int64)  # steering labels that would teach nonsense
    return SyntheticSet(x, torch.stack([1 - p, p], dim=1), wrong, torch.zeros(n, dtype=torch.int64))


def answers(targets: str) -> torch.Tensor:
    training = StudentTraining(samples(), StudentConfig(updates=1500, targets=targets))
    for _ in training:
        pass
    with torch.no_grad():
        return training.network(torch.tensor([[-0.4, 0.0], [0.4, 0.0]])).softmax(dim=1)[:, 1]


def test_soft_targets_carry_the_teachers_doubt():
    expected = (3 * torch.tensor([-0.4, 0.4])).sigmoid()  # 0.23 and 0.77
    torch.testing.assert_close(answers("soft"), expected, atol=0.06, rtol=0)
    low, high = answers("hard")
    assert low < 0.05
    assert high > 0.95


def test_same_seed_same_student():
    a, b, c = (StudentTraining(samples(), StudentConfig(updates=20), seed=s) for s in (1, 1, 2))
    for training in (a, b, c):
        list(training)
    first, same, other = (next(t.network.parameters()) for t in (a, b, c))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_student_that_cannot_see_the_samples_is_refused():
    with pytest.raises(CakeError, match="LeNet-5 takes images, not points"):
        StudentTraining(samples(), StudentConfig(model="lenet5"))


@pytest.mark.parametrize("name", data.DATASETS)
def test_defaults_fit_the_data(name):
    info = data.info(name)
    assert StudentConfig.for_data(info).model == ("mlp" if info.kind == "points" else "lenet5-half")
