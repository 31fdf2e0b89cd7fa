"""Residual networks for small images.

References: | Deep residual learning for image recognition (He, Zhang, Ren, Sun 2016) | https://arxiv.org/abs/1512.03385
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from torch import nn

from .base import Classifier, enlarge

__all__ = ["DEPTHS", "resnet", "resnet4", "resnet4_half"]


def resnet4(shape: tuple[int, ...], classes: int) -> Classifier:
    """One basic block at each of four scales: 98,042 parameters on MNIST (the paper's 98K).

    Widths 16, 32, 32, 64 for one channel; 32, 64, 128, 256 for three.
    """
    return _four_blocks(shape, classes, (16, 32, 32, 64) if shape[0] == 1 else (32, 64, 128, 256))


def resnet4_half(shape: tuple[int, ...], classes: int) -> Classifier:
    """ResNet-4 at half of every width: 24,994 parameters on MNIST."""
    return _four_blocks(shape, classes, (8, 16, 16, 32) if shape[0] == 1 else (16, 32, 64, 128))


def _four_blocks(shape: tuple[int, ...], classes: int, widths: tuple[int, ...]) -> Classifier:
    # Imported here: torchvision takes over a second to import, and most runs don't need it.
    from torchvision.models.resnet import BasicBlock, conv1x1

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


# Depth -> blocks at each of the four scales, and whether they are bottlenecks (Table 1 of He et al.).
DEPTHS: dict[int, tuple[tuple[int, int, int, int], bool]] = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}


def resnet(depth: int) -> Callable[[tuple[int, ...], int], Classifier]:
    """A maker of torchvision's ResNet of that depth with the stem for small images: 3x3 at stride 1, no pooling.

    For three channels and ten classes 11.2 M, 21.3 M, 23.5 M, 42.5 M and 58.2 M parameters, as in the CAKE paper.
    """

    def make(shape: tuple[int, ...], classes: int) -> Classifier:
        from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

        layers, bottleneck = DEPTHS[depth]
        whole = ResNet(Bottleneck if bottleneck else BasicBlock, list(layers), num_classes=classes)
        stem = nn.Conv2d(shape[0], 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        scales = (whole.layer1, whole.layer2, whole.layer3, whole.layer4)
        body = nn.Sequential(stem, whole.bn1, whole.relu, *scales, whole.avgpool, nn.Flatten())
        return Classifier(body, whole.fc)

    return make
