"""A tiny OpenID provider on loopback, for tests: whoever is sent to it is let in at once, as whom the test says.

References: | OpenID Connect Core 1.0 (OpenID Foundation) | https://openid.net/specs/openid-connect-core-1_0.html
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import socket
import threading
import time
from typing import Any
from urllib.parse import urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

__all__ = ["CLIENT", "Provider"]

CLIENT, SECRET = "cake-lab", "what-the-client-and-the-provider-know"


class Provider:
    """The provider, in a thread.

    Attributes:
        url: where it is; also what it calls itself.
        person: the claims of whoever signs in next.
        met: how often each endpoint was asked.
    """

    def __init__(self) -> None:
        self.person: dict[str, Any] = {}
        self.met: dict[str, int] = {}
        self._codes: dict[str, dict[str, Any]] = {}
        self._key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
        listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        routes = [
            Route("/.well-known/openid-configuration", self._discovery),
            Route("/jwks", self._keys),
            Route("/authorize", self._authorize),
            Route("/token", self._token, methods=["POST"]),
        ]
        self._server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_level="critical", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends it."""
        self._server.should_exit = True
        self._thread.join(10)

    def secrets(self, cookie_secret: str) -> str:
        """The section of Streamlit's secrets that leads here."""
        return (
            f'[auth]\nredirect_uri = "http://127.0.0.1:{{port}}/oauth2callback"\ncookie_secret = "{cookie_secret}"\n'
            f'client_id = "{CLIENT}"\nclient_secret = "{SECRET}"\n'
            f'server_metadata_url = "{self.url}/.well-known/openid-configuration"\n'
        )

    def _count(self, name: str) -> None:
        self.met[name] = self.met.get(name, 0) + 1

    async def _discovery(self, request: Request) -> Response:
        self._count("discovery")
        return JSONResponse(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/jwks",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "code_challenge_methods_supported": ["S256"],
            }
        )

    async def _keys(self, request: Request) -> Response:
        self._count("keys")
        return JSONResponse(KeySet([self._key]).as_dict(private=False))

    async def _authorize(self, request: Request) -> Response:
        self._count("authorize")
        asked = request.query_params
        if asked["client_id"] != CLIENT or asked["response_type"] != "code" or "openid" not in asked["scope"]:
            return JSONResponse({"error": "invalid_request"}, 400)
        code = secrets.token_urlsafe(16)
        self._codes[code] = {**asked, "person": dict(self.person)}
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}", 302)

    async def _token(self, request: Request) -> Response:
        self._count("token")
        form = await request.form()
        known = self._codes.pop(str(form["code"]), None)
        digest = hashlib.sha256(str(form.get("code_verifier", "")).encode()).digest()
        proof = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if (
            request.headers.get("authorization") != f"Basic {basic}"
            or known is None
            or form["redirect_uri"] != known["redirect_uri"]
            or proof != known["code_challenge"]
        ):
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": known["nonce"]}
        token = jwt.encode({"alg": "RS256", "kid": "one"}, {**claims, **known["person"]}, self._key)
        return JSONResponse({"access_token": secrets.token_urlsafe(8), "token_type": "Bearer", "id_token": token})
