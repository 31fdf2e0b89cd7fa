"""Whose runs are whose: a secret that the browser keeps in a cookie, so that a reload still finds them."""

from __future__ import annotations

import re
import secrets
from http.cookies import SimpleCookie
from typing import Any

import streamlit as st
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cake_core import runs

__all__ = ["COOKIE", "RememberBrowser", "key", "new_owner"]

COOKIE = "cake_browser"
SECONDS = 365 * 86_400
SECRET = re.compile(r"[A-Za-z0-9_-]{20,64}")


class RememberBrowser:
    """Gives every browser that opens a page a secret of its own, unless it has one.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or not _wants_page(scope):
            await self.app(scope, receive, send)
            return

        async def with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                secure = "; Secure" if scope["scheme"] == "https" else ""
                cookie = f"{COOKIE}={secrets.token_urlsafe(24)}; Path=/; Max-Age={SECONDS}; HttpOnly; SameSite=Lax"
                MutableHeaders(scope=message).append("Set-Cookie", cookie + secure)
            await send(message)

        await self.app(scope, receive, with_cookie)


def _wants_page(scope: Scope) -> bool:
    """Whether a browser opens a page and has no secret yet."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if b"text/html" not in headers.get(b"accept", b""):
        return False
    known = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1")).get(COOKIE)
    return known is None or not SECRET.fullmatch(known.value)


def new_owner() -> str:
    """The owner of a session's jobs and runs: the browser's secret, and a part that tells its sessions apart.

    Without the cookie (plain `streamlit run`, cookies refused) a session stands for itself.
    """
    secret: Any = st.context.cookies.get(COOKIE)
    if not (isinstance(secret, str) and SECRET.fullmatch(secret)):
        secret = secrets.token_urlsafe(24)
    return f"{secret}.{secrets.token_urlsafe(8)}"


def key() -> str:
    """By which this session's runs are found in the store."""
    return runs.key_of(st.session_state.owner)
