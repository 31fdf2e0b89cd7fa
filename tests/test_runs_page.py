"""The page Runs: the list, one run, several beside each other, deletion and its undoing, other people's runs."""

from __future__ import annotations

import pytest

from cake_core import export, film, keeping, run_tasks, runs
from cake_core.pipeline import Experiment
from cake_core.tasks import Distill
from pages._ui.cached import runner

from .test_pages import ROOT, go, open_page, texts, wait

PATH = ROOT / "pages" / "runs.py"
SECRET = "the-secret-of-this-browser-1"
ME = runs.key_of(SECRET)
QUICK = {"batches": "2", "samples": "40", "steps": "10", "student.updates": "40"}


def distilled(key: str = ME, **flat: str) -> str:
    with runs.owned_by(key):
        task = Distill(Experiment.from_query({**QUICK, **flat}).to_dict())
        for _ in task.moments():
            pass
        return task.finish()["run"]


@pytest.fixture(scope="module")
def three(runs_folder) -> list[str]:
    """Two runs on points and one on images, oldest first."""
    return [distilled(), distilled(method="lake", seed="3"), distilled(data="digits")]


def page(secret: str = SECRET, **query: str):
    """The page in the browser that made the runs, which the secret tells."""
    app = open_page("home")
    app.session_state["owner"] = f"{secret}.1"
    for key, value in query.items():
        app.query_params[key] = value
    app.switch_page(str(PATH)).run()
    assert not app.exception
    return app


def settle(app) -> None:
    """Until the pictures have been drawn."""
    for name in list(app.session_state["jobs"].values() if "jobs" in app.session_state else ()):
        job = runner().find(name)
        if job is not None and job.kind == "pictures":
            wait(app, name)


def listed(app) -> list[str]:
    return list(app.dataframe[0].value["run"])


def test_an_empty_list_says_where_runs_come_from():
    app = open_page("runs")
    assert "There are no runs of yours yet" in app.info[0].value
    assert not app.dataframe


def test_filter_and_order(three):
    app = page()
    titles = ["CAKE on Digits (8x8), seed 0", "LAKE on Two moons, seed 3", "CAKE on Two moons, seed 0"]
    assert listed(app) == titles
    app.text_input(key="runs:filter").set_value("moons CAKE").run()
    assert listed(app) == titles[2:]
    app.text_input(key="runs:filter").set_value("nothing like it").run()
    assert "No run fits" in app.info[0].value
    app.text_input(key="runs:filter").set_value("").run()
    app.selectbox(key="runs:sort").select("oldest").run()
    assert listed(app) == titles[::-1]
    runs.mark(three[1], ME, star=True)
    app.toggle(key="runs:starred").set_value(True).run()
    assert listed(app) == titles[1:2]
    runs.mark(three[1], ME, star=False)


def test_one_run_shows_its_results_and_surroundings(three):
    app = page(run=three[1])
    settle(app)
    assert app.subheader[0].value == "LAKE on Two moons, seed 3"
    assert app.metric[0].label == "Student's accuracy"
    assert f"`{three[1]}`" in texts(app)
    assert "**torch** " in texts(app)
    assert "finished" in texts(app)
    settings = next(d.value for d in app.dataframe if "setting" in d.value)
    assert dict(zip(settings["setting"], settings["value"], strict=True))["method"] == "lake"
    assert len(app.get("plotly_chart")) >= 3  # bars, and a curve for each loss


def test_a_copy_that_knows_more_than_it_shows_is_explained():
    """Where the statistics of the test images bring more than chance; runs of older versions don't know."""
    run = distilled(data="digits", student="resnet4-half")
    path = runs.find(run) / "run.json"
    plain = runs.read(run)
    for accuracy, words in ((0.95, "is right on **95.0\u00a0%** (93.0 to 97.0)"), (0.0, ""), (None, "")):
        numbers = {"by_batch_accuracy": accuracy, "by_batch_accuracy_interval": [0.93, 0.97]}
        kept = {k: v for k, v in plain["outcome"].items() if not k.startswith("by_batch")}
        runs.write_json(path, {**plain, "outcome": {**kept, **(numbers if accuracy is not None else {})}})
        said = texts(page(run=run))
        assert ("It knows more than it shows" in said) == bool(words)
        assert words in said
    runs.delete(run, ME)


def test_stars_and_notes_stay(three):
    app = page(run=three[0])
    next(b for b in app.button if b.label == "Give a star").click().run()
    app.text_input(key=f"runs:note:{three[0]}").set_value("the first of all").run()
    assert not app.exception
    e = runs.entry(three[0])
    assert (e.star, e.note) == (True, "the first of all")
    assert list(app.dataframe[0].value["note"]) == ["", "", "the first of all"]
    next(b for b in app.button if b.label == "Remove the star").click().run()
    assert not runs.entry(three[0]).star


def test_several_are_compared(three):
    app = page(run=",".join(three[:2]))
    settle(app)
    assert app.subheader[0].value == "2 runs beside each other"
    table = next(d.value for d in app.dataframe if "setting" in d.value)
    found = dict(zip(table["setting"], table.drop(columns="setting").to_numpy().tolist(), strict=True))
    assert found["method"] == ["cake", "lake"]
    assert found["seed"] == ["0", "3"]
    assert "settings.steps" not in found  # the same in both
    assert "━" in texts(app)


def test_a_run_can_be_made_again_and_gone_on_with(three):
    app = page(run=three[1])
    next(b for b in app.button if b.label == "Make it again").click().run()
    assert not app.exception
    assert app.session_state["screen:two_moons"]["experiment"].method == "lake"
    assert app.session_state["screen:two_moons"]["experiment"].seed == 3
    app = page(run=three[0])
    next(b for b in app.button if b.label == "Its map").click().run()
    assert not app.exception
    assert three[0] in app.session_state["runs"]


