"""The supervised loop that trains teachers and students, as an iterator."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import devices, graphs
from .config import Config, param
from .devices import PRECISIONS
from .errors import CakeError
from .pieces import Halfway, Piece
from .rng import generator

__all__ = ["TrainConfig", "TrainStep", "Training", "augmented", "optimiser_of", "put_back", "state_of", "train"]

SECONDS_BETWEEN_STEPS = 0.03  # of the iterator: short enough for a pause to be felt at once


class TrainConfig(Config):
    """How a network is trained."""

    updates: int = param(
        2000,
        low=1,
        high=1_000_000,
        scale="log",
        group="Student",
        help="Gradient steps on the network's weights. Fixed in number, so that sets of different sizes get the same.",
    )
    batch_size: int = param(64, low=1, high=8192, scale="log", group="Student", help="Examples in one gradient step.")
    optimizer: Literal["adam", "sgd"] = param(
        "adam", group="Student", help="Adam (decoupled weight decay), or SGD with Nesterov momentum 0.9."
    )
    learning_rate: float = param(
        0.01,
        low=1e-6,
        high=10.0,
        scale="log",
        group="Student",
        help="Highest learning rate; one cycle rises to it over the first third and falls to almost nothing.",
    )
    weight_decay: float = param(
        1e-4, low=0.0, high=1.0, scale="log", group="Student", help="Pull of all weights toward zero."
    )
    shift: int = param(
        0,
        low=0,
        high=8,
        unit="pixels",
        group="Student",
        suits="images",
        help="Images are moved by up to so many pixels in each direction while training, a batch at a time.",
    )
    precision: str = param(
        "fp32",
        choices=PRECISIONS,
        group="Advanced",
        help="Number format of the network's products. bf16 is faster on GPUs and some CPUs, and keeps 3 digits of 7.",
    )
    crop: int = param(
        0,
        low=0,
        high=16,
        unit="pixels",
        group="Student",
        suits="images",
        help="As the shift, but each image by its own offset and with a black border: usual for small photos.",
    )
    flip: bool = param(
        False,
        group="Student",
        suits="images",
        help="Half of the images, newly chosen each time, are mirrored left to right while training.",
    )


@dataclass(frozen=True)
class TrainStep:
    """Where a training is: updates done and in all, and the mean loss since the step before."""

    update: int
    total: int
    loss: float


def train(
    network: nn.Module,
    x: Tensor,
    targets: Tensor,
    config: TrainConfig,
    *,
    seed: int = 0,
    inputs: Callable[[Tensor], Tensor] = lambda x: x,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    every: int = 0,
    repeats: bool = True,
    halfway: Halfway | None = None,
) -> Training:
    """Trains a network in place; yields every few hundredths of a second and at the end.

    Every epoch goes through the examples in a new random order that depends on the seed alone. The learning rate
    follows one cycle (start at 1/25 of the highest, end at 1e-4 of the start), as in the CAKE paper.

    Args:
        network: maps inputs (B, *shape) to logits (B, C); it is on the device of x.
        x: examples (N, *shape), raw where `inputs` normalises them.
        targets: labels (N,) int64, or probabilities (N, C), or what else `loss` takes, one row for each example.
        config: how.
        seed: order of the examples and their shifts.
        inputs: turns a batch of x into what the network takes.
        loss: of a batch's logits (B, C) and its targets, a mean over the batch.
        every: yields also after every so many updates (0: only when it is time).
        repeats: whether `loss` is the same work for every batch, without a question to the device; then a CUDA device
            plays updates from a recording.
        halfway: where it is stored every so often, and from where it goes on: first it yields once more the step that
            was stored, then those behind it, with the same weights as if it had never stopped.

    Raises:
        CakeError: there are no examples, or the loss is not finite.
    """
    return Training(network, x, targets, config, seed, inputs, loss, every, repeats, halfway)


class Training(Iterator[TrainStep]):
    """A training in progress; see `train`."""

    def __init__(
        self,
        network: nn.Module,
        x: Tensor,
        targets: Tensor,
        config: TrainConfig,
        seed: int,
        inputs: Callable[[Tensor], Tensor],
        loss: Callable[[Tensor, Tensor], Tensor],
        every: int,
        repeats: bool,
        halfway: Halfway | None,
    ):
        self._network, self._config, self._loss, self._halfway = network, config, loss, halfway
        self._device = x.device
        self._optimiser: torch.optim.Optimizer | None = None
        self._rng = generator(seed, TRAINING_STREAM)
        self._order, self._place, self._done, self._mean = self._rng.get_state(), 0, 0, 0.0
        self._inside: Tensor | None = None  # the state of the random numbers where it goes on in an epoch
        self._steps = self._loop(x, targets, inputs, every, repeats)

    def __next__(self) -> TrainStep:
        return next(self._steps)

    def close(self) -> None:
        """Ends it where it is."""
        self._steps.close()

    def moment(self) -> Piece | None:
        """All that it takes to go on behind the step that was yielded last; None before the first one.

        Of a training that is done, the weights alone.
        """
        if not self._done:
            return None
        values = {"update": self._done, "loss": self._mean}
        if self._done == self._config.updates:
            return Piece(values, {f"network.{k}": t for k, t in self._network.state_dict().items()})
        tensors, rate = state_of(self._network, self._optimiser)
        tensors |= {"order": self._order, "now": self._rng.get_state()}
        return Piece({**values, "place": self._place, "rate": rate}, tensors)

    def go_on(self, moment: Piece) -> None:
        """Goes on from a moment, before the first step is asked for; the next step is the one behind it."""
        self._begin()
        self._restore(moment)

    def store(self) -> None:
        """Stores where it is, if it is stored at all."""
        if self._halfway is not None and (moment := self.moment()) is not None:
            self._halfway.keep(moment)

    def _loop(
        self, x: Tensor, targets: Tensor, inputs: Callable[[Tensor], Tensor], every: int, repeats: bool
    ) -> Iterator[TrainStep]:
        if not len(x):
            raise CakeError("There is nothing to train on: the set of examples is empty.")
        network, config, device, rng = self._network, self._config, x.device, self._rng
        if self._optimiser is None:
            self._begin()
            if self._halfway is not None and (moment := self._halfway.begun()) is not None:
                self._restore(moment)
                yield TrainStep(self._done, config.updates, self._mean)
        optimiser, schedule = self._optimiser, self._schedule

        def work(batch: Tensor, wanted: Tensor) -> Tensor:
            with devices.autocast(device, config.precision):
                value = self._loss(network(batch), wanted)
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            optimiser.step()
            return value.detach()

        update = graphs.Update(work, recorded=repeats and device.type == "cuda")
        since, running, yielded = 0, torch.zeros((), device=device), time.perf_counter()
        while self._done < config.updates:
            batches = self._epoch(len(x), device)
            for index in batches[self._place :]:
                raw = x[index]
                if raw.dim() == 4 and (config.crop or config.flip):
                    raw = augmented(raw, config.crop, config.flip, rng)
                batch = inputs(raw)
                if config.shift and batch.dim() == 4:
                    batch = _shifted(batch, config.shift, rng)
                running += update(batch, targets[index])
                schedule.step()
                self._done, self._place, since = self._done + 1, self._place + 1, since + 1
                last = self._done == config.updates
                asked = every and self._done % every == 0
                if last or asked or time.perf_counter() - yielded > SECONDS_BETWEEN_STEPS:
                    self._mean = mean = running.item() / since  # the only wait for the device
                    if mean != mean or mean in (float("inf"), float("-inf")):
                        raise CakeError("The training diverged: the loss is not finite. Lower the learning rate.")
                    running.zero_()
                    since = 0
                    if last:
                        network.eval()
                    if self._halfway is not None and (last or self._halfway.due):
                        self.store()
                    yield TrainStep(self._done, config.updates, mean)
                    yielded = time.perf_counter()
                if last:
                    break

    def _begin(self) -> None:
        """What the first update needs."""
        config = self._config
        self._optimiser = optimiser_of(
            self._network, config.learning_rate, config.weight_decay, self._device, config.optimizer
        )
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser, config.learning_rate, total_steps=config.updates + 1, div_factor=25, final_div_factor=1e4,
            cycle_momentum=False,
        )  # fmt: skip
        self._network.to(memory_format=torch.channels_last).train()

    def _epoch(self, count: int, device: torch.device) -> tuple[Tensor, ...]:
        """The positions of each batch of the epoch that it is in, or of the next one."""
        size = self._config.batch_size
        if self._inside is not None:  # where it goes on, and at its end at the latest
            self._rng.set_state(self._order)
        else:
            self._order, self._place = self._rng.get_state(), 0
        batches = torch.randperm(count, generator=self._rng).to(device).split(size)
        if self._inside is not None:
            self._rng.set_state(self._inside)
            self._inside = None
        return batches

    def _restore(self, moment: Piece) -> None:
        """Puts everything back as it was at a moment."""
        values, tensors = moment.values, moment.tensors
        self._done, self._mean = values["update"], values["loss"]
        if self._done == self._config.updates:
            put_back(self._network, moment)
            self._network.eval()
            return
        put_back(self._network, moment, self._optimiser, self._schedule)
        self._place, self._order, self._inside = values["place"], tensors["order"], tensors["now"]


TRAINING_STREAM = 2**31 + 1


def optimiser_of(
    network: nn.Module, learning_rate: float, weight_decay: float, device: torch.device, kind: str = "adam"
) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov momentum 0.9; on CUDA such that its steps can be recorded.

    Args:
        network: whose weights.
        learning_rate: to begin with; on CUDA it is a tensor, so that a recorded step follows its changes.
        weight_decay: pull of the weights toward zero.
        device: where the weights are.
        kind: "adam" or "sgd".
    """
    cuda = device.type == "cuda"
    common = {
        "lr": torch.tensor(learning_rate, device=device) if cuda else learning_rate,
        "weight_decay": weight_decay,
        "fused": device.type in ("cpu", "cuda"),
    }
    if kind == "adam":
        return torch.optim.AdamW(network.parameters(), **common, capturable=cuda)
    return torch.optim.SGD(network.parameters(), **common, momentum=0.9, nesterov=True)


