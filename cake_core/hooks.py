"""Reading what happens inside a network, and leaving nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from .errors import CakeError

__all__ = ["features", "last_linear"]


def last_linear(model: nn.Module) -> nn.Linear:
    """The last linear layer of a network; its inputs are the penultimate features.

    Raises:
        CakeError: the network has no linear layer.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    if not layers:
        raise CakeError("This network has no linear layer at its end, so its features can't be read.")
    return layers[-1]


@contextmanager
def features(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collects the inputs of the last linear layer, one tensor (B, F) per call of the model inside the block.

    The hook is gone when the block ends, also after an error.
    """
    seen: list[Tensor] = []
    handle = last_linear(model).register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    try:
        yield seen
    finally:
        handle.remove()
