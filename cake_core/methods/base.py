"""What a method is. `Inversion` optimises inputs directly; `Generative` trains a generator of inputs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..config import Config, param
from ..data import DatasetInfo
from ..rng import Streams, generator
from ..schedules import step_sizes
from ..synthetic import Problem

__all__ = ["Generative", "Inversion", "Method", "MethodConfig", "State", "Walk", "langevin"]


GENERATOR_STREAM = 2**31  # beyond any mini-batch's index


class MethodConfig(Config):
    """What every method has."""

    batches: int = param(
        10,
        low=1,
        high=10_000,
        scale="log",
        label="Mini-batches",
        symbol="M",
        group="Schedule",
        help="How many mini-batches of samples are made. Each has its own step size on the schedule.",
    )
    samples: int = param(
        200,
        low=1,
        high=20_000,
        scale="log",
        label="Samples per mini-batch",
        symbol="N",
        group="Schedule",
        help="Samples in one mini-batch; rounded up so that every group holds each class once.",
    )
    sigma: float = param(
        1.0,
        low=0.01,
        high=10.0,
        scale="log",
        label="Prior spread",
        symbol="σ",
        group="Schedule",
        help="Standard deviation of the noise that samples start from. Small: all start in one spot.",
    )

    @classmethod
    def shared(cls, presets: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Another method's presets without the settings that this one has not got, so that both get the same."""
        return {name: {k: v for k, v in preset.items() if k in cls.model_fields} for name, preset in presets.items()}


@dataclass
class State:
    """Mini-batches in flight.

    Attributes:
        problem: what is asked.
        x: what is moved: samples (M, B, G, *shape), or a generator's latents.
        y: steering labels (M, B, G).
        logits: the teacher's latest logits (M, B, G, C), if it was asked about these samples.
        gradient: the latest gradient with respect to x, if there was one.
        eta, eta_of: step sizes, and the settings they were made from.
        generator: the generator in training, for methods that have one.
    """

    problem: Problem
    x: Tensor
    y: Tensor
    logits: Tensor | None = None
    gradient: Tensor | None = None
    eta: Tensor | None = None
    eta_of: MethodConfig | None = None
    generator: Generator | None = None


class Method(ABC):
    """A way to make samples that teach a student what a teacher knows.

    A method holds its settings and nothing else: what changes lives in the `State`, randomness in the `Streams`.
    The loop around it (`cake_core.synthesis`) is the same for all.

    Attributes:
        name: as in the URL and on the command line.
        title: for people.
        summary: one sentence for people.
        equation: what one step does, in LaTeX.
        reference: where it comes from.
        access: what it needs of the teacher: "logits", "gradient", ...
        control: whether it is a control, shown beside the methods rather than among them.
        whole: whether all mini-batches must be in flight at once (because they share a generator).
        Config: its settings.
        presets: defaults that differ for a data set, or for a kind of data ("points", "images"), by name.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    equation: ClassVar[str]
    reference: ClassVar[str]
    access: ClassVar[frozenset[str]]
    control: ClassVar[bool] = False
    whole: ClassVar[bool] = False
    Config: ClassVar[type[MethodConfig]] = MethodConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    def __init__(self, config: MethodConfig | None = None):
        self.config = config if config is not None else self.Config()

    @property
    def config(self) -> MethodConfig:
        """The settings. Replacing them between two steps is how a run is edited while it goes on."""
        return self._config

    @config.setter
    def config(self, config: MethodConfig) -> None:
        self._config = config
        # The weight of each loss term: every setting `weight_<term>`.
        self.weights = {k.removeprefix("weight_"): v for k, v in config if k.startswith("weight_")}

    @classmethod
    def config_for(cls, data: DatasetInfo | None = None, **settings: Any) -> MethodConfig:
        """The default settings for a data set (the kind's preset, then the set's own), with some changed.

        Raises:
            CakeError: a setting is unknown or out of bounds.
        """
        names = data.preset_names if data else ()
        defaults = {k: v for name in names for k, v in cls.presets.get(name, {}).items()}
        return cls.Config.from_dict({**defaults, **settings})

    @property
    def steps(self) -> int:
        """Steps that each mini-batch takes."""
        return getattr(self.config, "steps", 0)

    @abstractmethod
    def init(self, problem: Problem, rng: Streams) -> State:
        """The start: samples from the prior and their steering labels."""

    @abstractmethod
    def step(self, state: State, rng: Streams) -> dict[str, Tensor]:
        """One step, in place; returns the unweighted loss terms by name, each summed over a mini-batch (M,)."""

    def positions(self, state: State) -> Tensor:
        """The samples as they are now, (M, B, G, *shape)."""
        return state.x

    def samples(self, state: State) -> tuple[Tensor, Tensor]:
        """The outcome: samples (M, N, *shape) and the teacher's probabilities for them (M, N, C)."""
        x = self.positions(state).detach().flatten(1, 2)  # (M, N, *shape)
        with torch.no_grad():
            logits = state.problem.teacher(x.flatten(0, 1))
        return x, logits.softmax(dim=-1).view(*x.shape[:2], -1)

    # -- shared by those that start from Gaussian noise ----------------------------------------------------------

    def groups(self, problem: Problem) -> tuple[int, int]:
        """(B, G): groups in a mini-batch, and samples in a group; one sample of each class as far as they go."""
        group = min(problem.classes, self.config.samples)
        return math.ceil(self.config.samples / group), group

    def prior(self, problem: Problem, rng: Streams) -> State:
        """x ~ N(0, sigma^2 I); in each group the labels are the first G of a random order of all classes."""
        b, g = self.groups(problem)
        x = self.config.sigma * rng.normal(b, g, *problem.shape)
        y = rng.permutations(b, problem.classes)[..., :g]
        return State(problem, x, y)


