"""What only a CUDA device can show. Skipped where there is none."""

from __future__ import annotations

import copy

import pytest
import torch

from cake_core import admission, data, devices, graphs, models
from cake_core.data import DataConfig
from cake_core.diffusion import Denoising, DiffusionConfig, DiffusionTraining
from cake_core.methods import METHODS, find
from cake_core.oracle import Oracle
from cake_core.pieces import Halfway, Pieces
from cake_core.rng import Streams
from cake_core.synthesis import Synthesis, synthesize
from cake_core.synthetic import Problem
from cake_core.training import TrainConfig, Training, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")

IMAGES = {"shape": (1, 28, 28), "classes": 10, "device": "cuda", "seed": 4}
SETTINGS = {"batches": 6, "samples": 20, "steps": 20, "weight_variation": 10.0, "weight_classification": 1.0}


@pytest.fixture
def network():
    """A ResNet-4 whose running statistics are not those of its first day."""
    made = models.build("resnet4", (1, 28, 28), 10, seed=3)
    draws = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for _ in range(3):
            made.train()(torch.randn(64, 1, 28, 28, generator=draws))
    return made.eval()


@pytest.fixture(autouse=True)
def exact():
    """Float32 as it is written, so that what differs is order of summation alone."""
    devices.choose("cuda")  # its settings first, then ours
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


def finished(run: Synthesis) -> Synthesis:
    for _ in run:
        pass
    return run


