"""A real server and a real, headless Chromium."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

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


class Server:
    """`streamlit run` of the app, as a user starts it.

    Args:
        script: relative to the project.
        log: where its output goes.
    """

    def __init__(self, script: str, log: Path):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.url, self.log = f"http://127.0.0.1:{port}", log
        command = [sys.executable, "-m", "streamlit", "run", script, "--server.headless", "true"]
        command += ["--server.port", str(port), "--server.address", "127.0.0.1"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=log.open("w"), stderr=subprocess.STDOUT)
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

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


@pytest.fixture(scope="session")
def server(tmp_path_factory, runs_folder) -> Iterator[Server]:
    made = Server("app.py", tmp_path_factory.mktemp("server") / "log")
    yield made
    made.close()


@pytest.fixture(scope="session")
def browser():
    path = os.environ.get("CAKE_CHROMIUM") or shutil.which("chromium")
    if not path:
        pytest.skip("Chromium is not here; install Debian's package chromium, or set CAKE_CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield made
        made.close()