class WalkConfig(MethodConfig):
    """What methods have that move samples step by step."""

    steps: int = param(
        200,
        low=1,
        high=20_000,
        scale="log",
        symbol="T",
        group="Schedule",
        help="Steps that every mini-batch takes.",
    )
    step_size: float = param(
        0.1,
        low=1e-5,
        high=10.0,
        scale="log",
        symbol="η",
        live=True,
        group="Schedule",
        help="How far a sample moves along its gradient in the first mini-batch.",
    )
    decades: float = param(
        0.0,
        low=0.0,
        high=8.0,
        step=0.1,
        label="Decay",
        unit="decades",
        symbol="D",
        live=True,
        group="Schedule",
        help="By how many powers of ten the step size falls from the first mini-batch to the last: "
        "early ones travel far, late ones stay near the noise they came from.",
    )
    schedule: Literal["linear", "cosine"] = param(
        "linear",
        live=True,
        group="Advanced",
        help="How the exponent of the step size falls over the mini-batches.",
    )


class Walk(Method):
    """A method whose samples walk from the prior, with one step size for each mini-batch."""

    Config = WalkConfig

    def init(self, problem: Problem, rng: Streams) -> State:
        return self.prior(problem, rng)

    def step_sizes(self, state: State, rng: Streams) -> Tensor:
        """eta_m of the mini-batches in flight, shaped to broadcast against x."""
        c = self.config
        if state.eta is None or state.eta_of is not c:  # made once, not at each step: it is a copy to the device
            etas = step_sizes(c.step_size, c.decades, rng.batches, state.problem.batches, c.schedule)
            state.eta = torch.tensor(etas, device=state.x.device).view(-1, *(1,) * (state.x.dim() - 1))
            state.eta_of = c
        return state.eta


def langevin(x: Tensor, eta: Tensor, temperature: float, rng: Streams) -> None:
    """x <- x + sqrt(2 eta tau) xi with xi ~ N(0, I): the noise of one Langevin step, in place."""
    x += (2 * temperature * eta).sqrt() * rng.noise(*x.shape[1:])


class InversionConfig(WalkConfig):
    """What methods have that follow a gradient."""

    clip: float = param(
        0.0,
        low=0.0,
        high=100.0,
        scale="log",
        label="Gradient clip",
        live=True,
        group="Advanced",
        help="Longest gradient that one sample may have; longer ones are shortened to it. 0 switches this off.",
    )


