"""One contract for all methods. A new file in cake_core/methods is tested here without another line."""

from __future__ import annotations

import copy
import inspect
import re
from typing import ClassVar

import pytest
import torch
from torch import nn

from cake_core.data import DATASETS
from cake_core.errors import CakeError
from cake_core.methods import METHODS, find
from cake_core.oracle import ACCESS, AccessError
from cake_core.pipeline import Distillation, Experiment
from cake_core.synthesis import synthesize
from cake_core.synthetic import SyntheticSet

KINDS = {"points": ((2,), 2), "images": ((1, 8, 8), 10)}
CASES = [(name, kind) for name in METHODS for kind in KINDS]


def settings_for(name: str, **more) -> dict:
    """A small budget, with those settings that the method knows."""
    wanted = {"batches": 5, "samples": 20, "steps": 6, "clip": 1.0, "width": 6, "latent": 4, "batch_size": 16}
    wanted |= {"student_updates": 3, "student_steps": 2}
    wanted |= {"rounds": 2, "iterations": 1, "starts": 2, "directions": 2, "precision_steps": 4, **more}
    return {k: v for k, v in wanted.items() if k in METHODS[name].Config.model_fields}


def run(name: str, teacher: nn.Module, kind: str, *, seed: int = 0, in_flight: int = 0, **more) -> SyntheticSet:
    shape, classes = KINDS[kind]
    settings = settings_for(name, **more)
    synthesis = synthesize(
        teacher, name, shape=shape, classes=classes, seed=seed, in_flight=in_flight, device="cpu",
        data=examples(kind), **settings,
    )  # fmt: skip
    for _ in synthesis:
        pass
    return synthesis.result


@pytest.fixture
def made(request, teacher) -> SyntheticSet:
    """A method's samples with seed 0, made once for all tests that only look at them."""
    name, kind = request.getfixturevalue("name"), request.getfixturevalue("kind")
    if (name, kind) not in MADE:
        MADE[name, kind] = run(name, teacher, kind)
    return MADE[name, kind]


MADE: dict[tuple[str, str], SyntheticSet] = {}


