"""Every page, by Streamlit's own test harness: it draws, its widgets change what they say, errors are sentences."""

from __future__ import annotations

import json
import re
import time
from functools import cache
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from cake_core import models, runs
from cake_core.comparison import SOURCES
from cake_core.history import History
from cake_core.methods import METHODS
from cake_core.methods.notes import notes
from cake_core.pipeline import Experiment
from cake_core.synthetic import SyntheticSet
from cake_core.tasks import Distill, find
from pages._ui import live, panels, routes
from pages._ui.cached import parameter_counts, runner

ROOT = Path(__file__).parents[1]
FRAME = ROOT / "pages" / "_ui" / "frame.py"
PAGES = [
    "home", "lessons", "two_moons", "teacher", "images", "student", "embeddings", "compare", "few_call", "detect",
    "tune", "runs", "methods", "glossary",
]  # fmt: skip


def open_page(name: str, like: AppTest | None = None, **query: str) -> AppTest:
    """A page with a query, in a session of its own: of another browser, or of the one that has a page open already."""
    app = AppTest.from_file(str(FRAME), default_timeout=300).run()
    assert not app.exception
    if like is not None:
        app.session_state["owner"] = f"{like.session_state['owner'].partition('.')[0]}.{id(app)}"
    for key, value in query.items():
        app.query_params[key.replace("__", ".")] = value
    if name != "home":
        app.switch_page(str(ROOT / "pages" / f"{name}.py")).run()
    assert not app.exception
    return app


def go(app: AppTest, name: str) -> None:
    """As a click on the navigation does: another page, and an empty query."""
    app.query_params.clear()
    app.switch_page(str(ROOT / "pages" / f"{name}.py")).run()
    assert not app.exception


def wait(app: AppTest, name: str, seconds: float = 300) -> None:
    """Until a job has ended; then the page is drawn again, as the browser would have it."""
    job = runner().find(name)
    end = time.monotonic() + seconds
    while job.state not in ("done", "failed"):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert job.state == "done", job.message
    app.run()
    assert not app.exception


def experiment(app: AppTest, screen: str) -> Experiment:
    return app.session_state[f"screen:{screen}"]["experiment"]


def job_name(app: AppTest, screen: str) -> str:
    return app.session_state[f"screen:{screen}"]["job"]


@pytest.mark.parametrize("name", PAGES)
def test_every_page_draws(name):
    app = open_page(name)
    assert app.title[0].value
    assert not app.error


def test_home_leads_everywhere():
    app = open_page("home")
    assert len(app.page_link) == len(PAGES) - 1


def test_widgets_change_the_experiment_and_the_url():
    app = open_page("two_moons")
    assert experiment(app, "two_moons") == Experiment()
    app.selectbox(key="two_moons:method").select("lake").run()
    app.select_slider(key="two_moons:sigma").set_value(0.1).run()
    app.selectbox(key="two_moons:data").select("circles").run()
    now = experiment(app, "two_moons")
    assert (now.method, now.settings.sigma, now.data.name) == ("lake", 0.1, "circles")
    assert app.query_params["method"] == "lake"
    assert app.query_params["sigma"] == "0.1"
    assert app.query_params["data"] == "circles"
    assert app.query_params["job"] == job_name(app, "two_moons")


def test_a_link_opens_the_same_experiment():
    flat = {"method": "lake", "sigma": "0.1", "data": "spirals", "seed": "7", "student__updates": "500"}
    app = open_page("two_moons", **flat)
    expected = Experiment.from_query({k.replace("__", "."): v for k, v in flat.items()})
    assert experiment(app, "two_moons") == expected


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"method": "pie"}, "There is no method 'pie'."),
        ({"steps": "many"}, "'steps' must be a whole number"),
        ({"nonsense": "1"}, "There is no setting 'nonsense'."),
        ({"data": "digits"}, "it shows images, and this page points."),
    ],
)
def test_a_bad_link_is_a_sentence_and_the_defaults(query, sentence):
    app = open_page("two_moons", **query)
    assert app.error[0].value.startswith("This link can't be followed as it is: " + sentence)
    assert experiment(app, "two_moons") == Experiment()


def test_the_same_browser_joins_its_running_job():
    first = open_page("two_moons", method="lake")
    second = open_page("two_moons", first, job=job_name(first, "two_moons"))
    assert job_name(second, "two_moons") == job_name(first, "two_moons")
    assert experiment(second, "two_moons").method == "lake"


