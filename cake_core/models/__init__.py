"""Architectures of teachers and students. Every model maps inputs (B, *shape) to logits (B, C).

Each model has two parts, `body` (inputs -> features) and `head` (the last linear layer, features -> logits), so that
features can be read from any of them in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from ..errors import CakeError
from .alexnet import alexnet, alexnet_half
from .base import Classifier
from .cnn import cnn
from .lenet import lenet5, lenet5_half
from .mlp import hinton_net, hinton_net_half, linear, mlp, mlp_norm
from .resnet import DEPTHS, resnet, resnet4, resnet4_half
from .torchvision_nets import mobilenet_v2, vgg11
from .vit import SIZES, vit
from .wide import wide_resnet

__all__ = ["MODELS", "Classifier", "ModelInfo", "build", "has_batch_norm", "parameter_count"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ModelInfo:
    """An architecture: its name, title, one sentence about it, what it takes, and how it is built."""

    name: str
    title: str
    kinds: tuple[str, ...]
    help: str
    make: Callable[[Shape, int], nn.Module]

    @property
    def for_a_gpu(self) -> bool:
        """Whether training it on a CPU takes too long to wait for."""
        return self.help.endswith(GPU)


GPU = "Meant for a GPU."

MODELS: dict[str, ModelInfo] = {
    m.name: m
    for m in (
        ModelInfo("mlp", "MLP", ("points", "images"), "Fully connected layers; it knows nothing of images.", mlp),
        ModelInfo(
            "mlp-norm", "MLP with BatchNorm", ("points", "images"), "The MLP with batch normalisation.", mlp_norm
        ),
        ModelInfo("linear", "Linear", ("points", "images"), "No hidden layer: its boundaries are straight.", linear),
        ModelInfo("lenet5", "LeNet-5", ("images",), "Three convolutions (6, 16, 120 channels) and 84 units.", lenet5),
        ModelInfo("lenet5-half", "LeNet-5-Half", ("images",), "LeNet-5 at half of every width.", lenet5_half),
        ModelInfo("cnn", "CNN", ("images",), "Four plain convolutions (32, 64, 64, 64 channels).", cnn),
        ModelInfo("resnet4", "ResNet-4", ("images",), "Four residual blocks with batch normalisation.", resnet4),
        ModelInfo("resnet4-half", "ResNet-4-Half", ("images",), "ResNet-4 at half of every width.", resnet4_half),
        *(
            ModelInfo(
                f"vit{depth}",
                f"ViT-{depth}",
                ("images",),
                f"A vision transformer for small data: {depth} layers, patches of 4x4 pixels.",
                vit(depth),
            )
            for depth in SIZES
        ),
        ModelInfo("hinton", "HintonNet", ("images",), "Two hidden layers of 1,200 units.", hinton_net),
        ModelInfo("hinton-half", "HintonNet-Half", ("images",), "Two hidden layers of 800 units.", hinton_net_half),
        ModelInfo("alexnet", "AlexNet", ("images",), "Five convolutions, two hidden layers; for CIFAR-10.", alexnet),
        ModelInfo("alexnet-half", "AlexNet-Half", ("images",), "AlexNet at half of every width.", alexnet_half),
        ModelInfo("wrn16-1", "WResNet-16-1", ("images",), "16 layers, 16 to 64 channels.", wide_resnet(16, 1)),
        ModelInfo("wrn40-2", "WResNet-40-2", ("images",), f"40 layers, twice as wide. {GPU}", wide_resnet(40, 2)),
        ModelInfo("mobilenetv2", "MobileNetV2", ("images",), f"Inverted residuals. {GPU}", mobilenet_v2),
        ModelInfo("vgg11", "VGG-11", ("images",), f"Eight plain convolutions up to 512 wide. {GPU}", vgg11),
        *(
            ModelInfo(
                f"resnet{depth}",
                f"ResNet-{depth}",
                ("images",),
                f"{depth} layers with batch normalisation, and a 3x3 stem for small images. {GPU}",
                resnet(depth),
            )
            for depth in DEPTHS
        ),
    )
}


def build(name: str, shape: Shape, classes: int, seed: int = 0) -> nn.Module:
    """A freshly initialised model, the same for the same seed; the global random state stays as it was.

    Args:
        name: a key of `MODELS`.
        shape: shape of one input: (2,) or (channels, height, width).
        classes: number of logits.
        seed: seed of the initial weights.

    Raises:
        CakeError: there is no such model, or it does not take inputs of this shape.
    """
    if name not in MODELS:
        raise CakeError(f"There is no model '{name}'. Choose one of: {', '.join(MODELS)}.")
    info, kind = MODELS[name], "images" if len(shape) == 3 else "points"
    if kind not in info.kinds:
        fitting = ", ".join(m.name for m in MODELS.values() if kind in m.kinds)
        raise CakeError(f"{info.title} takes {info.kinds[0]}, not {kind}. For {kind} choose: {fitting}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return info.make(shape, classes)


@cache
def has_batch_norm(name: str) -> bool:
    """Whether an architecture normalises batches; asked of an empty one, so large ones cost nothing."""
    info = MODELS[name]
    with torch.device("meta"):
        network = info.make((2,) if info.kinds[0] == "points" else (1, 32, 32), 10)
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())


def parameter_count(model: nn.Module) -> int:
    """Number of trainable values."""
    return sum(p.numel() for p in model.parameters())
