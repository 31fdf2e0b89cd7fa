"""Gaussian distillation: batch statistics against a module in training mode, and the student that needs them too."""

from __future__ import annotations

import copy

import pytest
import torch

from cake_core import evaluation
from cake_core.errors import CakeError
from cake_core.pipeline import Distillation, Experiment
from cake_core.student import StudentConfig, fresh
from cake_core.synthesis import synthesize


def test_answers_are_those_of_a_module_in_training_mode(image_norm_teacher):
    run = synthesize(
        image_norm_teacher, "gd", shape=(1, 8, 8), classes=10, device="cpu", batches=3, samples=20, shift=1.0
    )
    list(run)
    assert abs(run.result.x.mean().item() - 1) < 0.1
    for m in range(3):
        training = copy.deepcopy(image_norm_teacher).train()
        mine = run.result.batch == m
        with torch.no_grad():
            expected = training(run.result.x[mine]).softmax(dim=1)
        torch.testing.assert_close(run.result.y[mine], expected, atol=1e-5, rtol=1e-4)


def test_with_running_statistics_it_is_plain_noise(image_norm_teacher):
    run = synthesize(
        image_norm_teacher, "gd", shape=(1, 8, 8), classes=10, device="cpu", batches=1, samples=20, batch_mode=False
    )
    list(run)
    with torch.no_grad():
        torch.testing.assert_close(run.result.y, image_norm_teacher(run.result.x).softmax(dim=1))


def test_the_student_normalises_by_batch_when_it_is_tested_too():
    student = fresh(StudentConfig(model="mlp-norm", batch_statistics=True), (2,), 2).eval()
    x = torch.randn(50, 2)
    moved = evaluation.predict(student, 10 * x + 3)
    assert not torch.allclose(moved[:1], evaluation.predict(student, (10 * x + 3)[:2])[:1])
    assert not any("running" in key for key in student.state_dict())
    with pytest.raises(CakeError, match="MLP has no batch normalisation.*Choose a student that has: mlp-norm"):
        fresh(StudentConfig(model="mlp", batch_statistics=True), (2,), 2)


def test_far_noise_teaches_with_batch_statistics_and_not_without():
    """Noise about (-5, -5): the teacher with running statistics names one class, with those of the batch both."""

    def answers(mode: str) -> Distillation:
        run = Distillation(
            Experiment.from_query(
                {"data": "moons", "method": "gd", "shift": "-5", "batch_mode": mode, "student.updates": "300"}
            )
        )
        for _ in run:
            pass
        return run

    batch, running = answers("true"), answers("false")
    assert batch.teacher.card.name == "moons/mlp-norm"
    share = [r.samples.labels.bincount(minlength=2).max().item() / len(r.samples) for r in (batch, running)]
    assert share[0] < 0.8 < 0.95 < share[1]
    assert batch.outcome.agreement.value > running.outcome.agreement.value + 0.1
