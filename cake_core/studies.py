"""What a tuning study is, without what runs it: its settings, search space, objectives, folder, and preferences.

Pages read and write studies through this module; Optuna is imported where trials are run (`cake_core.tuning`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import model_validator

from . import data, runs
from .config import Config, Param, as_text, param
from .errors import CakeError, noticing_a_full_disk
from .pipeline import Experiment

__all__ = [
    "CHOSEN",
    "FREE",
    "HUMAN",
    "OBJECTIVES",
    "Objective",
    "TuneConfig",
    "begin",
    "compared",
    "config_of",
    "drop",
    "like",
    "next_pair",
    "prefer",
    "preferences",
    "reach",
    "read",
    "strengths",
    "tunable",
    "usual",
]

Range = tuple[Any, ...]  # (low, high) of a number, or the values of a choice


@dataclass(frozen=True)
class Objective:
    """What a study wants.

    Attributes:
        title: for people.
        direction: "maximize" or "minimize".
        data: what it uses of real data: nothing, "inputs" or "labels".
        help: what it measures, in a sentence.
        suits: the kind of data it has a meaning for, empty for both.
        share: whether it is a share, shown in percent.
    """

    title: str
    direction: Literal["maximize", "minimize"]
    data: Literal["", "inputs", "labels"]
    help: str
    suits: str = ""
    share: bool = True


FREE, HUMAN = "free_agreement", "preference"
OBJECTIVES = {
    FREE: Objective(
        "Agreement, without data",
        "maximize",
        "",
        "Share of inputs made without data on which student and teacher name the same class. Of images a third is "
        "noise, a third samples of the default settings with another seed, a third lies between two such samples; "
        "points are spread evenly over the plane.",
    ),
    "agreement": Objective(
        "Agreement on real inputs",
        "maximize",
        "inputs",
        "Share of the validation examples on which student and teacher name the same class. It uses real inputs, but "
        "not their labels.",
    ),
    "accuracy": Objective(
        "Accuracy",
        "maximize",
        "labels",
        "Share of the validation examples that the student gets right. It uses real inputs and their labels.",
    ),
    "coverage": Objective(
        "Boundary covered",
        "maximize",
        "",
        "Share of the length of the teacher's decision boundary that has a sample within 0.1.",
        suits="points",
    ),
    "near_boundary": Objective(
        "Samples near the boundary",
        "maximize",
        "",
        "Share of samples within 0.1 of the teacher's decision boundary, to first order.",
    ),
    "calls": Objective(
        "Calls of the teacher",
        "minimize",
        "",
        "Samples that the teacher answers, and those that it gives a gradient for.",
        share=False,
    ),
    HUMAN: Objective(
        "What you prefer",
        "maximize",
        "",
        "Strength by the Bradley-Terry model of the pairs that you have compared: pick the better of two pictures.",
        share=False,
    ),
}

USES = {
    "": "It uses no real data.",
    "inputs": "It uses real inputs, so what it finds is not data-free.",
    "labels": "It uses real labelled data, so what it finds is not data-free.",
}

CHOSEN = ("weight_classification", "weight_contrast", "weight_variation", "step_size", "decades", "temperature")
WIDE = 30.0  # a logarithmic range goes so many times below and above the value it begins with
NOT_TUNED = ("student.model", "student.precision", "student.batch_statistics", "student.flip", "student.crop")


class TuneConfig(Config):
    """Everything that a study's trials depend on, but for how many there are."""

    experiment: Experiment = Experiment()
    space: dict[str, Range] = {}
    objectives: tuple[str, ...] = (FREE,)
    sampler: Literal["tpe", "random", "nsga2"] = param(
        "tpe",
        group="Advanced",
        help="How the next trial is chosen. tpe: where good trials were denser than bad ones. nsga2: children of the "
        "best trials, for several objectives. random: anywhere, the control of the others.",
    )
    pruner: Literal["median", "halving", "none"] = param(
        "median",
        group="Advanced",
        help="Which trials are given up early, by their live curve. median: those below the median of earlier trials "
        "at the same moment. halving: all but the best third at each of a few moments. With several objectives none "
        "is.",
    )
    seeds: int = param(
        1,
        low=1,
        high=10,
        label="Seeds of each trial",
        group="Advanced",
        help="With how many seeds each setting is tried; its value is their mean. More are slower, and less luck.",
    )
    validation: int = param(
        1000,
        low=50,
        high=10_000,
        scale="log",
        label="Validation examples",
        group="Advanced",
        help="How many of the teacher's training examples judge trials, where an objective needs real ones. The test "
        "examples are never used for choosing.",
    )
    seed: int = param(
        0,
        low=0,
        high=2**31 - 1,
        label="Seed of the search",
        group="Advanced",
        help="Seed of the sampler. One worker's trials are the same for the same seed, also when the study was "
        "stopped.",
    )

    @model_validator(mode="after")
    def _check(self) -> TuneConfig:
        known = tunable(self.experiment)
        if not self.space:
            raise CakeError("Nothing to tune: choose at least one setting.")
        for name, given in self.space.items():
            if name not in known:
                raise CakeError(f"'{name}' can't be tuned here. What can: {', '.join(known)}.")
            check_range(name, known[name], given)
        check_objectives(self.objectives, self.experiment)
        if "calls" in self.objectives and all(k in CHOSEN or k.startswith("student.") for k in self.space):
            raise CakeError("Nothing that is tuned changes the calls of the teacher. Tune steps or samples, too.")
        return self

    def digest(self) -> str:
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def tried(self, params: Mapping[str, Any], seed: int = 0) -> Experiment:
        """The experiment of a trial: the study's own with some settings changed, and so many seeds further."""
        flat = self.experiment.to_query() | {k: as_text(v) for k, v in params.items()}
        return Experiment.from_query(flat | {"seed": str((self.experiment.seed + seed) % 2**31)})


