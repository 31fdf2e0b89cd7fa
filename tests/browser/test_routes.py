"""The socket as anybody on the network could speak to it."""

from __future__ import annotations

import json
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from cake_core.frames import decode

from .harness import PROBE, Server

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def job(server, browser) -> str:
    """The name of a job that a page has begun. It does not run, and serves all tests that leave it so."""
    return new_job(server, browser)


SECRET = "the-secret-of-one-browser"
COOKIE = {"Cookie": f"cake_browser={SECRET}"}


def new_job(server, browser) -> str:
    """The name of a job of one's own."""
    context = browser.new_context()
    context.add_cookies([{"name": "cake_browser", "value": SECRET, "url": server.url}])
    page = context.new_page()
    page.goto(f"{server.url}/two_moons?samples=50&steps=20000")
    page.wait_for_url("**job=**")
    name = page.url.split("job=")[1].split("&")[0]
    context.close()
    return name


def dial(server, job: str, **options) -> ClientConnection:
    url = server.url.replace("http", "ws") + f"/live/{job}"
    return connect(url, max_size=None, additional_headers=COOKIE, **options)


def receive(socket: ClientConnection, seconds: float = 60) -> dict:
    message = socket.recv(timeout=seconds)
    return json.loads(message) if isinstance(message, str) else decode(message)[0]


def receive_until(socket: ClientConnection, true, seconds: float = 60) -> dict:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        message = receive(socket, max(0.1, end - time.monotonic()))
        if true(message):
            return message
    raise AssertionError("no such message")


def test_status_comes_first_then_scene_and_frames(server, job):
    with dial(server, job) as socket:
        assert receive(socket)["type"] == "status"
        receive_until(socket, lambda m: m["type"] == "scene")
        receive_until(socket, lambda m: m["type"] == "frame")


def test_other_origins_are_refused(server, job):
    with pytest.raises((InvalidStatus, ConnectionClosed)), dial(server, job, origin="http://evil.example") as socket:
        receive(socket)
    own = server.url
    with dial(server, job, origin=own) as socket:
        assert receive(socket)["type"] == "status"


def test_unknown_jobs_are_refused(server):
    with dial(server, "no-such-job") as socket, pytest.raises(ConnectionClosed) as closed:
        receive(socket)
    assert closed.value.rcvd.code == 4404


@pytest.mark.parametrize(
    "text",
    ["garbage", "[]", "3", "{}", '{"op": 7}', '{"op": "drop table"}', '{"op": "set"}', '{"op": "rate", "rate": "fast"}',
     '{"op": "rate", "rate": -1}', '{"op": "look", "sample": "all"}', '{"op": "look", "sample": -1}',
     '{"op": "look", "sample": true}', '{"op": "set", "settings": [1]}', '{"op": "__class__"}', "x" * 10_000],
)  # fmt: skip
def test_nonsense_is_answered_with_a_sentence(server, job, text):
    with dial(server, job) as socket:
        socket.send(text)
        answer = receive_until(socket, lambda m: m["type"] == "refused")
        assert answer["message"].endswith(".")
        socket.send('{"op": "step"}')  # and the socket still works
        receive_until(socket, lambda m: m["type"] == "frame")


def test_settings_that_cannot_be_are_refused(server, job):
    with dial(server, job) as socket:
        socket.send('{"op": "set", "settings": {"sigma": 3}}')
        answer = receive_until(socket, lambda m: m["type"] == "refused")
        assert "'sigma' can't change" in answer["message"]


def test_a_client_that_does_not_confirm_gets_no_flood(server, browser):
    with dial(server, new_job(server, browser)) as silent:
        silent.send('{"op": "rate", "rate": 200}')
        silent.send('{"op": "play"}')
        receive_until(silent, lambda m: m["type"] == "status" and m["state"] == "running")
        receive_until(silent, lambda m: m["type"] == "frame")
        end, frames = time.monotonic() + 2, 1
        while (left := end - time.monotonic()) > 0:  # news of its progress comes all the time
            frames += receive(silent, left + 1)["type"] == "frame"
        assert frames <= 4  # three credits, and one that was on its way before
        silent.send('{"op": "set", "settings": {"sigma": 3}}')  # words come through all the same
        assert "can't change" in receive_until(silent, lambda m: m["type"] == "refused")["message"]
        silent.send('{"op": "seen"}')
        receive_until(silent, lambda m: m["type"] == "frame")
        silent.send('{"op": "stop"}')
        receive_until(silent, lambda m: m["type"] == "status" and m["state"] == "stopped")
        silent.send('{"op": "set", "settings": {"step_size": 0.1}}')
        assert "has ended" in receive_until(silent, lambda m: m["type"] == "refused")["message"]


