"""The job runner: the server's side. It starts compute processes, hands jobs to them, and keeps what they show.

Nothing here computes. A process that dies is replaced; its jobs are marked failed with the reason, others go on.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import CakeError

if TYPE_CHECKING:
    from .journal import Left

__all__ = ["ACTIVE", "GOES_ON", "Job", "JobRunner", "Limits", "end_all"]

log = logging.getLogger(__name__)

# States of a job. "ready" and "paused" hold memory but take no time; a "queued" one waits for its turn to run.
ACTIVE = ("ready", "running", "paused", "queued")
Message = bytes | str


@dataclass(frozen=True)
class Limits:
    """What one server allows. Each can be set by an environment variable, CAKE_ and the name in capitals.

    Attributes:
        max_running: jobs that compute at the same time, each in its turn; more wait in a queue.
        max_jobs_per_owner: jobs that one session may hold; the oldest that does not run makes way for a new one.
        idle_minutes: a paused job that nobody has looked at for so long is ended.
        unwatched_seconds: a running job that nobody has watched for so long gives its place to one that waits, and
            waits itself.
        ring_bytes: frames kept of each job, for those who come later.
        max_sets_per_owner: data sets that one session may bring.
        max_upload_mb: megabytes of a file of data.
        max_teacher_mb: megabytes of a teacher's file; never more than 300.
        max_uploads_gb: gigabytes of all that was brought and is kept.
        max_runs_gb: gigabytes of all finished runs; the oldest without a star make way for new ones.
        threads: on how many the CPU computes with images; 0 for all cores.
    """

    max_running: int = 8
    max_jobs_per_owner: int = 6
    idle_minutes: float = 30.0
    unwatched_seconds: float = 15.0
    ring_bytes: int = 6_000_000
    max_sets_per_owner: int = 5
    max_upload_mb: int = 20
    max_teacher_mb: int = 300
    max_uploads_gb: float = 10.0
    max_runs_gb: float = 10.0
    threads: int = 0

    @classmethod
    def from_environment(cls) -> Limits:
        """The limits that the environment sets, and the defaults for the rest."""
        given = {k: os.environ.get(f"CAKE_{k.upper()}") for k in cls.__dataclass_fields__}
        try:
            return cls(**{k: type(getattr(cls, k))(float(v)) for k, v in given.items() if v})
        except ValueError as error:
            raise CakeError(f"One of the environment variables CAKE_* is not a number: {error}.") from None


class Ring:
    """The frames of a job, spread over all of its life: when it is full, every second frame goes.

    Args:
        most: bytes to keep.
        count: frames to keep.
    """

    def __init__(self, most: int, count: int = 240):
        self.most, self.count = most, count
        self.clear()

    def clear(self) -> None:
        """Forgets all frames."""
        self.frames: list[bytes] = []
        self._latest: bytes | None = None
        self._stride, self._seen, self._bytes = 1, 0, 0

    def add(self, frame: bytes) -> None:
        """Takes the next frame."""
        self._latest = frame
        self._seen += 1
        if self._seen % self._stride:
            return
        self.frames.append(frame)
        self._bytes += len(frame)
        if self._bytes > self.most or len(self.frames) > self.count:
            self.frames = self.frames[1::2]
            self._bytes = sum(map(len, self.frames))
            self._stride *= 2

    def all(self) -> list[bytes]:
        """What is kept, and the latest frame in any case."""
        if self._latest is None or (self.frames and self.frames[-1] is self._latest):
            return list(self.frames)
        return [*self.frames, self._latest]


@dataclass(eq=False)
class Job:
    """A job as the server knows it. Commands return at once; what comes of them arrives as messages.

    Attributes:
        name: unguessable; who knows it may watch and steer.
        kind, spec: what it does.
        owner: the session it belongs to.
        state: see `ACTIVE`; or "done", "failed", "stopped".
        message: why it failed.
        progress, stage, note, seconds_left: where it is.
        version: counts the edits of its settings.
        wishes: what somebody wants to see in its frames.
        partner: the job that it goes in lock-step with: a command to one is a command to both.
        result: what it delivered.
        page: the page that began it, if it is one that offers to go on with it.
        away: whether its process knows nothing of it until it is played.
        deaths: processes in a row that died with it and did not get further with it; `fell_at`, how far that was.
    """

    name: str
    kind: str
    spec: dict[str, Any]
    owner: str
    runner: JobRunner = field(repr=False)
    worker: str = "compute"
    state: str = "ready"
    message: str = ""
    progress: float = 0.0
    stage: str = ""
    note: str = ""
    seconds_left: float | None = None
    version: int = 0
    rate: float | None = None
    wishes: dict[str, Any] = field(default_factory=dict)
    partner: Job | None = field(default=None, repr=False)
    result: dict[str, Any] | None = None
    page: str = ""
    away: bool = False
    deaths: int = 0
    fell_at: float = 0.0
    scene: bytes | None = field(default=None, repr=False)
    ring: Ring = field(default=None, repr=False)
    touched: float = field(default_factory=time.monotonic)
    subscribers: set[Callable[[Message], None]] = field(default_factory=set, repr=False)

    # -- commands -----------------------------------------------------------------------------------------------

    @property
    def together(self) -> tuple[Job, ...]:
        """It, and the job that it goes in lock-step with."""
        return (self,) if self.partner is None else (self, self.partner)

    def play(self) -> None:
        """Lets it run, or queues it where too many run already."""
        for job in self.together:
            self.runner.play(job)

    def pause(self) -> None:
        """Holds it after the step it is in."""
        for job in self.together:
            if job.state in ("running", "queued"):
                self.runner.command(job, "pause")
                self.runner.change(job, state="paused", message="")

    def step(self) -> None:
        """One step, then hold."""
        for job in self.together:
            if job.state in ACTIVE:
                self.runner.fetch(job)
                self.runner.command(job, "step")
                self.runner.change(job, state="paused", message="")

    def stop(self) -> None:
        """Ends it."""
        if self.state in ACTIVE:
            self.runner.command(self, "stop")
            self.runner.change(self, state="stopped", message="")
            self.runner.give_up(self)

    def reset(self) -> None:
        """Begins it anew, with the settings it has now."""
        for job in self.together:
            self.runner.reset(job)

    def set(self, **settings: Any) -> int:
        """Changes settings while it runs; returns the version that frames will carry once they count."""
        self.version += 1
        self.runner.command(self, "set", settings=settings, version=self.version)
        return self.version

    def pace(self, steps_per_second: float) -> None:
        """How fast it may go; 0 for as fast as it can."""
        for job in self.together:
            job.rate = steps_per_second
            self.runner.command(job, "rate", rate=steps_per_second)

    def touch(self) -> None:
        """Somebody is interested in it, though not by the live view."""
        self.touched = time.monotonic()

    def look(self, **wishes: Any) -> None:
        """What somebody wants to see in the frames."""
        self.wishes = wishes
        self.runner.command(self, "look", wishes=wishes)

    # -- what it shows ------------------------------------------------------------------------------------------

    def subscribe(self, receive: Callable[[Message], None]) -> list[Message]:
        """From now on `receive` gets each message, in a thread of the runner; returns those that came before."""
        with self.runner.lock:
            self.subscribers.add(receive)
            self.touched = time.monotonic()
            past: list[Message] = [self.status()]
            return past + ([self.scene] if self.scene else []) + self.ring.all()

    def unsubscribe(self, receive: Callable[[Message], None]) -> None:
        """No more messages to `receive`."""
        with self.runner.lock:
            self.subscribers.discard(receive)
            self.touched = time.monotonic()

    def status(self) -> str:
        """Where it is, as a JSON message."""
        keys = ("state", "message", "progress", "stage", "note", "seconds_left", "version", "rate", "result")
        queue = self.runner.position(self)
        return json.dumps({"type": "status", **{k: getattr(self, k) for k in keys}, "queue": queue})


class WorkerProcess:
    """One compute process and the thread that listens to it. It can be told things before it is up.

    Args:
        receive: gets each message: its kind, the job's name, the content.
        ended: called when the process has gone, with the reason.
    """

    def __init__(self, receive: Callable[[bytes, str, bytes], None], ended: Callable[[WorkerProcess, str], None]):
        self._receive, self._ended = receive, ended
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._unsent: list[bytes] = []
        self.closing = False
        self.connected = False
        self._key = secrets.token_bytes(32)
        self._folder = tempfile.mkdtemp(prefix="cake-")
        unix = sys.platform != "win32"
        self._listener = Listener(
            f"{self._folder}/worker" if unix else None, "AF_UNIX" if unix else "AF_PIPE", authkey=self._key
        )
        # Not multiprocessing: its spawn would run the page again in the child.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cake_core.worker", self._listener.address],
            stdin=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        with self.process.stdin as stdin:
            stdin.write(self._key.hex() + "\n")
        for work in (self._listen, self._watch):
            threading.Thread(target=work, name=f"cake-worker{work.__name__}", daemon=True).start()

    def send(self, **message: Any) -> None:
        """Sends a command. That the process has just gone is noticed by the listener, not here."""
        text = json.dumps(message).encode()
        with self._lock:
            if self._connection is None:
                self._unsent.append(text)
                return
            with contextlib.suppress(OSError):
                self._connection.send_bytes(text)

    def close(self) -> None:
        """Asks the process to put its jobs away and to end."""
        self.closing = True
        self.send(op="quit")

    def wait(self, until: float) -> None:
        """Waits until it has ended, and ends it by force when it is too late.

        Args:
            until: a time of `time.monotonic`.
        """
        try:
            self.process.wait(timeout=max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()

    def _listen(self) -> None:
        try:
            connection = self._listener.accept()
            with self._lock:
                for text in self._unsent:
                    connection.send_bytes(text)
                self._connection = connection
            while True:
                message = connection.recv_bytes()
                self.connected = True
                self._receive(message[:1], message[1:33].decode().strip(), message[33:])
        except (EOFError, OSError, AuthenticationError):
            pass
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        code = self.process.wait()
        if not self.closing:
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            self._ended(self, name)

    def _watch(self) -> None:
        """A process that dies before it has called leaves the listener waiting: call in its place."""
        self.process.wait()
        if self._connection is None:
            with contextlib.suppress(OSError, EOFError, AuthenticationError):
                Client(self._listener.address, authkey=self._key).close()


class JobRunner:
    """All jobs of one server.

    Args:
        limits: what it allows.
    """

    def __init__(self, limits: Limits | None = None):
        from .journal import Journal  # which knows where runs lie, and runs know the limits above

        self.limits = limits or Limits.from_environment()
        self.journal = Journal()
        self.lock = threading.RLock()
        self.jobs: dict[str, Job] = {}
        self._queue: deque[Job] = deque()
        self.counts = dict.fromkeys(("process_deaths", "jobs_failed", "jobs_done", "frames"), 0)
        self._heirs: dict[str, str] = {}  # by the key of what was left: the name of the job that goes on with it
        self._workers: dict[str, WorkerProcess] = {}
        self._early_deaths: dict[str, int] = {}
        self._closing = threading.Event()
        threading.Thread(target=self._reap, name="cake-reaper", daemon=True).start()
        _living.add(self)
        atexit.register(self.close)

    # -- for pages and sockets ----------------------------------------------------------------------------------

    def submit(
        self, kind: str, spec: dict[str, Any], *, owner: str = "", play: bool = False, page: str = "", message: str = ""
    ) -> Job:
        """Makes a job. It shows its beginning; with `play` it also runs.

        Args:
            kind, spec: what it does.
            owner: whose it is.
            play: whether it runs at once.
            page: that offers to go on with it after the server was started again.
            message: what whoever watches it is told until it is played; then it waits as a paused one.

        Raises:
            CakeError: the owner has too many jobs that run.
        """
        with self.lock:
            self._make_room(owner)
            worker = "umap" if spec.get("how") == "umap" else OWN.get(kind, "compute")
            job = Job(secrets.token_urlsafe(18), kind, spec, owner, self, worker, ring=Ring(self.limits.ring_bytes))
            job.page, job.message, job.state = page, message, "paused" if message else "ready"
            self.jobs[job.name] = job
            self._hand_over(job)
            if page or "resume" in spec:
                self.note(job)
            if play:
                self.play(job)
            return job

    def pair(self, one: Job, other: Job) -> None:
        """From now on two jobs go in lock-step: neither takes a step more than the other, while both have some left."""
        with self.lock:
            for job, partner in ((one, other), (other, one)):
                job.partner = partner
                self.command(job, "pair", partner=partner.name)

    def processes(self) -> dict[str, int]:
        """The compute processes that are up, by name: their process ids."""
        return {name: worker.process.pid for name, worker in self._workers.items()}

    def find(self, name: str) -> Job | None:
        """The job of that name, if it is still known."""
        return self.jobs.get(name)

    def take_up(self, left: Left, owner: str, experiment: dict[str, Any]) -> Job:
        """A distillation that a server has left, where it was; it waits until somebody plays it.

        Args:
            left: from the journal.
            owner: whose it is now.
            experiment: with the settings that it has by now.

        Raises:
            CakeError: the owner has too many jobs that run.
        """
        from . import runs

        until = time.monotonic() + SECONDS_TO_END
        while runs.going_on(left.spec["resume"]) and time.monotonic() < until:
            time.sleep(0.1)  # the process of the server before is putting it away
        spec, sentence = {**left.spec, "experiment": experiment}, f"{left.sentence} {GO_ON}"
        job = self.submit("distill", spec, owner=owner, message=sentence)
        self.journal.forget(left.key)
        self._heirs[left.key] = job.name
        return job

    def begun_by(self, owner: str, page: str) -> Job | None:
        """The latest job that a page began for the browser of an owner, and that has not ended; None for none."""
        secret = owner.partition(".")[0]
        mine = [j for j in self.jobs.values() if j.page == page and j.owner.partition(".")[0] == secret]
        return next((j for j in reversed(mine) if page and secret and j.state in ACTIVE), None)

    def heir(self, name: str) -> Job | None:
        """The job that goes on with one of this name, of a server before; None where there is none."""
        from .journal import key_of

        return self.find(self._heirs.get(key_of(name), ""))

    def put_away(self, job: Job) -> None:
        """Ends a job as `forget` does, but so that it can be continued where it has come to something."""
        if job.state == "done" and job.kind == "distill" and (job.result or {}).get("run"):
            job.spec["resume"] = job.result["run"]
            self.note(job, why="done")
            with self.lock:
                self.jobs.pop(job.name, None)
            return
        if job.state not in ACTIVE or job.partner is not None or not ("resume" in job.spec or job.page):
            self.forget(job)
            return
        self.command(job, "rest")
        self.note(job, why="idle")
        job.state = "stopped"
        with self.lock:
            self.jobs.pop(job.name, None)

    def forget(self, job: Job) -> None:
        """Ends a job and drops what is kept of it."""
        job.stop()
        if job.partner is not None:
            job.partner.partner = job.partner = None
        with self.lock:
            self.jobs.pop(job.name, None)

    def close(self) -> None:
        """Ends all processes, within a few seconds. Whoever watches a job is told; what it can go on from is kept."""
        until = time.monotonic() + SECONDS_TO_END
        with self.lock:
            told, workers = self._closing.is_set(), list(self._workers.values())
            self._closing.set()
            for job in self.jobs.values():
                if job.state in ACTIVE and not told:
                    job.message = CLOSING
                    self._publish(job, job.status())
        for worker in workers:
            worker.close()
        for worker in workers:
            worker.wait(until)
        self.journal.close()

    # -- for jobs -----------------------------------------------------------------------------------------------

    def play(self, job: Job) -> None:
        """Lets a job run, or queues it where too many run already."""
        with self.lock:
            if job.state not in ("ready", "paused"):
                return
            self.fetch(job)
            job.message = ""
            if self._room() <= 0 and not self._take_turns():
                self._queue.append(job)
                self.change(job, state="queued")
                return
            self.command(job, "play")
            self.change(job, state="running")

    def reset(self, job: Job) -> None:
        """Begins a job anew."""
        with self.lock:
            if job.state in ACTIVE:
                self.command(job, "stop")
            self.give_up(job)
            job.ring.clear()
            job.scene, job.result, job.message = None, None, ""
            job.away, job.deaths, job.fell_at = False, 0, 0.0
            if job.page:
                self.note(job)
            job.progress, job.stage, job.note, job.seconds_left = 0.0, "", "", None
            self._hand_over(job)
            self.change(job, state="ready")

    def command(self, job: Job, op: str, **values: Any) -> None:
        """Sends a command about a job to its process."""
        job.touched = time.monotonic()
        if worker := self._workers.get(job.worker):
            worker.send(op=op, job=job.name, **values)

    def fetch(self, job: Job) -> None:
        """Hands a job over whose process knows nothing of it (any more)."""
        if job.away:
            job.away = False
            self._begin_again(job)

    def give_up(self, job: Job) -> None:
        """Nobody wants to go on with what a job has kept."""
        job.spec.pop("resume", None)
        self.journal.drop(job.name)

    def note(self, job: Job, why: str = "") -> None:
        """Notes on the disk what a job does, so that it can be gone on with when this server dies."""
        spec = {k: v for k, v in job.spec.items() if k != "experiment"} if "resume" in job.spec else job.spec
        self.journal.note(job.name, job.kind, spec, job.owner, job.page, why)

    def position(self, job: Job) -> int | None:
        """Its place in the queue, from 1; None where it does not wait."""
        with self.lock:
            return self._queue.index(job) + 1 if job in self._queue else None

    def change(self, job: Job, **values: Any) -> None:
        """Notes something about a job and tells its subscribers; lets queued jobs follow where there is room."""
        with self.lock:
            for key, value in values.items():
                setattr(job, key, value)
            if (ended := f"jobs_{values.get('state')}") in self.counts:
                self.counts[ended] += 1
            if job in self._queue and job.state != "queued":
                self._queue.remove(job)
            self._publish(job, job.status())
            if values.get("state") not in (None, "running", "queued"):
                self._follow()
            if "state" in values:
                for waiting in self._queue:
                    self._publish(waiting, waiting.status())

    # -- inside -------------------------------------------------------------------------------------------------

    def _room(self) -> int:
        """How many more jobs may run."""
        return self.limits.max_running - sum(j.state == "running" for j in self.jobs.values())

    def _follow(self) -> None:
        """Lets the first in the queue run, where there is room."""
        if self._queue and self._room() > 0:
            following = self._queue.popleft()
            following.state = "paused"
            self.play(following)

    def _take_turns(self) -> bool:
        """Sends the job that has been unwatched for longest to the end of the queue; False where all are watched."""
        limit = time.monotonic() - self.limits.unwatched_seconds
        alone = [j for j in self.jobs.values() if j.state == "running" and not j.subscribers and j.touched < limit]
        if not alone:
            return False
        resting = min(alone, key=lambda j: j.touched)
        self.command(resting, "pause")
        self._queue.append(resting)
        self.change(resting, state="queued")
        return True

    def _hand_over(self, job: Job) -> None:
        worker = self._workers.get(job.worker)
        if worker is None:
            worker = self._workers[job.worker] = WorkerProcess(self._receive, self._ended)
            worker.send(op="begin", threads=self.limits.threads)
        worker.send(op="submit", job=job.name, kind=job.kind, spec=job.spec, owner=job.owner)
        if job.rate is not None:
            worker.send(op="rate", job=job.name, rate=job.rate)
        if job.wishes:
            worker.send(op="look", job=job.name, wishes=job.wishes)
        if job.partner is not None:
            worker.send(op="pair", job=job.name, partner=job.partner.name)

    def _make_room(self, owner: str) -> None:
        """Drops the oldest job of an owner that does not run, where the owner has as many as are allowed."""
        theirs = [j for j in self.jobs.values() if j.owner == owner]
        if len(theirs) < self.limits.max_jobs_per_owner:
            return
        resting = [j for j in theirs if j.state not in ("running", "queued") and not j.subscribers]
        if not resting:
            raise CakeError(
                f"As many of your runs are going on as may ({len(theirs)}). Stop one before you start another."
            )
        self.put_away(min(resting, key=lambda j: j.touched))

    def _receive(self, kind: bytes, name: str, content: bytes) -> None:
        """A message from a process, in its listener's thread."""
        with self.lock:
            job = self.jobs.get(name)
            if job is None:
                return
            if kind == b"S":
                job.scene = content
                self._publish(job, content)
            elif kind == b"F":
                self.counts["frames"] += 1
                job.ring.add(content)
                self._publish(job, content)
            elif kind == b"A":  # a frame once more, with details that somebody asked for: nothing to keep
                self._publish(job, content)
            else:
                self._event(job, json.loads(content))

    def _event(self, job: Job, values: dict[str, Any]) -> None:
        event = values.pop("event")
        if event == "progress":
            self.change(job, **values)
        elif event == "kept":
            if values["run"]:
                job.spec["resume"] = values["run"]
                self.note(job)
        elif event == "halted":  # the disk is full: it goes on when somebody plays it, and there is room by then
            job.away = True
            self.change(job, state="paused", message=values["message"])
        elif event == "result":
            job.result = values
        elif event == "edited":
            # What was changed while it ran also holds when it begins anew.
            experiment = job.spec.get("experiment")
            if experiment is not None:
                experiment["settings"].update(values["settings"])
        elif event == "refused":
            self._publish(job, json.dumps({"type": "refused", "message": values["message"]}))
        elif event == "state" and values["state"] != "stopped":  # that it stopped was noted when it was asked to
            self.give_up(job)
            self.change(job, state=values["state"], message=values["message"])

    def _publish(self, job: Job, message: Message) -> None:
        for receive in list(job.subscribers):
            receive(message)

    def _ended(self, worker: WorkerProcess, reason: str) -> None:
        """A process has died: replace it, say so in its jobs, and let the others go on."""
        with self.lock:
            if self._closing.is_set():
                return
            name = next(k for k, w in self._workers.items() if w is worker)
            del self._workers[name]
            self.counts["process_deaths"] += 1
            deaths = 0 if worker.connected else self._early_deaths.get(name, 0) + 1
            self._early_deaths[name] = deaths
            log.warning("the %s process ended (%s)", name, reason)
            theirs = [j for j in self.jobs.values() if j.worker == name and j.state in ACTIVE and not j.away]
            for job in theirs:
                job.deaths = job.deaths + 1 if job.progress <= job.fell_at else 1
                job.fell_at = job.progress
            goes_on = [j for j in theirs if deaths < MOST_EARLY_DEATHS and (j.kind in GOES_ON or not _is_begun(j))]
            # The others first: as soon as a lost one makes room, one of them may be told to play.
            for job in goes_on:
                self._go_on(job, reason)
            message = (
                f"The compute process ended unexpectedly ({reason}), and this run with it. "
                "A new process is ready: begin it again."
            )
            if deaths >= MOST_EARLY_DEATHS:
                message = f"The compute process does not start ({reason}). The server's log says why."
            for job in theirs:
                if job not in goes_on:
                    self.change(job, state="failed", message=message)

    def _go_on(self, job: Job, reason: str) -> None:
        """A new process goes on with a job whose process has died; unless that seems to be the job's doing."""
        if job.deaths >= MOST_DEATHS:
            job.away = True
            again = f"The compute process has ended {job.deaths} times at the same place of this run ({reason}). "
            self.change(job, state="paused", message=again + AGAIN)
            return
        if job.partner is not None:
            job.spec.pop("resume", None)  # two in lock-step begin anew together
        self._begin_again(job)
        if job.state == "running":
            self.command(job, "play")
        if _is_begun(job):
            words = GOING_ON[job.state == "running"]
            self.change(job, message=f"The compute process ended unexpectedly ({reason}). {words}")

    def _begin_again(self, job: Job) -> None:
        """Hands a job over to a process that has not seen it; what was to be seen of it comes again."""
        job.ring.clear()
        job.scene = None
        self._hand_over(job)

    def _reap(self) -> None:
        """Ends jobs that do not run and that nobody has looked at for long; frees places for those that wait."""
        while not self._closing.wait(5):
            with self.lock:
                if self._queue and self._queue[0].subscribers and self._take_turns():
                    self._follow()
                limit = time.monotonic() - 60 * self.limits.idle_minutes
                for job in list(self.jobs.values()):
                    if not job.subscribers and job.state not in ("running", "queued") and job.touched < limit:
                        self.put_away(job)


