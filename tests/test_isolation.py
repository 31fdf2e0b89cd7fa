"""What is somebody's own stays theirs: a second session tries all that the first one has, with and without links.

A real server, real sessions of it by its own protocol, each with a cookie of its own. Whatever belongs to the first
session carries the word `MARK`, so that an answer that gives something away is seen.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from streamlit.web.server.starlette.starlette_app import create_streamlit_routes
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import app
from cake_core import data, run_tasks, runs, studies, teacher
from cake_core.data import own
from cake_core.errors import CakeError
from cake_core.pipeline import Experiment
from cake_core.studies import TuneConfig
from cake_core.tasks import Distill
from cake_core.training import TrainConfig

from .browser.harness import Server
from .protocol import Session
from .test_pages import PAGES

MARK = "Quetzalcoatlus"  # in everything that the first session has
FIRST, SECOND = "the-secret-of-the-first-session", "the-secret-of-the-second-session"
ME = runs.key_of(FIRST)
QUICK = {"batches": "1", "samples": "20", "steps": "4", "student.updates": "20"}


@dataclass
class Things:
    """What the first session has."""

    job: str
    run: str
    upload: str
    study: str
    teacher: str
    session: Session

    @property
    def names(self) -> list[str]:
        """All names by which something of it could be asked for."""
        return [self.job, self.run, self.upload, self.study, self.teacher, f"run:{self.teacher}"]


@pytest.fixture(scope="module")
def server(tmp_path_factory, runs_folder) -> Iterator[Server]:
    made = Server("app.py", tmp_path_factory.mktemp("isolation") / "log")
    yield made
    made.close()


@pytest.fixture(scope="module")
def theirs(server) -> Iterator[Things]:
    """A run with its pictures and an export, an upload, a study with a replay, a teacher, and a job that is open."""
    with runs.owned_by(ME):
        task = Distill(Experiment.from_query(QUICK).to_dict())
        for _ in task.moments():
            pass
        run = task.finish()["run"]
        runs.mark(run, ME, note=MARK)
        runs.log(run, "edited", settings={"note": MARK})
        for _ in (pictures := run_tasks.Pictures([run])):
            pass
        pictures.finish()
        (runs.made(run) / "samples.svg").write_text(f"<svg>{MARK}</svg>")
        x = torch.rand(8, 2)
        part = (x, torch.arange(8) % 2)
        upload = own.create(MARK, "points", (2,), (f"{MARK} one", f"{MARK} two"), train=part, test=part)
        base = Experiment.from_query({"sigma": "0.1"})
        study = studies.begin(TuneConfig(experiment=base, space={"sigma": (0.1, 1.0)}))
        (studies.folder(study) / "0.bin").write_bytes(MARK.encode())
        taught = runs.create()
        config = data.DataConfig(points=40)
        training = teacher.TeacherTraining(data.load(config), config, "mlp", TrainConfig(updates=1), name=MARK)
        for _ in training:
            pass
        training.teacher.save(runs.find(taught), "teacher")
    session = Session(server.url, f"cake_browser={FIRST}")
    session.open("two_moons", "samples=50&steps=20000")
    yield Things(session.parameters["job"], run, upload, study, taught, session)
    session.close()


@pytest.fixture(scope="module")
def tries() -> Iterator[SimpleNamespace]:
    """Counts what was tried."""
    made = SimpleNamespace(count=0)
    yield made
    print(f"{made.count} tries")


# -- how one asks -----------------------------------------------------------------------------------------------------


def get(server: Server, path: str, secret: str = SECOND, method: str = "GET") -> tuple[int, bytes]:
    asked = urllib.request.Request(server.url + path, method=method, headers={"Cookie": f"cake_browser={secret}"})
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def dial(server: Server, name: str, secret: str = SECOND) -> ClientConnection:
    url = server.url.replace("http", "ws") + f"/live/{name}"
    return connect(url, max_size=None, additional_headers={"Cookie": f"cake_browser={secret}"} if secret else {})


def listens(server: Server, name: str, secret: str = SECOND) -> str | None:
    """The state of the job behind a name; None where it does not exist for whoever asks."""
    try:
        with dial(server, name, secret) as socket:
            return json.loads(socket.recv(timeout=60))["state"]
    except (ConnectionClosed, InvalidStatus):
        return None


def tells(content: bytes | str) -> bool:
    """Whether an answer gives something of the first session away."""
    return MARK.encode() in (content.encode() if isinstance(content, str) else content)


# -- the endpoints ----------------------------------------------------------------------------------------------------


def tricks(name: str) -> list[str]:
    """A name, and ways to have it taken for another."""
    return [
        name, f"{name}/", f"./{name}", f"x/../{name}", f"..%2f{name}", f"%2e%2e/{name}", f"..%252f{name}",
        f"{name}%00", f"%5c{name}", f"{name}%0a", f"%20{name}", f"{name}?", f"{name}%3Fpass=", f"{name}.",
        f"{name.upper()}", f"{name},x", f"../runs/{name}", f"trash%2f..%2f{name}", f"made%2f{name}", f"/{name}",
        f"{name};", f"file:{name}", f"*{name[1:]}",
    ]  # fmt: skip


# Every route of the server, and what the second session asks there; "{}" is each name, in all its tricks.
OURS = {
    "/live/{job}": [],  # the socket: `test_sockets`
    "/live/{job}/frames.{kind}": ["/live/{}/frames.gif", "/live/{}/frames.mp4", "/live/{}/frames.png?sample=0"],
    "/live/scenes/{job}": ["/live/scenes/{}"],
    "/live/studies/{study}/{trial}": ["/live/studies/{}/0", "/live/studies/{}/0.bin", "/live/studies/{}/..%2fstudy"],
    "/live/runs/{run}/strip.webp": ["/live/runs/{}/strip.webp", "/live/runs/{}/strip.webp?pass={}"],
    "/live/recordings/{name}": ["/live/recordings/{}", "/live/recordings/..%2f..%2f{}"],
    "/live/metrics": ["/live/metrics", "/live/metrics?job={}"],
}
STREAMLITS = {
    "/_stcore/health": ["/_stcore/health?{}"],
    "/_stcore/metrics": ["/_stcore/metrics?families={}"],
    "/_stcore/host-config": ["/_stcore/host-config?{}"],
    "/_stcore/stream": [],  # the pages: `test_pages_give_nothing_away`
    "/_stcore/upload_file/{session_id}/{file_id}": ["/_stcore/upload_file/{}/{}"],
    "/_stcore/bidi-components/{path:path}": ["/_stcore/bidi-components/{}/x.js"],
    "/_stcore/agent/interact": ["/_stcore/agent/interact?{}"],
    "/_stcore/agent/openapi.json": ["/_stcore/agent/openapi.json?{}"],
    "/_stcore/agent/mcp": ["/_stcore/agent/mcp?{}"],
    "/media/{file_id:path}": ["/media/{}", "/media/{}.svg", "/media/../{}/samples.svg"],
    "/component/{path:path}": ["/component/{}/x.js", "/component/..%2f{}"],
    "/auth/login": ["/auth/login?provider={}"],
    "/auth/logout": ["/auth/logout?{}"],
    "/oauth2callback": ["/oauth2callback?state={}&code={}"],
    "": [
        "/{}",
        "/app/static/{}",
        "/runs/{}/share.json",
        "/{}/run.json",
    ],  # Streamlit's own page, for all other addresses
}
SCRIPTS = (".js",)  # the same for everybody


def test_every_route_is_tried_here():
    """A new route fails this until it stands above, with what somebody could ask for there."""
    mine = {r.path for r in app.app._user_routes}
    assert {p for p in mine if not p.endswith(SCRIPTS)} == set(OURS)
    assert {r.path for r in create_streamlit_routes(MagicMock())} == set(STREAMLITS)


@pytest.mark.parametrize("address", [a for asked in (OURS | STREAMLITS).values() for a in asked])
def test_endpoints_give_nothing_away(server, theirs, tries, address):
    nothing = get(server, address.replace("{}", "no-such-name"))
    for name in theirs.names:
        for trick in tricks(name):
            code, content = get(server, address.replace("{}", trick))
            tries.count += 1
            assert not tells(content), trick
            # Streamlit's own page answers what no route knows; else there is no such thing, in so many words.
            assert code in (400, 403, 404, 405, 422) or b"<!doctype html>" in content.lower() or code == nothing[0], (
                trick
            )
        if address.startswith("/live") and "metrics" not in address:  # not told from what does not exist
            assert get(server, address.replace("{}", name)) == nothing
    assert tells((studies.folder(theirs.study) / "0.bin").read_bytes())  # it was there to be found


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST", "OPTIONS", "PATCH"])
def test_nothing_can_be_written(server, theirs, tries, method):
    before = contents(runs.folder() / theirs.run), contents(own.folder() / theirs.upload)
    for address in (a for asked in (OURS | STREAMLITS).values() for a in asked):
        for name in theirs.names:
            code, content = get(server, address.replace("{}", name), method=method)
            tries.count += 1
            assert not tells(content)
            assert code >= 400 or method == "OPTIONS" or not content or b"<!doctype html>" in content.lower()
    assert (contents(runs.folder() / theirs.run), contents(own.folder() / theirs.upload)) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_sockets(server, theirs, tries):
    assert listens(server, theirs.job, FIRST) == "ready"
    for secret in (SECOND, "", FIRST[:-1], f"{FIRST}.1", ME, FIRST.upper()):
        for name in theirs.names:
            for trick in tricks(name) if secret == SECOND else [name]:
                tries.count += 1
                assert listens(server, trick, secret) is None, (trick, secret)
    assert listens(server, theirs.job, FIRST) == "ready"  # still as it was


# -- the pages --------------------------------------------------------------------------------------------------------


def queries(page: str, theirs: Things) -> list[str]:
    """Addresses that ask for what the first session has, by the words that a page reads."""
    run, study, upload, taught = theirs.run, theirs.study, theirs.upload, theirs.teacher
    if page == "runs":
        asked = [f"run={name}" for name in theirs.names]
        asked += [f"run={run}&pass={p}" for p in ("", run, ME, FIRST, "x" * 32, ",".join(theirs.names))]
        return [*asked, f"run={run},{study}", f"run=../{run}", f"run={run}%00"]
    if page == "tune":
        return [f"study={name}" for name in (study, run, taught, f"../{study}")] + [f"study={study}&pass={study}"]
    if page == "two_moons":
        asked = [f"job={name}" for name in (theirs.job, f"w.{theirs.job}", run)]
        return [*asked, f"data={upload}", f"data={run}", *(f"data=moons&teacher=run:{t}" for t in (taught, run))]
    return [f"run={run}", f"data={upload}", f"teacher=run:{taught}"]


# What the pages say of a run or a study that they show, whoever looks.
SHOWN = (
    "Student's accuracy",
    "it can be looked at",
    "trials are stored",
    "for: Agreement",
    "Settings and surroundings",
)


@pytest.mark.parametrize("page", [*PAGES, "status"])
def test_pages_give_nothing_away(server, theirs, tries, page):
    for query in ["", *queries(page, theirs)]:
        session = Session(server.url, f"cake_browser={SECOND}")
        text = session.open(page, query)
        session.close()
        tries.count += 1
        assert not tells(text), query
        assert '"exception"' not in text, query
        assert page not in ("runs", "tune") or not [words for words in SHOWN if words in text], query
        assert session.parameters.get("job") != theirs.job or page not in ("two_moons", "images"), query


def test_there_is_a_sentence(server, theirs):
    session = Session(server.url, f"cake_browser={SECOND}")
    assert "There is no such run." in session.open("runs", f"run={theirs.run}")
    assert "There is no such run." in session.open("tune", f"study={theirs.study}")
    session.close()
    session = Session(server.url, f"cake_browser={SECOND}")
    assert "or not shared" in session.open("two_moons", f"data={theirs.upload}")
    session.close()
    session = Session(server.url, f"cake_browser={SECOND}")
    assert "not shared." in session.open("two_moons", f"teacher=run:{theirs.teacher}")
    session.close()


def test_the_owner_finds_it_all(server, theirs):
    """The same questions, asked by the browser that it belongs to: so the answers above were for no other reason."""
    again = Session(server.url, f"cake_browser={FIRST}")
    assert tells(again.open("runs", f"run={theirs.run}"))
    assert "0 trials are stored" in again.open("tune", f"study={theirs.study}")
    again.close()
    again = Session(server.url, f"cake_browser={FIRST}")
    assert tells(again.open("two_moons", f"data={theirs.upload}"))
    again.close()
    again = Session(server.url, f"cake_browser={FIRST}")
    again.open("two_moons", f"job={theirs.job}")
    assert again.parameters["job"] == theirs.job
    again.close()
    assert get(server, f"/live/studies/{theirs.study}/0", FIRST) == (200, MARK.encode())
    assert get(server, f"/live/runs/{theirs.run}/strip.webp", FIRST)[0] == 200
    assert get(server, f"/live/{theirs.job}/frames.gif", FIRST)[0] == 200


# -- with a link ------------------------------------------------------------------------------------------------------


def test_a_shared_run_is_read_and_not_changed(server, theirs):
    theirs.session.open("runs", f"run={theirs.run}")
    theirs.session.click("Make a link")
    given = runs.shared(theirs.run)
    assert len(given) >= 32
    assert f"run={theirs.run}&pass={given}" in theirs.session.text
    kept = contents(runs.find(theirs.run))

    second = Session(server.url, f"cake_browser={SECOND}")
    seen = second.open("runs", f"run={theirs.run}&pass={given}")
    assert "it can be looked at and taken away" in seen
    assert "Student's accuracy" in seen
    assert '"label": "Delete"' not in seen
    assert "Make a link" not in seen
    assert get(server, f"/live/runs/{theirs.run}/strip.webp?pass={given}")[0] == 200
    assert get(server, f"/live/runs/{theirs.run}/strip.webp")[0] == 404
    assert not tells(second.open("tune", f"study={theirs.study}&pass={given}"))  # it opens this one alone
    assert "There is no such run." in second.text
    assert contents(runs.find(theirs.run)) == kept
    for change in (runs.delete, runs.share, runs.unshare):
        with pytest.raises(CakeError, match="somebody else"):
            change(theirs.run, runs.key_of(SECOND))

    theirs.session.open("runs", f"run={theirs.run}")
    theirs.session.click("Stop sharing")
    assert runs.shared(theirs.run) == ""
    assert "There is no such run." in second.open("runs", f"run={theirs.run}&pass={given}")
    assert not tells(second.text)
    assert get(server, f"/live/runs/{theirs.run}/strip.webp?pass={given}")[0] == 404
    second.close()
    theirs.session.open("runs", f"run={theirs.run}")
    theirs.session.click("Make a link")
    assert runs.shared(theirs.run) != given  # the old link stays dead
    theirs.session.click("Stop sharing")


def test_a_shared_study_is_read_and_not_changed(server, theirs):
    given = runs.share(theirs.study, ME)
    second = Session(server.url, f"cake_browser={SECOND}")
    assert "This study is somebody else's" in second.open("tune", f"study={theirs.study}&pass={given}")
    assert '"label": "Go on"' not in second.text
    assert get(server, f"/live/studies/{theirs.study}/0?pass={given}") == (200, MARK.encode())
    runs.unshare(theirs.study, ME)
    assert "There is no such run." in second.open("tune", f"study={theirs.study}&pass={given}")
    assert get(server, f"/live/studies/{theirs.study}/0?pass={given}")[0] == 404
    second.close()


def test_shared_data_and_teachers_are_used_until_they_are_not_shared(server, theirs):
    given = own.share(theirs.upload)
    second = Session(server.url, f"cake_browser={SECOND}")
    assert tells(second.open("two_moons", f"data={theirs.upload}&pass={given}"))
    assert "Remove from the server" not in second.text
    own.unshare(theirs.upload)
    assert not tells(second.open("two_moons", f"data={theirs.upload}&pass={given}"))
    second.close()
    given = runs.share(theirs.teacher, ME)
    second = Session(server.url, f"cake_browser={SECOND}")
    second.open("two_moons", f"teacher=run:{theirs.teacher}&pass={given}")
    assert second.parameters["teacher"] == f"run:{theirs.teacher}"
    runs.unshare(theirs.teacher, ME)
    second.close()
    second = Session(server.url, f"cake_browser={SECOND}")
    second.open("two_moons", f"teacher=run:{theirs.teacher}&pass={given}")
    assert "teacher" not in second.parameters
    second.close()


def until(socket: ClientConnection, true) -> dict:
    """The first message that fits, among the texts of a socket."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        message = socket.recv(timeout=60)
        if isinstance(message, str) and true(said := json.loads(message)):
            return said
    raise AssertionError("no such message")


