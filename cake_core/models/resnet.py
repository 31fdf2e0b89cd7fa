"""Residual networks for small images.

References: | Deep residual learning for image recognition (He, Zhang, Ren, Sun 2016) | https://arxiv.org/abs/1512.03385
"""

from __future__ import annotations

import itertools

from torch import nn

from .base import Classifier, enlarge

__all__ = ["resnet4"]


def resnet4(shape: tuple[int, ...], classes: int) -> Classifier:
    """One basic block at each of four scales: 98,042 parameters on MNIST (the paper's 98K).

    Widths 16, 32, 32, 64 for one channel; 32, 64, 128, 256 for three.
    """
    # Imported here: torchvision takes over a second to import, and most runs don't need it.
    from torchvision.models.resnet import BasicBlock, conv1x1

    widths = (16, 32, 32, 64) if shape[0] == 1 else (32, 64, 128, 256)
    stem = [
        nn.Conv2d(shape[0], widths[0], 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
    ]
    blocks = [BasicBlock(widths[0], widths[0])]
    for before, after in itertools.pairwise(widths):
        shortcut = nn.Sequential(conv1x1(before, after, 2), nn.BatchNorm2d(after))
        blocks.append(BasicBlock(before, after, stride=2, downsample=shortcut))
    body = nn.Sequential(*enlarge(shape, 28), *stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return Classifier(body, nn.Linear(widths[-1], classes))
