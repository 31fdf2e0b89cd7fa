"""Whose runs are whose: a secret that the browser keeps in a cookie, so that a reload still finds them.

Where people sign in (`account`), the person takes its place. Everything that pages read of the store and of the job
runner goes through what is here: `cake_core.access` asks for whom, `find_job` gives a job to its owner and to whoever
has its pass, and `check` looks at what a new job is told to read.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any, TypeVar

import streamlit as st
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.runtime.scriptrunner import get_script_run_ctx

from cake_core import access, runs
from cake_core.access import Reader
from cake_core.data import own
from cake_core.errors import CakeError
from cake_core.jobs import Job, JobRunner

from . import account

__all__ = [
    "COOKIE",
    "PASS",
    "Caller",
    "RememberBrowser",
    "begin_session",
    "caller",
    "check",
    "find_job",
    "is_known",
    "is_mine",
    "key",
    "new_owner",
    "pass_for",
    "passes",
    "take_passes",
    "while_seen",
]

COOKIE = "cake_browser"
SECONDS = 365 * 86_400
SECRET = re.compile(r"[A-Za-z0-9_-]{20,64}")
PASS = re.compile(r"[A-Za-z0-9_-]{20,64}")
MOST_PASSES = 50  # that a session remembers; the latest count
T = TypeVar("T")


class RememberBrowser:
    """Gives every browser that opens a page a secret of its own, unless it has one.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or not _wants_page(scope):
            await self.app(scope, receive, send)
            return

        async def with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                secure = "; Secure" if scope["scheme"] == "https" else ""
                cookie = f"{COOKIE}={secrets.token_urlsafe(24)}; Path=/; Max-Age={SECONDS}; HttpOnly; SameSite=Lax"
                MutableHeaders(scope=message).append("Set-Cookie", cookie + secure)
            await send(message)

        await self.app(scope, receive, with_cookie)


def _wants_page(scope: Scope) -> bool:
    """Whether a browser opens a page and has no secret yet."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if b"text/html" not in headers.get(b"accept", b""):
        return False
    known = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1")).get(COOKIE)
    return known is None or not SECRET.fullmatch(known.value)


def new_owner() -> str:
    """The owner of a session's jobs and runs: the browser's secret or the person, and a part that tells sessions apart.

    Without the cookie (plain `streamlit run`, cookies refused) a session stands for itself.
    """
    secret = _person() if account.login_is_on() else _secret_in(st.context.cookies) or secrets.token_urlsafe(24)
    return f"{secret}.{secrets.token_urlsafe(8)}"


def begin_session() -> None:
    """Says whose this session is, at the first page, and takes the passes in the address at each.

    Where another person has signed in meanwhile, in another tab, nothing of the one before stays.
    """
    if account.login_is_on() and st.session_state.get("owner", "").partition(".")[0] != _person():
        st.session_state.clear()
    if "owner" not in st.session_state:
        st.session_state.owner = new_owner()
    take_passes()


def _person() -> str:
    """What stands for whoever has signed in."""
    return account.secret_of(account.claims_of_session())


def _secret_in(cookies: Mapping[str, str]) -> str:
    """A browser's secret; empty where it has none."""
    secret: Any = cookies.get(COOKIE)
    return secret if isinstance(secret, str) and SECRET.fullmatch(secret) else ""


def key() -> str:
    """By which this session's runs are found in the store."""
    return runs.key_of(st.session_state.owner)


def is_known() -> bool:
    """Whether the server's own endpoints know this session: they see cookies alone, and a browser may refuse those."""
    return account.login_is_on() or bool(_secret_in(st.context.cookies))


# -- who asks ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Caller:
    """Who sends a request to the server's own endpoints.

    Attributes:
        key: by which what belongs to them is found; empty for somebody unknown.
        instructor: whether they may steer everybody's runs.
        admitted: whether they may follow links: everybody, or, where people sign in, those who have.
    """

    key: str = ""
    instructor: bool = False
    admitted: bool = True


def caller(cookies: Mapping[str, str]) -> Caller:
    """Who has sent a request.

    Args:
        cookies: of the request, by name.
    """
    try:
        if not account.login_is_on():
            return Caller(runs.key_of(_secret_in(cookies)))
    except CakeError:  # the secrets are broken; the page says so
        return Caller(admitted=False)
    claims = account.claims_in(cookies)
    who = account.secret_of(claims)
    return Caller(runs.key_of(who), account.is_instructor(claims), bool(who))


def reader() -> Reader | None:
    """For whom a thread that draws a page asks; None for all others."""
    if get_script_run_ctx(suppress_warning=True) is None:
        return None
    return Reader(runs.key_of(st.session_state.get("owner", "")), frozenset(passes()))


access.asked_by(reader)


# -- links of others --------------------------------------------------------------------------------------------------


def passes() -> list[str]:
    """The passes that this session has come with, oldest first."""
    return st.session_state.get("passes", [])


def take_passes() -> None:
    """Remembers the passes in the address, also for other pages: from a shared run one goes on to its map."""
    given = [p for p in st.query_params.get("pass", "").split(",") if PASS.fullmatch(p)]
    known = [p for p in passes() if p not in given]
    st.session_state["passes"] = [*known, *given][-MOST_PASSES:]


def pass_for(run: str) -> str:
    """What the address of something in a run ends with, so that the server's own endpoints open it to this session.

    Args:
        run: its id.
    """
    shared = runs.shared(run)
    return f"?pass={shared}" if shared and not runs.seen_by(run, Reader(key())) else ""


def while_seen(run: str, make: Callable[[], T]) -> Callable[[], T]:
    """What makes a file later, if this session may still see the run then.

    Args:
        run: its id.
        make: makes the file.

    Returns:
        The same. It raises a `CakeError` where the run is not shared any more, or has gone.
    """
    asks = reader()

    def made() -> T:
        if not runs.seen_by(run, asks):
            raise CakeError("This run is not shared any more, or has been deleted.")
        return make()

    return made


# -- jobs -------------------------------------------------------------------------------------------------------------


def is_mine(job: Job) -> bool:
    """Whether this session may steer a job: it is of the same browser, or the same person."""
    return belongs(job, key())


def belongs(job: Job, whose: str) -> bool:
    """Whether a job belongs to the owner with this key."""
    return bool(whose) and secrets.compare_digest(runs.key_of(job.owner).encode(), whose.encode())


def find_job(runner: JobRunner, name: str, whose: str | None = None) -> Job | None:
    """A job, for its owner by its name, for others by the pass of its link; None where there is none for them.

    Args:
        runner: that has it.
        name: of the job, or the pass.
        whose: key of whoever asks; left out: this session's.
    """
    job = runner.find(name)
    if job is not None and belongs(job, key() if whose is None else whose):
        return job
    return runner.watched(name)


def check(kind: str, spec: Mapping[str, Any]) -> None:
    """Refuses a job that would read what its owner may not see, or go on with a study that is not theirs.

    Args:
        kind, spec: of the job.

    Raises:
        CakeError: there is no such run, or no such data.
    """
    if access.reader() is None:
        return
    for text in _texts(spec):
        for run in runs.NAME.findall(text):
            runs.find(run)
        if any(own.find(name) is None for name in own.NAME.findall(text)):
            raise CakeError("There are no such data. They may have been removed, or belong to somebody else.")
    if kind in ("tune", "tune-final"):
        runs.changeable(spec["study"])
    if "resume" in spec:
        runs.changeable(spec["resume"])


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)
