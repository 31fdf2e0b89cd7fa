"""The job runner: the server's side. It starts compute processes, hands jobs to them, and keeps what they show.

Nothing here computes. A process that dies is replaced; its jobs are marked failed with the reason, others go on.
"""

from __future__ import annotations

import atexit
import contextlib
import heapq
import json
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import access, cluster, logs
from .errors import CakeError
from .limits import Limits, check_sizes

if TYPE_CHECKING:
    from .journal import Left
    from .replays import Replayer

__all__ = ["ACTIVE", "GOES_ON", "Job", "JobRunner", "end_all"]

# States of a job. "ready" and "paused" hold memory but take no time; a "queued" one waits for its turn to run.
ACTIVE = ("ready", "running", "paused", "queued")
Message = bytes | str
WATCH = "w."  # what passes begin with, and no job's name does


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
        name: unguessable, and yet no key: whoever shows or steers it asks for its owner, too.
        kind, spec: what it does.
        owner: the session it belongs to.
        state: see `ACTIVE`; or "done", "failed", "stopped".
        message: why it failed.
        progress, stage, note, seconds_left: where it is.
        waits: why it waits, where that is not for its turn.
        version: counts the edits of its settings.
        wishes: what somebody wants to see in its frames.
        partner: the job that it goes in lock-step with: a command to one is a command to both.
        result: what it delivered.
        shared: the pass of the link by which others may watch it; empty where it is not shared.
        shown: the pass by which an instructor watches it; empty where none has asked.
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
    waits: str = ""
    began: float | None = field(default=None, repr=False)
    version: int = 0
    rate: float | None = None
    wishes: dict[str, Any] = field(default_factory=dict)
    partner: Job | None = field(default=None, repr=False)
    result: dict[str, Any] | None = None
    shared: str = ""
    shown: str = ""
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

    def stop(self, message: str = "") -> None:
        """Ends it.

        Args:
            message: what its owner is told, where somebody else has ended it.
        """
        if self.state in ACTIVE:
            self.runner.command(self, "stop")
            self.runner.change(self, state="stopped", message=message)
            self.runner.give_up(self)

    def reset(self) -> None:
        """Begins it anew, with the settings it has now."""
        for job in self.together:
            self.runner.reset(job)

    def set(self, /, **settings: Any) -> int:
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

    def share(self) -> str:
        """Lets others watch it; returns the pass that their link holds."""
        self.shared = self.shared or WATCH + access.new_pass()
        return self.shared

    def show(self) -> str:
        """The pass by which an instructor may watch it; its owner's link is another, and ends without it."""
        self.shown = self.shown or WATCH + access.new_pass()
        return self.shown

    def opens(self, given: str) -> bool:
        """Whether a pass opens it, to be watched."""
        return access.fits(self.shared, (given,)) or access.fits(self.shown, (given,))

    def unshare(self) -> None:
        """Nobody else may watch it any more; those who do are told to go."""
        self.shared = ""
        self.runner.change(self)

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
        keys = ("state", "message", "progress", "stage", "note", "seconds_left", "waits", "version", "rate", "result")
        queue = {"queue": self.runner.position(self), "wait": self.runner.waiting_seconds(self)}
        return json.dumps({"type": "status", **{k: getattr(self, k) for k in keys}, **queue})

    @property
    def browser(self) -> str:
        """Whose it is: the owner's sessions count as one. Empty for the server's own."""
        return self.owner.partition(".")[0]


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
        self.refused = ""  # why there can't be such a process at all; known of those in a cluster alone
        self.threads = 0
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

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

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
        check: looks at kind and spec of each new job, and raises a `CakeError` where its owner may not have it.
        engine: where compute processes run, "embedded" or "ray" (empty: what CAKE_ENGINE says).
    """

    def __init__(
        self,
        limits: Limits | None = None,
        check: Callable[[str, dict[str, Any]], None] | None = None,
        engine: str = "",
    ):
        from .journal import Journal  # which knows where runs lie, and runs know the limits above

        self.limits = limits or Limits.from_environment()
        self.check = check or (lambda kind, spec: None)
        self.engine = engine or cluster.engine()
        self.journal = Journal()
        self.lock = threading.RLock()
        self.jobs: dict[str, Job] = {}
        self._queue: deque[Job] = deque()
        self.counts = dict.fromkeys(("process_deaths", "jobs_failed", "jobs_done", "frames"), 0)
        self._durations: deque[float] = deque(maxlen=16)  # seconds that finished jobs have taken
        self._heirs: dict[str, str] = {}  # by the key of what was left: the name of the job that goes on with it
        self._workers: dict[str, WorkerProcess | cluster.ClusterProcess] = {}
        self._early_deaths: dict[str, int] = {}
        self._replayer: Replayer | None = None
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
            CakeError: the owner has too many jobs that run, or the job is larger than may be.
        """
        self.check(kind, spec)
        try:
            check_sizes(spec, self.limits)
        except CakeError as error:
            logs.note("job_refused", "warning", kind=kind, owner=logs.who(owner), reason=str(error))
            raise
        with self.lock:
            self._make_room(owner)
            worker = "umap" if spec.get("how") == "umap" else OWN.get(kind, "compute")
            if self.limits.max_shared_mb and self.replayer.wanted(kind, spec, owner.partition(".")[0]):
                worker = REPLAY
            elif worker == "compute":
                worker = self._least_busy()
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
            for job in (one, other):
                self.compute(job)
            if other.worker != one.worker and other.state in ACTIVE:  # who goes in step stands side by side
                self.command(other, "stop")
                other.worker = one.worker
                self._hand_over(other)
            for job, partner in ((one, other), (other, one)):
                job.partner = partner
                self.command(job, "pair", partner=partner.name)

    def processes(self) -> dict[str, int]:
        """The compute processes that are up, by name: their process ids."""
        return {name: worker.pid for name, worker in self._workers.items()}

    @property
    def replayer(self) -> Replayer:
        """Plays what many have asked for."""
        if self._replayer is None:
            from . import replays  # which stores what is played, with what imports this

            self._replayer = replays.Replayer(self)
        return self._replayer

    def compute(self, job: Job) -> None:
        """From now on a job that is played is computed, from where it is."""
        with self.lock:
            if job.worker != REPLAY:
                return
            reached, running = self.replayer.release(job), job.state == "running"
            job.worker = OWN.get(job.kind) or self._least_busy()
            self._hand_over(job, forward=reached)
            if running:
                job.state = "paused"
                self.play(job)

    def find(self, name: str) -> Job | None:
        """The job of that name, if it is still known."""
        return self.jobs.get(name)

    def watched(self, given: str) -> Job | None:
        """The job that a pass opens to be watched; None where it opens none (any more)."""
        if not given.startswith(WATCH):
            return None
        return next((j for j in list(self.jobs.values()) if j.opens(given)), None)

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
        goes_on = job.state in ACTIVE and job.partner is None and job.worker != REPLAY
        if not goes_on or not ("resume" in job.spec or job.page):
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
        if self._replayer is not None:
            self._replayer.close()
        for worker in workers:
            worker.close()
        for worker in workers:
            worker.wait(until)
        self.journal.close()
        if self.engine == "ray":
            cluster.leave()

    # -- for jobs -----------------------------------------------------------------------------------------------

    def play(self, job: Job) -> None:
        """Lets a job run, or queues it where too many run already."""
        with self.lock:
            if job.state not in ("ready", "paused"):
                return
            self.fetch(job)
            job.message = ""
            if job.worker != REPLAY and self._crowded(job) and not self._take_turns(job):
                self._queue.append(job)
                self.change(job, state="queued", waits="")
                return
            job.began = job.began or time.monotonic()
            self.command(job, "play")
            self.change(job, state="running", waits="")

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
            job.progress, job.stage, job.note, job.seconds_left, job.began = 0.0, "", "", None, None
            self._hand_over(job)
            self.change(job, state="ready")

    def command(self, job: Job, op: str, **values: Any) -> None:
        """Sends a command about a job to its process."""
        job.touched = time.monotonic()
        if job.worker == REPLAY and (
            op in ("set", "pair") or (op == "look" and not self.replayer.has(values["wishes"]))
        ):
            self.compute(job)
            if op == "look":
                return  # it was handed over with it
        if worker := self._process(job.worker):
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
            line = [j for j in self._queue if self._is_for_many(j) == self._is_for_many(job)]
            return line.index(job) + 1 if job in line else None

    def waiting_seconds(self, job: Job) -> float | None:
        """About how long a queued job will wait; None where it does not wait, or where nothing is known.

        As if those before it took as long as jobs have taken of late, or will take that run now. One that waits for
        memory may wait longer.
        """
        with self.lock:
            place = self.position(job)
            if place is None or job.waits:
                return None
            running, now = self._running_like(job), time.monotonic()
            whole = [now - (j.began or now) + j.seconds_left for j in running if j.seconds_left is not None]
            known = self._durations or whole
            if not running or not known:
                return None
            typical = statistics.median(known)
            left = [j.seconds_left if j.seconds_left is not None else typical for j in running]
            heapq.heapify(left)
            for _ in range(place - 1):
                heapq.heapreplace(left, left[0] + typical)
            return left[0]

    def change(self, job: Job, **values: Any) -> None:
        """Notes something about a job and tells its subscribers; lets queued jobs follow where there is room."""
        with self.lock:
            if (ended := f"jobs_{values.get('state')}") in self.counts:
                self.counts[ended] += 1
            if values.get("state") == "done" and job.began is not None and job.worker != REPLAY:
                self._durations.append(time.monotonic() - job.began)
            for key in sorted(values, key="state".__eq__):  # last: who reads it without the lock finds its words there
                setattr(job, key, values[key])
            if job in self._queue and job.state != "queued":
                self._queue.remove(job)
            self._publish(job, job.status())
            if values.get("state") not in (None, "running", "queued"):
                self._ask_again()  # it may have made room in the memory
                self._follow()
            if "state" in values:
                for waiting in self._queue:
                    self._publish(waiting, waiting.status())

    # -- inside -------------------------------------------------------------------------------------------------

    def _process(self, name: str) -> WorkerProcess | Replayer | None:
        return self._replayer if name == REPLAY else self._workers.get(name)

    def _running_like(self, job: Job) -> list[Job]:
        """Those that run, among which a job has to find a place. What is computed for many has as many places of its
        own: all of them would wait for one who is alone and has set a slow pace."""
        for_many = self._is_for_many(job)
        running = (j for j in self.jobs.values() if j.state == "running" and j.worker != REPLAY)
        return [j for j in running if self._is_for_many(j) == for_many]

    def _crowded(self, job: Job) -> bool:
        return len(self._running_like(job)) >= self.limits.max_running or not self._may_run(job)

    def _may_run(self, job: Job) -> bool:
        """Whether its owner has another place among those that run."""
        if not job.browser or self._is_for_many(job):
            return True
        return sum(j.browser == job.browser for j in self._running_like(job)) < self.limits.max_running_per_owner

    def _is_for_many(self, job: Job) -> bool:
        """Whether a job is computed for those who are played to."""
        return self._replayer is not None and self._replayer.computes(job)

    def _follow(self) -> None:
        """Lets the first in the queue run that may, where there is room."""
        while following := next((j for j in self._queue if not j.waits and not self._crowded(j)), None):
            self._queue.remove(following)
            following.state = "paused"
            self.play(following)

    def _ask_again(self) -> None:
        """Whether there is memory by now for those that wait for it; others pass them meanwhile."""
        for job in self._queue:
            if job.waits:
                self.command(job, "ask")

    def _take_turns(self, job: Job) -> bool:
        """Sends the job that has been unwatched for longest to the end of the queue, so that `job` may run; False
        where all are watched."""
        limit = time.monotonic() - self.limits.unwatched_seconds
        alone = [j for j in self._running_like(job) if not j.subscribers and j.touched < limit]
        if not self._may_run(job):
            alone = [j for j in alone if j.browser == job.browser]
        if not alone:
            return False
        resting = min(alone, key=lambda j: j.touched)
        self.command(resting, "pause")
        self._queue.append(resting)
        self.change(resting, state="queued")
        return True

    def _hand_over(self, job: Job, forward: tuple[str, int] | None = None) -> None:
        worker = self._process(job.worker)
        if worker is None:
            worker = self._workers[job.worker] = self._new_process(job.worker)
            logs.note("process_began", name=job.worker, pid=worker.pid)
            limits = replace(self.limits, threads=self.limits.threads or worker.threads)
            worker.send(op="begin", name=job.worker, limits=asdict(limits))
        weight = self.limits.weight(job.kind, logs.who(job.owner))
        worker.send(op="submit", job=job.name, kind=job.kind, spec=job.spec, owner=job.owner, weight=weight)
        if forward:
            worker.send(op="forward", job=job.name, stage=forward[0], step=forward[1])
        if job.rate is not None:
            worker.send(op="rate", job=job.name, rate=job.rate)
        if job.wishes:
            worker.send(op="look", job=job.name, wishes=job.wishes)
        if job.partner is not None:
            worker.send(op="pair", job=job.name, partner=job.partner.name)

    def _new_process(self, name: str) -> WorkerProcess | cluster.ClusterProcess:
        if self.engine == "ray":
            return cluster.ClusterProcess(self._receive, self._ended, aside=not name.startswith("compute"))
        return WorkerProcess(self._receive, self._ended)

    def _least_busy(self) -> str:
        """The name of the compute process that has the fewest jobs, one that is up where several do; without a cluster
        there is one."""
        if self.engine != "ray":
            return "compute"
        load = Counter(j.worker for j in self.jobs.values() if j.state in ACTIVE)
        names = [f"compute-{k}" for k in range(cluster.places())]
        return min(names, key=lambda name: (load[name], name not in self._workers))

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
            if (job := self.jobs.get(name)) is not None:
                self.deliver(job, kind, content)

    def deliver(self, job: Job, kind: bytes, content: bytes) -> None:
        """Keeps a message about a job, and passes it on to those who watch it.

        Args:
            job: whose.
            kind: "S" for what is said once, "F" for a frame, "A" for one with details, anything else for an event.
            content: the message.
        """
        with self.lock:
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
        elif event == "waits" and job.state == "running":  # to the front again: it was its turn
            logs.note("job_waits", job=logs.which(job.name), owner=logs.who(job.owner), reason=values["message"])
            self._queue.appendleft(job)
            self.change(job, state="queued", waits=values["message"])
            self._follow()
        elif event == "waits" and job.waits and job.waits != values["message"]:
            self.change(job, waits=values["message"])
        elif event == "fits":
            job.waits = ""
            self._follow()
        elif event == "refused":
            self._publish(job, json.dumps({"type": "refused", "message": values["message"]}))
        elif event == "state" and values["state"] != "stopped":  # that it stopped was noted when it was asked to
            self.give_up(job)
            self.change(job, state=values["state"], message=values["message"])

    def _publish(self, job: Job, message: Message) -> None:
        for receive in list(job.subscribers):
            receive(message)

    def _ended(self, worker: WorkerProcess | cluster.ClusterProcess, reason: str) -> None:
        """A process has died: replace it, say so in its jobs, and let the others go on."""
        with self.lock:
            if self._closing.is_set():
                return
            name = next(k for k, w in self._workers.items() if w is worker)
            del self._workers[name]
            self.counts["process_deaths"] += 1
            deaths = 0 if worker.connected else self._early_deaths.get(name, 0) + 1
            self._early_deaths[name] = deaths
            logs.note("process_died", "error", name=name, pid=worker.pid, reason=reason)
            hopeless = bool(worker.refused) or deaths >= MOST_EARLY_DEATHS
            theirs = [j for j in self.jobs.values() if j.worker == name and j.state in ACTIVE and not j.away]
            for job in theirs:
                job.deaths = job.deaths + 1 if job.progress <= job.fell_at else 1
                job.fell_at = job.progress
            goes_on = [j for j in theirs if not hopeless and self._may_go_on(j)]
            # The others first: as soon as a lost one makes room, one of them may be told to play.
            for job in goes_on:
                self._go_on(job, reason)
            message = (
                f"The compute process ended unexpectedly ({reason}), and this run with it. "
                "A new process is ready: begin it again."
            )
            if hopeless:
                message = worker.refused or f"The compute process does not start ({reason}). The server's log says why."
            for job in theirs:
                if job not in goes_on:
                    about = {"job": logs.which(job.name), "kind": job.kind, "owner": logs.who(job.owner)}
                    seconds = None if job.began is None else round(time.monotonic() - job.began, 3)
                    logs.note("job_killed", "error", **about, seconds=seconds, reason=reason)
                    self.change(job, state="failed", message=message)

    def _may_go_on(self, job: Job) -> bool:
        """Whether a new process can go on with a job; not for many at once: they have seen parts of it already."""
        if self._is_for_many(job):
            return False
        return job.kind in GOES_ON or not _is_begun(job)

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
                self._ask_again()
                watched = next((j for j in self._queue if j.subscribers and not j.waits), None)
                if watched is not None and self._crowded(watched):
                    self._take_turns(watched)
                self._follow()
                for waiting in self._queue:
                    self._publish(waiting, waiting.status())
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
REPLAY = "replay"  # where jobs are that are played, not computed (see `cake_core.replays`)
GOES_ON = (  # where a process before has left them
    *("distill", "compare", "grid", "students", "teacher"),
    *("steal", "steal-sweep", "lineup", "audit", "tune", "tune-final"),
)
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
