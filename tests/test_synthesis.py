"""The loop: progress, pausing, cancelling, what is refused, and teachers of any kind."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

import cake_core
from cake_core import devices
from cake_core.errors import CakeError
from cake_core.methods import find
from cake_core.methods.cake import Cake
from cake_core.oracle import Oracle
from cake_core.synthesis import PROBES, Synthesis, synthesize
from cake_core.synthetic import Problem

PLANE = {"shape": (2,), "classes": 2, "device": "cpu", "batches": 4, "samples": 10, "steps": 6}


def test_public_name(plane_teacher):
    run = cake_core.synthesize(plane_teacher, method="cake", **PLANE, seed=3)
    assert [s.step for s in run] == [0, 1, 2, 3, 4, 5, 6]
    assert len(run.result) == 40


def test_every(plane_teacher):
    run = synthesize(plane_teacher, "cake", **PLANE, in_flight=2, every=4)
    assert [(s.step, s.batches) for s in run] == [
        (0, (0, 1)), (4, (0, 1)), (6, (0, 1)), (6, (2, 3)), (10, (2, 3)), (12, (2, 3)),
    ]  # fmt: skip
    assert run.total == 12


class Crowded(Cake):
    """CAKE on a device that holds so many mini-batches, and says so in the words of CUDA."""

    holds = 3
    tried: list[int]

    def step(self, state, rng):
        self.tried.append(len(rng.batches))
        if len(rng.batches) > self.holds and len(self.tried) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return super().step(state, rng)


def crowded(holds: int, **settings) -> Crowded:
    method = Crowded(Cake.config_for(None, **{**SETTINGS, **settings}))
    method.holds, method.tried = holds, []
    return method


SETTINGS = {"batches": 10, "samples": 10, "steps": 6}
ON_CPU = {"shape": (2,), "classes": 2, "device": "cpu"}


def test_full_memory_halves_what_is_in_flight_and_changes_no_sample(plane_teacher):
    plain = synthesize(plane_teacher, "cake", **ON_CPU, **SETTINGS, seed=4)
    list(plain)
    method = crowded(3)
    run = synthesize(plane_teacher, method, **ON_CPU, seed=4)
    seen = list(run)
    assert torch.equal(plain.result.x, run.result.x)
    assert torch.equal(plain.result.batch, run.result.batch)
    assert run.in_flight == 2
    assert [n for k, n in enumerate(method.tried) if k == 0 or n != method.tried[k - 1]] == [10, 5, 2]
    assert run.note == "The device's memory was full; it goes on with 2 mini-batches at once."
    assert seen[-1].step == seen[-1].total == 6 * 5


def test_finished_mini_batches_are_kept_when_memory_runs_out_later(plane_teacher):
    method = crowded(3)
    run = synthesize(plane_teacher, method, **ON_CPU, seed=4, in_flight=3)
    first = [next(run) for _ in range(7)]  # the start and six steps of mini-batches 0 to 2
    method.holds = 1
    rest = list(run)
    assert {s.batches for s in rest if len(s.batches) == 1} == {(m,) for m in range(3, 10)}
    assert first[-1].step == 6
    assert rest[-1].step == rest[-1].total == 6 + 6 * 7
    plain = synthesize(plane_teacher, "cake", **ON_CPU, **SETTINGS, seed=4)
    list(plain)
    assert torch.equal(plain.result.x, run.result.x)


def test_memory_that_holds_not_even_one_is_a_sentence(plane_teacher):
    with pytest.raises(CakeError, match="Choose fewer samples per mini-batch"):
        list(synthesize(plane_teacher, crowded(0), **ON_CPU))


def test_other_failures_are_no_matter_of_memory(plane_teacher):
    def broken(x):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(synthesize(broken, "cake", **ON_CPU, **SETTINGS))


def test_how_many_fit_is_judged_by_the_memory_of_two_trials(plane_teacher, monkeypatch):
    """On a CUDA device with 1 GB free whose peak grows by 1 MB a sample, 60 % of it hold 600 samples."""
    run = synthesize(plane_teacher, "cake", **ON_CPU, **{**SETTINGS, "samples": 50, "batches": 100})
    trials = []

    def peak(work, device):
        work()
        trials.append(1)
        return 5_000_000 + 1_000_000 * PROBES[len(trials) - 1]

    monkeypatch.setattr(devices, "peak_memory", peak)
    monkeypatch.setattr(devices, "free_memory", lambda device: 1_000_000_000)
    assert run._fitting() == 600
    assert run.problem.teacher.forward_calls == 0


def test_bfloat16_gives_nearly_the_same_samples_in_float32(image_teacher):
    """A tenth of the way apart: three digits of the logits, whose small differences steer this untrained network."""
    settings = {"shape": (1, 8, 8), "classes": 10, "device": "cpu", "batches": 1, "samples": 20, "steps": 5}
    settings |= {"step_size": 0.01}
    runs = [synthesize(image_teacher, "cake", **settings, precision=p) for p in ("fp32", "bf16")]
    for run in runs:
        list(run)
    exact, rough = (run.result for run in runs)
    assert rough.x.dtype == rough.y.dtype == torch.float32
    assert not torch.equal(exact.x, rough.x)
    moved = (exact.x - next(synthesize(image_teacher, "cake", **settings)).x[0]).norm()
    assert (exact.x - rough.x).norm() < 0.2 * moved


def test_a_compiled_teacher_gives_the_same_samples(plane_teacher, monkeypatch):
    """Through torch.compile with a backend that needs no compiler; what the machine code does is not ours to test."""
    compiled = []
    plain = torch.compile

    def compile(network, **options):
        compiled.append(network)
        return plain(network, backend="aot_eager", **options)

    monkeypatch.setattr(torch, "compile", compile)
    runs = [synthesize(plane_teacher, "cake", **PLANE, compiled=c) for c in (False, True)]
    for run in runs:
        list(run)
    assert len(compiled) == 1
    torch.testing.assert_close(runs[0].result.x, runs[1].result.x)
    assert runs[1].result.provenance["gradient_calls"] == runs[0].result.provenance["gradient_calls"] > 0


def test_pausing_is_not_asking(plane_teacher):
    """Between two items any amount of other work changes nothing."""
    straight = synthesize(plane_teacher, "lake", **PLANE)
    list(straight)
    halting = synthesize(plane_teacher, "lake", **PLANE)
    for _ in halting:
        torch.randn(100)
    assert torch.equal(straight.result.x, halting.result.x)


def test_an_edit_counts_from_the_next_step_on(plane_teacher):
    plain = synthesize(plane_teacher, "cake", **PLANE, in_flight=4)
    edited = synthesize(plane_teacher, "cake", **PLANE, in_flight=4)
    before, after = [], []
    for k, (a, b) in enumerate(zip(plain, edited, strict=True)):
        (before if k <= 3 else after).append(torch.equal(a.x, b.x))
        if k == 3:
            edited.config = edited.config.replace(step_size=1.0)
    assert all(before)
    assert not any(after)


def test_fewer_classes_than_samples_and_odd_numbers(plane_teacher):
    run = synthesize(plane_teacher, "cake", **{**PLANE, "samples": 7})
    list(run)
    assert len(run.result) == 4 * 8  # rounded up to whole groups of two
    run = synthesize(plane_teacher, "cake", **{**PLANE, "samples": 1})
    list(run)
    assert len(run.result) == 4  # groups of one


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"stepz": 3}, "There is no setting 'stepz'. Did you mean 'steps'?"),
        ({"steps": 0}, "'steps' must be a whole number from 1 to 20000; 0 is not."),
        ({"step_size": -1.0}, "'step_size' must be a number from 1e-05 to 10; -1.0 is not."),
        ({"device": "tpu"}, "There is no device 'tpu'."),
    ],
)
def test_bad_settings_get_a_sentence(plane_teacher, settings, sentence):
    with pytest.raises(CakeError) as caught:
        synthesize(plane_teacher, "cake", **{**PLANE, **settings})
    assert str(caught.value).startswith(sentence)


def test_a_method_with_its_settings_can_be_given(plane_teacher):
    one = synthesize(
        plane_teacher, Cake(Cake.Config(batches=4, samples=10, steps=6)), shape=(2,), classes=2, device="cpu"
    )
    two = synthesize(plane_teacher, "cake", **PLANE)
    list(one), list(two)
    assert torch.equal(one.result.x, two.result.x)


def test_any_function_can_be_a_teacher():
    run = synthesize(lambda x: torch.stack([x[:, 0], -x[:, 0]], dim=1), "cake", **PLANE)
    list(run)
    assert run.result.x.isfinite().all()


def test_a_module_that_cannot_be_copied_is_a_sentence():
    class Locked(nn.Module):
        def __init__(self):
            super().__init__()
            self.lock = threading.Lock()

        def forward(self, x):
            return x

    with pytest.raises(CakeError, match="This teacher can't be copied"):
        synthesize(Locked(), "cake", **PLANE)


def test_batch_norm_statistics_do_not_move():
    teacher = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).train()
    before = teacher[1].running_mean.clone()
    list(synthesize(teacher, "cake", **PLANE))
    assert torch.equal(teacher[1].running_mean, before)
    assert teacher[1].num_batches_tracked == 0
    assert teacher.training


# -- going on after a stop ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["cake", "zskd", "zsdb3kd"])
def test_a_run_that_was_stopped_goes_on_with_the_very_same_samples(plane_teacher, method, tmp_path):
    def begin(parts):
        few = {"steps": 12} if "steps" in find(method).Config.model_fields else {"iterations": 1}
        made = find(method)(find(method).Config(batches=5, samples=20, **few))
        problem = Problem(Oracle(plane_teacher, "cpu", made.access), (2,), 2, 5, torch.device("cpu"))
        return Synthesis(made, problem, seed=3, in_flight=2, parts=parts)

    whole = begin(None)
    list(whole)
    first = begin(tmp_path)
    while len(list(tmp_path.glob("*.safetensors"))) < 2:  # four of five mini-batches
        next(first)
    for _ in range(3):
        next(first)
    first.close()
    (tmp_path / "00002.part").write_bytes(b"cut off in the middle")
    second = begin(tmp_path)
    snapshots = list(second)
    assert all(s.batches == (4,) for s in snapshots)
    assert snapshots[-1].step == snapshots[-1].total == whole.total
    for key in ("x", "y", "labels", "batch"):
        assert torch.equal(getattr(second.result, key), getattr(whole.result, key))
    assert second.result.provenance == whole.result.provenance  # the calls of both halves
    third = begin(tmp_path)
    assert list(third) == []  # nothing is left to do
    assert torch.equal(third.result.x, whole.result.x)


def test_a_generator_has_nothing_to_go_on_from(plane_teacher, tmp_path):
    made = find("rdskd")(find("rdskd").Config(batches=2, samples=20, steps=3))
    problem = Problem(Oracle(plane_teacher, "cpu", made.access), (2,), 2, 2, torch.device("cpu"))
    list(Synthesis(made, problem, parts=tmp_path))
    assert not list(tmp_path.iterdir())
