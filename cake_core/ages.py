"""How old things are, whatever somebody does to the clock.

A deadline inside one process is counted by `time.monotonic` everywhere. Files outlive processes, so their age has to
be judged by the clock of the wall; what this process has made itself it knows better.
"""

from __future__ import annotations

import time
from pathlib import Path

__all__ = ["is_older", "milliseconds", "now_made"]

_START = time.time() - time.monotonic()
_made: dict[str, tuple[int, float]] = {}  # by path: its time then, and ours
MOST = 10_000  # files that are remembered


def milliseconds() -> float:
    """Milliseconds since 1970 as this process has counted them since it began: they never go back."""
    return 1000 * (_START + time.monotonic())


def now_made(path: Path) -> None:
    """Notes that a file or folder has just been made, or renewed, by this process."""
    while len(_made) >= MOST:
        del _made[next(iter(_made))]
    _made[str(path)] = path.stat().st_mtime_ns, time.monotonic()


def is_older(path: Path, seconds: float) -> bool:
    """Whether a file or folder is older than that.

    Raises:
        OSError: there is none.
    """
    changed = path.stat().st_mtime_ns
    then, made = _made.get(str(path), (None, 0.0))
    age = time.monotonic() - made if then == changed else time.time() - changed / 1e9
    return age >= seconds
