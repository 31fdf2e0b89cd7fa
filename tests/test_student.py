"""Students learn from the teacher's answers, soft or hard, and never from the steering labels."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from cake_core import data
from cake_core.errors import CakeError
from cake_core.losses import distillation
from cake_core.student import KDConfig, Lesson, StudentConfig, StudentTraining, TeacherLogits
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


class Counting:
    """A linear teacher that counts the examples it is asked for.

    Args:
        shape: of one input.
        classes: number of classes.
    """

    def __init__(self, shape: tuple[int, ...], classes: int):
        self.weights = torch.randn(math.prod(shape), classes, generator=torch.Generator().manual_seed(0))
        self.asked = 0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        self.asked += len(x)
        return x.flatten(1) @ self.weights


def test_the_teacher_is_asked_once_for_each_example():
    digits = data.load(data.DataConfig(name="digits"))
    teacher = Counting((1, 8, 8), 10)
    logits = TeacherLogits(teacher, digits)
    expected = digits.inputs(digits.train_x).flatten(1) @ teacher.weights
    order = torch.randperm(len(digits.train_x), generator=torch.Generator().manual_seed(1))
    for index in (order[:10], order[5:20], order, order[:3]):
        torch.testing.assert_close(logits[index], expected[index])
    assert teacher.asked == len(digits.train_x)


@pytest.mark.parametrize("weight", [0.0, 0.6])
def test_distillation_with_data_is_a_plain_loop(weight):
    """Three updates of the student, beside the same written out with the loss on each batch."""
    digits = data.load(data.DataConfig(name="digits"))
    teacher, kd = Counting((1, 8, 8), 10), KDConfig(temperature=3.0, weight=weight)
    config = StudentConfig(model="mlp", updates=3, learning_rate=0.01)
    lesson = Lesson.from_teacher(digits, TeacherLogits(teacher, digits), kd)
    training = StudentTraining(lesson, config, seed=4)
    list(training)

    seen = []
    plain = StudentTraining(replace(lesson, loss=lambda z, i: seen.append(i) or lesson.loss(z, i)), config, seed=4)
    list(plain)
    network = StudentTraining(lesson, config, seed=4).network
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 0.01, total_steps=4, div_factor=25, final_div_factor=1e4, cycle_momentum=False
    )
    for index in seen:
        x, y = digits.inputs(digits.train_x[index]), digits.train_y[index]
        with torch.no_grad():
            answers = teacher(x)
        optimiser.zero_grad()
        distillation(network(x), answers, y, 3.0, weight).backward()
        optimiser.step()
        schedule.step()
    for a, b in zip(training.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    if not weight:  # then it is training on the labels
        labels = StudentTraining(Lesson.from_labels(digits), config, seed=4)
        list(labels)
        for a, b in zip(training.network.parameters(), labels.network.parameters(), strict=True):
            torch.testing.assert_close(a, b)


def test_it_stops_where_it_is_asked_to():
    training = StudentTraining(samples(), StudentConfig(updates=50), every=20)
    steps = [step.update for step in training]
    assert {20, 40, 50} <= set(steps)
    assert steps == sorted(set(steps))


def test_real_data_stay_as_small_as_they_are():
    digits = data.load(data.DataConfig(name="digits"))
    assert Lesson.from_labels(digits).x is digits.train_x
    assert (
        Lesson.from_teacher(digits, TeacherLogits(Counting((1, 8, 8), 10), digits), KDConfig()).x.dtype == torch.uint8
    )


@pytest.mark.parametrize("name", data.DATASETS)
def test_defaults_fit_the_data(name):
    info = data.info(name)
    assert StudentConfig.for_data(info).model == ("mlp" if info.kind == "points" else "lenet5-half")
