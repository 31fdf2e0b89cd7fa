"""What happens on a server, one line each: for people, or as JSON where the environment variable CAKE_LOG is "json".

A line never holds a secret: who knows a job's name may steer it, and who knows a run's id may see it, so both appear as
short hashes; so do owners. The same hash is the same job, run or owner on every line.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
import time
from typing import Any, Literal

from .errors import CakeError

__all__ = ["EVENTS", "begin", "check", "note", "which", "who"]

Level = Literal["info", "warning", "error"]

# Every event, and what it tells.
EVENTS = {
    "server_began": "The server has started; `limits` holds those that the environment sets.",
    "process_began": "A compute process was started: its `name` and `pid`.",
    "process_died": "A compute process ended unexpectedly; `reason` says how.",
    "job_began": "A job computes for the first time: its `kind` and `device`.",
    "job_done": "A job reached its end; `seconds` since it began, `computed` of them spent on it.",
    "job_failed": "A job ended with an error; `reason` is what its owner reads, `bug` whether it is ours.",
    "job_stopped": "A job was stopped by its owner, or made way for another.",
    "job_killed": "A job ended with the process that computed it.",
    "job_waits": "A job waits for memory; `reason` says how much.",
    "job_shared": "A job was begun for all who ask for the same: it is computed once, and played to each.",
    "job_refused": "A job was not accepted: it exceeds a limit, which `reason` names.",
    "upload_refused": "A file was not accepted; `reason` is the sentence that whoever brought it reads.",
    "socket_refused": "A live view was not connected: another site's page, or a job that is not kept.",
    "message": "Anything else.",
}
FORMATS = ("text", "json")
SECRETS = re.compile(r"\b(?:[0-9]{8}-[0-9]{6}-[0-9a-f]{16}|own-[0-9a-f]{16}|cake-inbox-\w+)")

log = logging.getLogger("cake_core")


def check() -> str:
    """How lines are written, as CAKE_LOG says: "text" or "json".

    Raises:
        CakeError: it says something else.
    """
    wanted = os.environ.get("CAKE_LOG", "").strip() or FORMATS[0]
    if wanted not in FORMATS:
        raise CakeError(f"The environment variable CAKE_LOG is '{wanted[:60]}'. Write one of: {', '.join(FORMATS)}.")
    return wanted


def begin(process: str) -> None:
    """From now on this process writes what happens to stderr. Calling it again changes nothing but the name.

    Args:
        process: what it is called on each line.
    """
    for handler in [h for h in log.handlers if isinstance(h, _Stderr)]:
        log.removeHandler(handler)
    handler = _Stderr(sys.stderr)
    handler.setFormatter(_Lines(process, check() == "json"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)


def note(event: str, level: Level = "info", *, trace: bool = False, **told: Any) -> None:
    """Writes a line.

    Args:
        event: one of `EVENTS`.
        level: how bad it is.
        trace: whether the exception that is being handled belongs to it.
        told: what else it says; None is left out.
    """
    told = {k: v for k, v in told.items() if v is not None}
    log.log(getattr(logging, level.upper()), event, exc_info=trace, extra={"told": {"event": event, **told}})


def who(owner: str) -> str:
    """An owner as lines have it: 8 digits of the hash that the run store has too; empty for nobody.

    Args:
        owner: a browser's secret; what follows a dot tells its sessions apart and does not count.
    """
    return _short(owner.partition(".")[0])


def which(name: str) -> str:
    """A job or run as lines have it.

    Args:
        name: its unguessable name.
    """
    return _short(name)


def _short(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()[:8] if secret else ""


class _Stderr(logging.StreamHandler):
    """A handler of ours, told from others."""


class _Lines(logging.Formatter):
    """One line for each record, without secrets.

    Args:
        process: what this process is called.
        as_json: JSON, or words for people.
    """

    def __init__(self, process: str, as_json: bool):
        super().__init__()
        self.process, self.as_json = process, as_json

    def format(self, record: logging.LogRecord) -> str:
        told = dict(getattr(record, "told", {"event": "message", "message": record.getMessage()}))
        if record.exc_info:
            told["trace"] = self.formatException(record.exc_info)
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z"
        line = {"time": moment, "level": record.levelname.lower(), "process": self.process, **told}
        if self.as_json:
            return SECRETS.sub(_hidden, json.dumps(line, default=str))
        head = f"{moment} {line['level']:7} {self.process}: {told.pop('event').replace('_', ' ')}"
        trace = told.pop("trace", "")
        rest = "".join(f", {k} {_plain(v)}" for k, v in told.items())
        return SECRETS.sub(_hidden, head + rest + (f"\n{trace}" if trace else ""))


def _plain(value: Any) -> str:
    """A value on a line for people; what somebody else wrote can't begin a line of its own."""
    return json.dumps(value) if isinstance(value, str) and not value.isalnum() else str(value)


def _hidden(secret: re.Match[str]) -> str:
    return f"#{_short(secret[0])}"