# -- the search space ------------------------------------------------------------------------------------------------


def tunable(experiment: Experiment) -> dict[str, Param]:
    """The settings that can be tuned, by the keys that the URL has: the method's, and the student's training.

    Args:
        experiment: whose method, student and data.
    """
    kind = data.info(experiment.data.name).kind
    found = {p.name: p for p in experiment.settings.params()}
    found |= {f"student.{p.name}": p for p in experiment.student.params()}
    return {k: p for k, p in found.items() if p.kind != "text" and p.suits in ("", kind) and k not in NOT_TUNED}


def begun(experiment: Experiment, name: str) -> Any:
    """The value of a tunable setting in an experiment."""
    part, _, rest = name.rpartition(".")
    return getattr(experiment.student if part else experiment.settings, rest)


def reach(p: Param, value: Any) -> Range:
    """The range a setting is tried in when nothing is said: its choices; the declared bounds of a linear scale; of a
    logarithmic one `WIDE` times below and above the value, inside the declared bounds.

    Args:
        p: its declaration.
        value: what it has now. Of 0, which no logarithmic scale has, the range lies from 1e-6 to 1e-2 of the bound.
    """
    if p.kind == "bool":
        return (False, True)
    if p.kind == "choice":
        return p.choices
    number = int if p.kind == "int" else float
    if p.scale != "log":
        return number(p.low), number(p.high)
    if value <= 0:
        return number(p.high * 1e-6), number(p.high * 1e-2)
    low, high = max(p.low, value / WIDE), min(p.high, value * WIDE)
    return (max(1, round(low)), round(high)) if number is int else (float(f"{low:.3g}"), float(f"{high:.3g}"))


def usual(experiment: Experiment, objectives: Sequence[str] = ()) -> dict[str, Range]:
    """The settings that are tuned when nothing is said, with their ranges: weights, step size, decay and noise; where
    calls count, also what they come from.

    Args:
        experiment: whose method, student and data.
        objectives: what they are tuned for.
    """
    known = tunable(experiment)
    names = [k for k in CHOSEN if k in known] or ["samples", "sigma"]
    if "calls" in objectives:
        names = list(dict.fromkeys([*names, "samples", *(["steps"] if "steps" in known else [])]))
    return {k: reach(known[k], begun(experiment, k)) for k in names}


