"""A small class-conditional diffusion model: trained here, shipped as safetensors, and sampled step by step.

Noise enters an image x_0 in [-1, 1] as x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε, with a cosine schedule of 1,000 times. A U-Net
learns v = √ᾱ_t ε - √(1-ᾱ_t) x_0 from (x_t, t, class); in a tenth of the examples the class is left out, so that it can
be guided: v = v_none + g (v_class - v_none).

The networks and the solvers are those of the library `diffusers`.

Sources: Ho, Jain, Abbeel (2020), arXiv 2006.11239; Nichol and Dhariwal (2021), arXiv 2102.09672 (cosine schedule);
Salimans and Ho (2022), arXiv 2202.00512 (v); Ho and Salimans (2022), arXiv 2207.12598 (guidance); Song, Meng, Ermon
(2021), arXiv 2010.02502 (DDIM); Lu et al. (2022), arXiv 2211.01095 (DPM-Solver++).
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from . import data, devices, graphs, runs, weights
from .config import Config, param
from .data import Dataset
from .errors import CakeError
from .models import parameter_count
from .pieces import Halfway, Piece
from .rng import generator
from .training import SECONDS_BETWEEN_STEPS, TrainStep, optimiser_of, put_back, state_of

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

__all__ = [
    "SHIPPED_FOLDER",
    "Denoised",
    "Denoising",
    "DiffusionCard",
    "DiffusionConfig",
    "DiffusionModel",
    "DiffusionTraining",
    "load",
    "shipped",
]

SHIPPED_FOLDER = Path(__file__).parents[1] / "assets" / "diffusion"
TIMES = 1000  # of the noise schedule
NOISE_STREAM = 2**31 + 7


class DiffusionConfig(Config):
    """How a diffusion model is built and trained."""

    updates: int = param(4000, low=1, high=1_000_000, scale="log", help="Gradient steps on the U-Net's weights.")
    batch_size: int = param(128, low=1, high=4096, scale="log", help="Images in one gradient step.")
    learning_rate: float = param(1e-3, low=1e-6, high=0.1, scale="log", help="Highest learning rate of AdamW.")
    average: float = param(
        0.998, low=0.0, high=0.99999, help="Decay of the running average of the weights, which is what is kept."
    )
    unlabelled: float = param(
        0.1, low=0.0, high=0.9, help="Share of examples that are learned without their class, for guidance."
    )
    width: int = param(32, low=8, high=256, step=8, help="Channels at full resolution; twice as many below.")
    side: int = param(
        0, low=0, high=256, step=4, unit="pixels", help="Side that images are made smaller to; 0 leaves them."
    )
    precision: str = param("fp32", choices=devices.PRECISIONS, help="Number format of the network's products.")


@dataclass(frozen=True)
class DiffusionCard:
    """What is known about a diffusion model; stored as JSON beside its weights.

    Attributes:
        name: as on the command line and in the URL.
        data: the data set it was trained on.
        images: the training images it learned from, the first and the one after the last; None for all.
        shape: of its images (channels, height, width).
        classes: what it can be asked for.
        recipe: how it was trained.
        parameters: number of trainable values.
        trained_with: versions of the libraries.
        sha256: hash of the weights' file, checked at load.
        data_sha256: checksum of the data.
    """

    name: str
    data: str
    images: list[int] | None
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    recipe: dict[str, Any]
    parameters: int
    trained_with: str
    sha256: str = ""
    data_sha256: str = ""

    @property
    def title(self) -> str:
        """For people."""
        which = f" (training images {self.images[0]:,} to {self.images[1] - 1:,})" if self.images else ""
        return f"diffusion model of {data.info(self.data).title}{which}"


def build(shape: tuple[int, ...], classes: int, width: int) -> nn.Module:
    """An untrained U-Net for images (channels, side, side); class number C stands for "no class".

    Attention works at a quarter of the side, where a network this small can afford it.
    """
    from diffusers import UNet2DModel  # takes seconds to import, and not every run needs it

    return UNet2DModel(
        sample_size=shape[1],
        in_channels=shape[0],
        out_channels=shape[0],
        layers_per_block=1,
        block_out_channels=(width, 2 * width, 2 * width),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        attention_head_dim=16,
        norm_num_groups=8,
        num_class_embeds=classes + 1,
    )


def solver(name: str) -> SchedulerMixin:
    """One of diffusers' solvers for the noise schedule of this module: "ddim" or "dpm"."""
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    settings = {
        "num_train_timesteps": TIMES,
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",  # begins at the noisiest time, whatever the number of steps
    }
    if name == "ddim":
        return DDIMScheduler(**settings, clip_sample=False)  # cut-off guided images lose their class
    return DPMSolverMultistepScheduler(**settings)


