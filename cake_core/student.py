"""A student learns from synthetic samples alone; what it is compared with learns from real data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import models
from .config import Config, param
from .data import Dataset, DatasetInfo
from .errors import CakeError
from .hooks import batch_norms
from .losses import distillation
from .pieces import Halfway, Piece
from .synthetic import SyntheticSet
from .training import TrainConfig, TrainStep, train

__all__ = ["KDConfig", "Lesson", "StudentConfig", "StudentTraining", "TeacherLogits", "fresh"]


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
    temperature: float = param(
        1.0,
        low=1.0,
        high=20.0,
        step=0.5,
        symbol="t",
        group="Student",
        help="Softens soft targets and the student's answers while it learns: probabilities are softmax(z / t). "
        "Above 1 it also learns which wrong classes the teacher finds near.",
    )
    batch_statistics: bool = param(
        False,
        group="Advanced",
        help="Batch normalisation of the student always uses the statistics of the batch at hand, when it is tested "
        "too. Gaussian distillation needs it, and others gain by it where samples look unlike real inputs; then test "
        "batches must be large and mixed.",
    )

    @classmethod
    def for_data(cls, info: DatasetInfo, /, **changes: Any) -> StudentConfig:
        """The defaults for a data set and an architecture, with some changed."""
        kind, name = info.preset_names
        chosen = {**PRESETS[kind], **PRESETS.get(name, {})}
        family = re.sub(r"[0-9].*", "", str(changes.get("model", chosen["model"])))
        return cls.from_dict({**chosen, **PRESETS.get(family, {}), **changes})


TINY = 1e-30  # probabilities below are taken for this, so that they have a logarithm

# By kind of data, by data set, and by the beginning of an architecture's name; later ones go before earlier ones.
PRESETS: dict[str, dict[str, Any]] = {
    "points": {"model": "mlp", "updates": 2000, "learning_rate": 0.01},
    "images": {"model": "lenet5-half", "updates": 4000, "learning_rate": 0.01, "weight_decay": 0.1},
    "digits": {"updates": 2000, "learning_rate": 0.005, "weight_decay": 1e-4},
    "vit": {"learning_rate": 0.002},
}


class KDConfig(Config):
    """Settings of ordinary distillation with data."""

    temperature: float = param(
        4.0,
        low=1.0,
        high=20.0,
        step=0.5,
        symbol="t",
        group="Student",
        help="Softens the answers of teacher and student: probabilities are softmax(z / t). At 1 a sure teacher says "
        "little more than the label; higher, it also says which other classes are near.",
    )
    weight: float = param(
        0.9,
        low=0.0,
        high=1.0,
        step=0.05,
        symbol="a",
        label="Weight of the teacher",
        group="Student",
        help="Share of the teacher's softened answers in the loss; the rest are the true labels. 0 is training on the "
        "labels alone, 1 never looks at them.",
    )


@dataclass(frozen=True)
class Lesson:
    """What a student learns from.

    Attributes:
        x: examples (N, *shape), raw where `inputs` normalises them, so that a large set stays small.
        targets: one row for each example, as `loss` takes them.
        classes: number of classes C.
        inputs: turns a batch of x into what networks take.
        loss: of a batch's logits (B, C) and its targets.
        repeats: as `train` takes it.
    """

    x: Tensor
    targets: Tensor
    classes: int
    inputs: Callable[[Tensor], Tensor] = lambda x: x
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
    repeats: bool = True

    @classmethod
    def from_samples(cls, samples: SyntheticSet, targets: str = "soft", temperature: float = 1.0) -> Lesson:
        """The teacher's answers for synthetic samples, soft or hard; never the steering labels."""
        return cls.from_answers(samples.x, samples.y, targets, temperature)

    @classmethod
    def from_answers(cls, x: Tensor, y: Tensor, targets: str = "soft", temperature: float = 1.0) -> Lesson:
        """Inputs (N, *shape) and the teacher's probabilities for them (N, C), taken as they are or as the class named.

        At temperature t the loss is t^2 CE(p^t, softmax(z / t)), with p^t = softmax(log p / t), which is the softened
        answer softmax(z_T / t) because log p and z_T differ by a constant.
        """
        x = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
        classes = y.shape[1]
        if targets == "hard":
            return cls(x, y.argmax(dim=1), classes)
        if temperature == 1:
            return cls(x, y, classes)
        softened = (y.clamp_min(TINY).log() / temperature).softmax(dim=1)

        def loss(z: Tensor, y: Tensor) -> Tensor:
            return temperature**2 * F.cross_entropy(z / temperature, y)

        return cls(x, softened, classes, loss=loss)

    @classmethod
    def from_labels(cls, dataset: Dataset) -> Lesson:
        """The real training data with their true labels."""
        return cls(dataset.train_x, dataset.train_y, len(dataset.info.classes), dataset.inputs)

    @classmethod
    def from_teacher(cls, dataset: Dataset, teacher: TeacherLogits, config: KDConfig) -> Lesson:
        """Ordinary distillation: the real training data with their labels and the teacher's answers."""

        def loss(z: Tensor, index: Tensor) -> Tensor:
            return distillation(z, teacher[index], dataset.train_y[index], config.temperature, config.weight)

        everyone = torch.arange(len(dataset.train_x), device=dataset.train_x.device)
        return cls(dataset.train_x, everyone, len(dataset.info.classes), dataset.inputs, loss, repeats=False)


