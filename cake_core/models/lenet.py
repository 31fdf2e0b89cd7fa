"""LeNet-5 and the same at half of every width.

References: | Gradient-based learning applied to document recognition (LeCun et al. 1998) | https://doi.org/10.1109/5.726791
"""

from __future__ import annotations

from torch import nn

from .base import Classifier, enlarge

__all__ = ["lenet5", "lenet5_half"]


def lenet5(shape: tuple[int, ...], classes: int) -> Classifier:
    """LeNet-5 with ReLU and max-pooling: 61,706 parameters for one channel and ten classes (the paper's 61.7K)."""
    return _lenet(shape, classes, (6, 16, 120, 84))


def lenet5_half(shape: tuple[int, ...], classes: int) -> Classifier:
    """LeNet-5 at half of every width: 15,738 parameters for one channel and ten classes (the paper's 15.7K)."""
    return _lenet(shape, classes, (3, 8, 60, 42))


def _lenet(shape: tuple[int, ...], classes: int, widths: tuple[int, int, int, int]) -> Classifier:
    # The network sees 32x32. 28x28 images get the missing border by padding (as in 1998; the CAKE code resizes them),
    # anything smaller is enlarged, anything larger averaged. Pooling stands before ReLU: max(relu(a)) = relu(max(a)),
    # at a quarter of the work.
    c1, c2, c3, f = widths
    padding = 2 if shape[1:] == (28, 28) else 0
    larger = [nn.AdaptiveAvgPool2d(32)] if max(shape[1:]) > 32 else []
    body = nn.Sequential(
        *([] if padding else enlarge(shape, 32) or larger),
        nn.Conv2d(shape[0], c1, 5, padding=padding),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(c1, c2, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(c2, c3, 5),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(c3, f),
        nn.ReLU(),
    )
    return Classifier(body, nn.Linear(f, classes))
