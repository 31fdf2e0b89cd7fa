"""Writes the folder of a distillation while it runs: see `cake_core.runs` for what lies in it."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from . import ages, devices, runs
from . import teacher as teachers
from .errors import CakeError
from .frames import DistillationView, decode, encode, is_whole
from .jobs import Ring
from .locks import held
from .pipeline import Distillation, Experiment, Update
from .teacher import Teacher

__all__ = ["Keeper", "Kept", "broken_off", "place", "read_frames", "write_frames"]

FRAMES, BYTES = 120, 3_000_000  # of a run, at most
POINTS = 200  # of each curve, about
SECONDS_BETWEEN_NOTES = 1.0  # of where a run is
SECONDS_BETWEEN_PICTURES = 10.0  # that are kept while mini-batches finish; each stage's end renews them anyway

Curves = dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Kept:
    """What is known of a run that was broken off, and from which it goes on.

    Attributes:
        run: its id.
        experiment: as it began.
        every, in_flight: as it was made.
        edits: what was edited while it went on (see `runs.edits`).
        seen: snapshots that somebody had seen of it.
        teacher: the one that was trained for it, if one was.
    """

    run: str
    experiment: dict[str, Any]
    every: int
    in_flight: int
    edits: list[tuple[int, dict[str, Any]]]
    seen: int
    teacher: Teacher | None

    @classmethod
    def read(cls, run: str) -> Kept:
        """What is kept of a run.

        Raises:
            CakeError: there is no such run, it is finished, it still goes on, or it can't go on here.
        """
        folder, config = runs.find(run), runs.begun(run)
        if (folder / "run.json").is_file():
            raise CakeError("This run has finished, so there is nothing to continue. Look at it on the page Runs.")
        if config.get("kind") != "distill" or not isinstance(config.get("experiment"), dict):
            raise CakeError("What was kept of this run is not enough to continue it. Begin it anew.")
        if runs.going_on(run):
            raise CakeError("This run still goes on. Wait until it has ended.")
        experiment = Experiment.from_dict(config["experiment"])
        before, here = config.get("device", ""), devices.choose(experiment.device).type
        if before and before != here:
            raise CakeError(f"This run was begun on {before}, and here it would go on on {here}. Begin it anew.")
        teacher = None
        if (folder / "teacher.json").is_file():
            with contextlib.suppress(CakeError):  # damaged: it is trained again, with the same seed
                teacher = teachers.load(f"run:{run}")
        known = {**config, "seen": runs.read_json(folder / "place.json").get("seen")}
        every, in_flight, seen = (
            known[k] if type(known.get(k)) is int and least < known[k] < 2**31 else least
            for k, least in (("every", 1), ("in_flight", 0), ("seen", 0))
        )
        planned, made = config.get("planned"), runs.edits(run)
        edits = [(p[0], p[1]) for p in (planned if isinstance(planned, list) else ()) if _is_edit(p)]
        edits = [e for e in edits if e not in made] + made
        edits = sorted(edits, key=lambda e: e[0])
        return cls(run, experiment.to_dict(), every, in_flight, edits, seen, teacher)


def _is_edit(planned: Any) -> bool:
    match planned:
        case [int(), dict()]:
            return True
    return False


def broken_off(experiment: Experiment, edits: Sequence[tuple[int, Mapping[str, Any]]], owner: str = "") -> str:
    """The latest run that was broken off and is the same but for that; empty where there is none.

    Args:
        experiment: as it begins.
        edits: that are planned for it.
        owner: key of its owner.
    """
    for e in runs.entries(owner):
        if e.kind != "distill" or e.finished or e.owner != owner or runs.going_on(e.run):
            continue
        config = runs.begun(e.run)
        planned = [[n, dict(s)] for n, s in edits]
        if config.get("experiment") == experiment.to_dict() and config.get("planned", []) == planned:
            return e.run
    return ""


class Keeper:
    """Keeps what a distillation does. Its folder is made at the first step, so what nobody has begun leaves nothing.

    Args:
        run: the distillation.
        every: a snapshot after every so many steps, as it was made with.
        kept: what the distillation goes on from; None for one that begins.
        planned: edits that were planned before it began.

    Attributes:
        run: the id of the folder, empty before the first step.
        scene: the first message of the live view, where somebody has made it already.
    """

    def __init__(
        self,
        run: Distillation,
        every: int = 1,
        kept: Kept | None = None,
        planned: Sequence[tuple[int, Mapping[str, Any]]] = (),
    ):
        self.run = ""
        self._distillation, self._every = run, every
        self._planned = [[n, dict(s)] for n, s in planned]
        self._ring = Ring(BYTES, FRAMES)
        self.scene: bytes | None = None
        self._view: DistillationView | None = None
        self._curves: Curves = {}
        self._stage, self._ended = "", False
        self._alive = contextlib.ExitStack()
        self._kept, self._looked = kept, False
        self._noted, self._written, self._parts = 0.0, 0.0, 0
        if kept is not None:
            self.run = kept.run
            self._hold()

    # -- while it runs --------------------------------------------------------------------------------------------

    @property
    def hurries(self) -> bool:
        """Whether it is still on its way back to where it was when it was broken off."""
        return self._kept is not None and self._distillation.samples is None and self._seen < self._kept.seen

    @property
    def _seen(self) -> int:
        return self._distillation.seen

    def see(self, update: Update, view: DistillationView) -> None:
        """Takes a moment, before anybody else sees it."""
        self._view = view
        moved = update.snapshot is not None and update.snapshot.step > 0
        if not self.run and (moved or update.stage in ("student", "evaluation")):
            self._begin()
        elif self._kept is not None and not self._looked and self._distillation.synthesis is not None:
            self._go_on()
        self._note_losses(update)
        if self.run and not (runs.folder() / self.run).is_dir():  # deleted while it goes on
            self._begin()
        if self.run and update.stage != self._stage:
            self._stage = update.stage
            runs.log(self.run, "stage", stage=update.stage)
            self._write()
        elif self.run:
            self._note_place()

    def past(self) -> list[bytes]:
        """The frames that were kept of a life before, up to where it goes on."""
        return self._ring.all() if self._looked else []

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
            runs.log(self.run, "edited", settings=settings, snapshots=self._seen)

    # -- how it ends ----------------------------------------------------------------------------------------------

    def finish(self, result: dict[str, Any]) -> str:
        """Writes everything, the results last; returns the run's id.

        Raises:
            DiskFull: there is no room for it; what was kept before stays, and the run can be continued.
        """
        if not self.run or not (runs.folder() / self.run).is_dir():
            self._begin()
        folder, run = runs.find(self.run), self._distillation
        run.save(folder)
        self._write(result)
        runs.log(self.run, "finished")
        how = {"edits": run.edits, "in_flight": run.synthesis.in_flight, "threads": torch.get_num_threads()}
        how["device"] = run.device.type
        about = {"kind": "distill", **result, "begun": run.begun.to_dict(), **how, "digests": runs.digests(self.run)}
        runs.write_json(folder / "run.json", about)
        self._ended = True
        self._leave()
        return self.run

    def failed(self, message: str) -> None:
        """Notes the error that ended it; the folder stays."""
        self._rest("failed", message=message)

    def rest(self) -> None:
        """Puts the run away as it is: it can be continued from here."""
        self._rest("interrupted")

    def close(self) -> None:
        """Removes the folder of a run that somebody has stopped."""
        self._alive.close()
        if self.run and not self._ended:
            runs.discard(self.run)
            self.run = ""

    def _rest(self, event: str, **values: Any) -> None:
        self._ended = True
        if self.run:
            with contextlib.suppress(OSError, CakeError):  # a full disk, or the run was deleted meanwhile
                self._note_place(now=True)
                runs.log(self.run, event, **values)
                self._write()
        self._alive.close()

    def _leave(self) -> None:
        """Removes what only a run that goes on needs."""
        self._alive.close()
        folder = runs.folder() / self.run
        shutil.rmtree(folder / runs.PARTS, ignore_errors=True)
        for left in (folder / runs.LOCK, folder / "place.json", *folder.glob("*.part")):
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        made = self._distillation
        about = {"every": self._every, "in_flight": made.synthesis.in_flight, "device": made.device.type}
        about |= {"planned": self._planned} if self._planned else {}
        self.run = runs.create(kind="distill", experiment=made.begun.to_dict(), **about)
        self._hold()
        if made.trained:
            made.teacher.save(runs.find(self.run), "teacher")
        runs.log(self.run, "begun")
        for number, settings in made.edits:  # made before there was a folder to note them in
            runs.log(self.run, "edited", settings=settings, snapshots=number)
        made.synthesis.keep_in(runs.find(self.run) / runs.PARTS)

    def _hold(self) -> None:
        """Says to other processes that somebody works on the run, for as long as this process lives."""
        self._alive.close()
        with contextlib.suppress(sqlite3.Error):  # a disk so full that not even an empty file finds room
            self._alive.enter_context(held(runs.find(self.run) / runs.LOCK, wait=2))

    def _go_on(self) -> None:
        """Takes back the pictures and the losses up to where the run goes on."""
        self._looked = True
        folder, synthesis = runs.find(self.run), self._distillation.synthesis
        before = synthesis.parts[-1].provenance["seen"] if synthesis.parts else 0
        runs.log(self.run, "continued", snapshots=before)
        done = synthesis.method.steps * len(synthesis.parts)
        before = [decode(m) for m in read_frames(folder / "frames.bin")[1:]] if done else []
        before = [(h, a) for h, a in before if h.get("stage") == "synthesis" and h.get("step", done) <= done]
        for header, arrays in before:  # as if they had just been made: whoever watches has this process's time
            t = ages.milliseconds() + header["t"] - before[-1][0]["t"]
            self._ring.add(encode({**header, "t": t}, arrays))
        curve = runs.metrics(self.run).get("curves", {}).get("synthesis", {})
        count = sum(step <= done for step in curve.get("step", ()))
        if count and all(len(v) >= count for v in curve.values()):
            self._curves["synthesis"] = {k: v[:count] for k, v in curve.items()}

    def _note_place(self, now: bool = False) -> None:
        """Notes where the run is, and renews what was to be seen, now and then."""
        clock = time.monotonic()
        if not now and clock - self._noted < SECONDS_BETWEEN_NOTES:
            return
        self._noted = clock
        if self._kept is None or self._seen > self._kept.seen:
            runs.write_json(runs.find(self.run) / "place.json", {"seen": self._seen, "stage": self._stage})
        parts = len(self._distillation.synthesis.parts) if self._distillation.synthesis else 0
        if parts > self._parts and clock - self._written > SECONDS_BETWEEN_PICTURES:
            self._parts = parts
            self._write()

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
        folder, self._written = runs.find(self.run), time.monotonic()
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
    return keeping_whole(_messages(path.read_bytes())) if path.is_file() else []


def keeping_whole(messages: Iterable[bytes]) -> list[bytes]:
    """The messages that can be read; one that a crash cut off, and what a bad disk has spoilt, is left out."""
    return [message for message in messages if is_whole(message)]


def _messages(raw: bytes) -> Iterator[bytes]:
    at = 0
    while at + 4 <= len(raw):
        (length,) = struct.unpack_from("<I", raw, at)
        yield raw[at + 4 : at + 4 + length]
        at += 4 + length
