"""The run store: one folder per run, written so that a crash leaves either the old file or the new one.

The folder of a distillation holds, in the order in which they are written:

- config.json: what was asked for, when, by whom, with which code on which machine;
- events.jsonl: what happened, one line each: begun, each stage, each edit while it ran, failed, finished;
- frames.bin and metrics.json: what was to be seen, and the losses; renewed at the end of each stage;
- samples, history, student and teacher as safetensors; run.json, the results, last: who has it has finished.

marks.json (star, note), share.json (the pass of its link) and tracker.json (what an experiment tracker was told) may be
added later. Runs of older versions have run.json and the tensors alone. Studies are runs too (`cake_core.studies`).

A run is found by its owner, by whoever has its pass, and by everybody where it is nobody's (`cake_core.access`).
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import secrets
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any

import platformdirs

from . import __version__, access
from .ages import is_older, now_made
from .errors import CakeError, noticing_a_full_disk
from .limits import Limits
from .locks import is_held

__all__ = [
    "Entry",
    "adopt",
    "begun",
    "belongs_to",
    "changeable",
    "check",
    "check_room",
    "code",
    "copy",
    "create",
    "delete",
    "differences",
    "digests",
    "discard",
    "edits",
    "empty_trash",
    "entries",
    "entry",
    "environment",
    "events",
    "find",
    "folder",
    "going_on",
    "key_of",
    "limit",
    "log",
    "made",
    "mark",
    "metrics",
    "owned_by",
    "owner",
    "read",
    "read_json",
    "seen_by",
    "share",
    "shared",
    "stored_bytes",
    "undelete",
    "unshare",
    "whole",
    "write_csv",
    "write_json",
]

TENSORS = re.compile(r"[\w-]+\.safetensors")
NAME = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{16}")
MINUTES_IN_TRASH = 60.0  # for which a deletion can be undone
MINUTES_MADE = 60.0  # for which files that were made of a run on demand are kept
MINUTES_OF_A_TRIAL = 60.0  # after which a study that has written nothing may make way for new runs
INDEX_VERSION = 2
SECONDS_UNTIL_BROKEN_OFF = 86_400.0  # after which a run without results is taken to have been broken off
PARTS = "parts"  # mini-batches that are finished, of a run that is not
LOCK = "lock"  # held by the process that works on a run
FRESH = 2.0  # seconds after a change in which a folder may change again without its time telling
NOTE_LENGTH = 2000  # characters

_owner: ContextVar[str] = ContextVar("owner", default="")


def folder() -> Path:
    """Where runs lie: the environment variable CAKE_RUNS_DIR, or a folder of this user."""
    return Path(os.environ.get("CAKE_RUNS_DIR") or platformdirs.user_data_path("cake-lab") / "runs")


def create(**about: Any) -> str:
    """A new run's id: sortable by time, and not to be guessed. Its folder exists, and says whose it is.

    Args:
        about: what else its config.json says: "kind" and "experiment" of a run that is to be listed while it goes on.

    Raises:
        CakeError: the space for runs is full, and no run may make way.
    """
    _make_room()
    name = time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(8)
    made = {"owner": owner(), "created": time.time(), "code": code(), "environment": environment()}
    try:
        with noticing_a_full_disk():
            (folder() / name).mkdir(parents=True)
        write_json(folder() / name / "config.json", {**about, **made})
    except OSError:
        shutil.rmtree(folder() / name, ignore_errors=True)  # without its first file it would be nobody's
        raise
    return name


def find(run: str) -> Path:
    """The folder of a run.

    Raises:
        CakeError: there is no such run for whoever asks; others' runs are not told from those that there are not.
    """
    if not seen_by(run, access.reader()):
        raise CakeError(
            "There is no such run. It may have been deleted, it was made on another machine, or it belongs to "
            "somebody who does not share it (any more)."
        )
    return folder() / run


def seen_by(run: str, somebody: access.Reader | None) -> bool:
    """Whether there is such a run, and somebody may see it.

    Args:
        run: its id.
        somebody: who wants to; None for the program itself.
    """
    path = folder() / run
    if not NAME.fullmatch(run) or not path.is_dir():
        return False
    if somebody is None:
        return True
    whose = _owner_of(path)
    return whose is not None and access.may_see(whose, shared(run), somebody)


def _owner_of(path: Path) -> str | None:
    """The key of a folder's owner; empty for nobody, None where that can't be read."""
    if not (path / "config.json").exists():
        return ""  # made by an older version
    whose = read_json(path / "config.json").get("owner")
    return whose if isinstance(whose, str) and whose.isascii() else None


def read(run: str) -> dict[str, Any]:
    """What a finished run wrote last: its settings and results.

    Raises:
        CakeError: there is no such run, or it did not finish.
    """
    if not (found := read_json(find(run) / "run.json")):
        raise CakeError("This run did not finish, so there is nothing to read. Start it again.")
    return found


def digests(run: str) -> dict[str, str]:
    """SHA-256 of each file of tensors of a run, by which a damaged one is noticed."""
    return {path.name: _digest(path) for path in sorted(find(run).glob("*.safetensors"))}


def check(run: str) -> None:
    """Refuses a finished run whose tensors are not those that were written.

    Runs of older versions can't be checked, and the history is nothing that a run has to have.

    Raises:
        CakeError: a file is missing or damaged.
    """
    folder = find(run)
    noted = read(run).get("digests", {})
    if not isinstance(noted, dict) or not all(map(TENSORS.fullmatch, noted)):
        raise CakeError("What was noted of this run's files is damaged. Make the run again: its settings are there.")
    for name, digest in noted.items():
        if name == "history.safetensors" and not (folder / name).exists():
            continue
        if not (folder / name).is_file() or _digest(folder / name) != digest:
            raise CakeError(
                f"The file {name} of this run is damaged or missing, so it can't be used any more. "
                "Make the run again: its settings are still there."
            )


def _digest(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def begun(run: str) -> dict[str, Any]:
    """What a run wrote first: kind, experiment, code version, environment. Empty for runs of older versions.

    Raises:
        CakeError: there is no such run.
    """
    return read_json(find(run) / "config.json")


def log(run: str, event: str, **values: Any) -> None:
    """Adds a line to what happened in a run."""
    with noticing_a_full_disk(), (folder() / run / "events.jsonl").open("ab") as f:
        # On a line of its own, also behind one that a crash cut off.
        f.write(b"" if f.tell() == 0 or _ends_a_line(folder() / run / "events.jsonl") else b"\n")
        f.write(json.dumps({"time": round(time.time(), 3), "event": event, **values}).encode() + b"\n")


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as f:
        f.seek(-1, os.SEEK_END)
        return f.read() == b"\n"


def events(run: str) -> list[dict[str, Any]]:
    """What happened in a run, in order; a line that a crash cut off is left out.

    Raises:
        CakeError: there is no such run.
    """
    path, found = find(run) / "events.jsonl", []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError, RecursionError):
            said = json.loads(line)
            if isinstance(said, dict) and _text(said.get("event")) and _moment(said.get("time")):
                found.append(said)
    return found


def edits(run: str) -> list[tuple[int, dict[str, Any]]]:
    """What was edited while a run went on: the number of snapshots that had been seen, and the settings.

    Where a run was continued and edited anew, the later choice counts: what had been edited after that moment in the
    life before it is dropped.

    Raises:
        CakeError: there is no such run.
    """
    found: list[tuple[int, dict[str, Any]]] = []
    for said in events(run):
        seen, settings = said.get("snapshots"), said.get("settings")
        if said["event"] == "edited" and type(seen) is int and isinstance(settings, dict):
            found = [(n, s) for n, s in found if n <= seen or not s.keys() & settings.keys()]
            found.append((seen, settings))
    return sorted(found, key=lambda e: e[0])


def going_on(run: str) -> bool:
    """Whether a process that is alive works on a run.

    Raises:
        CakeError: there is no such run.
    """
    path = find(run) / LOCK
    return path.exists() and is_held(path)


# -- whose it is ------------------------------------------------------------------------------------------------------


def key_of(owner: str) -> str:
    """What is stored of an owner, by which runs are found but nobody can pose as the owner.

    Args:
        owner: a browser's secret; what follows a dot tells its sessions apart and does not count. Empty: nobody.
    """
    secret = owner.partition(".")[0]
    return hashlib.sha256(secret.encode()).hexdigest()[:32] if secret else ""


def owner() -> str:
    """The key of whoever runs are made for here and now; empty for nobody in particular."""
    return _owner.get()


@contextlib.contextmanager
def owned_by(key: str) -> Iterator[None]:
    """Inside the block, new runs belong to the owner with this key."""
    token = _owner.set(key)
    try:
        yield
    finally:
        _owner.reset(token)


# -- sharing ----------------------------------------------------------------------------------------------------------


def share(run: str, key: str | None) -> str:
    """Opens a run to everybody who has its pass, which the link holds; a run that is shared keeps the pass it has.

    Raises:
        CakeError: there is no such run, or it is somebody else's.
    """
    path = _theirs(run, key)
    if not (known := shared(run)):
        known = access.new_pass()
        write_json(path / "share.json", {"pass": known, "since": time.time()})
    return known


def unshare(run: str, key: str | None) -> None:
    """Closes a run again: its link opens nothing any more, and a later one has another pass.

    Raises:
        CakeError: there is no such run, or it is somebody else's.
    """
    path = _theirs(run, key)
    (path / "share.json").unlink(missing_ok=True)


def shared(run: str) -> str:
    """The pass of a run; empty where it is not shared."""
    known = _text(read_json(folder() / run / "share.json").get("pass"))
    return known if known.isascii() else ""


def belongs_to(run: str, key: str) -> bool:
    """Whether there is such a run, and its owner has this key; an empty key stands for nobody's runs.

    Args:
        run: its id.
        key: of the owner.
    """
    return seen_by(run, None) and _owner_of(folder() / run) == key


def changeable(run: str) -> Path:
    """The folder of a run, for whoever wants to change it.

    Raises:
        CakeError: there is no such run, or it is somebody else's.
    """
    asks = access.reader()
    return find(run) if asks is None or not _owner_of(find(run)) else _theirs(run, asks.key)


# -- which code on which machine --------------------------------------------------------------------------------------

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "safetensors")


@cache
def code() -> dict[str, str]:
    """The version of this program: its number, a hash of the engine's source, and git's commit where there is one."""
    here, digest = Path(__file__).parent, hashlib.sha256()
    for path in sorted(here.rglob("*.py")):
        digest.update(path.relative_to(here).as_posix().encode() + b"\0" + path.read_bytes())
    commit = ""
    if (here.parent / ".git").exists():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["git", "-C", str(here.parent), "rev-parse", "HEAD"]
            commit = subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip()
    return {"version": __version__, "source": digest.hexdigest()[:16], "commit": commit}


@cache
def environment() -> dict[str, str]:
    """Python, the packages that results depend on, and the machine."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return {"python": platform.python_version(), **found, "machine": f"{platform.system()} {platform.machine()}"}


