"""More than one machine: tasks and compute processes on a Ray cluster. Only who asks for the engine "ray" needs it.

A task is an iterator that runs somewhere and whose items stream back (`spread`); one that is lost with its node is
begun again. A compute process is an actor that runs the same loop as the embedded one (`ClusterProcess`).

References: | Ray (Moritz et al. 2018) | https://arxiv.org/abs/1712.05889
            | Streaming generators | https://docs.ray.io/en/latest/ray-core/ray-generator.html
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import queue
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import CakeError

__all__ = [
    "ENGINES",
    "PACKAGE",
    "ClusterProcess",
    "Mirror",
    "Place",
    "Share",
    "connect",
    "engine",
    "leave",
    "room",
    "spread",
]

ENGINES = ("embedded", "ray")
PACKAGE = "ray==2.60.0"  # as in requirements-ray.txt
STORE = 256 * 2**20  # bytes of shared memory that a local cluster takes for what is on its way
PATIENCE = 20.0  # seconds in which a cluster has to answer
AHEAD = 4  # items that a task may be ahead of who reads them: not reading is pausing
MOST_LOSSES = 5  # of one task; more is no accident
LOOK = 0.05  # seconds after which `spread` says that nothing came; other jobs may wait for their turn meanwhile

log = logging.getLogger(__name__)
_joining = threading.Lock()
_listening: set[threading.Thread] = set()  # that wait for what processes of the cluster send
SECONDS_TO_END = 5.0  # for these, when the cluster is left


def engine() -> str:
    """Where jobs and long runs compute: "embedded", on this machine, or "ray"; by the environment variable CAKE_ENGINE.

    Raises:
        CakeError: there is no such engine.
    """
    name = os.environ.get("CAKE_ENGINE", "") or "embedded"
    if name not in ENGINES:
        raise CakeError(f"There is no engine '{name}'. Choose one of: {', '.join(ENGINES)} (--engine, or CAKE_ENGINE).")
    return name


@dataclass(frozen=True)
class Share:
    """What a task or a compute process takes of a node; by CAKE_RAY_GPUS and CAKE_RAY_CPUS.

    Attributes:
        gpus: of a GPU, where the cluster has any; several may share one.
        cpus: cores; it computes on as many threads.
    """

    gpus: float = 0.25
    cpus: float = 1.0

    @classmethod
    def from_environment(cls) -> Share:
        """What the environment says.

        Raises:
            CakeError: it says something that can't be.
        """
        values = {}
        for name in ("gpus", "cpus"):
            key = f"CAKE_RAY_{name.upper()}"
            text = os.environ.get(key, "") or str(getattr(cls, name))
            try:
                values[name] = float(text)
            except ValueError:
                values[name] = -1.0
            good = math.isfinite(values[name]) and values[name] >= (0 if name == "gpus" else 0.1)
            if not good or (values[name] > 1 and values[name] % 1):
                raise CakeError(f"{key} is '{text}'. Set it to a share below 1, such as 0.5, or to a whole number.")
        return cls(**values)

    @property
    def threads(self) -> int:
        """On how many threads it computes."""
        return max(1, int(self.cpus))


# -- joining and leaving ----------------------------------------------------------------------------------------------


def connect(logs: bool = False) -> ModuleType:
    """Ray, as a member of the cluster at RAY_ADDRESS; of a new one on this machine alone, where that is not set.

    Args:
        logs: whether what processes of the cluster print is printed here.

    Raises:
        CakeError: Ray is not installed, or the cluster can't be joined; after half a minute at most.
    """
    with _joining:
        address = os.environ.get("RAY_ADDRESS", "").strip()
        _beforehand(address)
        try:
            import ray
        except ImportError:
            raise CakeError(
                f"The engine 'ray' needs a package that is not installed here. Install it: pip install {PACKAGE}"
            ) from None
        if ray.is_initialized():  # also inside of a task
            return ray
        if address:
            os.environ.update(asked := _ask(address))
            if asked:
                ray._raylet.Config.initialize("")  # which has read the environment before
        where = {"address": address} if address else {"address": "local", "object_store_memory": STORE}
        try:
            ray.init(**where, include_dashboard=None if address else False, log_to_driver=logs, logging_level="ERROR")
        except (Exception, SystemExit) as error:  # Ray gives up with sys.exit
            lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            place = f"cluster at RAY_ADDRESS={address}" if address else "cluster on this machine"
            here = f" This machine has to be one of its nodes: run 'ray start --address={address}' here first."
            raise CakeError(f"The {place} can't be joined: {' '.join(lines)[:300]}{here if address else ''}") from None
        return ray


def leave() -> None:
    """Leaves the cluster; one that was started here ends. Processes of it that serve here have to be closed before."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized() or not _is_driver(ray):
        return
    end = time.monotonic() + SECONDS_TO_END
    for thread in list(_listening):
        thread.join(max(0.0, end - time.monotonic()))
    if not _listening:  # Ray ends a process one of whose threads still asks it: the cluster ends with the process then
        ray.shutdown()


