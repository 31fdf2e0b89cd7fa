"""The server's own endpoints: the live socket, films of its frames, pictures of feature space, and their scripts.

Who gets what. A request is its owner's by the browser's cookie, or, where people sign in, by the cookie that Streamlit
has signed (`owner.caller`). Names of jobs, runs and studies can't be guessed, but they are no keys: they stand in
addresses, logs and exports, and by themselves open nothing.

- The owner sees and steers. So does an instructor who has signed in as one.
- Whoever has the pass of a shared link only looks: `/live/<pass>` watches a job, `?pass=` opens what a run or a study
  has. No command of theirs is obeyed. When sharing ends, their sockets are closed, and the pass opens nothing any more.
- Everybody else gets the answer that they would get for a name that does not exist. Where people sign in, this holds
  for all who have not, links or no links.
- Scripts, shipped recordings and counts are nobody's, and for all.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import re
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import plotly
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from cake_core import access, film, logs, metrics, runs, studies
from cake_core.errors import CakeError
from cake_core.jobs import ACTIVE, Job, Message
from cake_core.limits import Limits

from .cached import runner
from .drawing_board import drawing_board
from .embedding_view import embedding_view
from .kiosk_watch import kiosk_watch
from .live_view import SCRIPT, VERSION
from .lockstep import lockstep
from .owner import belongs, caller, find_job

__all__ = ["are_mounted", "routes"]

PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
RECORDINGS = Path(__file__).parents[2] / "assets" / "recordings"
FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}
MAILBOX = 6  # frames that wait for a slow client; older ones give way to newer ones
CREDITS = 3  # frames on their way that the client has not confirmed
LONGEST_COMMAND = 4096  # characters
UNKNOWN_JOB = 4404

_mounted = False
_filming = asyncio.Semaphore(1)  # one film at a time: it takes a second or two, and runs compute beside it


def routes() -> list[BaseRoute]:
    """The endpoints, for `st.App`."""
    global _mounted
    _mounted = True
    try:  # what is wrong in the environment is said now, not to the first visitor
        logs.begin("server")
        limits = asdict(Limits.from_environment())
    except CakeError as error:
        sys.exit(f"CAKE Lab does not start. {error}")
    logs.note("server_began", limits={k: v for k, v in limits.items() if v != asdict(Limits())[k]})
    return [
        WebSocketRoute("/live/{job}", live),
        Route(f"/live/{VERSION}/live_view.js", lambda request: FileResponse(SCRIPT, headers=FOREVER)),
        *(Route(f"/{c.address}", script_of(c)) for c in (embedding_view, lockstep, drawing_board, kiosk_watch)),
        Route(f"/live/{plotly.__version__}/plotly.min.js", lambda request: FileResponse(PLOTLY, headers=FOREVER)),
        Route("/live/metrics", figures),
        Route("/live/recordings/{name}", recording),
        Route("/live/studies/{study}/{trial}", trial),
        Route("/live/{job}/frames.{kind}", frames),
        Route("/live/scenes/{job}", scene),
        Route("/live/runs/{run}/strip.webp", strip),
    ]


def are_mounted() -> bool:
    """Whether this server has the endpoints (it has not where `frame.py` runs without `app.py`)."""
    return _mounted


def script_of(component: Any) -> Callable[[Request], Response]:
    """Answers with the script of a component of ours."""
    return lambda request: FileResponse(component.script, headers=FOREVER)


def figures(request: Request) -> Response:
    """What the server is doing, as OpenMetrics: counts alone, and nobody's data."""
    text = metrics.openmetrics(metrics.figures(runner()))
    return Response(text, media_type="application/openmetrics-text; version=1.0.0; charset=utf-8")


async def recording(request: Request) -> Response:
    """A stored run."""
    path = RECORDINGS / f"{Path(request.path_params['name']).stem}.bin"
    return FileResponse(path) if path.is_file() else PlainTextResponse("no such recording", status_code=404)


def trial(request: Request) -> Response:
    """The replay of a study's trial."""
    number, study = request.path_params["trial"], request.path_params["study"]
    if not _may_read(request, study):
        return PlainTextResponse("There is no such study.", status_code=404)
    path = studies.folder(study) / f"{number}.bin"
    if not re.fullmatch("[0-9]{1,6}", number) or not path.is_file():
        return PlainTextResponse("This trial has left no replay.", status_code=404)
    return FileResponse(path)


