"""How large a model is and what it computes, without making it: its layers are built on the meta device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Size", "size"]

FOR_A_GPU = 30e6  # multiplications for one input from which training on a CPU takes too long to wait for


@dataclass(frozen=True)
class Size:
    """The size of a model.

    Attributes:
        parameters: number of trainable values.
        multiplications: of weights with activations in one forward pass of one input (the products of activations with
            each other in attention are left out; they are few where inputs are small).
    """

    parameters: int
    multiplications: int

    @property
    def for_a_gpu(self) -> bool:
        """Whether training it on a CPU takes too long to wait for."""
        return self.multiplications > FOR_A_GPU


@cache
def size(make: Callable[[tuple[int, ...], int], nn.Module], shape: tuple[int, ...], classes: int) -> Size:
    """The size of a model, at the cost of some milliseconds and no memory.

    Args:
        make: from the shape of one input and the number of classes to the model.
        shape: (2,) or (channels, height, width).
        classes: number of logits.
    """
    with torch.device("meta"), torch.no_grad():
        model = make(shape, classes)
        counted = 0

        def count(module: nn.Module, inputs: tuple[Any, ...], output: Tensor | tuple[Tensor, ...]) -> None:
            # Every weight is used once at each place of the output: each pixel, each token, each example.
            nonlocal counted
            output = output[0] if isinstance(output, tuple) else output
            channels = output.shape[1] if output.dim() == 4 else output.shape[-1]
            weights = sum(p.numel() for p in module.parameters(recurse=False) if p.dim() > 1)
            counted += output.numel() // channels * weights

        for module in model.modules():
            module.register_forward_hook(count)
        batch = 2  # normalisation over a batch refuses a single example
        model(torch.empty(batch, *shape))
    return Size(sum(p.numel() for p in model.parameters()), counted // batch)
