"""For everybody: no page with serious findings, the whole way by keys alone, and few taps on a phone."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from ..test_pages import PAGES
from .harness import leave
from .test_live_view import Live

pytestmark = pytest.mark.browser


def findings(page) -> list[tuple[str, str, str]]:
    """What axe-core finds that is serious or critical: the rule, what breaks it, and why."""
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        (v["id"], node["html"], node["failureSummary"])
        for v in found
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"]
    ]


@pytest.mark.long
def test_no_page_has_serious_findings_in_light_or_dark(server, browser):
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    page, found = context.new_page(), {}
    page.set_default_timeout(120_000)

    def look(what: str) -> None:
        for theme, ground in (("light", "255, 255, 255"), ("dark", "16, 21, 22")):
            page.emulate_media(color_scheme=theme)
            told = f"getComputedStyle(document.querySelector('.stApp')).backgroundColor === 'rgb({ground})'"
            page.wait_for_function(told)
            for _ in range(5):  # colours still fade from one theme to the other
                if not (some := findings(page)):
                    break
                page.wait_for_timeout(1000)
            else:
                found[what, theme] = some

    for name in PAGES:
        page.emulate_media(color_scheme="light")
        page.goto(f"{server.url}/{'' if name == 'home' else name}")
        page.get_by_role("heading", level=1).wait_for()
        page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        look(name)
    page.goto(f"{server.url}/two_moons")
    page.get_by_role("button", name="Share", exact=True).click()
    page.get_by_alt_text("QR code").wait_for()
    look("share")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Draw your own").click()
    page.locator(".cake-draw > canvas").wait_for()
    look("draw")
    leave(context)
    assert not found, "\n".join(f"{where}: {some}" for where, some in found.items())


def test_by_keys_alone_to_a_trained_student(server, browser):
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    live = Live(context.new_page())
    page = live.page
    page.set_default_timeout(120_000)
    live.open(f"{server.url}/two_moons?batches=2&samples=60&steps=40&student.updates=60")
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.cake-live .play')"):
            break
    assert page.evaluate("document.activeElement.matches(':focus-visible')")
    page.keyboard.press("Enter")
    live.until(lambda: live.state == "done")
    page.get_by_text("How well does it copy?").wait_for()
    page.keyboard.press("r")  # once more from the start, by the keys that the page lists
    live.until(lambda: live.state == "ready" and "Ready." in live.status)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("3")
    page.wait_for_url("**method=lake**")
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