def state_of(network: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], float]:
    """All that the next step of a training depends on, but for its random numbers: tensors by name, and the step size.

    Args:
        network: what learns.
        optimiser: of its weights, in one group.
    """
    tensors = {f"network.{k}": t for k, t in network.state_dict().items()}
    for number, weight in enumerate(network.parameters()):
        tensors |= {f"optimiser.{number}.{k}": t for k, t in optimiser.state[weight].items()}
    return tensors, float(optimiser.param_groups[0]["lr"])


def put_back(
    network: nn.Module,
    moment: Piece,
    optimiser: torch.optim.Optimizer | None = None,
    schedule: torch.optim.lr_scheduler.OneCycleLR | None = None,
) -> None:
    """The inverse of `state_of`.

    Args:
        network: whose weights are replaced.
        moment: with the tensors, and the values "update" and "rate".
        optimiser, schedule: before their first step; None where nothing more is learned.
    """
    tensors = moment.tensors
    network.load_state_dict({k.partition(".")[2]: t for k, t in tensors.items() if k.startswith("network.")})
    if optimiser is None:
        return
    for number, weight in enumerate(network.parameters()):
        start = f"optimiser.{number}."
        for key in [k for k in tensors if k.startswith(start)]:
            kept = tensors[key].to(weight.device)
            if kept.shape == weight.shape and key != f"{start}step":  # as the weights lie in memory
                kept = torch.empty_like(weight.detach()).copy_(kept)
            optimiser.state[weight][key.removeprefix(start)] = kept
    for group in optimiser.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(moment.values["rate"])
        else:
            group["lr"] = moment.values["rate"]
    schedule.last_epoch = moment.values["update"]
    schedule._step_count = schedule.last_epoch + 1