# -- the list ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One line of the list of runs.

    Attributes:
        run: its id.
        kind: of the task that made it: "distill", "compare", ...
        owner: key of its owner; empty for runs of the command line and of older versions.
        created: seconds since 1970.
        finished: whether it has its results.
        star, note: what its owner noted.
        shared: whether others can open it by its link.
        bytes: what its folder holds.
        data, method, teacher, student, seed, samples: of a distillation; empty or None otherwise.
        accuracy, agreement: of its student; None where unknown.
        control: the same number as `accuracy` (or else `agreement`) of the noise-only student.
    """

    run: str
    kind: str = ""
    owner: str = ""
    created: float = 0.0
    finished: bool = False
    star: bool = False
    note: str = ""
    shared: bool = False
    bytes: int = 0
    data: str = ""
    method: str = ""
    teacher: str = ""
    student: str = ""
    seed: int | None = None
    samples: int | None = None
    accuracy: float | None = None
    agreement: float | None = None
    control: float | None = None


def entry(run: str) -> Entry:
    """What the list says about a run, read from its folder.

    Raises:
        CakeError: there is no such run.
    """
    return _entry(find(run))


def _entry(path: Path) -> Entry:
    run = path.name
    config, result, marks = (read_json(path / f"{name}.json") for name in ("config", "run", "marks"))
    # Other kinds of runs may have other things under these names; what is no dictionary says nothing here.
    said = (config.get("experiment"), result.get("experiment"), result.get("base"))
    e = next((s for s in said if isinstance(s, dict)), {})
    outcome, control, settings = (
        values if isinstance(values, dict) else {}
        for values in (result.get("outcome"), result.get("control"), e.get("settings"))
    )
    asked = [_whole(settings.get(k)) for k in ("batches", "samples")]
    planned = None if None in asked else asked[0] * asked[1]
    which = "student_accuracy" if outcome.get("student_accuracy") is not None else "agreement"
    return Entry(
        run,
        kind=_text(config.get("kind")) or _text(result.get("kind")),
        owner=_text(config.get("owner")),
        created=_moment(config.get("created")) or _made_at(run),
        finished=bool(result),
        star=bool(marks.get("star")),
        note=_text(marks.get("note")),
        shared=(path / "share.json").exists(),
        bytes=_size(path),
        data=_name(e.get("data"), "name"),
        method=_text(e.get("method")) if outcome or not result else "",
        teacher=_text(e.get("teacher")),
        student=_name(e.get("student"), "model") if outcome or not result else "",
        seed=_whole(e.get("seed")),
        samples=_whole(outcome.get("samples", planned)),
        accuracy=_share(outcome.get("student_accuracy")),
        agreement=_share(outcome.get("agreement")),
        control=_share(control.get(which)),
    )


# A file may have been spoilt, or written by something else: what is of another kind than it should be says nothing.


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: Any) -> int | None:
    return value if type(value) is int and abs(value) < 2**63 else None


def _share(value: Any) -> float | None:
    return value if isinstance(value, int | float) and 0 <= value <= 1 else None


def _moment(value: Any) -> float:
    """Seconds since 1970, before the year 5000; 0 for anything else."""
    return value if isinstance(value, int | float) and 0 < value < 1e11 else 0.0


def _made_at(run: str) -> float:
    """When a run was made, by its name; 0 where that names no time."""
    try:
        return time.mktime(time.strptime(run[:15], "%Y%m%d-%H%M%S"))
    except (ValueError, OverflowError):
        return 0.0


def _size(path: Path) -> int:
    """Bytes of the files in a run's folder; a study has folders in its own, and so has a run that still goes on."""
    total = 0
    for f in path.rglob("*"):
        with contextlib.suppress(OSError):  # it has just taken the place of another, or gone
            total += f.stat().st_size if f.is_file() else 0
    return total


