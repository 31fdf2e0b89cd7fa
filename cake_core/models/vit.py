"""Vision transformers for small data: shifted patch tokenisation and locality self-attention.

References: | Vision Transformer for Small-Size Datasets (Lee, Lee, Song 2021) | https://arxiv.org/abs/2112.13492
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Classifier, fitted

__all__ = ["SIZES", "vit"]

HEAD_WIDTH = 64
PATCH = 4  # pixels; more for images above 64 a side, so that there are at most 16 x 16 patches

# Depth -> width of a token, attention heads. The hidden layer behind each attention is as wide as a token.
SIZES = {3: (32, 4), 4: (64, 8), 8: (64, 8)}


def vit(depth: int) -> Callable[[tuple[int, ...], int], Classifier]:
    """A maker of a vision transformer of that depth.

    ViT-8 has 1,138,610 and ViT-4 579,758 parameters for 3x32x32, ViT-3 110,381 for 1x32x32 and 109,901 for MNIST's
    28x28: the CAKE paper's 1.1M, 580K and 110K. Its code shifts by one pixel along the axes; the cited paper, which is
    followed here, by half a patch along the diagonals. The number of parameters is the same.
    """

    def make(shape: tuple[int, ...], classes: int) -> Classifier:
        width, heads = SIZES[depth]
        patch = PATCH * max(1, -(-max(shape[1:]) // 64))
        resize, (height, across) = fitted(shape, 28, multiple=patch)
        tokens = (height // patch) * (across // patch)
        body = nn.Sequential(
            *resize,
            ShiftedPatches(shape[0], patch, width),
            Positions(tokens, width),
            *(Block(width, heads) for _ in range(depth)),
            FirstToken(),
            nn.LayerNorm(width),
        )
        return Classifier(body, nn.Linear(width, classes))

    return make


class ShiftedPatches(nn.Module):
    """Tokens of an image and of its four copies shifted by half a patch along the diagonals: LN([x, s1..s4]) E.

    Args:
        channels: of the image.
        patch: side of a patch in pixels.
        width: of a token.
    """

    def __init__(self, channels: int, patch: int, width: int):
        super().__init__()
        values = 5 * channels * patch**2
        self.patch = patch
        self.norm = nn.LayerNorm(values)
        self.embed = nn.Linear(values, width)

    def forward(self, x: Tensor) -> Tensor:
        half = self.patch // 2
        height, width = x.shape[-2:]
        padded = F.pad(x, (half,) * 4)
        corners = [(dy, dx) for dy in (0, 2 * half) for dx in (0, 2 * half)]
        shifted = [padded[..., dy : dy + height, dx : dx + width] for dy, dx in corners]
        together = torch.cat([x, *shifted], dim=1)  # (B, 5 channels, H, W)
        patches = F.pixel_unshuffle(together, self.patch).flatten(2).transpose(1, 2)  # (B, tokens, values)
        return self.embed(self.norm(patches))


class Positions(nn.Module):
    """Puts the class token in front and adds to each token its learned position."""

    def __init__(self, tokens: int, width: int):
        super().__init__()
        self.first = nn.Parameter(torch.empty(1, 1, width))
        self.position = nn.Parameter(torch.empty(1, tokens + 1, width))
        for parameter in (self.first, self.position):
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.first.expand(len(x), -1, -1), x], dim=1) + self.position


class LocalAttention(nn.Module):
    """Self-attention in which no token attends to itself and the temperature is learned:
    softmax(q kᵀ exp(t), without the diagonal) v.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        inner = heads * HEAD_WIDTH
        self.heads = heads
        self.temperature = nn.Parameter(torch.tensor(HEAD_WIDTH**-0.5).log())
        self.query_key_value = nn.Linear(width, 3 * inner, bias=False)
        self.out = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            self.query_key_value(x).unflatten(-1, (3, self.heads, HEAD_WIDTH)).permute(2, 0, 3, 1, 4)
        )  # each (B, heads, tokens, HEAD_WIDTH)
        # Written out: with so few tokens the fused operation is no faster, and in bfloat16 on a CPU half as fast.
        scores = (query * self.temperature.exp()) @ key.transpose(-1, -2)  # (B, heads, tokens, tokens)
        itself = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        weights = scores.masked_fill(itself, -torch.inf).softmax(dim=-1)
        return self.out((weights @ value).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """x <- x + attention(LN(x)); x <- x + mlp(LN(x))."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), LocalAttention(width, heads))
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.mlp(x)


class FirstToken(nn.Module):
    """The class token (B, width) of tokens (B, T, width)."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]
