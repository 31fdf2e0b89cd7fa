"""AlexNet for small photos, and half of it, as the zero-shot methods use them on CIFAR-10.

References:
| Zero-shot knowledge distillation in deep networks (Nayak et al. 2019) | https://arxiv.org/abs/1905.08114
| ImageNet classification with deep convolutional neural networks (Krizhevsky, Sutskever, Hinton 2012) | https://papers.nips.cc/paper/4824
"""

from __future__ import annotations

import itertools
from functools import partial

from torch import nn

from .base import Classifier, enlarge

__all__ = ["alexnet", "alexnet_half"]


def _alexnet(shape: tuple[int, ...], classes: int, *, share: int) -> Classifier:
    widths = [w // share for w in (48, 128, 192, 192, 128)]
    hidden = [w // share for w in (512, 256)]
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(itertools.pairwise([shape[0], *widths])):
        kernel = 5 if number < 2 else 3
        layers += [nn.Conv2d(before, after, kernel, padding=kernel // 2), nn.BatchNorm2d(after), nn.ReLU()]
        if number < 2:
            layers.append(nn.MaxPool2d(3, stride=2))
    # For 32x32 images these windows are the 3x3 ones at stride 2; for larger ones they keep the number of features.
    layers += [nn.AdaptiveMaxPool2d(3), nn.Flatten()]
    for before, after in itertools.pairwise([9 * widths[-1], *hidden]):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
    return Classifier(nn.Sequential(*enlarge(shape, 32), *layers), nn.Linear(hidden[-1], classes))


alexnet = partial(_alexnet, share=1)  # 1,659,178 parameters for three channels and ten classes
alexnet_half = partial(_alexnet, share=2)  # half of every width: 417,434
