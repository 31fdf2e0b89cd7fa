"""Who may see what: owners, passes, and whoever has neither. And what an instructor has to know."""

from __future__ import annotations

import os
import time

import pytest
from streamlit.testing.v1 import AppTest

from cake_core import access, runs, studies
from cake_core.access import Reader, may_see
from cake_core.data import own
from cake_core.errors import CakeError
from cake_core.jobs import Job, JobRunner
from cake_core.pipeline import Experiment
from cake_core.studies import TuneConfig
from pages._ui import account, owner
from pages._ui.cached import runner
from pages._ui.instructor import SENTENCE, short_name

from .test_pages import experiment, job_name, open_page

MINE, THEIRS, PASS = "a" * 32, "b" * 32, "p" * 32


@pytest.mark.parametrize(
    ("owner", "shared", "somebody", "seen"),
    [
        (MINE, "", Reader(MINE), True),
        (MINE, "", Reader(THEIRS), False),
        (MINE, "", Reader(""), False),
        (MINE, "", Reader(THEIRS, frozenset([PASS])), False),
        (MINE, PASS, Reader(THEIRS), False),
        (MINE, PASS, Reader(THEIRS, frozenset([PASS])), True),
        (MINE, PASS, Reader(THEIRS, frozenset([PASS[:-1], "é", ""])), False),
        (MINE, "", Reader(THEIRS, frozenset([""])), False),
        ("", "", Reader(THEIRS), True),
        (MINE, "", None, True),
    ],
)
def test_the_rule(owner, shared, somebody, seen):
    assert may_see(owner, shared, somebody) is seen


@pytest.fixture
def run() -> str:
    with runs.owned_by(MINE):
        return runs.create(kind="distill")


@pytest.fixture
def asked(monkeypatch):
    """Says who asks from now on."""
    return lambda who: monkeypatch.setattr(access, "_who", lambda: who)


def test_a_run_is_shared_and_not_any_more(run, asked):
    stranger = Reader(THEIRS)
    assert not runs.seen_by(run, stranger)
    given = runs.share(run, MINE)
    assert len(given) == 32  # 192 bits in base64
    assert runs.share(run, MINE) == given
    guest = Reader(THEIRS, frozenset([given]))
    assert runs.seen_by(run, guest)
    assert not runs.seen_by(run, stranger)
    asked(guest)
    assert runs.find(run).name == run
    for change in (runs.share, runs.unshare, runs.delete):
        with pytest.raises(CakeError, match="it can be looked at, but not changed"):
            change(run, THEIRS)
    with pytest.raises(CakeError, match="not changed"):
        runs.changeable(run)
    asked(None)
    runs.unshare(run, MINE)
    asked(guest)
    with pytest.raises(CakeError, match="There is no such run"):
        runs.find(run)
    asked(None)
    assert runs.share(run, MINE) != given
    runs.delete(run, MINE)
    assert not runs.seen_by(run, guest)


def test_a_download_is_made_while_the_run_is_shared_and_not_after(run, monkeypatch):
    given = runs.share(run, MINE)
    monkeypatch.setattr(owner, "reader", lambda: Reader(THEIRS, frozenset([given])))
    make = owner.while_seen(run, lambda: "made")  # the page is drawn, and the file is made when somebody clicks
    assert make() == "made"
    runs.unshare(run, MINE)
    with pytest.raises(CakeError, match="not shared any more"):
        make()


def test_nothing_but_the_sentence_tells_a_foreign_run_from_none(run, asked):
    asked(Reader(THEIRS))
    sentences = []
    for name in (run, "20250101-000000-0123456789abcdef", "nonsense", f"../{run}"):
        for ask in (runs.find, runs.read, runs.begun, runs.events, runs.entry, runs.metrics, runs.made):
            with pytest.raises(CakeError) as refused:
                ask(name)
            sentences.append(str(refused.value))
    assert len(set(sentences)) == 1


def test_what_cannot_be_read_belongs_to_nobody_who_asks(run, asked):
    """A file cut off in the middle must not open a run to all."""
    path = runs.folder() / run / "config.json"
    path.write_text(path.read_text()[:20])
    assert not runs.seen_by(run, Reader(MINE))
    assert runs.seen_by(run, None)
    path.unlink()  # of an older version
    assert runs.seen_by(run, Reader(THEIRS))


