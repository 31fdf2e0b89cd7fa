"""The page Learn, by Streamlit's own test harness: from the list through predict, run and explain, and by links."""

from __future__ import annotations

from pages._ui.cached import runner

from .test_pages import open_page, wait


def text_of(app) -> str:
    return " ".join(
        m.value for m in (*app.markdown, *app.caption, *app.subheader, *app.success, *app.warning, *app.info)
    )


def press(app, key: str) -> None:
    app.button(key=key).click().run()
    assert not app.exception


def test_from_the_list_to_the_answer():
    app = open_page("lessons")
    assert len([b for b in app.button if b.key.startswith("lesson:open:")]) == 10
    press(app, "lesson:open:naive")
    assert app.query_params["lesson"] == ["naive"] or app.query_params["lesson"] == "naive"
    press(app, "lesson:naive:next")  # the question
    assert app.button(key="lesson:naive:next").label == "Skip"
    app.radio(key="lesson:naive:1:ask").set_value(0).run()
    assert app.button(key="lesson:naive:next").label == "Next"
    press(app, "lesson:naive:next")  # the run
    assert "Goal:" in text_of(app)
    assert app.button(key="lesson:naive:next").label == "Skip"
    name = app.session_state["screen:lesson:naive"]["job"]
    job = runner().find(name)
    assert job.spec["experiment"]["method"] == "noise"
    job.pace(0)
    job.play()
    wait(app, name)
    assert "Goal reached:" in text_of(app)
    assert app.button(key="lesson:naive:next").label == "Next"
    assert app.session_state["lessons"]["naive"]["kept"]["noise.agreement"] == job.result["outcome"]["agreement"]
    press(app, "lesson:naive:next")  # the next run has an experiment of its own
    second = runner().find(app.session_state["screen:lesson:naive"]["job"])
    assert second.spec["experiment"]["method"] == "naive"
    press(app, "lesson:naive:next")  # skipped: the explanation says so, with the number that is known
    said = text_of(app)
    assert "It is otherwise: *Away from the boundary" in said
    assert f"**{100 * job.result['outcome']['plane_agreement']:.1f} %**" in said
    assert "(not run yet)" in said
    press(app, "lesson:leave")
    assert "Step 5 of 8" in text_of(app)


def test_a_link_opens_a_step_and_its_solution_is_set():
    app = open_page("lessons", lesson="noise", step="4")
    assert "Shake them" in text_of(app)
    experiment = app.session_state["screen:lesson:noise"]["experiment"]
    assert (experiment.method, experiment.settings.temperature) == ("lake", 0)
    press(app, "lesson:noise:3:solve")
    assert app.session_state["screen:lesson:noise"]["experiment"].settings.temperature == 0.1
    job = runner().find(app.session_state["screen:lesson:noise"]["job"])
    assert app.session_state["lessons"]["noise"]["met"][3] == [False, False]  # set is not done
    job.pace(0)
    job.play()
    wait(app, job.name)
    assert app.session_state["lessons"]["noise"]["met"][3] == [True, True]


def test_an_unknown_lesson_is_a_sentence():
    app = open_page("lessons", lesson="pie")
    assert app.error[0].value.startswith("There is no lesson 'pie'.")


def test_a_damaged_file_is_a_sentence_among_the_others(tmp_path, monkeypatch):
    (tmp_path / "bad.md").write_text("---\ntitle: <script>alert(1)</script>\nabout: A.\nminutes: 1\n---\n## Run: Go\n")
    monkeypatch.setenv("CAKE_LESSONS_DIR", str(tmp_path))
    app = open_page("lessons")
    assert app.warning[0].value.startswith("**bad.md** is left out. The text holds HTML")
    assert len([b for b in app.button if b.key.startswith("lesson:open:")]) == 10


def test_the_glossary_finds_words():
    app = open_page("glossary")
    everything = len(app.latex)
    app.text_input(key="glossary:find").set_value("langevin").run()
    assert 1 <= len(app.latex) < everything
    app.text_input(key="glossary:find").set_value("zzz").run()
    assert app.info
