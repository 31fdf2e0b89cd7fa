"""The one error that users see as a sentence; anything else is a bug and surfaces as a traceback."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

__all__ = ["DISK_FULL", "CakeError", "DiskFull", "disk_is_full", "noticing_a_full_disk"]


class CakeError(Exception):
    """Something the user can put right.

    The message is one or two sentences: what was wrong, and what to do instead. Pages show it, the command line
    prints it on stderr and exits with 2. Any other exception is a bug and is never dressed up as a message.
    """


class DiskFull(CakeError, OSError):
    """Nothing more can be written. What had been written before is whole, and work goes on from there."""


DISK_FULL = (
    "The server's disk is full, so nothing more can be kept. Free some space (delete runs on the page Runs, say), "
    "then go on: what was kept before is whole."
)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
WORDS = ("No space left on device", "os error 28", "os error 27", "database or disk is full", "File too large")


def disk_is_full(error: BaseException) -> bool:
    """Whether an error means that a disk, a quota or a file's limit is full; libraries of others say it in words."""
    if isinstance(error, DiskFull):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL
    return any(words in str(error) for words in WORDS)


@contextlib.contextmanager
def noticing_a_full_disk() -> Iterator[None]:
    """Inside the block, a full disk becomes a sentence.

    Raises:
        DiskFull: the disk is full.
    """
    try:
        yield
    except CakeError:
        raise
    except Exception as error:
        if not disk_is_full(error):
            raise
        raise DiskFull(DISK_FULL) from error
