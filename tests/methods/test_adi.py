"""Adaptive DeepInversion: the divergence by hand, the rounds, and samples that seek disagreement."""

from __future__ import annotations

import itertools
import math

import torch
from torch.nn import functional as F

from cake_core.losses import jensen_shannon
from cake_core.synthesis import synthesize

SHARED = {"shape": (2,), "classes": 2, "device": "cpu", "samples": 40, "step_size": 0.05}


def test_divergence_by_hand():
    """p = (1/2, 1/2) and q = (1/4, 3/4): m = (3/8, 5/8)."""
    p, q = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.25, 0.75]])
    left = 0.5 * math.log(0.5 / 0.375) + 0.5 * math.log(0.5 / 0.625)
    right = 0.25 * math.log(0.25 / 0.375) + 0.75 * math.log(0.75 / 0.625)
    torch.testing.assert_close(jensen_shannon(p.log(), q.log()), torch.tensor([(left + right) / 2]))
    assert jensen_shannon(p.log(), p.log()).item() == 0
    far = jensen_shannon(torch.tensor([[50.0, -50.0]]), torch.tensor([[-50.0, 50.0]]))
    torch.testing.assert_close(far, torch.tensor([math.log(2)]))


def test_divergence_against_torchs_own():
    draws = torch.Generator().manual_seed(0)
    one, other = (2 * torch.randn(30, 6, generator=draws) for _ in range(2))
    p, q = ((z / 3).softmax(dim=1) for z in (one, other))
    m = ((p + q) / 2).log()
    expected = sum(F.kl_div(m, r, reduction="none").sum(dim=1) for r in (p, q)) / 2
    torch.testing.assert_close(jensen_shannon(one, other, 3.0), expected)


def test_the_first_round_is_deepinversion(plane_norm_teacher):
    settings = {**SHARED, "batches": 6, "steps": 7}
    adi = synthesize(plane_norm_teacher, "adi", **settings, rounds=3, student_updates=2, weight_competition=5.0)
    plain = synthesize(plane_norm_teacher, "deepinversion", **settings)
    list(adi), list(plain)
    first = adi.result.batch < 2
    torch.testing.assert_close(adi.result.x[first], plain.result.x[first])
    assert not torch.allclose(adi.result.x[~first], plain.result.x[~first])


def test_only_the_mini_batches_of_a_round_move(plane_norm_teacher):
    run = synthesize(plane_norm_teacher, "adi", **SHARED, batches=5, steps=3, rounds=2, student_updates=1)
    snapshots = list(run)
    moved = [(b.x != a.x).any(dim=2).all(dim=1).tolist() for a, b in itertools.pairwise(snapshots)]
    assert moved == [[True] * 3 + [False] * 2] * 3 + [[False] * 3 + [True] * 2] * 3


def test_later_samples_are_where_the_student_is_wrong(moons_norm_teacher):
    """On two moons: more disagreement with the student of the loop than where it does not compete."""

    def disagreement(weight: float) -> float:
        run = synthesize(
            moons_norm_teacher, "adi", **(SHARED | {"samples": 200}), batches=4, steps=80, rounds=2,
            student_updates=15, weight_competition=weight, weight_statistics=0.1,
        )  # fmt: skip
        # The student of the loop is the same for both: it has seen the first round alone, and that is DeepInversion.
        kept = {}
        method = run.method
        objective = method.objective

        def watch(state, x):
            kept.update(state.extra)
            return objective(state, x)

        method.objective = watch
        list(run)
        x = run.result.x[run.result.batch >= 2]
        with torch.no_grad():
            return jensen_shannon(moons_norm_teacher(x), kept["student"](x), 3.0).mean().item()

    assert disagreement(100.0) > 1.2 * disagreement(1e-9)
