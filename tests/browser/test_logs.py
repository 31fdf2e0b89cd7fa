"""The log of a real server: what it and its compute process write while somebody uses it."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from cake_core import logs
from tests.test_jobs import until

from .harness import Server

pytestmark = pytest.mark.browser
QUICK = "two_moons?samples=50&batches=2&steps=20&student.updates=50"


def test_each_event_is_one_line_of_json_without_secrets(tmp_path, browser):
    server = Server(
        "app.py", tmp_path / "log", CAKE_LOG="json", CAKE_MAX_SAMPLES="100000", CAKE_THREADS="", CAKE_MAX_SHARED_MB=""
    )

    def lines() -> list[dict]:
        # What the compute process and the server write goes to one file; Streamlit greets in plain words.
        return [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]

    def events(name: str) -> list[dict]:
        return [line for line in lines() if line["event"] == name]

    context = browser.new_context()
    page = context.new_page()
    try:
        page.goto(f"{server.url}/{QUICK}")
        page.wait_for_url("**job=**")
        name = page.url.split("job=")[1].split("&")[0]
        with connect(f"{server.url.replace('http', 'ws')}/live/{name}", max_size=None) as socket:
            socket.send(json.dumps({"op": "play"}))
            until(lambda: events("job_done"))
        page.goto(f"{server.url}/two_moons?samples=1000&batches=1000")
        until(lambda: events("job_refused"))
        page.goto(f"{server.url}/two_moons?steps=20000")
        page.wait_for_url("**job=**")
        long = page.url.split("job=")[1].split("&")[0]
        with connect(f"{server.url.replace('http', 'ws')}/live/{long}", max_size=None) as socket:
            socket.send(json.dumps({"op": "play"}))
            until(lambda: any(e["job"] == logs.which(long) for e in events("job_began")))
            os.kill(server.worker().pid, signal.SIGKILL)
            until(lambda: events("job_killed"))
        for path, origin in (("no-such-job", None), (name, "http://evil.example")):
            refused = pytest.raises((InvalidStatus, ConnectionClosed))
            with refused, connect(f"{server.url.replace('http', 'ws')}/live/{path}", origin=origin) as socket:
                socket.recv(timeout=30)
        until(lambda: len(events("socket_refused")) == 2)
        secret = next(c["value"] for c in context.cookies() if c["name"] == "cake_browser")
    finally:
        context.close()
        server.close()
    said = server.log.read_text()
    (began,) = (e for e in events("job_began") if e["job"] == logs.which(name))
    (done,) = events("job_done")
    assert began["kind"] == done["kind"] == "distill"
    assert began["owner"] == done["owner"] == logs.who(secret)
    assert began["process"] == done["process"] == "compute"
    assert began["device"] == done["device"] in ("cpu", "cuda", "mps")
    assert 0 < done["computed"] <= done["seconds"]
    (killed,) = events("job_killed")
    assert (killed["job"], killed["level"], killed["reason"]) == (logs.which(long), "error", "SIGKILL")
    assert killed["process"] == "server"
    assert events("process_died")[0]["name"] == "compute"
    assert "CAKE_MAX_SAMPLES" in events("job_refused")[0]["reason"]
    assert events("server_began")[0]["limits"] == {"max_samples": 100_000}
    assert {line["event"] for line in lines()} <= set(logs.EVENTS)
    for hidden in (secret, name, long):
        assert hidden not in said
    assert not re.search(r"\b[0-9]{8}-[0-9]{6}-[0-9a-f]{16}\b", said)
    assert not [line for line in said.splitlines() if line.startswith("{") and not line.endswith("}")]
