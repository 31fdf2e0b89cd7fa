"""What many ask for is computed once: a job for all of them, whose frames are played to each at a pace of their own.

The same settings and seed give the same samples, so nobody sees anything else than a run of one's own would have shown.
Who changes a setting, asks for details or sets two runs side by side leaves the others: from then on the run is
computed for this one alone, from the step that was shown.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import logs, runs
from .errors import CakeError
from .frames import decode

if TYPE_CHECKING:
    from .jobs import Job, JobRunner, Message

__all__ = ["OWNER", "Recording", "Replayer", "public"]

OWNER = "shared"  # whose the computed ones are: nobody's, and they share what one owner gets
MOST_STEPS = 2000  # of a run that is shared: each is a frame that is kept
REMEMBERED = 3600.0  # seconds for which it counts that somebody has asked for an experiment
ABANDONED = 60.0  # seconds after which a computation that nobody follows is given up
TICK = 1 / 60
EVENTS_PER_SECOND = 5
LOOK = {"sample": 0}  # details that frames are recorded with: what the view of images opens with


def public(kind: str, spec: Mapping[str, Any]) -> str:
    """The key under which a job may be shared; empty where it may not: it is of somebody's own data, or too long."""
    if kind != "distill" or set(spec) != {"experiment"}:
        return ""
    e = spec["experiment"]
    names = (e.get("data", {}).get("name", ""), e.get("teacher", ""))
    if names[0].startswith("own-") or names[1].startswith("run:") or e.get("settings", {}).get("steps", 0) > MOST_STEPS:
        return ""
    return json.dumps(e, sort_keys=True)


@dataclass(frozen=True)
class Moment:
    """A frame, and where it is in its run: stage, step, progress; and the words about it."""

    frame: bytes
    stage: str
    step: int
    progress: float
    note: str


@dataclass(eq=False)
class Recording:
    """What one computation has shown so far.

    Attributes:
        source: the job that computes.
        frames: all of them, each with its moment.
        primed: how many are to be seen before anybody presses Play; None as long as that is all.
        bytes: of the frames.
        lost: whether it has come to nothing: its followers compute for themselves.
        used: when somebody followed it last.
    """

    source: Job
    frames: list[Moment] = field(default_factory=list)
    primed: int | None = None
    bytes: int = 0
    lost: bool = False
    used: float = field(default_factory=time.monotonic)

    def take(self, message: Message) -> None:
        """A message of the source, in a thread of the runner."""
        if isinstance(message, str):
            self.lost = self.lost or self.source.state in ("failed", "stopped")
        elif message is not self.source.scene:
            header, _ = decode(message)
            step = header.get("step", 0)
            self.frames.append(Moment(message, header["stage"], step, header["progress"], self.source.note))
            self.bytes += len(message)


@dataclass(eq=False)
class Player:
    """One job that is played.

    Attributes:
        at: frames that it has shown.
        rate: frames a second, 0 for as many as there are.
        due: when the next one is.
        told: when its progress was last told.
        finishing: whether everything was shown, and what was stored is being stored for its owner.
    """

    job: Job
    recording: Recording
    at: int = 0
    running: bool = False
    steps: int = 0
    rate: float = 30.0
    due: float = 0.0
    told: float = 0.0
    scene_sent: bool = False
    finishing: bool = False

    @property
    def reached(self) -> tuple[str, int] | None:
        """The stage and the step that were shown last; None before anything was."""
        return (m.stage, m.step) if self.at and (m := self.recording.frames[self.at - 1]) else None


