"""Random numbers that belong to a mini-batch, not to the order of work."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["Streams", "generator"]

BLOCK = 2**18  # values drawn ahead per mini-batch: enough to make the draws cheap, small enough not to matter


def generator(*key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose numbers depend on the key alone, well mixed also for neighbouring keys."""
    state = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    return torch.Generator(device=device).manual_seed(state % 2**63)


class Streams:
    """One random stream for each mini-batch in flight; that of mini-batch m depends on (seed, m) alone.

    So the samples are the same however many mini-batches are worked on at once. All draws come stacked, with the
    mini-batches in front.

    Args:
        seed: the run's seed.
        batches: indices of the mini-batches in flight (M of them).
        device: where the numbers are wanted.
    """

    def __init__(self, seed: int, batches: Sequence[int], device: torch.device | str = "cpu"):
        self.seed, self.batches, self.device = seed, tuple(batches), device
        self._generators = [generator(seed, m, device=device) for m in self.batches]
        self._ahead: dict[tuple[int, ...], tuple[Tensor, int]] = {}

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers (M, *shape)."""
        return torch.stack([torch.randn(shape, generator=g, device=self.device) for g in self._generators])

    def uniform(self, *shape: int) -> Tensor:
        """Numbers (M, *shape), uniform in [0, 1)."""
        return torch.stack([torch.rand(shape, generator=g, device=self.device) for g in self._generators])

    def noise(self, *shape: int) -> Tensor:
        """Standard normal numbers (M, *shape) for use at every step: as `normal`, but drawn many steps at a time."""
        block, used = self._ahead.get(shape, (None, 0))
        if block is None or used == len(block):
            steps = min(64, max(1, BLOCK // math.prod(shape)))
            block, used = self.normal(steps, *shape).transpose(0, 1).contiguous(), 0
        self._ahead[shape] = block, used + 1
        return block[used]

    def permutations(self, count: int, n: int) -> Tensor:
        """Random orders of 0..n-1, (M, count, n) int64."""
        return self.uniform(count, n).argsort(dim=-1)
