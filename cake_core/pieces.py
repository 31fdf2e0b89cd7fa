"""What a job has finished, on the disk: one whose process was killed goes on from there, and comes to the same numbers.

A piece is one file, written whole: values as JSON, and tensors. The pieces of a job lie in a folder that belongs to its
kind, its spec and its owner, to this code, and to the type of device; it goes when the job ends. A job that begins with
pieces reads them where it would have made them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from . import runs
from .ages import is_older

__all__ = ["NOWHERE", "Halfway", "Piece", "Pieces", "read", "write"]

DAYS = 14.0  # for which pieces are kept that nobody has gone on with, as long as the journal's entries
SECONDS = 10.0  # between two moments of a training that are stored, at least
SHARE = 0.05  # of the time that storing may take
ENDING = ".piece"


@dataclass(frozen=True)
class Piece:
    """Something that is finished, or a moment of something.

    Attributes:
        values: what JSON can hold.
        tensors: by name, on the CPU.
    """

    values: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def part(self, name: str) -> Piece:
        """One of those that were joined (see `joined`)."""
        inside = {k.partition("/")[2]: t for k, t in self.tensors.items() if k.partition("/")[0] == name}
        return Piece(self.values["parts"][name], inside)


def joined(parts: Mapping[str, Piece], values: Mapping[str, Any]) -> Piece:
    """Several pieces as one, so that all of them are of the same moment."""
    tensors = {f"{name}/{k}": t for name, part in parts.items() for k, t in part.tensors.items()}
    return Piece({**values, "parts": {name: part.values for name, part in parts.items()}}, tensors)


def write(path: Path, piece: Piece) -> None:
    """Writes a piece whole or not at all.

    Raises:
        DiskFull: there is no room for it.
    """
    tensors = {k: t.detach().cpu().contiguous() for k, t in piece.tensors.items()}
    text = json.dumps(piece.values)
    for attempt in range(2):
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another job of the same kind, spec and owner has just ended
            with runs.whole(path) as part:
                save_file(tensors, part, {"values": text, "digest": _digest(text, tensors)})
            return
        if attempt:
            return  # it is there to save time, and no reason to fail


def read(path: Path) -> Piece | None:
    """A piece; None where there is none, or it is damaged: then it is made again."""
    try:
        with safe_open(path, "pt") as f:
            told, tensors = f.metadata(), {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
        if told["digest"] != _digest(told["values"], tensors):
            return None
        return Piece(json.loads(told["values"]), tensors)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        found.update(f"{name} {tuple(tensors[name].shape)} {tensors[name].dtype}".encode())
        found.update(tensors[name].reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


class Pieces:
    """The pieces of one job.

    Args:
        folder: where they lie; None keeps nothing, and finds nothing.
    """

    def __init__(self, folder: Path | None = None):
        self.folder = folder
        self._rests = False

    @classmethod
    def of(cls, kind: str, spec: Mapping[str, Any], device: str = "cpu") -> Pieces:
        """Those of the job that does just this, for the owner that runs are made for here and now (`runs.owner`).

        Args:
            kind, spec: of the job.
            device: the type of device it computes on: elsewhere the numbers would be others.
        """
        what = [kind, spec, runs.owner(), runs.code()["source"], torch.__version__, device]
        digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]
        return cls(runs.folder() / "unfinished" / digest)

    def get(self, name: str) -> Piece | None:
        """A piece that was finished before; None where it was not."""
        return None if self.folder is None else read(self._path(name))

    def put(self, name: str, values: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None) -> None:
        """Keeps a piece.

        Raises:
            DiskFull: there is no room for it.
        """
        if self.folder is None:
            return
        if not self.folder.parent.is_dir() or not self.folder.is_dir():
            _sweep(self.folder.parent)
        write(self._path(name), Piece(dict(values), dict(tensors or {})))

    def drop(self, name: str) -> None:
        """Removes a piece that nobody needs any more."""
        if self.folder is not None:
            with contextlib.suppress(OSError):
                self._path(name).unlink(missing_ok=True)

    def halfway(self, name: str, notes: Callable[[], dict[str, Any]] = dict) -> Halfway | None:
        """Where a training is stored every so often; None where nothing is kept."""
        return None if self.folder is None else Halfway(self, name, notes)

    def within(self, name: str) -> Pieces:
        """Those of a part of the job, which can be removed together."""
        return Pieces(None if self.folder is None else self.folder / name)

    def file(self, name: str) -> Path | None:
        """Where something else may be stored among them; None where nothing is kept."""
        return None if self.folder is None else self.folder / name

    def rest(self) -> None:
        """The job will go on later: from now on `end` leaves everything as it is."""
        self._rests = True

    def end(self) -> None:
        """Removes all of them, for the job has ended."""
        if self.folder is not None and not self._rests:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{ENDING}"


NOWHERE = Pieces()


class Halfway:
    """Where a training is stored every so often, and when it is done.

    Args:
        pieces, name: where.
        notes: gives what else is stored with it, when it is.
    """

    def __init__(self, pieces: Pieces, name: str, notes: Callable[[], dict[str, Any]] = dict):
        self._pieces, self._name, self._notes = pieces, name, notes
        self._stored, self._took = time.monotonic(), 0.0

    @cached_property
    def noted(self) -> dict[str, Any]:
        """What was stored with it before anything is stored now."""
        found = self.begun()
        return found.values.get("notes", {}) if found is not None else {}

    def begun(self) -> Piece | None:
        """Where it was when it was stored last; None where it has to begin."""
        return self._pieces.get(self._name)

    @property
    def due(self) -> bool:
        """Whether it is time to store it again."""
        return time.monotonic() - self._stored >= max(SECONDS, self._took / SHARE)

    def keep(self, piece: Piece) -> None:
        """Stores where it is.

        Raises:
            DiskFull: there is no room for it.
        """
        start = time.monotonic()
        self._pieces.put(self._name, {**piece.values, "notes": self._notes()}, piece.tensors)
        self._stored = time.monotonic()
        self._took = self._stored - start


def _sweep(folder: Path) -> None:
    """Removes the pieces of jobs that nobody has gone on with for long."""
    for path in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(OSError):
            if is_older(path, 86_400 * DAYS):
                shutil.rmtree(path, ignore_errors=True)
