"""What somebody brought, read and checked: examples with labels, and how they are divided for training and testing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..rng import generator

__all__ = ["LEAST_PER_CLASS", "TEST_SHARE", "Examples", "divide", "in_order", "rarest", "shuffled"]

TEST_SHARE = 0.2  # of each class, where nobody said which examples are for testing
LEAST_PER_CLASS = 5  # examples, so that at least one of them is for testing


@dataclass(frozen=True)
class Examples:
    """Examples that were read, ready to be stored.

    Attributes:
        kind: "points" or "images".
        shape: of one example: (2,) or (channels, height, width).
        classes: names of the classes.
        train, test: raw examples, uint8 (N, C, H, W) or float32 (N, 2), and int64 labels (N,).
        notes: sentences about how they were read.
    """

    kind: Literal["points", "images"]
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    notes: tuple[str, ...] = ()

    def counts(self) -> list[tuple[str, int, int]]:
        """Each class with its number of examples for training and for testing."""
        numbers = [y.bincount(minlength=len(self.classes)).tolist() for _, y in (self.train, self.test)]
        return list(zip(self.classes, *numbers, strict=True))


def divide(labels: Tensor, seed: int = 0, share: float = TEST_SHARE) -> tuple[Tensor, Tensor]:
    """Positions of the examples for training and for testing: of each class the same share, chosen by the seed.

    Args:
        labels: classes (N,) from 0.
        seed: of the choice; the same seed gives the same division.
        share: of each class that is for testing, rounded, but at least one example and never all.

    Returns:
        Two index tensors, each in random order.
    """
    parts: tuple[list[Tensor], list[Tensor]] = ([], [])
    for label in labels.unique().tolist():
        where = (labels == label).nonzero().flatten()
        where = where[torch.randperm(len(where), generator=generator(seed, label))]
        tested = min(max(1, round(share * len(where))), len(where) - 1)
        parts[0].append(where[tested:])
        parts[1].append(where[:tested])
    return tuple(shuffled(torch.cat(part), seed) for part in parts)


def shuffled(index: Tensor, seed: int) -> Tensor:
    """The same positions (N,) in an order that the seed chooses."""
    return index[torch.randperm(len(index), generator=generator(seed))]


def in_order(names: Iterable[str]) -> list[str]:
    """Different names in the order that people expect: 2 before 10, capital letters among small ones."""

    def pieces(name: str) -> Sequence[object]:
        return [(0, int(p), "") if p.isdecimal() else (1, 0, p.casefold()) for p in re.split(r"(\d+)", name) if p]

    return sorted(set(names), key=lambda name: (pieces(name), name))


def rarest(labels: Iterable[str]) -> tuple[str, int]:
    """The class with the fewest examples, and how many there are."""
    return min(Counter(labels).items(), key=lambda item: (item[1], item[0]))
