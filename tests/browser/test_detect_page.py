"""The page Detect in a real browser: a line-up is made, the visitor guesses, and the reveal tells; on a phone too."""

from __future__ import annotations

import pytest

from .test_live_view import Live, live  # noqa: F401

pytestmark = pytest.mark.browser


@pytest.mark.long
def test_a_game_is_played(server, live: Live):  # noqa: F811
    page = live.page
    page.goto(f"{server.url}/detect")
    page.get_by_text("Copied by CAKE, without data").click()
    page.get_by_text("Students and probes").click()
    for label in ("Teachers", "Suspects", "Teacher updates", "Student updates", "Steps"):
        slider = page.get_by_role("slider", name=label).first
        slider.press("Home")  # with the least of each it takes seconds
        live.until(lambda slider=slider: slider.get_attribute("aria-valuenow") == slider.get_attribute("aria-valuemin"))
        page.wait_for_timeout(300)
    page.get_by_role("button", name="Make a line-up").click()
    page.get_by_text("3. Your guess").wait_for(timeout=240_000)
    assert page.get_by_role("button", name="Reveal").is_disabled()
    for number in range(2):
        page.get_by_role("radio", name="None of them").nth(number).click()
        page.wait_for_timeout(300)
    page.get_by_role("button", name="Reveal").click()
    page.get_by_text("3. Who was right?").wait_for()
    page.get_by_text("likeness of answers").nth(1).wait_for()  # a chart for each suspect
    page.set_viewport_size({"width": 390, "height": 844})
    live.until(lambda: page.evaluate("document.documentElement.scrollWidth") <= 390, 10)
