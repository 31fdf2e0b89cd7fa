"""Random numbers belong to (seed, mini-batch), whatever else is in flight."""

from __future__ import annotations

import torch

from cake_core.rng import BLOCK, Streams, generator


def draws(streams: Streams) -> list[torch.Tensor]:
    first = [streams.normal(3, 2), streams.permutations(4, 5).float()]
    steps = [streams.noise(3, 2) for _ in range(130)]  # more than one block
    return [*first, *steps, streams.uniform(2)]


def test_a_stream_does_not_depend_on_its_neighbours():
    together = draws(Streams(7, range(5)))
    for m in (0, 3):
        alone = draws(Streams(7, [m]))
        assert all(torch.equal(a[m], b[0]) for a, b in zip(together, alone, strict=True))


def test_seeds_and_mini_batches_differ():
    a = Streams(1, [0, 1]).normal(4)
    assert not torch.equal(a[0], a[1])
    assert not torch.equal(a[0], Streams(2, [0]).normal(4)[0])
    assert generator(1, 2).initial_seed() != generator(2, 1).initial_seed()


def test_the_global_state_stays():
    before = torch.random.get_rng_state()
    draws(Streams(0, range(3)))
    assert torch.equal(before, torch.random.get_rng_state())


def test_large_noise_is_not_drawn_far_ahead():
    streams = Streams(0, [0])
    streams.noise(BLOCK)
    ((block, _),) = streams._ahead.values()
    assert len(block) == 1


def test_permutations_are_permutations():
    orders = Streams(0, range(3)).permutations(50, 7)
    assert orders.shape == (3, 50, 7)
    assert torch.equal(orders.sort(dim=-1).values, torch.arange(7).expand(3, 50, 7))
    first = orders[..., 0].flatten().bincount(minlength=7)
    assert first.min() > 5  # every class comes first now and then
