"""What a study is: search space, refusals, preferences and the strengths that follow from them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize

from cake_core import data, runs, studies
from cake_core.errors import CakeError
from cake_core.methods import METHODS
from cake_core.pipeline import Experiment
from cake_core.studies import FREE, TuneConfig

MOONS = Experiment.from_query({"data": "moons"})


def config(**values) -> TuneConfig:
    return TuneConfig.from_dict({"experiment": MOONS, "space": {"step_size": (0.01, 1.0)}, **values})


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", ["moons", "mnist"])
def test_every_method_has_something_to_tune(name, kind):
    experiment = Experiment.from_query({"data": kind, "method": name})
    space = studies.usual(experiment)
    assert space
    TuneConfig.from_dict({"experiment": experiment, "space": space})  # every range is allowed
    known = studies.tunable(experiment)
    everything = {k: studies.reach(p, studies.begun(experiment, k)) for k, p in known.items()}
    TuneConfig.from_dict({"experiment": experiment, "space": everything})
    assert not any(p.suits not in ("", data.info(kind).kind) for p in known.values())


def test_ranges_follow_the_declaration():
    known = studies.tunable(MOONS)
    assert studies.reach(known["step_size"], 0.1) == (0.00333, 3.0)  # logarithmic: 30 times each way
    assert studies.reach(known["step_size"], 9.0) == (0.3, 10.0)  # and never beyond the declared bound
    assert studies.reach(known["decades"], 1.0) == (0.0, 8.0)  # linear: as declared
    assert studies.reach(known["batches"], 2) == (1, 60)
    assert studies.reach(known["weight_entropy"], 0.0) == (1e-3, 10.0)
    assert studies.reach(known["optimizer"], "sgd") == ("sgd", "momentum", "adam")
    assert studies.parse_range("step_size", known["step_size"], "0.01:1") == (0.01, 1.0)
    assert studies.parse_range("optimizer", known["optimizer"], "sgd,adam") == ("sgd", "adam")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"space": {}}, "choose at least one setting"),
        ({"space": {"weight_variation": (1.0, 2.0)}}, "'weight_variation' can't be tuned here"),  # images have it
        ({"space": {"student.model": ("mlp", "mlp-norm")}}, "can't be tuned here"),
        ({"space": {"step_size": (1.0, 0.1)}}, "the lower number first; 1 to 0.1"),
        ({"space": {"step_size": (0.1, 100.0)}}, "from 1e-05 to 10"),
        ({"space": {"weight_contrast": (0.0, 1.0)}}, "logarithmic scale, which does not reach 0"),
        ({"space": {"optimizer": ("sgd",)}}, "needs at least two of: sgd, momentum, adam"),
        ({"space": {"step_size": ("a", "b")}}, "two numbers"),
        ({"objectives": ()}, "at least one objective"),
        ({"objectives": ("fame",)}, "There is no objective 'fame'"),
        ({"objectives": ("calls",)}, "fewest calls are none at all"),
        ({"objectives": (FREE, "calls")}, "Tune steps or samples, too"),
        ({"objectives": ("preference", FREE)}, "stands alone"),
        ({"experiment": Experiment.from_query({"data": "digits"}), "objectives": ("coverage",)}, "on images"),
        ({"sampler": "luck"}, "tpe, random, nsga2"),
    ],
)
def test_what_makes_no_sense_is_refused(values, sentence):
    with pytest.raises(CakeError, match=sentence):
        config(**values)


def test_where_calls_count_what_costs_them_is_tuned():
    objectives = (FREE, "calls")
    space = studies.usual(MOONS, objectives)
    assert {"samples", "steps"} < set(space)
    config(space=space, objectives=objectives)


def test_a_trial_is_the_experiment_with_some_settings_changed():
    experiment = config().tried({"step_size": 0.25, "student.learning_rate": 0.003}, seed=4)
    assert (experiment.settings.step_size, experiment.student.learning_rate, experiment.seed) == (0.25, 0.003, 4)
    assert experiment.replace(settings=MOONS.settings, student=MOONS.student, seed=0) == MOONS


def test_the_same_study_is_found_again_and_another_is_not():
    wanted = config(seed=11)
    assert studies.like(wanted) is None
    study = studies.begin(wanted)
    assert studies.like(wanted) == study
    assert studies.config_of(study) == wanted
    assert studies.like(config(seed=12)) is None
    with pytest.raises(CakeError, match="no study"):
        studies.config_of(runs.create())


def test_a_line_that_a_crash_tore_is_left_out():
    study = studies.begin(config())
    studies.prefer(study, 3, 1)
    studies.prefer(study, 0, 3)
    with (runs.find(study) / "preferences.jsonl").open("a") as f:
        f.write("[2, ")
    assert studies.preferences(study) == [(3, 1), (0, 3)]


def test_strengths_by_hand():
    # Without a prior, three wins to one are odds of three: a difference of log 3.
    r = studies.strengths([5, 9], [(5, 9)] * 3 + [(9, 5)], spread=1e4)
    assert r[5] - r[9] == pytest.approx(math.log(3), abs=1e-6)
    # With one, a trial that always won is not infinitely strong, and one that was never compared has 0.
    r = studies.strengths([0, 1, 2], [(0, 1)] * 50)
    assert 1 < r[0] < 5
    assert r[0] == pytest.approx(-r[1])
    assert r[2] == 0


def test_strengths_are_the_maximum_that_another_optimiser_finds():
    draws = np.random.default_rng(1)
    pairs = [tuple(int(v) for v in draws.permutation(6)[:2]) for _ in range(40)]

    def loss(r):
        return sum(math.log1p(math.exp(r[b] - r[a])) for a, b in pairs) + sum(v * v for v in r) / 2

    expected = minimize(loss, np.zeros(6), tol=1e-10).x
    assert list(studies.strengths(range(6), pairs).values()) == pytest.approx(expected, abs=1e-4)


def test_pairs_are_asked_for_until_all_have_met():
    trials, pairs = [0, 1, 2, 3], []
    while (pair := studies.next_pair(trials, pairs)) is not None:
        counts = studies.compared(pairs)
        assert counts.get(pair[0], 0) == min(counts.get(t, 0) for t in trials) or len(pairs) >= 4
        assert frozenset(pair) not in {frozenset(p) for p in pairs}
        pairs.append(pair)
    assert len(pairs) == len(list(itertools.combinations(trials, 2)))
