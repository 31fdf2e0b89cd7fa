"""Servers that are killed and started again, networks that go, browsers that sleep: what the page says, and that work
goes on. Everything is done to real processes and a real browser."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from cake_core.pipeline import Distillation, Experiment

from .harness import Server, leave
from .test_live_view import Live

pytestmark = [pytest.mark.browser, pytest.mark.long]

# Three times two mini-batches of 250 digits at once.
SETTINGS = {"batches": "6", "samples": "250", "steps": "60", "student.updates": "60"}
QUERY = "images?" + "&".join(f"{k}={v}" for k, v in SETTINGS.items())


class House:
    """A server that can be killed and started again at the same address, with runs of its own.

    Args:
        folder: for runs and the log.
        env: of the server.
    """

    def __init__(self, folder: Path, **env: str):
        self.folder, self.env = folder, {"CAKE_RUNS_DIR": str(folder / "runs"), "CAKE_THREADS": "1", **env}
        self.server = Server("app.py", folder / "log", **self.env)

    @property
    def parts(self) -> list[Path]:
        """The mini-batches that are stored of runs that go on."""
        return sorted((self.folder / "runs").glob("2*/parts/*.safetensors"))

    def events(self) -> list[str]:
        """What happened in the one run."""
        (path,) = (self.folder / "runs").glob("2*/events.jsonl")
        return [json.loads(line)["event"] for line in path.read_text().splitlines()]

    def end(self, number: int) -> int:
        """Sends the server a signal; waits until it and its compute processes have ended. Its exit code."""
        children = psutil.Process(self.server.process.pid).children(recursive=True)
        self.server.process.send_signal(number)
        code = self.server.process.wait(30)
        psutil.wait_procs(children, 30)
        return code

    def start_again(self) -> None:
        """At the same address."""
        self.server = Server("app.py", self.folder / "log", port=self.server.port, **self.env)

    def close(self) -> None:
        self.server.close()


@pytest.fixture
def house(tmp_path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


@pytest.fixture
def page(browser) -> Iterator[Live]:
    """A page that may say what it likes to the console while its server is dead."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    made = Live(context.new_page())
    yield made
    leave(context)


def banner(page: Live) -> str:
    """The sentence above the live view; empty where there is none."""
    return page.page.evaluate("cakeLive.view?.dom.banner.hidden === false ? cakeLive.view.dom.banner.textContent : ''")


def begin(house: House, page: Live) -> None:
    """A run that has something to go on from, and still goes on."""
    page.open(f"{house.server.url}/{QUERY}")
    page.click("play")
    page.until(lambda: house.parts)
    assert page.state == "running"


def finish(house: House, page: Live) -> None:
    """Plays to the end: it is the run that was begun, with the samples that it would have had."""
    page.click("play")
    page.until(lambda: page.state == "done")
    words = house.events()
    assert words.count("begun") == 1
    assert "continued" in words
    assert words[-1] == "finished"
    assert not house.parts
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    run = Distillation(Experiment.from_query({"data": "digits", "device": "cpu", **SETTINGS}), in_flight=2)
    while run.samples is None:
        next(run)
    torch.set_num_threads(before)
    (path,) = (house.folder / "runs").glob("2*/samples.safetensors")
    assert torch.equal(load_file(path)["x"], run.samples.x)


def test_a_server_that_is_killed_and_started_again_goes_on_with_the_run(house, page):
    begin(house, page)
    house.end(signal.SIGKILL)
    page.until(lambda: page.status == "Disconnected. Trying again…")
    kept = len(house.parts)
    house.start_again()
    page.until(lambda: "started again while this went on" in banner(page))
    assert "What was finished is kept: press Play to go on where it was, or Reset to begin anew." in banner(page)
    page.until(lambda: page.state == "paused" and page.step >= 60 * kept)
    finish(house, page)
    assert banner(page) == ""


