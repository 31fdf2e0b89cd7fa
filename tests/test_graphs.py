"""Recorded steps: here with a stand-in for CUDA's graphs, on a card in test_gpu.py."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

from cake_core import data, graphs, models
from cake_core.data import DataConfig
from cake_core.methods import METHODS, find
from cake_core.oracle import Oracle
from cake_core.rng import Streams
from cake_core.student import KDConfig, Lesson, TeacherLogits
from cake_core.synthesis import synthesize
from cake_core.synthetic import Problem
from cake_core.training import TrainConfig, train

SETTINGS = {"batches": 4, "samples": 10, "steps": 12}
ON_CPU = {"shape": (2,), "classes": 2, "device": "cpu", "seed": 4}


class Recording:
    """What `torch.cuda.CUDAGraph` does, done again in Python: a replay computes, and Python sees nothing of it."""

    made: list[Recording] = []

    def __init__(self):
        self.made.append(self)
        self.replays = 0

    def replay(self) -> None:
        stepper, self.replays = self.stepper, self.replays + 1
        teacher, t = stepper.state.problem.teacher, stepper.state.t
        calls = teacher.forward_calls, teacher.gradient_calls
        stepper._losses.update(stepper.method.step(stepper.state, stepper.rng))
        teacher.forward_calls, teacher.gradient_calls = calls
        stepper.state.t = t


@pytest.fixture
def recordings(monkeypatch):
    """Steps are recorded on the CPU; returns the recordings made."""
    monkeypatch.setattr(graphs, "suits", lambda method, device: method.repeats)
    monkeypatch.setattr(graphs, "_aside", lambda device, work: work())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recording)
    made: list[Recording] = []
    monkeypatch.setattr(Recording, "made", made)

    @contextmanager
    def capture(graph):
        stepper = next(s for s in alive if s._graph is None and s._usual == graphs.WARM_UP)
        graph.stepper, x = stepper, stepper.state.x.detach().clone()
        yield
        stepper.state.x.detach().copy_(x)  # recording computes nothing

    alive: list[graphs.Stepper] = []
    init = graphs.Stepper.__init__
    monkeypatch.setattr(graphs.Stepper, "__init__", lambda self, *a: (init(self, *a), alive.append(self))[0])
    monkeypatch.setattr(torch.cuda, "graph", capture)
    return made


def run(teacher, method="cake", edit=None, **more):
    made = synthesize(teacher, method, **ON_CPU, **{**SETTINGS, **more})
    seen = []
    for snapshot in made:
        seen.append(snapshot)
        if edit and snapshot.step == 6:
            made.config = made.config.replace(**edit)
    return made, seen


def test_replays_give_the_same_samples_losses_and_counts(plane_teacher, recordings, monkeypatch):
    recorded, seen = run(plane_teacher)
    assert [r.replays for r in recordings] == [SETTINGS["steps"] - graphs.WARM_UP]
    monkeypatch.setattr(graphs, "suits", lambda method, device: False)
    plain, expected = run(plane_teacher)
    assert torch.equal(recorded.result.x, plain.result.x)
    assert recorded.result.provenance == plain.result.provenance  # calls of the teacher among them
    for ours, theirs in zip(seen, expected, strict=True):  # and no snapshot was written over by a later step
        assert torch.equal(ours.x, theirs.x)
        assert all(torch.equal(ours.losses[k], v) for k, v in theirs.losses.items())
        assert (ours.logits is None) == (theirs.logits is None)
        assert ours.logits is None or torch.equal(ours.logits, theirs.logits)


def test_a_change_of_settings_makes_a_new_recording(plane_teacher, recordings, monkeypatch):
    recorded, _ = run(plane_teacher, edit={"weight_contrast": 1.0, "step_size": 0.02})
    assert [r.replays for r in recordings] == [6 - graphs.WARM_UP, 6 - graphs.WARM_UP]
    monkeypatch.setattr(graphs, "suits", lambda method, device: False)
    plain, _ = run(plane_teacher, edit={"weight_contrast": 1.0, "step_size": 0.02})
    assert torch.equal(recorded.result.x, plain.result.x)


def test_what_draws_or_counts_is_not_recorded():
    repeats = {name for name, method in METHODS.items() if method().repeats}
    assert repeats == {"cake", "naive"}
    assert not find("cake")(find("cake").Config(optimizer="adam")).repeats


def test_nothing_is_recorded_on_a_cpu(plane_teacher):
    method = find("cake")(find("cake").Config(**SETTINGS))
    assert not graphs.suits(method, torch.device("cpu"))
    assert graphs.suits(method, torch.device("cuda"))
    problem = Problem(Oracle(plane_teacher), (2,), 2, 4, torch.device("cpu"))
    rng = Streams(0, range(4))
    state = method.init(problem, rng)
    step = graphs.Stepper(method, state, rng, False)
    assert set(step()) >= {"classification", "contrast"}
    assert state.t == 1


class RecordedUpdate:
    """As `Recording`, of an update of weights."""

    def replay(self) -> None:
        self.update._loss = self.update.work(*self.update._batch)
        self.update.replays += 1


@pytest.fixture
def updates(monkeypatch):
    """Updates are recorded on the CPU; returns what was recorded."""
    made: list[graphs.Update] = []
    init = graphs.Update.__init__

    def begin(self, work, recorded):
        init(self, work, True)
        self.replays, self.asked = 0, recorded
        made.append(self)

    @contextmanager
    def capture(graph):
        graph.update = next(u for u in made if u._graph is None and u._usual == graphs.WARM_UP)
        work, graph.update.work = graph.update.work, lambda *batch: torch.empty(())  # recording computes nothing
        yield
        graph.update.work = work

    monkeypatch.setattr(graphs.Update, "__init__", begin)
    monkeypatch.setattr(graphs, "_aside", lambda device, work: work())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", RecordedUpdate)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    return made


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_training_by_replays_is_the_same_as_a_plain_one(optimizer, request):
    x, y = torch.randn(50, 2, generator=torch.Generator().manual_seed(1)), torch.arange(50) % 2
    config = TrainConfig(updates=40, batch_size=16, learning_rate=0.05, optimizer=optimizer)

    def trained() -> dict[str, torch.Tensor]:
        network = models.build("mlp", (2,), 2, seed=3)
        for _ in train(network, x, y, config, seed=4):
            pass
        return network.state_dict()

    plain = trained()
    updates = request.getfixturevalue("updates")
    recorded = trained()
    # Of each 4 batches the last one has 2 examples, not 16, and is worked on as usual.
    assert [u.replays for u in updates] == [30 - graphs.WARM_UP]
    assert all(torch.equal(recorded[k], v) for k, v in plain.items())


def test_a_loss_that_asks_the_device_is_not_recorded(updates):
    network, x = models.build("mlp", (2,), 2, seed=3), torch.randn(8, 2)
    for repeats in (False, True):
        list(train(network, x, torch.arange(8) % 2, TrainConfig(updates=2), repeats=repeats))
    assert [u.asked for u in updates] == [False, False]  # never on a CPU
    dataset = data.load(DataConfig(points=40))
    lesson = Lesson.from_teacher(dataset, TeacherLogits(network, dataset), KDConfig())
    assert not lesson.repeats
    assert Lesson.from_labels(dataset).repeats
