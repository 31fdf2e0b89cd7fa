"""Locks that a death opens: files that say whether the process that works on something is alive."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

__all__ = ["LOCK_WAIT", "held", "is_held"]

LOCK_WAIT = 120.0  # seconds

# An exclusive SQLite transaction is a lock of the operating system on all of them, and gone with its process.


@contextlib.contextmanager
def held(path: Path, wait: float = LOCK_WAIT) -> Iterator[None]:
    """Holds a lock while the block runs.

    Raises:
        sqlite3.OperationalError: somebody else holds it, for longer than one would wait.
    """
    connection = sqlite3.connect(path, timeout=wait, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        connection.close()


def is_held(path: Path) -> bool:
    """Whether somebody alive holds a lock."""
    try:
        with held(path, wait=0):
            return False
    except sqlite3.OperationalError:
        return True
    except sqlite3.DatabaseError:  # somebody has written something else there
        return False