async def frames(request: Request) -> Response:
    """A film of what a job has shown: `?look=pixels|stretched`, and `sample=` for only one, by its place in flight."""
    if not _may_connect(request):
        return PlainTextResponse("Only CAKE Lab's own pages may ask for this.", 403)
    job, _ = await asyncio.to_thread(_job_for, request)
    if job is None:
        return PlainTextResponse("This run has ended and is no longer kept, or is not shared (any more).", 404)
    kind, look, sample = request.path_params["kind"], request.query_params.get("look", "pixels"), None
    if "sample" in request.query_params:
        text = request.query_params["sample"]
        if not re.fullmatch("[0-9]{1,9}", text):
            return PlainTextResponse("'sample' must be a whole number from 0.", 400)
        sample = int(text)
    job.touch()
    try:
        async with _filming:
            how = {"sample": sample, "look": look, "most": runner().limits.max_film_pictures}
            made = await asyncio.to_thread(film.film, job.scene, job.ring.all(), kind, **how)
    except CakeError as error:
        return PlainTextResponse(str(error), 400)
    name = f"samples.{kind}" if sample is None else f"sample-{sample + 1}.{kind}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Response(made, media_type=film.KINDS[kind], headers=headers)


def scene(request: Request) -> Response:
    """What a job says once (a picture of feature space), by itself."""
    job, _ = _job_for(request)
    if job is None or job.scene is None:
        return PlainTextResponse("no such picture", status_code=404)
    job.touch()
    content, headers = job.scene, {"Cache-Control": "private, max-age=3600"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        content, headers["Content-Encoding"] = gzip.compress(content, 1), "gzip"
    return Response(content, headers=headers, media_type="application/octet-stream")


def strip(request: Request) -> Response:
    """The pictures of a stored run, made by a job before."""
    run = request.path_params["run"]
    if not _may_read(request, run):
        return PlainTextResponse("There is no such run.", 404)
    path = runs.made(run) / "strip.webp"
    if not path.is_file():
        return PlainTextResponse("no such pictures", 404)
    return FileResponse(path, headers={"Cache-Control": "private, max-age=3600"}, media_type="image/webp")


async def live(socket: WebSocket) -> None:
    """Sends what a job shows and takes commands for it, for as long as the client stays."""
    if not _may_connect(socket):
        logs.note("socket_refused", "warning", reason="another site's page", origin=socket.headers.get("origin"))
        await socket.close(1008)
        return
    await socket.accept()
    job, steers = await asyncio.to_thread(_job_for, socket)
    if job is None:
        logs.note("socket_refused", reason="not kept", job=logs.which(socket.path_params["job"]))
        await socket.close(UNKNOWN_JOB)
        return
    given = "" if steers else socket.path_params["job"]
    client = Client(socket, job, asyncio.get_running_loop(), given)
    # Subscribed before any command is read: the answer to it must find its way back.
    sending = asyncio.create_task(client.send(job.subscribe(client.receive)))
    try:
        while True:
            client.obey(await socket.receive_text())
    except (WebSocketDisconnect, RuntimeError, KeyError):
        pass  # gone, or it sent something that is no text
    finally:
        sending.cancel()
        job.unsubscribe(client.receive)
        if not job.subscribers:
            job.look()  # nobody wants details any more


class Client:
    """One viewer of one job.

    Args:
        socket: to the viewer.
        job: what it watches.
        loop: in which the socket lives.
        given: the pass with which the viewer has come; empty for whoever may steer.
    """

    def __init__(self, socket: WebSocket, job: Job, loop: asyncio.AbstractEventLoop, given: str = ""):
        self.socket, self.job, self.loop, self.given = socket, job, loop, given
        self.words: deque[Message] = deque()
        self.status: str | None = None  # the latest that waits among the words; one before it says nothing more
        self.frames: deque[bytes] = deque(maxlen=MAILBOX)
        self.credits = CREDITS
        self.news = asyncio.Event()

    # -- from the job -------------------------------------------------------------------------------------------

    def receive(self, message: Message) -> None:
        """A message from the job, in a thread of the runner."""
        with contextlib.suppress(RuntimeError):  # the server is closing
            self.loop.call_soon_threadsafe(self._put, message)

    def _put(self, message: Message) -> None:
        if self._is_frame(message):
            self.frames.append(message)
        else:
            if isinstance(message, str) and message.startswith('{"type": "status"'):
                # A browser that sleeps reads nothing for hours: of where a job in one state is, it wants the latest.
                if self.status in self.words and self.status.split(", ")[:2] == message.split(", ")[:2]:
                    self.words.remove(self.status)
                self.status = message
            if isinstance(message, bytes):  # a new scene: what was to be seen of the one before has lost its meaning
                self.frames.clear()
            self.words.append(message)
        self.news.set()

    def _is_frame(self, message: Message) -> bool:
        return isinstance(message, bytes) and message is not self.job.scene

    async def send(self, before: list[Message]) -> None:
        """Sends what has come before, then what comes: words at once, frames as the client's credits allow."""
        for message in before:
            await self._deliver(message)
        while True:
            await self.news.wait()
            self.news.clear()
            while self.words or (self.frames and self.credits > 0):
                if self.words:
                    await self._deliver(self.words.popleft())
                else:
                    self.credits -= 1
                    await self._deliver(self.frames.popleft())

    async def _deliver(self, message: Message) -> None:
        if self.given and not self.job.opens(self.given):
            await self.socket.close(UNKNOWN_JOB)  # it is not shared any more
            raise asyncio.CancelledError
        await (self.socket.send_text(message) if isinstance(message, str) else self.socket.send_bytes(message))

    # -- from the viewer ----------------------------------------------------------------------------------------

    def obey(self, text: str) -> None:
        """A command from the viewer. What makes no sense is answered with a sentence, and changes nothing."""
        try:
            command = json.loads(text) if len(text) <= LONGEST_COMMAND else None
            op = command["op"]
        except (ValueError, TypeError, KeyError, RecursionError):
            self._refuse("That message was no command.")
            return
        if op == "seen":
            self.credits = min(CREDITS, self.credits + 1)
            self.news.set()
        elif self.given:
            self._refuse("This run is somebody else's: you can watch it, and only its owner can steer it.")
        elif op == "set" and self.job.state not in ACTIVE:
            self._refuse("This run has ended, so nothing can change in it. Reset it first.")
        elif not steer(self.job, command):
            self._refuse(f"There is no command {op!r}.")

    def _refuse(self, message: str) -> None:
        self._put(json.dumps({"type": "refused", "message": message}))


def steer(job: Job, command: dict[str, Any]) -> bool:
    """Does what a viewer asks of a job; False where there is no such command."""
    op = command.get("op")
    if op in ("play", "pause", "step", "stop", "reset"):
        getattr(job, op)()
    elif op == "set" and isinstance(command.get("settings"), dict):
        job.set(**{str(k): v for k, v in command["settings"].items()})
    elif op == "rate" and isinstance(command.get("rate"), int | float) and 0 <= command["rate"] <= 10_000:
        job.pace(command["rate"])
    elif op == "look" and _is_place(command.get("sample")):
        wishes = {k: bool(command.get(k)) for k in ("arrows", "anatomy")}
        job.look(**wishes, sample=command.get("sample"))
    else:
        return False
    return True


def _is_place(sample: Any) -> bool:
    """Whether that can say which sample somebody looks at."""
    return sample is None or (type(sample) is int and 0 <= sample < 2**31)


def _job_for(request: HTTPConnection) -> tuple[Job | None, bool]:
    """The job that an address names, by its name or a pass, where it is for whoever asks; and whether they steer."""
    who, name = caller(request.cookies), request.path_params["job"]
    job = runner().find(name) if who.instructor else find_job(runner(), name, who.key) if who.admitted else None
    return job, job is not None and (who.instructor or belongs(job, who.key))


def _may_read(request: Request, run: str) -> bool:
    """Whether there is such a run, or study, for whoever asks."""
    who = caller(request.cookies)
    given = [p for p in request.query_params.get("pass", "").split(",") if p]
    return who.admitted and runs.seen_by(run, access.Reader(who.key, frozenset(given)))


def _may_connect(caller: HTTPConnection) -> bool:
    """Only our own pages, and those of hosts in CAKE_ALLOWED_ORIGINS, may watch a job from a browser."""
    origin = caller.headers.get("origin")
    if origin is None:
        return True  # not a browser: it could send any origin it likes
    allowed = os.environ.get("CAKE_ALLOWED_ORIGINS", "").split(",")
    return urlparse(origin).netloc == caller.headers.get("host") or origin in allowed
