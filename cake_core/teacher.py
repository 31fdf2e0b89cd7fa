"""Teachers: shipped with the app, trained here, or of one's own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import nn

from . import data, evaluation, models, onnx_network, runs, weights
from .data import DataConfig, Dataset, own
from .errors import CakeError
from .evaluation import Rate
from .pieces import Halfway
from .training import TrainConfig, TrainStep, train

__all__ = [
    "BESIDE",
    "SHIPPED_FOLDER",
    "Teacher",
    "TeacherCard",
    "TeacherTraining",
    "card",
    "imported_for",
    "inspect",
    "is_whole",
    "load",
    "network_of",
    "read",
    "recipe",
    "shipped",
    "shipped_for",
]

BESIDE = "teacher"  # in the folder of a data set that has no examples: the name of the teacher it came with
SHIPPED_FOLDER = Path(__file__).parents[1] / "assets" / "teachers"

FEW = 5000  # images to learn from, of a set of one's own: so few are learned in a fraction of MNIST's updates

# What differs from the defaults of TrainConfig: by kind of data, for few images, by data set, by architecture (or the
# beginning of its name), by both; later ones go before earlier ones.
RECIPES: dict[str, dict[str, Any]] = {
    "points": {"updates": 2000, "learning_rate": 0.01},
    "images": {
        "updates": 9380,  # 20 epochs of MNIST
        "batch_size": 128,
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "weight_decay": 5e-4,
        "shift": 2,
    },
    "few": {"updates": 1500, "batch_size": 64, "optimizer": "adam", "learning_rate": 3e-3, "shift": 1},
    "digits": {"updates": 2000, "batch_size": 64, "optimizer": "adam", "learning_rate": 3e-3, "shift": 1},
    "fashion-mnist": {"updates": 14_070, "shift": 0},  # 30 epochs
    "usps": {"updates": 3420, "shift": 1},  # 60 epochs
    "svhn": {"updates": 17_160, "shift": 0, "crop": 2},  # 30 epochs
    "cifar10": {"updates": 11_700, "shift": 0, "crop": 4, "flip": True},  # 30 epochs
    "vit": {"optimizer": "adam", "learning_rate": 2e-3, "weight_decay": 0.05},
    "cifar10/resnet": {"learning_rate": 0.1},
    # For a GPU: larger batches, 60 epochs (100 of the transformer).
    "cifar10/resnet18": {"updates": 5880, "batch_size": 512, "learning_rate": 0.4, "precision": "bf16"},
    "cifar10/resnet34": {"updates": 5880, "batch_size": 512, "learning_rate": 0.4, "precision": "bf16"},
    "cifar10/vit4": {"updates": 19_600, "batch_size": 256, "precision": "bf16"},
}


def recipe(name: str, model: str = "", /, **changes: Any) -> TrainConfig:
    """How a teacher of this data set and architecture is trained, with some settings changed."""
    info = data.info(name)
    family = re.sub(r"[0-9].*", "", model)
    keys = [info.kind, info.name]
    if info.kind == "images" and info.examples is not None and info.examples < FEW:
        keys.insert(1, "few")
    if info.kind == "images" and info.name != "digits":
        keys += [family, model]
    keys += [f"{info.name}/{family}", f"{info.name}/{model}"]
    settings = [RECIPES.get(key, {}) for key in dict.fromkeys(keys)]
    return TrainConfig.from_dict({k: v for chosen in settings for k, v in chosen.items()} | changes)


@dataclass(frozen=True)
class TeacherCard:
    """What is known about a trained teacher; stored as JSON beside its weights.

    Attributes:
        name: "<data>/<model>" for shipped ones and those trained here, "run:<id>" for those that were imported.
        data: the settings of the data set it was trained on.
        model: its architecture; "onnx" for a network that came as ONNX.
        seed: seed of its weights and of the order of examples.
        recipe: how it was trained; empty for imported ones.
        parameters: number of trainable values.
        accuracy: on the test part of its data, with n and interval; None where no test data are here.
        trained_with: version of torch; empty for imported ones.
        sha256: hash of the weights' file, checked at load.
        data_sha256: checksum of the data it was trained and tested on.
        origin: "trained", or "imported" from a file of somebody's own.
        file: what an imported file was called.
        format: of the weights' file, "safetensors" or "onnx".
        normalisation: what an imported network wants of its inputs, as `imports.Normalisation.to_dict` gives it.
        images: the training examples it learned from, the first and the one after the last; None for all.
        rescaling: "scale" and "shift" that turn the data's normalised inputs into those; None where they are the same.
    """

    name: str
    data: dict[str, Any]
    model: str
    seed: int
    recipe: dict[str, Any]
    parameters: int
    accuracy: Rate | None
    trained_with: str
    sha256: str = ""
    data_sha256: str = ""
    origin: Literal["trained", "imported"] = "trained"
    file: str = ""
    format: Literal["safetensors", "onnx"] = "safetensors"
    normalisation: dict[str, Any] | None = None
    rescaling: dict[str, list[float]] | None = None
    images: list[int] | None = None

    @property
    def title(self) -> str:
        """For people: "LeNet-5 on MNIST"."""
        return f"{self.network_title} on {data.info(self.data['name']).title}"

    @property
    def network_title(self) -> str:
        """Its architecture, for people, and what it learned from where that is not all."""
        title = models.MODELS[self.model].title if self.model in models.MODELS else "ONNX network"
        return title + (f" (training images {self.images[0]:,} to {self.images[1] - 1:,})" if self.images else "")

    @property
    def data_config(self) -> DataConfig:
        """The data set it was trained on."""
        return DataConfig.from_dict(self.data)

    @classmethod
    def read(cls, path: Path) -> TeacherCard:
        """Reads a card.

        Raises:
            CakeError: the file is no card.
        """
        try:
            values = json.loads(path.read_text())
            accuracy = None if values["accuracy"] is None else Rate(**values["accuracy"])
            card = cls(**{**values, "accuracy": accuracy})
            if not isinstance(card.data["name"], str) or card.format not in ("safetensors", "onnx"):
                raise ValueError("it names no data set, or no format")
            return card
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise CakeError(f"{path.name} is not a teacher's card ({error}). Train the teacher again.") from None


@dataclass(frozen=True)
class Teacher:
    """A trained network and its card.

    Attributes:
        card: what is known about it.
        network: maps the data's normalised inputs to logits.
        file: where an imported one's weights lie, which are kept as they came.
    """

    card: TeacherCard
    network: nn.Module
    file: Path | None = None

    def save(self, folder: Path, stem: str) -> TeacherCard:
        """Writes the weights and, last, <stem>.json; returns the card with the weights' hash.

        What was imported is kept as it came.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{stem}.{self.card.format}"
        if self.file is not None:
            runs.copy(self.file, path)
        else:
            weights.write(path, self.network.state_dict())
        card = replace(self.card, sha256=weights.sha256(path))
        runs.write_json(folder / f"{stem}.json", asdict(card))
        return card


