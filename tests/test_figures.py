"""Figures: plain values in, the right numbers on the axes."""

from __future__ import annotations

import numpy as np
import pytest

from cake_core import figures, run_figures
from cake_core.embedding import Embedding
from cake_core.methods import METHODS


def outcome(accuracy: float) -> dict:
    rate = {"teacher_accuracy": 0.99, "student_accuracy": accuracy}
    return {"judged_on": "test"} | rate | {f"{k}_interval": [v - 0.02, min(1, v + 0.01)] for k, v in rate.items()}


def test_copies():
    figure = figures.copies(outcome(0.9), outcome(0.5))
    bars = figure.data[0]
    assert list(bars.x) == pytest.approx([99, 90, 50])
    assert list(bars.error_x.array) == pytest.approx([1, 1, 1])
    assert list(bars.error_x.arrayminus) == pytest.approx([2, 2, 2])
    assert len(figures.copies(outcome(0.9), None).data[0].x) == 2
    assert bars.textfont.color == ("#101516", "#ffffff", "#101516")  # light blue, blue and grey carry it


@pytest.mark.parametrize("ground", [*figures.COLOURS.values(), "#ffffff", "#000000"])
def test_ink_can_be_read_on_any_colour(ground):
    def luminance(colour: str) -> float:  # by hand, as WCAG has it
        r, g, b = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (r, g, b))
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    low, high = sorted((luminance(figures.ink(ground)), luminance(ground)))
    assert (high + 0.05) / (low + 0.05) > 4


def test_a_curve_of_one_point_is_to_be_seen():
    one, many = {"student": {"step": [60], "loss": [0.5]}}, {"student": {"step": [60, 120], "loss": [0.5, 0.4]}}
    assert [t.mode for t in run_figures.curves({"a": one, "b": many})[0].data] == ["markers", "lines"]


def test_copies_without_test_data_shows_agreement():
    values = {"judged_on": "fresh", "teacher_accuracy": None, "student_accuracy": None}
    with_agreement = [values | {"agreement": a, "agreement_interval": [a - 0.1, a + 0.1]} for a in (0.8, 0.3)]
    figure = figures.copies(*with_agreement)
    assert list(figure.data[0].y) == ["Student", "Student of noise only"]
    assert list(figure.data[0].x) == pytest.approx([80, 30])
    assert "fresh samples" in figure.layout.xaxis.title.text


def test_short_bars_have_their_value_behind_their_whisker():
    figure = figures.bars(["long", "short"], [0.5, 0.1], [(0.4, 0.6), (0.05, 0.15)], ["#0072B2", "#8A8A8A"], "Share")
    assert list(figure.data[0].text) == ["50.0 %", ""]
    (behind,) = figure.layout.annotations
    assert (behind.text, behind.y, behind.x, behind.xanchor) == ("10.0 %", "short", pytest.approx(15), "left")


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
@pytest.mark.parametrize("colour", ["class", "source", "confidence", "batch", "step"])
def test_embedding(dimensions, colour):
    n = 5  # two real inputs, two samples, and the first of these at an earlier moment
    found = Embedding(
        position=np.arange(n * dimensions, dtype="f4").reshape(n, dimensions),
        index=np.array([3, 8, 0, 7, 0]),
        label=np.array([0, 1, 1, 0, 0]),
        answer=np.array([0, 0, 1, 0, 0]),
        confidence=np.array([0.5, 0.6, 0.7, 0.8, 0.55]),
        distance=np.ones(n),
        batch=np.array([-1, -1, 0, 2, 0]),
        step=np.array([-1, -1, 9, 9, 0]),
        shown=np.zeros((n, 2)),
        tracked=np.array([2]),
        real=2,
        moments=(0, 9),
        classes=("a", "b"),
        how="pca",
        explained=0.9,
    )
    figure = figures.embedding(found, colour)
    places = {name: (t.x[i], t.y[i]) for t in figure.data for i, name in enumerate(t.customdata)}
    assert places == {name: tuple(found.position[row][:2]) for row, name in enumerate(("r3", "r8", "s0", "s7"))}
    texts = [text for t in figure.data for text in t.hovertext]
    assert "synthetic b, confidence 0.70, mini-batch 1" in texts
    assert "real b, confidence 0.60" in texts


def test_students():
    several = {"source": "samples", "accuracy_mean": 0.9, "accuracy_std": 0.02, "seeds": 2}
    single = {**several, "source": "noise", "accuracy_std": 0.0, "seeds": 1, "accuracy_interval": [0.85, 0.94]}
    figure = figures.students([several, single], {"value": 0.97}, {"samples": "Samples", "noise": "Noise"})
    bars = figure.data[0]
    assert list(bars.x) == pytest.approx([90, 90])
    assert list(bars.error_x.array) == pytest.approx([2, 4])  # a standard deviation; the interval of a single seed
    assert list(bars.error_x.arrayminus) == pytest.approx([2, 5])
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


def look(source: str, seed: int, update: int, value: float, training_loss: float | None = 0.5) -> dict:
    same = dict.fromkeys(("test_loss", "accuracy", "agreement"), value)
    return {"source": source, "seed": seed, "update": update, "training_loss": training_loss, **same}


