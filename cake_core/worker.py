"""The compute process: drives the tasks of all jobs in turns and sends what they show.

Started by `cake_core.jobs` as `python -m cake_core.worker ADDRESS`; the key for the connection comes on stdin. It
ends when its connection does, or with SIGTERM; either way, what its jobs can go on from is on the disk by then.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection
from typing import Any

import torch

from . import devices, runs
from .errors import DISK_FULL, CakeError, disk_is_full
from .pipeline import Update
from .tasks import Task, find

__all__ = ["serve"]

FRAMES_PER_SECOND = 30
EVENTS_PER_SECOND = 5
NICENESS = 5  # the page and the browser, if it is on this machine, come first

log = logging.getLogger(__name__)


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
    kept: str = ""

    @property
    def wants_turn(self) -> bool:
        return self.running or self.priming or self.steps > 0


class Worker:
    """The loop: take commands, give the next turn, send what is to be seen.

    Args:
        connection: to the process that runs the server.
    """

    def __init__(self, connection: Connection):
        self.connection = connection
        self.jobs: dict[str, Running] = {}
        self.threads = os.cpu_count() or 1
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
            self.threads = message["threads"] or self.threads
            return True
        if op == "submit":
            self.submit(name, message["kind"], message["spec"], runs.key_of(message.get("owner", "")))
            return True
        job = self.jobs.get(name)
        if job is None:  # it ended while the command was on its way
            return True
        if op == "play":
            # From now on it gets its share: what it has used before, or has let pass, does not count.
            job.used = min((j.used for j in self.jobs.values() if j.running), default=job.used)
            job.running, job.due = True, time.monotonic()
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
            self.jobs.pop(name)
            job.task.rest()
            job.task.close()
        elif op == "set":
            try:
                job.task.edit(**message["settings"])
                job.version = message["version"]
                self.event(job, "edited", settings=message["settings"], version=job.version)
            except CakeError as error:
                self.event(job, "refused", message=str(error))
        return True

    def submit(self, name: str, kind: str, spec: dict[str, Any], owner: str = "") -> None:
        """Takes on a job."""
        used = min((j.used for j in self.jobs.values() if j.wants_turn), default=0.0)
        try:
            self.jobs[name] = Running(name, find(kind)(**spec), used=used, owner=owner)
        except Exception as error:  # whatever is wrong with one, the others go on
            if disk_is_full(error):
                self.send(b"E", name, _json(event="halted", message=DISK_FULL))
                return
            bug, message = not isinstance(error, CakeError), str(error)
            if bug:
                log.exception("job %s can't begin", name)
                message = f"Something broke inside CAKE Lab ({type(error).__name__}: {error})."
            self.send(b"E", name, _json(event="state", state="failed", message=message, bug=bug))

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
            self.show(job, update, alone)
        now = time.monotonic()
        job.used += now - start
        if job.running:
            job.clock += now - (job.since or start)
            job.since = now
        # Keep the rhythm when a step was late, but do not rush to make up for more than a moment.
        job.due = max(job.due + 1 / job.rate, now - 0.1) if job.rate and not job.task.hurries else now

    @contextlib.contextmanager
    def ending_with_errors(self, job: Running) -> Iterator[None]:
        """Inside the block, an error ends this job, and only this one, with a sentence."""
        try:
            yield
        except CakeError as error:
            self.halt(job) if disk_is_full(error) else self.end(job, "failed", str(error))
        except MemoryError:
            self.end(job, "failed", "The memory is full. Choose fewer samples or mini-batches and start again.")
        except Exception as error:
            if devices.is_out_of_memory(error):
                self.end(job, "failed", "The device's memory is full. Choose fewer samples and start again.")
                return
            if disk_is_full(error):
                self.halt(job)
                return
            log.exception("job %s broke", job.name)
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
        if last or alone or now - job.last_frame >= 0.9 / FRAMES_PER_SECOND:
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
        self.jobs.pop(job.name, None)
        if state == "failed":
            job.task.fail(message)
        job.task.close()
        self.event(job, "state", state=state, message=message, bug=bug)

    def halt(self, job: Running) -> None:
        """Lets a job go for which the disk has no room: once there is some, it goes on from what was kept."""
        self.jobs.pop(job.name, None)
        job.task.rest()
        job.task.close()
        self.event(job, "halted", message=DISK_FULL)

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


def _json(**values: Any) -> bytes:
    return json.dumps(values).encode()


def serve(address: str, key: bytes) -> None:
    """Connects to the server and works until the connection ends."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    gone = contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError)
    # Ctrl+C goes to all processes of a terminal: the server hears of it and says what is to be done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Client(address, authkey=key) as connection, gone:
        worker = Worker(connection)
        signal.signal(signal.SIGTERM, worker.end_soon)
        worker.run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s worker %(message)s")
    serve(sys.argv[1], bytes.fromhex(sys.stdin.readline().strip()))