def load(name: str) -> Teacher:
    """A shipped teacher by its name, or one trained or imported here by "run:<id>".

    Raises:
        CakeError: there is no such teacher, or its file was changed or cut short.
    """
    return read(_stem(name), name)


def is_whole(stem: Path) -> bool:
    """Whether both files of a teacher are there as they were written; where not, it can be trained again."""
    try:
        card = TeacherCard.read(stem.with_suffix(".json"))
        return weights.sha256(stem.with_suffix(f".{card.format}")) == card.sha256
    except (CakeError, OSError):
        return False


def read(stem: Path, name: str) -> Teacher:
    """A teacher from its two files.

    Args:
        stem: where they lie, without their endings.
        name: what it is called in messages.

    Raises:
        CakeError: a file was changed or cut short, or is not there.
    """
    card = TeacherCard.read(stem.with_suffix(".json"))
    path = stem.with_suffix(f".{card.format}")
    if not path.is_file() or weights.sha256(path) != card.sha256:
        raise CakeError(
            f"The weights of teacher '{name}' are missing or damaged: {path.name} does not match its card. "
            f"Get the file again, or {'import' if card.origin == 'imported' else 'train'} the teacher again."
        )
    info = data.info(card.data["name"])
    if card.origin == "imported":
        return Teacher(card, network_of(card, path), path)
    network = models.build(card.model, info.shape, len(info.classes))
    try:
        network.load_state_dict(weights.load(path))
    except (RuntimeError, SafetensorError) as error:
        raise CakeError(f"The weights of teacher '{name}' do not fit {card.model}: {error}") from None
    return Teacher(card, network.eval())