def _is_driver(ray: ModuleType) -> bool:
    return ray.get_runtime_context().worker.mode == ray.SCRIPT_MODE


def _beforehand(address: str) -> None:
    """What Ray reads when it is imported: no statistics, the server's own way to end, and on this machine alone no port
    that others can reach."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")  # which would take SIGTERM for a crash
    if not address:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # what makes it use the loopback


# Asked in a process of its own, for Ray waits two minutes for who does not answer, and then ends its process.
PROBE = (
    "import sys; from ray._raylet import GcsClient; client = GcsClient(address=sys.argv[1]); "
    "print(client.internal_kv_get(b'CLUSTER_METADATA', b'cluster', timeout=5).decode())"
)


def _ask(address: str) -> dict[str, str]:
    """Asks a cluster whether it is there and of the same versions; returns what the environment needs to join it.

    Raises:
        CakeError: it is not.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host or not 0 < int(port) < 65536:
        raise CakeError(
            f"RAY_ADDRESS is '{address}'. Write the head's host and port, such as 10.0.0.1:6379, or leave it out for a "
            "cluster on this machine alone."
        )
    nobody = f"No Ray cluster answers at RAY_ADDRESS={address}"
    start = "Start its head there with 'ray start --head', or correct the address."
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise CakeError(f"{nobody} ({error.strerror or error}). {start}") from None
    for more in ({}, {"RAY_AUTH_MODE": "token"}):  # a token only for who asks for it, as in Ray's own tools
        command = [sys.executable, "-c", PROBE, address]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=os.environ | more)
        except subprocess.TimeoutExpired:
            raise CakeError(f"{nobody}, though something else does. {start}") from None
        if done.returncode == 0:
            _same(address, json.loads(done.stdout))
            return more
        if "AuthToken" not in done.stderr and "authentication" not in done.stderr:
            raise CakeError(f"{nobody}, though something else does. {start}")
    raise CakeError(
        f"The cluster at RAY_ADDRESS={address} does not know this machine's token. Copy the file ~/.ray/auth_token of "
        "its head to the same place here."
    )


def _same(address: str, theirs: dict[str, Any]) -> None:
    """Refuses a cluster of other versions.

    Args:
        address: for the message.
        theirs: what the cluster says of itself.

    Raises:
        CakeError: naming what differs.
    """
    ours = {"ray_version": PACKAGE.partition("==")[2], "python_version": ".".join(map(str, sys.version_info[:3]))}
    for key, name in (("ray_version", "Ray"), ("python_version", "Python")):
        # Python may differ in its last part alone.
        same = [v.split(".")[:2] if name == "Python" else v for v in (str(theirs.get(key, "")), ours[key])]
        if same[0] != same[1]:
            raise CakeError(
                f"The cluster at RAY_ADDRESS={address} runs {name} {theirs.get(key, 'of an unknown version')}, this "
                f"machine {ours[key]}. Install the same on all nodes."
            )


# -- room -------------------------------------------------------------------------------------------------------------


def room(share: Share, ray: ModuleType | None = None) -> int:
    """How many tasks of a share the cluster can hold at once, whatever is busy now.

    Raises:
        CakeError: none, however long one waits.
    """
    nodes = [n["Resources"] for n in (ray or connect()).nodes() if n["Alive"]]
    gpus = share.gpus if any(n.get("GPU") for n in nodes) else 0.0
    held = 0
    for n in nodes:
        by_cores = int(n.get("CPU", 0) / share.cpus + 1e-9)
        held += min(by_cores, int(n.get("GPU", 0) / gpus + 1e-9)) if gpus else by_cores
    if not held:
        most = max((n.get("CPU", 0) for n in nodes), default=0)
        raise CakeError(
            f"No node of the cluster has room for a task of {share.cpus:g} cores"
            + (f" and {gpus:g} GPUs" if gpus else "")
            + f"; the largest has {most:g} cores. Lower CAKE_RAY_CPUS or CAKE_RAY_GPUS."
        )
    return held


def _taken(share: Share, ray: ModuleType) -> dict[str, float]:
    """What Ray is asked for, for a task of a share."""
    gpus = any(n["Resources"].get("GPU") for n in ray.nodes() if n["Alive"])
    return {"num_cpus": share.cpus, "num_gpus": share.gpus if gpus else 0}


