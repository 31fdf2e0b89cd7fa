"""Signing in: a provider on loopback, the whole OpenID flow in a browser, and what each person may then do."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from itsdangerous import URLSafeTimedSerializer
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from cake_core import runs
from pages._ui import account

from .harness import Server, leave
from .provider import Provider

pytestmark = pytest.mark.browser

LONG = 90_000  # ms: the machine may be busy
COOKIE_SECRET = "a-secret-of-the-tests-that-signs-the-cookies"
ADA = {"sub": "ada", "name": "Ada", "email": "ada@example.org", "email_verified": True}
BOB = {"sub": "bob", "name": "Bob", "email": "bob@example.org", "email_verified": True}
CAROL = {"sub": "carol", "name": "Carol", "email": "Carol@Example.org", "email_verified": True}
MALLORY = {"sub": "mallory", "name": "Mallory", "email": "carol@example.org", "email_verified": False}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.close()


@pytest.fixture(scope="module")
def lab(provider, tmp_path_factory, runs_folder) -> Iterator[Server]:
    """A server on which people sign in; Carol teaches."""
    folder = tmp_path_factory.mktemp("login")
    (folder / "secrets.toml").write_text(provider.secrets(COOKIE_SECRET))
    made = Server(
        "app.py", folder / "log", f"--secrets.files={folder / 'secrets.toml'}", CAKE_INSTRUCTORS="carol@example.org"
    )
    yield made
    made.close()


@pytest.fixture(scope="module")
def enter(lab, provider, browser) -> Iterator[Any]:
    """Signs somebody in, in a browser of their own; each person once, for all tests."""
    known: dict[str, Any] = {}

    def entered(person: dict[str, Any]):
        if person["sub"] not in known:
            provider.person = person
            page = browser.new_context(viewport={"width": 1300, "height": 1000}).new_page()
            page.goto(lab.url)
            page.get_by_role("button", name="Sign in").click(timeout=LONG)
            page.get_by_role("button", name=person["name"]).wait_for(timeout=LONG)
            known[person["sub"]] = page
        return known[person["sub"]]

    yield entered
    for page in known.values():
        leave(page.context)


@pytest.fixture(scope="module")
def job(lab, enter) -> str:
    """A job of Ada's that runs for long."""
    page = enter(ADA)
    page.goto(f"{lab.url}/two_moons?samples=50&steps=20000")
    page.wait_for_url("**job=**", timeout=LONG)
    play(page)
    page.locator(".cake-live[data-state=running]").wait_for(timeout=LONG)
    return page.url.split("job=")[1].split("&")[0]


def play(page) -> None:
    """Presses Play, once the run has something to show: before, the socket may not be open."""
    page.locator(".cake-live .status").filter(has_text="Press Play").wait_for(timeout=LONG)
    page.locator(".cake-live .play").click(timeout=LONG)


def cookies(page) -> dict[str, str]:
    return {"Cookie": "; ".join(f"{c['name']}={c['value']}" for c in page.context.cookies())}


