"""Figures: plain values in, the right numbers on the axes."""

from __future__ import annotations

import pytest

from cake_core import figures
from cake_core.methods import METHODS


def outcome(accuracy: float) -> dict:
    rate = {"teacher_accuracy": 0.99, "student_accuracy": accuracy}
    return rate | {f"{k}_interval": [v - 0.02, min(1, v + 0.01)] for k, v in rate.items()}


def test_copies():
    figure = figures.copies(outcome(0.9), outcome(0.5))
    bars = figure.data[0]
    assert list(bars.x) == pytest.approx([99, 90, 50])
    assert list(bars.error_x.array) == pytest.approx([1, 1, 1])
    assert list(bars.error_x.arrayminus) == pytest.approx([2, 2, 2])
    assert len(figures.copies(outcome(0.9), None).data[0].x) == 2


def test_methods():
    rows = [
        {"method": "cake", "title": "CAKE", "seeds": 3, "agreement_mean": 0.8, "agreement_std": 0.05},
        {"method": "noise", "title": "Noise", "seeds": 3, "agreement_mean": None, "agreement_std": None},
    ]
    bars = figures.methods(rows, "agreement").data[0]
    assert list(bars.x) == ["CAKE"]
    assert list(bars.y) == pytest.approx([80])
    assert list(bars.error_y.array) == pytest.approx([5])


def test_every_method_has_a_colour_of_its_own():
    colours = [figures.COLOURS[name] for name in METHODS]
    assert len(set(colours)) == len(colours)


def test_confusion():
    figure = figures.confusion([[3, 1], [0, 0]], ["a", "b"])
    assert figure.data[0].z[0][0] == pytest.approx(0.75)
    assert figure.data[0].z[1][0] is None  # nothing there, so nothing is coloured
    assert list(figure.data[0].text[0]) == ["3", "1"]


def test_surface():
    seen = {
        "half_width": 2.0,
        "probabilities": [[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]],
        "points": [[0, 0], [1, 1], [2, 2]],
        "labels": [0, 1, 1],
    }
    figure = figures.surface(seen, ["a", "b"])
    assert [len(t.x) for t in figure.data if t.type == "scatter"] == [1, 2]


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("colour", ["class", "source", "confidence", "batch"])
def test_embedding(dimensions, colour):
    points = {
        "position": [[0.0] * dimensions, [1.0] * dimensions, [2.0] * dimensions],
        "source": ["real", "real", "synthetic"],
        "label": [0, 1, 1],
        "confidence": [0.5, 0.6, 0.7],
        "batch": [-1, -1, 2],
        "classes": ["a", "b"],
    }
    figure = figures.embedding(points, colour)
    assert sum(len(t.x) for t in figure.data) == 3
    texts = [text for t in figure.data for text in t.hovertext]
    assert "synthetic b, confidence 0.70, mini-batch 3" in texts


def test_students():
    rows = [{"source": "samples", "accuracy_mean": 0.9, "accuracy_std": 0.02, "seeds": 2}]
    figure = figures.students(rows, {"value": 0.97, "low": 0.95, "high": 0.98}, {"samples": "Samples"})
    assert figure.data[0].x[0] == pytest.approx(90)
    assert figure.layout.shapes[0].x0 == pytest.approx(97)


def test_a_grid_has_the_teacher_its_students_and_their_controls():
    def row(teacher, student, method, accuracy):
        numbers = {"teacher_accuracy_mean": 0.99, "student_accuracy_mean": accuracy, "student_accuracy_std": 0.02}
        return {"teacher": teacher, "student": student, "method": method, "seeds": 3, **numbers}

    rows = [
        row("a", "x", "cake", 0.9), row("a", "y", "cake", 0.8), row("a", "x", "noise", 0.3),
        row("b", "x", "cake", 0.7),
    ]  # fmt: skip
    figure = figures.grid(rows, {"a": "A", "b": "B", "x": "X", "y": "Y"})
    bars = {trace.name: trace for trace in figure.data if trace.showlegend is not False}
    assert list(bars["X student"].y) == [90, 70]
    assert list(bars["X student"].error_y.array) == [2, 2]
    assert list(bars["Y student"].y) == [80, None]
    assert list(bars["the teacher itself"].y) == [99, 99]
    assert bars["the teacher itself"].marker.pattern.shape == "/"
    assert list(bars["a student of noise alone"].y) == [30, None]
    assert list(bars["X student"].x) == ["taught by A", "taught by B"]
    # As text, too: that is how a CSV file holds them.
    same = figures.grid([{k: str(v) for k, v in r.items()} for r in rows], {"a": "A", "b": "B", "x": "X", "y": "Y"})
    assert list(same.data[1].y) == [90, 70]
