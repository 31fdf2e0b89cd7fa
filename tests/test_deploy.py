"""The container's recipe, as far as it can be checked without a container engine: its files, its user, its commands."""

from __future__ import annotations

import inspect
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from cake_core.limits import Limits, variable
from pages._ui.ending import MOST_FILES

ROOT = Path(__file__).parents[1]


def instructions(text: str = "") -> list[tuple[str, str]]:
    """What a Dockerfile (ours) says, line by line, comments left out and continued lines joined."""
    text = text or (ROOT / "deploy" / "Dockerfile").read_text()
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
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=image,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard)),
    )
    try:
        end = time.monotonic() + 90
        while subprocess.run([sys.executable, *health[1:]], check=False, capture_output=True).returncode:
            assert server.poll() is None, server.stdout.read()
            assert time.monotonic() < end
            time.sleep(0.5)
        most = re.search(r"Max open files +(\d+)", Path(f"/proc/{server.pid}/limits").read_text())
        wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
        assert int(most[1]) == wanted  # a hall has more connections than it began with
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


# -- what hadolint looks for ------------------------------------------------------------------------------------------


def lint(text: str) -> Iterator[str]:
    """What is wrong with a Dockerfile, by hadolint's numbers."""
    said = instructions(text)
    names, runs = [name for name, _ in said], [rest for name, rest in said if name == "RUN"]
    env = " ".join(rest for name, rest in said if name in ("ENV", "ARG"))
    for name, rest in said:
        if name == "FROM" and not re.search(r":[\w.-]*\d", rest):
            yield "DL3006/DL3007 the base has no version"
        if name == "WORKDIR" and not rest.startswith("/"):
            yield "DL3000 WORKDIR is not absolute"
        if name == "ADD":
            yield "DL3020 ADD where COPY would do"
        if name in ("CMD", "ENTRYPOINT") and not rest.startswith("["):
            yield "DL3025 a command in a shell"
        if (
            name == "COPY"
            and not rest.split()[-1].startswith("/")
            and "WORKDIR" not in names[: said.index((name, rest))]
        ):
            yield "DL3045 COPY to a relative place without WORKDIR"
        if name == "EXPOSE" and not all(1 <= int(port.split("/")[0]) <= 65535 for port in rest.split()):
            yield "DL3011 no such port"
        if name == "MAINTAINER":
            yield "DL4000 MAINTAINER is no more"
    for run in runs:
        if re.search(r"\b(sudo|ssh|vim|shutdown|service|ps|free|top|kill|mount)\b", run):
            yield "DL3001/DL3004 a command that has no place in an image"
        if re.search(r"(^|&& *)cd ", run):
            yield "DL3003 cd where WORKDIR would do"
        if "pip install" in run and "--no-cache-dir" not in run and "PIP_NO_CACHE_DIR=1" not in env:
            yield "DL3042 pip keeps its cache"
        if "pip install" in run and "-r " not in run and not re.search(r"pip install (-\S+ )*\S+==", run):
            yield "DL3013 pip installs any version"
        if re.search(r"apt-get (install|upgrade)", run) and not ("-y" in run and "/var/lib/apt/lists" in run):
            yield "DL3009/DL3014 apt asks, or leaves its lists"
        if "|" in run.replace("||", "") and "pipefail" not in text:
            yield "DL4006 a pipe whose failure is not seen"
    users = [rest for name, rest in said if name == "USER"]
    if not users or users[-1].split(":")[0] in ("root", "0"):
        yield "DL3002 the last user is root"
    if names.count("HEALTHCHECK") != 1:
        yield "DL3057/DL3012 there is not one health check"
    for name in ("CMD", "ENTRYPOINT"):
        if names.count(name) > 1:
            yield "DL4003/DL4004 more than one command"


GOOD = """FROM python:3.12-slim
WORKDIR /app
COPY a ./
RUN pip install --no-cache-dir a==1
USER me
HEALTHCHECK CMD ["true"]
CMD ["a"]
"""


def test_the_dockerfile_has_nothing_that_hadolint_would_find():
    assert list(lint((ROOT / "deploy" / "Dockerfile").read_text())) == []