def _name(value: Any, key: str) -> str:
    """The name in a part of an experiment, which some kinds of runs store by its name alone."""
    return str(value.get(key, "")) if isinstance(value, Mapping) else str(value or "")


_index = threading.Lock()


def entries(key: str | None = None) -> list[Entry]:
    """The runs of an owner, the latest first; None for everybody's.

    An index keeps what was read before, so that only folders that have changed since are opened. It is a mere copy:
    where it is missing, or another process has just written it, folders are read again.
    """
    where = folder()
    if not where.is_dir():
        return []
    with _index:
        stored = read_json(where / "index.json")
        known = _indexed(stored.get("runs")) if stored.get("version") == INDEX_VERSION else {}
        now, found, keep = time.time(), {}, {}
        with os.scandir(where) as places:
            times = {p.name: p.stat().st_mtime_ns for p in places if NAME.fullmatch(p.name)}
        for run, changed in times.items():
            line = known.get(run)
            if line is not None and line[0] == changed:
                found[run] = line[1]
            else:
                try:
                    found[run] = _entry(where / run)
                except OSError:  # it has just been deleted
                    continue
            if changed / 1e9 < now - FRESH:
                keep[run] = [changed, asdict(found[run])]
        if {k: v[0] for k, v in keep.items()} != {k: v[0] for k, v in known.items()}:
            with contextlib.suppress(OSError):
                write_json(where / "index.json", {"version": INDEX_VERSION, "runs": keep}, indent=None)
    listed = [e for e in found.values() if e.kind and (key is None or e.owner == key)]
    return sorted(listed, key=lambda e: (e.created, e.run), reverse=True)


