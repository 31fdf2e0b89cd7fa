"""The container's recipe, as far as it can be checked without a container engine: its files, its user, its commands."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def instructions() -> list[tuple[str, str]]:
    """What the Dockerfile says, line by line, comments left out and continued lines joined."""
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    lines = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", text, flags=re.M)).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def of(kind: str) -> list[str]:
    return [rest for name, rest in instructions() if name == kind]


@pytest.fixture
def image(tmp_path) -> Path:
    """A folder with what the Dockerfile copies, and no more."""
    for copied in of("COPY"):
        *sources, target = copied.split()
        for source in sources:
            place = tmp_path / target / (source if target.endswith("/") else "")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, place)
    return tmp_path


def test_it_does_not_run_as_root_and_pins_its_base():
    assert of("USER") == ["cake"]
    names = [name for name, _ in instructions()]
    assert names.index("USER") > max(i for i, name in enumerate(names) if name in ("RUN", "COPY"))
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", of("FROM")[0])
    assert {"HEALTHCHECK", "EXPOSE", "STOPSIGNAL"} <= set(names)


def test_what_it_copies_serves_the_app_and_ends_when_it_is_told_to(image, tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = str(s.getsockname()[1])
    command = [part.replace("8501", port).replace("0.0.0.0", "127.0.0.1") for part in json.loads(of("CMD")[0])]
    health = json.loads(of("HEALTHCHECK")[0].split("CMD", 1)[1].replace("8501", port))
    folders = dict(re.findall(r"(CAKE_\w+)=/data(\S*)", " ".join(of("ENV"))))
    assert set(folders) == {"CAKE_DATA_DIR", "CAKE_RUNS_DIR", "CAKE_UPLOADS_DIR"}
    env = os.environ | {name: str(tmp_path / "data") + place for name, place in folders.items()}
    server = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=image,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        end = time.monotonic() + 90
        while subprocess.run([sys.executable, *health[1:]], check=False, capture_output=True).returncode:
            assert server.poll() is None, server.stdout.read()
            assert time.monotonic() < end
            time.sleep(0.5)
        server.terminate()
        assert server.wait(30) is not None
    finally:
        server.kill()


def test_the_proxy_sends_a_browser_back_to_its_replica_and_lets_sockets_through():
    from pages._ui.owner import COOKIE

    said = (ROOT / "deploy" / "nginx.conf").read_text()
    assert f"$cookie_{COOKIE}" in said
    assert said.count("{") == said.count("}")
    assert "proxy_set_header Upgrade $http_upgrade;" in said
    compose = (ROOT / "deploy" / "compose.yaml").read_text()
    assert "dockerfile: deploy/Dockerfile" in compose
    assert "./nginx.conf:" in compose
