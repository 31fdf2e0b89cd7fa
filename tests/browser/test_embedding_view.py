"""The map of feature space in a real browser: it shows the right image, selects what was drawn around, and moves."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cake_core.embedding import Embedding
from cake_core.pipeline import Distillation

from .harness import PROBE, Server, leave

pytestmark = pytest.mark.browser

WATCH = "window.cakeEmbedding = { opened(view) { this.view = view; this.mounts = (this.mounts ?? 0) + 1; } };"
RUN = "images?batches=2&samples=60&steps=6&student.updates=40"
STEPS, TRACKED = 6, 120  # of that run: all its samples are followed, at every step
MADE = "cakeEmbedding.view.dom.plot._fullData[cakeEmbedding.view.offset + 3]"  # the trace of synthetic points


class Map:
    """The page Embeddings, on a run that this session has just made.

    Args:
        page: Playwright's page.
        server: the app.
    """

    def __init__(self, page, server: Server):
        self.page, self.server, self.errors = page, server, []
        page.add_init_script(PROBE + WATCH)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(f"{server.url}/{RUN}")
        self.until(lambda: page.evaluate("!!window.cakeLive.view?.scene"))
        page.evaluate("cakeLive.view.send({ op: 'rate', rate: 0 })")
        self.until(self.played)
        self.run = page.evaluate("cakeLive.view.status.result.run")
        page.get_by_role("link", name="Embeddings").first.click()
        self.ready()

    def played(self) -> bool:
        """Whether the run is done; one that rests is played: a press while the page is drawn anew is lost."""
        state = self.page.evaluate("cakeLive.view?.status?.state")
        if state in ("ready", "paused"):
            self.page.click(".cake-live .play", timeout=10_000)
        return state == "done"

    def until(self, true: Callable[[], object], seconds: float = 150) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, "it did not happen in time"
            self.page.wait_for_timeout(30)

    def ready(self, network: str = "teacher", dimensions: int = 2) -> Embedding:
        """Waits until the picture is there; returns what it shows."""
        shown = (
            "({ label: v.dom.plot.getAttribute('aria-label'), d: v.drawn, at: v.root.dataset.ready, a: v.data.scene })"
        )

        def there() -> bool:
            seen = self.page.evaluate(
                f"(() => {{ const v = window.cakeEmbedding.view; return v?.scene && {shown} }})()"
            )
            return (
                bool(seen)
                and f"as the {network}" in seen["label"]
                and seen["d"] == dimensions
                and seen["at"] == seen["a"]
            )

        self.until(there)
        answer = self.page.request.get(self.server.url + self.view("data.scene")).body()  # with the page's cookie
        return Embedding.decode(answer)

    def view(self, expression: str):
        return self.page.evaluate(f"window.cakeEmbedding.view.{expression}")

    def choose(self, label: str) -> None:
        self.page.get_by_test_id("stButtonGroup").get_by_text(label, exact=True).click()

    @property
    def chosen(self) -> list[str]:
        return self.page.evaluate("[...cakeEmbedding.view.chosen]")

    def pixels(self, position: np.ndarray) -> np.ndarray:
        """Where points (N, 2) are on the screen."""
        x0, sx, y0, sy = self.page.evaluate(
            """() => {
              const plot = cakeEmbedding.view.dom.plot, { left, top } = plot.getBoundingClientRect();
              const { xaxis: x, yaxis: y } = plot._fullLayout, width = (axis) => axis.l2p(1) - axis.l2p(0);
              return [left + x._offset + x.l2p(0), width(x), top + y._offset + y.l2p(0), width(y)];
            }"""
        )
        return position * (sx, sy) + (x0, y0)

    def point_at(self, x: float, y: float) -> None:
        self.page.mouse.move(x - 30, y - 30)
        self.page.mouse.move(x, y, steps=3)

    def lasso(self, left: float, top: float, right: float, bottom: float) -> None:
        mouse = self.page.mouse
        mouse.move(left, top)
        mouse.down()
        for x, y in ((right, top), (right, bottom), (left, bottom), (left, top + 1)):
            mouse.move(x, y, steps=4)
        mouse.up()


@pytest.fixture(scope="module")
def map_(server, browser) -> Iterator[Map]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, accept_downloads=True)
    made = Map(context.new_page(), server)
    yield made
    assert made.errors == []
    leave(context)


def shown_pixels(map_: Map, selector: str) -> np.ndarray:
    """What a canvas shows, as grey values."""
    script = "c => [c.width, c.height, [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]]"
    width, height, data = map_.page.eval_on_selector(selector, script)
    return np.array(data, np.uint8).reshape(height, width, 4)[..., 0]


def test_hover_shows_the_image_of_that_very_sample(map_):
    found, restored = map_.ready(), Distillation.restore(map_.run)
    where = map_.pixels(found.position[: found.ended])
    alone = np.linalg.norm(where[:, None] - where[None], axis=2)
    np.fill_diagonal(alone, np.inf)
    lonely = np.argsort(-alone.min(axis=1))  # no other point is near these
    real = next(row for row in lonely if row < found.real)
    made = next(row for row in lonely if row >= found.real)
    for row in (real, made):
        map_.point_at(*where[row])
        card = map_.page.locator(".cake-embedding .card")
        map_.until(lambda card=card, row=row: card.is_visible() and card.get_attribute("data-name") == found.name(row))
        own = int(found.index[row])
        if row == real:
            raw = restored.dataset.test_x[own, 0].numpy()
            assert f"class {restored.dataset.test_y[own]}" in card.inner_text()
        else:
            raw = restored.dataset.pixels(restored.samples.x[own])[0].numpy()
            assert f"mini-batch {restored.samples.batch[own] + 1}, step {STEPS}" in card.inner_text()
            assert f"confidence {100 * restored.samples.y[own].max():.1f} %" in card.inner_text()
        assert np.array_equal(shown_pixels(map_, ".cake-embedding .card canvas"), raw)
    map_.page.mouse.move(5, 5)
    map_.until(lambda: not map_.page.is_visible(".cake-embedding .card"))


def test_a_lasso_selects_what_lies_in_it(map_):
    found = map_.ready()
    where = map_.pixels(found.position[: found.ended])
    left, top = np.quantile(where, 0.3, axis=0).round()
    right, bottom = np.quantile(where, 0.7, axis=0).round()
    map_.lasso(left, top, right, bottom)
    map_.until(lambda: len(map_.chosen) > 0)

    def inside(margin: float) -> set[str]:
        low, high = np.array([left, top]) - margin, np.array([right, bottom]) + margin
        return {found.name(row) for row, at in enumerate(where) if (low < at).all() and (at < high).all()}

    assert inside(-2) <= set(map_.chosen) <= inside(2)
    n = len(map_.chosen)
    # At once as images, each of the sample that it says.
    thumbs = map_.page.locator(".cake-embedding .thumbs figure")
    assert thumbs.count() == min(60, n)
    name = thumbs.nth(3).get_attribute("data-name")
    row = next(r for r in range(found.ended) if found.name(r) == name)
    assert np.array_equal(shown_pixels(map_, f'.cake-embedding .thumbs [data-name="{name}"] canvas'), found.shown[row])
    # Then in words, and as a table to take away.
    map_.until(lambda: map_.page.get_by_text(f"{n:,} selected", exact=False).count() >= 2)
    map_.until(map_.page.get_by_test_id("stDataFrame").is_visible)
    with map_.page.expect_download() as download:
        map_.page.get_by_test_id("stDownloadButton").get_by_role("button").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    assert {("r" if r["source"] == "real" else "s") + r["number"] for r in rows} == set(map_.chosen)


def test_the_selection_stays_when_the_map_changes(map_):
    before = map_.chosen
    assert before
    map_.choose("student")
    map_.ready("student")
    assert map_.chosen == before
    lit = map_.page.evaluate("cakeEmbedding.view.rows.slice(2).flat().map((row) => cakeEmbedding.view.scene.name[row])")
    assert set(lit) == set(before)
    map_.choose("teacher")
    map_.ready()
    map_.page.click(".cake-embedding .clear")
    map_.until(lambda: map_.page.get_by_text("Nothing is selected yet").is_visible())
    assert map_.chosen == []


def test_trajectories_are_the_frames_of_the_history(map_):
    map_.page.get_by_text("Trajectories", exact=True).click()
    map_.until(lambda: map_.view("root.dataset.lines") == str(TRACKED))
    found = map_.ready()
    assert found.moments == tuple(range(STEPS + 1))
    lines = map_.page.evaluate(
        "cakeEmbedding.view.dom.plot._fullData.filter((t) => t.mode === 'lines').map((t) => [[...t.x], [...t.y]])"
    )
    assert len(lines) == STEPS
    for m, line in enumerate(lines):
        starts = np.array(line, float).T[::3]
        rows = found.ended + m * TRACKED + np.arange(TRACKED)
        np.testing.assert_allclose(starts, found.position[rows], rtol=1e-5)
    # The slider moves the samples along them; at its left end they stand where they started.
    map_.page.eval_on_selector(".cake-embedding input", "s => { s.value = 0; s.dispatchEvent(new Event('input')); }")
    assert map_.page.inner_text(".cake-embedding .clock").startswith(f"step 0 of {STEPS}")
    place = f"[[...{MADE}.x], [...{MADE}.y]]"
    expected = found.position[found.ended : found.ended + TRACKED]
    map_.until(lambda: np.allclose(np.array(map_.page.evaluate(place)).T, expected, rtol=1e-5))
    map_.page.click(".cake-embedding .play")
    map_.until(lambda: float(map_.view("root.dataset.moment")) > 1)
    map_.until(lambda: map_.page.inner_text(".cake-embedding .clock") == f"step {STEPS} of {STEPS}")


def test_colour_by_step_shows_all_moments(map_):
    found = map_.ready()
    map_.choose("Step")
    everything = found.real + TRACKED * (STEPS + 1)
    map_.until(lambda: map_.view("root.dataset.points") == str(everything))
    colours = map_.page.evaluate(f"{MADE}.marker.color")
    assert len(set(colours)) == STEPS + 1  # one for each moment
    assert len(set(colours[:TRACKED])) == 1
    map_.choose("Class")
    map_.until(lambda: map_.view("root.dataset.points") == str(found.ended))
