"""What a server was doing, on the disk: whoever starts it again can offer to go on. One small file for each job."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import runs
from .ages import is_older
from .errors import CakeError
from .locks import held, is_held

__all__ = ["Journal", "Left", "key_of", "resumable"]

PAGE = ".page.json"  # the end of an entry that a page may find without its job's name
DAYS = 14.0  # for which an entry is kept: its parts may have made way for others by then
WORDS = {
    "server": "The server was started again while this went on.",
    "idle": "Nobody had looked at this for a while, so it was put away.",
    "broken off": "This run was broken off.",
    "done": "This run has finished while nobody looked.",
}


@dataclass(frozen=True)
class Left:
    """A job that no server works on any more.

    Attributes:
        key: of its entry.
        kind, spec, page: as it was submitted; a distillation's spec says what run it goes on from.
        owner: key of its owner (see `runs.key_of`).
        why: a key of `WORDS`.
    """

    key: str
    kind: str
    spec: dict[str, Any]
    page: str
    owner: str
    why: str

    @property
    def sentence(self) -> str:
        """What happened."""
        return WORDS.get(self.why, WORDS["server"])


class Journal:
    """The entries of one server among those of all that share the folder of runs.

    An entry counts as left when the server that wrote it is dead, or has put the job away. A lock that a server holds
    says that it is alive.
    """

    def __init__(self) -> None:
        self._server = secrets.token_hex(8)
        self._alive = contextlib.ExitStack()
        self._ours: set[str] = set()

    @property
    def folder(self) -> Path:
        """Where entries lie."""
        return runs.folder() / "jobs"

    def note(self, name: str, kind: str, spec: Mapping[str, Any], owner: str, page: str = "", why: str = "") -> None:
        """Writes what a job is, under its name; a full disk is no reason not to do it.

        Args:
            name: of the job; only its hash is stored, for who knows the name may steer it.
            kind, spec, page: what it is.
            owner: whose.
            why: it was put away, if it was.
        """
        with contextlib.suppress(OSError, sqlite3.Error):
            if not self._ours:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._alive.enter_context(held(self._lock(self._server), wait=2))
                self._tidy()
            key = key_of(name)
            self._ours.add(key)
            entry = {"kind": kind, "spec": spec, "page": page, "owner": runs.key_of(owner), "why": why}
            ending = PAGE if page else ".json"
            runs.write_json(self.folder / f"{key}{ending}", {**entry, "server": self._server}, indent=None)

    def drop(self, name: str) -> None:
        """Forgets a job: it is done, or nobody wants it any more."""
        self.forget(key_of(name))

    def forget(self, key: str) -> None:
        """Forgets the job of an entry."""
        for ending in (".json", PAGE):
            with contextlib.suppress(OSError):
                (self.folder / f"{key}{ending}").unlink(missing_ok=True)

    def left(self, name: str) -> Left | None:
        """What is left of a job, by its name; None where nothing is, or where a server still has it."""
        return self._read(self.folder / f"{key_of(name)}.json") if name else None

    def left_by(self, owner: str, page: str) -> Left | None:
        """The latest job of an owner that a page began and that is left; None where there is none."""
        key, found = runs.key_of(owner), []
        for path in self.folder.glob(f"*{PAGE}") if key and self.folder.is_dir() else ():
            with contextlib.suppress(OSError):  # another session has just gone on with it
                left, changed = self._read(path), path.stat().st_mtime
                if left is not None and (left.owner, left.page) == (key, page):
                    found.append((changed, left))
        return max(found, key=lambda f: f[0])[1] if found else None

    def close(self) -> None:
        """Lets go of all entries: they are left from now on."""
        self._alive.close()
        with contextlib.suppress(OSError):
            self._lock(self._server).unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Removes entries that have grown old, and the locks of servers that are dead and have left nothing."""
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):
                if is_older(path, 86_400 * DAYS) and not (path.suffix == ".lock" and is_held(path)):
                    path.unlink(missing_ok=True)

    def _read(self, path: Path) -> Left | None:
        said = runs.read_json(path)
        try:
            server, why = said.pop("server"), said["why"]
            if not why and (server == self._server or is_held(self._lock(server))):
                return None
            left = Left(path.name.partition(".")[0], **said)
            goes_on = left.kind != "distill" or why == "done" or resumable(left.spec.get("resume", "")) is not None
            return left if goes_on else None
        except (KeyError, TypeError, OSError):
            return None

    def _lock(self, server: str) -> Path:
        return self.folder / f"server-{server}.lock"


def key_of(name: str) -> str:
    """The key of a job's entry, from which its name can't be had."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def resumable(run: str) -> dict[str, Any] | None:
    """The experiment of a run that was broken off and can be continued, with what was edited since; None where it is
    finished or gone.

    Args:
        run: its id.
    """
    try:
        config = runs.begun(run)
        experiment = config.get("experiment")
        if (
            config.get("kind") != "distill"
            or not isinstance(experiment, dict)
            or (runs.find(run) / "run.json").exists()
        ):
            return None
        settings = dict(experiment.get("settings") or {})
        for _, changed in runs.edits(run):
            settings |= changed
        return {**experiment, "settings": settings}
    except (CakeError, OSError):
        return None