def _indexed(lines: Any) -> dict[str, tuple[int, Entry]]:
    """When runs had changed last, and what was read of them then; lines that something has spoilt are left out."""
    known = {}
    for run, line in lines.items() if isinstance(lines, dict) else ():
        match line:
            case [int(changed), dict(said)] if said.keys() == KINDS.keys():
                if all(isinstance(said[k], kinds) for k, kinds in KINDS.items()):
                    known[run] = changed, Entry(**said)
    return known


TYPES = {"str": str, "bool": bool, "int": int, "float": (int, float), "int | None": (int, NoneType)}
TYPES["float | None"] = (int, float, NoneType)
KINDS = {f.name: TYPES[f.type] for f in fields(Entry)}


def differences(experiments: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Any]]]:
    """The settings in which experiments differ: the name with dots, and the value in each; None where there is none.

    Args:
        experiments: as stored in runs.
    """
    flat = [_flat(e) for e in experiments]
    names = dict.fromkeys(name for values in flat for name in values)
    rows = [(name, [values.get(name) for values in flat]) for name in names]
    return [(name, values) for name, values in rows if any(v != values[0] for v in values)]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def metrics(run: str) -> dict[str, Any]:
    """The losses of a run ("curves": by stage and name), and its results once it has finished; may be empty.

    Raises:
        CakeError: there is no such run.
    """
    found = read_json(find(run) / "metrics.json")
    stages = found.get("curves")
    stages = stages if isinstance(stages, dict) else {}
    return {**found, "curves": {k: v for k, v in stages.items() if _are_curves(v)}}


