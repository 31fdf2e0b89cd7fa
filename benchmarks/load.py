"""A lecture hall: many viewers of a few runs on one server. Run: python benchmarks/load.py --sessions 100 --minutes 30

Starts the server as a user does. A few runs are begun by real pages in a headless Chromium, which stay open; the other
sessions are clients that speak the socket's protocol as the live view does, each confirming what it gets, spread over
the runs. All connect to this machine alone. Measured:

- frames per second that each viewer gets, the slowest and the median;
- how evenly the runs advance: steps of the slowest over steps of the fastest;
- milliseconds from a changed setting until a frame of a step that used it arrives, median and 99th percentile;
- resident memory of the server and its compute process, at the beginning and at the end;
- errors: connections that broke, answers that were not frames, pages with an error.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402
from playwright.sync_api import Browser, Page, sync_playwright  # noqa: E402
from websockets.asyncio.client import connect  # noqa: E402

from cake_core import runs  # noqa: E402
from cake_core.frames import decode  # noqa: E402
from tests.browser.harness import FLAGS, PROBE, Server, chromium  # noqa: E402

PAGE = "two_moons?samples=100&batches=4&steps=20000&seed={seed}"
OWNER = "cake_browser=the-browser-that-begins-all-runs"  # who watches here may steer: all are one browser
WARM_UP = 10  # seconds before anything is counted
MINUTES_OF_A_ROUND = 6  # 20,000 steps at 30 a second end after eleven; the first runs begin before the last page is up
SECONDS_BETWEEN_EDITS = 5


class Viewer:
    """One client of one run: counts frames, and now and then changes a setting and waits for its effect."""

    def __init__(self, url: str, job: str, edits: bool):
        self.url, self.job, self.edits = f"{url.replace('http', 'ws')}/live/{job}", job, edits
        self.frames, self.steps, self.errors = 0, [], 0
        self.effects: list[float] = []

    async def watch(self, until: float, counted_from: float) -> None:
        asked: tuple[float, int] | None = None
        last, version = 0.0, 0
        try:
            async with connect(self.url, max_size=None, additional_headers={"Cookie": OWNER}) as socket:
                while (left := until - time.monotonic()) > 0:
                    try:
                        message = await asyncio.wait_for(socket.recv(), left)
                    except TimeoutError:
                        break
                    if isinstance(message, str):
                        said = json.loads(message)
                        self.errors += said["type"] == "refused" or said.get("state") == "failed"
                        continue
                    head = decode(message)[0]
                    if head["type"] != "frame":
                        continue
                    await socket.send('{"op": "seen"}')
                    now = time.monotonic()
                    if now >= counted_from:
                        self.frames += 1
                        self.steps.append(head["step"])
                    if asked and head["version"] > asked[1]:
                        self.effects.append(1000 * (now - asked[0]))
                        asked = None
                    version = max(version, head["version"])
                    if self.edits and not asked and now > max(last + SECONDS_BETWEEN_EDITS, counted_from):
                        value = 0.05 + 0.05 * (now % 1)
                        await socket.send(json.dumps({"op": "set", "settings": {"step_size": value}}))
                        asked, last = (now, version), now
        except OSError:
            self.errors += 1


def measure(sessions: int, jobs: int, minutes: float, tabs: int) -> dict[str, Any]:
    """One row. A run's steps end after some minutes, so a long time is several rounds on one server, with new runs."""
    rounds = math.ceil(minutes / MINUTES_OF_A_ROUND)
    seconds = 60 * minutes / rounds
    folder = Path(tempfile.mkdtemp(prefix="cake-load-"))
    os.environ["CAKE_RUNS_DIR"], os.environ["CAKE_UPLOADS_DIR"] = str(folder / "runs"), str(folder / "uploads")
    os.environ |= dict.fromkeys(("CAKE_MAX_JOBS_PER_OWNER", "CAKE_MAX_RUNNING_PER_OWNER"), str(2 * jobs))  # all are one
    server = Server("app.py", folder / "log")
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
            viewers, jobs_of, at_first, broken = [], [], {}, 0
            for begin in range(rounds):
                names, pages = begun(browser, server, range(begin * jobs, (begin + 1) * jobs), tabs)
                until = time.monotonic() + WARM_UP + seconds
                watching = [Viewer(server.url, names[n % jobs], edits=n < jobs) for n in range(sessions - tabs)]
                with ThreadPoolExecutor(1) as apart:  # Playwright has a loop of its own in this thread
                    apart.submit(lambda: asyncio.run(hall(watching, until, seconds, server, at_first))).result()  # noqa: B023
                broken += sum(page.locator(".stException").count() for page in pages)
                for page in pages:
                    page.context.close()
                viewers += watching
                jobs_of.append([max(v.steps) - min(v.steps) for v in watching[:jobs] if v.steps])
            at_last = memory(server)
            browser.close()
        rates = sorted(v.frames / seconds for v in viewers)
        walked = [steps for walked in jobs_of for steps in walked]
        effects = sorted(e for v in viewers for e in v.effects)
        return {
            "date": date.today().isoformat(),
            "sessions": sessions,
            "of_these_browser_tabs": tabs,
            "running_jobs": jobs,
            "minutes": minutes,
            "cores": os.cpu_count(),
            "frames_per_second_slowest": rates[0],
            "frames_per_second_median": statistics.median(rates),
            "steps_per_second_median": statistics.median(walked) / seconds,
            "slowest_over_fastest_job": min(min(walked) / max(walked) for walked in jobs_of),
            "effect_ms_p50": statistics.median(effects),
            "effect_ms_p99": effects[min(len(effects) - 1, round(0.99 * len(effects)))],
            "effects_measured": len(effects),
            **{f"mib_at_start_{k}": v for k, v in at_first.items()},
            **{f"mib_at_end_{k}": v for k, v in at_last.items()},
            "errors": sum(v.errors for v in viewers) + broken,
        }
    finally:
        server.close()


