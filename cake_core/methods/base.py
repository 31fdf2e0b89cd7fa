"""What a method is. `Inversion` optimises inputs directly; `Generative` trains a generator of inputs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import generators
from ..config import Config, param
from ..data import DatasetInfo
from ..errors import CakeError
from ..evaluation import in_eval_mode
from ..rng import Streams, generator
from ..schedules import step_sizes
from ..synthetic import Problem

__all__ = [
    "Failure",
    "FreeGenerative",
    "Generative",
    "Inversion",
    "Method",
    "MethodConfig",
    "State",
    "Walk",
    "cut_out",
    "descent",
    "langevin",
    "mixed_noise",
    "smooth_noise",
]


GENERATOR_STREAM = 2**31  # beyond any mini-batch's index
NET = 21  # points along each side of the net that a generator shows
SHOWN = 64  # images that a generator shows while it is trained, at least


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
        t: steps done.
        extra: what else a method needs to remember, by name.
    """

    problem: Problem
    x: Tensor
    y: Tensor
    logits: Tensor | None = None
    gradient: Tensor | None = None
    eta: Tensor | None = None
    eta_of: MethodConfig | None = None
    generator: Generator | None = None
    t: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """A known failure of a method, and an experiment that shows it.

    Attributes:
        title: a few words.
        text: what one sees and why, for people.
        query: the experiment, as the keys of a URL (without the method).
    """

    title: str
    text: str
    query: dict[str, str]


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
        access: what it needs of the teacher, keys of `oracle.ACCESS`.
        family: what kind of method it is, for people.
        student_in_loop: whether a student learns while samples are made.
        control: whether it is a control, shown beside the methods rather than among them.
        whole: whether all mini-batches must be in flight at once (because they share a generator).
        steered: whether samples are made for given classes. Where not, their labels are the teacher's answers.
        own_targets: whether the student's targets are the method's own, not the teacher's probabilities as they are.
        tracks: whether samples have a way that can be followed, from their start to their end.
        glance: samples are shown anew after so many steps, where making them costs as much as a step.
        drawn: what the lines are that it draws among points (`lines`), for people; empty where it draws none.
        Config: its settings.
        presets: defaults that differ for a data set, or for a kind of data ("points", "images"), by name.
        fixed_weights: weights of loss terms that are no settings.
        student: settings of the student that belong to the method (its temperature), by the same names ("" for
            all data).
        failures: what it is known to fail at.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    equation: ClassVar[str]
    reference: ClassVar[str]
    access: ClassVar[frozenset[str]]
    family: ClassVar[str] = "Noise"
    student_in_loop: ClassVar[bool] = False
    control: ClassVar[bool] = False
    whole: ClassVar[bool] = False
    steered: ClassVar[bool] = True
    own_targets: ClassVar[bool] = False
    tracks: ClassVar[bool] = True
    glance: ClassVar[int] = 1
    drawn: ClassVar[str] = ""
    Config: ClassVar[type[MethodConfig]] = MethodConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    fixed_weights: ClassVar[dict[str, float]] = {}
    student: ClassVar[dict[str, dict[str, Any]]] = {}
    failures: ClassVar[tuple[Failure, ...]] = ()

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
        settings = {k.removeprefix("weight_"): v for k, v in config if k.startswith("weight_")}
        self.weights = {**self.fixed_weights, **settings}

    @classmethod
    def config_for(cls, data: DatasetInfo | None = None, /, **settings: Any) -> MethodConfig:
        """The default settings for a data set (the kind's preset, then the set's own), with some changed.

        Raises:
            CakeError: a setting is unknown or out of bounds.
        """
        names = data.preset_names if data else ()
        defaults = {k: v for name in names for k, v in cls.presets.get(name, {}).items()}
        return cls.Config.from_dict({**defaults, **settings})

    @classmethod
    def student_for(cls, data: DatasetInfo) -> dict[str, Any]:
        """What the method wants of the student for a data set, beside the data set's own defaults."""
        return {k: v for name in ("", *data.preset_names) for k, v in cls.student.get(name, {}).items()}

    @property
    def steps(self) -> int:
        """Steps that each mini-batch takes."""
        return getattr(self.config, "steps", 0)

    @property
    def repeats(self) -> bool:
        """Whether each step is the same work on the same tensors, with no random numbers and nothing that counts."""
        return False

    @property
    def delivered(self) -> int:
        """Samples that come of each one that is begun: more than one where several moments of its way are kept."""
        return 1

    @abstractmethod
    def init(self, problem: Problem, rng: Streams) -> State:
        """The start: samples from the prior and their steering labels."""

    @abstractmethod
    def step(self, state: State, rng: Streams) -> dict[str, Tensor]:
        """One step, in place; returns the unweighted loss terms by name, each summed over a mini-batch (M,)."""

    def positions(self, state: State) -> Tensor:
        """The samples as they are now, (M, B, G, *shape); of a generator those that are shown, (M' <= M, ...)."""
        return state.x

    def samples(self, state: State) -> tuple[Tensor, Tensor]:
        """The outcome: samples (M, N, *shape) and the teacher's probabilities for them (M, N, C)."""
        x = self.positions(state).detach().flatten(1, 2)
        return x, self.answers(state, x)

    @torch.no_grad()
    def answers(self, state: State, x: Tensor) -> Tensor:
        """The teacher's probabilities (M, N, C) for samples (M, N, *shape); each is a forward call."""
        return state.problem.teacher(x.flatten(0, 1)).softmax(dim=-1).view(*x.shape[:2], -1)

    def labels(self, state: State) -> Tensor:
        """The steering labels (M, N) of what `samples` returns."""
        return state.y.flatten(1)

    def lines(self, state: State) -> Tensor | None:
        """Lines (K, 2, 2) that show on points how the method works, from and to; None where there are none yet."""
        return None

    # -- shared by those that start from Gaussian noise ----------------------------------------------------------

    def groups(self, problem: Problem) -> tuple[int, int]:
        """(B, G): groups in a mini-batch, and samples in a group; one sample of each class as far as they go."""
        group = min(problem.classes, self.config.samples)
        return math.ceil(self.config.samples / group), group

    def prior(self, problem: Problem, rng: Streams) -> State:
        """x ~ N(0, sigma^2 I); in each group the labels are the first G of a random order of all classes."""
        b, g = self.groups(problem)
        x = self.config.sigma * rng.normal(b, g, *problem.shape)
        return State(problem, x, self.orders(problem, rng))

    def orders(self, problem: Problem, rng: Streams) -> Tensor:
        """Steering labels (M, B, G): in each group the first G of a random order of all classes."""
        b, g = self.groups(problem)
        return rng.permutations(b, problem.classes)[..., :g]


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

    family = "Moves samples"
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


