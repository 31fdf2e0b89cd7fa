"""How the server ends when it is told to (SIGTERM, Ctrl+C): viewers hear of it, and runs are put away first."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pandas  # noqa: F401  # now: pages of several sessions that import it at the same time find it half made

from cake_core import jobs

__all__ = ["ending"]

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@asynccontextmanager
async def ending(app: Any) -> AsyncIterator[None]:
    """The lifespan of the app: nothing at its start, and at its end compute processes that put their runs away.

    Viewers are told as soon as the signal comes: once the server shuts down, their sockets are closed.
    """
    in_main = threading.current_thread() is threading.main_thread()
    before = {s: signal.getsignal(s) for s in SIGNALS} if in_main else {}

    def told(number: int, frame: Any) -> None:
        # In a thread of its own: the signal may have come while this one holds the lock that is needed.
        threading.Thread(target=jobs.end_all, daemon=True).start()
        if callable(before[number]):
            before[number](number, frame)

    for number in before:
        signal.signal(number, told)
    try:
        yield
    finally:
        await asyncio.to_thread(jobs.end_all)
