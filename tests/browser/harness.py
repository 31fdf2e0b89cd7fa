"""A real server and a real, headless Chromium: for the tests here and for benchmarks/live_view.py."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil

__all__ = ["FLAGS", "PROBE", "Server", "choose", "chromium", "leave"]

ROOT = Path(__file__).parents[2]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# Installed before the page's own scripts: counts what the view paints, and keeps hold of the view.
PROBE = """
window.cakeLive = {
  painted(step, version) { this.count++; this.step = step; this.version = version; this.at = performance.now(); },
  opened(view) { this.view = view; this.mounts++; },
  count: 0, step: -1, version: 0, mounts: 0, at: 0,
};
"""


def chromium() -> str | None:
    """Where Chromium is: CAKE_CHROMIUM, or what the path has."""
    return os.environ.get("CAKE_CHROMIUM") or shutil.which("chromium")


def leave(context) -> None:
    """Closes a browser context; a run that its pages still watch is stopped, so that it takes no time from others."""
    for page in context.pages:
        page.evaluate("window.cakeLive?.view?.send({ op: 'stop' })")
    context.close()


def choose(box, option, page, seconds: float = 120) -> None:
    """Chooses an option of a select box. The list closes when the page is drawn anew meanwhile: it is opened again.

    Args:
        box: locator of the box.
        option: locator of the option, in the list that the box opens.
        page: where both are.
        seconds: how long to try.
    """
    from playwright.sync_api import TimeoutError as TooLate

    end = time.monotonic() + seconds
    while True:
        try:
            box.click(timeout=10_000)
            option.click(timeout=5_000)
            return
        except TooLate:
            if time.monotonic() > end:
                raise
            page.keyboard.press("Escape")  # a list that is open would be closed by the next click


class Server:
    """`streamlit run` of the app, as a user starts it.

    Args:
        script: relative to the project.
        log: where its output goes.
        flags: more words for the command line.
        port: of this machine (0: a free one).
        env: what its environment has beside that of this process.
    """

    def __init__(self, script: str, log: Path, *flags: str, port: int = 0, **env: str):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", port))
            port = s.getsockname()[1]
        self.url, self.log, self.port = f"http://127.0.0.1:{port}", log, port
        command = [sys.executable, "-m", "streamlit", "run", script, "--server.headless", "true"]
        command += ["--server.port", str(port), "--server.address", "127.0.0.1", *flags]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=log.open("a"), stderr=subprocess.STDOUT, env=os.environ | env
        )
        for _ in range(300):
            if self._answers():
                return
            time.sleep(0.1)
        raise RuntimeError(f"the server did not start:\n{log.read_text()}")

    def _answers(self) -> bool:
        try:
            return urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1).status == 200
        except OSError:
            return False

    def worker(self) -> psutil.Process:
        """The process that computes."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return next(p for p in children if "cake_core.worker" in " ".join(p.cmdline()))

    def close(self) -> None:
        """Ends the server, and with it its worker."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