def mixed_noise(problem: Problem, rng: Streams, count: int, sigma: float) -> Tensor:
    """Noise (M, count, *shape) of mixed strength and, for images, of mixed grain: more classes occur in it than in
    white noise. A sample's strength is sigma times a number from U[0, 2); of four images one is made of 8 x 8 coarse
    pixels and one of 4 x 4, smoothly enlarged, the others of their own; all have a level of their own besides."""
    x = rng.normal(count, *problem.shape)
    strength = 2 * rng.uniform(count, *(1,) * len(problem.shape))
    if len(problem.shape) == 3:
        level = rng.normal(count, problem.shape[0], 1, 1)
        grain = rng.uniform(count, 1, 1, 1)
        flat = x.flatten(0, 1)
        for size, share in ((4, 0.5), (8, 0.25)):
            coarse = F.interpolate(F.adaptive_avg_pool2d(flat, size), problem.shape[1:], mode="bilinear")
            coarse = coarse / coarse.std(dim=(1, 2, 3), keepdim=True).clamp_min(1e-6)
            x = torch.where(grain < share, coarse.view(x.shape), x)
        x = x + 0.5 * level
    return sigma * strength * x


def smooth_noise(shape: tuple[int, ...], rng: Streams, count: int, size: int) -> Tensor:
    """Images (M, count, *shape) of coarse noise: size x size numbers from N(0, 1) a channel, enlarged bicubically.

    Raises:
        CakeError: the shape is that of points.
    """
    if len(shape) != 3:
        raise CakeError("Only images can be cut out in shapes; switch it off for points.")
    coarse = rng.normal(count, shape[0], size, size)
    return F.interpolate(coarse.flatten(0, 1), shape[1:], mode="bicubic").unflatten(0, coarse.shape[:2])