def network_of(card: TeacherCard, path: Path) -> nn.Module:
    """The network of an imported teacher, from the data's normalised inputs to logits.

    Args:
        card: which format, architecture and normalisation.
        path: its weights' file.

    Raises:
        CakeError: the file is damaged, or it does not fit.
    """
    info = data.info(card.data["name"])
    if card.format == "onnx":
        network = onnx_network.convert(path, info.shape, card.file)
    else:
        network = weights.read(path, card.model, info.shape, len(info.classes), card.file)
    if card.rescaling:
        network = weights.Renormalised(network, *(torch.tensor(card.rescaling[k]) for k in ("scale", "shift")))
    return network.eval()


def card(name: str) -> TeacherCard:
    """What is known about a teacher that `load` would load.

    Raises:
        CakeError: there is no such teacher.
    """
    return TeacherCard.read(_stem(name).with_suffix(".json"))


def _stem(name: str) -> Path:
    """Where a teacher's two files lie, without their endings."""
    if name.startswith("run:"):
        return runs.find(name.removeprefix("run:")) / "teacher"
    if name in shipped():
        return SHIPPED_FOLDER / name
    raise CakeError(f"There is no teacher '{name}'. Shipped are: {', '.join(shipped())}.")


def imported_for(config: DataConfig) -> str | None:
    """The name of the teacher that was imported together with a data set without examples, if it was."""
    if not own.is_own(config.name):
        return None
    try:
        return (own.folder() / config.name / BESIDE).read_text().strip()
    except OSError:
        return None


FIRST = ("lenet5", "mlp", "resnet4")  # quick on any machine; they go before others of the same data


@cache
def shipped() -> dict[str, TeacherCard]:
    """The cards of all shipped teachers, by name."""
    cards = (TeacherCard.read(path) for path in sorted(SHIPPED_FOLDER.glob("*/*.json")))
    return {card.name: card for card in cards}


def shipped_for(config: DataConfig, batch_norm: bool = False) -> TeacherCard | None:
    """The shipped teacher of exactly this data set that is taken where none is named, if there is one.

    Args:
        config: the data set.
        batch_norm: whether only teachers with batch normalisation will do.
    """
    drawn = data.info(config.name).drawn
    # Noise, number and seed describe drawn sets only.
    cards = shipped().values()
    fitting = [c for c in cards if c.data_config == config or (not drawn and c.data["name"] == config.name)]
    if batch_norm:
        fitting = [c for c in fitting if c.model in models.MODELS and models.has_batch_norm(c.model)]
    first = [c for model in FIRST for c in fitting if c.model == model]
    return next(iter(first or fitting), None)


