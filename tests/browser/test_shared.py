"""A hall: several browsers open the same link and press Play; one of them moves a slider."""

from __future__ import annotations

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from cake_core import logs

from ..protocol import Session
from .harness import PROBE, Server

pytestmark = pytest.mark.browser
LINK = "two_moons?samples=50&batches=4&steps=300&student.updates=50"


@pytest.mark.long
def test_one_computation_for_all_and_ones_own_after_a_change(tmp_path, browser):
    server = Server("app.py", tmp_path / "log", CAKE_LOG="json", CAKE_MAX_SHARED_MB="64")

    def events(name: str) -> list[dict]:
        lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    pages = [browser.new_context().new_page() for _ in range(4)]
    try:
        for page in pages:
            page.add_init_script(PROBE)
            page.goto(f"{server.url}/{LINK}")
            page.get_by_text("Ready. Press Play").wait_for(timeout=90_000)
        for page in pages:
            page.get_by_role("button", name="Play", exact=False).first.click()
        for page in pages:
            page.wait_for_function("window.cakeLive.step > 20", timeout=90_000)
        names = [page.url.split("job=")[1].split("&")[0] for page in pages]
        computed = {e["job"] for e in events("job_began")}
        assert logs.which(names[0]) in computed
        assert not {logs.which(n) for n in names[1:]} & computed
        assert len(computed) == 2  # the first one's, and the one for all
        assert len(events("job_shared")) == 1
        said = urllib.request.urlopen(f"{server.url}/live/metrics").read().decode()
        assert "cake_replayed 3" in said

        changing = pages[1]
        changing.get_by_role("button", name="Pause").first.click()
        changing.wait_for_function("window.cakeLive.view.status.state === 'paused'", timeout=30_000)
        there = changing.evaluate("window.cakeLive.view.history.frames.at(-1).step")
        slider = changing.locator(".cake-live .slider input").first
        slider.evaluate("(s) => { s.value = 900; s.dispatchEvent(new Event('input')); }")
        changing.get_by_role("button", name="Step", exact=True).first.click()
        changing.wait_for_function("window.cakeLive.version > 0", timeout=30_000)
        assert changing.evaluate("window.cakeLive.view.history.frames.at(-1).step") > there
        assert "cake_replayed 2" in urllib.request.urlopen(f"{server.url}/live/metrics").read().decode()
        for page in (*pages[2:],):
            page.get_by_text("Done. The results are below.").wait_for(timeout=120_000)
            page.get_by_text("Agreement").first.wait_for(timeout=60_000)
    finally:
        for page in pages:
            page.context.close()
        server.close()


def test_a_hall_that_opens_a_page_at_once_gets_it(server):
    """Twenty-four browsers, each with a run of its own in the end; a page that is drawn anew is still the same one."""
    sessions = [Session(server.url, f"cake_browser=the-browser-of-number-{k:04}") for k in range(24)]
    try:
        with ThreadPoolExecutor(len(sessions)) as at_once:
            told = list(at_once.map(lambda s: s.open("two_moons", "samples=20&batches=1&steps=5"), sessions))
            jobs = {s.parameters["job"] for s in sessions}
            again = list(at_once.map(lambda s: s.open("two_moons", s.query), sessions))
        assert all("Two moons" in text and '"exception"' not in text for text in told + again)
        assert len(jobs) == len(sessions)
        assert {s.parameters["job"] for s in sessions} == jobs
    finally:
        for session in sessions:
            session.close()