def cut_out(x: Tensor, rng: Streams) -> Tensor:
    """Images cut out in shapes of their own, brighter or not, on plain ground: things before a wall.

        m (r x) + (1 - m) c,     m = sigmoid(10 u),  r = 4^v,  v ~ U[0, 1),  c ~ N(0, 0.7^2)

    with u smooth noise of 4 x 4 numbers; r, and c for each channel, are one number for each image.

    Args:
        x: images (M, N, channels, H, W) in the network's units, in which real inputs have standard deviation 1.
        rng: the streams of their mini-batches.

    Returns:
        As many images.

    Raises:
        CakeError: they are points.
    """
    n, channels = x.shape[1:3]
    mask = torch.sigmoid(10 * smooth_noise((1, *x.shape[3:]), rng, n, 4))
    ground = 0.7 * rng.normal(n, channels, 1, 1)
    return mask * (x * 4 ** rng.uniform(n, 1, 1, 1)) + (1 - mask) * ground


def langevin(x: Tensor, eta: Tensor, temperature: float, rng: Streams) -> None:
    """x <- x + sqrt(2 eta tau) xi with xi ~ N(0, I): the noise of one Langevin step, in place."""
    x += (2 * temperature * eta).sqrt() * rng.noise(*x.shape[1:])


Optimizer = Literal["sgd", "momentum", "adam"]


def descent(default: Optimizer) -> Any:
    """Declares how a gradient becomes a step; methods differ in their default."""
    return param(
        default,
        group="Advanced",
        help="sgd: a step is the gradient times the step size. momentum: what earlier gradients have added up to, each "
        "weighing a tenth less with every step, is followed instead; the step size has to be about ten times smaller. "
        "adam: each pixel or coordinate moves about one step size, however small its gradient.",
    )


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
    optimizer: Optimizer = descent("sgd")


