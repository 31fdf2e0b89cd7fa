"""Waiting for what happens in other threads and processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from cake_core import jobs

__all__ = ["apart", "until"]
T = TypeVar("T")


def apart(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine comes to in a loop of another thread: Playwright has one of its own in that of the tests."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def until(true: Callable[[], object], seconds: float = 120) -> None:
    """Waits until something is so, and until what a runner of jobs was doing then is done.

    A state is seen the moment it is set; the messages about it, and jobs that follow, come an instant later.

    Args:
        true: says whether it is so.
        seconds: after which it is too late.
    """
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
    for runner in list(jobs._living):
        with runner.lock:
            pass
