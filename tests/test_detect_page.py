"""The page Detect: the game from line-up to reveal, a suspect's weights, refusals, what was measured."""

from __future__ import annotations

import pickle
import time

import pytest

from cake_core import runs, teacher
from pages._ui.cached import runner

from .test_pages import open_page, wait

LENET = (teacher.SHIPPED_FOLDER / "digits" / "lenet5.safetensors").read_bytes()


def quick(app, key: str) -> None:
    """The smallest settings there are."""
    for name, value in (("updates", 20), ("nulls", 1)):
        widget = f"{key}:images:{name}"
        (app.select_slider if name == "updates" else app.number_input)(key=widget).set_value(value)
    app.select_slider(key=f"{key}:probes:images:steps").set_value(2)
    app.select_slider(key=f"{key}:probes:images:count").set_value(10)
    app.run()
    assert not app.exception


def press(app, label: str) -> None:
    next(b for b in app.button if b.label == label).click().run()
    assert not app.exception


def text(app) -> str:
    return " ".join(m.value for m in app.markdown)


@pytest.fixture(scope="module")
def played():
    """A page whose game has come to the guesses."""
    app = open_page("detect")
    app.slider(key="detect:game:teachers").set_value(2)
    app.slider(key="detect:game:suspects").set_value(2)
    app.checkbox(key="detect:game:kind:cake").uncheck()
    app.select_slider(key="detect:game:images:teacher_updates").set_value(50)
    quick(app, "detect:game")
    press(app, "Make a line-up")
    wait(app, app.session_state["detect:game:job"])
    return app


def test_the_game_from_line_up_to_reveal(played):
    app = played
    job = runner().find(app.session_state["detect:game:job"])
    assert [s.value for s in app.subheader][:3] == ["1. The line-up", "2. The suspects", "3. Your guess"]
    assert len(app.dataframe[0].value) == 3  # the suspect and two teachers
    assert "You said" not in text(app)
    reveal = next(b for b in app.button if b.label == "Reveal")
    assert reveal.disabled
    truth = [t["teacher"] for t in job.result["truth"]]
    for number, who in enumerate(truth):
        right = "None of them" if who is None else f"Teacher {who + 1}"
        app.segmented_control(key=f"detect:game:guess:{job.name}:{number}").set_value(right).run()
    press(app, "Reveal")
    by_label = {m.label: m.value for m in app.metric}
    assert by_label["You"] == "2 of 2"
    score = sum(v["named"] == t for v, t in zip(job.result["verdicts"], truth, strict=True))
    assert by_label["The score"] == f"{score} of 2"
    assert by_label["A blind guess"] == "0.7 of 2"
    assert "Learned from the labels alone" in text(app)
    # The line-up's teachers are candidates of the other tab from now on, and its suspects can be checked there.
    assert "Teacher 1 of the line-up" in app.multiselect(key="detect:tool:candidates:digits:4").options
    assert (runs.find(job.result["run"]) / "suspect-A.safetensors").is_file()


def test_no_kind_is_no_line_up():
    app = open_page("detect")
    for kind in ("kd", "cake", "scratch"):
        app.checkbox(key=f"detect:game:kind:{kind}").uncheck()
    press(app, "Make a line-up")
    assert "at least one kind of student" in app.error[0].value


def bring(content: bytes, name: str = "mine.safetensors"):
    app = open_page("detect")
    app.file_uploader(key="detect:tool:file").set_value((name, content, "application/octet-stream")).run()
    app.selectbox(key="detect:tool:model:digits").select("lenet5")
    quick(app, "detect:tool")
    press(app, "Check")
    return app, runner().find(app.session_state["detect:tool:job"])


def test_a_suspect_is_checked_and_the_report_can_be_downloaded():
    app, job = bring(LENET)
    wait(app, job.name)
    assert "Copied from LeNet-5 (shipped), most likely" in app.success[0].value
    assert "What this can't say" in text(app)
    assert job.result["report"].startswith("# Was this network copied")
    assert job.result["calls"] == 10


def test_a_pickle_is_refused():
    app, job = bring(pickle.dumps({"w": 1}))
    end = time.monotonic() + 90
    while job.state != "failed":
        assert time.monotonic() < end
        time.sleep(0.05)
    app.run()
    assert "is a pickle" in app.error[0].value


def test_what_was_measured_is_shown():
    app = open_page("detect")
    assert (app.dataframe[-1].value["the paper prints"] != "").any()
    app.segmented_control(key="detect:measured:score").set_value("acs").run()
    assert not app.exception
    assert set(app.dataframe[-1].value["N"]) == {"50", "100"}
    assert "How detectable is a copy made without data?" in text(app)
    assert "copied with few calls it is **29 %**" in text(app)
