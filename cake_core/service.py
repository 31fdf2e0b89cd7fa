"""A teacher as an HTTP service: what somebody who sells a classifier's answers would run.

    GET  /v1/model    {"shape": [...], "classes": [...], "answers": "soft"}
    GET  /v1/usage    {"per_class": [...], "budget": n, "calls": n}
    POST /v1/answers  {"inputs": [...], "meant": [...]}  ->  {"answers": [[...], ...]}

Inputs may also come as an .npy file (`content-type: application/x-npy`) with the classes in the header `x-meant`, and
answers go out as one to whoever accepts it. Every request wants `authorization: Bearer <key>`. A request that is sent
again with the same `idempotency-key` gets the same answers and is counted once.

    200 answered     400 not understood     401 no key, or a wrong one     402 the budget of a class is spent
    413 too large    429 too many requests: wait as `retry-after` says     503 an error of ours: try again
"""

from __future__ import annotations

import json
import math
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .black_box import BudgetSpent, LocalBlackBox, Unavailable, packed, unpacked
from .errors import CakeError

__all__ = ["Terms", "application", "run", "serving"]

NPY = "application/x-npy"


@dataclass(frozen=True)
class Terms:
    """On which terms the service answers.

    Attributes:
        key: what callers must know; empty for everybody.
        rate: requests per second, 0 for any number. Short bursts of as many are let through.
        most_bytes: of a request.
        dropped: share of connections that break off in the middle of the answer; to see what clients do then.
        seed: of the connections that are dropped.
    """

    key: str = ""
    rate: float = 0.0
    most_bytes: int = 8 * 2**20
    dropped: float = 0.0
    seed: int = 0


class _Bucket:
    """Lets `rate` requests per second through, and bursts of as many."""

    def __init__(self, rate: float):
        self.rate, self.left, self.at = rate, max(1.0, rate), time.monotonic()

    def wait(self) -> float:
        """0 for a request that may pass; otherwise seconds until one may."""
        if not self.rate:
            return 0.0
        now = time.monotonic()
        self.left = min(max(1.0, self.rate), self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left >= 1:
            self.left -= 1
            return 0.0
        return (1 - self.left) / self.rate


class _Refusal(Exception):
    def __init__(self, status: int, reason: str, **headers: str):
        self.response = JSONResponse({"error": reason}, status, headers)


class _BrokenOff(Response):
    """Half of an answer, and then nothing."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body[: len(self.body) // 2], "more_body": False})


def application(teacher: LocalBlackBox, terms: Terms = Terms()) -> Starlette:
    """The service as an ASGI application.

    Args:
        teacher: who answers.
        terms: on which terms.
    """
    bucket, chance = _Bucket(terms.rate), np.random.default_rng(terms.seed)

    def admit(request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if terms.key and not (scheme.lower() == "bearer" and secrets.compare_digest(key.encode(), terms.key.encode())):
            raise _Refusal(401, "This service needs its API key in the header 'authorization: Bearer <key>'.")
        if wait := bucket.wait():
            raise _Refusal(429, "Too many requests; wait a moment.", **{"retry-after": str(math.ceil(wait))})

    async def content(request: Request) -> bytes:
        body = bytearray()
        async for part in request.stream():  # what is announced may not be true
            body += part
            if len(body) > terms.most_bytes:
                raise _Refusal(413, f"A request may have {terms.most_bytes:,} bytes. Send fewer inputs at a time.")
        return bytes(body)

    async def model(request: Request) -> Response:
        admit(request)
        return JSONResponse(
            {"shape": list(teacher.shape), "classes": list(teacher.classes), "answers": teacher.answers}
        )

    async def usage(request: Request) -> Response:
        admit(request)
        return JSONResponse(teacher.usage().to_dict())

    async def answers(request: Request) -> Response:
        admit(request)
        body = await content(request)
        try:
            x, meant = _read(request, body)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise _Refusal(400, f"The inputs could not be read ({error}).") from None
        key = request.headers.get("idempotency-key") or secrets.token_hex(16)
        try:
            found = (await run_in_threadpool(teacher.request, x, meant, key)).cpu().numpy()
        except BudgetSpent as error:
            raise _Refusal(402, str(error)) from None
        except CakeError as error:
            raise _Refusal(400, str(error)) from None
        except Unavailable as error:
            raise _Refusal(503, str(error)) from None
        if NPY in request.headers.get("accept", ""):
            response = Response(packed(found), media_type=NPY)
        else:
            response = JSONResponse({"answers": found.tolist()})
        if chance.random() < terms.dropped:
            response.__class__ = _BrokenOff
        return response

    async def refused(request: Request, error: Exception) -> Response:
        return error.response

    routes = [
        Route("/v1/model", model),
        Route("/v1/usage", usage),
        Route("/v1/answers", answers, methods=["POST"]),
    ]
    return Starlette(routes=routes, exception_handlers={_Refusal: refused})


def _read(request: Request, body: bytes) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and the classes that their calls are taken from."""
    if request.headers.get("content-type", "").startswith(NPY):
        inputs = unpacked(body)
        meant = [int(part) for part in request.headers["x-meant"].split(",") if part]
    else:
        sent = json.loads(body)
        inputs, meant = np.asarray(sent["inputs"], dtype=np.float32), sent["meant"]
        if not isinstance(meant, list) or not all(type(c) is int for c in meant):
            raise ValueError("'meant' is a list of whole numbers, one for each input")
    # numpy says with exceptions of its own what does not fit into so many bits; torch would with a RuntimeError.
    return torch.as_tensor(inputs, dtype=torch.float32), torch.as_tensor(np.asarray(meant, dtype=np.int64))


def run(teacher: LocalBlackBox, terms: Terms, port: int, host: str = "127.0.0.1") -> None:
    """Answers until it is stopped."""
    uvicorn.run(application(teacher, terms), host=host, port=port, log_level="info")


@contextmanager
def serving(teacher: LocalBlackBox, terms: Terms = Terms()) -> Iterator[str]:
    """The service in a thread of this process, at a free port of this machine alone, while the block runs.

    Yields:
        Its address.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application(teacher, terms), log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listening.close()