@dataclass(frozen=True)
class DiffusionModel:
    """A trained U-Net and its card."""

    card: DiffusionCard
    network: nn.Module

    def save(self, folder: Path) -> DiffusionCard:
        """Writes <name>.safetensors in float16 and, last, <name>.json; returns the card with the weights' hash."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.card.name}.safetensors"
        weights.write(path, {k: v.half() for k, v in self.network.state_dict().items()})
        card = replace(self.card, sha256=weights.sha256(path))
        runs.write_json(folder / f"{card.name}.json", asdict(card))
        return card


@cache
def shipped() -> dict[str, DiffusionCard]:
    """The cards of all shipped diffusion models, by name."""
    cards = {}
    for path in sorted(SHIPPED_FOLDER.glob("*.json")):
        values = json.loads(path.read_text())
        cards[path.stem] = DiffusionCard(
            **{**values, "shape": tuple(values["shape"]), "classes": tuple(values["classes"])}
        )
    return cards


def load(name: str) -> DiffusionModel:
    """A shipped diffusion model by its name.

    Raises:
        CakeError: there is no such model, or its file was changed or cut short.
    """
    if name not in shipped():
        raise CakeError(f"There is no diffusion model '{name}'. Shipped are: {', '.join(shipped())}.")
    card, path = shipped()[name], SHIPPED_FOLDER / f"{name}.safetensors"
    if not path.is_file() or weights.sha256(path) != card.sha256:
        raise CakeError(
            f"The weights of the diffusion model '{name}' are missing or damaged: {path.name} does not match its card. "
            "Get the file again."
        )
    network = build(card.shape, len(card.classes), card.recipe["width"])
    network.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    return DiffusionModel(card, network.eval().requires_grad_(False))


class DiffusionTraining(Iterator[TrainStep]):
    """Trains a diffusion model by the mean of (v - v_θ(x_t, t, c))²; when it is exhausted, `model` holds it.

    Args:
        dataset: its training images, of equal height and width, are what is learned.
        config: how.
        seed: weights, order, times and noise.
        name: for its card.
        images: of the training images only these, as in its card.
        halfway: where it is stored every so often, and from where it goes on (see `training.train`).
    """

    def __init__(
        self,
        dataset: Dataset,
        config: DiffusionConfig,
        *,
        seed: int = 0,
        name: str,
        images: Sequence[int] | None = None,
        halfway: Halfway | None = None,
    ):
        info = dataset.info
        side = config.side or info.shape[-1]
        if info.kind != "images" or info.shape[1] != info.shape[2] or side % 4:
            raise CakeError(
                "A diffusion model needs square images with a side that 4 divides. Choose another set or side."
            )
        shape = (info.shape[0], side, side)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build(shape, len(info.classes), config.width).to(dataset.train_x.device)
        self.card = DiffusionCard(
            name=name,
            data=info.name,
            images=list(images) if images else None,
            shape=shape,
            classes=info.classes,
            recipe={**config.to_dict(), "seed": seed},
            parameters=parameter_count(network),
            trained_with=f"torch {torch.__version__}, diffusers {_version()}",
            data_sha256=dataset.checksum,
        )
        self.model: DiffusionModel | None = None
        self._halfway = halfway
        self._steps = self._loop(network, dataset.part(images), config, generator(seed, NOISE_STREAM))

    def __next__(self) -> TrainStep:
        return next(self._steps)

    def _loop(
        self, network: nn.Module, dataset: Dataset, config: DiffusionConfig, rng: torch.Generator
    ) -> Iterator[TrainStep]:
        device, none = dataset.train_x.device, len(dataset.info.classes)
        schedule = solver("ddim")
        averaged = copy.deepcopy(network).requires_grad_(False)
        cuda = device.type == "cuda"
        optimiser = optimiser_of(network, config.learning_rate, 1e-4, device)
        rates = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, config.learning_rate, total_steps=config.updates + 1, pct_start=0.1, cycle_momentum=False
        )

        def work(x: Tensor, noise: Tensor, t: Tensor, classes: Tensor) -> Tensor:
            with devices.autocast(device, config.precision):
                (v,) = network(schedule.add_noise(x, noise, t), t, class_labels=classes, return_dict=False)
            loss = F.mse_loss(v.float(), schedule.get_velocity(x, noise, t))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            return loss.detach()

        update = graphs.Update(work, recorded=cuda)
        noises = generator(int(torch.randint(2**31, (), generator=rng)), device=device) if cuda else rng
        done, place, inside = 0, 0, None
        if self._halfway is not None and (moment := self._halfway.begun()) is not None:
            put_back(network, moment, optimiser, rates)
            averaged.load_state_dict({k[9:]: t for k, t in moment.tensors.items() if k.startswith("averaged.")})
            done, place, inside = moment.values["update"], moment.values["place"], moment.tensors
            yield TrainStep(done, config.updates, moment.values["loss"])
        since, running, yielded = 0, torch.zeros((), device=device), time.perf_counter()
        while done < config.updates:
            if inside is None:
                place = 0
            else:  # where it goes on
                rng.set_state(inside["order"])
            order = rng.get_state()
            batches = torch.randperm(len(dataset.train_x), generator=rng).split(config.batch_size)
            if inside is not None:
                rng.set_state(inside["now"])
                noises.set_state(inside["noises"])
                inside = None
            for index in batches[place:]:
                x = dataset.train_x[index.to(device)].float() / 127.5 - 1
                if x.shape[1:] != self.card.shape:
                    x = F.interpolate(x, self.card.shape[1:], mode="bilinear", antialias=True, align_corners=False)
                t = torch.randint(0, TIMES, (len(x),), generator=rng).to(device)
                noise = torch.randn(x.shape, generator=noises, device=noises.device).to(device)
                left_out = torch.rand(len(x), generator=rng) < config.unlabelled
                classes = torch.where(left_out.to(device), none, dataset.train_y[index.to(device)])
                running += update(x, noise, t, classes)
                rates.step()
                decay = min(config.average, (1 + done) / (10 + done))  # the first weights are soon forgotten
                with torch.no_grad():
                    torch._foreach_lerp_(list(averaged.parameters()), list(network.parameters()), 1 - decay)
                done, place, since = done + 1, place + 1, since + 1
                if done == config.updates or time.perf_counter() - yielded > SECONDS_BETWEEN_STEPS:
                    mean = running.item() / since
                    running.zero_()
                    since = 0
                    if done == config.updates:
                        self.model = DiffusionModel(self.card, averaged.eval())
                    elif self._halfway is not None and self._halfway.due:
                        tensors, rate = state_of(network, optimiser)
                        tensors |= {f"averaged.{k}": t for k, t in averaged.state_dict().items()}
                        tensors |= {"order": order, "now": rng.get_state(), "noises": noises.get_state()}
                        told = {"update": done, "place": place, "loss": mean, "rate": rate}
                        self._halfway.keep(Piece(told, tensors))
                    yield TrainStep(done, config.updates, mean)
                    yielded = time.perf_counter()
                if done == config.updates:
                    break


@dataclass(frozen=True, eq=False)
class Denoised:
    """One moment of a denoising.

    Attributes:
        step, total: solver steps that these images have had, of how many.
        x: the images as they are now (B, C, H, W), noise at first; [-1, 1] is black to white.
    """

    step: int
    total: int
    x: Tensor


class Denoising(Iterator[Denoised]):
    """Draws images of given classes; when it is exhausted, `images` holds them as uint8 (N, C, H, W).

    Args:
        model: what draws.
        labels: the class of each image (N,).
        steps: of the solver.
        guidance: g; 0 ignores the class, 1 is the model as it was trained, more makes images more typical.
        solver: "dpm" or "ddim".
        seed: of the noise.
        precision: number format of the network's products.
    """

    def __init__(
        self,
        model: DiffusionModel,
        labels: Tensor,
        *,
        steps: int = 15,
        guidance: float = 2.0,
        solver: str = "dpm",
        seed: int = 0,
        precision: str = "fp32",
    ):
        self.model, self.images = model, torch.empty(0)
        self._steps = self._loop(labels, steps, guidance, solver, generator(seed, NOISE_STREAM), precision)

    def __next__(self) -> Denoised:
        return next(self._steps)

    def _loop(
        self, labels: Tensor, steps: int, guidance: float, name: str, rng: torch.Generator, precision: str
    ) -> Iterator[Denoised]:
        card, network, device = self.model.card, self.model.network, labels.device
        x = torch.randn(len(labels), *card.shape, generator=rng).to(device)
        none = torch.full_like(labels, len(card.classes))
        schedule = solver(name)
        schedule.set_timesteps(steps)
        yield Denoised(0, steps, x)
        for number, t in enumerate(schedule.timesteps, start=1):
            with torch.no_grad(), devices.autocast(device, precision):
                if guidance == 1:
                    v = network(x, t, class_labels=labels).sample
                else:  # both in one batch
                    without, given = network(
                        x.repeat(2, 1, 1, 1), t, class_labels=torch.cat([none, labels])
                    ).sample.chunk(2)
                    v = without + guidance * (given - without)
            x = schedule.step(v.float(), t, x).prev_sample
            if number == steps:
                self.images = ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
            yield Denoised(number, steps, x)


def _version() -> str:
    import diffusers

    return diffusers.__version__