def augmented(x: Tensor, crop: int, flip: bool, rng: torch.Generator) -> Tensor:
    """Each image moved by its own random offset, with zeros beyond the border, and mirrored with probability 1/2.

    One gather on the device of x, whatever the number of images.

    Args:
        x: images (B, C, H, W), raw or normalised.
        crop: pixels to move by at most in each direction.
        flip: whether to mirror.
        rng: on the CPU, so that the draws do not depend on the device.
    """
    count, _, height, width = x.shape
    offsets = torch.randint(0, 2 * crop + 1, (2, count, 1), generator=rng).to(x.device, non_blocking=True)
    rows = offsets[0] + torch.arange(height, device=x.device)  # (B, H)
    columns = offsets[1] + torch.arange(width, device=x.device)  # (B, W)
    if flip:
        mirrored = (torch.rand(count, 1, generator=rng) < 0.5).to(x.device, non_blocking=True)
        columns = torch.where(mirrored, columns.flip(1), columns)
    padded = F.pad(x, (crop,) * 4).permute(0, 2, 3, 1)  # (B, H + 2 crop, W + 2 crop, C)
    which = torch.arange(count, device=x.device)[:, None, None]
    return padded[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _shifted(x: Tensor, most: int, rng: torch.Generator) -> Tensor:
    """The whole batch moved by one random offset of up to `most` pixels; the border is repeated."""
    dy, dx = torch.randint(0, 2 * most + 1, (2,), generator=rng).tolist()
    height, width = x.shape[-2:]
    return F.pad(x, (most,) * 4, mode="replicate")[..., dy : dy + height, dx : dx + width]
