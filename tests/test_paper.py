"""Tables of the paper: what it prints, what is run beside it, resumed where it stopped."""

from __future__ import annotations

import csv

import pytest

from cake_core import data, models, paper
from cake_core.errors import CakeError
from cake_core.methods import METHODS
from cake_core.paper import Cell, Table, Table1, Table2, Table3, published


def test_the_papers_figures_by_hand():
    """Some that are easy to look up, and the number of rows of each table."""
    rows = published()
    count = {t: sum(r["source_table"] == t for r in rows) for t in ("Table 1", "Table 2", "Table 3")}
    assert count == {"Table 1": 10, "Table 2": 15, "Table 3": 34}
    found = {(r["source_table"], r["method"], r["dataset"], r["student"]): r["student_acc"] for r in rows}
    assert found["Table 2", "CAKE", "MNIST", "LeNet-5-Half"] == "98.4"
    assert found["Table 2", "CAKE", "CIFAR-10", "ResNet-18"] == "78.9"
    assert found["Table 1", "CAKE (+ L_KD + L_contr + L_TV)", "CIFAR-10", "ResNet-18"] == "71.0"


def test_all_that_the_paper_names_is_here():
    for row in published():
        if row["source_table"] in ("Table 2", "Table 3"):
            assert paper.METHOD[row["method"]] in METHODS
            assert paper.DATA[row["dataset"]] in data.DATASETS
            assert {paper.MODEL[row["teacher"]], paper.MODEL[row["student"]]} <= set(models.MODELS)


@pytest.mark.parametrize("table", [Table1, Table2, Table3])
@pytest.mark.parametrize("scale", ["quick", "paper"])
def test_every_line_can_be_built(table, scale):
    made = table(seeds=2, scale=scale, device="cpu")
    for cell, experiments in zip(made.cells, made._experiments, strict=True):
        assert [e.seed for e in experiments] == [0, 1]
        if cell.same:
            assert paper.METHOD[cell.paper["method"]] == experiments[0].method
            assert paper.MODEL[cell.paper["student"]] == experiments[0].student.model
    if scale == "paper" and table is not Table1:
        assert len(made.cells) == sum(r["source_table"] == table.__doc__[:7] for r in published())
    if scale == "quick":
        assert any(c.row == "noise" for c in made.cells)  # the control is never left out
        assert {e.settings.batches * e.settings.samples for r in made._experiments for e in r} == {5000}


def test_table_3_has_every_method_on_a_pair_that_it_can_work_on():
    cells = Table3(seeds=1, device="cpu").cells
    assert {c.row for c in cells} == set(METHODS) - {"brownian"}
    for c in cells:
        if "batchnorm" in METHODS[c.row].access:
            assert models.has_batch_norm(c.experiment["teacher"].split("/")[1])
            assert models.has_batch_norm(c.experiment["student"]["model"])


class Small(Table):
    """Three lines on digits, in a second."""

    name, statement, reductions = "small", "s", "r"

    def quick(self) -> list[Cell]:
        def line(method: str, targets: str, **settings) -> dict:
            return {
                "data": {"name": "digits"},
                "teacher": "digits/lenet5",
                "method": method,
                "settings": {"batches": 2, "samples": 20, **settings},
                "student": {"model": "mlp", "updates": 5, "targets": targets},
            }

        row = {"dataset": "MNIST", "teacher": "LeNet-5", "student": "LeNet-5-Half", "student_acc": "98.4"}
        return [
            Cell("cake", "soft", line("cake", "soft", steps=2), row, True),
            Cell("cake", "hard", line("cake", "hard", steps=2)),
            Cell("noise", "Noise", line("noise", "soft")),
        ]


def test_lines_that_differ_in_their_student_share_samples_and_all_is_stored(tmp_path, monkeypatch):
    table = Small(seeds=2, device="cpu", folder=tmp_path)
    assert len(table._cells._rounds) == 4  # cake and noise, twice
    shares = list(table)
    assert shares[-1] == 1
    assert shares == sorted(shares)
    rows = table.result()["rows"]
    assert [(r["label"], r["seeds"]) for r in rows] == [("soft", 2), ("hard", 2), ("Noise", 2)]
    assert rows[0]["paper_student"] == "98.4"
    assert rows[2]["paper_student"] == ""
    assert rows[0]["gradient_calls_mean"] == 80
    table.write(tmp_path)
    with (tmp_path / "small_quick.csv").open(newline="") as f:
        assert [r["label"] for r in csv.DictReader(f)] == ["soft", "hard", "Noise"]
    monkeypatch.setattr("cake_core.grid.StudentTraining", None)  # nothing may be computed once more
    again = Small(seeds=2, device="cpu", folder=tmp_path, rows=["cake"])
    list(again)
    assert [r["student_accuracy_mean"] for r in again.result()["rows"]] == [
        r["student_accuracy_mean"] for r in rows[:2]
    ]


def test_wrong_rows_and_scales_are_sentences():
    with pytest.raises(CakeError, match="At scale quick there is no row 'pie'. Choose of: noise, lake, cake"):
        Table1(rows=["pie"])
    with pytest.raises(CakeError, match="There is no scale 'huge'. Choose one of: quick, paper"):
        Table1(scale="huge")