class Inversion(Walk):
    """x <- x - eta_m d, where d is the gradient of L, clipped, or what momentum or Adam make of it. Subclasses write
    `losses`, or `objective` where the terms need more than logits and labels.
    """

    access = frozenset({"logits", "gradient"})
    Config = InversionConfig

    @property
    def repeats(self) -> bool:
        mine = type(self)
        plain = mine.step is Inversion.step and mine.offsets is Inversion.offsets  # no noise, no rolling
        return plain and self.config.optimizer == "sgd"  # the others remember

    @abstractmethod
    def losses(self, state: State, x: Tensor, z: Tensor) -> dict[str, Tensor]:
        """The loss terms by name, each summed over a mini-batch (M,). A term's weight is the setting weight_<name>.

        Args:
            state: with the steering labels y (M, B, G).
            x: samples (M, B, G, *shape), through which the gradient goes.
            z: logits (M, B, G, C) for them.
        """

    def offsets(self, state: State) -> Tensor | None:
        """By how many pixels (M, 2) the images of each mini-batch are rolled for this step; None for not at all."""
        return None

    def objective(self, state: State, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (M, B, G, C) of samples x (M, B, G, *shape), and the loss terms as `losses` returns them."""
        z = state.problem.teacher(x.flatten(0, 2)).unflatten(0, x.shape[:3])
        return z, self.losses(state, x, z)

    def step(self, state: State, rng: Streams) -> dict[str, Tensor]:
        by = self.offsets(state)
        x = (state.x if by is None else rolled(state.x, by)).detach().requires_grad_()
        z, terms = self.objective(state, x)
        (grad,) = torch.autograd.grad(sum(self.weights[k] * v.sum() for k, v in terms.items()), x)
        if self.config.clip > 0:
            length = grad.flatten(3).norm(dim=-1).view(*grad.shape[:3], *(1,) * len(state.problem.shape))
            grad *= (self.config.clip / length).clamp_(max=1)  # a zero gradient stays zero: clip / 0 = inf -> 1
        if by is not None:
            grad = rolled(grad, -by)
        state.t += 1
        move = DESCENTS[self.config.optimizer](state, grad)
        state.x = state.x.detach().addcmul_(move, self.step_sizes(state, rng), value=-1)
        state.logits, state.gradient = z.detach(), grad
        return {k: v.detach() for k, v in terms.items()}


def rolled(x: Tensor, by: Tensor) -> Tensor:
    """Images (M, ..., H, W), those of each mini-batch rolled by its own offset (M, 2): one gather, no loop."""
    height, width = x.shape[-2:]
    rows = (torch.arange(height, device=x.device) - by[:, :1]) % height  # (M, H)
    columns = (torch.arange(width, device=x.device) - by[:, 1:]) % width
    pixels = (rows[:, :, None] * width + columns[:, None, :]).view(len(x), 1, -1)  # (M, 1, H W)
    flat = x.reshape(len(x), -1, height * width)
    return flat.gather(2, pixels.expand_as(flat)).view(x.shape)


def adam(state: State, grad: Tensor, betas: tuple[float, float] = (0.9, 0.999)) -> Tensor:
    """What Adam makes of a gradient, elementwise: m / (sqrt(v) + 1e-8) with the usual correction of both means for the
    first `state.t` steps. The means live in `state.extra`.

    Source: Kingma and Ba (2015), arXiv 1412.6980, algorithm 1.
    """
    m = state.extra.setdefault("adam_m", torch.zeros_like(grad)).lerp_(grad, 1 - betas[0])
    v = state.extra.setdefault("adam_v", torch.zeros_like(grad)).lerp_(grad.square(), 1 - betas[1])
    return (m / (1 - betas[0] ** state.t)).div_((v / (1 - betas[1] ** state.t)).sqrt_().add_(1e-8))


def momentum(state: State, grad: Tensor, beta: float = 0.9) -> Tensor:
    """v <- beta v + gradient, elementwise; v lives in `state.extra`.

    Source: Polyak (1964), in the form of torch.optim.SGD.
    """
    if "velocity" not in state.extra:
        state.extra["velocity"] = grad.clone()
        return state.extra["velocity"]
    return state.extra["velocity"].mul_(beta).add_(grad)


DESCENTS: dict[Optimizer, Callable[[State, Tensor], Tensor]] = {
    "sgd": lambda state, grad: grad,
    "momentum": momentum,
    "adam": adam,
}


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
    `latents`, `decode` and `losses`. The samples are the generator's outputs for latents that are drawn once.

    Attributes:
        along: whether the mini-batches are taken along the training, evenly spread over it, rather than all at its end.
        longest: the longest gradient of a training step; 0 for any.
    """

    family = "Generator"
    access = frozenset({"logits", "gradient"})
    whole = True
    Config = GenerativeConfig
    along: ClassVar[bool] = False
    longest: ClassVar[float] = 0.0

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
        return State(problem, x=latents, y=self.orders(problem, rng), generator=training)

    def step(self, state: State, rng: Streams) -> dict[str, Tensor]:
        terms = self.losses(state)
        self._learn(state, self.combined(state, terms))
        state.t += 1
        if self.along:
            self._keep(state)
        return {k: v.detach().expand(len(state.y)) * state.y[0].numel() for k, v in terms.items()}

    def combined(self, state: State, terms: dict[str, Tensor]) -> Tensor:
        """What is descended: the weighted sum of the terms."""
        return sum(self.weights[k] * v for k, v in terms.items())

    def _learn(self, state: State, loss: Tensor) -> None:
        """One step of Adam on the generator's weights, and on nothing else that the loss depends on."""
        optimiser = state.generator.optimiser
        parameters = list(state.generator.network.parameters())
        for p, grad in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            p.grad = grad
        if self.longest:
            nn.utils.clip_grad_norm_(parameters, self.longest)
        for group in optimiser.param_groups:
            group["lr"] = self.config.learning_rate
        optimiser.step()

    def _keep(self, state: State) -> None:
        """Takes the mini-batches that are due: mini-batch m after the share (m + 1) / M of all steps."""
        kept = state.extra.setdefault("kept", [])
        while len(kept) < state.t * len(state.x) // self.steps:
            kept.append(self._decoded(state, len(kept)))

    @torch.no_grad()
    def _decoded(self, state: State, m: int) -> tuple[Tensor, Tensor]:
        """Mini-batch m as the generator makes it now (N, *shape), and the teacher's probabilities for it (N, C)."""
        x = self.decode(state.generator.network, state.x[m : m + 1], state.y[m : m + 1])[0].flatten(0, 1)
        return x, state.problem.teacher(x).softmax(dim=-1)

    def positions(self, state: State) -> Tensor:
        shown = len(state.x)
        if len(state.problem.shape) > 1:  # making all images again and again would take longer than the training
            shown = min(shown, math.ceil(SHOWN / state.y[0].numel()))
        with torch.no_grad():
            return self.decode(state.generator.network, state.x[:shown], state.y[:shown])

    def samples(self, state: State) -> tuple[Tensor, Tensor]:
        made = state.extra["kept"] if self.along else [self._decoded(state, m) for m in range(len(state.x))]
        x, y = zip(*made, strict=True)
        return torch.stack(x), torch.stack(y)


class FreeGenerativeConfig(GenerativeConfig):
    """What generators have that are not told a class."""

    latent: int = param(
        100, low=1, high=2048, scale="log", label="Latent size", group="Advanced",
        help="Number of random inputs of the generator.",
    )  # fmt: skip
    width: int = param(
        32, low=2, high=512, scale="log", label="Generator's width", group="Advanced",
        help="Channels of its first convolutions, or units of its hidden layers for points. The papers have 128 for "
        "images, which costs sixteen times as much as 32.",
    )  # fmt: skip
    batch_size: int = param(
        128, low=4, high=4096, scale="log", label="Batch of the generator", group="Schedule",
        help="Fresh samples in one of its training steps. Class balance is estimated on them.",
    )  # fmt: skip


class FreeGenerative(Generative):
    """A generator of samples of no particular class, x = G(u) with u ~ N(0, I): those of DAFL, RDSKD and DFAD."""

    steered = False
    tracks = False
    glance = 10
    drawn = "Net: the square [-2, 2]² of the generator's first two random inputs, the others at 0."
    Config = FreeGenerativeConfig

    def build(self, problem: Problem) -> nn.Module:
        return generators.build(problem.shape, self.config.latent, self.config.width)

    def latents(self, problem: Problem, rng: Streams) -> Tensor:
        return rng.normal(*self.groups(problem), self.config.latent)  # (M, B, G, latent)

    def decode(self, network: nn.Module, latents: Tensor, y: Tensor) -> Tensor:
        return torch.stack([network(u.flatten(0, 1)).unflatten(0, u.shape[:2]) for u in latents])

    @torch.no_grad()
    def lines(self, state: State) -> Tensor:
        """Where the generator puts a net of its first two random inputs, with the statistics that it remembers."""
        training, ends = state.generator, torch.linspace(-2, 2, NET, device=state.problem.device)
        u = torch.zeros(NET, NET, self.config.latent, device=ends.device)
        u[..., : min(2, self.config.latent)] = torch.cartesian_prod(ends, ends).view(NET, NET, 2)[..., : u.shape[-1]]
        with in_eval_mode(training.network):
            x = training.network(u.flatten(0, 1)).view(NET, NET, -1)
        along = [torch.stack([net[:-1], net[1:]], dim=-2).flatten(0, 1) for net in (x, x.transpose(0, 1))]
        return torch.cat(along)

    def draw(self, state: State, count: int = 0) -> Tensor:
        """Fresh samples (count, *shape) for a training step; gradients flow to the generator."""
        training = state.generator
        shape = (count or self.config.batch_size, self.config.latent)
        return training.network(torch.randn(shape, generator=training.rng, device=state.problem.device))
