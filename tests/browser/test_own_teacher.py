"""Bringing a teacher in a real browser: what is good is imported, what is not is refused, and the page stays usable."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from cake_core import teacher

from . import harness
from .harness import leave

pytestmark = pytest.mark.browser

SECONDS = 120_000  # milliseconds; the first import also starts a process
DIGITS = teacher.SHIPPED_FOLDER / "digits" / "lenet5.safetensors"


@pytest.fixture
def page(server, browser):
    context = browser.new_context(viewport={"width": 1280, "height": 1400})
    made = context.new_page()
    made.set_default_timeout(SECONDS)
    made.goto(f"{server.url}/teacher")
    made.get_by_role("tab", name="Bring your own").click()
    yield made
    leave(context)


def bring(page: Page, path: Path) -> None:
    page.get_by_label("Bring your own").locator("input[type=file]").first.set_input_files(path)


def choose(page: Page, label: str, option: str) -> None:
    box = page.get_by_label("Bring your own").get_by_role("combobox", name=label)
    harness.choose(box, page.get_by_role("option", name=option, exact=True), page)


def says(page: Page, sentence: str) -> None:
    expect(page.get_by_text(sentence).last).to_be_visible(timeout=SECONDS)


def import_digits(page: Page, model: str = "LeNet-5") -> None:
    says(page, "Found:")
    choose(page, "It classifies", "Digits (8x8)")
    choose(page, "Architecture", model)
    page.get_by_role("button", name="Check and import").click()


def test_good_after_bad(page, tmp_path):
    """One page through every refusal, and at its end a good file is imported and copied."""
    files = {
        "teacher.pt": pickle.dumps({"w": [1.0]}),
        "disguised.safetensors": pickle.dumps({"w": [1.0]}),
        "cut.safetensors": DIGITS.read_bytes()[:-100],
        "good.safetensors": DIGITS.read_bytes(),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for name in ("teacher.pt", "disguised.safetensors"):
        bring(page, tmp_path / name)
        says(page, f"{name} is a pickle")
        says(page, "runs whatever code its author put there")
        expect(page.get_by_role("button", name="Check and import")).to_have_count(0)

    bring(page, tmp_path / "cut.safetensors")
    import_digits(page)
    says(page, "cut.safetensors was cut short")

    bring(page, tmp_path / "good.safetensors")
    import_digits(page, "CNN")
    says(page, "CNN was chosen; the file fits LeNet-5. Choose LeNet-5.")

    choose(page, "Architecture", "LeNet-5")
    page.get_by_role("button", name="Check and import").click()
    says(page, "of 500 test examples right")
    page.get_by_role("button", name="Use this teacher").click()
    page.wait_for_url("**/images**teacher=run**")
    expect(page.get_by_role("button", name="Play")).to_be_visible()


def test_a_file_of_two_gigabytes_is_refused_before_it_is_sent(page, server, tmp_path):
    huge = tmp_path / "huge.safetensors"
    with huge.open("wb") as f:
        f.truncate(2 * 2**30)  # takes no room on the disk
    sent = []
    page.on("request", lambda r: sent.append(r) if r.method in ("PUT", "POST") and "upload" in r.url else None)
    bring(page, huge)
    says(page, "File must be 300.0MB or smaller.")
    assert page.get_by_text("File must be 300.0MB").bounding_box()["width"] > 100  # not for screen readers alone
    assert not sent
    bring(page, DIGITS)  # and the page goes on
    says(page, "Found:")
    expect(page.get_by_role("button", name="Check and import")).to_be_enabled()
