"""Grids: every pair with every seed, the same samples for all students, nothing computed twice."""

from __future__ import annotations

import json

import pytest
import torch

from cake_core import grid as grids
from cake_core import teacher
from cake_core.errors import CakeError
from cake_core.grid import Grid
from cake_core.pipeline import Distillation, Experiment

QUICK = Experiment.from_query({"data": "digits", "batches": "2", "samples": "20", "steps": "2", "device": "cpu"})
STUDENT = {"updates": 5}


def make(folder, *, students=("lenet5-half", "mlp"), seeds=2, **options) -> Grid:
    return Grid(QUICK, ["digits/lenet5"], students, seeds, student=STUDENT, folder=folder, **options)


@pytest.fixture
def count(monkeypatch) -> dict[str, int]:
    """How many syntheses and student trainings have begun."""
    begun = {"samples": 0, "students": 0}

    class Counted(Distillation):
        def __init__(self, *args, **options):
            begun["samples"] += 1
            super().__init__(*args, **options)

    class CountedStudent(grids.StudentTraining):
        def __init__(self, *args, **options):
            begun["students"] += 1
            super().__init__(*args, **options)

    monkeypatch.setattr(grids, "Distillation", Counted)
    monkeypatch.setattr(grids, "StudentTraining", CountedStudent)
    return begun


def test_every_pair_seed_and_control(tmp_path, count):
    grid = make(tmp_path)
    updates = list(grid)
    assert [(r["student"], r["method"], r["seed"]) for r in grid.rows] == [
        ("lenet5-half", "cake", 0), ("mlp", "cake", 0), ("lenet5-half", "noise", 0), ("mlp", "noise", 0),
        ("lenet5-half", "cake", 1), ("mlp", "cake", 1),
    ]  # fmt: skip
    assert count == {"samples": 3, "students": 6}
    assert [u.progress for u in updates] == sorted(u.progress for u in updates)
    assert updates[-1].progress == 1
    card = teacher.card("digits/lenet5")
    for row in grid.rows:
        assert row["teacher_accuracy"] == pytest.approx(card.accuracy.value, abs=0.003)
        assert row["teacher_parameters"] == card.parameters
        assert row["n_test"] == 500
        assert row["student_accuracy_interval"][0] <= row["student_accuracy"] <= row["student_accuracy_interval"][1]
    assert {(r["student"], r["method"]): r["seeds"] for r in grid.summary()} == {
        ("lenet5-half", "cake"): 2, ("mlp", "cake"): 2, ("lenet5-half", "noise"): 1, ("mlp", "noise"): 1,
    }  # fmt: skip


def test_a_cell_is_what_a_distillation_gives(tmp_path):
    grid = make(tmp_path, students=["mlp"], seeds=1, controls=0)
    list(grid)
    run = Distillation(
        Experiment.from_dict({**QUICK.to_dict(), "teacher": "digits/lenet5", "student": {**STUDENT, "model": "mlp"}})
    )
    list(run)
    (row,) = grid.rows
    assert row["student_accuracy"] == run.outcome.student_accuracy.value
    assert row["agreement"] == run.outcome.agreement.value
    assert row["gradient_calls"] == run.outcome.gradient_calls


def test_it_goes_on_where_it_stopped(tmp_path, count):
    whole = make(tmp_path / "whole")
    list(whole)
    count.update(samples=0, students=0)
    broken = make(tmp_path / "parts")
    while len(broken.rows) < 3:
        next(broken)
    broken.close()
    resumed = make(tmp_path / "parts")
    list(resumed)
    # The round that was cut (the control) makes its samples again, the students that were finished are not touched.
    assert count == {"samples": 4, "students": 6}
    for a, b in zip(whole.rows, resumed.rows, strict=True):
        assert {k: v for k, v in a.items() if "seconds" not in k} == {k: v for k, v in b.items() if "seconds" not in k}
    count.update(samples=0, students=0)
    again = make(tmp_path / "parts", students=["mlp"])
    list(again)
    assert count == {"samples": 0, "students": 0}
    assert {r["student"] for r in again.rows} == {"mlp"}


def test_cells_depend_on_their_settings_and_on_the_teachers_weights(tmp_path, count):
    list(make(tmp_path, students=["mlp"], seeds=1, controls=0))
    other = Grid(
        QUICK.replace(settings=QUICK.settings.replace(steps=3)), ["digits/lenet5"], ["mlp"], student=STUDENT,
        folder=tmp_path, controls=0,
    )  # fmt: skip
    list(other)
    assert count["students"] == 2
    for path in tmp_path.glob("*.json"):
        assert json.loads(path.read_text())["row"]["student"] == "mlp"
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_an_architecture_is_trained_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setitem(teacher.RECIPES, "digits", {"updates": 10, "optimizer": "adam", "learning_rate": 0.003})
    torch.manual_seed(0)
    for _ in range(2):
        grid = Grid(QUICK, ["mlp"], ["mlp"], 2, student=STUDENT, folder=tmp_path, controls=0)
        stages = [u.stage for u in grid]
        assert len({r["teacher_accuracy"] for r in grid.rows}) == 1
    assert "teacher" not in stages


def test_what_makes_no_sense_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(CakeError, match="'model' can't be 'gpt'"):
        make(tmp_path, students=["gpt"])
    with pytest.raises(CakeError, match="There is no teacher 'digits/gpt'"):
        list(Grid(QUICK, ["digits/gpt"], ["mlp"], folder=tmp_path))
