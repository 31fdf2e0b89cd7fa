"""Tuning: Optuna chooses settings, trials say how good they are, and SQLite remembers all of it.

A study goes on where it was stopped, also by a kill: what is finished is in the storage, and a trial whose worker has
died is marked as interrupted and done again with the same settings. Several workers may work on one study.

References: | Optuna (Akiba et al. 2019) | https://arxiv.org/abs/1907.10902
            | TPE (Bergstra et al. 2011; Watanabe 2023) | https://arxiv.org/abs/2304.11127
            | NSGA-II (Deb et al. 2002) | https://doi.org/10.1109/4235.996017
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna.trial import FrozenTrial, TrialState
from scipy import stats

from . import cluster, data, runs, studies
from .errors import CakeError
from .locks import LOCK_WAIT, held, is_held
from .pipeline import Distillation, Experiment, Update, noise_only
from .studies import HUMAN, OBJECTIVES, TuneConfig
from .trials import Judge, Look, Trial

__all__ = ["Final", "Tuning", "best", "opened", "pareto", "rated", "rows", "summary", "write"]

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)

STARTUP = 8  # trials at random before the sampler and the pruner have something to go by
PREFERRED = 5  # the same where people judge, who see only few
PATIENCE = 15.0  # seconds without a word after which a helper takes it that the study is paused
FRESH = 700_001  # seeds of the final runs begin so far from those of the trials
STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "given up early",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
Row = dict[str, Any]


# -- a study in the storage ------------------------------------------------------------------------------------------


def opened(study: str) -> optuna.Study:
    """A study's storage, made where there is none yet.

    Raises:
        CakeError: there is no such study.
    """
    config, path = studies.config_of(study), runs.find(study) / "study.db"
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": LOCK_WAIT}})
    directions = [OBJECTIVES[k].direction for k in config.objectives]
    return optuna.create_study(storage=storage, study_name=study, directions=directions, load_if_exists=True)


def distributions(config: TuneConfig) -> dict[str, optuna.distributions.BaseDistribution]:
    """The search space as Optuna takes it: bounds and scale as they are declared, inside the study's ranges."""
    known, found = studies.tunable(config.experiment), {}
    for name, given in config.space.items():
        p = known[name]
        if p.kind in ("bool", "choice"):
            found[name] = optuna.distributions.CategoricalDistribution(given)
        elif p.kind == "int":
            found[name] = optuna.distributions.IntDistribution(int(given[0]), int(given[1]), log=p.scale == "log")
        else:
            found[name] = optuna.distributions.FloatDistribution(*map(float, given), log=p.scale == "log")
    return found


def rated(study: optuna.Study, name: str) -> optuna.Study:
    """The study, or where people judge, one in memory that holds its trials with their strengths as they are now.

    A strength changes with every comparison, and what is told to the storage does not; so there each trial has the
    strength that it had when nobody had seen it, 0.
    """
    config = studies.config_of(name)
    if HUMAN not in config.objectives:
        return study
    trials = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    strength = studies.strengths([t.number for t in trials], studies.preferences(name))
    found = optuna.create_study(direction="maximize")
    for t in trials:
        found.add_trial(
            optuna.trial.create_trial(
                params=t.params,
                distributions=t.distributions,
                value=strength[t.number],
                user_attrs={**t.user_attrs, "number": t.number},
            )
        )
    return found


def rows(study: optuna.Study, name: str) -> list[Row]:
    """All trials as plain values, in their order: number, state, params, values, numbers, seconds, why it failed."""
    config, found = studies.config_of(name), []
    trials = study.get_trials(deepcopy=False)
    done = [t.number for t in trials if t.state == TrialState.COMPLETE]
    strength = studies.strengths(done, studies.preferences(name)) if HUMAN in config.objectives else {}
    for t in trials:
        values = dict(zip(config.objectives, t.values, strict=True)) if t.state == TrialState.COMPLETE else {}
        if t.number in strength:
            values[HUMAN] = strength[t.number]
        found.append(
            {
                "number": t.number,
                "state": "interrupted" if "interrupted" in t.user_attrs else STATES[t.state],
                "params": t.params,
                "values": values,
                "numbers": t.user_attrs.get("numbers", {}),
                "curve": [[k, v] for k, v in sorted(t.intermediate_values.items())],
                "ordinal": t.user_attrs.get("ordinal"),
                "seconds": t.user_attrs.get("seconds"),
                "error": t.user_attrs.get("error", ""),
            }
        )
    return found


