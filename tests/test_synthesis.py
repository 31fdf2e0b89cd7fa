"""The loop: progress, pausing, cancelling, what is refused, and teachers of any kind."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

import cake_core
from cake_core.errors import CakeError
from cake_core.methods.cake import Cake
from cake_core.synthesis import synthesize

PLANE = {"shape": (2,), "classes": 2, "device": "cpu", "batches": 4, "samples": 10, "steps": 6}


def test_public_name(plane_teacher):
    run = cake_core.synthesize(plane_teacher, method="cake", **PLANE, seed=3)
    assert [s.step for s in run] == [0, 1, 2, 3, 4, 5, 6]
    assert len(run.result) == 40


def test_every(plane_teacher):
    run = synthesize(plane_teacher, "cake", **PLANE, in_flight=2, every=4)
    assert [(s.step, s.batches) for s in run] == [
        (0, (0, 1)), (4, (0, 1)), (6, (0, 1)), (6, (2, 3)), (10, (2, 3)), (12, (2, 3)),
    ]  # fmt: skip
    assert run.total == 12


def test_pausing_is_not_asking(plane_teacher):
    """Between two items any amount of other work changes nothing."""
    straight = synthesize(plane_teacher, "lake", **PLANE)
    list(straight)
    halting = synthesize(plane_teacher, "lake", **PLANE)
    for _ in halting:
        torch.randn(100)
    assert torch.equal(straight.result.x, halting.result.x)


def test_an_edit_counts_from_the_next_step_on(plane_teacher):
    plain = synthesize(plane_teacher, "cake", **PLANE, in_flight=4)
    edited = synthesize(plane_teacher, "cake", **PLANE, in_flight=4)
    before, after = [], []
    for k, (a, b) in enumerate(zip(plain, edited, strict=True)):
        (before if k <= 3 else after).append(torch.equal(a.x, b.x))
        if k == 3:
            edited.config = edited.config.replace(step_size=1.0)
    assert all(before)
    assert not any(after)


def test_fewer_classes_than_samples_and_odd_numbers(plane_teacher):
    run = synthesize(plane_teacher, "cake", **{**PLANE, "samples": 7})
    list(run)
    assert len(run.result) == 4 * 8  # rounded up to whole groups of two
    run = synthesize(plane_teacher, "cake", **{**PLANE, "samples": 1})
    list(run)
    assert len(run.result) == 4  # groups of one


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"stepz": 3}, "There is no setting 'stepz'. Did you mean 'steps'?"),
        ({"steps": 0}, "'steps' must be a whole number from 1 to 20000; 0 is not."),
        ({"step_size": -1.0}, "'step_size' must be a number from 1e-05 to 10; -1.0 is not."),
        ({"device": "tpu"}, "There is no device 'tpu'."),
    ],
)
def test_bad_settings_get_a_sentence(plane_teacher, settings, sentence):
    with pytest.raises(CakeError) as caught:
        synthesize(plane_teacher, "cake", **{**PLANE, **settings})
    assert str(caught.value).startswith(sentence)


def test_a_method_with_its_settings_can_be_given(plane_teacher):
    one = synthesize(
        plane_teacher, Cake(Cake.Config(batches=4, samples=10, steps=6)), shape=(2,), classes=2, device="cpu"
    )
    two = synthesize(plane_teacher, "cake", **PLANE)
    list(one), list(two)
    assert torch.equal(one.result.x, two.result.x)


def test_any_function_can_be_a_teacher():
    run = synthesize(lambda x: torch.stack([x[:, 0], -x[:, 0]], dim=1), "cake", **PLANE)
    list(run)
    assert run.result.x.isfinite().all()


def test_a_module_that_cannot_be_copied_is_a_sentence():
    class Locked(nn.Module):
        def __init__(self):
            super().__init__()
            self.lock = threading.Lock()

        def forward(self, x):
            return x

    with pytest.raises(CakeError, match="This teacher can't be copied"):
        synthesize(Locked(), "cake", **PLANE)


def test_batch_norm_statistics_do_not_move():
    teacher = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).train()
    before = teacher[1].running_mean.clone()
    list(synthesize(teacher, "cake", **PLANE))
    assert torch.equal(teacher[1].running_mean, before)
    assert teacher[1].num_batches_tracked == 0
    assert teacher.training
