"""Fig. 1: the same budget for all that walk, rows as promised, files that the page can read."""

from __future__ import annotations

import csv

import pytest

from cake_core import figures, reproduce
from cake_core.methods import METHODS
from cake_core.reproduce import Fig1, fig1_settings


@pytest.mark.parametrize("method", METHODS)
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
    monkeypatch.setattr(reproduce, "METHODS", {k: METHODS[k] for k in ("cake", "noise")})
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
    assert len(figures.agreement_by_samples(rows).data) == 2