@pytest.mark.parametrize(
    ("path", "code", "sentence"),
    [
        ("no-such-job/frames.gif", 404, "no longer kept"),
        ("{job}/frames.gif?sample=3", 400, "made of images alone"),
        ("{job}/frames.exe", 400, "one of gif, mp4"),
        ("{job}/frames.gif?look=..%2f", 400, "one of pixels, stretched"),
        ("{job}/frames.gif?sample=all", 400, "a whole number"),
    ],
)
def test_films_that_cannot_be_say_why(server, job, path, code, sentence):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(f"{server.url}/live/{path.format(job=job)}", headers=COOKIE))
    assert refused.value.code == code
    assert sentence in refused.value.read().decode()


def test_films_are_for_our_own_pages(server, job):
    asked = urllib.request.Request(
        f"{server.url}/live/{job}/frames.gif", headers={"Origin": "http://evil.example", **COOKIE}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(asked)
    assert refused.value.code == 403


@pytest.mark.parametrize(
    "path",
    ["/live/recordings/nothing", "/live/recordings/..%2f..%2fapp", "/live/x/plotly.min.js", "/live/scenes/nothing"],
)
def test_other_files_are_not_served(server, path):
    """Unknown paths get Streamlit's own page, or are refused. Never anything else of the folder."""
    try:
        body = urllib.request.urlopen(server.url + path).read()
        assert b"import streamlit" not in body
        assert b"<!doctype html>" in body.lower()
    except urllib.error.HTTPError as error:
        assert error.code in (400, 404)


def test_the_scripts_are_served_and_kept(server):
    import plotly

    from pages._ui.embedding_view import embedding_view
    from pages._ui.live_view import VERSION

    for path, content in (
        (f"/live/{VERSION}/live_view.js", b"class LiveView"),
        (f"/{embedding_view.address}", b"class EmbeddingView"),
        (f"/live/{plotly.__version__}/plotly.min.js", b"plotly"),
        ("/live/recordings/home.bin", b"CAKE"),
    ):
        answer = urllib.request.urlopen(server.url + path)
        assert content in answer.read()
        if path.endswith(".js"):
            assert "immutable" in answer.headers["Cache-Control"]


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, Path]]:
    """Another site on this machine: its address, and the folder of its pages."""
    with tempfile.TemporaryDirectory() as folder:
        handler = partial(SimpleHTTPRequestHandler, directory=folder)
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
            thread = threading.Thread(target=site.serve_forever, daemon=True)
            thread.start()
            yield f"http://localhost:{site.server_port}", Path(folder)
            site.shutdown()
            thread.join()


@pytest.mark.long
def test_in_a_frame_of_another_site_the_page_is_fed(browser, elsewhere, tmp_path):
    """A browser sends no cookie from there, so the endpoints don't know whose it is: Streamlit's own socket brings the
    frames instead."""
    url, folder = elsewhere
    server = Server("app.py", tmp_path / "log", CAKE_FRAME_ANCESTORS=url)
    context = browser.new_context()
    try:
        source = f"{server.url}/two_moons?samples=50&steps=20000"
        (folder / "index.html").write_text(f'<iframe src="{source}" width="1200" height="900"></iframe>')
        page = context.new_page()
        page.add_init_script(PROBE)
        opened: list[str] = []
        page.on("websocket", lambda socket: opened.append(socket.url))
        page.goto(url)
        view = page.frame_locator("iframe").locator(".cake-live")
        view.locator(".status").filter(has_text="Press Play").wait_for(timeout=90_000)
        assert "cake_browser" not in {c["name"] for c in context.cookies()}
        view.locator(".play").click()
        page.frames[1].wait_for_function("window.cakeLive.step > 10", timeout=90_000)
        view.locator(".play").click()
        page.frame_locator("iframe").locator(".cake-live[data-state=paused]").wait_for(timeout=90_000)
        assert not [url for url in opened if "/live/" in url]
    finally:
        context.close()
        server.close()


def test_commands_come_from_the_owner_alone(server, browser, job):
    """The name of a job is no key: without the cookie of the browser that began it there is no such job."""
    url = server.url.replace("http", "ws") + f"/live/{job}"
    for headers in ({}, {"Cookie": "cake_browser=the-secret-of-another-one"}, {"Cookie": f"x{COOKIE['Cookie']}"}):
        with connect(url, max_size=None, additional_headers=headers) as socket, pytest.raises(ConnectionClosed) as end:
            socket.send('{"op": "stop"}')
            receive(socket)
        assert end.value.rcvd.code == 4404
    with dial(server, job) as socket:
        assert receive(socket)["state"] != "stopped"
