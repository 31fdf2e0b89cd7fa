"""Distillation with data: its samples are the data, and its loss is Hinton's."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from cake_core.losses import distillation
from cake_core.student import Lesson
from cake_core.synthesis import synthesize
from cake_core.synthetic import SyntheticSet


def test_samples_are_training_examples_drawn_without_repetition(plane_teacher):
    data = torch.randn(50, 2), torch.arange(50) % 2
    run = synthesize(plane_teacher, "kd", shape=(2,), classes=2, device="cpu", batches=3, samples=20, data=data, seed=4)
    list(run)
    found = (run.result.x[:, None] == data[0]).all(dim=2).float().argmax(dim=1)
    assert torch.equal(run.result.x, data[0][found])
    assert len(set(found[:50].tolist())) == 50  # all of them once, before any comes again
    assert torch.equal(found[50:], found[:10])
    assert run.result.provenance["forward_calls"] == 60


def test_the_softened_targets_come_from_probabilities_alone():
    """softmax(log p / t) is softmax(z / t), so the stored probabilities are enough; and the loss has the gradient of
    Hinton's, t^2 KL(p_T^t || p_S^t)."""
    draws = torch.Generator().manual_seed(0)
    z, s = (3 * torch.randn(40, 5, generator=draws) for _ in range(2))
    s.requires_grad_()
    samples = SyntheticSet(torch.zeros(40, 2), z.softmax(dim=1), z.argmax(dim=1), torch.zeros(40))
    lesson = Lesson.from_samples(samples, "soft", 4.0)
    torch.testing.assert_close(lesson.targets, (z / 4).softmax(dim=1))
    (ours,) = torch.autograd.grad(lesson.loss(s, lesson.targets), s)
    (hinton,) = torch.autograd.grad(distillation(s, z, z.argmax(dim=1), 4.0, 1.0), s)
    torch.testing.assert_close(ours, hinton, atol=1e-6, rtol=1e-4)
    plain = Lesson.from_samples(samples, "soft", 1.0)
    torch.testing.assert_close(plain.loss(s, plain.targets), F.cross_entropy(s, z.softmax(dim=1)))


def test_a_sure_answer_can_be_softened():
    """A probability that is 0 in float32 must not become infinite."""
    samples = SyntheticSet(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), torch.zeros(1), torch.zeros(1))
    lesson = Lesson.from_samples(samples, "soft", 2.0)
    assert lesson.targets.isfinite().all()
    assert lesson.targets[0, 0] == 1
