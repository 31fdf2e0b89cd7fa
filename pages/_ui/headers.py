"""What every answer of the server tells a browser to keep to: where scripts may come from, who may frame the app.

References: | Content Security Policy Level 3 (W3C) | https://www.w3.org/TR/CSP3/
"""

from __future__ import annotations

import os
import re

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cake_core.errors import CakeError

from .owner import RememberBrowser
from .packed import Packed

__all__ = ["Headers", "headers", "middleware"]

# Streamlit and Plotly write styles and small scripts into the page, and Plotly's 3-D charts compile functions; nothing
# is ever loaded from another host.
POLICY = {
    "default-src": "'self'",
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval' blob:",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "media-src": "'self' data: blob:",
    "connect-src": "'self' data: blob:",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
}
SOURCE = re.compile(r"'self'|'none'|\*|https?://[\w*.:-]+|[\w*-]+(\.[\w*-]+)+(:\d+)?")


def headers(frame_ancestors: str = "'self'") -> dict[str, str]:
    """The headers.

    Args:
        frame_ancestors: who may show the app in a frame, as in a Content-Security-Policy.

    Raises:
        CakeError: that is no list of sources.
    """
    sources = frame_ancestors.split()
    if not sources or not all(SOURCE.fullmatch(s) for s in sources):
        raise CakeError(
            f"CAKE_FRAME_ANCESTORS is '{frame_ancestors}'. Write 'self', 'none', or addresses with spaces between, "
            "such as https://moodle.example.org."
        )
    policy = POLICY | {"frame-ancestors": " ".join(sources)}
    return {
        "Content-Security-Policy": "; ".join(f"{k} {v}" for k, v in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",  # an address holds the name of a run
        "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
        "Cross-Origin-Opener-Policy": "same-origin",
    }


class Headers:
    """Adds the headers to every answer that is no socket.

    Args:
        app: what answers.
        values: the headers.
    """

    def __init__(self, app: ASGIApp, values: dict[str, str]):
        self.app, self.values = app, values

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = MutableHeaders(scope=message)
                for name, value in self.values.items():
                    given[name] = value
            await send(message)

        await self.app(scope, receive, answered)


def middleware() -> list[Middleware]:
    """For `st.App`; the environment variable CAKE_FRAME_ANCESTORS says who may frame the app (this host alone)."""
    values = headers(os.environ.get("CAKE_FRAME_ANCESTORS", "'self'"))
    return [Middleware(Headers, values=values), Middleware(RememberBrowser), Middleware(Packed)]