class TeacherLogits:
    """A teacher's logits for the training examples. Each is asked for once, when it is first needed.

    A large teacher takes minutes for a large set on a CPU; so nobody waits for examples that come later, or never.

    Args:
        teacher: in eval mode, from inputs (B, *shape) to logits (B, C).
        dataset: whose training examples.
    """

    def __init__(self, teacher: Callable[[Tensor], Tensor], dataset: Dataset):
        self.teacher, self.dataset = teacher, dataset
        x, classes = dataset.train_x, len(dataset.info.classes)
        self._logits = torch.empty(len(x), classes, device=x.device)
        self._missing = torch.ones(len(x), dtype=torch.bool, device=x.device)
        self._complete = False

    def known(self) -> Piece:
        """What was asked for so far: asked again in other company, an answer may differ in its last digit."""
        return Piece({"complete": self._complete}, {"logits": self._logits, "missing": self._missing})

    def know(self, piece: Piece) -> None:
        """Takes what was asked for before."""
        self._logits, self._missing = (piece.tensors[k].to(self._logits.device) for k in ("logits", "missing"))
        self._complete = piece.values["complete"]

    @property
    def complete(self) -> bool:
        """Whether all examples have been asked for."""
        return self._complete

    @torch.no_grad()
    def __getitem__(self, index: Tensor) -> Tensor:
        """Logits (B, C) of the examples at these positions (B,)."""
        if not self._complete:
            new = index[self._missing[index]]
            if len(new):
                self._logits[new] = self.teacher(self.dataset.inputs(self.dataset.train_x[new]))
                self._missing[new] = False
                self._complete = not self._missing.any()
        return self._logits[index]


def fresh(config: StudentConfig, shape: tuple[int, ...], classes: int, seed: int = 0) -> nn.Module:
    """A student before its first update, the same for the same seed.

    Raises:
        CakeError: the architecture does not take such inputs, or has no batch normalisation where that is wanted.
    """
    network = models.build(config.model, shape, classes, seed)
    if config.batch_statistics:
        layers = batch_norms(network)
        if not layers:
            fitting = ", ".join(
                m.name for m in models.MODELS.values() if not m.for_a_gpu and models.has_batch_norm(m.name)
            )
            raise CakeError(
                f"{models.MODELS[config.model].title} has no batch normalisation, and batch statistics were asked for. "
                f"Choose a student that has: {fitting}."
            )
        for layer in layers:
            layer.track_running_stats, layer.running_mean, layer.running_var = False, None, None
            layer.num_batches_tracked = None
    return network


class StudentTraining(Iterator[TrainStep]):
    """Trains a fresh student; `network` is the student, in training or trained.

    Args:
        lesson: what it learns from; of synthetic samples the targets are the teacher's answers, never the steering
            labels.
        config: its architecture and how it is trained.
        seed: its initial weights and the order of samples.
        network: a network to train in place, instead of a fresh one of the settings' architecture.
        every: yields also after every so many updates.
        halfway: where it is stored every so often, and from where it goes on (see `train`).

    Raises:
        CakeError: the architecture does not take such inputs.
    """

    def __init__(
        self,
        lesson: Lesson | SyntheticSet,
        config: StudentConfig,
        *,
        seed: int = 0,
        network: nn.Module | None = None,
        every: int = 0,
        halfway: Halfway | None = None,
    ):
        if isinstance(lesson, SyntheticSet):
            lesson = Lesson.from_samples(lesson, config.targets, config.temperature)
        if network is None:
            network = fresh(config, tuple(lesson.x.shape[1:]), lesson.classes, seed)
        self.network: nn.Module = network.to(lesson.x.device)
        self._steps = train(
            self.network,
            lesson.x,
            lesson.targets,
            config,
            seed=seed,
            inputs=lesson.inputs,
            loss=lesson.loss,
            every=every,
            repeats=lesson.repeats,
            halfway=halfway,
        )

    def __next__(self) -> TrainStep:
        return next(self._steps)

    def moment(self) -> Piece | None:
        """All that it takes to go on behind the latest step; None before the first."""
        return self._steps.moment()

    def go_on(self, moment: Piece) -> None:
        """Goes on from a moment, before the first step is asked for."""
        self._steps.go_on(moment)
