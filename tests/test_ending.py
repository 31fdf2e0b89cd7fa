"""What the server does first: more open files, and short messages without waiting for an answer."""

from __future__ import annotations

import resource
import socket
from pathlib import Path

import pytest

from cake_core import jobs
from pages._ui.ending import MOST_FILES, ending, send_at_once

from .waiting import apart

OPEN = Path("/proc/self/fd")
pytestmark = pytest.mark.skipif(not OPEN.is_dir(), reason="asks Linux for what is open")


@pytest.fixture
def few_files():
    """The usual limit of a shell."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_server_begins_with_what_a_hall_wants(few_files, monkeypatch):
    ended = []
    monkeypatch.setattr(jobs, "end_all", lambda: ended.append(True))

    async def serve() -> tuple[int, int]:
        with socket.socket(socket.AF_INET) as listener:  # as Streamlit binds its own
            listener.bind(("127.0.0.1", 0))
            async with ending(None):
                listener.listen()
                with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
                    at_once = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                return at_once, resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    at_once, files = apart(serve())
    assert at_once == 1
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert files == (MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES))
    assert ended == [True]


def test_looking_for_sockets_leaves_nothing_open():
    before = len(list(OPEN.iterdir()))
    with socket.socket(socket.AF_INET):
        for _ in range(100):
            send_at_once()
    assert len(list(OPEN.iterdir())) < before + 50  # others in this process open files too