def check_range(name: str, p: Param, given: Sequence[Any]) -> None:
    """Refuses a range that is none, or that leaves what is declared.

    Raises:
        CakeError: saying which, and what would do.
    """
    if p.kind in ("bool", "choice"):
        allowed = (False, True) if p.kind == "bool" else p.choices
        if len(given) < 2 or any(v not in allowed for v in given):
            raise CakeError(f"'{name}' needs at least two of: {', '.join(map(as_text, allowed))}.")
        return
    if len(given) != 2 or any(isinstance(v, bool) or not isinstance(v, int | float) for v in given):
        raise CakeError(f"'{name}' needs two numbers, the lowest and the highest. Example: {name}={p.low}:{p.high}.")
    low, high = given
    if not p.low <= low < high <= p.high:
        raise CakeError(
            f"'{name}' can be tried from {as_text(p.low)} to {as_text(p.high)}, the lower number first; "
            f"{as_text(low)} to {as_text(high)} is not inside."
        )
    if p.scale == "log" and low <= 0:
        raise CakeError(f"'{name}' has a logarithmic scale, which does not reach 0. Begin a little above it.")


def parse_range(name: str, p: Param, text: str) -> Range:
    """What a command line says of a range: "0.01:1" for numbers, "a,b" for choices.

    Raises:
        CakeError: it says no range.
    """
    if p.kind in ("bool", "choice"):
        words = text.split(",")
        return tuple(w == "true" for w in words) if p.kind == "bool" else tuple(words)
    try:
        return tuple((int if p.kind == "int" else float)(word) for word in text.split(":"))
    except ValueError:
        whole = "whole " if p.kind == "int" else ""
        raise CakeError(f"'{name}' needs two {whole}numbers with a colon between them, not '{text}'.") from None


# -- objectives ------------------------------------------------------------------------------------------------------


def check_objectives(names: Sequence[str], experiment: Experiment) -> None:
    """Refuses objectives that can't be measured.

    Raises:
        CakeError: saying which, and what to choose.
    """
    info = data.info(experiment.data.name)
    if not names or len(set(names)) < len(names):
        raise CakeError("Choose at least one objective, each once.")
    for name in names:
        if name not in OBJECTIVES:
            raise CakeError(f"There is no objective '{name}'. Choose one of: {', '.join(OBJECTIVES)}.")
        objective = OBJECTIVES[name]
        if objective.suits not in ("", info.kind):
            raise CakeError(f"'{name}' can't be measured on {info.kind}. For them choose near_boundary.")
        if objective.data and not info.has_examples:
            raise CakeError(f"{info.title} has no examples here, so '{name}' can't be measured. Choose {FREE}.")
    if HUMAN in names and len(names) > 1:
        raise CakeError("What you prefer stands alone: choose it without other objectives.")
    if tuple(names) == ("calls",):
        raise CakeError("The fewest calls are none at all. Choose 'calls' together with another objective.")


# -- on disk ---------------------------------------------------------------------------------------------------------
# A study is a run: study.json says what it is, study.db holds its trials (Optuna's SQLite storage), trials/ what they
# showed, preferences.jsonl the pairs that somebody compared, run.json and figures.json what came out so far.


def begin(config: TuneConfig) -> str:
    """Makes a study, for whoever runs are made for here and now (`runs.owned_by`); its id.

    Raises:
        DiskFull: there is no room for it; nothing of it is left.
    """
    study = runs.create(kind="tune", experiment=config.experiment.to_dict())
    folder = runs.find(study)
    try:
        with noticing_a_full_disk():
            (folder / "trials").mkdir()
        runs.write_json(folder / "study.json", {"digest": config.digest(), "config": config.to_dict()})
    except OSError:
        drop(study)
        raise
    return study


def drop(study: str) -> None:
    """Deletes a study that nothing has worked on yet."""
    shutil.rmtree(runs.find(study))


