"""Trackers: a local MLflow store is told everything, others in their words, and none can hurt a run."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest

from cake_core import runs, trackers
from cake_core.cli import main
from cake_core.errors import CakeError
from cake_core.pipeline import Experiment
from cake_core.tasks import Distill

from .test_pages import texts
from .test_runs_page import page

SECRET = "the-secret-of-another-browser"


def distilled() -> str:
    flat = {"batches": "2", "samples": "30", "steps": "12", "student.updates": "40", "device": "cpu", "method": "lake"}
    with runs.owned_by(runs.key_of(SECRET)):
        task = Distill(Experiment.from_query(flat).to_dict())
        for _ in task.moments():
            pass
        return task.finish()["run"]


@pytest.fixture(scope="module")
def run(runs_folder) -> str:
    return distilled()


@pytest.fixture
def store(tmp_path, monkeypatch) -> Path:
    """A local MLflow store."""
    pytest.importorskip("mlflow", reason="MLflow is not here; install mlflow-skinny")
    for name in ("sqlalchemy", "alembic"):
        pytest.importorskip(name, reason="MLflow's local store takes SQLAlchemy and alembic")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)  # its files go to ./mlruns
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


def test_nothing_happens_where_none_is_chosen(run, monkeypatch):
    monkeypatch.delenv("CAKE_TRACKER", raising=False)
    trackers.begin(run)
    trackers.wait()
    assert not (runs.find(run) / "tracker.json").exists()
    with pytest.raises(CakeError, match="No tracker is chosen"):
        trackers.tell(run)


def test_no_tracker_is_imported_by_the_engine():
    import subprocess

    code = "import sys, cake_core.worker; print([m for m in ('mlflow', 'trackio', 'wandb') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.stdout.strip() == "[]", done.stderr


def test_mlflow_is_told_everything(run, store):
    done = trackers.tell(run, "mlflow")
    assert done["ok"], done["message"]
    assert trackers.told(run) == done
    import mlflow

    client = mlflow.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("CAKE Lab").experiment_id])
    assert found.info.run_id in done["message"]
    assert found.info.status == "FINISHED"
    assert found.data.tags["cake.run"] == run
    assert found.data.params["method"] == "lake"
    assert found.data.params["settings.steps"] == "12"
    outcome = runs.read(run)["outcome"]
    assert found.data.metrics["student_accuracy"] == outcome["student_accuracy"]
    assert found.data.metrics["control.agreement"] == runs.read(run)["control"]["agreement"]
    history = client.get_metric_history(found.info.run_id, "synthesis.contrast")
    curves = runs.metrics(run)["curves"]["synthesis"]
    assert [(m.step, m.value) for m in history] == list(zip(curves["step"], curves["contrast"], strict=True))
    names = {f.path for f in client.list_artifacts(found.info.run_id)}
    assert {"run.json", "samples.safetensors", "student.safetensors"} <= names


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_others_are_told_in_their_words(run, name, monkeypatch):
    said: list[tuple] = []
    stand_in = types.ModuleType(name)
    stand_in.init = lambda **about: said.append(("init", about)) or types.SimpleNamespace(name="calm-lake-7")
    stand_in.log = lambda values: said.append(("log", values))
    stand_in.finish = lambda: said.append(("finish", {}))
    monkeypatch.setitem(sys.modules, name, stand_in)
    done = trackers.tell(run, name)
    assert (done["ok"], "calm-lake-7" in done["message"]) == (True, True)
    assert said[0][1]["config"]["method"] == "lake"
    assert said[-1][0] == "finish"
    curves = runs.metrics(run)["curves"]["synthesis"]
    logged = [v["synthesis/contrast"] for kind, v in said if kind == "log" and "synthesis/contrast" in v]
    assert logged == curves["contrast"]
    assert said[-2][1]["student_accuracy"] == runs.read(run)["outcome"]["student_accuracy"]


def test_a_tracker_that_fails_is_noted_and_said_on_the_page(run, monkeypatch, caplog):
    broken = types.ModuleType("wandb")

    def init(**about):
        raise ConnectionError("no route to host")

    broken.init = init
    monkeypatch.setitem(sys.modules, "wandb", broken)
    done = trackers.tell(run, "wandb")
    assert (done["ok"], done["message"]) == (False, "ConnectionError: no route to host")
    assert "no route to host" in caplog.text
    app = page(SECRET, run=run)
    assert "could not be told of this run, which is complete all the same" in app.warning[0].value
    assert app.metric[0].label == "Student's accuracy"
    runs.write_json(runs.find(run) / "tracker.json", {**done, "ok": True, "message": "Run 7 at home."})
    app.run()
    assert not app.warning
    assert "Tracker wandb: Run 7 at home." in texts(app)


def test_a_package_that_is_missing_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    assert "The package trackio is not installed" in trackers.tell(run, "trackio")["message"]


def test_a_run_is_complete_though_the_tracker_is_none(monkeypatch, caplog):
    """The whole way: a name that does not exist is noted by the process that was to tell it."""
    monkeypatch.setenv("CAKE_TRACKER", "pigeon")
    run = distilled()
    trackers.wait()
    assert runs.entry(run).finished
    assert trackers.told(run)["ok"] is False
    assert "There is no tracker 'pigeon'" in trackers.told(run)["message"]
    assert "pigeon could not be told" in caplog.text


def test_one_that_hangs_is_given_up(run, monkeypatch):
    monkeypatch.setenv("CAKE_TRACKER", "mlflow")
    monkeypatch.setattr(trackers, "SECONDS", 0.01)
    trackers.begin(run)
    trackers.wait()
    assert "did not answer within" in trackers.told(run)["message"]


def test_the_command_tells_and_says_what_went_wrong(run, store, capsys):
    assert main(["track", run, "--with", "mlflow", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    assert main(["track", run, "--with", "pigeon"]) == 2
    assert "There is no tracker 'pigeon'" in capsys.readouterr().err
