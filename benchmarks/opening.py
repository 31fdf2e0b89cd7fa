"""A hall that opens the same link at once. Run: python benchmarks/opening.py --sessions 100

Starts the server as a user does. Each session is a browser of its own that speaks Streamlit's protocol and the live
view's, without drawing anything. It has never been here: it downloads what a real Chromium downloads for this page, six
files at a time. It opens Two moons, and waits until the page is whole and the first picture is there. When all have it,
all press Play at once, and watch. Then all have the server draw their page anew, as a click on most of its controls
does, while the points move. Everything connects to this machine alone. Measured, for each session:

- megabytes of the download, and the seconds it takes;
- seconds until the page is whole, and until its first picture, the download included;
- seconds from Play to the first picture of a step;
- frames per second while all watch, and while pages are drawn anew;
- seconds that drawing it anew takes;
- resident memory of the server before, with all sessions open, and of its compute processes;
- errors: connections that broke, exceptions on pages, runs that failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from playwright.sync_api import sync_playwright  # noqa: E402
from websockets.asyncio.client import ClientConnection, connect  # noqa: E402

from cake_core import runs  # noqa: E402
from cake_core.frames import decode  # noqa: E402
from tests.browser.harness import FLAGS, Server, chromium  # noqa: E402
from tests.protocol import ForwardMsg, asked  # noqa: E402

from load import memory  # noqa: E402  # isort: skip

PAGE, LINK = "two_moons", "batches=4&samples=100&steps=2000&seed={seed}"
SECONDS_TO_WATCH = 20
PATIENCE = 600  # seconds


class Session:
    """One browser with one page.

    Args:
        url: of the server.
        link: what stands behind the question mark.
        name: a secret of this browser.
        files: addresses of what it downloads first.
    """

    def __init__(self, url: str, link: str, name: str, files: Sequence[str] = ()):
        self.url, self.query, self.files = url.replace("http", "ws"), link, files
        self.received = 0  # bytes of these
        self.headers = {"Cookie": f"cake_browser={name}", "Origin": url}
        self.times: dict[str, float] = {}
        self.frames: list[float] = []  # when each came
        self.step = -1
        self.errors: list[str] = []

    async def open(self) -> None:
        """Until the first picture is there; goes on to listen to the run."""
        began = time.monotonic()
        await self.download()
        self.times["downloaded"] = time.monotonic() - began
        self.page = await self.connect("_stcore/stream", subprotocols=["streamlit"])
        await self.draw()
        self.times["whole"] = time.monotonic() - began
        (job,) = re.findall(r"job=([\w-]+)", self.query)
        self.live = await self.connect(f"live/{job}")
        self.listening = asyncio.create_task(self.listen())
        await self.until(lambda: self.frames)
        self.times["picture"] = time.monotonic() - began

    async def download(self) -> None:
        """The files, over as many connections as a browser has."""
        left = list(reversed(self.files))

        async def connection() -> None:
            address = urlsplit(self.url)
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            while left:
                asked = f"GET {left.pop()} HTTP/1.1\r\nHost: {address.netloc}\r\nAccept-Encoding: gzip\r\n\r\n"
                writer.write(asked.encode())
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                if not head.startswith("HTTP/1.1 200"):
                    raise RuntimeError(head.partition("\r\n")[0])
                received = len(head) + await body(reader, head)
                self.received += received  # not in one line: others add to it while this one waits
            writer.close()

        await asyncio.gather(*(connection() for _ in range(6)))

    async def connect(self, path: str, **options: Any) -> ClientConnection:
        """A socket as a browser has it, which never asks whether the server is still there."""
        return await connect(
            f"{self.url}/{path}",
            additional_headers=self.headers,
            max_size=None,
            open_timeout=PATIENCE,
            ping_interval=None,
            **options,
        )

    async def draw(self) -> None:
        """Has the page drawn, until it is whole."""
        await self.page.send(asked(PAGE, self.query))
        async for data in self.page:
            told = ForwardMsg.FromString(data)
            match told.WhichOneof("type"):
                case "page_info_changed":
                    self.query = told.page_info_changed.query_string
                case "delta" if told.delta.new_element.WhichOneof("type") == "exception":
                    self.errors.append(told.delta.new_element.exception.message)
                case "script_finished" if told.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                    return

    async def play(self) -> None:
        """Presses Play, until the points have moved."""
        began = time.monotonic()
        await self.live.send('{"op": "play"}')
        await self.until(lambda: self.step > 0)
        self.times["moved"] = time.monotonic() - began

    async def again(self) -> None:
        """Has the page drawn once more."""
        began = time.monotonic()
        await self.draw()
        self.times["again"] = time.monotonic() - began

    async def listen(self) -> None:
        """To the run, as the live view does."""
        async for message in self.live:
            if isinstance(message, str):
                said = json.loads(message)
                if said["type"] == "refused" or said.get("state") == "failed":
                    self.errors.append(said["message"])
                continue
            head = decode(message)[0]
            if head["type"] == "frame":
                await self.live.send('{"op": "seen"}')
                self.frames.append(time.monotonic())
                self.step = head.get("step", 0)

    async def until(self, true: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        while not true():
            if self.listening.done() or time.monotonic() > end:
                raise RuntimeError("the run is silent")
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        self.listening.cancel()
        await self.live.close()
        await self.page.close()


async def body(reader: asyncio.StreamReader, head: str) -> int:
    """Reads what comes behind the head of an answer; returns how many bytes that were."""
    if length := re.search(r"(?i)^content-length: (\d+)", head, re.MULTILINE):
        return len(await reader.readexactly(int(length[1])))
    received = 0
    while True:  # in chunks, each behind its length
        line = await reader.readline()
        chunk = await reader.readexactly(int(line, 16) + 2)
        received += len(line) + len(chunk)
        if len(chunk) == 2:
            return received


def rate(session: Session, begin: float, end: float) -> float:
    """Frames a second that a session got in this time."""
    return sum(begin <= t < end for t in session.frames) / (end - begin)


async def together(sessions: list[Session], what: Callable[[Session], Any]) -> None:
    """All of them at once; notes in each what went wrong."""
    done = await asyncio.gather(*map(what, sessions), return_exceptions=True)
    for session, outcome in zip(sessions, done, strict=True):
        if isinstance(outcome, BaseException):
            session.errors.append(f"{type(outcome).__name__}: {outcome}")


def downloaded(server: Server) -> list[str]:
    """Addresses of the files that a browser which has never been here downloads for the page, in their order."""
    found: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = browser.new_page()
        page.on("response", lambda r: found.append(urlsplit(r.url).path) if r.ok else None)
        page.goto(f"{server.url}/{PAGE}?{LINK.format(seed=-1)}")
        page.get_by_text("Ready. Press Play").wait_for(timeout=120_000)
        page.wait_for_load_state("networkidle")
        browser.close()
    return [a for a in found if "/static/" in a or a.endswith((".js", ".css"))]


async def hall(server: Server, count: int, links: int, files: Sequence[str]) -> dict[str, Any]:
    """One row."""
    first = Session(server.url, LINK.format(seed=links), "somebody-who-was-here-before")
    await first.open()  # a server that has just begun imports much at its first page
    await first.close()
    at_first = memory(server)
    names = [f"a-browser-in-the-hall-{k:04}" for k in range(count)]
    sessions = [Session(server.url, LINK.format(seed=k % links), name, files) for k, name in enumerate(names)]
    await together(sessions, Session.open)
    for error, times in Counter(e for s in sessions for e in s.errors).most_common(5):
        print(f"{times} x {error}", file=sys.stderr)
    await together([s for s in sessions if not s.errors], Session.play)
    begin = time.monotonic()
    await asyncio.sleep(SECONDS_TO_WATCH)
    busy = time.monotonic()
    await together([s for s in sessions if not s.errors], Session.again)
    end = time.monotonic()
    at_last = memory(server)
    watching, drawing = ([rate(s, *t) for s in sessions] for t in ((begin, busy), (busy, end)))
    row: dict[str, Any] = {"sessions": count, "different_links": links, "files": len(files)}
    row["mb_of_each"] = statistics.median(s.received for s in sessions) / 1e6
    for name in ("downloaded", "whole", "picture", "moved", "again"):
        took = [s.times[name] for s in sessions if name in s.times]
        row |= {
            f"{name}_s_p50": statistics.median(took or [math.nan]),
            f"{name}_s_longest": max(took, default=math.nan),
        }
    row |= {"frames_per_second_median": statistics.median(watching), "frames_per_second_slowest": min(watching)}
    row |= {"while_drawn_median": statistics.median(drawing), "while_drawn_slowest": min(drawing)}
    row |= {f"mib_at_start_{k}": v for k, v in at_first.items()} | {f"mib_at_end_{k}": v for k, v in at_last.items()}
    row["errors"] = sum(len(s.errors) for s in sessions)
    await asyncio.gather(*(s.close() for s in sessions if hasattr(s, "listening")))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, nargs="+", default=[100])
    parser.add_argument("--links", type=int, nargs="+", default=[1], help="how many different links they open")
    parser.add_argument("--warm", dest="cold", action="store_false", help="they have been here: nothing to download")
    parser.add_argument("--out", type=Path, help="a CSV file to write to")
    arguments = parser.parse_args()
    rows = []
    for links in arguments.links:
        for count in arguments.sessions:
            folder = Path(tempfile.mkdtemp(prefix="cake-opening-"))
            os.environ |= {"CAKE_RUNS_DIR": str(folder / "runs"), "CAKE_UPLOADS_DIR": str(folder / "uploads")}
            server = Server("app.py", folder / "log")
            try:
                row = asyncio.run(hall(server, count, links, downloaded(server) if arguments.cold else ()))
            finally:
                server.close()
            rows.append({"date": date.today().isoformat(), "cores": os.cpu_count(), **row})
            print(json.dumps(rows[-1], indent=1), flush=True)
    if arguments.out:
        runs.write_csv(arguments.out, rows)


if __name__ == "__main__":
    main()