def _are_curves(values: Any) -> bool:
    """Whether these are losses by name, with the steps at which they were noted."""
    if not isinstance(values, dict) or not all(isinstance(v, list) for v in values.values()):
        return False
    most = len(values.get("step", ()))
    return all(len(v) <= most and all(n is None or isinstance(n, int | float) for n in v) for v in values.values())


def mark(run: str, key: str | None, **marks: Any) -> None:
    """Notes `star` (true or false) or `note` (text) of a run.

    Raises:
        CakeError: there is no such run, or it is somebody else's.
    """
    path = _theirs(run, key)
    if len(marks.get("note", "")) > NOTE_LENGTH:
        raise CakeError(f"A note has at most {NOTE_LENGTH:,} characters. Shorten it.")
    write_json(path / "marks.json", {**read_json(path / "marks.json"), **marks})


def delete(run: str, key: str | None) -> None:
    """Puts a run away; for an hour `undelete` brings it back.

    Raises:
        CakeError: there is no such run, or it is somebody else's.
    """
    path, trash = _theirs(run, key), folder() / "trash"
    trash.mkdir(exist_ok=True)
    path.replace(trash / run)
    os.utime(trash / run)
    now_made(trash / run)
    empty_trash()


def undelete(run: str, key: str | None) -> None:
    """Brings a deleted run back.

    Raises:
        CakeError: it is gone for good, or it is somebody else's.
    """
    path = folder() / "trash" / run
    if not NAME.fullmatch(run) or not path.is_dir():
        raise CakeError(f"This run is gone for good: a deletion can be undone for {MINUTES_IN_TRASH:.0f} minutes.")
    if key is not None and read_json(path / "config.json").get("owner") != key:
        raise CakeError("This run belongs to somebody else.")
    path.replace(folder() / run)


def empty_trash(minutes: float = MINUTES_IN_TRASH) -> None:
    """Removes for good what was deleted so long ago."""
    trash = folder() / "trash"
    for path in trash.iterdir() if trash.is_dir() else ():
        with contextlib.suppress(OSError):
            if is_older(path, 60 * minutes):
                shutil.rmtree(path, ignore_errors=True)


def discard(run: str) -> None:
    """Removes a run that was given up before it had finished."""
    path = folder() / run
    if NAME.fullmatch(run) and not (path / "run.json").exists():
        shutil.rmtree(path, ignore_errors=True)


def made(run: str) -> Path:
    """A folder for what is made of a run on demand: it can be made again, and goes after an hour.

    Raises:
        CakeError: there is no such run.
    """
    find(run)
    place = folder() / "made"
    for path in place.iterdir() if place.is_dir() else ():
        with contextlib.suppress(OSError):
            if path.name != run and is_older(path, 60 * MINUTES_MADE):
                shutil.rmtree(path, ignore_errors=True)
    with noticing_a_full_disk():
        (place / run).mkdir(parents=True, exist_ok=True)
    now_made(place / run)
    return place / run