def test_a_share_that_was_cut_off_opens_nothing(run):
    given = runs.share(run, MINE)
    path = runs.folder() / run / "share.json"
    whole = path.read_text()
    for end in range(0, len(whole) - 2, 7):
        path.write_text(whole[:end])
        assert not runs.seen_by(run, Reader(THEIRS, frozenset([given, ""])))
    assert runs.share(run, MINE) != given  # and can be made again


def test_the_list_is_whole_whoever_asks(run, asked):
    before = {e.run for e in runs.entries()}
    asked(Reader(THEIRS))
    assert {e.run for e in runs.entries()} == before
    assert runs.entries(THEIRS) == []
    assert run in {e.run for e in runs.entries(MINE)}


def test_data_are_their_owners(asked):
    with runs.owned_by(MINE):
        name = own.create("Mine", "points", (2,), ("a", "b"))
    assert own.names(MINE) == [name]
    assert own.names("") == own.names(THEIRS) == []
    asked(Reader(THEIRS))
    assert own.find(name) is None
    for change in (own.delete, own.share, own.unshare):
        with pytest.raises(CakeError, match="belong to somebody else"):
            change(name)
    asked(Reader(MINE))
    given = own.share(name)
    asked(Reader(THEIRS, frozenset([given])))
    assert own.find(name).title == "Mine"
    with pytest.raises(CakeError, match="belong to somebody else"):
        own.delete(name)
    asked(Reader(MINE))
    own.unshare(name)
    own.delete(name)
    assert own.find(name) is None


# -- studies ----------------------------------------------------------------------------------------------------------


def study(key: str, size: int, hours_ago: float, trial_minutes_ago: float) -> str:
    with runs.owned_by(key):
        made = studies.begin(TuneConfig(space={"sigma": (0.1, 1.0)}))
    path = runs.find(made)
    (path / "trials" / "0.bin").write_bytes(bytes(size))
    runs.write_json(path / "run.json", {"kind": "tune"})
    runs.write_json(path / "config.json", {**runs.begun(made), "created": time.time() - 3600 * hours_ago})
    (path / "study.db").write_bytes(b"")
    then = time.time() - 60 * trial_minutes_ago
    os.utime(path / "study.db", (then, then))
    return made


def test_studies_make_way_like_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("CAKE_RUNS_DIR", str(tmp_path))
    old, busy, starred, new = (
        study(MINE, 40_000, hours, minutes) for hours, minutes in ((9, 400), (8, 5), (7, 400), (6, 400))
    )
    runs.mark(starred, MINE, star=True)
    listed = runs.entries(MINE)
    assert {e.kind for e in listed} == {"tune"}
    assert all(e.bytes > 40_000 for e in listed)  # what its trials left counts
    assert [e.data for e in listed] == ["moons"] * 4
    assert runs.entries(THEIRS) == []
    monkeypatch.setenv("CAKE_MAX_RUNS_GB", str(sum(e.bytes for e in listed) / 1e9 - 1e-6))
    runs.create()
    left = {e.run for e in runs.entries(MINE)}
    assert left == {busy, starred, new}  # the oldest went; the one before it had a trial five minutes ago
    monkeypatch.setenv("CAKE_MAX_RUNS_GB", str(1e-4))
    runs.create()
    assert {e.run for e in runs.entries(MINE)} == {busy, starred}
    assert not (tmp_path / old).exists()


# -- jobs -------------------------------------------------------------------------------------------------------------


def test_passes_of_jobs(monkeypatch):
    made = JobRunner()
    monkeypatch.setattr(made, "_hand_over", lambda job: None)
    one, other = (made.submit("distill", {}, owner=f"{who}.1") for who in ("me", "you"))
    assert made.watched("") is made.watched("w.") is made.watched(one.name) is None
    given = one.share()
    assert given == one.share() != other.share()
    assert made.watched(given) is one
    told = []
    one.subscribe(told.append)
    one.unshare()
    assert made.watched(given) is None
    assert told  # those who watch hear of it at once
    assert one.share() != given
    made.close()


