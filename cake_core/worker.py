"""The compute process: drives the tasks of all jobs in turns and sends what they show.

Started by `cake_core.jobs` as `python -m cake_core.worker ADDRESS`; the key for the connection comes on stdin. It
ends when its connection does, or with SIGTERM; either way, what its jobs can go on from is on the disk by then.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Client, Connection
from typing import Any, get_args

import torch

from . import admission, devices, keeping, logs, runs
from .errors import DISK_FULL, CakeError, disk_is_full
from .limits import Limits
from .pipeline import Stage, Update
from .tasks import Task, find

__all__ = ["serve"]

FRAMES_PER_SECOND = 30
EVENTS_PER_SECOND = 5
GONE = (EOFError, BrokenPipeError, ConnectionResetError)  # the server is not there any more
NICENESS = 5  # the page and the browser, if it is on this machine, come first


@dataclass
class Running:
    """One job as the worker knows it.

    Attributes:
        task: the work.
        running: whether it wants turns.
        steps: turns that it gets though it is not running: it was asked for a single step.
        priming: whether it still gets turns until there is something to see.
        rate: steps per second it may take (0: as many as it can).
        version: counts the edits of its settings.
        used: seconds of work it has had, by which turns are given.
        due: when its next step may be taken.
        clock: seconds for which it has been running, and `since` when they were last counted.
        unseen: the last step, where it has not been shown.
        partner: the job that it goes in lock-step with, by name; empty for none.
        taken: turns that it has had since there was something to see.
        owner: key of the owner of what it stores (see `runs.key_of`).
        weight: its share of the time, 1 as a rule.
        began: when it was first told to play.
        spent: seconds of work that it has had since.
        film: whether each step is shown, however fast they come.
        forward: the stage and step to which nothing is shown, for somebody has seen that part already; None where it
            is beyond.
        later: commands that wait until it is there.
        kept: the run that the server knows it can go on from.
    """

    name: str
    task: Task
    scene_sent: bool = False
    running: bool = False
    steps: int = 0
    priming: bool = True
    rate: float = FRAMES_PER_SECOND
    version: int = 0
    used: float = 0.0
    due: float = 0.0
    clock: float = 0.0
    since: float | None = None
    last_frame: float = 0.0
    last_event: float = 0.0
    unseen: Update | None = None
    partner: str = ""
    taken: int = 0
    owner: str = ""
    weight: float = 1.0
    began: float | None = None
    spent: float = 0.0
    film: bool = False
    forward: tuple[str, int] | None = None
    later: list[dict[str, Any]] = field(default_factory=list)
    kept: str = ""

    @property
    def wants_turn(self) -> bool:
        return self.running or self.priming or self.steps > 0 or self.forward is not None


class Worker:
    """The loop: take commands, give the next turn, send what is to be seen.

    Args:
        connection: to the process that runs the server.
    """

    def __init__(self, connection: Connection):
        self.connection = connection
        self.jobs: dict[str, Running] = {}
        self.threads = os.cpu_count() or 1
        self.limits = Limits()
        self.ledger = admission.Ledger(self.limits)
        self.ending = self._waiting = False

    def run(self) -> None:
        """Works until the server asks to quit, or has gone, or `end_soon` is called; nothing is lost by it."""
        try:
            self._work()
        except _EndNow:
            pass
        finally:
            for job in self.jobs.values():
                with contextlib.suppress(Exception):  # whatever is wrong with one, the others are put away
                    job.task.rest()

    def end_soon(self, *_: Any) -> None:
        """Ends the loop behind the step that it is in; a handler for a signal."""
        self.ending = True
        if self._waiting:
            raise _EndNow

    def _work(self) -> None:
        while not self.ending:
            now = time.monotonic()
            waiting = [j for j in self.jobs.values() if j.wants_turn and not self.ahead(j)]
            ready = [j for j in waiting if j.due <= now]
            patience = 0 if ready else max(0.0, min((j.due for j in waiting), default=now + 60) - now)
            self._waiting = True
            there = not self.ending and self.connection.poll(patience)
            self._waiting = False
            if there:
                if not self.command(json.loads(self.connection.recv_bytes())):
                    return
                continue  # commands first: a pause must not wait for another step
            if ready:
                self.turn(min(ready, key=lambda j: j.used))

    def ahead(self, job: Running) -> bool:
        """Whether a job has to wait for the one that it goes in lock-step with."""
        partner = self.jobs.get(job.partner)
        return partner is not None and partner.wants_turn and job.taken > partner.taken

    def catch_up(self, job: Running) -> None:
        """Where one of two in lock-step was paused a step before the other, it takes that step too."""
        partner = self.jobs.get(job.partner)
        if partner is None or job.running or partner.running:
            return
        behind, other = sorted((job, partner), key=lambda j: j.taken)
        behind.steps = other.taken - behind.taken

    # -- commands -----------------------------------------------------------------------------------------------

    def command(self, message: dict[str, Any]) -> bool:
        """Does what the server asks; False when it asks to quit."""
        op, name = message["op"], message.get("job", "")
        if op == "quit":
            return False
        if op == "begin":
            self.limits = Limits(**message["limits"])
            self.threads = self.limits.threads or self.threads
            self.ledger = admission.Ledger(self.limits)
            logs.begin(message["name"])
            return True
        if op == "submit":
            owner = runs.key_of(message.get("owner", ""))
            self.submit(name, message["kind"], message["spec"], owner, message.get("weight", 1.0))
            return True
        job = self.jobs.get(name)
        if job is None:  # it ended while the command was on its way
            return True
        if job.forward and op in ("set", "look", "step"):
            job.later.append(message)
            return True
        if op == "play" and self.admitted(job):
            # From now on it gets its share: what it has used before, or has let pass, does not count.
            job.used = min((j.used for j in self.jobs.values() if j.running), default=job.used)
            job.running, job.due = True, time.monotonic()
        elif op == "ask":
            self.admitted(job, only_ask=True)
        elif op == "pause":
            job.running, job.steps, job.since = False, 0, None
            self.catch_up(job)
            if job.unseen is not None:
                with self.ending_with_errors(job):  # what stands still is what it has come to
                    self.show(job, job.unseen, alone=True)
        elif op == "step":
            job.running, job.steps, job.since, job.due = False, 1, None, time.monotonic()
        elif op == "pair":
            job.partner = message["partner"]
        elif op == "film":
            job.film = True
        elif op == "forward":
            job.forward, job.due = (message["stage"], message["step"]), time.monotonic()
        elif op == "rate":
            job.rate, job.due = message["rate"], time.monotonic()
        elif op == "look":
            job.task.look(**message["wishes"])
            with self.ending_with_errors(job):  # a paused job has to show it without a step
                if (frame := job.task.again()) is not None:
                    self.send(b"A", job.name, frame)
        elif op == "stop":
            self.end(job, "stopped")
        elif op == "rest":
            self.put_away(job)
        elif op == "set":
            try:
                job.task.edit(**message["settings"])
                job.version = message["version"]
                self.event(job, "edited", settings=message["settings"], version=job.version)
            except CakeError as error:
                self.event(job, "refused", message=str(error))
        return True

    def submit(self, name: str, kind: str, spec: dict[str, Any], owner: str = "", weight: float = 1.0) -> None:
        """Takes on a job."""
        used = min((j.used for j in self.jobs.values() if j.wants_turn), default=0.0)
        try:
            with runs.owned_by(owner):
                job = Running(name, find(kind)(**spec), used=used, owner=owner, weight=weight)
        except Exception as error:  # whatever is wrong with one, the others go on
            if disk_is_full(error):
                self.send(b"E", name, _json(event="halted", message=DISK_FULL))
                return
            about, bug, message = {"job": logs.which(name), "kind": kind, "owner": owner[:8]}, False, str(error)
            if not isinstance(error, CakeError):
                bug, message = True, f"Something broke inside CAKE Lab ({type(error).__name__}: {error})."
            logs.note("job_failed", "error" if bug else "warning", trace=bug, **about, reason=message, bug=bug)
            self.send(b"E", name, _json(event="state", state="failed", message=message, bug=bug))
            return
        self.jobs[name] = job
        with self.ending_with_errors(job):
            if (needed := job.task.need()) is not None:
                self.ledger.check(needed, job.task.less)

    def admitted(self, job: Running, only_ask: bool = False) -> bool:
        """Lets a job play where there is memory, and room for what it will store; otherwise it is told why not."""
        with self.ending_with_errors(job):
            runs.check_room(job.owner, self.limits)
            if waits := self.ledger.ask(job.name, job.task.need()):
                self.event(job, "waits", message=waits)
                return False
            if only_ask:  # it is let in already, so that nobody takes the room before it is played
                self.event(job, "fits")
                return True
            if job.began is None:
                job.began, job.spent = time.monotonic(), 0.0
                logs.note("job_began", **self.about(job), device=job.task.device_type)
            return True
        return False

    def about(self, job: Running) -> dict[str, str]:
        """What each line of the log says of a job."""
        return {"job": logs.which(job.name), "kind": job.task.kind, "owner": job.owner[:8]}

    # -- turns --------------------------------------------------------------------------------------------------

    def turn(self, job: Running) -> None:
        """One step of one job, and what there is to see of it."""
        start = time.monotonic()
        with self.ending_with_errors(job), runs.owned_by(job.owner):
            if torch.get_num_threads() != (threads := job.task.threads or self.threads):
                torch.set_num_threads(threads)
            update = next(job.task, None)
            if update is None:
                self.event(job, "result", **job.task.finish())
                self.end(job, "done")
                return
            alone = not job.running
            if job.unseen is not None and job.unseen.stage != update.stage:
                self.show(job, job.unseen, alone=True)  # what a stage has come to in the end
            job.steps = max(0, job.steps - 1)
            job.taken += not job.priming
            job.priming = job.priming and not job.task.primed(update)
            if job.task.kept != job.kept:
                job.kept = job.task.kept
                self.event(job, "kept", run=job.kept)
            if not job.forward:
                self.show(job, update, alone)
            elif _beyond(update, *job.forward):
                self.arrive(job)
        now = time.monotonic()
        self.charge(job, now - start)
        if job.running:
            job.clock += now - (job.since or start)
            job.since = now
        # Keep the rhythm when a step was late, but do not rush to make up for more than a moment.
        job.due = max(job.due + 1 / job.rate, now - 0.1) if job.rate and not self.hurries(job) else now

    def hurries(self, job: Running) -> bool:
        """Whether a job is still on its way to where somebody has seen it already, and takes no time on the way."""
        return job.forward is not None or job.task.hurries

    def charge(self, job: Running, seconds: float) -> None:
        """Counts what a job has had. An owner's jobs share what one job of another owner gets, each by its weight."""
        theirs = sum(j.owner == job.owner and j.wants_turn for j in self.jobs.values()) if job.owner else 1
        job.used += seconds * max(1, theirs) / job.weight
        job.spent += seconds

    def arrive(self, job: Running) -> None:
        """A job is where somebody has seen it; from now on it is shown, and does what it was told meanwhile."""
        job.task.scene()  # was sent already; the view wants to have made it
        job.scene_sent, job.forward = True, None
        later, job.later = job.later, []
        for message in later:
            self.command(message)

    @contextlib.contextmanager
    def ending_with_errors(self, job: Running) -> Iterator[None]:
        """Inside the block, an error ends this job, and only this one, with a sentence."""
        try:
            yield
        except CakeError as error:
            self.halt(job) if disk_is_full(error) else self.end(job, "failed", str(error))
        except GONE:
            raise
        except MemoryError:
            self.end(job, "failed", "The memory is full. Choose fewer samples or mini-batches and start again.")
        except Exception as error:
            if devices.is_out_of_memory(error):
                self.end(job, "failed", "The device's memory is full. Choose fewer samples and start again.")
                return
            if disk_is_full(error):
                self.halt(job)
                return
            self.end(job, "failed", f"Something broke inside CAKE Lab ({type(error).__name__}: {error}).", bug=True)

    def show(self, job: Running, update: Update, alone: bool) -> None:
        """Sends scene, frame and progress, as often as they are wanted; `alone`: after a step that was asked for."""
        now = time.monotonic()
        if not job.scene_sent and (scene := job.task.scene()) is not None:
            self.send(b"S", job.name, scene)
            job.scene_sent = True
            for frame in job.task.past():
                self.send(b"F", job.name, frame)
        last = update.progress >= 1
        if last or alone or job.film or now - job.last_frame >= 0.9 / FRAMES_PER_SECOND:
            frame = job.task.frame(update, job.version, last)
            if frame is not None:
                self.send(b"F", job.name, frame)
                job.last_frame = now
            job.unseen = None
        else:
            job.unseen = update
        if last or alone or now - job.last_event >= 1 / EVENTS_PER_SECOND:
            left = job.clock * (1 - update.progress) / update.progress if update.progress > 0.02 else None
            self.event(
                job, "progress", progress=update.progress, stage=update.stage, note=update.note, seconds_left=left
            )
            job.last_event = now

    def end(self, job: Running, state: str, message: str = "", bug: bool = False) -> None:
        """Lets a job go and says how it ended."""
        self.let_go(job)
        if job.began is not None or state == "failed":
            seconds = None if job.began is None else round(time.monotonic() - job.began, 3)
            told = {"seconds": seconds, "computed": round(job.spent, 3), "device": job.task.device_type}
            told |= {"reason": message, "bug": bug} if state == "failed" else {}
            level = "error" if bug else "warning" if state == "failed" else "info"
            logs.note(f"job_{state}", level, trace=bug, **self.about(job), **told)
        if state == "failed":
            job.task.fail(message)
        job.task.close()
        self.event(job, "state", state=state, message=message, bug=bug)

    def halt(self, job: Running) -> None:
        """Lets a job go for which the disk has no room: once there is some, it goes on from what was kept."""
        self.put_away(job)
        self.event(job, "halted", message=DISK_FULL)

    def put_away(self, job: Running) -> None:
        """Lets a job go such that another process can go on from what it has kept."""
        self.let_go(job)
        job.task.rest()
        job.task.close()

    def let_go(self, job: Running) -> None:
        """Forgets a job; the memory that it was let in with is for others."""
        self.jobs.pop(job.name, None)
        self.ledger.gone(job.name)

    def event(self, job: Running, event: str, **values: Any) -> None:
        """Tells the server something about a job."""
        self.send(b"E", job.name, _json(event=event, **values))

    def send(self, kind: bytes, name: str, content: bytes) -> None:
        """Sends a message about a job: one byte for its kind, 32 for the job's name, the content."""
        try:
            self.connection.send_bytes(kind + name.encode().ljust(32) + content)
        except OSError:
            raise _EndNow from None  # the server has gone: that is no fault of the job


class _EndNow(BaseException):
    """There is nobody to work for any more, and the loop ends at once; no job catches this."""


def _beyond(update: Update, stage: str, step: int) -> bool:
    """Whether an update is as far as a step of a stage, or further."""
    order = get_args(Stage)
    at = order.index(update.stage), keeping.place(update)[0]
    return at >= (order.index(stage), step)


def _json(**values: Any) -> bytes:
    return json.dumps(values).encode()


def serve(address: str, key: bytes) -> None:
    """Connects to the server and works until the connection ends."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    # Ctrl+C goes to all processes of a terminal: the server hears of it and says what is to be done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Client(address, authkey=key) as connection, contextlib.suppress(*GONE):
        worker = Worker(connection)
        signal.signal(signal.SIGTERM, worker.end_soon)
        worker.run()


if __name__ == "__main__":
    logs.begin("worker")
    serve(sys.argv[1], bytes.fromhex(sys.stdin.readline().strip()))