# -- tasks ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refusal:
    """What a task streams back instead of raising a `CakeError`, whose class would be lost on the way."""

    message: str


def spread(
    work: Callable[[Any], Iterator[Any]],
    orders: Sequence[Any],
    *,
    lost: Callable[[int], Any] | None = None,
    patience: float = LOOK,
) -> Iterator[tuple[int, Any] | None]:
    """Runs one task for each order on the cluster; yields (number of the order, item) as items come.

    None comes where nothing else did for a moment. Closing the iterator ends all tasks. A task whose process or node is
    lost is begun again: what it has streamed before is not taken back.

    Args:
        work: a function of a module, from an order to an iterator of items; it is called on a node.
        orders: what to do.
        lost: what is still to do of a lost order, by its number; None for nothing (default: all of it again).
        patience: seconds after which None comes.

    Raises:
        CakeError: a task raised it, or is lost again and again, or the cluster has no room for any.
    """
    ray, share = connect(), Share.from_environment()
    room(share, ray)
    remote = ray.remote(
        num_returns="streaming",
        max_retries=0,  # who reads knows better what is still to do
        scheduling_strategy="SPREAD",
        _generator_backpressure_num_objects=AHEAD,
        **_taken(share, ray),
    )(_work)
    around = (seal(), _environment("embedded"), share.threads)
    running = {k: remote.remote(work, order, *around) for k, order in enumerate(orders)}
    losses = dict.fromkeys(running, 0)
    try:
        while running:
            ready, _ = ray.wait(list(running.values()), num_returns=1, timeout=patience, fetch_local=False)
            if not ready:
                yield None
                continue
            number = next(k for k, stream in running.items() if stream is ready[0])
            try:
                item = ray.get(next(running[number]))
            except StopIteration:
                del running[number]
                continue
            except _losses(ray) as error:
                losses[number] += 1
                log.warning("task %d of the cluster was lost (%s)", number, type(error).__name__)
                if losses[number] > MOST_LOSSES:
                    raise CakeError(
                        f"A task of the cluster was lost {losses[number]} times ({type(error).__name__}). Its nodes "
                        "may be short of memory: take fewer samples at once, or raise CAKE_RAY_CPUS so that fewer "
                        "tasks share one."
                    ) from None
                del running[number]
                order = orders[number] if lost is None else lost(number)
                if order is not None:
                    running[number] = remote.remote(work, order, *around)
                continue
            # The stream that has just spoken goes to the end, so that all are heard.
            running[number] = running.pop(number)
            if isinstance(item, Refusal):
                raise CakeError(item.message)
            yield number, item
    finally:
        for stream in running.values():
            with contextlib.suppress(Exception):  # it has just ended
                ray.cancel(stream, force=False)


def _losses(ray: ModuleType) -> tuple[type[Exception], ...]:
    """What Ray raises where not the task is to blame but what it ran on."""
    e = ray.exceptions
    return e.WorkerCrashedError, e.NodeDiedError, e.ObjectLostError, e.OutOfMemoryError, e.LocalRayletDiedError


def _work(
    work: Callable[[Any], Iterator[Any]], order: Any, sealed: dict[str, str], environment: dict[str, str], threads: int
) -> Iterator[Any]:
    """A task, on its node."""
    os.environ.update(environment)
    import torch

    torch.set_num_threads(threads)
    try:
        _compare(sealed)
        yield from work(order)
    except CakeError as error:
        yield Refusal(str(error))


def seal() -> dict[str, str]:
    """What has to be the same on all nodes: this program, and the packages that results depend on."""
    from . import runs

    return {"CAKE Lab": runs.code()["source"], **{k: v for k, v in runs.environment().items() if k != "machine"}}


def _compare(sealed: dict[str, str]) -> None:
    """Refuses a node with other versions.

    Raises:
        CakeError: naming the first thing that differs.
    """
    for name, here in seal().items():
        there = sealed.get(name, "none")
        if name == "python":
            here, there = (v.rpartition(".")[0] for v in (here, there))
        if here != there:
            raise CakeError(
                f"Node {socket.gethostname()} has {name} {here}, and who gives it work has {there}. Install the same "
                "on all nodes of the cluster."
            )


def _environment(engine: str) -> dict[str, str]:
    """The settings of this server, for processes elsewhere."""
    from . import runs

    mine = {k: v for k, v in os.environ.items() if k.startswith("CAKE_")}
    return {**mine, "CAKE_RUNS_DIR": str(runs.folder()), "CAKE_ENGINE": engine}


