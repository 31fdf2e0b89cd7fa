"""The attack as a whole: its budget, its rounds, its variants, and the same result through a service with faults."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from cake_core import diffusion, teacher
from cake_core.black_box import BudgetSpent, LocalBlackBox, RemoteBlackBox
from cake_core.cli import main
from cake_core.errors import CakeError
from cake_core.few_call import VARIANTS, FewCall, FewCallConfig
from cake_core.service import Terms, serving
from cake_core.stealing import CAKE, Sweep, changed, within

QUICK = {"data": {"name": "moons"}, "proxies": {"per_class": 40}, "student": {"updates": 60}}


@pytest.fixture(autouse=True)
def own_runs(monkeypatch, tmp_path):
    monkeypatch.setenv("CAKE_RUNS_DIR", str(tmp_path))
    monkeypatch.setattr("cake_core.black_box.LONGEST_WAIT", 0.05)


def config(**changes) -> FewCallConfig:
    return changed(FewCallConfig.from_dict(QUICK), **changes)


def attacked(settings: FewCallConfig, **more) -> FewCall:
    run = FewCall(settings, **more)
    progress = [update.progress for update in run]
    assert progress == sorted(progress)
    assert progress[-1] == 1
    return run


@pytest.mark.parametrize("name", list(VARIANTS))
def test_every_variant_runs_and_keeps_to_its_budget(name):
    if VARIANTS[name][1].get("proxies.source") == "other":
        pytest.skip("points have no other set")
    run = attacked(config(budget=5, **VARIANTS[name][1]))
    assert run.box.usage().per_class == ((5, 5) if run.config.asked else (0, 0))
    assert run.outcome.calls == sum(run.box.usage().per_class)
    assert 0 <= run.outcome.agreement.value <= 1
    assert run.outcome.agreement.n == 2000


def test_the_budget_is_spent_in_rounds():
    run = attacked(config(budget=5, rounds=3))
    assert [r.calls for r in run.rounds] == [4, 8, 10]
    asked = [set(r.asked.tolist()) for r in run.rounds]
    assert [len(a) for a in asked] == [4, 8, 10]
    assert asked[0] < asked[1] < asked[2]


def test_more_rounds_than_calls():
    assert [r.calls for r in attacked(config(budget=1)).rounds] == [2]


def test_points_that_were_asked_have_the_teachers_label_and_the_rest_their_neighbours():
    run = attacked(config(budget=10))
    latest = run.rounds[-1]
    truth = run.network(run.proxies.x).argmax(dim=1)
    assert torch.equal(latest.labels[latest.asked], truth[latest.asked])
    rest = torch.ones(len(truth), dtype=torch.bool)
    rest[latest.asked] = False
    assert latest.knn_accuracy.value == pytest.approx((latest.labels[rest] == truth[rest]).float().mean().item())


def test_the_gate_keeps_what_it_should():
    gated, all_of_them = attacked(config(budget=4)), attacked(config(budget=4, gate=False))
    assert all_of_them.outcome.kept == 2 * 40 - 8
    assert gated.outcome.kept < all_of_them.outcome.kept


def test_the_same_seed_gives_the_same_student():
    first, again = attacked(config(budget=4)), attacked(config(budget=4))
    ours, theirs = first.student.state_dict(), again.student.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_through_a_service_with_faults_the_result_is_the_same(monkeypatch):
    monkeypatch.setattr("cake_core.black_box.PER_REQUEST", 2)
    settings, known = config(budget=8), teacher.load("moons/mlp")
    box = LocalBlackBox.of(known, budget=8, errors=0.1, seed=2)
    with serving(box, Terms(key="k", dropped=0.5, rate=3.0, seed=1)) as url:
        remote = RemoteBlackBox(url, "k")
        run = attacked(settings, box=remote)
        remote.close()
    here = attacked(settings)
    assert box.usage().per_class == (8, 8)
    assert run.outcome.failures > 0
    ours, theirs = here.student.state_dict(), run.student.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert run.outcome.agreement == here.outcome.agreement


def test_a_strangers_teacher_is_asked_and_never_looked_into():
    box = LocalBlackBox.of(teacher.load("moons/mlp"), budget=4)
    run = attacked(config(budget=4), box=box, stranger=True)
    assert run.network is None
    assert run.outcome.agreement is None
    assert run.outcome.knn_accuracy is None
    assert run.outcome.accuracy.n == 2000
    assert run.outcome.before == run.outcome.before
    with pytest.raises(BudgetSpent):
        attacked(config(budget=4), box=box, stranger=True)


def test_a_black_box_for_other_data_is_refused():
    box = LocalBlackBox.of(teacher.load("digits/lenet5"))
    with pytest.raises(CakeError, match="Choose the data that it was made for"):
        attacked(config(), box=box, stranger=True)


def test_hard_answers_are_all_that_is_learned():
    run = attacked(config(budget=4, answers="hard"))
    assert run.box.answers == "hard"


def test_a_teacher_is_stopped_when_it_is_good_enough(monkeypatch):
    run = attacked(config(budget=2, quality=0.7))
    assert 0.7 <= run.outcome.teacher_accuracy.value < 0.97
    short = teacher.recipe("moons", "mlp", updates=10)
    monkeypatch.setattr(teacher, "recipe", lambda *_: short)
    with pytest.raises(CakeError, match="not to 99 %"):
        attacked(config(budget=2, quality=0.99, **{"data.noise": 0.4}))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"budget": 41}, "41 calls per class need as many proxies"),
        ({"warm_start": "digits"}, "is for images of another set"),
        ({"budget": 0}, "from 1 to 4096"),
        ({"teacher": "digits/lenet5"}, "learned digits, not moons"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, says):
    with pytest.raises(CakeError, match=says):
        FewCall(config(**changes))


def test_questions_and_teacher_do_not_come_from_the_same_images(monkeypatch):
    card = diffusion.DiffusionCard("d", "digits", [0, 600], (1, 8, 8), tuple("0123456789"), {"width": 8}, 1, "")
    monkeypatch.setattr(diffusion, "shipped", lambda: {"d": card})
    settings = FewCallConfig.from_dict({"data": {"name": "digits"}, "teacher": "digits/lenet5"})
    with pytest.raises(CakeError, match="has seen images that teacher 'digits/lenet5' learned from"):
        FewCall(settings)
    cards = teacher.shipped()
    mine = {"digits/mine": replace(cards["digits/lenet5"], name="digits/mine", images=[600, 1200])}
    monkeypatch.setattr(teacher, "shipped", lambda: cards | mine)
    assert FewCallConfig.from_dict({"data": {"name": "digits"}}).teacher == "digits/mine"


def test_settings_survive_a_query():
    settings = config(budget=7, active=False)
    assert FewCallConfig.from_query(settings.to_query()) == settings


@pytest.mark.parametrize("budget", [3, 32, 100, 128])
def test_cake_gets_no_more_calls_than_an_attack(budget):
    experiment = within(FewCallConfig.from_dict({"data": {"name": "digits"}}).with_budget(budget))
    s = experiment.settings
    assert s.batches * s.samples * (2 * s.steps + 1) <= 10 * budget
    assert s.batches >= 1
    with pytest.raises(CakeError, match="at least 3 calls"):
        within(config(budget=2))


def test_a_sweep_is_stored_and_goes_on():
    def rows() -> list[dict]:
        sweep = Sweep(config(), ["aspkd", "prompts", CAKE], [2, 4], 2)
        for _ in sweep:
            pass
        assert set(sweep.refused) == {"cake, 2"}
        return sweep.rows

    first = rows()
    assert len(first) == 2 * (2 + 1 + 1)
    assert {(r["variant"], r["calls"]) for r in first if r["variant"] != CAKE} == {
        ("aspkd", 4), ("aspkd", 8), ("prompts", 0),
    }  # fmt: skip
    assert rows() == first  # the seconds too: nothing was computed again


def test_a_sweep_of_nothing_is_refused():
    with pytest.raises(CakeError, match="at least one variant"):
        Sweep(config(), [], [4])
    with pytest.raises(CakeError, match="no variant 'cherry'"):
        Sweep(config(), ["cherry"], [4])


def test_a_variant_that_these_data_do_not_have_is_told_and_left_out():
    sweep = Sweep(config(), ["aspkd", "knockoff"], [2])
    for _ in sweep:
        pass
    assert [r["variant"] for r in sweep.rows] == ["aspkd"]
    assert "another set" in sweep.refused["knockoff"]


def test_the_command_line(capsys, tmp_path):
    small = ["--set", "proxies.per_class=20", "student.updates=40"]
    assert main(["steal", "--data", "moons", "--budget", "2", "4", "--variants", "aspkd", "noise", *small,
                 "--out", str(tmp_path), "--json", "-"]) == 0  # fmt: skip
    found = json.loads(capsys.readouterr().out)
    assert [(r["variant"], r["budget"]) for r in found["rows"]] == [
        ("aspkd", 2), ("noise", 2), ("aspkd", 4), ("noise", 4),
    ]  # fmt: skip
    lines = (tmp_path / "few_call_moons.csv").read_text().splitlines()
    assert lines[0].startswith("variant,budget,seeds,accuracy_mean")
    assert len(lines) == 5
    assert main(["steal", "--teacher", "moons/mlp", "--budget", "3", "--http", "--errors", "0.3", "--key", "k", *small,
                 "--json", "-"]) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out)["counted_by_the_service"]["per_class"] == [3, 3]
    assert main(["steal", "--budget", "2", "--url", "http://127.0.0.1:9", *small]) == 2
    assert "Nobody answers" in capsys.readouterr().err
    assert main(["steal", "--data", "circles", "--http", *small]) == 2
    assert main(["serve", "--teacher", "moons/mlp", "--errors", "2"]) == 2


def test_a_part_given_as_one_value_is_a_sentence():
    with pytest.raises(CakeError, match=r"'data' holds several settings. Write one of them, such as data.name."):
        FewCallConfig.from_query({"data": "moons"})
