"""Naive inversion runs away from the boundary: that is its point."""

from __future__ import annotations

import torch

from cake_core.evaluation import boundary_distance
from cake_core.synthesis import synthesize


def test_it_is_cake_without_contrast(plane_teacher):
    shared = {"shape": (2,), "classes": 2, "device": "cpu", "batches": 2, "samples": 20, "steps": 10}
    naive = synthesize(plane_teacher, "naive", **shared)
    cake = synthesize(plane_teacher, "cake", weight_contrast=0.0, **shared)
    list(naive), list(cake)
    torch.testing.assert_close(naive.result.x, cake.result.x)


def test_samples_end_farther_from_the_boundary_than_they_began(moons_teacher):
    run = synthesize(
        moons_teacher, "naive", shape=(2,), classes=2, device="cpu", batches=1, samples=400, steps=200, step_size=0.3
    )
    snapshots = list(run)
    first, last = (boundary_distance(moons_teacher, s.x[0]).median() for s in (snapshots[0], snapshots[-1]))
    assert last > 2 * first
    hit = (run.result.y.argmax(dim=1) == run.result.labels).float().mean()
    assert hit > 0.95  # and the teacher sees what it was told to see
