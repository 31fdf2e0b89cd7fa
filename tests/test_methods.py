"""One contract for all methods. A new file in cake_core/methods is tested here without another line."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from cake_core.data import DATASETS
from cake_core.errors import CakeError
from cake_core.methods import METHODS, find
from cake_core.synthesis import synthesize
from cake_core.synthetic import SyntheticSet

KINDS = {"points": ((2,), 2), "images": ((1, 8, 8), 10)}
CASES = [(name, kind) for name in METHODS for kind in KINDS]


def settings_for(name: str, **more) -> dict:
    """A small budget, with those settings that the method knows."""
    wanted = {"batches": 5, "samples": 20, "steps": 6, "clip": 1.0, **more}
    return {k: v for k, v in wanted.items() if k in METHODS[name].Config.model_fields}


def run(name: str, teacher: nn.Module, kind: str, *, seed: int = 0, in_flight: int = 0, **more) -> SyntheticSet:
    shape, classes = KINDS[kind]
    settings = settings_for(name, **more)
    synthesis = synthesize(
        teacher, name, shape=shape, classes=classes, seed=seed, in_flight=in_flight, device="cpu", **settings
    )
    for _ in synthesis:
        pass
    return synthesis.result


@pytest.fixture
def teacher(request, plane_teacher, image_teacher):
    return {"points": plane_teacher, "images": image_teacher}[request.getfixturevalue("kind")]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_samples_are_finite_and_labelled_by_the_teacher(name, kind, teacher):
    made = run(name, teacher, kind)
    shape, classes = KINDS[kind]
    assert made.x.shape == (100, *shape)
    assert made.x.isfinite().all()
    with torch.no_grad():
        torch.testing.assert_close(made.y, teacher(made.x).softmax(dim=1), atol=1e-5, rtol=1e-4)
    assert made.batch.bincount().tolist() == [20] * 5
    # Every group of C samples holds each class once.
    groups = made.labels.view(-1, classes).sort(dim=1).values
    assert torch.equal(groups, torch.arange(classes).expand_as(groups))


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_same_seed_same_samples_other_seed_other_samples(name, kind, teacher):
    one, again, other = run(name, teacher, kind), run(name, teacher, kind), run(name, teacher, kind, seed=1)
    assert torch.equal(one.x, again.x)
    assert torch.equal(one.labels, again.labels)
    assert not torch.allclose(one.x, other.x)
    # Mini-batches are not copies of each other either.
    assert not torch.allclose(one.x[:20], one.x[20:40])


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_number_in_flight_does_not_change_the_samples(name, kind, teacher):
    one, few, all_at_once = (run(name, teacher, kind, in_flight=n, batches=8) for n in (1, 3, 8))
    torch.testing.assert_close(one.x, few.x, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(one.x, all_at_once.x, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(one.y, all_at_once.y, atol=1e-3, rtol=1e-3)
    assert torch.equal(one.labels, all_at_once.labels)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_teacher_comes_back_untouched(name, kind, teacher):
    calls = []
    teacher.train()
    teacher.body[0].requires_grad_(False)
    handle = teacher.register_forward_hook(lambda *args: calls.append(1))
    before = copy.deepcopy(teacher.state_dict())
    grads = [p.requires_grad for p in teacher.parameters()]
    run(name, teacher, kind)
    assert teacher.training
    assert [p.requires_grad for p in teacher.parameters()] == grads
    assert all(p.grad is None for p in teacher.parameters())
    assert list(teacher._forward_hooks) == [handle.id]
    assert not any(m._forward_hooks for m in teacher.body.modules())
    for key, value in teacher.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_global_random_state_stays(name, kind, teacher):
    before = torch.random.get_rng_state()
    run(name, teacher, kind)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", METHODS)
def test_calls_are_counted(name, plane_teacher):
    """Against a teacher that counts for itself."""
    asked, answered_gradients = [], []

    def teacher(x):
        asked.append(len(x))
        if x.requires_grad:
            x.register_hook(lambda grad: answered_gradients.append(len(grad)))
        return plane_teacher(x)

    synthesis = synthesize(teacher, name, shape=(2,), classes=2, device="cpu", **settings_for(name))
    for _ in synthesis:
        pass
    assert synthesis.result.provenance["forward_calls"] == sum(asked)
    assert synthesis.result.provenance["gradient_calls"] == sum(answered_gradients)
    if "gradient" not in METHODS[name].access:
        assert not answered_gradients


@pytest.mark.parametrize("name", METHODS)
def test_a_method_without_gradient_access_gets_none(name, plane_teacher):
    """The oracle hands out only what was declared: what it answers to the others can't be differentiated."""
    method = METHODS[name]
    synthesis = synthesize(plane_teacher, name, shape=(2,), classes=2, device="cpu", **settings_for(name))
    answer = synthesis.problem.teacher(torch.zeros(3, 2, requires_grad=True))
    assert answer.requires_grad == ("gradient" in method.access)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_snapshots_tell_what_happens(name, kind, teacher):
    shape, classes = KINDS[kind]
    synthesis = synthesize(
        teacher, name, shape=shape, classes=classes, device="cpu", in_flight=2, every=2, **settings_for(name)
    )
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
def test_live_settings_can_change_while_it_runs_and_others_cannot(name, plane_teacher):
    synthesis = synthesize(plane_teacher, name, shape=(2,), classes=2, device="cpu", **settings_for(name))
    next(synthesis)
    live = [p for p in synthesis.config.params() if p.live and p.kind == "float"]
    if live and synthesis.method.steps:
        changed = {p.name: p.high / 10 for p in live}
        synthesis.config = synthesis.config.replace(**changed)
        next(synthesis)
        assert synthesis.config.to_dict() | changed == synthesis.config.to_dict()
    with pytest.raises(CakeError, match="'sigma' can't change while a run goes on"):
        synthesis.config = synthesis.config.replace(sigma=2.0)
    synthesis.close()
    with pytest.raises(StopIteration):
        next(synthesis)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_samples_survive_a_file(name, kind, teacher, tmp_path):
    made = run(name, teacher, kind)
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
    assert "Braun" in method.reference or "arXiv" in method.reference
    assert method.equation
    assert method.access <= {"logits", "gradient"}
    assert "Deviations from the paper" in method.__doc__
    module = __import__(method.__module__, fromlist=["__doc__"])
    assert "References: | " in module.__doc__
    assert "https://" in module.__doc__


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("data", DATASETS)
def test_presets_are_valid_settings(name, data):
    config = METHODS[name].config_for(DATASETS[data])
    assert config.batches * config.samples <= 20_000
    for key in METHODS[name].presets:
        assert key in ("points", "images", *DATASETS)


def test_unknown_names_get_a_sentence():
    with pytest.raises(CakeError, match="There is no method 'pie'. Choose one of: cake"):
        find("pie")


def test_controls_come_last():
    order = [m.control for m in METHODS.values()]
    assert order == sorted(order)
    assert [n for n, m in METHODS.items() if m.control] == ["brownian", "noise"]
