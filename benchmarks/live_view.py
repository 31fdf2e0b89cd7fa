"""How the live view moves, measured in a headless Chromium. Run: python benchmarks/live_view.py

Starts the server as a user does and opens real pages, each with a run of its own that computes all the while:

- points, images: pictures painted per second that differ from the one before; nodes that were replaced; pictures that
  were painted empty.
- pause: milliseconds from the click until the last picture was painted.
- slider: milliseconds from moving a slider in the view until the engine had used it for a step (the worker's clock),
  and until a picture of such a step was painted.
- tabs: four at once, pictures per second in each.
- memory: of the server and its worker, while one run goes on for minutes.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402
from playwright.sync_api import Browser, Page, sync_playwright  # noqa: E402

from tests.browser.harness import FLAGS, PROBE, Server, chromium  # noqa: E402

POINTS = "two_moons?samples=100&batches=10&steps=20000"  # 1,000 points
IMAGES = "images?samples=100&batches=4&steps=20000"  # 8 x 8 digits are shown
TRIES = 10

# Watches for canvases that come or go, and looks at every picture whether anything is on it.
WATCH = """(canvas) => {
  const found = { remounts: 0, looked: 0, blank: 0 };
  const view = document.querySelector(".cake-live"), node = document.querySelector(canvas);
  const isCanvas = (n) => n === view || n.nodeName === "CANVAS" || n.querySelector?.("canvas");
  new MutationObserver((records) => {
    for (const r of records) found.remounts += [...r.addedNodes, ...r.removedNodes].filter(isCanvas).length;
  }).observe(document.body, { childList: true, subtree: true });
  const small = new OffscreenCanvas(32, 32).getContext("2d", { willReadFrequently: true });
  const painted = cakeLive.painted;
  found.look = () => {
    cakeLive.painted = (...values) => {
      painted.apply(cakeLive, values);
      small.clearRect(0, 0, 32, 32);
      small.drawImage(node, 0, 0, 32, 32);
      found.looked++;
      if (!small.getImageData(0, 0, 32, 32).data.some((v) => v)) found.blank++;
    };
  };
  found.stop = () => { cakeLive.painted = painted; };
  window.cakeWatch = found;
}"""

RATE = """(seconds) => new Promise((done) => {
  const from = cakeLive.count, start = performance.now();
  setTimeout(() => done((cakeLive.count - from) / (performance.now() - start) * 1000), seconds * 1000);
})"""

PAUSE = """() => new Promise((done) => {
  const start = performance.now();
  document.querySelector(".cake-live .play").click();
  setTimeout(() => done(Math.max(0, cakeLive.at - start)), 700);
})"""

SLIDE = """(value) => new Promise((done) => {
  const view = cakeLive.view, receive = view.receive, before = cakeLive.version;
  const slider = document.querySelector(".cake-live .slider input");
  const start = Date.now(), began = performance.now();
  let used = null;
  view.receive = (message) => {
    if (used === null && message.version > before) used = message.t - start;
    receive.call(view, message);
  };
  slider.value = value;
  slider.dispatchEvent(new Event("input"));
  const wait = () => {
    if (cakeLive.version > before && used !== null) {
      delete view.receive;
      done([used, cakeLive.at - began]);
    } else requestAnimationFrame(wait);
  };
  wait();
})"""


def open_page(browser: Browser, url: str) -> Page:
    """A page whose run is going on."""
    page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    page.add_init_script(PROBE)
    page.goto(url)
    page.wait_for_function("window.cakeLive.view?.history.frames.length > 0", timeout=60_000)
    page.click(".cake-live .play")
    page.wait_for_function("window.cakeLive.view.history.frames.length > 60", timeout=60_000)
    return page


def close_page(page: Page) -> None:
    """Ends the page's run, which would go on without it, and the page."""
    page.evaluate("cakeLive.view.send({op: 'stop'})")
    page.wait_for_timeout(300)
    page.context.close()


def moving(browser: Browser, name: str, url: str, canvas: str, seconds: float) -> Iterator[tuple[str, float, str]]:
    """Pictures per second of one page, replaced nodes, empty pictures."""
    page = open_page(browser, url)
    page.evaluate(WATCH, canvas)
    yield f"{name}: painted", page.evaluate(RATE, seconds), "1/s"
    page.evaluate("cakeWatch.look()")
    page.wait_for_timeout(5000)
    page.evaluate("cakeWatch.stop()")
    yield f"{name}: nodes replaced", page.evaluate("cakeWatch.remounts + cakeLive.mounts - 1"), ""
    yield f"{name}: pictures looked at", page.evaluate("cakeWatch.looked"), ""
    yield f"{name}: empty pictures", page.evaluate("cakeWatch.blank"), ""
    close_page(page)


