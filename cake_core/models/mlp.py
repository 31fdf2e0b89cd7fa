"""Multi-layer perceptrons.

References:
| Deep Classifier Mimicry without Data Access (Braun, Mundt, Kersting 2024), Fig. 1 and Section 6 | https://arxiv.org/abs/2306.02090
| Distilling the knowledge in a neural network (Hinton, Vinyals, Dean 2015), Section 3 | https://arxiv.org/abs/1503.02531
"""

from __future__ import annotations

import itertools
import math

from torch import nn

from .base import Classifier

__all__ = ["hinton_net", "hinton_net_half", "linear", "mlp", "mlp_norm"]

POINTS = (20, 20, 20)  # the paper's 2-D network
IMAGES = (128, 128)


def mlp(shape: tuple[int, ...], classes: int) -> Classifier:
    """Linear layers with ReLU: three hidden layers of 20 for points, two of 128 for images.

    On MNIST that is 118,282 parameters, the paper's printed 118K. The paper's text speaks of four hidden layers, whose
    widths it does not give; four of 100 would be 109,810, and the five of 100 that its code makes of it 119,910.
    """
    return _fully_connected(shape, classes, POINTS if len(shape) == 1 else IMAGES)


def mlp_norm(shape: tuple[int, ...], classes: int) -> Classifier:
    """The MLP with batch normalisation before each ReLU: for methods that read its statistics."""
    return _fully_connected(shape, classes, POINTS if len(shape) == 1 else IMAGES, normalised=True)


def linear(shape: tuple[int, ...], classes: int) -> Classifier:
    """No hidden layer: every boundary between two classes is straight. A student that can't follow a bent one."""
    return _fully_connected(shape, classes, ())


def hinton_net(shape: tuple[int, ...], classes: int) -> Classifier:
    """Two hidden layers of 1,200: 2,395,210 parameters on MNIST. Without the dropout of 2015."""
    return _fully_connected(shape, classes, (1200, 1200))


def hinton_net_half(shape: tuple[int, ...], classes: int) -> Classifier:
    """Two hidden layers of 800, the student of 2015: 1,276,810 parameters on MNIST, half of its teacher's."""
    return _fully_connected(shape, classes, (800, 800))


def _fully_connected(
    shape: tuple[int, ...], classes: int, hidden: tuple[int, ...], normalised: bool = False
) -> Classifier:
    widths = [math.prod(shape), *hidden]
    layers: list[nn.Module] = [nn.Flatten()] if len(shape) > 1 else []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if normalised else []), nn.ReLU()]
    return Classifier(nn.Sequential(*layers), nn.Linear(widths[-1], classes))
