"""Experiment trackers, where somebody wants one: CAKE_TRACKER names MLflow, trackio or Weights & Biases.

Off by default. A tracker is told of a run once it is stored, in a process of its own with a time limit: one that fails,
hangs or can't be reached costs the run nothing. What came of it stands in the run's tracker.json and on its page;
`python -m cake_core track RUN` tries again.
"""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from . import runs
from .errors import CakeError
from .export import Stored

__all__ = ["TRACKERS", "begin", "chosen", "tell", "told", "wait"]

PROJECT = "CAKE Lab"
SECONDS = 120.0  # that telling a tracker may take
FILES = ("run.json", "config.json", "metrics.json", "events.jsonl", "samples.safetensors", "student.safetensors")
AT_ONCE = 90  # parameters and numbers in one request to MLflow, which takes 100 parameters at most

log = logging.getLogger(__name__)
_telling: list[threading.Thread] = []


def chosen() -> str:
    """The tracker that CAKE_TRACKER names; empty for none.

    Raises:
        CakeError: there is no such tracker.
    """
    return _known(os.environ.get("CAKE_TRACKER", ""))


def begin(run: str) -> None:
    """Has the chosen tracker told of a stored run, beside everything else; nothing happens where none is chosen."""
    if not os.environ.get("CAKE_TRACKER"):
        return
    thread = threading.Thread(target=_begin, args=(run,), name="cake-tracker", daemon=True)
    _telling.append(thread)
    thread.start()


def wait() -> None:
    """Until every tracker has been told, or given up."""
    while _telling:
        _telling.pop().join()


def tell(run: str, tracker: str = "") -> dict[str, Any]:
    """Tells a tracker of a stored run, here and now. An error of the tracker is noted, not raised.

    Args:
        run: id of a finished distillation.
        tracker: a key of `TRACKERS`; empty for the chosen one.

    Returns:
        "tracker", "ok", "message" and "time", as stored in tracker.json.

    Raises:
        CakeError: there is no such run or tracker, or none is chosen.
    """
    name = _known(tracker) or chosen()
    if not name:
        raise CakeError(f"No tracker is chosen. Set CAKE_TRACKER, or say --with, to one of: {', '.join(TRACKERS)}.")
    stored = Stored(run)
    try:
        message, ok = TRACKERS[name](stored), True
    except Exception as error:  # whatever a tracker does, the run is complete
        message, ok = _sentence(name, error), False
        log.warning("run %s: %s", run, message)
    return _note(run, name, ok, message)


def told(run: str) -> dict[str, Any]:
    """What came of telling a tracker of a run; empty where none was told."""
    return runs.read_json(runs.find(run) / "tracker.json")


# -- the trackers -----------------------------------------------------------------------------------------------------


def _mlflow(s: Stored) -> str:
    """MLflow, at MLFLOW_TRACKING_URI or where MLflow itself puts it: parameters, losses, results, files."""
    mlflow = importlib.import_module("mlflow")
    entities = importlib.import_module("mlflow.entities")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(PROJECT)
    where = experiment.experiment_id if experiment else client.create_experiment(PROJECT)
    run = client.create_run(where, run_name=s.title, tags=_tags(s)).info.run_id
    now = int(time.time() * 1000)
    metrics = [entities.Metric(f"{stage}.{name}", v, now, step) for stage, step, name, v in _losses(s)]
    metrics += [entities.Metric(name, v, now, 0) for name, v in _results(s).items()]
    for part in _parts([entities.Param(k, v) for k, v in _parameters(s).items()]):
        client.log_batch(run, params=part)
    for part in _parts(metrics):
        client.log_batch(run, metrics=part)
    for name in FILES:
        if (s.folder / name).is_file():
            client.log_artifact(run, str(s.folder / name))
    client.set_terminated(run)
    return f"Run {run} at {mlflow.get_tracking_uri()}."


def _wandb(module: str) -> Callable[[Stored], str]:
    """trackio and Weights & Biases, which are told in the same words."""

    def adapter(s: Stored) -> str:
        tracker = importlib.import_module(module)
        run = tracker.init(project=PROJECT.lower().replace(" ", "-"), name=s.run, config={**_parameters(s), **_tags(s)})
        try:
            moments: dict[tuple[str, int], dict[str, float]] = {}
            for stage, step, name, value in _losses(s):
                moments.setdefault((stage, step), {f"{stage}/step": step})[f"{stage}/{name}"] = value
            for values in moments.values():
                tracker.log(values)
            tracker.log(_results(s))
        finally:
            tracker.finish()
        return f"Run {getattr(run, 'name', s.run)} of project {PROJECT}."

    return adapter


TRACKERS: dict[str, Callable[[Stored], str]] = {
    "mlflow": _mlflow,
    "trackio": _wandb("trackio"),
    "wandb": _wandb("wandb"),
}
PACKAGES = {"mlflow": "mlflow-skinny", "trackio": "trackio", "wandb": "wandb"}


def _losses(s: Stored) -> Iterator[tuple[str, int, str, float]]:
    """Stage, step, name and value of every loss that was kept."""
    for stage, curves in s.curves.items():
        for name, values in curves.items():
            if name != "step":
                for step, value in zip(curves["step"][-len(values) :], values, strict=True):
                    yield stage, step, name, value


def _results(s: Stored) -> dict[str, float]:
    found = {}
    for prefix, part in (("", "outcome"), ("control.", "control")):
        for name, value in (s.result.get(part) or {}).items():
            if isinstance(value, int | float) and name != "seed":
                found[prefix + name] = float(value)
    return found


def _parameters(s: Stored) -> dict[str, str]:
    return {name: str(values[0]) for name, values in runs.differences([s.experiment.to_dict(), {}])}


def _tags(s: Stored) -> dict[str, str]:
    code = {f"cake.{k}": v for k, v in s.config.get("code", {}).items() if v}
    return {"cake.run": s.run, **code}


# -- inside -----------------------------------------------------------------------------------------------------------


def _begin(run: str) -> None:
    name = os.environ["CAKE_TRACKER"]
    command = [sys.executable, "-m", "cake_core", "track", run]
    try:
        _note(run, name, None, "It is being told.")
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            cwd=Path(__file__).parents[1],
            stdin=subprocess.DEVNULL,
        )
        failure = done.stderr.strip().split("\n")[-1].removeprefix("cake_core: ") if done.returncode else ""
    except subprocess.TimeoutExpired:
        failure = f"It did not answer within {SECONDS:.0f} seconds."
    except (OSError, CakeError) as error:
        failure = str(error)
    if failure:
        log.warning("run %s: %s could not be told: %s", run, name, failure)
        try:
            _note(run, name, False, failure)
        except (OSError, CakeError):
            log.warning("run %s has gone", run)


def _parts(items: Iterable[Any]) -> Iterator[list[Any]]:
    """The items in lists of AT_ONCE."""
    rest = iter(items)
    while part := list(islice(rest, AT_ONCE)):
        yield part


def _note(run: str, tracker: str, ok: bool | None, message: str) -> dict[str, Any]:
    values = {"tracker": tracker, "ok": ok, "message": message, "time": time.time()}
    runs.write_json(runs.find(run) / "tracker.json", values)
    return values


def _sentence(name: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == name:
        return f"The package {PACKAGES[name]} is not installed. Install it, or unset CAKE_TRACKER."
    return f"{type(error).__name__}: {error}".split("\n")[0][:500]


def _known(name: str) -> str:
    if name and name not in TRACKERS:
        raise CakeError(f"There is no tracker '{name}'. CAKE_TRACKER is one of: {', '.join(TRACKERS)}; or not set.")
    return name
