"""Generators: networks that make inputs from random numbers.

References: | Data-Free Learning of Student Networks (Chen et al. 2019), Section 4 | https://arxiv.org/abs/1904.01186
"""

from __future__ import annotations

import math

from torch import nn

__all__ = ["build"]


def build(shape: tuple[int, ...], latent: int, width: int) -> nn.Module:
    """A generator (B, latent) -> (B, *shape) whose outputs have mean 0 and variance 1 over a batch in every channel.

    For images DAFL's: a linear layer to `width` channels of a quarter of the side, then twice nearest-neighbour
    upsampling with a 3x3 convolution (to `width`, to half of it), and one to the image's channels, tanh, and batch
    normalisation without weights. For points two hidden layers of `width` units, and the same at the end.

    Args:
        shape: (2,) or (channels, height, width).
        latent: number of random inputs.
        width: channels of the first convolutions, or hidden units; DAFL has 128.
    """
    if len(shape) == 1:
        return nn.Sequential(
            nn.Linear(latent, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, math.prod(shape)),
            nn.BatchNorm1d(shape[0], affine=False),
        )
    channels, *sides = shape
    start = [math.ceil(s / 4) for s in sides]
    half = max(1, width // 2)
    return nn.Sequential(
        nn.Linear(latent, width * math.prod(start)),
        nn.Unflatten(1, (width, *start)),
        nn.BatchNorm2d(width),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(width, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.LeakyReLU(0.2),
        nn.Upsample(size=tuple(sides)),
        nn.Conv2d(width, half, 3, padding=1),
        nn.BatchNorm2d(half),
        nn.LeakyReLU(0.2),
        nn.Conv2d(half, channels, 3, padding=1),
        nn.Tanh(),
        nn.BatchNorm2d(channels, affine=False),
    )