def test_recorded_steps_give_the_samples_of_plain_ones(network, monkeypatch):
    recorded = finished(synthesize(network, "cake", **IMAGES, **SETTINGS))
    monkeypatch.setattr(graphs, "suits", lambda method, device: False)
    plain = finished(synthesize(network, "cake", **IMAGES, **SETTINGS))
    torch.testing.assert_close(recorded.result.x, plain.result.x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(recorded.result.y, plain.result.y, rtol=1e-3, atol=1e-4)
    assert recorded.result.provenance == plain.result.provenance
    assert torch.equal(recorded.result.labels, plain.result.labels)


def test_snapshots_of_recorded_steps_are_their_own(network):
    seen = list(synthesize(network, "cake", **IMAGES, **SETTINGS))
    losses = [s.losses["variation"].sum().item() for s in seen[1:]]
    assert len(set(losses)) == len(losses)
    assert losses[-1] < losses[0]
    assert not torch.equal(seen[-1].logits, seen[-2].logits)
    assert not torch.equal(seen[-1].x, seen[-2].x)


def test_an_edit_counts_from_the_next_step(network):
    run = synthesize(network, "cake", **IMAGES, **SETTINGS)
    before = None
    for snapshot in run:
        if snapshot.step == 10:
            run.config = run.config.replace(step_size=1e-5)
            before = snapshot.x
        if snapshot.step == 11:
            assert (snapshot.x - before).abs().max() < 1e-2
    assert run.result is not None


def test_the_inner_loop_never_waits_for_the_device(network):
    method = find("cake")(find("cake").Config(**SETTINGS))
    device = devices.choose("cuda")
    problem = Problem(Oracle(network, device), (1, 28, 28), 10, 6, device)
    rng = Streams(0, range(6), device)
    state = method.init(problem, rng)
    for recorded in (False, True):
        step = graphs.Stepper(method, state, rng, recorded)
        for _ in range(graphs.WARM_UP + 2):
            step()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(5):
                step()
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_a_full_device_halves_what_is_in_flight(network):
    settings = {**SETTINGS, "batches": 8, "samples": 500, "steps": 6}
    finished(synthesize(network, "cake", **IMAGES, **settings, in_flight=8))  # choosing algorithms takes memory too
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    wanted = finished(synthesize(network, "cake", **IMAGES, **settings, in_flight=8))
    enough = torch.cuda.max_memory_reserved()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(0.7 * enough / total)
    try:
        run = finished(synthesize(network, "cake", **IMAGES, **settings, in_flight=8))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    assert run.in_flight < 8
    assert "memory was full" in run.note
    torch.testing.assert_close(run.result.x, wanted.result.x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_runs_and_its_samples_are_those_of_a_cpu_in_kind(name, network):
    method = METHODS[name]
    small = {"batches": 2, "samples": 20}
    if "steps" in method.Config.model_fields:
        small["steps"] = 6
    data = (torch.randn(64, 1, 28, 28, device="cuda"), torch.arange(64, device="cuda") % 10)
    run = synthesize(network, name, **IMAGES, **small, data=data if "data" in method.access else None)
    snapshots = list(run)
    assert snapshots[-1].x.is_cuda
    assert run.result.x.isfinite().all()
    assert run.result.y.isfinite().all()
    torch.testing.assert_close(run.result.y.sum(dim=1), torch.ones(len(run.result), device="cuda"))


@pytest.mark.parametrize("precision", devices.PRECISIONS)
def test_training_learns_on_the_device(precision):
    draws = torch.Generator().manual_seed(1)
    labels = torch.arange(512) % 4
    x = torch.randn(512, 3, 16, 16, generator=draws) * 0.3
    x[torch.arange(512), labels % 3, labels * 4] += 2.0
    made = models.build("resnet4", (3, 16, 16), 4, seed=0).cuda()
    config = TrainConfig(updates=150, batch_size=64, learning_rate=3e-3, crop=1, precision=precision)
    before = copy.deepcopy(made.state_dict())
    for _ in train(made, x.cuda(), labels.cuda(), config, seed=0):
        pass
    with torch.no_grad():
        right = (made(x.cuda()).argmax(dim=1).cpu() == labels).float().mean()
    assert right > 0.9
    assert any(not torch.equal(v, before[k]) for k, v in made.state_dict().items())


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_recorded_training_is_a_plain_one(optimizer, monkeypatch):
    draws = torch.Generator().manual_seed(1)
    x, labels = torch.randn(200, 3, 16, 16, generator=draws).cuda(), torch.arange(200).cuda() % 4
    config = TrainConfig(updates=25, batch_size=64, learning_rate=3e-3, optimizer=optimizer)

    def trained(recorded: bool) -> tuple[dict[str, torch.Tensor], int]:
        replays = []
        init = graphs.Update.__init__
        monkeypatch.setattr(graphs.Update, "__init__", lambda s, work, **_: init(s, work, recorded))
        replay = torch.cuda.CUDAGraph.replay
        monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda g: (replays.append(1), replay(g)))
        made = models.build("lenet5", (3, 16, 16), 4, seed=0).cuda()
        for _ in train(made, x, labels, config, seed=0):
            pass
        monkeypatch.undo()
        return made.state_dict(), len(replays)

    (plain, none), (recorded, replays) = trained(False), trained(True)
    assert none == 0
    assert replays == 25 - 25 // 4 - graphs.WARM_UP  # the last of each 4 batches has 8 examples, not 64
    for name, value in plain.items():
        torch.testing.assert_close(recorded[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("model", ["lenet5", "resnet4"])
def test_a_recorded_training_that_is_cut_goes_on_with_the_same_weights(model, optimizer, tmp_path, monkeypatch):
    """In the middle of the third epoch of four batches; what the optimiser remembers comes back to the device.

    With batch normalisation a difference in the last digit is one in the third after 15 updates, so the algorithms are
    held to those that sum in one order.
    """
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    draws = torch.Generator().manual_seed(1)
    x, labels = torch.randn(200, 3, 16, 16, generator=draws).cuda(), torch.arange(200).cuda() % 4
    config, place = TrainConfig(updates=25, batch_size=64, learning_rate=3e-3, optimizer=optimizer), Pieces(tmp_path)
    monkeypatch.setattr(Halfway, "due", property(lambda self: True))

    def training(halfway: Halfway | None) -> tuple[torch.nn.Module, Training]:
        made = models.build(model, (3, 16, 16), 4, seed=0).cuda()
        return made, train(made, x, labels, config, seed=0, every=1, halfway=halfway)

    whole, steps = training(None)
    losses = [s.loss for s in steps]
    _, dead = training(place.halfway("it"))
    next(s for s in dead if s.update == 10)
    again, rest = training(place.halfway("it"))
    assert [s.update for s in rest] == list(range(10, 26))
    assert losses[-1] < losses[0]
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("optimizer", "step_size"), [("momentum", 0.002), ("adam", 0.02)])
def test_steps_that_remember_are_made_on_the_device(optimizer, step_size, network):
    run = synthesize(network, "cake", **IMAGES, **SETTINGS, optimizer=optimizer, step_size=step_size)
    snapshots = list(run)
    totals = [sum(s.weights[k] * v.sum().item() for k, v in s.losses.items()) for s in snapshots[1:]]
    assert totals[-1] < totals[0]
    assert run.result.x.is_cuda
    assert run.result.x.isfinite().all()


def test_a_diffusion_model_learns_by_replays():
    pytest.importorskip("diffusers")
    dataset = data.load(DataConfig(name="digits")).to("cuda")
    training = DiffusionTraining(dataset, DiffusionConfig(updates=150, batch_size=64, width=8), name="tiny")
    losses = [step.loss for step in training]
    assert losses[-1] < 0.6 * losses[0]
    drawing = Denoising(training.model, torch.arange(10, device="cuda"), steps=4)
    for _ in drawing:
        pass
    assert drawing.images.is_cuda
    assert drawing.images.float().std() > 10


def test_the_memory_of_a_run_is_estimated_before_it_begins():
    """What a step keeps for the gradient, by shape, against the peak that CUDA counts."""
    assert 0 < admission.free_bytes("cuda") <= torch.cuda.get_device_properties(0).total_memory
    for model, count in (("cnn", 512), ("resnet18", 128)):
        info = data.info("cifar10")
        oracle = Oracle(models.build(model, info.shape, len(info.classes)).eval(), "cuda")
        measured = devices.peak_memory(oracle.memory_trial(info.shape, count), torch.device("cuda"))
        assert 0.4 < count * admission.per_sample(model, info) / measured < 4, model
