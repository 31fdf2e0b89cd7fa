"""A student learns from synthetic samples alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import nn

from . import models
from .config import param
from .data import DatasetInfo
from .synthetic import SyntheticSet
from .training import TrainConfig, TrainStep, train

__all__ = ["StudentConfig", "StudentTraining"]


class StudentConfig(TrainConfig):
    """The student's architecture and how it is trained."""

    model: str = param(
        "mlp",
        choices=tuple(models.MODELS),
        label="Architecture",
        group="Student",
        help="The student's network. It need not be of the teacher's type or size.",
    )
    targets: Literal["soft", "hard"] = param(
        "soft", group="Student", help="Soft: the teacher's probabilities. Hard: only the class it names."
    )

    @classmethod
    def for_data(cls, info: DatasetInfo, **changes: Any) -> StudentConfig:
        """The defaults for a data set and an architecture, with some changed."""
        kind, name = info.preset_names
        chosen = {**PRESETS[kind], **PRESETS.get(name, {})}
        family = re.sub(r"[0-9].*", "", str(changes.get("model", chosen["model"])))
        return cls.from_dict({**chosen, **PRESETS.get(family, {}), **changes})


# By kind of data, by data set, and by the beginning of an architecture's name; later ones go before earlier ones.
PRESETS: dict[str, dict[str, Any]] = {
    "points": {"model": "mlp", "updates": 2000, "learning_rate": 0.01},
    "images": {"model": "lenet5-half", "updates": 4000, "learning_rate": 0.01, "weight_decay": 0.1},
    "digits": {"updates": 2000, "learning_rate": 0.005, "weight_decay": 1e-4},
    "vit": {"learning_rate": 0.002},
}


class StudentTraining(Iterator[TrainStep]):
    """Trains a fresh student; `network` is the student, in training or trained.

    Args:
        samples: what it learns from; the targets are the teacher's answers, never the steering labels.
        config: its architecture and how it is trained.
        seed: its initial weights and the order of samples.
        network: a network to train in place, instead of a fresh one of the settings' architecture.

    Raises:
        CakeError: the architecture does not take such inputs.
    """

    def __init__(
        self, samples: SyntheticSet, config: StudentConfig, *, seed: int = 0, network: nn.Module | None = None
    ):
        shape, classes = tuple(samples.x.shape[1:]), samples.y.shape[1]
        network = network if network is not None else models.build(config.model, shape, classes, seed)
        self.network: nn.Module = network.to(samples.x.device)
        targets = samples.y if config.targets == "soft" else samples.y.argmax(dim=1)
        x = samples.x.contiguous(memory_format=torch.channels_last) if samples.x.dim() == 4 else samples.x
        self._steps = train(self.network, x, targets, config, seed=seed)

    def __next__(self) -> TrainStep:
        return next(self._steps)