def test_others_watch_a_running_job_by_its_link_alone():
    first = open_page("two_moons", method="lake")
    job = runner().find(job_name(first, "two_moons"))
    stranger = open_page("two_moons", job=job.name)
    assert job_name(stranger, "two_moons") != job.name
    given = job.share()
    second = open_page("two_moons", job=given)
    assert job_name(second, "two_moons") == given
    assert experiment(second, "two_moons").method == "lake"
    assert "somebody else's run" in second.info[0].value
    third = open_page("two_moons", job=given)
    second.select_slider(key="two_moons:sigma").set_value(0.1).run()  # a run of their own, then
    assert job_name(second, "two_moons") not in (job.name, given)
    assert runner().find(job.name) is job
    assert job.spec["experiment"]["settings"]["sigma"] != 0.1
    job.unshare()
    third.run()  # it was watched until now
    assert "not shared any more" in third.warning[0].value
    assert job_name(third, "two_moons") not in (job.name, given)
    late = open_page("two_moons", job=given)
    assert "not shared any more" in late.warning[0].value
    assert job_name(late, "two_moons") not in (job.name, given)


def test_presets_and_new_jobs():
    app = open_page("two_moons")
    first = job_name(app, "two_moons")
    app.button(key="two_moons:preset:One spot, LAKE").click().run()
    assert experiment(app, "two_moons").method == "lake"
    assert experiment(app, "two_moons").settings.sigma == 0.1
    second = job_name(app, "two_moons")
    assert second != first
    assert runner().find(first) is None  # the page holds one job
    app.run()
    assert job_name(app, "two_moons") == second  # drawing again begins nothing


def test_live_settings_do_not_begin_a_new_job():
    app = open_page("two_moons")
    name = job_name(app, "two_moons")
    state = app.session_state["screen:two_moons"]
    state["experiment"] = state["experiment"].replace(settings=state["experiment"].settings.replace(step_size=0.5))
    app.run()
    assert job_name(app, "two_moons") == name
    assert runner().find(name).spec["experiment"]["settings"]["step_size"] == 0.5


def test_results_with_their_control():
    app = open_page("two_moons", batches="2", samples="100", steps="20", student__updates="300")
    job = runner().find(job_name(app, "two_moons"))
    job.pace(0)
    job.play()
    wait(app, job.name)
    labels = [m.label for m in app.metric]
    assert labels[:2] == ["Student's accuracy", "Agrees with teacher"]
    assert " to " in app.metric[0].delta  # the interval
    text = " ".join(m.value for m in app.markdown)
    assert "2,000 real test examples" in text
    assert "student of as many samples of pure noise" in text


def test_images_then_student_then_embeddings():
    """One path through the app: samples made on Images are what the later pages go on with."""
    app = open_page("images", batches="2", samples="100", steps="8", student__updates="60")
    job = runner().find(job_name(app, "images"))
    job.pace(0)
    job.play()
    wait(app, job.name)
    run = job.result["run"]
    assert list(app.session_state["runs"]) == [run]

    go(app, "student")
    assert app.selectbox(key="student:run").value == run
    app.select_slider(key="student:digits:updates").set_value(50).run()
    app.slider(key="student:seeds").set_value(1).run()
    train_students(app)
    table = app.dataframe[0].value
    assert list(table["learned from"]) == list(SOURCES.values())
    assert " to " in table["accuracy, %"][0]  # the interval of a single seed

    go(app, "embeddings")
    pca = next(n for what, n in app.session_state["jobs"].items() if '"pca"' in what)
    wait(app, pca)
    assert app.get("plotly_chart")


@cache
def made(name: str) -> tuple[str, Experiment]:
    """A run that has made some samples."""
    flat = {"data": name, "batches": "2", "samples": "100", "steps": "4", "student.updates": "20"}
    task = Distill(Experiment.from_query(flat).to_dict())
    for _ in task:
        pass
    return task.finish()["run"], task.run.experiment


def student_page(name: str) -> AppTest:
    """The page Student in a session that has made some samples."""
    app = open_page("home")
    run, experiment = made(name)
    app.session_state["runs"] = {run: experiment}
    go(app, "student")
    wait(app, parameter_counts(name).name)
    return app


def train_students(app: AppTest) -> None:
    next(b for b in app.button if b.label == "Train").click().run()
    assert not app.exception
    wait(app, app.session_state["student:job"])


def texts(app: AppTest) -> str:
    return " ".join(m.value for m in [*app.markdown, *app.caption])


