"""The tab Bring your own of the page Teacher: from a file to a page that copies it; refusals are sentences."""

from __future__ import annotations

import pickle

import pytest

from cake_core import data, teacher
from cake_core.jobs import Job
from cake_core.limits import Limits
from pages._ui.cached import runner

from .test_pages import experiment, go, job_name, open_page, wait
from .waiting import until

DIGITS = (teacher.SHIPPED_FOLDER / "digits" / "lenet5.safetensors").read_bytes()
MOONS = (teacher.SHIPPED_FOLDER / "moons" / "mlp.safetensors").read_bytes()


def bring(content: bytes, name: str = "mine.safetensors"):
    app = open_page("teacher")
    app.file_uploader(key="own_teacher:file").set_value((name, content, "application/octet-stream")).run()
    assert not app.exception
    return app


def press(app) -> None:
    next(b for b in app.button if b.label == "Check and import").click().run()
    assert not app.exception


def imported(app) -> dict:
    wait(app, app.session_state["teacher:import:job"])
    return runner().find(app.session_state["teacher:import:job"]).result


def test_nothing_is_asked_before_there_is_a_file():
    app = open_page("teacher")
    assert not any(b.label == "Check and import" for b in app.button)
    assert "at most 300 MB" in " ".join(c.value for c in app.caption)


def test_a_teacher_of_digits_is_imported_and_used():
    app = bring(DIGITS)
    app.selectbox(key="own_teacher:data").select("digits").run()
    app.selectbox(key="own_teacher:model:images").select("lenet5").run()
    press(app)
    run = imported(app)["run"]
    text = " ".join(m.value for m in app.markdown)
    assert "**97.2 %** of 500 test examples right (95 % interval 95.4 to 98.3 %)" in text
    assert "Imported from `mine.safetensors`" in " ".join(c.value for c in app.caption)
    assert not app.warning
    app.button(key="teacher:use_imported").click().run()
    now = experiment(app, "images")
    assert (now.teacher, now.data.name) == (f"run:{run}", "digits")
    assert "Yours: LeNet-5" in app.selectbox(key="images:teacher").options
    go(app, "images")
    assert job_name(app, "images")


def test_a_wrong_normalisation_is_doubted():
    app = bring(DIGITS)
    app.selectbox(key="own_teacher:data").select("digits").run()
    app.selectbox(key="own_teacher:model:images").select("lenet5").run()
    app.selectbox(key="own_teacher:normalisation:images:").select("custom").run()
    app.text_input(key="own_teacher:Mean").set_value("9").run()
    app.text_input(key="own_teacher:Standard deviation").set_value("100").run()
    press(app)
    assert imported(app)["card"]["accuracy"]["value"] < 0.2
    assert "guessing gets 10.0 %" in app.warning[0].value


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("teacher.pt", pickle.dumps({"w": 1}), "is a pickle (protocol 4). Opening a pickle runs whatever code"),
        ("teacher.safetensors", pickle.dumps({"w": 1}), "is a pickle"),
        ("teacher.h5", b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file, as Keras writes it"),
    ],
)
def test_what_is_no_teacher_is_refused_before_anything_is_asked(name, content, sentence):
    app = bring(content, name)
    assert sentence in app.error[0].value
    assert not any(b.label == "Check and import" for b in app.button)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(DIGITS[:-9], "was cut short"), (DIGITS, "the file fits LeNet-5. Choose LeNet-5.")],
)
def test_what_does_not_fit_is_refused_by_the_task(content, sentence):
    app = bring(content)
    app.selectbox(key="own_teacher:data").select("digits").run()
    press(app)  # as an MLP
    job = runner().find(app.session_state["teacher:import:job"])
    until(lambda: job.state == "failed", 90)
    app.run()
    assert sentence in app.error[0].value
    assert any(b.label == "Check and import" for b in app.button)  # and it can be put right


def test_a_press_is_not_lost_where_another_job_ends_while_the_page_is_drawn(monkeypatch):
    """The shipped teacher above is looked at by a job; it ends just when the page says how far it is."""
    touch = Job.touch

    def at_its_end(job: Job) -> None:
        touch(job)
        until(lambda: job.state in ("done", "failed"))

    app = bring(DIGITS)
    app.selectbox(key="own_teacher:data").select("digits").run()
    monkeypatch.setattr(Job, "touch", at_its_end)
    app.selectbox(key="teacher:inspect").select("moons/mlp")
    press(app)
    assert "teacher:import:job" in app.session_state


def test_points_of_something_else_are_copied_without_data():
    app = bring(MOONS)
    app.selectbox(key="own_teacher:data").select("something else").run()
    app.segmented_control(key="own_teacher:kind").set_value("Points").run()
    app.text_input(key="own_teacher:title").set_value("Leaves").run()
    app.text_area(key="own_teacher:classes").set_value("oak\nash").run()
    app.toggle(key="own_teacher:try").set_value(True).run()
    app.number_input(key="own_teacher:y").set_value(2.0).run()
    press(app)
    result = imported(app)
    assert "no test data here" in " ".join(m.value for m in app.markdown)
    assert result["tried"]["answers"][0][0] in ("oak", "ash")
    app.button(key="teacher:use_imported").click().run()
    assert data.info(experiment(app, "two_moons").data.name).title == "Leaves"
    screen = app.session_state["screen:two_moons"]
    settings = screen["experiment"].settings.replace(batches=2, samples=60, steps=5)
    student = screen["experiment"].student.replace(updates=50)
    screen["experiment"] = screen["experiment"].replace(settings=settings, student=student)
    go(app, "two_moons")
    job = runner().find(job_name(app, "two_moons"))
    job.pace(0)
    job.play()
    wait(app, job.name)
    assert app.metric[0].value == "unknown"
    assert app.metric[0].delta == "no test data here"
    assert "fresh synthetic samples" in " ".join(m.value for m in app.markdown)
    for page in ("student", "embeddings"):
        go(app, page)
        assert "Leaves has no real examples here" in app.info[0].value
    go(app, "compare")
    assert experiment(app, "two_moons").data.name not in app.selectbox(key="compare:data").options


def test_the_limit_can_be_lowered(monkeypatch):
    monkeypatch.setattr(runner(), "limits", Limits(max_teacher_mb=7))
    app = open_page("teacher")
    assert "at most 7 MB" in " ".join(c.value for c in app.caption)


def test_a_full_server_says_so(monkeypatch):
    app = bring(DIGITS)
    monkeypatch.setattr(runner(), "limits", Limits(max_uploads_gb=0))
    press(app)
    assert "room for data and teachers of one's own is used up" in app.error[0].value
