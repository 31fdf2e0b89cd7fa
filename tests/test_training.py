"""The supervised loop: it learns, it is reproducible, and it says when it can't."""

from __future__ import annotations

import pytest
import torch

from cake_core import data, evaluation, models
from cake_core.errors import CakeError
from cake_core.training import TrainConfig, _shifted, train

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