# -- files that come with a task --------------------------------------------------------------------------------------


class Mirror:
    """A folder for runs on a node, whose new files are streamed back; so nodes need no file system in common.

    Inside the `with` block it stands where runs are looked for.

    Args:
        files: what lies in it at the beginning, by path.
    """

    def __init__(self, files: dict[str, bytes]):
        self._files, self._known = files, {}

    def __enter__(self) -> Mirror:
        self._stack = contextlib.ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="cake-task-")))
        before = os.environ.get("CAKE_RUNS_DIR")
        os.environ["CAKE_RUNS_DIR"] = str(self.folder)
        self._stack.callback(_restore, "CAKE_RUNS_DIR", before)
        for name, content in self._files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self._known = dict(self._look())
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def new(self) -> Iterator[tuple[str, bytes]]:
        """Path and content of each file that is new or has changed since it was last asked."""
        for name, when in self._look():
            if self._known.get(name) != when:
                self._known[name] = when
                yield name, (self.folder / name).read_bytes()

    def _look(self) -> list[tuple[str, int]]:
        """All files that are whole, with the time of their latest change, tables and tensors before what names them."""
        paths = [p for p in self.folder.rglob("*") if p.is_file() and p.suffix != ".part"]
        paths.sort(key=lambda p: (p.suffix == ".json", p))
        return [(p.relative_to(self.folder).as_posix(), p.stat().st_mtime_ns) for p in paths]


