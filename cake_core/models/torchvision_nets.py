"""Networks of torchvision, with stems and heads for small images.

References:
| Very deep convolutional networks for large-scale image recognition (Simonyan, Zisserman 2014) | https://arxiv.org/abs/1409.1556
| MobileNetV2: inverted residuals and linear bottlenecks (Sandler et al. 2018) | https://arxiv.org/abs/1801.04381
"""

from __future__ import annotations

from torch import nn

from .base import Classifier, enlarge

__all__ = ["mobilenet_v2", "vgg11"]

# Expansion, channels, blocks, stride of each stage (Table 2 of the paper), but for the second, which keeps its size: so
# a 32x32 image ends as 4x4, as a 224x224 one ends as 7x7.
STAGES = [
    [1, 16, 1, 1], [6, 24, 2, 1], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1],
]  # fmt: skip


def vgg11(shape: tuple[int, ...], classes: int) -> Classifier:
    """The convolutions of VGG-11 with batch normalisation, and one linear layer: 9,231,114 parameters for CIFAR-10.

    The paper's three linear layers of 4,096 are for images of 224 pixels; on small ones all but this one are left out.
    """
    # Imported here: torchvision takes over a second to import, and most runs don't need it.
    from torchvision.models import vgg11_bn

    whole = vgg11_bn(num_classes=classes)
    layers = list(whole.features)
    layers[0] = _stem(layers[0], shape[0])
    body = nn.Sequential(*enlarge(shape, 32), *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Classifier(body, nn.Linear(512, classes))


def mobilenet_v2(shape: tuple[int, ...], classes: int) -> Classifier:
    """MobileNetV2 whose first two reductions are left out: 2,236,682 parameters for CIFAR-10."""
    from torchvision.models import MobileNetV2

    whole = MobileNetV2(num_classes=classes, inverted_residual_setting=STAGES)
    whole.features[0][0] = _stem(whole.features[0][0], shape[0])
    body = nn.Sequential(*enlarge(shape, 28), whole.features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2))
    return Classifier(body, whole.classifier[-1])


def _stem(first: nn.Conv2d, channels: int) -> nn.Conv2d:
    """A first convolution at stride 1 for so many channels."""
    stem = nn.Conv2d(channels, first.out_channels, 3, padding=1, bias=first.bias is not None)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    return stem
