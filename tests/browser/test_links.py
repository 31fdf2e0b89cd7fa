"""Links in a real browser: the same samples elsewhere; undo, the drawing board, and a stand that plays by itself."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator

import pytest

from .harness import leave
from .test_live_view import Live

pytestmark = pytest.mark.browser

SHORT = "batches=2&samples=60&steps=40&student.updates=60"


@pytest.fixture
def fresh(browser) -> Iterator:
    """Opens a browser profile of its own, as often as it is asked: nothing is shared between them."""
    contexts = []

    def make(width: int = 1440, height: int = 1000, **more) -> Live:
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **more))
        live = Live(contexts[-1].new_page())
        live.page.set_default_timeout(60_000)
        return live

    yield make
    for context in contexts:
        leave(context)


def frames(live: Live) -> dict[int, str]:
    """A hash of the samples of each step whose frame was seen."""
    told = live.page.evaluate(
        "cakeLive.view.history.frames.filter(f => f.xy && f.stage === 'synthesis')"
        ".map(f => [f.step, Array.from(f.xy), Array.from(f.labels)])"
    )
    return {step: hashlib.sha256(json.dumps([xy, labels]).encode()).hexdigest() for step, xy, labels in told}


def play_to_the_end(live: Live) -> None:
    live.page.locator(".cake-live .play").click()
    live.until(lambda: live.state == "done")


def test_a_link_copied_in_one_profile_gives_the_same_samples_in_another(server, fresh):
    one = fresh(permissions=["clipboard-read", "clipboard-write"])
    one.open(f"{server.url}/two_moons?{SHORT}&method=lake&seed=11")
    one.page.get_by_label("Trails").check()
    one.page.wait_for_url("**show=trails**")
    one.page.get_by_role("button", name="Share", exact=True).click()
    code = one.page.get_by_test_id("stCode")
    code.get_by_text("show=trails").wait_for()
    one.page.get_by_alt_text("QR code of the link").wait_for()
    code.hover()
    code.get_by_role("button", name="Copy to clipboard").click()
    link = one.page.evaluate("navigator.clipboard.readText()")
    assert "job=" not in link
    one.page.keyboard.press("Escape")
    play_to_the_end(one)

    two = fresh()
    two.open(link)
    assert two.page.get_by_label("Trails").is_checked()
    assert two.probe("view.data.job") != one.probe("view.data.job")  # a run of its own
    play_to_the_end(two)
    mine, theirs = frames(one), frames(two)
    both = mine.keys() & theirs.keys()
    assert len(both) > 5
    assert max(both) == 40
    assert len({mine[k] for k in both}) > 5  # they move
    assert {k: mine[k] for k in both} == {k: theirs[k] for k in both}

    other = fresh()
    other.open(link.replace("seed=11", "seed=12"))
    play_to_the_end(other)
    assert frames(other)[40] != mine[40]


def test_keys_take_back_and_bring_back(server, fresh):
    live = fresh().open(f"{server.url}/two_moons?{SHORT}")
    settled = '[data-testid="stApp"][data-test-script-state="notRunning"]'
    live.page.get_by_role("button", name=re.compile("^LAKE")).click()
    live.page.wait_for_url("**method=lake**")
    live.page.wait_for_selector(settled)
    live.page.keyboard.press("Control+z")
    live.page.wait_for_url(lambda url: "method=" not in url and "steps=40" in url)
    live.page.wait_for_selector(settled)
    live.page.keyboard.press("Control+Shift+z")
    live.page.wait_for_url("**method=lake**")
    assert live.errors == []


@pytest.mark.long
def test_a_slow_browser_takes_back_without_losing_anything(server, fresh):
    live = fresh()
    live.page.context.new_cdp_session(live.page).send("Emulation.setCPUThrottlingRate", {"rate": 6})
    taken_back = 0
    for pause in (100, 200, 300, 0):
        live.page.goto(f"{server.url}/two_moons?{SHORT}")
        live.page.get_by_role("button", name=re.compile("^LAKE")).click()
        live.page.wait_for_url("**method=lake**")
        live.page.wait_for_timeout(pause)
        live.page.keyboard.press("Control+z")  # while the page is still drawn
        live.page.wait_for_timeout(6000)
        taken_back += "method=" not in live.page.url
        assert "method=lake" in live.page.url or SHORT in live.page.url  # too early for the page, or all of it
    assert taken_back
    assert live.errors == []


def touch(page, points: list[tuple[float, float]]) -> None:
    """A finger that goes along some points of the screen, and rests at the last: a fling would swallow the next tap."""
    client = page.context.new_cdp_session(page)
    rest = [points[-1]] * 8
    kinds = ["touchStart", *["touchMove"] * (len(points) + len(rest) - 1)]
    for kind, (x, y) in zip(kinds, [*points, *rest], strict=True):
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        page.wait_for_timeout(20)
    client.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def choose(live: Live, shape: str) -> None:
    """Taps on a shape until it is chosen: a tap right behind a stroke of synthetic touches may be swallowed."""
    radio = live.page.get_by_role("radio", name=shape)
    for _ in range(10):
        if radio.is_checked():
            return
        live.page.locator(".cake-draw label", has_text=shape).tap()
        live.page.wait_for_timeout(500)
    raise AssertionError(f"{shape} can't be chosen")


def test_a_finger_draws_the_teachers_data_on_a_phone(server, fresh):
    live = fresh(390, 844, has_touch=True).open(f"{server.url}/two_moons?{SHORT}")
    page = live.page
    page.get_by_test_id("stExpandSidebarButton").tap()
    page.get_by_role("button", name="Draw your own").tap()
    board = page.locator(".cake-draw > canvas")
    use = page.get_by_role("button", name="Use this drawing")
    page.get_by_text("Nothing is drawn yet. A teacher tells").wait_for()
    for shape, middle in (("Circles", -0.5), ("Squares", 0.5)):
        choose(live, shape)
        box = board.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        arc = [(middle + 0.2 * math.cos(t / 3), 0.5 * math.sin(t / 3)) for t in range(20)]
        touch(page, [(box["x"] + box["width"] * (x + 1) / 2, box["y"] + box["height"] * (1 - y) / 2) for x, y in arc])
        page.locator(".cake-draw .count", has_text=shape.lower()).wait_for()
        if shape == "Circles":
            page.get_by_text("All points are circles.").wait_for()
            assert use.is_disabled()
    live.until(use.is_enabled)
    for _ in range(10):
        if use.is_visible() and use.is_enabled():
            use.tap()
        page.wait_for_timeout(3000)
        if "data=own-" in page.url:
            break
    assert "data=own-" in page.url
    page.get_by_test_id("stDialog").wait_for(state="detached")
    live.ready()
    live.until(lambda: page.evaluate("cakeLive.view.scene.classes") == ["circles", "squares"])
    assert live.errors == []


@pytest.mark.long
def test_a_stand_plays_hands_over_and_begins_again(server, fresh):
    live = fresh()
    page = live.page
    page.goto(f"{server.url}/two_moons?v=2&kiosk=1&idle=5&{SHORT}&method=naive")
    page.locator(".cake-kiosk .call").wait_for()
    assert page.get_by_test_id("stSidebar").count() == 0 or not page.get_by_test_id("stSidebar").is_visible()
    live.ready()
    live.until(lambda: live.state == "running" or live.state == "done")  # nobody has pressed anything
    page.get_by_text("Now: Naive.").wait_for()
    outcome = "[...document.querySelectorAll('h3')].find(h => /How well/.test(h.textContent))"
    page.wait_for_function(f"{outcome}?.getBoundingClientRect().top < 700")  # nobody has scrolled
    page.get_by_text("Now: CAKE.").wait_for()  # the first preset follows
    page.wait_for_function("document.querySelector('[data-testid=stMain]').scrollTop === 0")
    live.until(lambda: live.state == "running")
    page.keyboard.press("x")
    page.get_by_role("button", name=re.compile("^One spot, LAKE")).wait_for()
    page.get_by_role("button", name=re.compile("^One spot, LAKE")).click()
    page.get_by_text("Still there?").wait_for()
    page.get_by_text("Now: Naive.").wait_for()  # as the link has it
    assert "method=naive" in page.url
    assert live.errors == []