def test_a_server_that_is_told_to_end_says_so_and_puts_the_run_away(house, page):
    begin(house, page)
    page.page.evaluate(
        """() => {
          window.said = [];
          const d = cakeLive.view.dom.banner;
          new MutationObserver(() => said.push(d.textContent)).observe(d, { childList: true, subtree: true });
        }"""
    )
    assert house.end(signal.SIGTERM) in (0, -signal.SIGTERM)
    page.until(lambda: page.page.evaluate("said").count("") < len(page.page.evaluate("said")))
    assert any(
        s.startswith("The server is being stopped. What was finished is kept") for s in page.page.evaluate("said")
    )
    assert house.events()[-1] == "interrupted"
    assert "Traceback" not in house.server.log.read_text()
    house.start_again()
    page.until(lambda: "started again while this went on" in banner(page))
    finish(house, page)


class Wire:
    """A connection between browser and server that can be cut: everything passes a port of its own.

    Args:
        port: of the server.
    """

    def __init__(self, port: int):
        self.to, self.pairs, self.whole = port, [], True
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                ours, _ = self.listening.accept()
                if not self.whole:
                    ours.close()
                    continue
                theirs = socket.create_connection(("127.0.0.1", self.to))
                self.pairs += [ours, theirs]
                for a, b in ((ours, theirs), (theirs, ours)):
                    threading.Thread(target=self._pump, args=(a, b), daemon=True).start()

    @staticmethod
    def _pump(a: socket.socket, b: socket.socket) -> None:
        with suppress(OSError):
            while some := a.recv(65536):
                b.sendall(some)
        for end in (a, b):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Nothing passes any more."""
        self.whole = False
        for end in self.pairs:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """It does again."""
        self.whole = True

    def close(self) -> None:
        self.cut()
        self.listening.close()


def test_a_browser_that_slept_for_an_hour_catches_up(tmp_path, page):
    """The limits of an hour are a few seconds here. First it sleeps with its connection open, and the run goes on to
    its end; then the connection goes too, and a paused run is put away, from where it goes on."""
    house = House(tmp_path, CAKE_IDLE_MINUTES="0.05", CAKE_UNWATCHED_SECONDS="1")
    wire = Wire(house.server.port)
    try:
        page.open(f"{wire.url}/two_moons?samples=20&steps=200&student.updates=100")
        page.click("play")
        page.until(lambda: page.step > 3)
        devtools = page.page.context.new_cdp_session(page.page)
        devtools.send("Page.setWebLifecycleState", {"state": "frozen"})
        other = browser_of(page).new_page()
        other.wait_for_timeout(100)
        done = tmp_path / "runs"
        page_until(other, lambda: list(done.glob("2*/run.json")))
        devtools.send("Page.setWebLifecycleState", {"state": "active"})
        other.close()
        page.page.bring_to_front()
        page.until(lambda: page.state == "done" and page.probe("view.history.frames.at(-1).progress") == 1)

        begin_through(wire, house, page)
        page.rest()
        wire.cut()
        page.until(lambda: page.status == "Disconnected. Trying again…")
        page.until(lambda: "interrupted" in latest_events(tmp_path / "runs"))  # put away
        wire.mend()
        page.until(lambda: "Nobody had looked at this for a while, so it was put away." in banner(page))
        page.click("play")
        page.until(lambda: page.state == "done")
        assert latest_events(tmp_path / "runs")[-1] == "finished"
    finally:
        wire.close()
        house.close()


def browser_of(page: Live):
    return page.page.context


def page_until(page, true, seconds: float = 120) -> None:
    for _ in range(int(seconds * 10)):
        if true():
            return
        page.wait_for_timeout(100)
    raise AssertionError("it did not happen in time")


def begin_through(wire: Wire, house: House, page: Live) -> None:
    page.open(f"{wire.url}/{QUERY}")
    page.click("play")
    page.until(lambda: house.parts)


def latest_events(folder: Path) -> list[str]:
    path = max(folder.glob("2*/events.jsonl"), key=lambda p: p.stat().st_mtime)
    return [json.loads(line)["event"] for line in path.read_text().splitlines()]
