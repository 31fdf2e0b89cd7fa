"""Wide residual networks.

References: | Wide residual networks (Zagoruyko, Komodakis 2016) | https://arxiv.org/abs/1605.07146
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from .base import Classifier, enlarge

__all__ = ["wide_resnet"]


def wide_resnet(depth: int, factor: int) -> Callable[[tuple[int, ...], int], Classifier]:
    """A maker of WRN-depth-factor: three scales of (depth - 4) / 6 blocks with 16, 32, 64 channels times the factor.

    For three channels and ten classes WRN-40-2 has 2,243,546 parameters, WRN-16-1 175,066.
    """

    def make(shape: tuple[int, ...], classes: int) -> Classifier:
        layers: list[nn.Module] = [nn.Conv2d(shape[0], 16, 3, padding=1, bias=False)]
        before = 16
        for width, stride in ((16 * factor, 1), (32 * factor, 2), (64 * factor, 2)):
            for number in range((depth - 4) // 6):
                layers.append(PreActivation(before, width, stride if number == 0 else 1))
                before = width
        layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        body = nn.Sequential(*enlarge(shape, 16), *layers)
        for module in body.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        return Classifier(body, nn.Linear(before, classes))

    return make


class PreActivation(nn.Module):
    """x + conv(relu(bn(conv(relu(bn(x)))))); where width or stride change, a 1x1 convolution stands for x."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.first = nn.Sequential(nn.BatchNorm2d(before), nn.ReLU())
        self.rest = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
        )
        same = before == after and stride == 1
        self.shortcut = None if same else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = self.first(x)
        return self.rest(active) + (x if self.shortcut is None else self.shortcut(active))