class Replayer:
    """Plays what was computed once to all who asked for it. To the runner it is a process like others.

    Args:
        runner: whose jobs it plays.
    """

    def __init__(self, runner: JobRunner):
        self.runner = runner
        self.recordings: dict[str, Recording] = {}
        self._players: dict[str, Player] = {}
        self._asked: dict[str, dict[str, float]] = {}
        self._wake, self._closing = threading.Event(), threading.Event()
        self._storing = ThreadPoolExecutor(1, thread_name_prefix="cake-replays-store")
        threading.Thread(target=self._loop, name="cake-replays", daemon=True).start()

    # -- for the runner, which holds its lock ---------------------------------------------------------------------

    def wanted(self, kind: str, spec: Mapping[str, Any], browser: str) -> bool:
        """Notes that somebody asks for a job; whether it is to be played, as another browser has asked for the same."""
        if not browser or browser == OWNER or not (key := public(kind, spec)):
            return False
        now, asked = time.monotonic(), self._asked.setdefault(key, {})
        asked[browser] = now
        for known in list(self._asked):
            kept = {b: t for b, t in self._asked[known].items() if now - t < REMEMBERED}
            self._asked[known] = kept
            if not kept:
                del self._asked[known]
        return len(asked) > 1

    def has(self, wishes: Mapping[str, Any]) -> bool:
        """Whether what somebody wants to see is in the frames."""
        return all(v is None or v is False or (k in LOOK and v == LOOK[k]) for k, v in wishes.items())

    def send(self, op: str, job: str = "", **values: Any) -> None:
        """Does what a compute process would do with a command."""
        with self.runner.lock:  # after a pause nothing comes any more
            self._obey(op, job, values)
        self._wake.set()

    def _obey(self, op: str, job: str, values: Mapping[str, Any]) -> None:
        if op == "submit":
            found = self.runner.find(job)
            self._players[job] = Player(found, self._recording(found), rate=30.0 if found.rate is None else found.rate)
        player = self._players.get(job)
        if player is None:
            return
        if op == "stop":
            del self._players[job]
        elif op == "rate":
            player.rate = values["rate"]
        elif op in ("play", "pause", "step"):
            player.running, player.steps = op == "play", int(op == "step")
            player.due = time.monotonic()
            if op != "pause":
                self._start(player.recording)

    def release(self, job: Job) -> tuple[str, int] | None:
        """Lets go of a job, which is computed from now on; returns the stage and the step that it has shown."""
        player = self._players.pop(job.name, None)
        return player.reached if player else None

    def close(self) -> None:
        """Ends the thread."""
        self._closing.set()
        self._wake.set()
        self._storing.shutdown(wait=False, cancel_futures=True)

    def computes(self, job: Job) -> bool:
        """Whether a job is computed for those who are played to."""
        return job.browser == OWNER

    def drop(self, recording: Recording) -> None:
        """Forgets a computation; who sees it gone from here finds its job gone too."""
        self.runner.forget(recording.source)
        for key in [k for k, r in self.recordings.items() if r is recording]:
            del self.recordings[key]

    # -- inside -----------------------------------------------------------------------------------------------------

    def _recording(self, job: Job) -> Recording:
        """What has been computed of a job's experiment; begun now where there is nothing yet."""
        key = public(job.kind, job.spec)
        found = self.recordings.get(key)
        if found is None or found.lost:
            spec = json.loads(json.dumps(job.spec))  # its own: edits of others must not reach it
            source = self.runner.submit(job.kind, spec, owner=f"{OWNER}.{len(self.recordings)}.{job.name}")
            found = self.recordings[key] = Recording(source)
            for message in source.subscribe(found.take):
                found.take(message)
            source.pace(0)
            source.look(**LOOK)
            self.runner.command(source, "film")
            logs.note("job_shared", job=logs.which(source.name), kind=job.kind)
        found.used = time.monotonic()
        return found

    def _start(self, recording: Recording) -> None:
        if recording.primed is None:
            recording.primed = max(1, len(recording.frames))
            recording.source.play()

    def _loop(self) -> None:
        while not self._closing.is_set():
            with self.runner.lock:
                now = time.monotonic()
                for player in list(self._players.values()):
                    player.recording.used = now
                    self._advance(player, now)
                self._tidy(now)
                moving = any(p.running or p.steps or not p.at for p in self._players.values())
            self._wake.wait(TICK if moving else 1.0)
            self._wake.clear()

    def _advance(self, player: Player, now: float) -> None:
        """Shows what is due."""
        job, recording = player.job, player.recording
        if recording.lost or recording.bytes > self.runner.limits.max_shared_mb * 5e5:
            self.runner.compute(job)
            return
        if not player.scene_sent and (scene := recording.source.scene) is not None:
            player.scene_sent = True
            self.runner.deliver(job, b"S", scene)
        there = len(recording.frames)
        primed = there if recording.primed is None else recording.primed
        while player.at < there:
            if player.at >= primed and not player.steps:
                if not player.running or player.due > now:
                    break
                player.due = max(player.due + 1 / player.rate, now - 0.1) if player.rate else now
            player.steps -= player.at >= primed and player.steps > 0
            moment = recording.frames[player.at]
            player.at += 1
            self.runner.deliver(job, b"F", moment.frame)
            if now - player.told >= 1 / EVENTS_PER_SECOND or player.at == there:
                player.told = now
                left = (there - player.at) / player.rate if player.rate and recording.source.state == "done" else None
                where = {"progress": moment.progress, "stage": moment.stage, "note": moment.note}
                self.runner.change(job, **where, seconds_left=left)
        if player.running and player.at == there:
            if recording.source.state == "done" and not player.finishing:
                player.finishing = True
                self._storing.submit(self._finish, player)  # the disk may take its time: others go on
            elif now - player.told >= 1:
                place, player.told = self.runner.position(recording.source), now
                waits = f"Waits for its turn to be computed, place {place} in the queue" if place else "Computing"
                self.runner.change(job, note=waits)

    def _finish(self, player: Player) -> None:
        """The end: what was stored is stored for this owner too."""
        job, result = player.job, player.recording.source.result
        try:
            run = runs.adopt(result["run"], runs.key_of(job.owner))
        except (CakeError, OSError):  # it has been deleted meanwhile, or there is no room
            self.runner.compute(job)
            return
        with self.runner.lock:
            if self._players.get(job.name) is not player:  # it was begun anew, or has gone, meanwhile
                runs.delete(run, None)
                return
            del self._players[job.name]
            job.result = {**result, "run": run}
            self.runner.change(job, state="done", message="", progress=1.0)

    def _tidy(self, now: float) -> None:
        """Gives up computations that nobody follows, and forgets the oldest where there are too many frames."""
        followed = {id(p.recording) for p in self._players.values()}
        free = sorted((r for r in self.recordings.values() if id(r) not in followed), key=lambda r: r.used)
        excess = sum(r.bytes for r in self.recordings.values()) - self.runner.limits.max_shared_mb * 1e6
        for recording in free:
            unfinished = recording.source.state != "done" and now - recording.used > ABANDONED
            if unfinished or recording.lost or excess > 0:
                excess -= recording.bytes
                self.drop(recording)