def test_student_page_says_how_large_everything_is_before_training():
    app = student_page("digits")
    assert "**15,738** parameters, its teacher (LeNet-5 on Digits (8x8)) 61,706: **25.5 %**" in texts(app)
    architectures = app.selectbox(key="student:model:digits:True")
    counts = [int(re.search(r", ([\d,]+)", o)[1].replace(",", "")) for o in architectures.options]
    assert len(counts) == sum("images" in m.kinds for m in models.MODELS.values())
    assert counts == sorted(counts)
    assert all(("(for a GPU)" in o) == o.startswith(GPU_NAMES) for o in architectures.options)
    architectures.select("mlp").run()
    assert "**26,122** parameters" in texts(app)


GPU_NAMES = ("WResNet-40", "MobileNet", "VGG", *(f"ResNet-{depth}," for depth in (18, 34, 50, 101, 152)))


def test_student_page_without_and_with_distillation():
    app = student_page("digits")
    app.select_slider(key="student:digits:updates").set_value(50).run()
    assert app.latex  # its equation
    app.slider(key="student:kd:temperature").set_value(2.0).run()
    assert app.checkbox(key="student:from:noise").disabled
    app.checkbox(key="student:from:labels").uncheck().run()
    train_students(app)
    spec = runner().find(app.session_state["student:job"]).spec
    assert spec["sources"] == ["samples", "noise", "kd"]
    assert spec["kd"]["temperature"] == 2.0
    table = app.dataframe[0].value
    assert list(table["learned from"]) == [SOURCES[k] for k in ("samples", "noise", "kd")]
    assert " ± " in table["accuracy, %"][0]  # two seeds
    for source in ("samples", "noise", "kd"):
        app.button_group(key="student:results:source:3").set_value(source).run()
        result = runner().find(app.session_state["student:job"]).result
        matrix = result["confusion"][source]
        same = sum(matrix[k][k] for k in range(10))
        assert f"holds {same:,} of 1,000 answers: **{same / 10:.1f} %**" in texts(app)
        read = [c.value for c in app.caption if c.value.startswith("Teacher: ")]
        assert len(read) == len(result["differences"][source]["images"])
    labels = [b.label for b in app.get("download_button")]
    assert labels == ["This student's weights", "All students as CSV", "The curves as CSV"]
    for source in ("samples", "kd"):
        app.checkbox(key=f"student:from:{source}").uncheck().run()
    assert not app.latex
    train_students(app)
    assert list(app.dataframe[0].value["learned from"]) == ["Noise only (control)"]


def test_student_page_for_points():
    app = student_page("moons")
    app.select_slider(key="student:moons:updates").set_value(50).run()
    train_students(app)
    assert "agreement over the plane, %" in app.dataframe[0].value
    assert "The plane in view: they agree on" in texts(app)


def test_student_page_when_a_training_diverges():
    app = student_page("moons")
    app.segmented_control(key="student:moons:optimizer").set_value("sgd").run()
    app.select_slider(key="student:moons:mlp:learning_rate").set_value(10.0).run()
    next(b for b in app.button if b.label == "Train").click().run()
    job = runner().find(app.session_state["student:job"])
    end = time.monotonic() + 60
    while job.state not in ("done", "failed"):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert job.state == "failed"
    assert "Lower the learning rate" in job.message
    app.run()
    assert not app.exception  # the live view says it; nothing else is there to show
    assert not app.dataframe


def test_teacher_page_trains_one_that_can_be_used():
    app = open_page("teacher")
    app.select_slider(key="teacher:recipe:moons:mlp:updates").set_value(200).run()
    app.slider(key="teacher:points:noise").set_value(0.2).run()
    next(b for b in app.button if b.label == "Train").click().run()
    wait(app, app.session_state["teacher:job"])
    app.button(key="teacher:use").click().run()
    now = experiment(app, "two_moons")
    assert now.teacher.startswith("run:")
    assert now.data.noise == 0.2


def test_teacher_page_without_data_on_disk(monkeypatch, tmp_path):
    monkeypatch.setenv("CAKE_DATA_DIR", str(tmp_path))
    app = open_page("teacher")
    app.selectbox(key="teacher:inspect").select("mnist/lenet5").run()
    assert not app.exception
    assert "has to be downloaded first" in app.warning[0].value


