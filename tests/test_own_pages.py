"""Data of one's own on the pages: brought, shown, chosen everywhere, removed; a refused file changes nothing."""

from __future__ import annotations

import pytest
import torch

from cake_core import data, runs
from cake_core.data import own, tables
from cake_core.limits import Limits
from pages._ui.cached import runner

from .test_folders import a_set, zipped
from .test_pages import experiment, go, job_name, open_page, wait
from .test_tables import table

FILES = {"two_moons": ("points.csv", table(60).encode(), "text/csv"), "images": ("pictures.zip", zipped(a_set()), "")}


def bring(screen: str, file: tuple[str, bytes, str] | None = None, app=None):
    """The dialog of a page, with a file in it."""
    app = app or open_page(screen)
    app.button(key=f"{screen}:bring").click().run()
    app.file_uploader(key=f"{screen}:bring:file").set_value(file or FILES[screen]).run()
    assert not app.exception
    return app


def use(app, screen: str) -> str:
    """Takes what the dialog shows; returns the name of the set."""
    app.button(key=f"{screen}:bring:use").click().run()
    assert not app.exception
    return experiment(app, screen).data.name


@pytest.mark.parametrize("screen", FILES)
def test_a_file_becomes_the_data_of_the_screen(screen):
    app = bring(screen)
    counts = next(d.value for d in app.dataframe if "class" in d.value)
    assert list(counts["class"]) == ["a", "b"]
    assert list(counts["to test on"]) == ([6, 6] if screen == "two_moons" else [2, 2])
    assert experiment(app, screen).data.name in ("moons", "digits")  # nothing has changed yet
    next(t for t in app.text_input if ":bring:title:" in t.key).set_value("Pretty things").run()
    name = use(app, screen)
    assert own.is_own(name)
    assert data.info(name).title == "Pretty things"
    assert app.query_params["data"] == name
    box = app.selectbox(key=f"{screen}:data")
    assert box.value == name
    assert "Pretty things" in box.options
    assert not app.file_uploader  # the dialog is closed
    assert runner().find(job_name(app, screen)).spec["experiment"]["data"]["name"] == name
    # What draws points does not apply to points that are there.
    assert not [s for s in app.slider if s.key.startswith(f"{screen}:data.")]


def test_every_page_offers_it_and_no_other_session_does():
    app = bring("two_moons")
    name = use(app, "two_moons")
    for page, box in (("teacher", "teacher:data"), ("compare", "compare:data")):
        go(app, page)
        assert app.selectbox(key=box).options.count("points") == 1
        app.selectbox(key=box).select(name).run()
        assert not app.exception
    go(app, "images")
    assert "points" not in app.selectbox(key="images:data").options  # another kind
    for page, box in (("teacher", "teacher:data"), ("compare", "compare:data"), ("two_moons", "two_moons:data")):
        assert "points" not in open_page(page).selectbox(key=box).options


def test_who_is_given_a_link_with_the_data_sees_them_but_can_not_remove_them():
    first = bring("two_moons")
    name = use(first, "two_moons")
    assert "Yours." in " ".join(c.value for c in first.caption)
    stranger = open_page("two_moons", data=name)
    assert experiment(stranger, "two_moons").data.name == "moons"
    assert "or not shared" in stranger.warning[0].value
    first.toggle(key="two_moons:share:mine").set_value(True).run()
    shared = first.code[0].value.split("pass=")[1].split("&")[0]
    second = open_page("two_moons", data=name, **{"pass": shared})
    assert experiment(second, "two_moons").data.name == name
    assert "points" in second.selectbox(key="two_moons:data").options
    assert second.query_params["pass"] == shared  # a reload still has it
    assert not [b for b in second.button if b.key == "two_moons:remove"]
    first.toggle(key="two_moons:share:mine").set_value(False).run()
    second.run()
    assert experiment(second, "two_moons").data.name == "moons"


def test_the_same_browser_finds_its_data_in_another_session():
    first = bring("two_moons")
    name = use(first, "two_moons")
    again = open_page("two_moons", first)
    assert "points" in again.selectbox(key="two_moons:data").options
    again.selectbox(key="two_moons:data").select(name).run()
    assert [b for b in again.button if b.key == "two_moons:remove"]