def test_curves_while_the_second_seed_trains():
    looks = [look("samples", 0, u, 0.1 + u / 100, None if u == 0 else 0.4) for u in (0, 20, 40)]
    looks += [look("samples", 1, 0, 0.2, None), look("samples", 1, 20, 0.5)]
    own_loss, _, accuracy, _ = figures.curves(looks, 2, 10, 40, {"samples": "Samples"})
    thin, now = accuracy.data
    assert list(thin.x) == [0, 2, 4]  # in epochs
    assert list(now.x) == [0, 2]
    assert list(now.y) == [0.2, 0.5]
    assert thin.line.width < now.line.width
    assert list(accuracy.layout.xaxis.range) == [0, 4]  # the whole training, from its first look on
    assert list(own_loss.data[-1].x) == [2]  # nothing has been learned at 0, so there is no loss
    assert accuracy.layout.xaxis.title.text == "epochs of 10 updates"
    assert "Samples 50 %" in accuracy.layout.meta


def test_curves_of_all_seeds_are_a_mean_with_its_spread():
    looks = [look("noise", s, u, v) for s, values in enumerate(([0.2, 0.4], [0.4, 0.8])) for u, v in enumerate(values)]
    band, mean = figures.curves(looks, 2, 1, 1, {"noise": "Noise"})[2].data
    assert list(mean.y) == pytest.approx([0.3, 0.6])
    spread = [0.02**0.5, 0.08**0.5]  # standard deviation with n - 1
    assert list(band.y) == pytest.approx([0.3 + spread[0], 0.6 + spread[1], 0.6 - spread[1], 0.3 - spread[0]])
    assert band.fill == "toself"


def test_curves_of_nothing():
    assert [len(f.data) for f in figures.curves([], 2, 10, 40, {})] == [0, 0, 0, 0]


def test_difference():
    seen = {"half_width": 2.0, "teacher": [[0, 0], [1, 1]], "student": [[0, 1], [1, 1]]}
    first, second, differ = figures.difference(seen, ["a", "b"]).data
    assert [list(r) for r in differ.z] == [[None, 1], [None, None]]
    assert [list(r) for r in first.z] == [[1, 1], [None, None]]
    assert [list(r) for r in second.z] == [[None, None], [1, 1]]
    assert list(differ.x) == [-2, 2]


def test_reproduced_rows_stand_beside_the_papers():
    row = {
        "label": "CAKE",
        "method": "cake",
        "student": "lenet5-half",
        "student_accuracy_mean": "0.9",
        "paper_student": "98.4",
    }
    rows = [
        {**row, "student_accuracy_std": "0.01", "same_pair": "True"},
        {**row, "label": "DeepInversion", "method": "deepinversion", "student_accuracy_std": "0", "same_pair": "False"},
        {
            **row,
            "label": "LAKE",
            "method": "lake",
            "student_accuracy_std": "0",
            "paper_student": "",
            "same_pair": "False",
        },
    ]
    ours, theirs = figures.beside_paper(rows, ["a", "b", "c"]).data
    assert list(ours.x) == pytest.approx([90, 90, 90])
    assert list(theirs.x) == [98.4, 98.4]
    assert list(theirs.marker.symbol) == ["diamond", "diamond-open"]


def test_costs_are_one_point_for_each_method():
    summary = [
        {"method": m, "title": m, "agreement_mean": 0.5, "agreement_std": 0.1, "calls_mean": c, "calls_std": 0.0}
        for m, c in (("cake", 1000.0), ("noise", 0.0))
    ]
    points = figures.costs(summary, "agreement", "calls").data
    assert [p.y[0] for p in points] == [50, 50]
    assert all(p.x[0] > 0 for p in points)  # the axis is logarithmic
    assert points[0].marker.symbol != points[1].marker.symbol


def test_likeness_shows_who_is_named_and_who_it_was():
    figure = figures.likeness(["Teacher 1", "Teacher 2"], [1.0, 3.0], 2.5, named=1, truth=0, top=6.0)
    (bar,) = figure.data
    assert bar.marker.color == (figures.COLOURS["teacher"], figures.NAMED)
    assert bar.marker.line.width == (3, 0)
    assert figure.layout.shapes[0].x0 == 2.5
    assert figure.layout.xaxis.range[1] >= 6
    assert not figures.likeness(["Teacher 1", "Teacher 2"], [1.0, 3.0], None, named=1).layout.shapes


def test_a_line_up_is_bars_with_intervals():
    rate = {"value": 0.9, "low": 0.8, "high": 0.95, "n": 100}
    (bar,) = figures.lineup({"Teacher 1": rate, "Suspect A": rate}).data
    assert bar.y == ("Teacher 1", "Suspect A")
    assert bar.error_x.array[0] == pytest.approx(5)


def test_detectability_has_a_line_for_each_source_and_the_blind_guess():
    row = {"probes": "noise", "n": "50", "teachers": "4", "accuracy": "0.5", "accuracy_low": "0.3"}
    figure = figures.detectability([row | {"accuracy_high": "0.7"}], {"noise": "Noise (control)"})
    assert figure.data[0].y == (50.0,)
    assert figure.layout.shapes[0].y0 == 25


def test_the_plane_shows_every_boundary_and_the_probes():
    segments = [[[0.0, 0.0], [1.0, 1.0]]]
    figure = figures.plane({"Suspect A": segments, "Teacher 1": segments}, [[0.5, 0.5]], 2.0)
    assert [t.name for t in figure.data] == ["Suspect A", "Teacher 1", "probes"]
    assert figure.data[0].x == (0.0, 1.0, None)
    assert figure.data[0].line.width > figure.data[1].line.width