class TeacherTraining(Iterator[TrainStep]):
    """Trains a teacher; when the iterator is exhausted, `teacher` holds it, with its test accuracy.

    Args:
        dataset: what it learns.
        config: the settings `dataset` was made from.
        model: its architecture.
        settings: how it is trained (None: the data set's recipe).
        seed: weights and order of examples.
        name: the name for its card.
        images: of the training examples only these, as in its card.
        rounding: one of `weights.ROUNDINGS`, to which its weights are rounded when it is trained, before it is tested;
            for small files.
        halfway: where it is stored every so often, and from where it goes on (see `train`).
    """

    def __init__(
        self,
        dataset: Dataset,
        config: DataConfig,
        model: str,
        settings: TrainConfig | None = None,
        *,
        seed: int = 0,
        name: str = "",
        images: Sequence[int] | None = None,
        rounding: str = "",
        halfway: Halfway | None = None,
    ):
        info = dataset.info
        self.rounding, self.images = rounding, list(images) if images else None
        self.network = models.build(model, info.shape, len(info.classes), seed).to(dataset.train_x.device)
        self.teacher: Teacher | None = None
        settings = settings or recipe(info.name, model)
        self._steps = self._loop(dataset, config, model, settings, seed, name or f"{info.name}/{model}", halfway)

    def __next__(self) -> TrainStep:
        return next(self._steps)

    def _loop(self, dataset, config, model, settings, seed, name, halfway) -> Iterator[TrainStep]:
        learned = dataset.part(self.images)
        how = {"seed": seed, "inputs": dataset.inputs, "halfway": halfway}
        yield from train(self.network, learned.train_x, learned.train_y, settings, **how)
        if self.rounding:
            weights.rounded(self.network, self.rounding)
        logits = evaluation.predict(self.network, dataset.test_x, dataset.inputs)
        card = TeacherCard(
            name=name,
            data=config.to_dict(),
            model=model,
            seed=seed,
            recipe=settings.to_dict(),
            parameters=models.parameter_count(self.network),
            accuracy=evaluation.accuracy(logits, dataset.test_y),
            trained_with=f"torch {torch.__version__}",
            data_sha256=dataset.checksum,
            images=self.images,
        )
        self.teacher = Teacher(card, self.network)


def inspect(name: str, device: torch.device, most: int = 12) -> dict[str, Any]:
    """A teacher's card, its confusion matrix, and examples: its worst mistakes (or, for points, its surface).

    Without test data there are neither a confusion matrix (None) nor mistakes.

    Args:
        name: of the teacher.
        device: where to compute.
        most: mistakes to show.

    Raises:
        CakeError: there is no such teacher, or its data are not here and can't be downloaded.
    """
    teacher = load(name)
    info = data.info(teacher.card.data["name"])
    network = teacher.network.to(device)
    seen = {"card": asdict(teacher.card), "title": teacher.card.network_title, "classes": info.classes}
    if info.kind == "images" and teacher.card.accuracy is None:
        return {**seen, "confusion": None, "mistakes": [], "other_data": False}
    dataset = data.load(teacher.card.data_config).to(device)
    confusion = None
    if len(dataset.test_x):
        logits = evaluation.predict(network, dataset.test_x, dataset.inputs)
        confidence, answer = logits.softmax(dim=1).max(dim=1)
        counts = torch.zeros(len(info.classes), len(info.classes), dtype=torch.int64)
        counts.index_put_((dataset.test_y.cpu(), answer.cpu()), torch.ones((), dtype=torch.int64), accumulate=True)
        confusion = counts.tolist()
    seen["confusion"] = confusion
    seen["other_data"] = bool(teacher.card.data_sha256) and teacher.card.data_sha256 != dataset.checksum
    if info.kind == "images":
        wrong = (answer != dataset.test_y).nonzero().flatten()
        wrong = wrong[confidence[wrong].argsort(descending=True)][:most]
        seen["mistakes"] = [
            {
                "pixels": dataset.test_x[i].cpu().tolist(),
                "label": info.classes[dataset.test_y[i]],
                "answer": info.classes[answer[i]],
                "confidence": confidence[i].item(),
            }
            for i in wrong
        ]
    else:
        width, resolution = dataset.half_width, 80
        surface = evaluation.predict(network, evaluation.grid(width, resolution, device)).softmax(dim=1)
        shown = slice(500)
        seen["surface"] = {
            "half_width": width,
            "probabilities": surface.view(resolution, resolution, -1).cpu().tolist(),
            "points": dataset.inputs(dataset.test_x[shown]).cpu().tolist(),
            "labels": dataset.test_y[shown].cpu().tolist(),
        }
    return seen