def test_a_run_on_it_from_teacher_to_embeddings_and_then_it_is_removed():
    app = bring("two_moons", app=open_page("two_moons", batches="1", samples="50", steps="5", student__updates="50"))
    name = use(app, "two_moons")
    job = runner().find(job_name(app, "two_moons"))
    job.pace(0)
    job.play()
    wait(app, job.name, 300)
    assert "12 real test examples" in " ".join(m.value for m in app.markdown)
    run = job.result["run"]
    go(app, "student")
    assert app.selectbox(key="student:run").value == run
    go(app, "embeddings")
    wait(app, next(n for what, n in app.session_state["jobs"].items() if '"pca"' in what), 300)
    assert app.get("plotly_chart")

    go(app, "two_moons")
    app.button(key="two_moons:remove").click().run()
    assert not app.exception
    assert not app.error
    assert experiment(app, "two_moons").data.name == "moons"
    assert own.find(name) is None
    go(app, "student")
    assert not app.error
    assert run not in app.session_state["runs"]  # there is nothing to compare its students on


def test_a_set_that_has_gone_meanwhile_is_a_sentence_and_the_defaults():
    app = bring("two_moons")
    name = use(app, "two_moons")
    own.delete(name)
    app.run()
    assert not app.exception
    assert app.error[0].value == (
        "This data set of somebody's own is not here (any more). Bring the file once more. "
        "The defaults are shown instead."
    )
    assert experiment(app, "two_moons").data.name == "moons"
    late = open_page("two_moons", data=name)
    assert "is not here (any more)" in late.warning[0].value


@pytest.mark.parametrize(
    ("screen", "file", "sentence"),
    [
        ("two_moons", ("x.csv", b"x,y,label\n1,nan,a\n", ""), "Line 2, y is 'nan', which is no finite number."),
        ("two_moons", ("x.csv", b"", ""), "The file is empty."),
        ("images", ("x.zip", b"hello", ""), "The file is no zip file."),
        ("images", ("x.zip", zipped({"a/1.png": b""}), ""), "All images lie in one folder, 'a'."),
    ],
)
def test_a_refused_file_keeps_everything_as_it_was(screen, file, sentence, caplog):
    app = open_page(screen)
    before, job = experiment(app, screen), job_name(app, screen)
    bring(screen, file, app)
    assert app.error[0].value.startswith(sentence)
    (told,) = (r.told for r in caplog.records if r.getMessage() == "upload_refused")
    assert told["reason"] == app.error[0].value
    assert len(told["owner"]) == 8
    assert not [b for b in app.button if b.key == f"{screen}:bring:use"]
    assert experiment(app, screen) == before
    assert job_name(app, screen) == job
    app.file_uploader(key=f"{screen}:bring:file").set_value(FILES[screen]).run()
    assert not app.error  # a better file, and all is well


def test_options_change_what_images_become():
    app = bring("images")
    assert "28 x 28 pixels in grey" in " ".join(m.value for m in app.markdown)
    app.selectbox(key="images:bring:side").select(8).run()
    assert "8 x 8 pixels in grey" in " ".join(m.value for m in app.markdown)
    loaded = data.load(experiment(app, "images").data.replace(name=use(app, "images")))
    assert loaded.train_x.shape == (16, 1, 8, 8)
    assert loaded.train_x.dtype == torch.uint8


def test_a_file_is_read_once(monkeypatch):
    calls = []
    real = tables.read
    monkeypatch.setattr(tables, "read", lambda content: calls.append(1) or real(content))
    app = bring("two_moons")
    next(t for t in app.text_input if ":bring:title:" in t.key).set_value("other").run()
    assert len(calls) == 1


def test_limits_are_sentences(monkeypatch):
    app = bring("two_moons")
    monkeypatch.setattr(runner(), "limits", Limits(max_sets_per_owner=0))
    use(app, "two_moons")
    assert app.error[0].value.startswith("You have brought 0 data sets, as many as may be.")
    monkeypatch.setattr(runner(), "limits", Limits(max_uploads_gb=-1))
    use(app, "two_moons")
    assert app.error[0].value.startswith("This server's room for data of one's own is used up.")
    assert experiment(app, "two_moons").data.name == "moons"
    with runs.owned_by(runs.key_of(app.session_state.owner)):
        own.create("before", "points", (2,), ("a", "b"))
    monkeypatch.setattr(runner(), "limits", Limits(max_owner_gb=0))
    use(app, "two_moons")
    assert "CAKE_MAX_OWNER_GB" in app.error[0].value
    monkeypatch.setattr(runner(), "limits", Limits())
    assert own.is_own(use(app, "two_moons"))


def test_limits_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("CAKE_MAX_SETS_PER_OWNER", "3")
    monkeypatch.setenv("CAKE_MAX_UPLOAD_MB", "7")
    limits = Limits.from_environment()
    assert (limits.max_sets_per_owner, limits.max_upload_mb) == (3, 7)