@pytest.mark.parametrize(
    ("good", "bad", "number"),
    [
        ("python:3.12-slim", "python", "DL3006"), ("python:3.12-slim", "python:latest", "DL3007"),
        ("/app", "app", "DL3000"), ("COPY", "ADD", "DL3020"), ('CMD ["a"]', "CMD a", "DL3025"),
        ("USER me", "USER root", "DL3002"), ("USER me", "EXPOSE 8501", "DL3002"), ("a==1", "a", "DL3013"),
        ('HEALTHCHECK CMD ["true"]', "EXPOSE 8501", "DL3057"), ("--no-cache-dir ", "", "DL3042"),
        ("WORKDIR /app\n", "", "DL3045"), ("pip install", "sudo pip install", "DL3004"),
        ("RUN pip", "RUN cd /x && pip", "DL3003"), ("RUN pip", "RUN cat a | sh && pip", "DL4006"),
        ("RUN pip", "RUN apt-get install a && pip", "DL3014"), ("USER me", "EXPOSE 99999\nUSER me", "DL3011"),
    ],
)  # fmt: skip
def test_the_lint_finds_what_is_wrong(good, bad, number):
    assert list(lint(GOOD)) == []
    assert any(number in found for found in lint(GOOD.replace(good, bad, 1)))


def test_only_what_is_copied_goes_to_the_builder():
    said = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    kept = {line.removeprefix("!") for line in said if line.startswith("!")}
    copied = {source.removeprefix("./") for line in of("COPY") for source in line.split()[:-1]}
    assert kept == copied
    assert all((ROOT / name).exists() for name in copied)


def test_requirements_are_pinned():
    for name in ("requirements.txt", "requirements-dev.txt"):
        lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
        for line in filter(None, lines):
            assert re.fullmatch(r"[A-Za-z0-9-]+==[\d.]+(; [a-z_=\"0-9 ]+)?|-r requirements\.txt", line), (
                f"{name}: {line}"
            )


# -- what is written --------------------------------------------------------------------------------------------------

PAGE = (ROOT / "deploy" / "README.md").read_text()


def test_every_limit_stands_in_the_table_as_it_is():
    """Name, sentence and default; and no limit that there is not."""
    part = PAGE[PAGE.index("## Limits") :]
    rows = dict(re.findall(r"^\| `(CAKE_\w+)` \| (.+) \|$", part[: part.index("\n## ", 4)], re.M))
    about = inspect.getdoc(Limits)
    for f in fields(Limits):
        sentence, default = rows.pop(variable(f.name)).rsplit(" | ", 1)
        assert default == (format(f.default, ",.10g") if f.default != "" else "none"), f.name
        (told,) = re.findall(rf"^    {f.name}: (.+?)\.?$(?=\n    \w|\Z)", about, re.M | re.S)
        assert sentence == " ".join(told.split()).rstrip("."), f.name
    assert not rows


def test_the_plans_are_what_the_measurements_give():
    from benchmarks import plan

    plain = " ".join(PAGE.split())
    for line in plan.lines():
        assert line in plain, f"run benchmarks/plan.py and renew deploy/README.md: {line}"


def test_the_folder_of_a_space_is_complete_and_its_head_fits():
    """The commands of the page, without git: what the Dockerfile copies is there, and the port is the one it opens."""
    block = PAGE[PAGE.index("git clone https://huggingface.co") :]
    copied = {word for line in re.findall(r"^    cp (.+)$", block, re.M) for word in line.split()[:-1]} - {
        "-r",
        "--parents",
    }
    wanted = {source for line in of("COPY") for source in line.split()[:-1]}
    assert {w.removeprefix("./") for w in wanted} - {"README.md"} <= copied
    assert {"deploy/Dockerfile", "deploy/space.md"} <= copied
    assert all((ROOT / name).exists() for name in copied)
    head = dict(re.findall(r"^(\w+): (.+)$", (ROOT / "deploy" / "space.md").read_text().split("---")[1], re.M))
    assert head["sdk"] == "docker"
    assert head["app_port"] == of("EXPOSE")[0] == re.search(r"server\.port=(\d+)", of("CMD")[0])[1]
    assert len(head["short_description"]) <= 60
    assert {"title", "emoji", "colorFrom", "colorTo", "license"} <= set(head)
    assert "uid 1000" in " ".join(of("RUN"))  # as which a space runs what it is given