def test_a_job_may_not_read_what_its_owner_may_not_see(run):
    for spec in (f"runs.find('{run}')", f"runner().submit('export', {{'run': '{run}', 'what': 'csv'}})"):
        script = f"""
import streamlit as st
from cake_core import runs
from cake_core.errors import CakeError
from pages._ui.cached import runner
from pages._ui.owner import begin_session
begin_session()
try:
    {spec}
    st.write("seen")
except CakeError as error:
    st.write(str(error))
"""
        shown = AppTest.from_string(script).run()
        assert not shown.exception
        assert "There is no such run" in shown.markdown[0].value


# -- instructors ------------------------------------------------------------------------------------------------------

KEY = "what-only-the-instructor-knows"


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("CAKE_INSTRUCTOR_KEY", KEY)
    monkeypatch.setattr("pages._ui.instructor.SECONDS_BETWEEN_TRIES", 0.0)


def test_no_key_no_instructor(monkeypatch):
    monkeypatch.delenv("CAKE_INSTRUCTOR_KEY", raising=False)
    assert not account.is_instructor_key("")
    assert not open_page("status").text_input
    monkeypatch.setenv("CAKE_INSTRUCTOR_KEY", "short")
    assert "fewer than 16 characters" in open_page("status").error[0].value


@pytest.mark.parametrize("wrong", ["", KEY[:-1], KEY.upper(), KEY + " ", "é"])
def test_a_wrong_key_opens_nothing(key, wrong):
    app = open_page("status")
    app.text_input[0].set_value(wrong)
    app.button[0].click().run()
    assert "That is not the key" in app.error[0].value
    assert "Everybody's jobs" not in [s.value for s in app.subheader]


def enter(app: AppTest) -> None:
    """With the instructor's key."""
    app.text_input[0].set_value(KEY)
    app.button[0].click().run()


def in_class() -> tuple[AppTest, Job, AppTest]:
    """A student's page, its running job, and the instructor's page Status."""
    student = open_page("two_moons", steps="20000")
    job = runner().find(job_name(student, "two_moons"))
    job.play()
    app = open_page("status")
    enter(app)
    return student, job, app


def test_an_instructor_sees_and_stops(key):
    _, job, app = in_class()
    assert not app.exception
    assert "Everybody's jobs" in [s.value for s in app.subheader]
    (line,) = [m.value for m in app.markdown if short_name(job) in m.value]
    assert "Distillation: CAKE on Two moons" in line
    assert "running" in line
    assert job.owner.partition(".")[0] not in line
    app.button(key=f"status:stop:{job.name}").click().run()
    assert not app.exception
    assert (job.state, job.message) == ("stopped", SENTENCE)
    assert not [m for m in app.markdown if short_name(job) in m.value]


def test_an_instructor_watches_a_run_and_its_owner_shares_nothing_by_it(key):
    student, job, app = in_class()
    app.button(key=f"status:watch:{job.name}").click().run()
    assert not app.exception
    assert app.title[0].value == "Two moons"
    assert app.session_state["screen:two_moons"]["job"] == job.shown
    assert experiment(app, "two_moons") == experiment(student, "two_moons")
    assert "somebody else's run, which you see as an instructor" in " ".join(i.value for i in app.info)
    assert (job.shared, job.state) == ("", "running")
    assert runner().watched(job.shown) is job
    another = open_page("two_moons", job=job.name)  # whoever has only its name
    assert another.session_state["screen:two_moons"]["job"] != job.name
    job.share()
    job.unshare()
    assert runner().watched(job.shown) is job  # the owner's link is another
    job.stop()


def test_what_is_somebodys_own_is_not_shown_to_an_instructor(key):
    student = open_page("two_moons", steps="20000")
    owner = student.session_state["owner"]
    with runs.owned_by(runs.key_of(owner)):
        data_set = own.create("mine", "points", (2,), ("a", "b"))
    spec = {"experiment": Experiment.from_query({"steps": "20000"}).to_dict()}
    job = runner().submit("distill", spec, owner=owner, play=True)
    job.spec["experiment"]["data"]["name"] = data_set
    app = open_page("status")
    enter(app)
    app.button(key=f"status:watch:{job.name}").click().run()
    assert not app.exception
    assert "data or a teacher of its owner's own" in app.error[0].value
    assert app.title[0].value == "Status"
    job.stop()