def adopt(run: str, key: str) -> str:
    """A finished run once more, as another owner's; its files take no more space where the disk can link them.

    Args:
        run: its id.
        key: of the new owner.

    Returns:
        The new run's id.

    Raises:
        CakeError: there is no such run, or there is no room.
    """
    source = find(run)
    with owned_by(key):
        name = create()
    try:
        for path in (p for p in source.iterdir() if p.is_file() and p.suffix != ".part"):
            if path.name == "events.jsonl":
                copy(path, folder() / name / path.name)  # the only one that is written on
            elif path.name not in ("config.json", "marks.json", "run.json", "share.json"):
                _linked(path, folder() / name / path.name)
        about = {**read_json(source / "config.json"), "owner": key, "created": time.time()}
        write_json(folder() / name / "config.json", about)
        _linked(source / "run.json", folder() / name / "run.json")  # last: now it is whole
    except OSError:
        shutil.rmtree(folder() / name, ignore_errors=True)
        raise
    return name


def _linked(source: Path, path: Path) -> None:
    try:
        os.link(source, path)
    except OSError:
        copy(source, path)


def stored_bytes(key: str) -> int:
    """Bytes of all that lies here of an owner: runs, studies, teachers, and data sets.

    Args:
        key: of the owner (see `key_of`).
    """
    from .data import own  # which writes with what is here

    return sum(e.bytes for e in entries(key)) + own.used_bytes(key)


def check_room(key: str, limits: Limits | None = None) -> None:
    """Refuses to begin what will store more, where an owner has as much as one may have.

    Args:
        key: of the owner; empty for nobody in particular, who may store anything.
        limits: what is allowed (None: what the environment says).

    Raises:
        CakeError: saying how much there is, and what to do.
    """
    limits = limits or Limits.from_environment()
    if key and (used := stored_bytes(key)) > limits.max_owner_gb * 1e9:
        raise CakeError(
            f"Your runs and data take {used / 1e9:.3g} GB, and this server keeps {limits.max_owner_gb:.3g} GB for each "
            "browser (CAKE_MAX_OWNER_GB). Delete some on the page Runs, or data that you have brought, and begin again."
        )


def limit() -> int:
    """Bytes that runs may take together: CAKE_MAX_RUNS_GB."""
    return int(Limits.from_environment().max_runs_gb * 1e9)


def _make_room() -> None:
    """Where the space for runs is full, the oldest ones of sessions go, but not those with a star."""
    empty_trash()
    found = entries()
    excess = sum(e.bytes for e in found) - limit()
    if excess < 0:
        return
    empty_trash(0)
    for e in reversed(found):
        # The clock may have been set: what a living process works on is not broken off, whatever it says.
        old = e.created < time.time() - SECONDS_UNTIL_BROKEN_OFF
        done = e.finished or (old and not going_on(e.run))
        if e.owner and done and not e.star and not _is_worked_on(folder() / e.run):
            shutil.rmtree(folder() / e.run, ignore_errors=True)
            excess -= e.bytes
        if excess < 0:
            return
    raise CakeError(
        f"The space for runs is full ({limit() / 1e9:.3g} GB), and those that are left have a star or are not this "
        "server's to remove. Delete some on the page Runs, or set CAKE_MAX_RUNS_GB higher."
    )


def _is_worked_on(path: Path) -> bool:
    """Whether it is a study that had a trial a while ago: a study has results from its first trial on."""
    with contextlib.suppress(OSError):
        return (path / "study.db").stat().st_mtime > time.time() - 60 * MINUTES_OF_A_TRIAL
    return False


def _theirs(run: str, key: str | None) -> Path:
    path = find(run)
    if key is not None and read_json(path / "config.json").get("owner") != key:
        raise CakeError("This run belongs to somebody else, so it can be looked at, but not changed.")
    return path


def read_json(path: Path) -> dict[str, Any]:
    """A file's content; empty where there is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


# -- writing ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives a path to write to; when the block ends well, what was written takes the place of the file at once."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with noticing_a_full_disk():
            yield part
            with part.open("rb+") as f:
                os.fsync(f.fileno())
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def copy(source: Path, path: Path) -> None:
    """Copies a file whole or not at all."""
    with (
        noticing_a_full_disk(),
        tempfile.NamedTemporaryFile("wb", dir=path.parent, suffix=".part", delete=False) as f,
    ):
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


def write_json(path: Path, values: Any, indent: int | None = 1) -> None:
    """Writes a JSON file whole or not at all.

    Raises:
        DiskFull: there is no room for it; what was there before stays.
    """
    text = json.dumps(values, indent=indent) + "\n"
    with noticing_a_full_disk(), tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as f:
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
