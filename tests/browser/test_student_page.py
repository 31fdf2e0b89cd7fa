"""The page Student in a real browser: curves appear and grow, and at the end the results are there."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file

from .harness import choose
from .test_live_view import Live, live  # noqa: F401

pytestmark = pytest.mark.browser

POINTS = "cakeLive.view.figure?.children[2]?.data?.[0]?.x?.length ?? 0"  # of the first curve of the third chart
RIGHTS = "[...document.querySelectorAll('.cake-live .figures svg')].map((e) => e.getBoundingClientRect().right)"


@pytest.mark.long
def test_curves_grow_and_the_confusion_matrix_is_there(server, live: Live):  # noqa: F811
    page = live.open(f"{server.url}/student?batches=2&samples=50&steps=2&student.updates=20").page
    live.click("play")
    page.get_by_text("its teacher (LeNet-5 on Digits (8x8)) 61,706").wait_for(timeout=240_000)
    architecture = page.locator("[data-testid=stSelectbox]", has_text="Architecture").locator("input")
    live.until(lambda: architecture.count() == 1)  # the list without counts stays until the page has been drawn again
    choose(architecture, page.get_by_role("option").filter(has_text="MLP, 26,122"), page)
    page.get_by_text("The student has 26,122 parameters").wait_for()
    page.get_by_role("button", name="Train", exact=True).click()

    live.until(lambda: page.evaluate(POINTS) > 1, 240)
    first = page.evaluate(POINTS)
    page.evaluate("cakeLive.view.figure.children[2].mine = true")
    live.until(lambda: page.evaluate(POINTS) > first, 240)
    live.click("play")  # it says Pause now
    live.until(lambda: live.state == "paused")
    charts = page.locator(".cake-live .figures > div")
    assert charts.count() == 4
    assert charts.nth(2).get_attribute("aria-label").startswith("Accuracy on real test data. Now: These samples")
    assert page.evaluate("cakeLive.view.figure.children[2].mine")  # redrawn in place
    names = page.locator(".cake-live .legend span").all_inner_texts()
    assert names == ["These samples", "Noise only (control)", "Distillation with data", "Real labels"]
    assert "judged on 500 of the 500 real test examples" in page.inner_text(".cake-live .stage > p")
    page.set_viewport_size({"width": 390, "height": 844})
    live.until(lambda: page.evaluate(f"Math.max(...{RIGHTS})") <= 390, 10)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1440, "height": 1000})

    live.click("play")
    page.get_by_text("Where do student and teacher differ?").wait_for(timeout=300_000)
    page.get_by_text("the teacher's answer").wait_for()  # the rows of the confusion matrix
    page.get_by_role("radio", name="Noise only (control)").click()
    page.get_by_text("Real test images that they read differently").wait_for()
    files = []

    def of_the_noise() -> bool:
        with page.expect_download() as download:
            page.get_by_role("button", name="This student's weights").click()
        files.append(download.value)
        return files[-1].suggested_filename == "mlp-noise-seed0.safetensors"

    live.until(of_the_noise)  # the button is the former student's until the page has been drawn again
    weights = load_file(files[-1].path())
    assert sum(v.numel() for v in weights.values()) == 26_122