def place(server: Server, job: str) -> tuple:
    """Where a job of the first session is."""
    with dial(server, job, FIRST) as owner:
        said = until(owner, lambda m: m["type"] == "status")
        return said["state"], said["version"], said["progress"], said["rate"]


COMMANDS = [
    {"op": "play"}, {"op": "pause"}, {"op": "step"}, {"op": "stop"}, {"op": "reset"}, {"op": "rate", "rate": 1},
    {"op": "set", "settings": {"step_size": 0.3}}, {"op": "look", "sample": None, "arrows": True},
]  # fmt: skip


def test_a_shared_job_is_watched_and_not_steered(server, theirs, tries):
    theirs.session.open("two_moons", f"job={theirs.job}")
    before = place(server, theirs.job)
    # The switch in the popover Share, as a browser reports it.
    given = share_job(theirs.session, True)
    assert given.startswith("w.")
    assert len(given) >= 34
    second = Session(server.url, f"cake_browser={SECOND}")
    second.open("two_moons", f"job={given}")
    assert "somebody else's run" in second.text
    assert second.parameters["job"] == given
    assert theirs.job not in second.text  # not even its name
    with dial(server, given) as socket:
        assert until(socket, lambda m: m["type"] == "status")["state"] == "ready"
        for command in COMMANDS:
            socket.send(json.dumps(command))
            assert "only its owner can steer it" in until(socket, lambda m: m["type"] == "refused")["message"]
            tries.count += 1
        assert get(server, f"/live/{given}/frames.gif")[0] == 200
        second.open("two_moons", f"job={given}&seed=8&sigma=0.5")  # another experiment: one of their own, then
        second.click("One of my own")
        assert second.parameters["job"] not in (given, theirs.job)
        assert place(server, theirs.job) == before  # none of it has changed anything
        share_job(theirs.session, False)
        with pytest.raises(ConnectionClosed) as closed:  # those who watch are sent away
            while True:
                socket.recv(timeout=60)
        assert closed.value.rcvd.code == 4404
    assert listens(server, given) is None
    assert get(server, f"/live/{given}/frames.gif")[0] == 404
    late = Session(server.url, f"cake_browser={SECOND}")
    assert "or is not shared any more" in late.open("two_moons", f"job={given}")
    late.close()
    second.close()
    assert listens(server, theirs.job, FIRST) == "ready"


def share_job(session: Session, on: bool) -> str:
    """Moves the switch "This very run"; returns the pass in the link that the popover then shows."""
    session.set("This very run", on)
    words = session.text.split("job=")
    return next((w.split("&")[0].split('"')[0].split("\\")[0] for w in words if w.startswith("w.")), "")
