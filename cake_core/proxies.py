"""Proxy inputs: what is sent to a teacher whose own data nobody has, each made for one class.

The paper takes them from a text-to-image model that is asked for each class by its name. Here a small diffusion model,
trained on another public set, stands in for it; a real text-to-image pipeline goes through the same door where its
weights are on disk. For points a blurred draw stands in. The other sources are there to compare with.

Source: Hondru and Ionescu (2025), arXiv 2310.00096, for the idea and the numbers of proxies.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from . import data, diffusion, runs
from .config import Config, param
from .data import DataConfig, Dataset, DatasetInfo
from .diffusion import Denoised, Denoising, DiffusionCard
from .errors import CakeError
from .pieces import NOWHERE, Pieces
from .rng import generator

__all__ = ["SOURCES", "Drawing", "Proxies", "ProxyConfig", "Sketch", "disjoint", "model_for", "sources_for"]

SOURCES = {
    "diffusion": "a diffusion model of another set",
    "blurred": "a blurred draw",
    "other": "real images of another set",
    "text": "a text-to-image model",
    "noise": "noise (control)",
}
DIGITS = tuple("0123456789")
AT_ONCE = 250  # images that are drawn together
BOX = {"mnist": 20}  # pixels of the square that a digit fills, where that is less than the image
BLUR = 0.5  # standard deviation of what is added to points, in units of theirs
PROXY_STREAM = 2**31 + 11


LARGE = 2_000_000  # parameters of a diffusion model


class ProxyConfig(Config):
    """Where proxy inputs come from, and how many there are."""

    source: str = param(
        "diffusion",
        choices=tuple(SOURCES),
        label="Proxies",
        group="Data",
        help="What is sent to the teacher. The diffusion model stands in for the paper's text-to-image model: it was "
        "trained on another public set. The teacher's own data are never used.",
    )
    per_class: int = param(
        100,
        low=2,
        high=20_000,
        scale="log",
        label="Proxies per class",
        group="Data",
        help="How many are made for each class, before the teacher is asked anything. Making them costs no calls.",
    )
    guidance: float = param(
        1.0,
        low=0.0,
        high=10.0,
        step=0.5,
        symbol="g",
        group="Data",
        suits="images",
        help="How strongly the diffusion model is held to the class: 0 ignores it, 1 is the model as trained, more "
        "makes the images more typical and more alike.",
    )
    steps: int = param(
        8,
        low=2,
        high=250,
        scale="log",
        label="Denoising steps",
        group="Data",
        suits="images",
        help="Steps from pure noise to an image. Fewer are faster and coarser.",
    )
    solver: str = param(
        "dpm",
        choices=("dpm", "ddim"),
        group="Advanced",
        suits="images",
        help="How the steps are taken: DPM-Solver++ of second order, or DDIM.",
    )
    pipeline: str = param(
        "",
        label="Folder of a text-to-image pipeline",
        group="Advanced",
        suits="images",
        help="Where the weights of a Stable Diffusion pipeline lie on this machine, in diffusers' layout. Empty: what "
        "the environment variable CAKE_TEXT_TO_IMAGE says.",
    )
    prompt: str = param(
        "a photo of a {class}",
        group="Advanced",
        suits="images",
        help="What a text-to-image model is asked for; {class} is replaced by the name of the class.",
    )

    @classmethod
    def for_data(cls, info: DatasetInfo, /, **changes: Any) -> ProxyConfig:
        """The defaults for a data set, with some changed."""
        usual: dict[str, Any] = {"source": sources_for(info)[0]}
        if usual["source"] == "diffusion" and model_for(info).parameters > LARGE:
            usual["per_class"] = 20  # on two cores of a CPU an image takes more than half a second
        return cls.from_dict({**usual, **changes})


def sources_for(info: DatasetInfo) -> list[str]:
    """The sources that can be used for a teacher of these data, the usual one first."""
    if info.kind == "points":
        return ["blurred", "noise"] if info.drawn else ["noise"]
    found = ["diffusion"] if model_for(info) else []
    found += ["other"] if info.classes == DIGITS and info.name != "digits" else []
    return [*found, "noise", "text"]


def model_for(info: DatasetInfo) -> DiffusionCard | None:
    """The card of a shipped diffusion model with the same classes, of another set or of a part of the same."""
    for card in diffusion.shipped().values():
        other = card.data != info.name or card.images
        if other and card.classes == info.classes and card.shape[0] == info.shape[0]:
            return card
    return None


def disjoint(info: DatasetInfo, images: Sequence[int] | None) -> bool:
    """Whether the diffusion model for some data saw none of the images that a teacher learned from.

    Args:
        info: the teacher's data.
        images: which of them it learned from, as its card has it; None for all.
    """
    card = model_for(info)
    if card.data != info.name:
        return True
    return images is not None and (images[1] <= card.images[0] or card.images[1] <= images[0])


@dataclass(frozen=True, eq=False)
class Proxies:
    """Inputs made for classes.

    Attributes:
        x: inputs (N, *shape), normalised as the teacher's data are.
        prompt: the class that each was made for (N,).
        source: where they come from, for people.
    """

    x: Tensor
    prompt: Tensor
    source: str

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, eq=False)
class Sketch:
    """One moment of the drawing.

    Attributes:
        share: of all work that is done.
        x: what is being drawn (B, *shape), normalised as the teacher's data are; None where there is nothing to see.
        step, total: of the images that are being drawn now.
    """

    share: float
    x: Tensor | None = None
    step: int = 0
    total: int = 0


class Drawing(Iterator[Sketch]):
    """Makes proxies; when it is exhausted, `proxies` holds them. Those of a diffusion model are kept for the next time.

    Args:
        dataset: the teacher's: only its description and its normalisation are used; of points, where they may lie.
        config: from where and how many.
        data_config: the settings of the teacher's data, for points.
        seed: of the noise.
        pieces: where those that are drawn together are stored, to go on from.

    Raises:
        CakeError: there is no such source for these data.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: ProxyConfig,
        data_config: DataConfig,
        seed: int = 0,
        pieces: Pieces = NOWHERE,
    ):
        self._pieces = pieces
        self.dataset, self.config, self.data_config, self.seed = dataset, config, data_config, seed
        self.proxies: Proxies | None = None
        if config.source not in (fitting := sources_for(dataset.info)):
            raise CakeError(
                f"Proxies for {dataset.info.title} can't come from {SOURCES[config.source]}. "
                f"Choose one of: {', '.join(fitting)}."
            )
        self._sketches = getattr(self, f"_{config.source}")()

    def __next__(self) -> Sketch:
        return next(self._sketches)

    @cached_property
    def prompt(self) -> Tensor:
        """The class of each proxy (N,): in turn, so that any part of them holds all classes."""
        classes = len(self.dataset.info.classes)
        return torch.arange(classes * self.config.per_class, device=self.dataset.mean.device) % classes

    def _done(self, x: Tensor, source: str) -> Iterator[Sketch]:
        self.proxies = Proxies(x, self.prompt, source)
        yield Sketch(1.0, x)

    # -- sources -------------------------------------------------------------------------------------------------

    def _diffusion(self) -> Iterator[Sketch]:
        card, config = model_for(self.dataset.info), self.config
        kept = {k: getattr(config, k) for k in ("per_class", "guidance", "steps", "solver")}
        place = _folder() / f"{ProxyConfig(**kept).digest()}-{card.sha256[:12]}-{self.seed}.safetensors"
        if place.is_file():
            images = load_file(place)["images"].to(self.prompt.device)
        else:
            model, parts = diffusion.load(card.name), []
            model.network.to(self.prompt.device)
            for number, labels in enumerate(groups := self.prompt.split(AT_ONCE)):
                if (known := self._pieces.get(f"proxies-{number}")) is not None:
                    parts.append(known.tensors["images"].to(self.prompt.device))
                    yield Sketch((number + 1) / len(groups), self._inputs(parts[-1]), config.steps, config.steps)
                    continue
                drawing = Denoising(
                    model,
                    labels,
                    steps=config.steps,
                    guidance=config.guidance,
                    solver=config.solver,
                    seed=self.seed + 1_000_003 * number,
                    precision="bf16" if self.prompt.device.type == "cuda" else "fp32",
                )
                for moment in drawing:
                    yield self._sketch(moment, number, len(groups))
                parts.append(drawing.images)
                self._pieces.put(f"proxies-{number}", {}, {"images": drawing.images})
            images = torch.cat(parts)
            place.parent.mkdir(parents=True, exist_ok=True)
            save_file({"images": images.cpu()}, part := place.with_suffix(".part"))
            part.replace(place)
            for number in range(len(groups)):
                self._pieces.drop(f"proxies-{number}")
        yield from self._done(self._inputs(images), f"{card.title}, guidance {config.guidance:g}, {config.steps} steps")

    def _sketch(self, moment: Denoised, number: int, groups: int) -> Sketch:
        share = (number + moment.step / moment.total) / groups
        pixels = ((moment.x.clamp(-1, 1) + 1) * 127.5).to(torch.uint8)
        return Sketch(share, self._inputs(pixels), moment.step, moment.total)

    def _other(self) -> Iterator[Sketch]:
        other = data.load(DataConfig(name="digits"))
        x, y = other.train_x, other.train_y
        rng, chosen = generator(self.seed, PROXY_STREAM), []
        for label in range(len(DIGITS)):
            where = (y == label).nonzero().flatten()
            times = 1 + self.config.per_class // len(where)
            order = torch.cat([torch.randperm(len(where), generator=rng) for _ in range(times)])
            chosen.append(where[order[: self.config.per_class]])
        index = torch.stack(chosen, dim=1).flatten()  # class by class in turn, as the prompts are
        images = x[index].to(self.prompt.device)
        yield from self._done(self._inputs(images), f"real images of {other.info.title}, some of them repeatedly")

    def _noise(self) -> Iterator[Sketch]:
        rng = generator(self.seed, PROXY_STREAM)
        x = torch.randn(len(self.prompt), *self.dataset.info.shape, generator=rng)
        yield from self._done(x.to(self.prompt.device), "normal noise of the data's mean and spread")

    def _blurred(self) -> Iterator[Sketch]:
        classes, wanted = len(self.dataset.info.classes), self.config.per_class
        points = max(100, 3 * classes * wanted)
        # Another draw than the teacher's training and test points.
        drawn = data.load(self.data_config.replace(points=min(points, 20_000), seed=self.data_config.seed + 7_000_003))
        rng, x = generator(self.seed, PROXY_STREAM), []
        for label in range(classes):
            of_class = self.dataset.inputs(drawn.train_x[drawn.train_y == label].to(self.prompt.device))
            index = torch.randint(len(of_class), (wanted,), generator=rng).to(of_class.device)
            x.append(of_class[index] + BLUR * torch.randn(wanted, 2, generator=rng).to(of_class.device))
        yield from self._done(torch.stack(x, dim=1).flatten(0, 1), f"another draw, blurred by {BLUR:g}")

    def _text(self) -> Iterator[Sketch]:
        pipeline = _pipeline(self.config.pipeline, self.prompt.device)
        info, parts = self.dataset.info, []
        groups = self.prompt.split(8)
        for number, labels in enumerate(groups):
            if (known := self._pieces.get(f"proxies-{number}")) is not None:
                parts.append(known.tensors["images"].to(self.prompt.device))
                continue
            prompts = [self.config.prompt.replace("{class}", info.classes[k]) for k in labels.tolist()]
            noise = torch.Generator().manual_seed(self.seed + number)
            drawn = pipeline(
                prompts,
                num_inference_steps=self.config.steps,
                guidance_scale=self.config.guidance,
                generator=noise,
                output_type="pt",
            ).images  # (B, 3, H, W) in [0, 1]
            parts.append((drawn * 255).round().to(torch.uint8).to(self.prompt.device))
            self._pieces.put(f"proxies-{number}", {}, {"images": parts[-1]})
            yield Sketch((number + 1) / len(groups), self._inputs(parts[-1]), self.config.steps, self.config.steps)
        yield from self._done(
            self._inputs(torch.cat(parts)), f'a text-to-image model, asked for "{self.config.prompt}"'
        )

    # -- images --------------------------------------------------------------------------------------------------

    def _inputs(self, images: Tensor) -> Tensor:
        """Images uint8 (N, c, h, w) as the teacher's inputs: resized, grey or in colour, with the set's border."""
        channels, height, width = self.dataset.info.shape
        x = images.float() / 255
        if x.shape[1] == 3 and channels == 1:
            x = (x * x.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)  # ITU-R BT.601
        box = BOX.get(self.dataset.info.name, height)
        if x.shape[-2:] != (box, box * width // height):
            size = (box, box * width // height)
            x = F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)
        border = (height - box) // 2
        x = F.pad(x.expand(-1, channels, -1, -1), (border,) * 4)
        return (x - self.dataset.mean) / self.dataset.std


def _folder() -> Path:
    """Where drawn proxies are kept, so that the same are not drawn again."""
    return runs.folder() / "proxies"


def _pipeline(folder: str, device: torch.device) -> Any:
    """A text-to-image pipeline from disk; nothing is downloaded.

    Raises:
        CakeError: there is none in this folder, or what it needs is not installed.
    """
    folder = folder or os.environ.get("CAKE_TEXT_TO_IMAGE", "")
    if not folder or not (Path(folder) / "model_index.json").is_file():
        raise CakeError(
            "There is no text-to-image pipeline here. Put one (Stable Diffusion v2, say) into a folder in diffusers' "
            "layout, with its model_index.json, and name that folder in the environment variable CAKE_TEXT_TO_IMAGE; "
            "or choose another source of proxies."
        )
    try:
        from diffusers import DiffusionPipeline

        dtype = torch.float16 if device.type == "cuda" else torch.float32
        pipeline = DiffusionPipeline.from_pretrained(folder, dtype=dtype, local_files_only=True, use_safetensors=True)
    except Exception as error:  # whatever a folder of somebody's own brings to light
        raise CakeError(
            f"The pipeline in {folder} can't be loaded ({type(error).__name__}: {error}). "
            "Text-to-image pipelines also need the package transformers."
        ) from None
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)
