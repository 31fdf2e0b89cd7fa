"""The page Tune: a study from its settings to the final runs, what is refused, going on, preferences."""

from __future__ import annotations

import pytest

from cake_core import runs, studies
from cake_core.pipeline import Experiment
from cake_core.studies import FREE, HUMAN
from pages._ui.cached import runner

from .test_pages import go, open_page, wait

KEY = "tune:moons:cake"


def press(app, label: str) -> None:
    next(b for b in app.button if b.label == label).click().run()
    assert not app.exception


def quick(app) -> None:
    """The smallest settings there are, for few trials."""
    app.select_slider(key=f"{KEY}:batches").set_value(1)
    app.select_slider(key=f"{KEY}:samples").set_value(50)
    app.select_slider(key=f"{KEY}:steps").set_value(10)
    app.select_slider(key=f"{KEY}:student:updates").set_value(50)
    app.run()
    assert not app.exception


def text(app) -> str:
    return " ".join(m.value for m in (*app.markdown, *app.caption))


@pytest.fixture(scope="module")
def tuned():
    """A page whose study of five trials is done."""
    app = open_page("tune")
    quick(app)
    app.slider(key="tune:trials:False").set_value(5)
    app.slider(key="tune:finals:False").set_value(2)
    app.run()
    press(app, "Tune")
    wait(app, app.session_state["tune:job"])
    return app


def test_a_study_from_settings_to_final_runs(tuned):
    app = tuned
    study = app.session_state["tune:study"]
    assert study in app.query_params["study"]
    config = studies.config_of(study)
    assert config.experiment.settings.samples == 50
    assert set(config.space) == {"weight_classification", "weight_contrast", "step_size", "decades"}
    assert "**Data-free**: no real data" in text(app)
    assert "5 trials are stored" in text(app)
    figures = app.segmented_control(key="tune:figure")
    assert figures.options[:2] == ["History", "Live curves"]
    table = next(d.value for d in app.dataframe if "state" in d.value)
    assert len(table) == 5
    assert "(Accuracy)" in table  # known, but steering nothing
    finals = next(d.value for d in app.dataframe if "setting" in d.value)
    assert list(finals["setting"]) == ["Tuned", "As trials began", "Noise only (control)", "Gain over the start"]
    assert "2,000 real test examples" in text(app)
    number = studies.read(study)["best"]
    gain = studies.read(study)["finals"][str(number)]["summary"][-1]["student_accuracy_interval"]
    chance, worth = "which may be chance" in text(app), "Tuning is worth" in text(app)
    assert (chance, worth) == (gain[0] <= 0 <= gain[1], gain[0] > 0)


def test_a_trial_opens_its_run(tuned):
    study = tuned.session_state["tune:study"]
    found = studies.read(study)
    row = next(r for r in found["rows"] if r["number"] == found["best"])
    assert "5 trials are stored" not in text(open_page("tune", study=study))  # somebody else has the address
    app = open_page("tune", tuned, study=study)  # as after a restart: another session, and only the address
    assert "5 trials are stored" in text(app)
    press(app, "Open it on Two moons")
    assert app.title[0].value == "Two moons"
    shown = app.session_state["screen:two_moons"]["experiment"]
    assert shown == studies.config_of(study).tried(row["params"])
    go(app, "tune")
    assert "5 trials are stored" in text(app)


def test_a_study_goes_on_and_another_trial_is_run_again(tuned):
    study = tuned.session_state["tune:study"]
    app = open_page("tune", tuned, study=study)
    more = next(n for n in app.number_input if n.label == "More trials")
    more.set_value(2).run()
    press(app, "Go on")
    wait(app, app.session_state["tune:job"])
    assert "7 trials are stored" in text(app)
    other = next(
        r["number"] for r in studies.read(study)["rows"] if str(r["number"]) not in studies.read(study)["finals"]
    )
    done = [r["number"] for r in studies.read(study)["rows"] if r["state"] == "finished"]
    other = next(n for n in done if str(n) not in studies.read(study)["finals"])
    app.selectbox(key="tune:final:trial").select(other).run()
    assert "has not been run again yet" in text(app)
    app.number_input(key="tune:final:seeds").set_value(1).run()
    press(app, "Run it again")
    wait(app, app.session_state["tune:job"])
    assert str(other) in studies.read(study)["finals"]