def _restore(key: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(key, None)
    else:
        os.environ[key] = value


# -- compute processes ------------------------------------------------------------------------------------------------

MARK = ".cluster"  # file among the runs by which a node shows that it sees them
ASIDE = 0.01  # of a GPU, for what is not long
LEFT = 0.95  # of its share is what a compute process takes of a GPU, so that the others find a place there


class Place:
    """The actor behind a `ClusterProcess`: the loop of `cake_core.worker`, with queues in place of its connection."""

    def __init__(self) -> None:
        self._commands: queue.Queue[bytes] = queue.Queue()
        self._messages: queue.Queue[bytes | None] = queue.Queue(maxsize=64)  # who is not listened to waits
        self._next: bytes | None = None
        self._broken: BaseException | None = None

    def tell(self, command: bytes) -> None:
        """Takes a command; returns at once."""
        self._commands.put(command)

    def work(self, sealed: dict[str, str], environment: dict[str, str], mark: str) -> Iterator[Any]:
        """Works until it is told to quit; yields who it is, then lists of messages."""
        os.environ.update(environment)
        import ray

        from . import runs

        try:
            _compare(sealed)
            if not (runs.folder() / MARK).is_file() or (runs.folder() / MARK).read_text() != mark:
                raise CakeError(
                    f"Node {socket.gethostname()} does not see the folder of the runs, {runs.folder()}. Put "
                    "CAKE_RUNS_DIR and CAKE_UPLOADS_DIR on a file system that all nodes share."
                )
        except CakeError as error:
            yield Refusal(str(error))
            return
        yield {"node": ray.get_runtime_context().get_node_id(), "pid": os.getpid()}
        threading.Thread(target=self._drive, name="cake-worker", daemon=True).start()
        while True:
            found = [self._messages.get()]
            with contextlib.suppress(queue.Empty):
                while found[-1] is not None:
                    found.append(self._messages.get_nowait())
            yield [m for m in found if m is not None]
            if found[-1] is None:
                break
        if self._broken is not None:
            raise self._broken

    def _drive(self) -> None:
        from .worker import Worker

        try:
            Worker(self).run()
        except BaseException as error:
            self._broken = error
        self._messages.put(None)

    # What the loop knows of a connection:

    def poll(self, seconds: float) -> bool:
        """Whether a command is there, within so many seconds."""
        if self._next is None:
            with contextlib.suppress(queue.Empty):
                self._next = self._commands.get(timeout=seconds) if seconds > 0 else self._commands.get_nowait()
        return self._next is not None

    def recv_bytes(self) -> bytes:
        """The next command."""
        command, self._next = self._next if self._next is not None else self._commands.get(), None
        return command

    def send_bytes(self, message: bytes) -> None:
        """Sends a message to the server."""
        self._messages.put(message)


class ClusterProcess:
    """A compute process somewhere in the cluster, with the interface of `jobs.WorkerProcess`.

    It joins the cluster when it is made, in a thread of its own, and can be told things before it is up.

    Args:
        receive: gets each message: its kind, the job's name, the content.
        ended: called when the process has gone, with the reason.
        aside: whether it is for what is not long, and takes no share of a node.

    Attributes:
        place: the node and the process id, once it is up.
        pid: the latter, where the node is this one; else 0.
        refused: why there can't be such a process at all.
        threads: on how many it computes.
    """

    def __init__(
        self,
        receive: Callable[[bytes, str, bytes], None],
        ended: Callable[[ClusterProcess, str], None],
        aside: bool = False,
    ):
        self._receive, self._ended, self._aside = receive, ended, aside
        self._lock = threading.Lock()
        self._unsent: list[bytes] = []
        self._actor: Any = None
        self.closing = False
        self.connected = False
        self.pid = 0
        self.place: dict[str, Any] = {}
        self.refused = ""
        self.threads = Share.from_environment().threads
        listener = threading.Thread(target=self._listen, name="cake-cluster", daemon=True)
        _listening.add(listener)
        listener.start()

    def send(self, **message: Any) -> None:
        """Sends a command. That the process has just gone is noticed by the listener, not here."""
        with self._lock:
            self._unsent.append(json.dumps(message).encode())
            if self._actor is not None:
                self._flush()

    def close(self) -> None:
        """Ends the process."""
        self.closing = True
        with self._lock:
            actor, self._actor = self._actor, None
        if actor is not None:
            import ray

            with contextlib.suppress(Exception):  # the cluster has gone before
                ray.kill(actor)

    def wait(self, until: float) -> None:
        """Nothing is waited for: what it has stored by now is what its runs go on from."""

    def _flush(self) -> None:
        for text in self._unsent:
            self._actor.tell.options(concurrency_group="tell").remote(text)
        self._unsent.clear()

    def _listen(self) -> None:
        reason = "it came to its end"
        try:
            self._attend(connect(logs=True))
        except CakeError as error:
            self.refused = reason = str(error)
        except (Exception, SystemExit) as error:  # the latter where this process has left the cluster meanwhile
            reason = f"lost with its node, or killed: {type(error).__name__}"
            log.debug("a process of the cluster ended", exc_info=True)
        finally:
            _listening.discard(threading.current_thread())
        if not self.closing:
            self._ended(self, reason)

    def _attend(self, ray: ModuleType) -> None:
        """Starts the actor and passes on what it sends, until it ends."""
        share, mark = Share.from_environment(), _mark()
        taken = _taken(share, ray)
        gpus = taken["num_gpus"]
        gpus = min(gpus, ASIDE) if self._aside else gpus * LEFT if gpus <= 1 else gpus
        # Cores are left to the tasks that jobs spread; processes that wait for commands share them as they do at home.
        actor = ray.remote(
            num_cpus=0, num_gpus=gpus, scheduling_strategy="SPREAD", concurrency_groups={"work": 1, "tell": 1}
        )(Place).remote()
        inside = "ray" if room(share, ray) > 1 or not gpus else "embedded"  # a GPU that it holds alone is nobody else's
        stream = actor.work.options(num_returns="streaming", concurrency_group="work").remote(
            seal(), _environment(inside), mark
        )
        while not ray.wait([stream], timeout=1, fetch_local=False)[0]:
            if self.closing:
                ray.kill(actor)
                return
            self._say_waiting()
        hello = ray.get(next(stream))
        if isinstance(hello, Refusal):
            raise CakeError(hello.message)
        self.place = hello
        if hello["node"] == ray.get_runtime_context().get_node_id():
            self.pid = hello["pid"]
        with self._lock:
            if self.closing:
                ray.kill(actor)
                return
            self._actor = actor
            self._flush()
        for ref in stream:
            for message in ray.get(ref):
                self.connected = True
                self._receive(message[:1], message[1:33].decode().strip(), message[33:])

    def _say_waiting(self) -> None:
        """Tells its jobs why nothing happens."""
        with self._lock:
            names = {m["job"] for m in map(json.loads, self._unsent) if m["op"] == "submit"}
        for name in names:
            self._receive(
                b"E", name, json.dumps({"event": "progress", "note": "Waiting for a place in the cluster"}).encode()
            )


def places() -> int:
    """How many compute processes for long runs the cluster has room for: half of all there is, for tasks want room too;
    1 where it is not joined yet."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return 1
    try:
        return max(1, room(Share.from_environment(), ray) // 2)
    except CakeError:
        return 1


def _mark() -> str:
    """A file among the runs that says something that can't be guessed; returns what it says."""
    from . import runs

    path: Path = runs.folder() / MARK
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{MARK}.{secrets.token_hex(4)}.part")
        part.write_text(secrets.token_hex(8))
        with contextlib.suppress(FileExistsError):  # somebody else was first, and theirs counts
            path.hardlink_to(part)
        part.unlink()
    return path.read_text()
