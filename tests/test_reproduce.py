"""Fig. 1: the same budget for all that walk, rows as promised, files that the page can read."""

from __future__ import annotations

import csv

import pytest

from cake_core import figures, reproduce
from cake_core.errors import CakeError
from cake_core.methods import METHODS
from cake_core.reproduce import FIRST, Fig1, fig1_settings
from cake_core.student import StudentConfig


@pytest.mark.parametrize("method", FIRST)
def test_one_budget_for_all(method):
    settings = fig1_settings(method, 0.1)
    assert settings["batches"] * settings["samples"] == 2000
    assert settings["sigma"] == 0.1
    fields = METHODS[method].Config.model_fields
    if "step_size" in fields:
        assert settings["step_size"] == 0.5
        assert settings["steps"] == 200
        assert settings["decades"] == 0
    assert ("clip" in settings) == ("clip" in fields)
    METHODS[method].Config.from_dict(settings)


def test_rows_and_files(monkeypatch, tmp_path):
    monkeypatch.setattr(reproduce, "SIGMAS", (0.1,))
    monkeypatch.setattr(reproduce, "COUNTS", (10, 50))
    monkeypatch.setitem(reproduce.BUDGET, "samples", 10)
    monkeypatch.setitem(reproduce.BUDGET, "steps", 3)
    monkeypatch.setattr(reproduce, "FIRST", ("cake", "noise"))
    usual, short = Fig1._experiment, StudentConfig(updates=50)
    monkeypatch.setattr(Fig1, "_experiment", lambda *what: usual(*what).replace(student=short))
    run = Fig1(seeds=2, device="cpu")
    assert list(run) == [0.25, 0.5, 0.75, 1.0]
    result = run.result()
    assert [(r["method"], r["sigma"], r["samples"], r["steps"], r["seeds"]) for r in result["rows"]] == [
        ("cake", 0.1, 100, 3, 2),
        ("noise", 0.1, 100, 0, 2),
    ]
    assert all(0 <= r["agreement_mean"] <= 1 and r["agreement_std"] >= 0 for r in result["rows"])
    assert [(r["method"], r["samples"]) for r in result["by_samples"]] == [
        ("cake", 10), ("cake", 50), ("noise", 10), ("noise", 50),
    ]  # fmt: skip
    run.write(tmp_path)
    with (tmp_path / "fig1_samples.csv").open() as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == 4
    lines = figures.agreement_by_samples(rows, {"cake": "CAKE", "noise": "Noise only (control)"}).data
    assert [line.name for line in lines] == ["CAKE", "Noise only (control)"]


@pytest.mark.parametrize("name", ["fig2", "fig3"])
def test_grids_of_the_paper_have_all_of_its_pairs(name, tmp_path):
    """As many cells as the published figure, at the paper's scale."""
    run = reproduce.FIGURES[name](seeds=5, device="cpu", scale="paper", folder=tmp_path)
    assert run.grid.cells == {"fig2": 36, "fig3": 16}[name] * (5 + 1)
    assert run.setting["reductions"] == "none"


def test_fig3_writes_every_pair_and_takes_rows(monkeypatch, tmp_path):
    tiny = {
        **reproduce.Fig3.SCALES["quick"],
        "teachers": ["digits/lenet5"],
        "students": ["mlp", "lenet5-half"],
        "settings": {"batches": 1, "steps": 1, "samples": 20},
        "student": {"updates": 2},
    }
    monkeypatch.setattr(reproduce.Fig3, "data", "digits")
    monkeypatch.setattr(reproduce.Fig3, "SCALES", {"quick": tiny})
    run = reproduce.Fig3(seeds=2, device="cpu", rows=["lenet5"], folder=tmp_path / "cells")
    assert list(run)[-1] == 1.0
    run.write(tmp_path)
    with (tmp_path / "fig3_quick.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    assert [(r["teacher"], r["student"], r["method"], r["seeds"]) for r in rows] == [
        ("digits/lenet5", "mlp", "cake", "2"), ("digits/lenet5", "lenet5-half", "cake", "2"),
        ("digits/lenet5", "mlp", "noise", "1"), ("digits/lenet5", "lenet5-half", "noise", "1"),
    ]  # fmt: skip
    assert {r["n_test"] for r in rows} == {"500"}
    with (tmp_path / "fig3_quick_runs.csv").open(newline="") as f:
        assert len(list(csv.DictReader(f))) == 6
    with pytest.raises(CakeError, match="there is no row 'vit9'"):
        reproduce.Fig3(rows=["vit9"])
    with pytest.raises(CakeError, match="There is no scale 'huge'"):
        reproduce.Fig3(scale="huge")
    with pytest.raises(CakeError, match="leave --scale out"):
        reproduce.Fig1(scale="quick")
