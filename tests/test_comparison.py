"""Comparisons: the same budget for all, every seed, and sums that are right."""

from __future__ import annotations

from itertools import pairwise

import pytest

from cake_core.comparison import MethodComparison, StudentComparison, summarise
from cake_core.errors import CakeError
from cake_core.pipeline import Distillation, Experiment
from cake_core.student import StudentConfig

QUICK = Experiment.from_query({"batches": "2", "samples": "50", "student.updates": "50"})


def test_every_method_and_seed_with_the_same_budget():
    comparison = MethodComparison(QUICK, ["cake", "lake", "noise"], seeds=2, settings={"lake": {"temperature": 0.3}})
    updates = list(comparison)
    assert [(r["method"], r["seed"]) for r in comparison.rows] == [
        ("cake", 0), ("lake", 0), ("noise", 0), ("cake", 1), ("lake", 1), ("noise", 1),
    ]  # fmt: skip
    assert {r["samples"] for r in comparison.rows} == {100}
    assert {r["teacher_accuracy"] for r in comparison.rows} == {comparison.rows[0]["teacher_accuracy"]}
    assert [u.progress for u in updates] == sorted(u.progress for u in updates)
    assert updates[-1].progress == pytest.approx(1)
    assert comparison._experiments[1].settings.temperature == 0.3


def test_a_teacher_is_trained_once():
    comparison = MethodComparison(QUICK.replace(data={"name": "circles", "points": 200}), ["noise"], seeds=3)
    stages = [u.stage for u in comparison]
    assert sum(a != "teacher" and b == "teacher" for a, b in pairwise(stages)) == 1


def test_bad_comparisons_are_refused_before_anything_runs():
    with pytest.raises(CakeError, match="There is no method 'pie'"):
        MethodComparison(QUICK, ["cake", "pie"], seeds=1)
    with pytest.raises(CakeError, match="'temperature' must be"):
        MethodComparison(QUICK, ["lake"], seeds=1, settings={"lake": {"temperature": -1}})


def test_sums_by_hand():
    rows = [
        {"m": "a", "x": 1.0, "y": None},
        {"m": "b", "x": 5.0, "y": 1.0},
        {"m": "a", "x": 3.0, "y": None},
    ]
    a, b = summarise(rows, ["m"], ["x", "y"])
    assert a == {"m": "a", "seeds": 2, "x_mean": 2.0, "x_std": pytest.approx(2**0.5), "y_mean": None, "y_std": None}
    assert b == {"m": "b", "seeds": 1, "x_mean": 5.0, "x_std": 0.0, "y_mean": 1.0, "y_std": 0.0}


def test_students_learn_side_by_side():
    run = Distillation(Experiment.from_query({"batches": "2", "samples": "200", "steps": "100"}))
    while run.samples is None:
        next(run)
    comparison = StudentComparison(run, StudentConfig(updates=300), seeds=2)
    updates = list(comparison)
    assert [(r.source, r.seed) for r in comparison.results] == [
        ("samples", 0), ("noise", 0), ("data", 0), ("samples", 1), ("noise", 1), ("data", 1),
    ]  # fmt: skip
    with_data = [r for r in comparison.results if r.source == "data"]
    assert all(r.agreement.value > 0.98 for r in with_data)
    assert set(comparison.curve) == {"these samples", "noise only", "the teacher's own data"}
    assert updates[-1].progress == 1.0
    assert all(u.progress <= 1 for u in updates)
