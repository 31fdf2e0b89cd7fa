"""The supervised loop: it learns, it is reproducible, and it says when it can't."""

from __future__ import annotations

import pytest
import torch

from cake_core import data, evaluation, models
from cake_core.errors import CakeError
from cake_core.rng import generator
from cake_core.training import TrainConfig, _shifted, augmented, train

MOONS = data.DataConfig(points=400)


def learn(seed: int = 0, **settings) -> tuple[torch.nn.Module, list]:
    dataset = data.load(MOONS)
    network = models.build("mlp", (2,), 2, seed=1)
    config = TrainConfig.from_dict({"updates": 300, **settings})
    steps = list(train(network, dataset.train_x, dataset.train_y, config, seed=seed, inputs=dataset.inputs))
    return network, steps


@pytest.mark.parametrize("settings", [{}, {"optimizer": "sgd", "learning_rate": 0.1}])
def test_it_learns(settings):
    network, steps = learn(**settings)
    dataset = data.load(MOONS)
    accuracy = evaluation.accuracy(evaluation.predict(network, dataset.test_x, dataset.inputs), dataset.test_y)
    assert accuracy.value > 0.95
    assert not network.training
    assert steps[-1].update == steps[-1].total == 300
    assert [s.update for s in steps] == sorted(s.update for s in steps)


def test_same_seed_same_network_whatever_the_speed(monkeypatch):
    """When the iterator yields depends on the clock; what is learned does not."""
    fast, steps = learn()
    monkeypatch.setattr("cake_core.training.SECONDS_BETWEEN_STEPS", 0.0)
    slow, more_steps = learn()
    other, _ = learn(seed=1)
    assert len(more_steps) == 300 > len(steps)
    for a, b in zip(fast.parameters(), slow.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(next(fast.parameters()), next(other.parameters()))


def test_soft_targets_are_learned():
    x = torch.randn(500, 2)
    targets = torch.tensor([0.3, 0.7]).expand(500, 2)
    network = models.build("mlp", (2,), 2)
    for _ in train(network, x, targets, TrainConfig(updates=500)):
        pass
    answer = network(x).softmax(dim=1).mean(dim=0)
    torch.testing.assert_close(answer, torch.tensor([0.3, 0.7]), atol=0.02, rtol=0)


def test_every_epoch_sees_every_example_once():
    seen = []
    network = models.build("mlp", (2,), 2)

    def note(batch):
        seen.append(batch[:, 0].clone())
        return batch

    x = torch.arange(10.0)[:, None].expand(10, 2).contiguous()
    config = TrainConfig(updates=6, batch_size=4)  # three batches of 4, 4, 2 make an epoch
    for _ in train(network, x, torch.zeros(10, dtype=torch.int64), config, inputs=note):
        pass
    for epoch in (seen[:3], seen[3:]):
        assert sorted(torch.cat(epoch).tolist()) == list(range(10))
    assert not torch.equal(torch.cat(seen[:3]), torch.cat(seen[3:]))


def test_shift_moves_and_repeats_the_border():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    moved = {tuple(_shifted(x, 1, torch.Generator().manual_seed(s)).flatten().tolist()) for s in range(60)}
    assert len(moved) == 9  # three offsets in each direction
    assert tuple(x.flatten().tolist()) in moved


def test_what_cannot_be_trained_is_a_sentence():
    network = models.build("mlp", (2,), 2)
    with pytest.raises(CakeError, match="nothing to train on"):
        list(train(network, torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), TrainConfig()))
    x = torch.full((10, 2), float("nan"))
    with pytest.raises(CakeError, match="The training diverged"):
        list(train(network, x, torch.zeros(10, dtype=torch.int64), TrainConfig(updates=5)))


def test_crops_and_flips_meet_a_naive_loop():
    x = torch.arange(6 * 2 * 5 * 4, dtype=torch.uint8).view(6, 2, 5, 4)
    made = augmented(x, crop=2, flip=True, rng=generator(3))
    rng = generator(3)
    rows, columns = torch.randint(0, 5, (2, 6, 1), generator=rng).flatten(1).tolist()
    mirrored = (torch.rand(6, 1, generator=rng) < 0.5).flatten().tolist()
    assert len(set(mirrored)) == 2
    for image, was, dy, dx, mirror in zip(made, x, rows, columns, mirrored, strict=True):
        canvas = torch.zeros(2, 9, 8, dtype=torch.uint8)
        canvas[:, 2:7, 2:6] = was
        wanted = canvas[:, dy : dy + 5, dx : dx + 4]
        assert torch.equal(image, wanted.flip(2) if mirror else wanted)
    assert made.dtype == torch.uint8


def test_augmentation_is_switched_on_by_the_settings():
    """Raw images are augmented before they are normalised, and only while training."""
    x = torch.full((8, 1, 8, 8), 255, dtype=torch.uint8)
    seen = []

    def inputs(raw):
        seen.append(raw)
        return raw.float() / 255

    for settings in ({}, {"crop": 3}):
        network = models.build("lenet5-half", (1, 8, 8), 2)
        config = TrainConfig(updates=1, batch_size=8, **settings)
        for _ in train(network, x, torch.zeros(8, dtype=torch.int64), config, inputs=inputs):
            pass
    plain, cropped = seen
    assert (plain == 255).all()
    assert (cropped == 0).any()


def test_bfloat16_learns_the_same_and_leaves_the_weights_in_float32():
    exact, _ = learn()
    rough, _ = learn(precision="bf16")
    dataset = data.load(MOONS)
    answers = [evaluation.predict(n, dataset.test_x, dataset.inputs) for n in (exact, rough)]
    assert not torch.equal(*answers)
    assert evaluation.agreement(*answers).value > 0.97
    assert {p.dtype for p in rough.parameters()} == {torch.float32}