@pytest.mark.parametrize("name", METHODS)
def test_methods_page_tells_all_that_the_docstring_says(name):
    app = open_page("methods", method=name)
    method, known = METHODS[name], notes(METHODS[name])
    seen = texts(app)
    assert method.summary in seen
    assert known.algorithm in seen
    assert all(d in seen for d in known.deviations)
    assert all(url in seen for _, url in known.sources)
    assert [e.value for e in app.latex] == [f"$$\n{method.equation}\n$$"]
    assert len([b for b in app.button if b.label == "Show me"]) == len(method.failures)


def test_a_failure_is_one_click_away():
    app = open_page("methods", method="naive")
    app.button(key="methods:naive:fail:0").click().run()
    assert not app.exception
    shown = experiment(app, "two_moons")
    assert shown == Experiment.from_query({"method": "naive", **METHODS["naive"].failures[0].query})


def test_a_method_of_another_name_is_the_first_choice():
    assert METHODS["cake"].summary in texts(open_page("methods", method="pie"))


def test_compare_shows_controls_and_several_seeds():
    app = open_page("compare")
    app.number_input(key="compare:batches:moons").set_value(2).run()
    app.number_input(key="compare:samples:moons").set_value(50).run()
    app.slider(key="compare:seeds:True").set_value(2).run()
    methods = next(m for m in app.multiselect if m.label == "Methods")
    assert methods.value == ["cake", "lake", "naive"]
    methods.set_value(["cake"]).run()
    next(b for b in app.button if b.label == "Compare").click().run()
    job = runner().find(app.session_state["compare:job"])
    assert job.spec["methods"] == ["cake", "brownian", "noise"]
    assert job.spec["settings"]["cake"]["sigma"] == 0.1
    wait(app, job.name)
    table = app.dataframe[0].value
    assert list(table["method"])[-2:] == ["Brownian (control)", "Noise only (control)"]
    assert " ± " in table["accuracy"][0]


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("compare", ("over 5 seeds", "four types of network")),
        ("tune", ("from 42.4 to **99.8 %**", "nothing better than the defaults: 84.8 for 86.0 %")),
        ("detect", ("there a copy gives itself away",)),
        ("few_call", ("Each answer costs one call",)),
    ],
)
def test_who_has_run_nothing_yet_sees_how_it_goes_and_what_was_measured(page, said):
    app = open_page(page)
    text = " ".join(m.value for m in app.markdown)
    assert all(s in text for s in said)
    if page == "compare":
        assert [e.proto.expanded for e in app.expander] == [True, True]


def test_two_methods_go_in_lock_step():
    app = open_page("compare")
    app.selectbox(key="duel:right").select("noise").run()
    app.button(key="duel:begin").click().run()
    assert not app.exception
    one, other = (runner().find(n) for n in app.session_state["duel:jobs"])
    assert one.partner is other
    assert other.partner is one
    assert [j.spec["experiment"]["method"] for j in (one, other)] == ["cake", "noise"]
    app.button(key="duel:begin").click().run()  # others in their place
    assert runner().find(one.name) is None
    for name in app.session_state["duel:jobs"]:
        runner().forget(runner().find(name))


def test_compare_shows_who_can_copy_whom():
    app = open_page("compare")
    app.selectbox(key="grid:data").select("digits").run()
    app.multiselect(key="grid:students:digits").set_value(["lenet5-half", "vit3"]).run()
    app.slider(key="grid:seeds:digits").set_value(1).run()
    app.number_input(key="grid:batches:digits").set_value(1).run()
    app.number_input(key="grid:updates:digits").set_value(5).run()
    app.button(key="grid:begin").click().run()
    job = runner().find(app.session_state["grid:job"])
    assert job.spec["teachers"] == ["digits/lenet5"]
    wait(app, job.name)
    table = next(d.value for d in app.dataframe if "student" in d.value)
    assert list(table["student"]) == ["LeNet-5-Half", "ViT-3"]
    assert set(table["teacher"]) == {"LeNet-5"}
    assert "on noise alone, %" in table


def test_reproduced_tables_keep_their_lines_apart():
    """Table 2 has the same methods on two data sets: no bar, and no shortfall, may stand in another's place."""
    app = open_page("compare")
    which = app.get("segmented_control") or app.get("button_group")
    (table,) = [w for w in which if w.key == "tables:which"]
    for name in ("table1", "table2", "table3"):
        table.set_value(name).run()
        assert not app.exception
        rows = panels.read_csv(panels.RESULTS / f"{name}_quick.csv")
        figure = json.loads(next(c for c in app.get("plotly_chart") if f"tables:{name}" in c.proto.id).proto.spec)
        assert len(set(figure["data"][0]["y"])) == len(rows)
        said = ([m.value for m in app.markdown if "Where we fall short" in m.value] + [""])[0]
        behind = [r for r in rows if r["same_pair"] == "True" and r["paper_student"]]
        behind = [r for r in behind if float(r["paper_student"]) > 100 * float(r["student_accuracy_mean"])]
        assert said.count(" points") == len(behind)
        assert behind or name == "table1"  # whose pair is another than the paper's
        (table,) = [w for w in app.get("button_group") if w.key == "tables:which"]


