"""Scripts and styles: packed for who takes them so, once, and only what never changes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from pages._ui import packed
from pages._ui.packed import Packed

from .waiting import apart

TEXT = "window.cake = 'layers of it'; " * 1000
FOREVER = {"Cache-Control": "public, immutable, max-age=31536000"}


class App:
    """A few answers, and how often each was asked for."""

    def __init__(self, folder: Path):
        (folder / "a.js").write_text(TEXT)
        self.asked: list[str] = []
        self.broken = True

        async def streamed():
            for k in range(0, len(TEXT), 1000):
                yield TEXT[k : k + 1000]

        def breaks() -> Response:
            if self.broken:
                raise RuntimeError("the disk is gone")
            return PlainTextResponse(TEXT, headers=FOREVER)

        answers = {
            "file.js": lambda: FileResponse(folder / "a.js", headers=FOREVER),
            "stream.css": lambda: StreamingResponse(streamed(), headers=FOREVER),
            "changes.js": lambda: PlainTextResponse(TEXT),
            "font.woff2": lambda: FileResponse(folder / "a.js", headers=FOREVER),
            "page": lambda: PlainTextResponse(TEXT, headers=FOREVER),
            "breaks.js": breaks,
        }

        def answer(request: Request) -> Response:
            self.asked.append(request.path_params["name"])
            found = answers.get(self.asked[-1])
            return found() if found else PlainTextResponse("no", 404, headers=FOREVER)

        self.packed = Packed(Starlette(routes=[Route("/{name}", answer)]))

    def get(self, *names: str, **headers: str) -> list[httpx.Response]:
        """All at once."""

        async def ask() -> list[httpx.Response]:
            transport = httpx.ASGITransport(self.packed)
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                given = {"Accept-Encoding": "gzip, br"} | {k.replace("_", "-"): v for k, v in headers.items()}
                return await asyncio.gather(*(client.get(f"/{n}", headers=given) for n in names))

        return apart(ask())


@pytest.fixture
def app(tmp_path) -> App:
    return App(tmp_path)


@pytest.mark.parametrize("name", ["file.js", "stream.css"])
def test_what_never_changes_is_packed_once(app, name):
    answers = app.get(*[name] * 20) + app.get(name)
    assert app.asked == [name]
    for answer in answers:
        assert answer.status_code == 200
        assert answer.text == TEXT
        assert answer.headers["content-encoding"] == "gzip"
        assert int(answer.headers["content-length"]) < len(TEXT) / 20
        assert answer.headers["vary"] == "Accept-Encoding"
        assert answer.headers["cache-control"] == FOREVER["Cache-Control"]
        assert "etag" not in answer.headers  # it is of other bytes


def test_a_font_is_kept_as_it_is(app):
    first, second = app.get("font.woff2", "font.woff2")
    assert first.text == second.text == TEXT
    assert "content-encoding" not in first.headers
    assert first.headers["etag"] == second.headers["etag"]
    assert app.asked == ["font.woff2"]


def test_who_takes_it_in_no_other_way_gets_it_as_it_is(app):
    for headers in ({"Accept_Encoding": "identity"}, {"If_None_Match": "another"}, {"Range": "bytes=0-9"}):
        (answer,) = app.get("file.js", **headers)
        assert "content-encoding" not in answer.headers
        assert answer.text == (TEXT[:10] if "Range" in headers else TEXT)
    assert len(app.asked) == 3


@pytest.mark.parametrize("name", ["changes.js", "page", "nothing.js"])
def test_all_else_is_answered_anew(app, name):
    first, second = app.get(name)[0], app.get(name)[0]
    assert first.text == second.text
    assert first.status_code == second.status_code == (404 if name == "nothing.js" else 200)
    assert "content-encoding" not in first.headers
    assert len(app.asked) >= 2
    assert not app.packed._answers  # whoever asks for a million names fills nothing


def test_it_keeps_no_more_than_it_may(app, monkeypatch):
    asked = {"type": "http", "method": "GET", "headers": [(b"accept-encoding", b"gzip")]}
    assert packed._wants_kept(asked | {"path": "/static/a.js"})
    for path in ("/static/./a.js", "/static//a.js", "/static/x/../a.js"):  # any number of names for one file
        assert not packed._wants_kept(asked | {"path": path})
    monkeypatch.setattr(packed, "MOST", 10)
    for answer in app.get("file.js", "stream.css", "file.js"):
        assert answer.text == TEXT
        assert answer.headers["content-encoding"] == "gzip"
    assert not app.packed._answers


def test_what_broke_once_is_tried_again(app):
    with pytest.raises(RuntimeError, match="the disk is gone"):
        app.get("breaks.js")
    app.broken = False
    assert app.get("breaks.js")[0].text == TEXT


def test_what_others_add_to_an_answer_stays_with_it(tmp_path):
    app = App(tmp_path)
    inner = app.packed

    async def with_cookie(scope, receive, send):
        async def sent(message):
            if message["type"] == "http.response.start":
                message["headers"].append((b"set-cookie", scope["headers"][-1][1]))
            await send(message)

        await inner(scope, receive, sent)

    app.packed = with_cookie
    seen = [app.get("file.js", X_Who=who)[0].headers.get_list("set-cookie") for who in ("a", "b")]
    assert seen == [["a"], ["b"]]