def begun(browser: Browser, server: Server, seeds: range, tabs: int) -> tuple[list[str], list[Page]]:
    """The ids of runs begun by pages, and those pages that stay open."""
    names, pages = [], []
    for seed in seeds:
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.add_init_script(PROBE)
        name, value = OWNER.split("=")
        page.context.add_cookies([{"name": name, "value": value, "url": server.url}])
        page.goto(f"{server.url}/{PAGE.format(seed=seed)}")
        page.wait_for_function("window.cakeLive?.view?.history?.frames?.length > 0", timeout=120_000)
        page.click(".cake-live .play")
        names.append(page.url.split("job=")[1].split("&")[0])
        pages.append(page)
    for page in pages[tabs:]:
        page.context.close()
    return names, pages[:tabs]


async def hall(viewers: list[Viewer], until: float, seconds: float, server: Server, at_first: dict[str, float]) -> None:
    """Lets all watch until then; what is counted are the last `seconds`. Notes the memory before the first counting."""
    watching = [asyncio.create_task(v.watch(until, until - seconds)) for v in viewers]
    await asyncio.sleep(WARM_UP)
    at_first |= at_first or memory(server)
    await asyncio.gather(*watching)


def memory(server: Server) -> dict[str, float]:
    """MiB of the server and of the process that computes."""
    return {
        "server": psutil.Process(server.process.pid).memory_info().rss / 2**20,
        "worker": server.worker().memory_info().rss / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, nargs="+", default=[100])
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--tabs", type=int, default=2, help="sessions that are real pages in a browser (default 2)")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--out", type=Path, help="a CSV file to write to")
    arguments = parser.parse_args()
    rows = []
    for sessions in arguments.sessions:
        rows.append(measure(sessions, arguments.jobs, arguments.minutes, arguments.tabs))
        print(json.dumps(rows[-1], indent=1), flush=True)
    if arguments.out:
        runs.write_csv(arguments.out, rows)


if __name__ == "__main__":
    main()
