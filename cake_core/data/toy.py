"""Data sets in the plane: drawn from a seed, standardised per feature, no files.

References: | scikit-learn's make_moons, make_circles, make_blobs | https://scikit-learn.org/stable/datasets/sample_generators.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from .base import Dataset, DatasetInfo

if TYPE_CHECKING:
    from . import DataConfig

__all__ = ["INFOS"]

Draw = Callable[[int, float, int], tuple[np.ndarray, np.ndarray]]


def moons(n: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two interleaved half circles of radius 1."""
    from sklearn.datasets import make_moons

    return make_moons(n, noise=noise, random_state=seed)


def circles(n: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A circle of radius 1 around one of radius 0.5."""
    from sklearn.datasets import make_circles

    return make_circles(n, noise=noise, factor=0.5, random_state=seed)


def blobs(n: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three round clusters on the corners of a triangle; at noise 0.1 they just do not touch."""
    from sklearn.datasets import make_blobs

    angles = np.pi / 2 + 2 * np.pi * np.arange(3) / 3
    centres = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return make_blobs(n, centers=centres, cluster_std=3 * noise, random_state=seed)


def spirals(n: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two arms that wind once and a half around the origin, evenly filled along their length."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    turn = 3 * np.pi * np.sqrt(rng.uniform(0.02, 1, n))  # the square root evens out the density along the arm
    angle = turn + np.pi * y
    x = (turn / (3 * np.pi))[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return x + 0.3 * noise * rng.standard_normal((n, 2)), y


def checkerboard(n: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Four by four fields of side 1, coloured like a chessboard."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, (n, 2))
    y = np.floor(x).astype(int).sum(axis=1) % 2
    return x + noise * rng.standard_normal((n, 2)), y


def _info(draw: Draw, title: str, classes: tuple[str, ...], source: str) -> DatasetInfo:
    def load(config: DataConfig) -> Dataset:
        train_x, train_y = draw(config.points, config.noise, config.seed)
        # A fresh draw, so that the test points are not the training points.
        test_x, test_y = draw(config.points, config.noise, config.seed + 1_000_003)
        mean, std = train_x.mean(axis=0), train_x.std(axis=0)
        return Dataset(
            info,
            *(torch.as_tensor(a, dtype=t) for a, t in zip((train_x, train_y, test_x, test_y), _TYPES, strict=True)),
            mean=torch.as_tensor(mean, dtype=torch.float32),
            std=torch.as_tensor(std, dtype=torch.float32),
        )

    info = DatasetInfo(draw.__name__, title, "points", (2,), classes, source, load, drawn=True)
    return info


_TYPES = (torch.float32, torch.int64, torch.float32, torch.int64)

INFOS = (
    _info(moons, "Two moons", ("upper moon", "lower moon"), "scikit-learn make_moons"),
    _info(circles, "Circles", ("outer", "inner"), "scikit-learn make_circles"),
    _info(blobs, "Three blobs", ("north", "west", "east"), "scikit-learn make_blobs"),
    _info(spirals, "Spirals", ("first arm", "second arm"), "drawn here"),
    _info(checkerboard, "Checkerboard", ("white", "black"), "drawn here"),
)