def end_all() -> None:
    """Ends the compute processes of all runners of this process, and waits for it; again is no harm."""
    for runner in list(_living):
        runner.close()


_living: weakref.WeakSet[JobRunner] = weakref.WeakSet()


def _is_begun(job: Job) -> bool:
    """Whether a job has come to more than its first picture, or is on its way to it."""
    return job.state == "running" or job.progress > BEGUN


# What goes on beside the long runs: pictures, so that nobody waits for them, and files of others, which may bring a
# process down; and studies, which take for hours what they can get. UMAP has a process for itself, for it takes seconds
# in one piece.
OWN = {
    "embedding": "aside",
    "import": "aside",
    "pictures": "aside",
    "export": "aside",
    "tune": "tune",
    "tune-final": "tune",
}
GOES_ON = ("distill", "grid", "steal-sweep", "lineup", "tune", "tune-final")  # where a process before has left them
MOST_DEATHS = 3  # of processes at the same place of a job
SECONDS_TO_END = 7.0  # for compute processes, when the server ends; containers are killed after ten
GO_ON = "What was finished is kept: press Play to go on where it was, or Reset to begin anew."
AGAIN = "Press Play to try once more from what was kept, or Reset, and choose fewer samples."
GOING_ON = {
    True: "A new one goes on with this run from what was kept.",
    False: "What was finished is kept: press Play to go on where it was.",
}
CLOSING = "The server is being stopped. What was finished is kept: come back to this page when it is up again."
BEGUN = 0.02  # a job with less progress than this has only shown its first picture, and can show it again
MOST_EARLY_DEATHS = 3  # of processes that never said a word: something is wrong that a new one won't mend
