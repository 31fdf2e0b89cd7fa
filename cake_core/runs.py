"""The run store: one folder per run, written so that a crash leaves either the old file or the new one."""

from __future__ import annotations

import csv
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import platformdirs

from .errors import CakeError

__all__ = ["copy", "create", "find", "folder", "read", "write_csv", "write_json"]


def folder() -> Path:
    """Where runs lie: the environment variable CAKE_RUNS_DIR, or a folder of this user."""
    return Path(os.environ.get("CAKE_RUNS_DIR") or platformdirs.user_data_path("cake-lab") / "runs")


def create() -> str:
    """A new run's id: sortable by time, and not to be guessed. Its folder exists."""
    name = time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(8)
    (folder() / name).mkdir(parents=True)
    return name


def find(run: str) -> Path:
    """The folder of a run.

    Raises:
        CakeError: there is no such run.
    """
    path = folder() / run
    if not re.fullmatch(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{16}", run) or not path.is_dir():
        raise CakeError("There is no such run. It may have been deleted, or it was made on another machine.")
    return path


def read(run: str) -> dict[str, Any]:
    """What a finished run wrote last: its settings and results.

    Raises:
        CakeError: there is no such run, or it did not finish.
    """
    try:
        return json.loads((find(run) / "run.json").read_text())
    except (OSError, ValueError):
        raise CakeError("This run did not finish, so there is nothing to read. Start it again.") from None


def copy(source: Path, path: Path) -> None:
    """Copies a file whole or not at all."""
    with tempfile.NamedTemporaryFile("wb", dir=path.parent, suffix=".part", delete=False) as f:
        part = Path(f.name)
        try:
            with source.open("rb") as given:
                shutil.copyfileobj(given, f, 2**20)
            f.flush()
            os.fsync(f.fileno())
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise


def write_json(path: Path, values: Any) -> None:
    """Writes a JSON file whole or not at all."""
    text = json.dumps(values, indent=1) + "\n"
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as f:
        part = Path(f.name)
        try:
            f.write(text)
            f.flush()
            os.fsync(f.fileno())
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as a CSV file: numbers with six digits, dictionaries as JSON."""

    def text(value: Any) -> Any:
        if isinstance(value, float):
            return f"{value:.6g}"
        return json.dumps(value) if isinstance(value, dict) else value

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as f:
        writer = csv.DictWriter(f, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: text(v) for k, v in row.items()} for row in rows)
