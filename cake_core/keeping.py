"""Writes the folder of a distillation while it runs: see `cake_core.runs` for what lies in it."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from . import runs
from .frames import DistillationView
from .jobs import Ring
from .pipeline import Distillation, Update

__all__ = ["Keeper", "place", "read_frames", "write_frames"]

FRAMES, BYTES = 120, 3_000_000  # of a run, at most
POINTS = 200  # of each curve, about

Curves = dict[str, dict[str, list[float]]]


class Keeper:
    """Keeps what a distillation does. Its folder is made at the first step, so what nobody has begun leaves nothing.

    Args:
        run: the distillation.
        every: a snapshot after every so many steps, as it was made with.

    Attributes:
        run: the id of the folder, empty before the first step.
        scene: the first message of the live view, where somebody has made it already.
    """

    def __init__(self, run: Distillation, every: int = 1):
        self.run = ""
        self._distillation, self._every = run, every
        self._ring = Ring(BYTES, FRAMES)
        self.scene: bytes | None = None
        self._view: DistillationView | None = None
        self._curves: Curves = {}
        self._stage, self._finished, self._failed = "", False, False

    # -- while it runs --------------------------------------------------------------------------------------------

    def see(self, update: Update, view: DistillationView) -> None:
        """Takes a moment, before anybody else sees it."""
        self._view = view
        moved = update.snapshot is not None and update.snapshot.step > 0
        if not self.run and (moved or update.stage in ("student", "evaluation")):
            self._begin()
        self._note_losses(update)
        if self.run and not (runs.folder() / self.run).is_dir():  # deleted while it goes on
            self._begin()
        if self.run and update.stage != self._stage:
            self._stage = update.stage
            runs.log(self.run, "stage", stage=update.stage)
            self._write()

    def keep(self, frame: bytes | None) -> None:
        """Takes a frame of the live view."""
        if frame is not None:
            self._ring.add(frame)

    def wants(self, update: Update) -> bool:
        """Whether a frame of this moment is worth making where nobody watches: some for each stage."""
        now, total = place(update)
        return update.progress >= 1 or (total > 0 and (now == total or now % max(1, total // (FRAMES // 2)) == 0))

    def edited(self, settings: dict[str, Any]) -> None:
        """Notes that settings were changed while it runs."""
        if self.run:
            runs.log(self.run, "edited", settings=settings, snapshots=self._distillation._seen)

    # -- how it ends ----------------------------------------------------------------------------------------------

    def finish(self, result: dict[str, Any]) -> str:
        """Writes everything, the results last; returns the run's id."""
        if not self.run or not (runs.folder() / self.run).is_dir():
            self._begin()
        folder, run = runs.find(self.run), self._distillation
        run.save(folder)
        self._write(result)
        runs.log(self.run, "finished")
        how = {"edits": run.edits, "in_flight": run.synthesis.in_flight, "threads": torch.get_num_threads()}
        how["device"] = run.device.type
        runs.write_json(folder / "run.json", {"kind": "distill", **result, "begun": run.begun.to_dict(), **how})
        self._finished = True
        return self.run

    def failed(self, message: str) -> None:
        """Notes the error that ended it; the folder stays."""
        self._failed = True
        if self.run:
            with contextlib.suppress(OSError):
                runs.log(self.run, "failed", message=message)
                self._write()

    def close(self) -> None:
        """Removes the folder of a run that somebody has stopped."""
        if self.run and not self._finished and not self._failed:
            runs.discard(self.run)
            self.run = ""

    # -- inside -----------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self.run = runs.create(kind="distill", experiment=self._distillation.begun.to_dict(), every=self._every)
        runs.log(self.run, "begun")

    def _note_losses(self, update: Update) -> None:
        now, total = place(update)
        if not (total and (now % max(1, total // POINTS) == 0 or now == total)):
            return
        curve = self._curves.setdefault(update.stage, {"step": []})
        if curve["step"] and curve["step"][-1] == now:
            return
        if (s := update.snapshot) is not None:
            if not s.losses:
                return
            losses = {k: s.weights[k] * v.sum().item() / s.labels.numel() for k, v in s.losses.items()}
        else:
            losses = {"loss": update.training.loss}
        curve["step"].append(now)
        for name, value in losses.items():
            curve.setdefault(name, []).append(value)

    def _write(self, result: dict[str, Any] | None = None) -> None:
        """Renews the frames and the numbers, so that a crash later leaves them."""
        folder = runs.find(self.run)
        if self.scene is None and self._view is not None:
            self.scene = self._view.scene()
        if self.scene is not None and self._ring.all():
            write_frames(folder / "frames.bin", [self.scene, *self._ring.all()])
        runs.write_json(folder / "metrics.json", {"curves": self._curves, **(result or {})}, indent=None)


def place(update: Update) -> tuple[int, int]:
    """How many steps or updates of how many the stage has done; (0, 0) where it counts none."""
    if update.snapshot is not None:
        return update.snapshot.step, update.snapshot.total
    return (update.training.update, update.training.total) if update.training is not None else (0, 0)


def write_frames(path: Path, messages: Iterable[bytes]) -> None:
    """Messages of the live view, each behind its length; the scene first."""
    with runs.whole(path) as part:
        part.write_bytes(b"".join(struct.pack("<I", len(m)) + m for m in messages))


def read_frames(path: Path) -> list[bytes]:
    """The inverse of `write_frames`; empty where there is no file."""
    return list(_messages(path.read_bytes())) if path.is_file() else []


def _messages(raw: bytes) -> Iterator[bytes]:
    at = 0
    while at + 4 <= len(raw):
        (length,) = struct.unpack_from("<I", raw, at)
        yield raw[at + 4 : at + 4 + length]
        at += 4 + length