def config_of(study: str) -> TuneConfig:
    """What a study is.

    Raises:
        CakeError: there is no such study.
    """
    try:
        stored = json.loads((runs.find(study) / "study.json").read_text())["config"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise CakeError("That run is no study. Begin one on the page Tune.") from None
    return TuneConfig.from_dict(stored)


def like(config: TuneConfig) -> str | None:
    """The newest study with just these settings, to go on with; None where there is none."""
    for path in sorted(runs.folder().glob("*/study.json"), reverse=True):
        try:
            if json.loads(path.read_text())["digest"] == config.digest():
                return path.parent.name
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return None


def read(study: str, name: str = "run") -> dict[str, Any] | None:
    """What a study has written about itself so far ("run" or "figures"); None where it has not yet."""
    try:
        return json.loads((runs.find(study) / f"{name}.json").read_text())
    except (OSError, ValueError):
        return None


def table(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The trials of a study's run.json as rows of one table: number, state, settings, values, seconds.

    Args:
        found: what `read` gives.
    """
    params = list(found["config"]["space"])
    numbers = list(dict.fromkeys(k for r in found["rows"] for k in (*r["values"], *r["numbers"])))
    return [
        {
            "trial": r["number"],
            "state": r["state"],
            **{k: r["params"].get(k, "") for k in params},
            **{k: {**r["numbers"], **r["values"]}.get(k, "") for k in numbers},
            "seconds": "" if r["seconds"] is None else r["seconds"],
        }
        for r in found["rows"]
    ]


# -- preferences -----------------------------------------------------------------------------------------------------


def prefer(study: str, better: int, worse: int) -> None:
    """Notes that somebody found one trial's picture better than another's. One line, written at once.

    Raises:
        CakeError: there is no such study, or it is somebody else's.
    """
    with (runs.changeable(study) / "preferences.jsonl").open("a") as f:
        f.write(json.dumps([better, worse]) + "\n")


def preferences(study: str) -> list[tuple[int, int]]:
    """All pairs (better, worse), oldest first. A line that a crash left unfinished is left out."""
    path, pairs = runs.find(study) / "preferences.jsonl", []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError, RecursionError):
            match json.loads(line):
                case [int(better), int(worse)]:
                    pairs.append((better, worse))
    return pairs


def compared(pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """How often each trial was compared."""
    counts: dict[int, int] = {}
    for pair in pairs:
        for trial in pair:
            counts[trial] = counts.get(trial, 0) + 1
    return counts


def strengths(trials: Sequence[int], pairs: Sequence[tuple[int, int]], spread: float = 1.0) -> dict[int, float]:
    """Strengths r of trials from comparisons: P(i is preferred to j) = 1 / (1 + exp(r_j - r_i)).

    The maximum of Σ log P - Σ r² / (2 spread²), by Newton's method: the prior keeps a trial that always won from
    running off to infinity, and one that was never compared has 0.

    Args:
        trials: numbers of the trials.
        pairs: (better, worse); those of other trials are left out.
        spread: standard deviation of the prior.

    Source: Bradley and Terry (1952), Biometrika 39, 324-345, with a Gaussian prior.
    """
    place = {trial: k for k, trial in enumerate(trials)}
    games = np.array([(place[a], place[b]) for a, b in pairs if a in place and b in place], int).reshape(-1, 2)
    r = np.zeros(len(place))
    for _ in range(50):
        lose = 1 / (1 + np.exp(r[games[:, 0]] - r[games[:, 1]]))  # probability of the other outcome
        gradient, hessian = -r / spread**2, np.eye(len(r)) / spread**2
        np.add.at(gradient, games[:, 0], lose)
        np.add.at(gradient, games[:, 1], -lose)
        for (a, b), weight in zip(games, lose * (1 - lose), strict=True):
            hessian[[a, b], [a, b]] += weight
            hessian[[a, b], [b, a]] -= weight
        step = np.linalg.solve(hessian, gradient)
        r = r + step
        if np.abs(step).max(initial=0) < 1e-10:
            break
    return {trial: float(r[k]) for trial, k in place.items()}


def next_pair(trials: Sequence[int], pairs: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """The pair that is worth comparing next: the trial that was compared least, with the one most like it in strength
    that it has not met; None where all have met.

    Args:
        trials: numbers of the trials that have a picture.
        pairs: (better, worse) so far.
    """
    counts, r, met = compared(pairs), strengths(trials, pairs), {frozenset(p) for p in pairs}
    for first in sorted(trials, key=lambda t: (counts.get(t, 0), t)):
        others = [t for t in trials if t != first and frozenset((first, t)) not in met]
        if others:
            return first, min(others, key=lambda t: (abs(r[t] - r[first]), counts.get(t, 0), t))
    return None


def folder(study: str) -> Path:
    """Where a study's trials left what they showed.

    Raises:
        CakeError: there is no such study.
    """
    return runs.find(study) / "trials"


def picture(study: str, number: int) -> dict[str, Any] | None:
    """What a trial on points has left to be looked at; None where there is nothing.

    Args:
        study: its id.
        number: of the trial.
    """
    try:
        return json.loads((folder(study) / f"{number}.json").read_text())
    except (OSError, ValueError):
        return None
