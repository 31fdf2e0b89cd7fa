"""Waiting for what happens in other threads and processes."""

from __future__ import annotations

import time
from collections.abc import Callable

from cake_core import jobs

__all__ = ["until"]


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
