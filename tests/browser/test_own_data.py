"""Files of one's own, put into a real browser: a bad one is refused, a good one is what is then seen to move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..test_folders import a_set, zipped
from ..test_tables import table
from .harness import leave
from .test_live_view import Live

pytestmark = pytest.mark.browser


class Patient(Live):
    """A page that may take its time: a teacher is trained before anything is seen."""

    def until(self, true: Callable[[], object], seconds: float = 300) -> None:
        super().until(true, seconds)


@pytest.fixture
def live(browser) -> Iterator[Live]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    made = Patient(context.new_page())
    made.page.set_default_timeout(300_000)
    yield made
    assert made.errors == []
    leave(context)


def put(live: Live, name: str, content: bytes, folder: Path) -> None:
    """A file into the dialog's field."""
    (folder / name).write_bytes(content)
    live.page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(folder / name)


@pytest.mark.parametrize(
    ("page", "name", "bad", "sentence", "good"),
    [
        ("two_moons", "rings.csv", b"x,y,label\n1,oops,a\n", "Line 2, y is 'oops', which is no number.", table(200)),
        ("images", "dots.zip", b"no zip at all", "The file is no zip file.", zipped(a_set(10, size=(8, 8)))),
    ],
    ids=["points", "images"],
)
def test_bad_file_good_file_and_play(server, live, tmp_path, page, name, bad, sentence, good):
    live.open(f"{server.url}/{page}?batches=2&samples=40&steps=5000")
    address = live.page.url
    live.page.get_by_role("button", name="Bring your own").click()
    put(live, f"bad-{name}", bad, tmp_path)
    live.page.get_by_test_id("stDialog").get_by_text(sentence).wait_for()
    assert live.page.get_by_role("button", name="Use these data").count() == 0
    assert live.page.url == address

    put(live, name, good.encode() if isinstance(good, str) else good, tmp_path)
    live.page.get_by_role("button", name="Use these data").click()
    live.page.wait_for_url("**data=own-*")
    live.page.get_by_test_id("stDialog").wait_for(state="detached")
    if page == "two_moons":
        live.ready()
    else:  # nothing is seen before Play: the teacher of images takes a while
        live.until(lambda: live.status.startswith("Press Play: a teacher is trained for these data first"))
    live.click("play")
    live.ready()
    live.until(lambda: live.page.evaluate("cakeLive.view.scene.classes ?? null") == ["a", "b"])
    live.until(lambda: live.state == "running" and live.step > 5)

    live.page.reload()  # the address holds it
    live.ready()
    live.until(lambda: live.step > 5)
    live.page.get_by_role("button", name="Bring your own").click()
    live.page.get_by_test_id("stDialog").get_by_role("button", name="Close").click()
    live.page.get_by_test_id("stDialog").wait_for(state="detached")


def test_a_file_that_is_too_large_is_refused_in_words(server, live, tmp_path):
    live.open(f"{server.url}/two_moons")
    live.page.get_by_role("button", name="Bring your own").click()
    put(live, "long.csv", b"1,2,a\n" * 1_000_000, tmp_path)
    live.page.get_by_test_id("stDialog").get_by_text("The file has 6.0 MB; at most 5 MB can be read.").wait_for()