def test_compare_wants_a_teacher_and_a_student():
    app = open_page("compare")
    app.multiselect(key="grid:teachers:moons").set_value([]).run()
    app.button(key="grid:begin").click().run()
    job = runner().find(app.session_state["grid:job"])
    end = time.monotonic() + 20
    while job.state != "failed":
        assert time.monotonic() < end
        time.sleep(0.05)
    assert job.message == "A comparison needs at least one teacher and one student. Choose some."


def test_too_many_jobs_is_a_sentence(monkeypatch):
    from cake_core.limits import Limits

    app = open_page("two_moons")
    monkeypatch.setattr(runner(), "limits", Limits(max_jobs_per_owner=1))
    running = runner().find(job_name(app, "two_moons"))
    running.play()
    go(app, "images")
    assert app.error[0].value == "As many of your runs are going on as may (1). Stop one before you start another."
    running.stop()


@pytest.fixture(scope="module")
def small_run() -> str:
    """A stored run on two moons."""
    task = find("distill")(
        Experiment.from_query({"batches": "2", "samples": "50", "steps": "5", "student.updates": "30"}).to_dict()
    )
    for _ in task:
        pass
    return task.finish()["run"]


def open_embeddings(run: str) -> AppTest:
    """The page Embeddings in a session that has made this run."""
    app = open_page("home")
    app.session_state["runs"] = {run: Experiment.from_dict(runs.read(run)["experiment"])}
    go(app, "embeddings")
    wait(app, next(n for what, n in app.session_state["jobs"].items() if '"pca"' in what))
    return app


def test_embeddings_show_what_is_selected(small_run, monkeypatch):
    monkeypatch.setattr(routes, "_mounted", True)  # as behind app.py,
    monkeypatch.setattr(live, "is_known", lambda: True)  # in a browser that takes cookies
    app = open_embeddings(small_run)
    data = json.loads(app.get("bidi_component")[0].proto.json)
    assert (data["run"], data["colour"], data["trajectories"], data["chosen"]) == (small_run, "class", False, [])
    assert "1000 real test inputs and 100 synthetic samples as the teacher sees them" in data["alt"]
    assert "Nothing is selected yet" in " ".join(c.value for c in app.caption)

    app.session_state["embeddings:selections"] = {small_run: ["r0", "s7", "s99@2"], "another": ["s1"]}
    app.segmented_control(key="embeddings:colour").set_value("step").run()
    app.toggle(key="embeddings:trajectories").set_value(True).run()
    data = json.loads(app.get("bidi_component")[0].proto.json)
    assert (data["colour"], data["trajectories"], data["chosen"]) == ("step", True, ["r0", "s7", "s99@2"])
    assert any(m.value.startswith("**3 selected**: 1 real, 2 synthetic.") for m in app.markdown)
    table = app.dataframe[0].value
    assert list(table["number"]) == [0, 7, 99]
    assert list(table["step"])[1:] == [5, 2]
    assert list(table["mini-batch"])[1:] == [1, 2]
    samples = SyntheticSet.load(runs.find(small_run) / "samples.safetensors")
    assert table["x1"][1] == pytest.approx(samples.x[7, 0].item(), abs=1e-4)
    assert [b.label for b in app.get("download_button")] == ["Download as CSV"]


def test_embeddings_without_our_routes_have_a_plain_chart(small_run):
    app = open_embeddings(small_run)
    assert app.get("plotly_chart")
    assert not app.toggle(key="embeddings:trajectories").disabled


def test_embeddings_of_a_run_without_history(small_run):
    path = History.path(runs.find(small_run))
    content = path.read_bytes()
    path.unlink()
    try:
        app = open_embeddings(small_run)
        assert app.toggle(key="embeddings:trajectories").disabled
        assert any("stored without a history" in c.value for c in app.caption)
        app.segmented_control(key="embeddings:colour").set_value("step").run()
        assert not app.exception
        assert app.get("plotly_chart")
    finally:
        path.write_bytes(content)
