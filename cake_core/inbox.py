"""Files that a browser has sent, kept privately until a task has read them."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from pathlib import Path

from .ages import is_older, now_made
from .errors import CakeError

__all__ = ["drop", "find", "keep"]

PREFIX = "cake-inbox-"
HOURS = 6  # after which a file is given up: the task that was to read it has died


def keep(content: bytes | memoryview) -> str:
    """Writes what was sent to a new folder that only this user may read; returns the name to find it by."""
    for old in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another process has just removed it
            if old.is_dir() and is_older(old, 3600 * HOURS):
                shutil.rmtree(old, ignore_errors=True)
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    except OSError as error:
        raise CakeError(f"The file can't be kept on the server ({error.strerror}). Try again later.") from None
    try:
        (folder / "file").write_bytes(content)
        now_made(folder)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise CakeError(f"The file can't be kept on the server ({error.strerror}). Try again later.") from None
    return folder.name


def find(name: str) -> Path:
    """Where a file lies.

    Raises:
        CakeError: it is not there any more.
    """
    path = Path(tempfile.gettempdir()) / name / "file"
    if not re.fullmatch(rf"{PREFIX}\w+", name) or not path.is_file():
        raise CakeError("The file is not on the server any more. Send it once more.")
    return path


def drop(name: str) -> None:
    """Removes a file; nothing happens where there is none."""
    if re.fullmatch(rf"{PREFIX}\w+", name):
        shutil.rmtree(Path(tempfile.gettempdir()) / name, ignore_errors=True)
