"""A drawing becomes a data set as a table does; what can't be learned from is a sentence."""

from __future__ import annotations

import json
import random

import pytest
import torch

from cake_core import data
from cake_core.data import drawing, own, tables
from cake_core.errors import CakeError
from pages._ui import drawing as board
from pages._ui.cached import runner

from .test_pages import experiment, job_name, open_page, wait


def drawn(*counts: int, seed: int = 0) -> list[list]:
    """So many points of each class, each class in a place of its own."""
    rng = random.Random(seed)
    middle = [(-0.5, -0.5), (0.5, 0.4), (-0.4, 0.6)]
    return [
        [round(middle[k][0] + rng.uniform(-0.2, 0.2), 4), round(middle[k][1] + rng.uniform(-0.2, 0.2), 4), k]
        for k, n in enumerate(counts)
        for _ in range(n)
    ]


def test_it_is_read_as_the_same_table_would_be():
    points = drawn(30, 20, 10)
    lines = [f"{x},{y},{drawing.CLASSES[c]}" for x, y, c in points]
    table = tables.read("\n".join(["x,y,label", *lines]).encode())
    found = drawing.read(points)
    assert found.classes == drawing.CLASSES  # their colours and shapes stay those of the board
    assert found.counts() == [("circles", 24, 6), ("squares", 16, 4), ("triangles", 8, 2)]
    for one, other in zip((*found.train, *found.test), (*table.train, *table.test), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("points", "sentence"),
    [
        ([], "Nothing is drawn yet. A teacher tells at least two shapes apart"),
        (drawn(60), "All points are circles. A teacher tells at least two shapes apart"),
        (drawn(60, 3), "There are 3 squares; draw at least 5, or take them back."),
        (drawn(15, 15), "There are 30 points; a teacher needs at least 40. Draw some more."),
        (drawn(1500, 501), "The drawing has 2,001 points; at most 2,000"),
        ("points", "could not be understood"),
        ([[0, 0]], "could not be understood"),
        ([[0, float("nan"), 0]], "could not be understood"),
        ([[0, 2, 0]], "could not be understood"),
        ([[0, 0, 3]], "could not be understood"),
        ([[0, 0, 0.5]], "could not be understood"),
        ([[0, "0", 0]], "could not be understood"),
    ],
)
def test_what_is_no_drawing_is_a_sentence(points, sentence):
    with pytest.raises(CakeError, match=sentence):
        drawing.read(points)


def test_a_drawing_on_the_page_is_learned_and_copied(monkeypatch):
    points = drawn(40, 40)
    app = open_page("two_moons", batches="2", samples="100", steps="30", student__updates="200")
    app.button(key="two_moons:draw").click().run()
    assert app.button(key="two_moons:draw:use").disabled
    assert "Nothing is drawn yet" in app.info[0].value
    shown = [json.loads(c.proto.json) for c in app.get("bidi_component")]
    assert {"classes": ["Circles", "Squares", "Triangles"], "most": 2000, "points": []} in shown
    monkeypatch.setattr(board, "_board", lambda key, place: points)  # the harness has no browser to draw in
    app.run()
    app.button(key="two_moons:draw:use").click().run()
    assert not app.exception
    name = experiment(app, "two_moons").data.name
    assert own.is_own(name)
    assert data.info(name).classes == ("circles", "squares")
    assert any("the student never sees them" in c.value for c in app.caption)
    job = runner().find(job_name(app, "two_moons"))
    job.pace(0)
    job.play()
    wait(app, job.name)
    assert job.result["outcome"]["teacher_accuracy"] == 1.0  # the places are far apart
    assert app.metric[0].label == "Student's accuracy"
    app.button(key="two_moons:remove").click().run()
    assert own.find(name) is None