def answering(browser: Browser, url: str) -> Iterator[tuple[str, float, str]]:
    """How soon a pause and a slider are felt; medians and the longest."""
    page = open_page(browser, url)
    pauses, used, seen = [], [], []
    for n in range(TRIES):
        pauses.append(page.evaluate(PAUSE))
        page.click(".cake-live .play")
        page.wait_for_timeout(700)
        uses, sees = page.evaluate(SLIDE, 500 + 20 * n)
        used.append(uses)
        seen.append(sees)
        page.wait_for_timeout(300)
    for what, values in (("pause seen", pauses), ("slider used by the engine", used), ("slider seen", seen)):
        yield f"{what}, median of {TRIES}", statistics.median(values), "ms"
        yield f"{what}, longest", max(values), "ms"
    close_page(page)


def tabs(browser: Browser, url: str, count: int, seconds: float) -> Iterator[tuple[str, float, str]]:
    """Several pages at once, each with a run of its own."""
    pages = [open_page(browser, url) for _ in range(count)]
    before = [p.evaluate("[cakeLive.count, performance.now()]") for p in pages]
    pages[0].wait_for_timeout(1000 * seconds)
    after = [p.evaluate("[cakeLive.count, performance.now()]") for p in pages]
    rates = [1000 * (b[0] - a[0]) / (b[1] - a[1]) for a, b in zip(before, after, strict=True)]
    yield f"{count} tabs: painted in the slowest", min(rates), "1/s"
    yield f"{count} tabs: painted in the fastest", max(rates), "1/s"
    for page in pages:
        close_page(page)


def memory(browser: Browser, server: Server, url: str, minutes: float) -> Iterator[tuple[str, float, str]]:
    """Resident memory: mean of the second fifth of the time, and of the last."""
    page = open_page(browser, url)
    processes = {"server": psutil.Process(server.process.pid), "worker": server.worker()}
    seen: dict[str, list[float]] = {name: [] for name in processes}
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        for name, process in processes.items():
            seen[name].append(process.memory_info().rss / 2**20)
        page.wait_for_timeout(2000)
    for name, values in seen.items():
        fifth = len(values) // 5
        early, late = statistics.fmean(values[fifth : 2 * fifth]), statistics.fmean(values[-fifth:])
        yield f"memory of the {name} after {minutes / 5:g} to {2 * minutes / 5:g} minutes", early, "MiB"
        yield f"memory of the {name} after {4 * minutes / 5:g} to {minutes:g} minutes", late, "MiB"
        yield f"memory of the {name}: change", 100 * (late / early - 1), "%"
    yield "memory: steps computed meanwhile", page.evaluate("cakeLive.view.history.frames.at(-1).step"), ""
    close_page(page)


def measure(seconds: float, minutes: float, count: int) -> Iterator[tuple[str, float, str]]:
    """All figures, as (what, value, unit)."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        os.environ["CAKE_RUNS_DIR"] = f"{folder}/runs"
        server = Server("app.py", Path(folder) / "log")
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        try:
            points, images = f"{server.url}/{POINTS}", f"{server.url}/{IMAGES}"
            yield from moving(browser, "1,000 points", points, "canvas.points", seconds)
            yield from moving(browser, "8 x 8 digits", images, "canvas.sheet", seconds)
            yield from answering(browser, points)
            yield from tabs(browser, points, count, seconds)
            if minutes:
                yield from memory(browser, server, points, minutes)
        finally:
            browser.close()
            server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15, help="how long pictures are counted (default 15)")
    parser.add_argument("--minutes", type=float, default=10, help="how long memory is watched (default 10; 0: not)")
    parser.add_argument("--tabs", type=int, default=4)
    parser.add_argument("--out", type=Path, help="a CSV file to write to")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for what, value, unit in measure(arguments.seconds, arguments.minutes, arguments.tabs):
        print(f"{what:60s}{value:10.1f} {unit}", flush=True)
        rows.append({"date": date.today().isoformat(), "figure": what, "value": round(value, 1), "unit": unit})
    if arguments.out:
        with arguments.out.open("w", newline="") as f:
            writer = csv.DictWriter(f, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
