"""The proxy of deploy/, a real nginx in front of two replicas that say who they are."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.sync.client import connect

from pages._ui.owner import COOKIE

from .waiting import until

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
CONFIGURATION = Path(__file__).parents[1] / "deploy" / "nginx.conf"
pytestmark = pytest.mark.skipif(not NGINX, reason="nginx is not here; install Debian's package nginx-light")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Replica:
    """A server that answers with its name: to requests, and to what comes over a socket."""

    def __init__(self, name: str):
        self.port = free_port()

        def page(request: Request) -> Response:
            return PlainTextResponse(f"{name} {request.headers['host']} {request.headers['x-forwarded-proto']}")

        def packed(request: Request) -> Response:
            return Response(gzip.compress(name.encode()), headers={"Content-Encoding": "gzip"})

        async def upload(request: Request) -> Response:
            return PlainTextResponse(str(len(await request.body())))

        async def talk(ws: WebSocket) -> None:
            await ws.accept(subprotocol="streamlit")
            while (said := await ws.receive_text()) != "bye":
                await ws.send_text(f"{name} {said}")
            await ws.close()

        routes = [Route("/", page), Route("/packed", packed), Route("/upload", upload, methods=["POST"])]
        app = Starlette(routes=[*routes, WebSocketRoute("/talk", talk)])
        self.server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_level="error"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        until(lambda: self.server.started)

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)


@pytest.fixture(scope="module")
def hall(tmp_path_factory) -> Iterator[tuple[int, dict[str, Replica]]]:
    """The port of the proxy, and who stands behind it."""
    replicas = {name: Replica(name) for name in ("one", "two")}
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    said = CONFIGURATION.read_text()
    me = "user root;" if os.geteuid() == 0 else ""  # who may write to the folder
    # A name that stands for two addresses, as that of the service does when it is scaled.
    both = " ".join(f"server 127.0.0.1:{r.port} max_fails=3 fail_timeout=10s;" for r in replicas.values())
    temporary = "\n".join(f"{k}_temp_path {folder / k};" for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    for theirs, ours in {
        "user nginx;": f"{me} pid {folder}/pid; daemon off;",
        "worker_processes auto;": "worker_processes 2;",
        "listen 80;": f"listen 127.0.0.1:{port};",
        "http {": f"http {{ access_log off; {temporary}",
        "server app:8501 max_fails=3 fail_timeout=10s;": both,
    }.items():
        assert said.count(theirs) == 1
        said = said.replace(theirs, ours)
    (folder / "nginx.conf").write_text(said)
    command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "log")]
    subprocess.run([*command, "-t"], check=True, capture_output=True)
    process = subprocess.Popen(command)

    def answers() -> bool:
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0

    until(answers)
    yield port, replicas
    process.terminate()
    process.wait(20)
    for replica in replicas.values():
        replica.close()


def ask(port: int, browser: str, path: str = "", **options) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{path}", **options)
    request.add_header("Cookie", f"{COOKIE}={browser}; other=1" if browser else "other=1")
    return urllib.request.urlopen(request, timeout=30).read().decode()


def test_a_browser_comes_back_to_its_replica_and_both_have_some(hall):
    port, _ = hall
    seen = {}
    for k in range(40):
        browser = f"a-browser-of-this-hall-{k:04}"
        answers = {ask(port, browser) for _ in range(4)}
        assert len(answers) == 1
        name, host, scheme = answers.pop().split()
        assert host == f"127.0.0.1:{port}"  # as the browser has it, or sockets would seem to come from elsewhere
        assert scheme == "http"
        seen[browser] = name
        with connect(
            f"ws://127.0.0.1:{port}/talk",
            additional_headers={"Cookie": f"{COOKIE}={browser}"},
            subprotocols=["streamlit"],
        ) as ws:
            for word in ("hello", "again"):
                ws.send(word)
                assert ws.recv(timeout=30) == f"{name} {word}"
            assert ws.subprotocol == "streamlit"
            ws.send("bye")
    counts = [list(seen.values()).count(name) for name in ("one", "two")]
    assert min(counts) >= 8
    assert len({ask(port, "") for _ in range(4)}) == 1  # without a cookie the address decides


def test_a_teachers_file_gets_through_and_what_is_larger_does_not(hall):
    port, _ = hall
    assert ask(port, "somebody", "upload", data=bytes(5_000_000)) == "5000000"
    large = urllib.request.Request(f"http://127.0.0.1:{port}/upload", method="POST")
    large.add_header("Content-Length", str(311 * 2**20))
    with pytest.raises(urllib.error.HTTPError, match="413"):
        urllib.request.urlopen(large, timeout=30)


def test_what_the_app_compressed_stays_so(hall):
    port, _ = hall
    answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/packed", timeout=30)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(answer.read()).decode() in ("one", "two")


def test_it_may_have_as_many_connections_as_a_hall_wants():
    said = CONFIGURATION.read_text()
    files, connections = (int(re.search(rf"{k} (\d+);", said)[1]) for k in ("nofile", "worker_connections"))
    assert files > connections >= 16 * 1000


def test_when_a_replica_has_gone_its_browsers_go_to_the_other(hall):
    port, replicas = hall
    replicas["one"].close()
    for k in range(20):
        assert ask(port, f"a-browser-of-this-hall-{k:04}").startswith("two ")
