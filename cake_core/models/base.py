"""What all models share."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Classifier", "enlarge", "fitted"]


class Classifier(nn.Module):
    """logits = head(body(x)).

    Args:
        body: maps inputs (B, *shape) to features (B, F).
        head: maps features (B, F) to logits (B, C).
    """

    def __init__(self, body: nn.Module, head: nn.Linear):
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def enlarge(shape: tuple[int, ...], side: int) -> list[nn.Module]:
    """Layers that bring images smaller than `side` to side x side (none for larger ones), bilinearly."""
    return [nn.Upsample((side, side), mode="bilinear")] if min(shape[1:]) < side else []


def fitted(shape: tuple[int, ...], side: int, multiple: int) -> tuple[list[nn.Module], tuple[int, int]]:
    """Layers that bring images to at least `side` and to sides that are multiples of a number; and the new sides.

    Args:
        shape: (channels, height, width).
        side: the smallest side in pixels; smaller images become square ones of the next multiple of 32.
        multiple: what both sides are to be a multiple of.
    """
    if min(shape[1:]) < side:
        sides = (-(-side // 32) * 32,) * 2
    else:
        sides = tuple(-(-s // multiple) * multiple for s in shape[1:])
    return ([] if sides == tuple(shape[1:]) else [nn.Upsample(sides, mode="bilinear")]), sides
