"""What the figures of an attack show, from plain values."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from cake_core.few_call_figures import VARIANT_LINES, against_calls, cloud, meter, mosaic, rounds
from cake_core.stealing import TITLES


def test_the_meter_counts_down():
    figure = meter([3, 0], 4, ["a", "b"])
    assert list(figure.data[0].y) == [1, 4]
    assert list(figure.data[1].y) == [3, 0]
    assert figure.layout.meta == "Calls left: 5 of 8"


@pytest.mark.parametrize("channels", [1, 3])
def test_a_mosaic_has_each_image_in_its_place(channels):
    tiles = np.zeros((5, channels, 4, 4), np.uint8)
    tiles[3] = 200  # second row, first column of three
    source = mosaic(tiles, 3, "title").data[0].source
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))
    factor = image.shape[1] // 12
    assert image.shape[:2] == (8 * factor, 12 * factor)
    bright = np.argwhere(image.reshape(*image.shape[:2], -1)[..., 0] > 100)
    assert bright.min(axis=0).tolist() == [4 * factor, 0]
    assert bright.max(axis=0).tolist() == [8 * factor - 1, 4 * factor - 1]


def test_a_cloud_marks_those_that_were_asked():
    position = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    figure = cloud(position, [0, 1, 0], [2], position[:2], ["a", "b"], "title")
    every, asked, centres = figure.data
    assert (list(every.x), list(every.y)) == ([0, 2, 4], [1, 3, 5])
    assert (list(asked.x), list(asked.text)) == ([4], ["a, asked"])
    assert every.marker.color[0] == every.marker.color[2] == asked.marker.color[0] != every.marker.color[1]
    assert list(centres.text) == ["a", "b"]


def test_rounds_leave_out_what_nobody_knows():
    rows = [{"calls": n, "knn_accuracy": None, "agreement": 0.1 * n, "accuracy": 0.2} for n in (1, 2)]
    figure = rounds(rows)
    assert [trace.name for trace in figure.data] == ["agreement with the teacher", "accuracy"]
    assert list(figure.data[0].y) == [0.1, 0.2]
    assert figure.layout.meta.endswith("agreement with the teacher 20 %, accuracy 20 %.")


def test_what_asks_nothing_is_as_good_for_any_budget():
    def row(variant: str, budget: int, mean: float | None) -> dict:
        return {"variant": variant, "budget": budget, "agreement_mean": mean, "agreement_std": 0.01}

    summary = [row("aspkd", 8, 0.9), row("aspkd", 4, 0.8), row("prompts", 0, 0.5), row("noise", 4, None)]
    figure = against_calls(summary, "agreement", TITLES)
    ours, free = figure.data
    assert (list(ours.x), list(ours.y)) == ([4, 8], [80, 90])
    assert (list(free.x), list(free.y)) == ([4, 8], [50, 50])
    assert list(figure.layout.xaxis.tickvals) == [4, 8]


def test_every_variant_has_a_line_of_its_own():
    assert set(VARIANT_LINES) == set(TITLES)
    assert len(set(VARIANT_LINES.values())) == len(TITLES)
