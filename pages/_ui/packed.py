"""Scripts and styles go out compressed, each compressed once, and fonts from memory.

Streamlit sends its own uncompressed: a first page is ten megabytes, and a hall of a hundred wants a gigabyte of its
network. Others are compressed anew for everybody, while nothing else is sent. What a browser may keep for ever may be
kept here too.
"""

from __future__ import annotations

import asyncio
import gzip
import posixpath
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Packed"]

TEXTS = (".js", ".css")
KINDS = (*TEXTS, ".woff2")  # a font is compressed as it is
PARTS = ("range", "if-none-match", "if-modified-since")  # who asks so wants no whole file, or perhaps none
MOST = 64e6  # bytes; all of Streamlit's files are a fraction
CHANGED = ("content-length", "etag", "accept-ranges")  # by packing


@dataclass(frozen=True)
class Answer:
    """What goes out: headers, and the content."""

    headers: tuple[tuple[bytes, bytes], ...]
    content: bytes


class Packed:
    """Answers a request for a script, style or font from memory, compressed where that helps and the browser takes it.

    Only what the app answers with as something that never changes is kept, and no more than `MOST` of it.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp):
        self.app = app
        self._answers: dict[str, asyncio.Task[Answer | None]] = {}
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _wants_kept(scope):
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        if path not in self._answers:  # who comes meanwhile waits for the same one
            self._answers[path] = asyncio.create_task(self._keep(scope))
        answer = await asyncio.shield(self._answers[path])
        if answer is None:
            await self.app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [*answer.headers]})
        await send({"type": "http.response.body", "body": answer.content})

    async def _keep(self, scope: Scope) -> Answer | None:
        """The answer, which stays where it lasts and there is room."""
        stays = False
        try:
            answer = await self._answer(scope)
            stays = answer is not None and self._bytes + len(answer.content) <= MOST
            self._bytes += len(answer.content) if stays else 0
            return answer
        finally:
            if not stays:
                del self._answers[scope["path"]]

    async def _answer(self, scope: Scope) -> Answer | None:
        """What the app answers, as it is kept; None where that is no lasting content."""
        headers = [(k, v) for k, v in scope["headers"] if k.lower() != b"accept-encoding"]
        start: Message = {}
        parts: list[bytes] = []
        asked = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Message:
            if not asked:
                await asyncio.Event().wait()  # for a disconnection that never comes
            return asked.pop()

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))

        await self.app({**scope, "headers": headers, "extensions": {}}, receive, send)
        given = MutableHeaders(raw=[*start["headers"]])
        if start["status"] != 200 or "immutable" not in given.get("cache-control", "") or "content-encoding" in given:
            return None
        content = b"".join(parts)
        if scope["path"].endswith(TEXTS):
            content = await asyncio.to_thread(gzip.compress, content, 6, mtime=0)
            for name in CHANGED:
                del given[name]
            given["Content-Encoding"], given["Content-Length"] = "gzip", str(len(content))
            given.add_vary_header("Accept-Encoding")
        return Answer(tuple(given.raw), content)


def _wants_kept(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].endswith(KINDS):
        return False
    if posixpath.normpath(scope["path"]) != scope["path"]:  # one of any number of ways to write it
        return False
    asked = Headers(scope=scope)
    return "gzip" in asked.get("accept-encoding", "") and not any(name in asked for name in PARTS)
