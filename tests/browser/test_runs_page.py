"""The page Runs in a real browser: the cookie, ticking, pictures in lock-step; and a report that is opened offline."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import TimeoutError

from cake_core import export, runs
from cake_core.pipeline import Experiment
from cake_core.tasks import Distill

pytestmark = pytest.mark.browser

SECRET = "the-secret-of-a-real-browser"
LONG = 60_000  # ms: the machine may be busy


def distilled(**flat: str) -> str:
    quick = {"batches": "2", "samples": "40", "steps": "20", "student.updates": "40"}
    with runs.owned_by(runs.key_of(SECRET)):
        task = Distill(Experiment.from_query({**quick, **flat}).to_dict())
        for _ in task.moments():
            pass
        return task.finish()["run"]


@pytest.fixture(scope="module")
def two(runs_folder) -> list[str]:
    """A run of twenty steps and one of ten."""
    return [distilled(), distilled(steps="10", method="lake")]


@pytest.fixture
def visit(server, browser):
    """Opens the page Runs; with a secret as the browser that made the runs, without one as somebody new."""
    contexts = []

    def opened(query: str = "", secret: str = SECRET):
        context = browser.new_context(viewport={"width": 1300, "height": 1400})
        contexts.append(context)
        if secret:
            context.add_cookies([{"name": "cake_browser", "value": secret, "url": server.url}])
        page = context.new_page()
        page.goto(f"{server.url}/runs{query}")
        page.get_by_role("heading", name="Runs", exact=True).wait_for(timeout=LONG)
        return page

    yield opened
    for context in contexts:
        context.close()


def secret_of(page, url: str) -> dict:
    """The cookie with the browser's secret, beside which Streamlit has cookies of its own."""
    (cookie,) = [c for c in page.context.cookies(url) if c["name"] == "cake_browser"]
    return cookie


def test_a_browser_gets_a_secret_once_and_keeps_it(server, visit):
    page = visit(secret="")
    page.get_by_text("There are no runs of yours yet").wait_for(timeout=LONG)
    cookie = secret_of(page, server.url)
    assert (cookie["httpOnly"], cookie["sameSite"], len(cookie["value"])) == (True, "Lax", 32)
    page.reload()
    page.get_by_text("There are no runs of yours yet").wait_for(timeout=LONG)
    assert secret_of(page, server.url) == cookie


def test_a_tick_opens_a_run(two, visit):
    page = visit()
    table = page.get_by_test_id("stDataFrame").first
    table.locator("canvas").first.wait_for(timeout=LONG)
    heading = page.get_by_role("heading", name="LAKE on Two moons, seed 0")
    for _ in range(5):  # the latest run stands first; a click may fall into a rerun
        table.click(position={"x": 16, "y": 54})
        try:
            heading.wait_for(timeout=LONG // 5)
            break
        except TimeoutError:
            continue
    assert heading.is_visible()
    assert page.url.endswith(f"?run={two[1]}")


def test_pictures_move_in_lock_step(two, visit):
    page = visit(f"?run={','.join(two)}")
    view = page.locator(".cake-lockstep[data-state=ready]")
    view.wait_for(timeout=LONG)
    captions = view.locator("figcaption")
    assert captions.all_inner_texts() == [
        "CAKE on Two moons, seed 0 ended at step 20",
        "LAKE on Two moons, seed 0 ended at step 10",
    ]
    pictures = "(view) => [...view.querySelectorAll('canvas')].map((c) => c.toDataURL())"
    seen = {}
    for step in (0, 5, 10, 15):
        view.locator("input").evaluate(
            "(input, step) => { input.value = step; input.dispatchEvent(new Event('input')); }", step
        )
        seen[step] = view.evaluate(pictures)
        assert view.locator(".clock").inner_text() == f"step {step} of 20"
    assert len({s[0] for s in seen.values()}) == 4  # the first one moves all the way
    assert seen[0][1] != seen[5][1] != seen[10][1]
    assert seen[10][1] == seen[15][1]  # the other rests where it ended
    assert captions.nth(1).inner_text().endswith("ended at step 10")
    view.locator(".play").click()
    page.wait_for_function(
        "() => { const i = document.querySelector('.cake-lockstep input'); return Number(i.value) > 15; }", timeout=LONG
    )
    page.wait_for_function(
        "() => document.querySelector('.cake-lockstep .play').textContent.includes('Play')", timeout=LONG
    )
    assert view.locator("input").input_value() == "20"


def test_pictures_are_for_those_who_know_the_run(two, server, browser):
    context = browser.new_context()
    try:
        assert context.request.get(f"{server.url}/live/runs/20250101-000000-0123456789abcdef/strip.webp").status == 404
        assert context.request.get(f"{server.url}/live/runs/..%2f{two[0]}/strip.webp").status in (400, 404)
    finally:
        context.close()


def test_the_report_works_offline(two, browser, tmp_path):
    path = tmp_path / "report.html"
    path.write_bytes(export.make(two[0], "report")[1])
    context = browser.new_context(offline=True, viewport={"width": 390, "height": 900})
    try:
        page, asked, errors = context.new_page(), [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_function("() => document.querySelectorAll('.js-plotly-plot .main-svg').length >= 4", timeout=LONG)
        assert [u for u in asked if not re.match("(file|data|blob):", u)] == []
        assert errors == []
        assert page.locator("img").evaluate_all("(all) => all.every((i) => i.complete && i.naturalWidth > 0)")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.set_viewport_size({"width": 1100, "height": 900})
        page.reload()
        fits = "[...document.querySelectorAll('.js-plotly-plot')]"
        fits += ".every((p) => p.querySelector('.main-svg').clientWidth <= p.parentElement.parentElement.clientWidth)"
        page.wait_for_function(f"() => document.querySelectorAll('.main-svg').length >= 4 && {fits}", timeout=LONG)
    finally:
        context.close()
