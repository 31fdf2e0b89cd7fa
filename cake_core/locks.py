"""Locks that a death opens: files that say whether the process that works on something is alive."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["LOCK_WAIT", "held", "is_held"]

LOCK_WAIT = 120.0  # seconds
ATTEMPTS, MOMENT = 4, 0.01  # seconds between them

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
    """Whether somebody alive holds a lock. Those who only ask do not see each other: they read, and what a death has
    left behind is tidied up by the first of them, while the others ask again."""
    for attempt in range(ATTEMPTS):
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=0)) as connection:
                connection.execute("SELECT 1 FROM sqlite_master").fetchall()
            return False
        except sqlite3.OperationalError:
            if attempt < ATTEMPTS - 1:
                time.sleep(MOMENT)
        except sqlite3.DatabaseError:  # somebody has written something else there
            return False
    return True