def examples(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Training data, for the methods that have some."""
    shape, classes = KINDS[kind]
    return torch.randn(300, *shape, generator=torch.Generator().manual_seed(1)), torch.arange(300) % classes


@pytest.fixture
def teacher(request, kind):
    """Of the kind, with batch normalisation where the method needs it; for images a very small one in any case."""
    if kind == "images":
        return request.getfixturevalue("image_norm_teacher")
    norm = "batchnorm" in METHODS[request.getfixturevalue("name")].access
    return request.getfixturevalue("plane_norm_teacher" if norm else "plane_teacher")


@pytest.fixture
def kind():
    """For tests that need but one."""
    return "points"


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_samples_are_finite_and_labelled_by_the_teacher(name, kind, teacher, made):
    shape, classes = KINDS[kind]
    each = METHODS[name](METHODS[name].Config.from_dict(settings_for(name))).delivered
    assert made.x.shape == (100 * each, *shape)
    assert made.x.isfinite().all()
    torch.testing.assert_close(made.y.sum(dim=1), torch.ones(100 * each))
    with torch.no_grad():
        answers = teacher(made.x).softmax(dim=1)
    if METHODS[name].own_targets:
        assert not torch.allclose(made.y, answers, atol=1e-3)
    else:
        torch.testing.assert_close(made.y, answers, atol=1e-5, rtol=1e-4)
    assert made.batch.bincount().tolist() == [20 * each] * 5
    if not METHODS[name].steered:  # of no class in particular: the labels are the targets' own
        assert torch.equal(made.labels, made.y.argmax(dim=1))
        return
    # Every group of C samples holds each class once.
    groups = made.labels.view(-1, classes).sort(dim=1).values
    assert torch.equal(groups, torch.arange(classes).expand_as(groups))


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_same_seed_same_samples_other_seed_other_samples(name, kind, teacher, made):
    one, again, other = made, run(name, teacher, kind), run(name, teacher, kind, seed=1)
    assert torch.equal(one.x, again.x)
    assert torch.equal(one.labels, again.labels)
    assert not torch.allclose(one.x, other.x)
    # Mini-batches are not copies of each other either.
    assert not torch.allclose(one.x[:20], one.x[20:40])


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_number_in_flight_does_not_change_the_samples(name, kind, teacher):
    one, few = (run(name, teacher, kind, in_flight=n, batches=4) for n in (1, 3))  # 3 at once, then the last alone
    torch.testing.assert_close(one.x, few.x, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(one.y, few.y, atol=1e-3, rtol=1e-3)
    assert torch.equal(one.labels, few.labels)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_teacher_and_global_random_state_stay_untouched(name, kind, teacher):
    random = torch.random.get_rng_state()
    calls = []
    teacher.train()
    teacher.body[0].requires_grad_(False)
    handle = teacher.register_forward_hook(lambda *args: calls.append(1))
    before = copy.deepcopy(teacher.state_dict())
    grads = [p.requires_grad for p in teacher.parameters()]
    run(name, teacher, kind)
    assert torch.equal(random, torch.random.get_rng_state())
    assert teacher.training
    assert [p.requires_grad for p in teacher.parameters()] == grads
    assert all(p.grad is None for p in teacher.parameters())
    assert list(teacher._forward_hooks) == [handle.id]
    assert not any(m._forward_hooks for m in teacher.body.modules())
    for key, value in teacher.state_dict().items():
        assert torch.equal(value, before[key])


class Counting(nn.Module):
    """A teacher that counts for itself, in lists that a copy of it shares."""

    asked: ClassVar[list[int]] = []
    gradients: ClassVar[list[int]] = []

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x):
        self.asked.append(len(x))
        if x.requires_grad:
            x.register_hook(lambda grad: self.gradients.append(len(grad)))
        return self.network(x)


@pytest.mark.parametrize("name", METHODS)
def test_calls_are_counted(name, teacher):
    """Against a teacher that counts for itself."""
    Counting.asked.clear(), Counting.gradients.clear()
    synthesis = synthesize(
        Counting(teacher), name, shape=(2,), classes=2, device="cpu", every=10**6, data=examples("points"),
        **settings_for(name),
    )  # fmt: skip
    for _ in synthesis:
        pass
    shown = 0 if METHODS[name].steered else 100 * (1 + (synthesis.method.steps > 0))  # for the eye, uncounted
    assert synthesis.result.provenance["forward_calls"] == sum(Counting.asked) - shown
    assert synthesis.result.provenance["gradient_calls"] == sum(Counting.gradients)
    if "gradient" not in METHODS[name].access:
        assert not Counting.gradients


@pytest.mark.parametrize("name", METHODS)
def test_the_teacher_opens_for_what_was_declared_and_no_more(name, teacher):
    access = METHODS[name].access
    synthesis = synthesize(
        teacher, name, shape=(2,), classes=2, device="cpu", data=examples("points"), **settings_for(name)
    )
    oracle, x = synthesis.problem.teacher, torch.zeros(3, 2)
    logits = "logits" in access
    asks = {
        lambda: oracle(x): logits,
        lambda: oracle(x.clone().requires_grad_()): {"logits", "gradient"} <= access,
        lambda: oracle.labels(x): logits or "labels" in access,
        lambda: oracle.features(x): logits and "features" in access,
        lambda: oracle.activations(x): logits and "features" in access,
        lambda: oracle.normalised(x): logits and "batchnorm" in access,
        lambda: oracle.in_batch_mode(x): logits and "batchnorm" in access,
        lambda: oracle.last_weights(): "weights" in access,
        lambda: oracle.data(): "data" in access,
    }
    for ask, allowed in asks.items():
        if allowed:
            ask()
        else:
            with pytest.raises(AccessError, match="did not declare that it needs"):
                ask()


def test_a_black_box_method_that_asks_for_a_gradient_fails(plane_teacher):
    class Cheat(METHODS["zsdb3kd"]):
        def step(self, state, rng):
            state.problem.teacher(state.x.flatten(0, 2).requires_grad_())
            return {}

    cheat = Cheat(Cheat.Config(batches=1, samples=20))
    with pytest.raises(AccessError, match="logits"):
        list(synthesize(plane_teacher, cheat, shape=(2,), classes=2, device="cpu"))


def test_nothing_that_methods_hold_leads_to_the_network():
    """Methods are handed a `Problem`; the oracle's own network is private, and no method reaches for it."""
    for name in METHODS:
        source = inspect.getsource(inspect.getmodule(METHODS[name]))
        assert "._network" not in source
        assert ".look(" not in source


@pytest.mark.parametrize(
    ("method", "data", "sentence"),
    [
        ("deepinversion", "digits", "DeepInversion needs a teacher that offers batch normalisation"),
        ("adi", "moons", "Adaptive DeepInversion needs a teacher that offers batch normalisation"),
    ],
)
def test_a_teacher_that_lacks_something_is_refused_with_those_that_would_do(method, data, sentence):
    shipped = {"digits": "digits/lenet5", "moons": "moons/mlp"}[data]
    run = Distillation(Experiment.from_dict({"data": {"name": data}, "method": method, "teacher": shipped}))
    with pytest.raises(CakeError, match=sentence) as refusal:
        list(run)
    assert "choose " in str(refusal.value)
    assert run.samples is None


def test_a_function_shows_only_its_logits(plane_teacher):
    run = synthesize(lambda x: plane_teacher(x), "dafl", shape=(2,), classes=2, device="cpu", batches=1, samples=20)
    with pytest.raises(CakeError, match="This teacher is a function and shows only its logits"):
        list(run)


def test_no_data_no_distillation_with_data(plane_teacher):
    run = synthesize(plane_teacher, "kd", shape=(2,), classes=2, device="cpu", batches=1, samples=20)
    with pytest.raises(CakeError, match="and they are not here"):
        list(run)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_snapshots_tell_what_happens(name, kind, teacher):
    shape, classes = KINDS[kind]
    synthesis = synthesize(
        teacher, name, shape=shape, classes=classes, device="cpu", in_flight=2, every=2, data=examples(kind),
        **settings_for(name),
    )  # fmt: skip
    snapshots = list(synthesis)
    assert snapshots[-1].step == snapshots[-1].total == synthesis.total
    assert [s.step for s in snapshots] == sorted(s.step for s in snapshots)
    for s in snapshots:
        m = len(s.batches)
        assert s.x.shape == (m, 20, *shape)
        assert s.labels.shape == (m, 20)
        assert set(s.losses) <= set(s.weights)
        assert all(v.shape == (m,) and v.isfinite().all() for v in s.losses.values())
    seen = snapshots[1].x.clone()
    assert torch.equal(snapshots[1].x, seen)  # a snapshot stays as it was while the run went on


@pytest.mark.parametrize("name", METHODS)
def test_live_settings_can_change_while_it_runs_and_others_cannot(name, teacher):
    synthesis = synthesize(
        teacher, name, shape=(2,), classes=2, device="cpu", data=examples("points"), **settings_for(name)
    )
    next(synthesis)
    live = [p for p in synthesis.config.params() if p.live and p.kind == "float"]
    if live and synthesis.method.steps:
        changed = {p.name: p.low + (p.high - p.low) / 10 for p in live}
        synthesis.config = synthesis.config.replace(**changed)
        next(synthesis)
        assert synthesis.config.to_dict() | changed == synthesis.config.to_dict()
    with pytest.raises(CakeError, match="'sigma' can't change while a run goes on"):
        synthesis.config = synthesis.config.replace(sigma=2.0)
    synthesis.close()
    with pytest.raises(StopIteration):
        next(synthesis)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_samples_survive_a_file(name, kind, made, tmp_path):
    made.save(tmp_path / "samples.safetensors")
    back = SyntheticSet.load(tmp_path / "samples.safetensors")
    for key in ("x", "y", "labels", "batch"):
        assert torch.equal(getattr(made, key), getattr(back, key))
    assert back.provenance == made.provenance
    assert back.provenance["method"] == name


@pytest.mark.parametrize("name", METHODS)
def test_declarations(name):
    method = METHODS[name]
    assert method.name == name
    assert method.title
    assert method.summary.endswith(".")
    assert "arXiv" in method.reference or "OpenReview" in method.reference
    assert method.equation
    assert method.access <= set(ACCESS)
    assert "Deviations from the paper" in method.__doc__
    module = __import__(method.__module__, fromlist=["__doc__"])
    assert re.search(r"^References:\s+\| ", module.__doc__, re.MULTILINE)
    assert "https://" in module.__doc__


@pytest.mark.parametrize("name", [n for n in METHODS if not METHODS[n].control])
def test_each_method_names_its_failures_and_how_to_see_them(name):
    assert METHODS[name].failures
    for failure in METHODS[name].failures:
        assert failure.title and failure.text.endswith(".")
        experiment = Experiment.from_query({"method": name, **failure.query})
        usual = Experiment.from_query({"method": name, "data": failure.query["data"]})
        assert experiment != usual


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("data", DATASETS)
def test_presets_are_valid_settings(name, data):
    config = METHODS[name].config_for(DATASETS[data])
    assert config.batches * config.samples <= 20_000
    for key in METHODS[name].presets:
        assert key in ("points", "images", *DATASETS)


def test_unknown_names_get_a_sentence():
    with pytest.raises(CakeError, match="There is no method 'pie'. Choose one of: adi, cake"):
        find("pie")


def test_controls_come_last():
    order = [m.control for m in METHODS.values()]
    assert order == sorted(order)
    assert [n for n, m in METHODS.items() if m.control] == ["brownian", "noise"]