def test_studies_are_listed_to_their_owner_and_shared_by_a_link(tuned):
    study = tuned.session_state["tune:study"]
    me = runs.key_of(tuned.session_state["owner"])
    assert [e.run for e in runs.entries(me)] == [study]
    assert not [b for b in open_page("tune").selectbox if b.key == "tune:earlier"]
    app = open_page("tune", tuned)
    box = app.selectbox(key="tune:earlier")
    assert box.label == "Your studies"
    box.select(study).run()
    assert "trials are stored" in text(app)
    app.button(key=f"share:{study}:on").click().run()
    (link,) = [c.value for c in app.code if "study=" in c.value]
    shared = link.split("pass=")[1]
    other = open_page("tune", study=study, **{"pass": shared})
    assert "This study is somebody else's" in text(other)
    assert not [b for b in other.button if b.label in ("Go on", "Stop sharing")]
    assert [b.disabled for b in other.button if b.label == "Run it again"] == [True]
    app.button(key=f"share:{study}:off").click().run()
    other.run()
    assert "There is no such run" in other.error[0].value
    go(app, "runs")
    assert list(app.dataframe[0].value["run"]) == ["Study on Two moons"]


def test_what_uses_real_data_says_so():
    app = open_page("tune")
    app.multiselect(key="tune:objectives:moons").set_value(["accuracy", "calls"]).run()
    assert "It uses real labelled data, so what it finds is not data-free." in text(app)
    app.multiselect(key="tune:objectives:moons").set_value([FREE]).run()
    assert "not data-free" not in text(app)


def test_what_makes_no_sense_is_refused():
    app = open_page("tune")
    app.multiselect(key=f"{KEY}:what").set_value([]).run()
    press(app, "Tune")
    assert "choose at least one setting" in app.error[0].value
    app.multiselect(key=f"{KEY}:what").set_value(["step_size"]).run()
    app.multiselect(key="tune:objectives:moons").set_value([HUMAN, FREE]).run()
    press(app, "Tune")
    assert "stands alone" in app.error[0].value
    assert "tune:study" not in app.session_state


def test_a_link_to_no_study_says_so():
    app = open_page("tune", study="20260101-000000-0123456789abcdef")
    assert "There is no such run" in app.error[0].value


def test_images_have_their_own_settings_and_objectives():
    app = open_page("tune")
    app.selectbox(key="tune:data").select("digits").run()
    assert not app.exception
    assert "Boundary covered" not in app.multiselect(key="tune:objectives:digits").options
    assert "Smoothness weight" in app.multiselect(key="tune:digits:cake:what").options


def test_one_prefers_a_picture():
    app = open_page("tune")
    quick(app)
    app.multiselect(key="tune:objectives:moons").set_value([HUMAN]).run()
    app.slider(key="tune:trials:True").set_value(3).run()
    press(app, "Tune")
    wait(app, app.session_state["tune:job"])
    study = app.session_state["tune:study"]
    assert "Trials are judged by you" in text(app)
    assert app.subheader[0].value == "Which is better?"
    press(app, "Left is better")
    press(app, "Right is better")
    pairs = studies.preferences(study)
    assert len(pairs) == 2
    assert "2 pairs compared so far" in text(app)
    strength = studies.strengths(range(3), pairs)
    table = next(d.value for d in app.dataframe if "state" in d.value)
    assert list(table["What you prefer"]) == [f"{strength[n]:.4g}" for n in range(3)]
    press(app, "Left is better")
    assert "You have compared all pairs" in app.info[0].value
    press(app, "Make more of what I prefer")
    job = runner().find(app.session_state["tune:job"])
    assert job.spec["trials"] == 7
    wait(app, job.name)
    assert studies.next_pair(range(7), studies.preferences(study)) is not None


def test_the_start_on_points_leaves_something_to_gain():
    app = open_page("tune")
    usual = Experiment.from_query({"data": "moons"}).settings.sigma
    assert app.select_slider(key=f"{KEY}:sigma").value == 0.1 < usual
