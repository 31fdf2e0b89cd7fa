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


@pytest.mark.long
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

    def steering(job: str):
        """The live socket of a job, as the page opens it."""
        cookie = next(c["value"] for c in context.cookies() if c["name"] == "cake_browser")
        address = f"{server.url.replace('http', 'ws')}/live/{job}"
        return connect(address, max_size=None, additional_headers={"Cookie": f"cake_browser={cookie}"})

    try:
        page.goto(f"{server.url}/{QUICK}")
        page.wait_for_url("**job=**")
        name = page.url.split("job=")[1].split("&")[0]
        with steering(name) as socket:
            socket.send(json.dumps({"op": "play"}))
            until(lambda: events("job_done"))
        page.goto(f"{server.url}/two_moons?samples=1000&batches=1000")
        until(lambda: events("job_refused"))
        page.goto(f"{server.url}/two_moons?steps=20000")
        page.wait_for_url("**job=**")
        long = page.url.split("job=")[1].split("&")[0]
        with steering(long) as socket:
            socket.send(json.dumps({"op": "play"}))
            until(lambda: any(e["job"] == logs.which(long) for e in events("job_began")))
            os.kill(server.worker().pid, signal.SIGKILL)
            until(lambda: events("process_died"))
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
    (died,) = events("process_died")
    assert (died["name"], died["level"], died["reason"], died["process"]) == ("compute", "error", "SIGKILL", "server")
    assert "CAKE_MAX_SAMPLES" in events("job_refused")[0]["reason"]
    assert events("server_began")[0]["limits"] == {"max_samples": 100_000}
    assert {line["event"] for line in lines()} <= set(logs.EVENTS)
    for hidden in (secret, name, long):
        assert hidden not in said
    assert not re.search(r"\b[0-9]{8}-[0-9]{6}-[0-9a-f]{16}\b", said)
    assert not [line for line in said.splitlines() if line.startswith("{") and not line.endswith("}")]
