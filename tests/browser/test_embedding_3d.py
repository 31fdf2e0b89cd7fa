"""The map in three dimensions, on a page of its own: WebGL is drawn by software here, which is slow."""

from __future__ import annotations

import numpy as np
import pytest

from .test_embedding_view import map_, shown_pixels  # noqa: F401

pytestmark = [pytest.mark.browser, pytest.mark.long]


@pytest.fixture(scope="module")
def browser(launch):
    """One that has WebGL without a GPU. Not for all tests: everything else takes twice the time in it."""
    made = launch("--enable-unsafe-swiftshader")
    yield made
    made.close()


def test_three_dimensions(map_):  # noqa: F811
    map_.page.get_by_text("Trajectories", exact=True).click()
    map_.choose("3-D")
    found = map_.ready(dimensions=3)
    assert found.position.shape[1] == 3
    assert map_.page.evaluate("cakeEmbedding.view.dom.plot._fullData.at(-2).type") == "scatter3d"
    box = map_.page.locator(".cake-embedding .plot").bounding_box()
    card = map_.page.locator(".cake-embedding .card")

    def something() -> bool:
        for x in np.linspace(0.35, 0.65, 9):
            for y in np.linspace(0.35, 0.65, 9):
                map_.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
                map_.page.wait_for_timeout(40)
                if card.is_visible():
                    return True
        return False

    map_.until(something)
    name = card.get_attribute("data-name")
    row = next(r for r in range(found.ended) if found.name(r) == name)
    assert np.array_equal(shown_pixels(map_, ".cake-embedding .card canvas"), found.shown[row])

    # The point whose image is shown is the one that is chosen, however far its middle is from the pointer.
    map_.page.mouse.down()
    map_.page.mouse.up()
    map_.until(lambda: map_.chosen == [name])
    map_.until(lambda: map_.page.get_by_text("1 selected", exact=False).count() >= 2)
    # A press that turns the picture chooses nothing.
    map_.page.mouse.down()
    map_.page.mouse.move(box["x"] + 20, box["y"] + 20, steps=4)
    map_.page.mouse.up()
    map_.page.wait_for_timeout(300)
    assert map_.chosen == [name]