class Inversion(Walk):
    """x <- x - eta_m clip(grad_x L): plain gradient descent on the inputs. Subclasses write `losses`."""

    access = frozenset({"logits", "gradient"})
    Config = InversionConfig

    @abstractmethod
    def losses(self, z: Tensor, y: Tensor, x: Tensor) -> dict[str, Tensor]:
        """The loss terms by name, each summed over a mini-batch (M,). A term's weight is the setting weight_<name>.

        Args:
            z: logits (M, B, G, C).
            y: steering labels (M, B, G).
            x: samples (M, B, G, *shape).
        """

    def step(self, state: State, rng: Streams) -> dict[str, Tensor]:
        x = state.x.detach().requires_grad_()
        z = state.problem.teacher(x.flatten(0, 2)).unflatten(0, x.shape[:3])  # (M, B, G, C)
        terms = self.losses(z, state.y, x)
        (grad,) = torch.autograd.grad(sum(self.weights[k] * v.sum() for k, v in terms.items()), x)
        if self.config.clip > 0:
            length = grad.flatten(3).norm(dim=-1).view(*grad.shape[:3], *(1,) * len(state.problem.shape))
            grad *= (self.config.clip / length).clamp_(max=1)  # a zero gradient stays zero: clip / 0 = inf -> 1
        state.x = x.detach().addcmul_(grad, self.step_sizes(state, rng), value=-1)
        state.logits, state.gradient = z.detach(), grad
        return {k: v.detach() for k, v in terms.items()}


class GenerativeConfig(MethodConfig):
    """What methods have that train a generator."""

    steps: int = param(
        3000,
        low=1,
        high=200_000,
        scale="log",
        symbol="T",
        group="Schedule",
        help="Training steps of the generator.",
    )
    learning_rate: float = param(
        1e-3,
        low=1e-6,
        high=1.0,
        scale="log",
        live=True,
        group="Schedule",
        help="Step size of Adam on the generator's weights.",
    )


@dataclass
class Generator:
    """A generator in training: the network, its optimiser, and the stream its training batches are drawn from."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    rng: torch.Generator


class Generative(Method):
    """theta <- theta - Adam(grad_theta L): a generator is trained through the teacher. Subclasses write `build`,
    `decode` and `losses`. The samples are the generator's outputs for latents that are drawn once.
    """

    access = frozenset({"logits", "gradient"})
    whole = True
    Config = GenerativeConfig

    @abstractmethod
    def build(self, problem: Problem) -> nn.Module:
        """A fresh generator."""

    @abstractmethod
    def latents(self, problem: Problem, rng: Streams) -> Tensor:
        """Latents for the samples that are shown and delivered, (M, B, ...)."""

    @abstractmethod
    def decode(self, network: nn.Module, latents: Tensor, y: Tensor) -> Tensor:
        """Samples (M, B, G, *shape) of latents (M, B, ...) and labels (M, B, G)."""

    @abstractmethod
    def losses(self, state: State) -> dict[str, Tensor]:
        """The loss terms by name on one fresh training batch, each a mean over its samples: a scalar."""

    def init(self, problem: Problem, rng: Streams) -> State:
        b, g = self.groups(problem)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(rng.seed)
            network = self.build(problem).to(problem.device)
        # One generator serves all mini-batches, so its training draws from a stream of its own.
        training = Generator(
            network,
            torch.optim.Adam(network.parameters(), lr=self.config.learning_rate),
            generator(rng.seed, GENERATOR_STREAM, device=problem.device),
        )
        latents = self.latents(problem, rng)
        y = rng.permutations(b, problem.classes)[..., :g]
        return State(problem, x=latents, y=y, generator=training)

    def step(self, state: State, rng: Streams) -> dict[str, Tensor]:
        optimiser = state.generator.optimiser
        terms = self.losses(state)
        parameters = list(state.generator.network.parameters())
        grads = torch.autograd.grad(sum(self.weights[k] * v for k, v in terms.items()), parameters)
        for p, grad in zip(parameters, grads, strict=True):
            p.grad = grad
        for group in optimiser.param_groups:
            group["lr"] = self.config.learning_rate
        optimiser.step()
        return {k: (v.detach() * state.y[0].numel()).expand(len(state.y)) for k, v in terms.items()}

    def positions(self, state: State) -> Tensor:
        with torch.no_grad():
            return self.decode(state.generator.network, state.x, state.y)
