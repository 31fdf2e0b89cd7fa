"""Teachers of one's own: a file from elsewhere is checked, judged, and kept as a run."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import data, evaluation, formats, models, onnx_network, runs
from . import teacher as teachers
from .data import DataConfig, Dataset, own
from .data.tables import LARGEST
from .errors import CakeError
from .evaluation import Rate
from .teacher import Teacher, TeacherCard

__all__ = [
    "FOR_POINTS",
    "PRESETS",
    "Brought",
    "Example",
    "Normalisation",
    "TeacherImport",
    "doubt",
    "example",
    "look",
    "report",
    "used_bytes",
]

# What networks commonly want of pixels from 0 to 1: title, mean and standard deviation (None: said elsewhere).
PRESETS: dict[str, tuple[str, tuple[float, ...] | None, tuple[float, ...] | None]] = {
    "data": ("As the data set's", None, None),
    "unit": ("None: values from 0 to 1", (0.0,), (1.0,)),
    "half": ("Mean 0.5, deviation 0.5", (0.5,), (0.5,)),
    "imagenet": ("ImageNet's", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "bytes": ("None: values from 0 to 255", (0.0,), (1 / 255,)),
    "custom": ("Other", None, None),
}
FOR_POINTS = ("data", "unit", "custom")  # and "unit" means: coordinates as they are

# Images without examples are normalised so that noise of standard deviation 1 spreads over the range of pixels.
MEAN, DEVIATION = 0.5, 0.25

MOST_PIXELS = 50_000_000  # of a picture, before it is unpacked
SLACK = 0.1  # how far above chance an accuracy has to be before nobody doubts it


@dataclass(frozen=True)
class Normalisation:
    """What a network wants of its inputs: (p - mean) / std, with pixels p from 0 to 1, or coordinates p.

    Attributes:
        preset: a key of `PRESETS`.
        mean, std: one number for all channels (or features), or one for each; for "custom" only.
    """

    preset: str = "data"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def numbers(self, shape: Sequence[int]) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and standard deviation for each channel or feature; None where they are the data set's.

        Args:
            shape: of one input.

        Raises:
            CakeError: there is no such preset, or the numbers make no sense.
        """
        images = len(shape) == 3
        if self.preset not in (PRESETS if images else FOR_POINTS):
            raise CakeError(
                f"'{self.preset}' is no normalisation. Choose: {', '.join(PRESETS if images else FOR_POINTS)}."
            )
        if self.preset == "data":
            return None
        mean, std = (self.mean, self.std) if self.preset == "custom" else PRESETS[self.preset][1:]
        count, what = shape[0], "channel" if images else "coordinate"
        if any(len(v) not in (1, count) or not all(map(math.isfinite, v)) for v in (mean, std)):
            raise CakeError(
                f"The normalisation '{self.preset}' has {len(mean)} means and {len(std)} deviations; inputs with "
                f"{count} {what}{'s'[: count > 1]} need one for all or one for each."
            )
        if min(std) <= 0:
            raise CakeError("A standard deviation must be above 0. Write what the teacher's inputs were divided by.")
        each = 1 if count == 1 else count
        return tuple(mean * (each // len(mean))), tuple(std * (each // len(std)))

    def rescaling(
        self, dataset_mean: Tensor, dataset_std: Tensor, shape: Sequence[int]
    ) -> dict[str, list[float]] | None:
        """What turns inputs normalised by a data set into those wanted: scale x + shift. None where nothing does.

        (p - m') / s' of p = s x + m is s / s' x + (m - m') / s'.

        Args:
            dataset_mean, dataset_std: m and s, one number per channel or feature.
            shape: of one input.
        """
        wanted = self.numbers(shape)
        if wanted is None:
            return None
        m, s = dataset_mean.double().flatten(), dataset_std.double().flatten()
        theirs_m, theirs_s = (torch.tensor(v, dtype=torch.float64) for v in wanted)
        return {"scale": (s / theirs_s).tolist(), "shift": ((m - theirs_m) / theirs_s).tolist()}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {"preset": self.preset, "mean": list(self.mean), "std": list(self.std)}


@dataclass(frozen=True)
class Brought:
    """A file, and what somebody says about it.

    Attributes:
        path: where it lies.
        name: what it was called where it comes from.
        data: the data set that it classifies; None for something that is not here.
        model: its architecture; empty for ONNX, which says so itself.
        normalisation: what it wants of its inputs.
        title, classes, shape: of what it classifies, where `data` is None.
    """

    path: Path
    name: str
    data: DataConfig | None
    model: str = ""
    normalisation: Normalisation = Normalisation()
    title: str = ""
    classes: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()

    @classmethod
    def from_dict(
        cls,
        path: Path,
        name: str,
        data_config: Mapping[str, Any] | None,
        model: str = "",
        normalisation: Mapping[str, Any] | None = None,
        something: Mapping[str, Any] | None = None,
    ) -> Brought:
        """From the plain values of a page or a command line.

        Args:
            path, name, model: as above.
            data_config: settings of the data set; None where it is something else.
            normalisation: "preset", and for "custom" also "mean" and "std".
            something: "title", "classes" and "shape" of something else.

        Raises:
            CakeError: there is no such data set, or a number is none.
        """
        n, s = normalisation or {}, something or {}
        try:
            mean, std = (tuple(float(v) for v in n.get(k, ())) for k in ("mean", "std"))
            shape = tuple(int(v) for v in s.get("shape", ()))
        except (TypeError, ValueError):
            raise CakeError(
                "Mean, deviation and shape are numbers. Write them with a point, and spaces between."
            ) from None
        return cls(
            path,
            name,
            DataConfig.from_dict(data_config) if data_config is not None else None,
            model,
            Normalisation(n.get("preset", "data"), mean, std),
            s.get("title", ""),
            tuple(str(c).strip() for c in s.get("classes", ())),
            shape,
        )

    def check(self) -> None:
        """Refuses what can't be, before the file is read.

        Raises:
            CakeError: the architecture is missing, unknown or does not take such inputs; names of classes are missing
                or stand there twice; the normalisation makes no sense.
        """
        if self.data is None:
            if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
                raise CakeError(
                    "A teacher tells at least two classes apart, each with a name of its own, in the order of its "
                    "outputs. Write them all, or choose the data set that it learned."
                )
            if len(self.shape) not in (1, 3):
                raise CakeError(
                    "Write the input's shape as channels, height and width, or as 2 for points in the plane."
                )
            if self.normalisation.preset == "data":
                raise CakeError(
                    "Without a data set there is no normalisation to take over. Say what the teacher wants."
                )
        self.normalisation.numbers(self.inputs[0])
        if self.model and self.model not in models.MODELS:
            raise CakeError(f"There is no model '{self.model}'. Choose one of: {', '.join(models.MODELS)}.")

    @property
    def inputs(self) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Shape of one input, and names of the classes."""
        if self.data is None:
            return self.shape, self.classes
        info = data.info(self.data.name)
        return info.shape, info.classes


class TeacherImport(Iterator[str]):
    """Imports a teacher; each item says what is done next. When it is exhausted, the teacher is kept.

    Args:
        brought: the file, and what is said about it. The file is copied.
        device: where to judge it.

    Attributes:
        run: the run that it is kept as; its name is "run:" and this.
        teacher: with its card.

    Raises:
        CakeError: something about it can't be used; it says what, and what to do.
    """

    def __init__(self, brought: Brought, device: torch.device | str = "cpu"):
        brought.check()
        self.brought, self.device = brought, torch.device(device)
        self.run = ""
        self.teacher: Teacher | None = None
        self._steps = self._loop()

    def __next__(self) -> str:
        return next(self._steps)

    def close(self) -> None:
        """Cancels; nothing of it stays."""
        self._steps.close()

    def keep(self, example: Example | None = None) -> dict[str, Any]:
        """Writes down what there is to say about the teacher, once it is imported.

        Args:
            example: one input to try it with.

        Returns:
            What `report` says.
        """
        result = report(self.teacher, example, self.device)
        runs.write_json(runs.find(self.run) / "run.json", {"kind": "import", **result})
        return result

    def _loop(self) -> Iterator[str]:
        b, name = self.brought, formats.plain(self.brought.name)
        yield "Looking at the file"
        kind = formats.recognise(b.path, b.name)
        if kind == "safetensors" and not b.model:
            raise CakeError(f"{name} holds weights alone. Choose the architecture that they belong to.")
        yield "Reading the weights" if kind == "safetensors" else "Converting the network to torch"
        shape, classes = b.inputs
        made = ""
        try:
            dataset = self._dataset()
            if dataset is None and b.data is None:
                # Made before the file is known to be good, for the network is judged with it; gone again if it is not.
                made = self._make()
                dataset = data.load(DataConfig(name=made))
            card = self._card(kind, made, dataset, shape)
            network = teachers.network_of(card, b.path)
            yield "Asking it, and comparing its gradients with differences"
            if kind == "onnx":
                onnx_network.check(network, shape, len(classes), name)
            count = onnx_network.parameter_count if kind == "onnx" else models.parameter_count
            card = replace(card, parameters=count(network))
            if dataset is not None and len(dataset.test_x):
                yield f"Testing it on {dataset.info.title}"
                accuracy = self._accuracy(network, dataset)
                card = replace(card, accuracy=accuracy, data_sha256=dataset.checksum)
            self.run = runs.create()
            self.teacher = Teacher(replace(card, name=f"run:{self.run}"), network, b.path)
            yield "Keeping it"
            self.teacher = replace(self.teacher, card=self.teacher.save(runs.find(self.run), "teacher"))
            if made:
                (own.folder() / made / teachers.BESIDE).write_text(self.teacher.card.name)
        except BaseException:  # cancelled, or refused: nothing of it stays
            own.delete(made)
            if self.run:
                shutil.rmtree(runs.find(self.run), ignore_errors=True)
            raise

    def _dataset(self) -> Dataset | None:
        """The data set, where it is here and of use."""
        b = self.brought
        if b.data is None:
            return None
        info = data.info(b.data.name)
        if info.on_disk():
            return data.load(b.data)
        if b.normalisation.preset != "data":
            raise CakeError(
                f"{info.title} is not on this machine, and its own normalisation must be known to compute from it. "
                "Choose it once on the page Images, which downloads it; or bring a teacher that is normalised as it is."
            )
        return None

    def _make(self) -> str:
        """A data set without examples, which says what the teacher takes and answers."""
        b = self.brought
        if len(b.shape) == 3:
            return own.create(b.title, "images", b.shape, b.classes, mean=[MEAN], std=[DEVIATION])
        mean, std = b.normalisation.numbers(b.shape)
        return own.create(b.title, "points", b.shape, b.classes, mean=mean, std=std)

    def _card(self, kind: str, made: str, dataset: Dataset | None, shape: tuple[int, ...]) -> TeacherCard:
        b = self.brought
        rescaling = b.normalisation.rescaling(dataset.mean, dataset.std, shape) if dataset is not None else None
        return TeacherCard(
            name="",
            data=(b.data or DataConfig(name=made)).to_dict(),
            model=b.model if kind == "safetensors" else "onnx",
            seed=0,
            recipe={},
            parameters=0,
            accuracy=None,
            trained_with="",
            origin="imported",
            file=formats.plain(b.name),
            format=kind,
            normalisation=b.normalisation.to_dict(),
            rescaling=rescaling,
        )

    def _accuracy(self, network: torch.nn.Module, dataset: Dataset) -> Rate:
        there = dataset.to(self.device)
        logits = evaluation.predict(network.to(self.device), there.test_x, there.inputs)
        return evaluation.accuracy(logits, there.test_y)


def doubt(accuracy: Rate | None, classes: int) -> str:
    """A sentence where an accuracy is hardly better than chance; empty otherwise."""
    if accuracy is None or accuracy.value >= 1 / classes + SLACK * (1 - 1 / classes):
        return ""
    return (
        f"It gets {100 * accuracy.value:.1f} % right; guessing gets {100 / classes:.1f} %. Most often the "
        "normalisation is another one, or the classes stand in another order. Check both, and import it again."
    )


def used_bytes() -> int:
    """What the teachers of all runs take on the disk."""
    return sum(f.stat().st_size for f in runs.folder().glob("*/teacher.*") if f.is_file())


def report(teacher: Teacher, example: Example | None, device: torch.device) -> dict[str, Any]:
    """What there is to say about an imported teacher, as plain values: what `teacher.inspect` sees, and

    "doubt" (a sentence, or empty), "tried" (what it says about one example, or None) and "has_examples".
    """
    seen = teachers.inspect(teacher.card.name, device)
    doubts = doubt(teacher.card.accuracy, len(seen["classes"]))
    tried = None
    if example is not None:
        tried = {"answers": look(teacher, example.raw), "changed": example.changed, "raw": example.raw.tolist()}
    return {**seen, "doubt": doubts, "tried": tried, "has_examples": data.info(teacher.card.data["name"]).has_examples}


# -- one input of one's own -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Example:
    """One raw input: uint8 pixels (C, H, W) or two coordinates; and what was changed to make it fit."""

    raw: Tensor
    changed: str = ""


def example(picture: Path | None, point: Sequence[float] | None, shape: tuple[int, ...]) -> Example | None:
    """One input to try a teacher with; None where none was given.

    Args:
        picture: a PNG or JPEG file, for images.
        point: two coordinates, for points, before any normalisation.
        shape: of one input.

    Raises:
        CakeError: it is no such picture, or far too large; the coordinates are no numbers.
    """
    if len(shape) == 3:
        return _picture(picture, shape) if picture is not None else None
    if point is None:
        return None
    if len(point) != 2 or not all(isinstance(v, int | float) and abs(v) <= LARGEST for v in point):
        raise CakeError("A point to try has two coordinates, both numbers.")
    return Example(torch.tensor([float(v) for v in point]))


def _picture(path: Path, shape: tuple[int, ...]) -> Example:
    from PIL import Image

    from .data.folders import BROKEN

    wanted = CakeError("The picture to try is no PNG or JPEG that can be read. Save it as PNG and try again.")
    channels, height, width = shape
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            size = image.size
            if math.prod(size) > MOST_PIXELS:
                raise CakeError(f"The picture to try has {size[0]:,} x {size[1]:,} pixels. Make it smaller.")
            image = image.convert("L" if channels == 1 else "RGB")
            if size != (width, height):
                image = image.resize((width, height), Image.Resampling.BILINEAR)
    except (*BROKEN, Image.DecompressionBombError):
        raise wanted from None
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(height, width, channels)
    changed = f"made {width} x {height} from {size[0]} x {size[1]}" if size != (width, height) else ""
    return Example(pixels.permute(2, 0, 1).contiguous(), changed)


def look(teacher: Teacher, raw: Tensor, most: int = 5) -> list[tuple[str, float]]:
    """What a teacher says about one raw example: its likeliest classes, with their probabilities.

    Args:
        teacher: whom to ask.
        raw: uint8 pixels (C, H, W), or two coordinates.
        most: how many classes.
    """
    dataset = data.load(teacher.card.data_config)
    with torch.no_grad():
        probabilities = teacher.network.cpu()(dataset.inputs(raw[None])).softmax(dim=1)[0]
    top = probabilities.topk(min(most, len(probabilities)))
    return [(dataset.info.classes[i], p) for p, i in zip(top.values.tolist(), top.indices.tolist(), strict=True)]