def pareto(study: optuna.Study, name: str) -> list[int]:
    """Numbers of the trials that no other beats in every objective; of one objective, of the best."""
    found = rated(study, name)
    return [t.user_attrs.get("number", t.number) for t in found.best_trials]


def best(study: optuna.Study, name: str) -> int | None:
    """The trial with the best value of the first objective; None where none is finished."""
    config = studies.config_of(name)
    sign = 1 if OBJECTIVES[config.objectives[0]].direction == "maximize" else -1
    done = [r for r in rows(study, name) if r["state"] == "finished"]
    if not done:
        return None
    return max(done, key=lambda r: (sign * r["values"][config.objectives[0]], -r["number"]))["number"]


def write(study: optuna.Study, name: str) -> None:
    """Writes a study's run.json: what has come out so far, for pages and for whoever has no Optuna."""
    found = rows(study, name)
    front = pareto(study, name) if any(r["state"] == "finished" for r in found) else []
    values = {"kind": "tune", "config": studies.config_of(name).to_dict(), "rows": found, "best": best(study, name)}
    runs.write_json(runs.find(name) / "run.json", {**values, "pareto": front, "finals": finals(name)})


def finished(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that count: all that have ended, but those that were interrupted."""
    return [t for t in trials if t.state.is_finished() and "interrupted" not in t.user_attrs]


# -- running ---------------------------------------------------------------------------------------------------------


class Tuning(Iterator[Update]):
    """Works on a study until it has so many trials; then the best setting is run again beside its controls.

    Args:
        study: its id, from `studies.begin`.
        trials: how many trials it shall have in all, those of before included.
        workers: processes that work on it: this one, and helpers. With the engine "ray" so many trials run on a cluster
            at the same time (0: as many as it has room for).
        finals: seeds of the final runs of the best setting; 0 for none.
        threads: on how many each helper computes, 0 for an even share of the cores.

    Attributes:
        study: the storage.
        done: trials that have ended and count.
        final: the final runs, once they have begun.
    """

    def __init__(self, study: str, trials: int, *, workers: int = 1, finals: int = 0, threads: int = 0):
        if trials < 1 or workers < 0 or finals < 0:
            raise CakeError("A study needs at least one trial and one worker.")
        self.name, self.trials, self.workers, self.finals = study, trials, workers, finals
        self.config = studies.config_of(study)
        self.folder = runs.find(study)
        self.judge = Judge(self.config)
        self.space = distributions(self.config)
        self.study = opened(study)
        self.final: Final | None = None
        self._worker = secrets.token_hex(8)
        self._alive = contextlib.ExitStack()
        self._helpers: list[Helper] = []
        self._threads = threads
        self._updates = self._loop()

    def __next__(self) -> Update:
        for helper in self._helpers:
            helper.go_on()
        return next(self._updates)

    def close(self) -> None:
        """Stops; a trial in the middle is noted as interrupted, and done again when the study goes on."""
        self._updates.close()
        self.judge.close()

    @property
    def done(self) -> int:
        """Trials that count."""
        return len(finished(self.study.get_trials(deepcopy=False)))

    def _loop(self) -> Iterator[Update]:
        self._alive.enter_context(held(self._lock_of(self._worker)))
        try:
            share = 1 / (1 + (3 * self.finals) / max(1, self.trials))
            if self.done < self.trials:
                for update in self.judge:
                    yield replace(update, progress=share * self.done / self.trials)
                if cluster.engine() == "ray":
                    yield from self._trials_on_cluster(share)
                else:
                    self._helpers = [
                        Helper(self.name, self.trials, self.workers, self._threads) for _ in range(1, self.workers)
                    ]
                    yield from self._trials(share)
            if self.finals and (chosen := best(self.study, self.name)) is not None:
                self.final = Final(self.name, chosen, self.finals, self.judge)
                for update in self.final:
                    yield replace(update, progress=share + (1 - share) * update.progress)
        finally:
            for helper in self._helpers:
                helper.close()
            self._alive.close()
            self._lock_of(self._worker).unlink(missing_ok=True)
        self.write()
        yield Update("evaluation", 1.0, "Done")

    def _trials(self, share: float) -> Iterator[Update]:
        while True:
            trial, left = self._next()
            if trial is not None:
                yield from self._run(trial, share)
            elif left:  # others are at the last ones; should they die, these come back
                yield Update("evaluation", share * self.done / self.trials, "Waiting for the other workers")
                time.sleep(0.1)
            else:
                return

    def _trials_on_cluster(self, share: float) -> Iterator[Update]:
        """Several at the same time, each on a node; the storage stays here."""
        ray = cluster.connect()
        most = self.workers or cluster.room(cluster.Share.from_environment(), ray)
        judge = ray.put(self.judge)
        going: list[Generator[Update, None, None]] = []
        try:
            while True:
                trial, left = self._next() if len(going) < most else (None, True)
                if trial is not None:
                    going.append(self._run(trial, share, judge))
                    continue
                if not going:
                    if not left:
                        return
                    yield Update("evaluation", share * self.done / self.trials, "Waiting for the other workers")
                    time.sleep(0.1)
                for run in list(going):
                    update = next(run, None)
                    if update is None:
                        going.remove(run)
                    else:
                        yield update
        finally:
            for run in going:
                run.close()

    def _run(self, trial: optuna.Trial, share: float, judge: Any = None) -> Generator[Update, None, None]:
        """One trial; on the cluster, where `judge` is a reference to the judge in its store."""
        before, start = self.done, time.perf_counter()
        stem = studies.folder(self.name) / str(trial.number)
        if judge is None:
            run = Trial(self.config, self.judge, trial.params, stem)
        else:
            run = TrialElsewhere(self.config, judge, self.judge.dataset.test_x.device.type, trial.params, stem)
        ended = False
        items = run.run()
        known = studies.tunable(self.config.experiment)
        words = ", ".join(
            f"{known[k].label.lower()} {v:.3g}" if isinstance(v, float) else f"{known[k].label.lower()} {v}"
            for k, v in trial.params.items()
        )
        try:
            for item in items:
                if isinstance(item, Look):
                    trial.report(item.value, item.number)
                    if self.config.pruner != "none" and trial.should_prune():
                        ended = self._end(trial, start, TrialState.PRUNED)
                        return
                    continue
                progress = share * min(1.0, (before + item.progress) / self.trials)
                yield replace(item, progress=progress, note=f"Trial {trial.number + 1}: {words}")
            trial.set_user_attr("numbers", run.values)
            values = [0.0 if k == HUMAN else run.values[k] for k in self.config.objectives]
            ended = self._end(trial, start, TrialState.COMPLETE, values)
        except CakeError as error:  # this setting can't be run: the samples ran off, say
            trial.set_user_attr("error", str(error))
            several = len(self.config.objectives) > 1
            ended = self._end(trial, start, TrialState.FAIL if several else TrialState.PRUNED)
        finally:
            items.close()
            if not ended:
                trial.set_user_attr("interrupted", True)
                self.study.tell(trial, state=TrialState.FAIL)

    def _end(self, trial: optuna.Trial, start: float, state: TrialState, values: Any = None) -> bool:
        trial.set_user_attr("seconds", round(time.perf_counter() - start, 2))
        self.study.tell(trial, values, state=state)
        self.write()
        return True

    def write(self) -> None:
        """Writes run.json: what has come out so far."""
        write(self.study, self.name)

    # -- the next trial -----------------------------------------------------------------------------------------

    def _lock_of(self, worker: str) -> Path:
        return self.folder / f"worker-{worker}.lock"

    def _next(self) -> tuple[optuna.Trial | None, bool]:
        """The next trial; or None, and whether others are still at work. One worker at a time is here."""
        with held(self.folder / "study.lock"):
            self._mend()
            trials = self.study.get_trials(deepcopy=False)
            running = [t for t in trials if t.state == TrialState.RUNNING]
            waiting = [t for t in trials if t.state == TrialState.WAITING]
            if not waiting and len(finished(trials)) + len(running) >= self.trials:
                return None, bool(running)
            ordinal = 1 + max((t.user_attrs.get("ordinal", -1) for t in trials), default=-1)
            if not waiting:
                self._propose(ordinal)
            self.study.sampler = self._sampler(ordinal)
            trial = self.study.ask(self.space)
            trial.set_user_attr("worker", self._worker)
            if "ordinal" not in trial.user_attrs:
                trial.set_user_attr("ordinal", ordinal)
            self.study.pruner = self._pruner()
            return trial, True

    def _mend(self) -> None:
        """Marks the trials of dead workers as interrupted, and has those that were interrupted done again."""
        for t in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            worker = t.user_attrs.get("worker")
            if worker is not None and (worker == self._worker or is_held(self._lock_of(worker))):
                continue
            trial = optuna.Trial(self.study, t._trial_id)
            trial.set_user_attr("interrupted", True)
            self.study.tell(trial, state=TrialState.FAIL)
            if worker is not None:
                self._lock_of(worker).unlink(missing_ok=True)
        trials = self.study.get_trials(deepcopy=False)
        there = {t.user_attrs.get("ordinal") for t in trials if "interrupted" not in t.user_attrs}
        for t in trials:
            ordinal = t.user_attrs.get("ordinal")
            if "interrupted" in t.user_attrs and ordinal is not None and ordinal not in there:
                there.add(ordinal)
                self.study.enqueue_trial(t.params, user_attrs={"ordinal": ordinal})

    def _propose(self, ordinal: int) -> None:
        """Enqueues what does not come from the storage's sampler: the default setting, which is the first trial, and
        where people judge, what is sampled from the strengths as they are now."""
        if ordinal == 0:
            base = self.config.experiment
            start = {k: studies.begun(base, k) for k in self.space}
            fitting = {k: v for k, v in start.items() if self.space[k]._contains(self.space[k].to_internal_repr(v))}
            self.study.enqueue_trial(fitting, user_attrs={"ordinal": 0})
        elif HUMAN in self.config.objectives:
            known = rated(self.study, self.name)
            known.sampler = self._sampler(ordinal)
            self.study.enqueue_trial(known.ask(self.space).params, user_attrs={"ordinal": ordinal})

    def _sampler(self, ordinal: int) -> optuna.samplers.BaseSampler:
        """The sampler of one trial. Its random numbers depend on the study's seed and the trial's place alone, so that
        a study that was stopped goes on as it would have."""
        seed = int(np.random.SeedSequence([self.config.seed, ordinal]).generate_state(1)[0])
        if self.config.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        if self.config.sampler == "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=12)
        few = PREFERRED if HUMAN in self.config.objectives else STARTUP
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=few)

    def _pruner(self) -> optuna.pruners.BasePruner:
        if self.config.pruner == "median":
            return optuna.pruners.MedianPruner(n_startup_trials=STARTUP)
        if self.config.pruner == "halving":
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
        return optuna.pruners.NopPruner()


@dataclass(frozen=True)
class Order:
    """A trial for a node: the study's settings, a reference to its judge, the settings to try, and a name for files."""

    config: TuneConfig
    judge: Any
    params: dict[str, Any]
    name: str


def serve(order: Order) -> Iterator[Any]:
    """Runs a trial on a node; yields moments and points of its live curve, at last its files and its values."""
    import ray

    with cluster.Mirror({}) as mirror:
        run = Trial(order.config, ray.get(order.judge), order.params, mirror.folder / order.name)
        for item in run.run():
            yield item if isinstance(item, Look) else replace(item, snapshot=None, training=None)
        yield from mirror.new()
        yield run.values


class TrialElsewhere:
    """A `Trial` on a node of the cluster; one that is lost with its node is run again.

    Args:
        config, params, stem: see `Trial`.
        judge: a reference to the judge.
        device: where the judge's data are, and the trial has to be.

    Attributes:
        values: what every objective says of it, when it is done.
    """

    def __init__(self, config: TuneConfig, judge: Any, device: str, params: dict[str, Any], stem: Path):
        config = config.replace(experiment=config.experiment.replace(device=device))
        self.order, self.stem, self.values = Order(config, judge, params, stem.name), stem, {}

    def run(self) -> Generator[Update | Look, None, None]:
        """Yields moments, and between them points of the live curve."""
        latest = Update("data", 0.0, "Waiting for a place in the cluster")
        for found in cluster.spread(serve, [self.order], patience=0.02):
            item = latest if found is None else found[1]
            if isinstance(item, dict):
                self.values = item
            elif isinstance(item, tuple):
                with runs.whole(self.stem.parent / item[0]) as part:
                    part.write_bytes(item[1])
            else:
                latest = item if isinstance(item, Update) else latest
                yield item


class Helper:
    """Another process that works on a study, for as long as somebody tells it to go on.

    Args:
        study, trials: what to work on.
        workers: how many share the machine.
        threads: on how many it computes, 0 for an even share.
    """

    def __init__(self, study: str, trials: int, workers: int, threads: int = 0):
        points = data.info(studies.config_of(study).experiment.data.name).kind == "points"  # too small to be shared
        threads = 1 if points else threads or max(1, (os.cpu_count() or 1) // workers)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cake_core.tuning", study, str(trials), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd=Path(__file__).parents[1],
        )
        self._said = 0.0

    def go_on(self) -> None:
        """Says that the study is not paused; now and then is enough."""
        if time.monotonic() - self._said > 1:
            self._said = time.monotonic()
            with contextlib.suppress(OSError, ValueError):  # it has gone, or was closed
                self.process.stdin.write(b".")
                self.process.stdin.flush()

    def close(self) -> None:
        """Ends it; its trial is noted as interrupted."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def help_with(study: str, trials: int, threads: int) -> None:
    """What a helper does: trials, while its starter says so; when the starter is gone, it stops."""
    torch.set_num_threads(threads)
    heard, gone = [time.monotonic()], threading.Event()

    def listen() -> None:
        while os.read(0, 1):  # not sys.stdin, which is locked while it is read, also when this process wants to end
            heard[0] = time.monotonic()
        gone.set()

    threading.Thread(target=listen, daemon=True).start()
    run = Tuning(study, trials)
    for _ in run:
        while time.monotonic() - heard[0] > PATIENCE and not gone.is_set():
            time.sleep(0.2)
        if gone.is_set():
            break
    run.close()


# -- the final runs --------------------------------------------------------------------------------------------------

SETUPS = {"tuned": "Tuned", "default": "Default", "noise": "Noise only (control)"}
VALUES = ("student_accuracy", "agreement", "coverage", "near_boundary")


class Final(Iterator[Update]):
    """Runs a trial's setting with fresh seeds beside the defaults it began from and the noise control, on test data.

    The control is a student of as many samples of noise, trained as the tuned one is. Every finished run is stored.

    Args:
        study: its id.
        number: of the trial.
        seeds: how many seeds, none of which any trial had.
        judge: of the study, exhausted or not; None for a new one.

    Attributes:
        rows: one for each run: setup, seed and its numbers.
    """

    def __init__(self, study: str, number: int, seeds: int, judge: Judge | None = None):
        self.name, self.number, self.seeds = study, number, seeds
        self.config = studies.config_of(study)
        self.judge = judge or Judge(self.config)
        found = {r["number"]: r for r in rows(opened(study), study)}
        if number not in found or found[number]["state"] != "finished":
            raise CakeError(f"Trial {number + 1} is not finished, so there is nothing to run again. Choose another.")
        self.params = found[number]["params"]
        self.rows: list[Row] = []
        self._updates = self._loop()

    def __next__(self) -> Update:
        return next(self._updates)

    def close(self) -> None:
        """Stops; finished runs stay."""
        self._updates.close()

    def _setups(self, seed: int) -> dict[str, Experiment]:
        tuned = self.config.tried(self.params, FRESH + seed)
        return {"tuned": tuned, "default": self.config.tried({}, FRESH + seed), "noise": noise_only(tuned)}

    @property
    def experiments(self) -> list[Experiment]:
        """All of them, in order."""
        return [e for _, _, e in self._plan()]

    def _plan(self) -> list[tuple[str, int, Experiment]]:
        """Setup, seed and experiment of each run."""
        return [(setup, seed, e) for seed in range(self.seeds) for setup, e in self._setups(seed).items()]

    def _loop(self) -> Iterator[Update]:
        name = f"final-{self.number}"
        known = (studies.read(self.name, name) or {"rows": []})["rows"]
        plan = self._plan()
        for place, (setup, seed, experiment) in enumerate(plan):
            row = next((r for r in known if (r["setup"], r["seed"]) == (setup, experiment.seed)), None)
            if row is None:
                row = yield from self._one(setup, experiment, place / len(plan), seed)
            self.rows.append(row)
            values = {"number": self.number, "params": self.params, "rows": self.rows, "summary": summary(self.rows)}
            runs.write_json(runs.find(self.name) / f"{name}.json", values)
        yield Update("evaluation", 1.0, "Done")

    def _one(self, setup: str, experiment: Experiment, progress: float, seed: int) -> Generator[Update, None, Row]:
        for update in self.judge:
            yield replace(update, progress=progress)
        run = Distillation(experiment, teacher=self.judge.teacher, every=4, judge=self.judge.free)
        note = f"Final runs on the test examples: {SETUPS[setup]}, seed {seed + 1} of {self.seeds}"
        for update in run:
            share = update.progress / (3 * self.seeds)
            yield replace(update, progress=progress + share, note=note, snapshot=None)
        return {"setup": setup, "experiment": experiment.to_query(), **run.outcome.to_dict()}


def finals(study: str) -> dict[str, Any]:
    """The final runs of a study so far, by the number of the trial."""
    found = {}
    for path in sorted(runs.find(study).glob("final-*.json")):
        stored = studies.read(study, path.stem)
        found |= {str(stored["number"]): stored} if stored else {}
    return found


def summary(results: list[Row]) -> list[Row]:
    """For each setup the mean, the standard deviation and the 95 % interval of the mean (Student's t) over its seeds;
    the last line is the tuned setting minus the default, seed by seed.

    Args:
        results: rows of `Final`.
    """
    lines = []
    by_setup = {s: [r for r in results if r["setup"] == s] for s in SETUPS}
    for setup, mine in by_setup.items():
        if mine:
            values = {k: [r[k] for r in mine] for k in VALUES if mine[0][k] is not None}
            found = spreads(values)
            for k, ends in found.items():
                if k.endswith("_interval") and ends is not None:
                    found[k] = [max(0.0, ends[0]), min(1.0, ends[1])]  # a share has no more
            lines.append({"setup": setup, "seeds": len(mine), "n_test": mine[0]["n_test"], **found})
    default = {r["seed"]: r for r in by_setup["default"]}
    pairs = [(r, default[r["seed"]]) for r in by_setup["tuned"] if r["seed"] in default]
    if pairs:
        gains = {k: [a[k] - b[k] for a, b in pairs] for k in VALUES if pairs[0][0][k] is not None}
        lines.append({"setup": "gain", "seeds": len(pairs), "n_test": pairs[0][0]["n_test"], **spreads(gains)})
    return lines


def spreads(values: dict[str, list[float]]) -> Row:
    """Mean, standard deviation and interval of the mean; the last two are None for a single value."""
    line: Row = {}
    for name, found in values.items():
        n, mean = len(found), float(np.mean(found))
        std = float(np.std(found, ddof=1)) if n > 1 else None
        reach = float(stats.t.ppf(0.975, n - 1) * std / n**0.5) if n > 1 else None
        line |= {f"{name}_mean": mean, f"{name}_std": std}
        line[f"{name}_interval"] = None if reach is None else [mean - reach, mean + reach]
    return line


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    help_with(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