@pytest.mark.parametrize(
    ("claims", "is_one"),
    [
        ({"email": "Carol@Example.org", "email_verified": True}, True),
        ({"email": "carol@example.org", "email_verified": False}, False),
        ({"email": "carol@example.org", "email_verified": "true"}, False),
        ({"email": "carol@example.org"}, False),
        ({"email": "", "email_verified": True}, False),
        ({"email_verified": True}, False),
        ({"email": "carol@example.org.evil", "email_verified": True}, False),
        ({}, False),
    ],
)
def test_instructors_by_their_address(monkeypatch, claims, is_one):
    monkeypatch.setenv("CAKE_INSTRUCTORS", "dan@example.org, carol@example.org,")
    assert account.is_instructor(claims) is is_one


def test_people_are_told_apart_by_provider_and_subject():
    ada = account.secret_of({"iss": "https://a.example", "sub": "1"})
    assert ada == account.secret_of({"iss": "https://a.example", "sub": "1", "email": "new@example.org"})
    others = [{"iss": "https://b.example", "sub": "1"}, {"iss": "https://a.example", "sub": "2"}]
    assert len({ada, *map(account.secret_of, others)}) == 3
    for nobody in ({}, {"iss": "https://a.example"}, {"sub": "1"}, {"iss": "", "sub": "1"}, {"iss": ["x"], "sub": "1"}):
        assert account.secret_of(nobody) == ""
    assert ":" in ada  # which no browser's cookie may have


def test_when_another_person_signs_in_nothing_of_the_one_before_stays(monkeypatch):
    """In another tab, say; and who has signed out sees nothing at all."""
    now = {"iss": "https://a.example", "sub": "ada", "name": "Ada"}
    monkeypatch.setattr(account, "login_is_on", lambda: True)
    monkeypatch.setattr(account, "claims_of_session", lambda: now)
    monkeypatch.setattr(account, "providers", lambda: [None, "keycloak"])
    app = open_page("two_moons", method="lake")
    first, job = app.session_state["owner"], job_name(app, "two_moons")
    assert first.startswith("user:")
    assert first == f"{account.secret_of(now)}.{first.partition('.')[2]}"
    app.session_state["instructor"] = True
    app.run()
    assert job_name(app, "two_moons") == job
    now = now | {"sub": "bob"}
    app.run()
    assert not app.exception
    assert runs.key_of(app.session_state["owner"]) != runs.key_of(first)
    assert job_name(app, "two_moons") != job
    assert "instructor" not in app.session_state
    now = {}
    app.run()
    assert app.title[0].value == "CAKE Lab"
    assert [b.label for b in app.button] == ["Sign in", "Sign in with Keycloak"]


# -- signing in that can't work ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"cookie_secret": "short", "redirect_uri": "http://x/oauth2callback"}, "fewer than 32 characters"),
        ({"redirect_uri": "http://x/oauth2callback"}, "fewer than 32 characters"),
        ({"cookie_secret": "x" * 32, "redirect_uri": "http://x/"}, "with /oauth2callback behind it"),
        ({"cookie_secret": "x" * 32}, "with /oauth2callback behind it"),
    ],
)
def test_a_login_that_is_half_set_up_lets_nobody_in(monkeypatch, section, sentence):
    account.login_is_on.cache_clear()
    monkeypatch.setattr(account.st, "secrets", Secrets({"auth": section}))
    try:
        with pytest.raises(CakeError, match=sentence):
            account.login_is_on()
        assert account.is_outside()
        assert not owner.caller({"cake_browser": "x" * 32}).admitted
    finally:
        account.login_is_on.cache_clear()


def test_secrets_that_cannot_be_read_let_nobody_in(monkeypatch, tmp_path):
    account.login_is_on.cache_clear()
    broken = tmp_path / "secrets.toml"
    broken.write_text("[auth\n")
    monkeypatch.setattr(account.st, "secrets", Secrets(None))
    monkeypatch.setattr(account.st, "get_option", lambda name: [str(broken)])
    try:
        with pytest.raises(CakeError, match=r"secrets.toml can't be read"):
            account.login_is_on()
        broken.unlink()
        assert not account.login_is_on()
    finally:
        account.login_is_on.cache_clear()


class Secrets(dict):
    """Streamlit's secrets; None: there are none."""

    def __init__(self, content):
        super().__init__(content or {})
        self.there = content is not None

    def load_if_toml_exists(self) -> bool:
        return self.there
