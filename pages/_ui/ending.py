"""What the server does first and last.

It takes as many open files as it may, and sends at once what is short. When it is told to end (SIGTERM, Ctrl+C),
viewers hear of it, and runs are put away first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pandas  # noqa: F401  # now: pages of several sessions that import it at the same time find it half made

from cake_core import jobs

__all__ = ["ending"]

SIGNALS = (signal.SIGTERM, signal.SIGINT)
MOST_FILES = 65536


def take_files() -> None:
    """Raises the number of files and connections that this process may have open, as far as it may itself.

    The usual 1024 are too few for a hall: a browser that opens a page for the first time has eight connections.
    """
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on Windows, which counts otherwise
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def send_at_once() -> None:
    """Switches Nagle's algorithm off for the server's sockets; connections that they accept inherit it.

    Streamlit binds its socket in a way that asyncio does not take for TCP (no protocol number), so it does not do it as
    it does for others. A page is a hundred small messages: all but the first would wait until the browser has
    acknowledged that one, which it puts off for 40 ms.

    References: | RFC 896, Congestion Control in IP/TCP Internetworks (Nagle 1984) | https://www.rfc-editor.org/rfc/rfc896
    """
    for path in Path("/proc/self/fd").iterdir() if sys.platform == "linux" else ():
        with contextlib.suppress(OSError):  # closed meanwhile
            if stat.S_ISSOCK(path.stat().st_mode):
                _send_at_once(int(path.name))


def _send_at_once(descriptor: int) -> None:
    with socket.socket(fileno=os.dup(descriptor)) as found:
        if found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM:
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@contextlib.asynccontextmanager
async def ending(app: Any) -> AsyncIterator[None]:
    """The lifespan of the app: at its end compute processes put their runs away.

    Viewers are told as soon as the signal comes: once the server shuts down, their sockets are closed.
    """
    take_files()
    send_at_once()
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
