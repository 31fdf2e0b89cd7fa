"""Reading what happens inside a network, and leaving nothing behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .errors import CakeError

__all__ = ["batch_norms", "by_batch", "features", "inputs_of", "last_linear"]


def last_linear(model: nn.Module) -> nn.Linear:
    """The last linear layer of a network; its inputs are the penultimate features.

    Raises:
        CakeError: the network has no linear layer.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    if not layers:
        raise CakeError("This network has no linear layer at its end, so its features can't be read.")
    return layers[-1]


def batch_norms(network: nn.Module) -> list[nn.Module]:
    """The layers of batch normalisation that remember the statistics of their training data."""
    return [m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


@contextmanager
def by_batch(network: nn.Module) -> Iterator[None]:
    """Inside, batch normalisation goes by the statistics of the batch at hand, and what it remembers stays as it is."""
    layers = batch_norms(network)
    remembered = [(layer.running_mean, layer.running_var) for layer in layers]
    for layer in layers:
        layer.running_mean = layer.running_var = None
    try:
        yield
    finally:
        for layer, (mean, variance) in zip(layers, remembered, strict=True):
            layer.running_mean, layer.running_var = mean, variance


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


@contextmanager
def inputs_of(layers: Iterable[nn.Module]) -> Iterator[list[tuple[nn.Module, Tensor]]]:
    """Collects what comes into some layers, as pairs of layer and input in the order of the calls.

    Gradients flow through what was collected. The hooks are gone when the block ends, also after an error.
    """
    seen: list[tuple[nn.Module, Tensor]] = []
    handles = [m.register_forward_pre_hook(lambda layer, args: seen.append((layer, args[0]))) for m in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
