"""Comparisons: the same budget for all, every seed, and sums that are right."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from cake_core import evaluation, teacher
from cake_core.budget import MOST_SAMPLES, fit
from cake_core.comparison import SOURCES, MethodComparison, StudentComparison, spacing, summarise
from cake_core.errors import CakeError
from cake_core.pipeline import Distillation, Experiment
from cake_core.student import StudentConfig

QUICK = Experiment.from_query({"batches": "2", "samples": "50", "student.updates": "50"})


def test_every_method_and_seed_with_the_same_budget():
    comparison = MethodComparison(QUICK, ["cake", "lake", "noise"], seeds=2, settings={"lake": {"temperature": 0.3}})
    updates = list(comparison)
    assert [(r["method"], r["seed"]) for r in comparison.rows] == [
        ("cake", 0), ("lake", 0), ("noise", 0), ("cake", 1), ("lake", 1), ("noise", 1),
    ]  # fmt: skip
    assert {r["samples"] for r in comparison.rows} == {100}
    assert {r["teacher_accuracy"] for r in comparison.rows} == {comparison.rows[0]["teacher_accuracy"]}
    assert [u.progress for u in updates] == sorted(u.progress for u in updates)
    assert updates[-1].progress == pytest.approx(1)
    assert comparison.experiments[1].settings.temperature == 0.3


def test_a_teacher_is_trained_once():
    comparison = MethodComparison(QUICK.replace(data={"name": "circles", "points": 200}), ["noise"], seeds=3)
    stages = [u.stage for u in comparison]
    assert sum(a != "teacher" and b == "teacher" for a, b in pairwise(stages)) == 1


def test_bad_comparisons_are_refused_before_anything_runs():
    with pytest.raises(CakeError, match="There is no method 'pie'"):
        MethodComparison(QUICK, ["cake", "pie"], seeds=1)
    with pytest.raises(CakeError, match="'temperature' must be"):
        MethodComparison(QUICK, ["lake"], seeds=1, settings={"lake": {"temperature": -1}})


def test_sums_by_hand():
    rows = [
        {"m": "a", "x": 1.0, "y": None},
        {"m": "b", "x": 5.0, "y": 1.0},
        {"m": "a", "x": 3.0, "y": None},
    ]
    a, b = summarise(rows, ["m"], ["x", "y"])
    assert a == {"m": "a", "seeds": 2, "x_mean": 2.0, "x_std": pytest.approx(2**0.5), "y_mean": None, "y_std": None}
    assert b == {"m": "b", "seeds": 1, "x_mean": 5.0, "x_std": 0.0, "y_mean": 1.0, "y_std": 0.0}


def made(flat: dict[str, str]) -> Distillation:
    """A distillation that has come as far as its samples."""
    run = Distillation(Experiment.from_query(flat))
    while run.samples is None:
        next(run)
    return run


@pytest.fixture(scope="module")
def moons() -> Distillation:
    return made({"batches": "2", "samples": "200", "steps": "100"})


@pytest.fixture(scope="module")
def digits() -> Distillation:
    return made({"data": "digits", "batches": "2", "samples": "100", "steps": "4"})


def test_students_learn_side_by_side(moons):
    comparison = StudentComparison(moons, StudentConfig(updates=300), seeds=2)
    updates = list(comparison)
    sources = ["samples", "noise", "kd", "labels"]
    assert [(r.source, r.seed) for r in comparison.results] == [(k, s) for s in (0, 1) for k in sources]
    assert all(r.agreement.value > 0.98 for r in comparison.results if r.source in ("kd", "labels"))
    progress = [u.progress for u in updates]
    assert progress == sorted(progress)
    assert progress[-1] == 1.0
    # The curves: every student is looked at after the same updates, from the untrained one to the last.
    seen = {(p.source, p.seed): [] for p in comparison.looks}
    for p in comparison.looks:
        seen[p.source, p.seed].append(p.update)
    assert len(seen) == 8
    assert [p.source for p in comparison.looks] == sources * (len(comparison.looks) // 4)  # whoever came first
    (looks,) = {tuple(v) for v in seen.values()}
    assert looks[0] == 0
    assert looks[-1] == 300
    assert comparison.epoch == 7  # 400 samples in batches of 64
    assert all(update % 7 == 0 for update in looks[:-1])  # whole epochs


def test_all_students_of_a_seed_begin_with_the_same_weights(digits):
    comparison = StudentComparison(digits, StudentConfig(model="lenet5-half", updates=10), seeds=2)
    first, again, other = (comparison.begin(seed) for seed in (0, 0, 1))
    assert list(first) == list(SOURCES)
    weights = first["samples"].network.state_dict()
    for students in (first, again):
        for student in students.values():
            for name, value in student.network.state_dict().items():
                assert torch.equal(value, weights[name])
    assert not torch.equal(next(other["kd"].network.parameters()), next(first["kd"].network.parameters()))
    networks = [s.network for students in (first, again) for s in students.values()]
    assert len({id(n) for n in networks}) == len(networks)
    # And the curves begin where an untrained student is.
    next(comparison), next(comparison)
    while not comparison.looks:
        next(comparison)
    begin = [p for p in comparison.looks if p.update == 0]
    assert len(begin) == 4
    assert len({(p.accuracy, p.agreement, p.test_loss) for p in begin}) == 1
    assert all(p.training_loss is None for p in begin)


@pytest.mark.parametrize(
    ("asked", "given"),
    [((), ["noise"]), (("samples",), ["samples", "noise"]), (("labels", "kd"), ["noise", "kd", "labels"])],
)
def test_the_control_is_always_there(moons, asked, given):
    comparison = StudentComparison(moons, StudentConfig(updates=5), sources=asked)
    list(comparison)
    assert [r.source for r in comparison.results] == given
    assert [p.source for p in comparison.looks][: len(given)] == given


def test_a_comparison_is_the_same_each_time(moons):
    """What is seen of it depends on the clock; what comes out, and the curves, do not."""
    config = StudentConfig(updates=40)
    one, two = (StudentComparison(moons, config) for _ in range(2))
    list(one), list(two)
    for a, b in zip(one.looks, two.looks, strict=True):
        # The mean of losses is added up in parts that the clock makes, so its last digits may differ.
        assert (a.training_loss or 0.0) == pytest.approx(b.training_loss or 0.0, rel=1e-5)
        assert replace(a, training_loss=0.0) == replace(b, training_loss=0.0)
    assert one.results == two.results


def test_curves_end_where_the_results_begin(digits):
    comparison = StudentComparison(digits, StudentConfig(model="mlp", updates=60))
    list(comparison)
    for result in comparison.results:
        last = [p for p in comparison.looks if p.source == result.source][-1]
        assert (last.accuracy, last.agreement) == (result.accuracy.value, result.agreement.value)
    losses = [p.training_loss for p in comparison.looks if p.source == "labels"]
    assert losses[-1] < losses[1]
    # The mean over the updates since the look before: the same as training it alone.
    alone = comparison.begin(0)["labels"]
    steps, weighed = list(alone), 0.0
    for before, step in pairwise([None, *steps]):
        weighed += step.loss * (step.update - (before.update if before else 0))
    points = [p for p in comparison.looks if p.source == "labels"]
    summed = sum(b.training_loss * (b.update - a.update) for a, b in pairwise(points))
    assert summed == pytest.approx(weighed, rel=1e-4)


def test_confusion_and_differences(digits):
    comparison = StudentComparison(digits, StudentConfig(model="mlp", updates=60), seeds=2, sources=["samples"])
    list(comparison)
    answers = comparison.of_teacher.argmax(dim=1).tolist()
    for source, matrix in comparison.confusion.items():
        mine = [r.agreement for r in comparison.results if r.source == source]
        assert matrix.sum() == 2 * 500
        assert matrix.sum(dim=1).tolist() == [2 * answers.count(k) for k in range(10)]  # rows are the teacher's
        assert matrix.trace() / 1000 == pytest.approx(sum(r.value for r in mine) / 2)
    seen = comparison.differences["noise"]["images"]
    assert len(seen) == 12
    assert all(m["teacher"] != m["student"] for m in seen)
    least = [min(m["teacher_confidence"], m["student_confidence"]) for m in seen]
    assert least == sorted(least, reverse=True)
    # The image is the one it says it is.
    x = digits.dataset.inputs(torch.tensor(seen[0]["pixels"], dtype=torch.uint8)[None])
    for who, network in (("teacher", digits.network), ("student", comparison.first["noise"])):
        confidence, answer = network(x).softmax(dim=1).max(dim=1)
        assert digits.dataset.info.classes[answer] == seen[0][who]
        assert confidence.item() == pytest.approx(seen[0][f"{who}_confidence"], abs=1e-4)


def test_differences_over_the_plane(moons):
    comparison = StudentComparison(moons, StudentConfig(updates=30), sources=[])
    list(comparison)
    seen, (result,) = comparison.differences["noise"], comparison.results
    same = [a == b for rows in zip(seen["teacher"], seen["student"], strict=True) for a, b in zip(*rows, strict=True)]
    assert sum(same) / len(same) == pytest.approx(result.plane_agreement.value)
    half = evaluation.predict(moons.network, torch.tensor([[-seen["half_width"], seen["half_width"]]]))
    assert seen["teacher"][-1][0] == half.argmax().item()  # rows from below, columns from the left


def test_what_students_cannot_do_is_a_sentence(moons):
    with pytest.raises(CakeError, match="Students can't learn from soup"):
        StudentComparison(moons, StudentConfig(), sources=["soup"])


@pytest.mark.parametrize(
    ("updates", "epoch", "every"),
    [(2000, 63, 63), (4000, 10, 100), (100, 1000, 5), (1500, 63, 63), (10, 2, 1), (5, 1, 1), (1, 500, 1)],
)
def test_spacing_of_looks(updates, epoch, every):
    """Whole epochs where there are enough of them; twenty to forty looks, if there are so many updates."""
    assert spacing(updates, epoch) == every
    assert updates < 20 or 15 <= updates / every <= 41


# -- budgets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["cake", "noise", "zsdb3kd", "dafl", "generative", "dfad_activation"])
def test_a_budget_of_calls_is_kept(method, moons_teacher):
    """Within a fifth for methods whose calls follow from their settings; mini-batches or steps follow from it."""
    experiment = Experiment.from_query({"method": method, "samples": "20", "teacher": "moons/mlp"})
    loaded = teacher.load("moons/mlp")
    fitted = fit(experiment, loaded, "calls", 60_000)
    run = Distillation(fitted, teacher=loaded, every=10**6)
    while run.samples is None:
        next(run)
    calls = run.oracle.forward_calls + run.oracle.gradient_calls
    if method == "noise":  # so cheap that memory sets the limit
        assert len(run.samples) == MOST_SAMPLES
    else:
        assert 0.8 * 60_000 <= calls <= 1.05 * 60_000
    assert fit(experiment, loaded, "samples", 1) == experiment


def test_budgets_that_cannot_be(moons_teacher):
    experiment, loaded = Experiment.from_query({"teacher": "moons/mlp"}), teacher.load("moons/mlp")
    with pytest.raises(CakeError, match="CAKE needs more than 100 calls of the teacher"):
        fit(experiment, loaded, "calls", 100)
    with pytest.raises(CakeError, match="There is no budget in money. Choose one of: samples, calls, seconds"):
        fit(experiment, loaded, "money", 100)


def test_a_method_that_cannot_run_says_so_and_the_others_go_on():
    comparison = MethodComparison(QUICK.replace(teacher="moons/mlp"), ["deepinversion", "noise"], seeds=2)
    list(comparison)
    assert [(r["method"], r["seed"]) for r in comparison.rows] == [("noise", 0), ("noise", 1)]
    assert list(comparison.refused) == ["deepinversion"]
    assert "batch normalisation" in comparison.refused["deepinversion"]
    with pytest.raises(CakeError, match="batch normalisation"):
        list(MethodComparison(QUICK.replace(teacher="moons/mlp"), ["deepinversion"], seeds=2))


def test_a_budget_that_is_too_small_for_the_first_method_leaves_the_others():
    comparison = MethodComparison(QUICK, ["cake", "noise"], seeds=1, budget="calls", amount=100)
    list(comparison)
    assert list(comparison.refused) == ["cake"]
    assert [r["method"] for r in comparison.rows] == ["noise"]


def test_students_get_their_methods_temperature():
    comparison = MethodComparison(QUICK, ["cake", "kd", "zskd"], seeds=1)
    assert [e.student.temperature for e in comparison.experiments] == [1, 4, 20]
    assert {e.student.model for e in comparison.experiments} == {"mlp"}
