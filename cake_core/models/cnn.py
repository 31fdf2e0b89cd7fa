"""A plain convolutional network.

References: | Deep Classifier Mimicry without Data Access (Braun, Mundt, Kersting 2024), Section 6 | https://arxiv.org/abs/2306.02090
"""

from __future__ import annotations

from torch import nn

from .base import Classifier, enlarge

__all__ = ["cnn"]


def cnn(shape: tuple[int, ...], classes: int) -> Classifier:
    """Four convolutions of 32, 64, 64, 64 channels: 107,658 parameters on MNIST (the paper's 107K)."""
    body = nn.Sequential(
        *enlarge(shape, 28),
        nn.Conv2d(shape[0], 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 4),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(1),  # 1x1 already for 28x28 and 32x32
        nn.Flatten(),
    )
    return Classifier(body, nn.Linear(64, classes))
