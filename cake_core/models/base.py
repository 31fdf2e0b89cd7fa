"""What all models share."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Classifier", "enlarge"]


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