def test_deleting_can_be_undone(three):
    app = page(run=three[2])
    next(b for b in app.button if b.label == "Delete").click().run()
    assert not app.exception
    assert len(listed(app)) == 2
    assert "1 run was deleted" in app.info[0].value
    assert not (runs.folder() / three[2]).exists()
    app.button(key="runs:undo").click().run()
    assert not app.exception
    assert len(listed(app)) == 3
    assert runs.find(three[2]).is_dir()


def test_others_see_a_run_only_by_its_link(three):
    app = open_page("runs")
    assert not app.dataframe
    app.text_input(key="runs:id").set_value(three[0]).run()
    assert "There is no such run" in app.error[0].value
    mine = page(run=three[0])
    settle(mine)
    mine.button(key=f"share:{three[0]}:on").click().run()
    shared = mine.code[0].value.split("pass=")[1]
    assert runs.entry(three[0]).shared
    app = open_page("runs", run=three[0], **{"pass": shared})
    settle(app)
    assert app.subheader[0].value == "CAKE on Two moons, seed 0"
    assert "belongs to somebody else" in texts(app)
    assert "of yours" not in texts(app)  # whoever comes by a link has come for the run
    assert not [b for b in app.button if b.label in ("Delete", "Give a star", "Stop sharing")]
    mine.button(key=f"share:{three[0]}:off").click().run()
    assert not mine.exception
    app.run()
    assert "There is no such run" in app.error[0].value
    assert "There are no runs of yours yet" in app.info[0].value
    assert not app.subheader


def test_a_run_of_nobody_is_for_all_who_know_its_id(three):
    app = open_page("runs")
    with runs.owned_by(""):
        run = runs.create(kind="distill", experiment=Experiment.from_query(QUICK).to_dict())
    app.text_input(key="runs:id").set_value(run).run()
    assert app.subheader[0].value == "CAKE on Two moons, seed 0"
    app.text_input(key="runs:id").set_value("20250101-000000-0123456789abcdef").run()
    assert "There is no such run" in app.error[0].value


def test_a_run_is_taken_away(three):
    app = page(run=three[1])
    settle(app)
    labels = [b.label for b in app.get("download_button")]
    assert labels == [f.title for f in export.FORMATS.values() if f.quick]
    app.pills(key=f"runs:{three[1]}:what").set_value("svg").run()
    wait(app, next(n for what, n in app.session_state["jobs"].items() if '"svg"' in what))
    assert app.get("download_button")[-1].label.startswith("Samples, SVG, ")
    assert (runs.made(three[1]) / "samples.svg").read_bytes() == export.make(three[1], "svg")[1]


def test_unfinished_and_old_runs_open(three):
    with runs.owned_by(ME):
        run = runs.create(kind="distill", experiment=Experiment.from_query(QUICK).to_dict())
    app = page(run=run)
    assert "This run was broken off before it had results" in app.warning[0].value
    assert [b.label for b in app.button if b.label == "Continue"] == ["Continue"]
    runs.log(run, "failed", message="The memory is full.")
    app.run()
    assert "ended with an error: The memory is full." in app.error[0].value
    runs.delete(run, ME)
    old = distilled()
    for name in ("config.json", "events.jsonl", "frames.bin", "metrics.json"):
        (runs.find(old) / name).unlink()
    kept = {k: v for k, v in runs.read(old).items() if k in ("kind", "experiment", "outcome", "control")}
    runs.write_json(runs.find(old) / "run.json", kept)
    app = page(run=old)
    assert app.metric[0].label == "Student's accuracy"
    assert "stored by an older version" in texts(app)


def test_a_run_that_was_broken_off_is_continued_from_here(three):
    with runs.owned_by(ME):
        task = Distill(Experiment.from_query(QUICK).to_dict())
        for update in task:
            if update.snapshot is not None and update.snapshot.step == 3:
                break
    app = page(run=task.kept)
    assert "still goes on" in app.info[0].value
    assert "Continue" not in [b.label for b in app.button]
    task.rest()
    app.run()
    next(b for b in app.button if b.label == "Continue").click().run()
    assert not app.exception
    screen = app.session_state["screen:two_moons"]
    job = runner().find(screen["job"])
    assert screen["experiment"] == Experiment.from_query(QUICK)
    assert job.spec["resume"] == task.kept
    assert job.message.startswith("This run was broken off. What was finished is kept: press Play")
    job.play()
    wait(app, job.name)
    assert runs.read(task.kept)["kind"] == "distill"
    runs.delete(task.kept, ME)


def test_pictures_are_those_of_the_frames(three):
    task = run_tasks.Pictures(three)
    assert [u.progress for u in task] == [1 / 3, 2 / 3, 1]
    found = task.finish()["pictures"]
    for run in three:
        messages = keeping.read_frames(runs.find(run) / "frames.bin")
        raw, steps = film.strip(messages[0], messages[1:])
        assert found[run]["steps"] == steps == list(range(11))
        assert (runs.made(run) / "strip.webp").read_bytes() == raw


def test_runs_of_a_session_are_found_after_it_has_finished_one():
    app = open_page("two_moons", batches="1", samples="20", steps="4", student__updates="20")
    job = runner().find(app.session_state["screen:two_moons"]["job"])
    job.pace(0)
    job.play()
    wait(app, job.name)
    go(app, "runs")
    assert listed(app) == ["CAKE on Two moons, seed 0"]
