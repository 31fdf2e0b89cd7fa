"""A lesson and a step in slow motion, in a real browser."""

from __future__ import annotations

import pytest

from .test_live_view import Live, live  # noqa: F401

pytestmark = pytest.mark.browser


def test_a_lesson_is_played_with_the_mouse(server, live: Live):  # noqa: F811
    page = live.page
    live.open(f"{server.url}/lessons?lesson=contrast&step=3")
    page.get_by_text("Find the balance").first.wait_for(timeout=60_000)
    names = page.evaluate("[...document.querySelectorAll('.cake-live .slider input')].map((e) => e.ariaLabel)")
    assert names == ["Classification weight", "Contrast weight"]  # all others are locked
    assert page.get_by_role("button", name="Skip", exact=True).is_visible()
    live.click("play")
    live.until(lambda: live.step > 10)
    slider = page.locator(".cake-live .slider input").nth(1)
    slider.evaluate("(e) => { e.value = 429; e.dispatchEvent(new Event('input', {bubbles: true})); }")
    slider.evaluate("(e) => e.dispatchEvent(new Event('change', {bubbles: true}))")
    live.until(lambda: page.get_by_text("Goal reached:").count() == 2, 150)
    page.get_by_role("button", name="Next", exact=True).wait_for(timeout=60_000)


def test_a_step_in_slow_motion_says_what_the_engine_says(server, live: Live):  # noqa: F811
    page = live.page
    live.open(f"{server.url}/two_moons?method=lake&samples=40&batches=2")
    live.click("explain")
    live.until(lambda: page.evaluate("!!cakeLive.view.explainer.frame"))
    assert live.step == 1
    a = page.evaluate("cakeLive.view.explainer.frame.anatomy")
    assert [t["name"] for t in a["terms"]] == ["classification", "contrast"]
    page.locator(".anatomy .phase").nth(2).click()
    caption = page.inner_text(".anatomy .caption")
    for term in a["terms"]:
        length = float(format(term["gradient"], ".3g"))
        assert f"{term['name']} {length:g}" in caption
    # Where the samples are after it is where the parts lead.
    gap = page.evaluate(
        """(() => {
          const f = cakeLive.view.explainer.frame, w = cakeLive.view.scene.half_width * cakeLive.view.scene.reach;
          let worst = 0;
          for (let k = 0; k < f.anatomy_from.length; k++) {
            const shown = (f.xy[k] / 65535) * 2 * w - w;
            worst = Math.max(worst, Math.abs(f.anatomy_from[k] + f.anatomy_move[k] + f.anatomy_noise[k] - shown));
          }
          return worst / w;
        })()"""
    )
    assert gap < 2e-5 * 2
    page.locator(".anatomy .next").click()
    live.until(lambda: page.evaluate("cakeLive.view.explainer.frame?.anatomy.step") == 2)
    page.keyboard.press("Escape")
    assert page.locator(".anatomy").is_hidden()


def test_words_and_less_motion(server, live: Live):  # noqa: F811
    page = live.page
    live.open(f"{server.url}/two_moons?samples=40&batches=2&steps=2000")
    live.until(lambda: "Near the boundary" in page.evaluate("document.querySelector('.in-words p').textContent"))
    page.get_by_role("button", name="Near the boundary: what does it mean?").click()
    assert "closer than 0.1" in page.inner_text(".cake-live .card")
    page.keyboard.press("Escape")
    live.until(lambda: page.locator(".cake-live .card").is_hidden())
    page.check(".cake-live [name=calm]")
    live.click("play")
    live.until(lambda: live.step > 20)
    count = live.probe("count")
    page.wait_for_timeout(3000)
    assert live.probe("count") - count <= 8  # two pictures a second, not sixty
    page.reload()
    live.ready()
    assert page.is_checked(".cake-live [name=calm]")  # this browser remembers