def answer(lab: Server, path: str, headers: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """The first words of a socket; ("closed", its code) where it was closed."""
    with connect(lab.url.replace("http", "ws") + f"/live/{path}", max_size=None, additional_headers=headers) as socket:
        try:
            said = socket.recv(timeout=30)
            return "open", json.loads(said)
        except ConnectionClosed as closed:
            return "closed", {"code": closed.rcvd.code}


def status(lab: Server, path: str, headers: dict[str, str]) -> int:
    try:
        return urllib.request.urlopen(urllib.request.Request(f"{lab.url}{path}", headers=headers)).status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("path", ["", "runs", "two_moons?seed=7", "status", "tune"])
def test_nobody_sees_anything_before_signing_in(lab, browser, path):
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{lab.url}/{path}")
    page.get_by_role("button", name="Sign in").wait_for(timeout=LONG)
    assert page.get_by_role("heading", level=1).all_inner_texts() == ["CAKE Lab"]
    assert page.locator(".cake-live").count() == 0
    assert page.get_by_text("Runs", exact=True).count() == 0  # nor where one could go
    assert ("open the link again" in page.content()) == ("?" in path)
    context.close()


def test_the_whole_flow_and_what_is_mine(lab, provider, enter, job, browser):
    ada = enter(ADA)
    assert {"discovery", "keys", "authorize", "token"} <= set(provider.met)
    assert answer(lab, job, cookies(ada))[1]["type"] == "status"
    # Her runs are kept under her name, not under her browser's: at another computer she finds them again.
    ada.goto(f"{lab.url}/two_moons?batches=1&samples=20&steps=4&student.updates=20&seed=4711")
    play(ada)
    ada.get_by_role("heading", name="How well does it copy?").wait_for(timeout=LONG)
    key = runs.key_of(account.secret_of({"iss": provider.url, "sub": "ada"}))
    assert {(e.seed, e.finished) for e in runs.entries(key)} == {(4711, True), (0, False)}
    provider.person = ADA
    elsewhere = browser.new_context()
    page = elsewhere.new_page()
    page.goto(lab.url)
    page.get_by_role("button", name="Sign in").click(timeout=LONG)
    page.get_by_role("button", name="Ada").wait_for(timeout=LONG)
    page.goto(f"{lab.url}/runs")
    page.get_by_text("2 runs of yours").wait_for(timeout=LONG)
    page.goto(f"{lab.url}/two_moons?job={job}")
    page.locator(".cake-live[data-state=running]:not([data-watch])").wait_for(timeout=LONG)
    elsewhere.close()


def test_another_person_gets_nothing(lab, enter, job):
    bob, ada = enter(BOB), enter(ADA)
    assert answer(lab, job, cookies(bob)) == ("closed", {"code": 4404})
    assert answer(lab, job, {}) == ("closed", {"code": 4404})
    (hers,) = [c["value"] for c in ada.context.cookies() if c["name"] == "cake_browser"]
    assert answer(lab, job, {"Cookie": f"cake_browser={hers}"}) == ("closed", {"code": 4404})
    (run,) = [e.run for e in runs.entries() if e.seed == 4711]
    bob.goto(f"{lab.url}/runs?run={run}")
    bob.get_by_text("There is no such run").wait_for(timeout=LONG)
    bob.get_by_text("There are no runs of yours yet").wait_for(timeout=LONG)


def test_forged_cookies_open_nothing(lab, provider, job):
    claims = {**ADA, "iss": provider.url, "origin": lab.url, "is_logged_in": True, "provider": "default"}

    def cookie(secret: str = COOKIE_SECRET, salt: str = "_streamlit_user", **change: Any) -> dict[str, str]:
        signed = URLSafeTimedSerializer(secret, salt=salt).dumps(json.dumps({**claims, **change}))
        return {"Cookie": f"_streamlit_user={signed}"}

    assert answer(lab, job, cookie())[0] == "open"  # what a true one looks like
    for forged in (
        cookie("another-secret-of-no-less-than-32-characters"),
        cookie(salt="_streamlit_user_tokens"),  # signed by us, for something else
        cookie(origin="http://evil.example"),  # of another app with the same secret
        cookie(is_logged_in=False),
        cookie(iss="http://evil.example"),
        cookie(sub=""),
        cookie(sub=["ada"]),
        {"Cookie": "_streamlit_user=" + json.dumps(claims).replace(" ", "").replace('"', "%22")},
        {"Cookie": "_streamlit_user=\xff\xfe"},
    ):
        assert answer(lab, job, forged) == ("closed", {"code": 4404})


@pytest.mark.long
def test_a_link_is_for_those_who_have_signed_in(lab, enter, job):
    ada, bob = enter(ADA), enter(BOB)
    ada.goto(f"{lab.url}/two_moons?job={job}")
    ada.locator(".cake-live[data-state=running]").wait_for(timeout=LONG)
    ada.get_by_role("button", name="Share").click(timeout=LONG)
    ada.get_by_text("This very run").click(timeout=LONG)
    link = ada.locator("[data-testid=stPopoverBody] code").filter(has_text="job=w.")
    link.wait_for(timeout=LONG)
    shared = link.inner_text().split("job=")[1].split("&")[0]
    assert answer(lab, shared, cookies(bob))[0] == "open"
    assert answer(lab, shared, {}) == ("closed", {"code": 4404})
    assert status(lab, f"/live/{shared}/frames.gif", {}) == 404
    bob.goto(link.inner_text())
    bob.locator(".cake-live[data-watch][data-state=running]").wait_for(timeout=LONG)
    bob.get_by_text("somebody else's run").wait_for(timeout=LONG)


@pytest.mark.long
def test_an_instructor_sees_and_stops_all(lab, provider, enter, job):
    ada, carol = enter(ADA), enter(CAROL)
    short = runs.key_of(account.secret_of({"iss": provider.url, "sub": "ada"}))[:8]
    mallory = enter(MALLORY)  # says that she has Carol's address, and nobody vouches for it
    mallory.goto(f"{lab.url}/status")
    mallory.get_by_role("heading", name="Memory").wait_for(timeout=LONG)
    assert mallory.get_by_text("Everybody's jobs").count() == 0
    assert answer(lab, job, cookies(mallory)) == ("closed", {"code": 4404})
    assert answer(lab, job, cookies(carol))[0] == "open"
    carol.goto(f"{lab.url}/status")
    row = carol.locator("[class*=st-key-status-job]").filter(has_text=short)
    row.get_by_text("running").wait_for(timeout=LONG)
    assert "Ada" not in carol.get_by_test_id("stMain").inner_text()
    row.get_by_role("button", name="Stop").click(timeout=LONG)
    ada.get_by_text("The instructor has stopped this run.").first.wait_for(timeout=LONG)
    row.wait_for(state="detached", timeout=LONG)


def test_signing_out_ends_it(lab, enter, job):
    bob = enter(BOB)
    bob.goto(lab.url)
    bob.get_by_role("button", name="Bob").click(timeout=LONG)
    bob.get_by_role("button", name="Sign out").click(timeout=LONG)
    bob.get_by_role("button", name="Sign in").wait_for(timeout=LONG)
    assert "_streamlit_user" not in {c["name"] for c in bob.context.cookies()}
    bob.goto(f"{lab.url}/runs")
    bob.get_by_role("button", name="Sign in").wait_for(timeout=LONG)
