"""For everybody: no page with serious findings, the whole way by keys alone, and few taps on a phone."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from ..test_pages import PAGES
from .harness import leave
from .test_live_view import Live

pytestmark = pytest.mark.browser


def findings(page) -> list[tuple[str, str, str]]:
    """What axe-core finds that is serious or critical: the rule, where, and why."""
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        (v["id"], str(node["target"]), node["failureSummary"])
        for v in found
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"]
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_has_serious_findings(server, browser, theme):
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, color_scheme=theme)
    page, found = context.new_page(), {}
    page.set_default_timeout(120_000)
    for name in PAGES:
        page.goto(f"{server.url}/{'' if name == 'home' else name}")
        page.get_by_role("heading", level=1).wait_for()
        page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        if some := findings(page):
            found[name] = some
    page.goto(f"{server.url}/two_moons")
    page.get_by_role("button", name="Share", exact=True).click()
    page.get_by_alt_text("QR code").wait_for()
    if some := findings(page):
        found["share"] = some
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Draw your own").click()
    page.locator(".cake-draw > canvas").wait_for()
    if some := findings(page):
        found["draw"] = some
    leave(context)
    assert found == {}


def test_by_keys_alone_from_home_to_a_trained_student(server, browser):
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    live = Live(context.new_page())
    page = live.page
    page.set_default_timeout(120_000)
    page.goto(server.url)
    page.get_by_role("heading", level=1).wait_for()
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent").endswith("Two moons"):
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/two_moons**")
    live.ready()
    live.until(lambda: "Ready. Press Play" in live.status)
    page.keyboard.press("Space")
    live.until(lambda: live.state == "done")
    page.get_by_text("How well does it copy?").wait_for()
    assert live.errors == []
    leave(context)


def test_a_newcomer_on_a_phone_has_a_trained_student_after_few_taps(server, browser):
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    live = Live(context.new_page())
    page, taps = live.page, 0
    page.set_default_timeout(120_000)
    page.goto(server.url)
    for step in (
        page.get_by_test_id("stMain").get_by_role("link", name="Two moons"),
        page.locator(".cake-live:not([data-recording]) .play"),
    ):
        step.wait_for()
        if taps:
            live.ready()
        step.tap()
        taps += 1
    live.until(lambda: live.state == "done")
    page.get_by_text("How well does it copy?").wait_for()
    assert taps <= 6
    assert page.evaluate("document.documentElement.scrollWidth") <= 390  # nothing to be pushed sideways
    assert live.errors == []
    leave(context)
