"""The page Few calls in a real browser: the charts come one after the other, and stay as the attack goes on."""

from __future__ import annotations

import pytest

from .test_live_view import Live, live  # noqa: F401

pytestmark = pytest.mark.browser

TITLES = "[...document.querySelectorAll('.cake-live .figures > div')].map((e) => e.getAttribute('aria-label'))"
RIGHTS = "[...document.querySelectorAll('.cake-live .figures svg')].map((e) => e.getBoundingClientRect().right)"


def test_questions_are_drawn_asked_and_believed(server, live: Live):  # noqa: F811
    page = live.page
    page.goto(f"{server.url}/few_call?budget=4&proxies.per_class=8&proxies.steps=4&student.updates=60")
    page.get_by_role("button", name="Steal").wait_for(timeout=120_000)
    page.get_by_role("button", name="Steal").click()
    live.until(lambda: any("step" in (t or "") for t in page.evaluate(TITLES)), 120)  # noise becomes digits
    live.until(lambda: len(page.evaluate(TITLES)) == 4, 300)
    assert page.evaluate("document.querySelector('.cake-live .figures image, .cake-live .figures .im') !== null")
    assert page.evaluate(TITLES)[2].startswith("Round ")
    live.until(lambda: page.evaluate(TITLES)[1] == "Calls left: 0 of 40", 300)
    page.get_by_text("What was stolen?").wait_for(timeout=300_000)
    page.set_viewport_size({"width": 390, "height": 844})
    live.until(lambda: page.evaluate(f"Math.max(...{RIGHTS})") <= 390, 10)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
