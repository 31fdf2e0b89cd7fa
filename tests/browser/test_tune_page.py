"""The page Tune in a real browser: a study runs and is seen running, its figures, a trial's replay, and a phone."""

from __future__ import annotations

import re

import pytest

from .test_live_view import Live, live  # noqa: F401

pytestmark = pytest.mark.browser


@pytest.mark.long
def test_a_study_is_watched_and_a_trial_replayed(server, live: Live):  # noqa: F811
    page = live.page
    page.goto(f"{server.url}/tune")
    page.get_by_text("What every trial begins with").click()
    for label in ("Mini-batches", "Samples per mini-batch", "Steps", "Updates", "Trials"):
        slider = page.get_by_role("slider", name=label).first
        slider.press("Home")  # with the least of each a trial takes no time
        live.until(lambda slider=slider: slider.get_attribute("aria-valuenow") == slider.get_attribute("aria-valuemin"))
        page.wait_for_timeout(300)
    page.get_by_role("button", name="Tune", exact=True).click()
    page.locator(".cake-live .figures .main-svg").first.wait_for(timeout=120_000)  # seen while it runs
    page.get_by_text("2 trials are stored").wait_for(timeout=120_000)
    assert re.search(r"study=\d{8}-\d{6}-[0-9a-f]{16}", page.url)
    page.get_by_role("radio", name="Live curves").click()
    page.get_by_text("Those that were behind the others early were given up").wait_for()
    page.get_by_role("tab", name="Trials").click()
    page.get_by_text("Replay it here").click()
    live.until(lambda: page.evaluate("window.cakeLive.view?.data.recording && window.cakeLive.count > 5"))
    page.set_viewport_size({"width": 390, "height": 844})
    live.until(lambda: page.evaluate("document.documentElement.scrollWidth") <= 390, 10)
