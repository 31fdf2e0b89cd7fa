"""ZSDB3KD: pseudo samples of a teacher that names classes and says nothing else.

References: | Zero-Shot Knowledge Distillation from a Decision-Based Black-Box Model (Wang 2021) | https://arxiv.org/abs/2106.03310
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..config import param
from ..history import evenly
from ..rng import Streams
from ..synthetic import Problem
from .base import Failure, Method, MethodConfig, State, mixed_noise

__all__ = ["Zsdb3kd"]

CHUNKS = 8  # of candidates that are drawn in search of all classes, each as many as a mini-batch has samples
HALVINGS = 4  # of a push that would change the class
RAYS_SHOWN = 200  # that are drawn, at most
RATES = (0.05, 0.1, 0.2, 0.4, 0.8)  # lengths that the line search tries along the estimated descent


class Zsdb3kdConfig(MethodConfig):
    """How the boundary is searched for, and what is made of it."""

    rounds: int = param(
        3,
        low=1,
        high=100,
        group="Schedule",
        help="Times that every sample looks for its nearest boundary and moves away from it.",
    )
    iterations: int = param(
        4,
        low=0,
        high=200,
        group="Schedule",
        help="Descents on the direction in each round, from the best of the starting directions.",
    )
    starts: int = param(
        8,
        low=1,
        high=100,
        group="Schedule",
        help="Random directions in which each round first looks for the boundary.",
    )
    directions: int = param(
        10,
        low=1,
        high=500,
        scale="log",
        symbol="K",
        group="Schedule",
        help="Queries near the current direction from which its descent is estimated.",
    )
    push: float = param(
        0.5,
        low=0.0,
        high=10.0,
        step=0.1,
        symbol="λ",
        live=True,
        help="How far a sample moves away from its nearest boundary in a round; halved where its class would change.",
    )
    reach: float = param(
        20.0,
        low=0.1,
        high=200.0,
        scale="log",
        group="Advanced",
        help="Farthest that the boundary is looked for.",
    )
    precision_steps: int = param(
        8,
        low=2,
        high=30,
        group="Advanced",
        label="Bisections",
        help="Halvings of the interval that holds the boundary on a ray.",
    )
    nearness: float = param(
        0.2,
        low=0.001,
        high=1.0,
        scale="log",
        symbol="h",
        group="Advanced",
        help="Length of the random changes of a direction from which its descent is estimated.",
    )
    softness: float = param(
        0.3,
        low=0.01,
        high=20.0,
        scale="log",
        symbol="τ",
        help="Temperature of the soft labels that are made from distances. Small: nearly the class alone. Large: all "
        "labels alike.",
    )


class Zsdb3kd(Method):
    r"""Samples move away from their nearest boundary, and their distances to the classes become soft labels.

    For a sample x of class c and a unit direction d, the teacher only says when the class changes:

        g(d) = min { r > 0 : label(x + r d) ≠ c },     d* = argmin g,     x <- x - λ d*

    g comes from bisection along rays; its descent over directions from the sign of one query for each of K directions
    near d. In the end, with r_t the distance at which a ray toward samples of class t reaches it:

        logit_t = 1 / r_t for t ≠ c,   logit_c = Σ_t logit_t,   target = (one-hot(c) + softmax(logit / τ)) / 2

    Moving away from every boundary is the opposite of what CAKE does. Every question is a query: watch the counter.

    Deviations from the paper and its code:

    1. Inputs are those of the teacher (normalised), and are not clipped to an image's range.
    2. Starting noise mixes strengths and, for images, coarse and fine grain, so that more classes occur in it; 8 chunks
       of candidates are drawn and no more. Classes that did not occur stay without samples.
    3. A few hundred queries for a sample in each round, for 5,000; a line search of five lengths. All directions near d
       are orthogonal to it in expectation only, as there.
    4. Soft labels come from the boundary distance along one ray to each class that has samples in the mini-batch; a
       class that has none gets the longest distance.
    5. CE(label) + CE(soft label) is CE(their mean), which is the target here.
    """

    name = "zsdb3kd"
    title = "ZSDB3KD"
    summary = "Hard labels alone: rays find the boundary, samples move away from it, distances become soft labels."
    equation = (
        r"g(d) = \min\{ r > 0 : \mathrm{label}(x + r d) \neq c \},\quad x \leftarrow x - \lambda \arg\min_d g(d),"
        r"\quad \mathrm{logit}_t = 1 / r_t"
    )
    reference = "Wang (ICML 2021), arXiv 2106.03310"
    access = frozenset({"labels"})
    family = "Moves samples"
    steered = False
    own_targets = True
    drawn = "Rays: from a sample to the nearest place where the teacher's label is known to change."
    Config = Zsdb3kdConfig
    presets = {
        "points": {"reach": 6.0, "nearness": 0.3, "softness": 1.0, "push": 0.3},
        "images": {"batches": 40, "samples": 250},
        "digits": {"batches": 20, "samples": 200, "reach": 10.0},
    }
    failures = (
        Failure(
            "Noise that is too weak",
            "With a small spread all samples start, and stay, near the origin. Every class may occur there, but what "
            "the student learns of it does not reach to where real data are.",
            {"data": "digits", "sigma": "0.1"},
        ),
    )

    @property
    def steps(self) -> int:
        return self.config.rounds * (1 + self.config.iterations)

    # -- the start: noise of every class that occurs ---------------------------------------------------------------

    def init(self, problem: Problem, rng: Streams) -> State:
        b, g = self.groups(problem)
        ask = problem.teacher.labels
        candidates, labels = [], []
        for _ in range(CHUNKS):  # the same number for every mini-batch, so that none changes another's draws
            x = mixed_noise(problem, rng, b * g, self.config.sigma)
            candidates.append(x)
            labels.append(ask(x.flatten(0, 1)).view(x.shape[:2]))
        x, y = torch.cat(candidates, dim=1), torch.cat(labels, dim=1)  # (M, CHUNKS N, ...)
        # In each mini-batch the k-th candidate of every class comes before the (k + 1)-th of any: as equal as can be.
        one_hot = F.one_hot(y, problem.classes)
        place = (one_hot.cumsum(dim=1) * one_hot).sum(dim=2)  # 1, 2, ... within its class
        first = (place * problem.classes + y).argsort(dim=1, stable=True)[:, : b * g]
        x = torch.stack([part[index] for part, index in zip(x, first, strict=True)])
        y = y.gather(1, first)
        return State(problem, x.unflatten(1, (b, g)), y.unflatten(1, (b, g)))

    # -- rounds ----------------------------------------------------------------------------------------------------

    def step(self, state: State, rng: Streams) -> dict[str, Tensor]:
        phase = state.t % (1 + self.config.iterations)
        search = Search(state, self.config)
        if phase == 0:
            search.start(rng)
        else:
            search.descend(rng)
        if phase == self.config.iterations:
            search.push_away()
        state.t += 1
        return {}

    def lines(self, state: State) -> Tensor | None:
        """The best ray so far of some samples of each mini-batch, up to the boundary."""
        if "distance" not in state.extra:
            return None
        x = state.x.flatten(0, 2)
        some = evenly(len(x), RAYS_SHOWN).to(x.device)
        ends = x[some] + state.extra["distance"][some, None] * state.extra["direction"][some]
        return torch.stack([x[some], ends], dim=1)

    def samples(self, state: State) -> tuple[Tensor, Tensor]:
        targets = Search(state, self.config).targets()
        return state.x.flatten(1, 2), targets.flatten(1, 2)


class Search:
    """Rays from the samples of a state: where the class changes along them.

    Args:
        state: samples x with their classes y; `extra` holds the best direction of each, and the distance along it.
        config: how to search.
    """

    def __init__(self, state: State, config: Zsdb3kdConfig):
        self.state, self.config = state, config
        self.shape = state.problem.shape
        self.x = state.x.flatten(0, 2)
        self.y = state.y.flatten()

    def left(self, at: Tensor, radius: Tensor, d: Tensor) -> Tensor:
        """Whether samples `at` (k,) have left their class at this radius (k,) along d (k, *shape)."""
        if not len(at):
            return torch.zeros(0, dtype=torch.bool, device=at.device)
        return self.state.problem.teacher.labels(self.x[at] + self._wide(radius) * d) != self.y[at]

    def start(self, rng: Streams) -> None:
        """The best of some random directions; a direction is looked into only where it beats the best so far."""
        count = len(self.x)
        best = torch.full((count,), self.config.reach, device=self.x.device)
        d = unit(self._draw(rng))
        for number in range(self.config.starts):
            new = d if number == 0 else unit(self._draw(rng))
            nearer = self.left(torch.arange(count, device=best.device), best, new).nonzero()[:, 0]
            best[nearer] = self._bisected(nearer, best[nearer], new[nearer])
            d[nearer] = new[nearer]
        self.state.extra |= {"direction": d, "distance": best}

    def descend(self, rng: Streams) -> None:
        """One step of sign descent on the direction, kept where it brings the boundary nearer."""
        d, best = self.state.extra["direction"], self.state.extra["distance"]
        everyone = torch.arange(len(self.x), device=best.device)
        slope = torch.zeros_like(d)
        for _ in range(self.config.directions):
            u = self.config.nearness * unit(self._draw(rng))
            sign = 1 - 2 * self.left(everyone, best, unit(d + u)).float()  # -1 where the boundary is nearer there
            slope += self._wide(sign) * u
        slope = unit(slope)
        chosen = torch.full_like(best, -1.0)
        for rate in RATES:  # the longest that still helps
            chosen = torch.where(self.left(everyone, best, unit(d - rate * slope)), rate, chosen)
        better = (chosen > 0).nonzero()[:, 0]
        new = unit(d[better] - self._wide(chosen[better]) * slope[better])
        best[better] = self._bisected(better, best[better], new)
        d[better] = new

    def push_away(self) -> None:
        """x <- x - push d, with ever shorter pushes where the class would change."""
        d = self.state.extra["direction"]
        waiting = torch.arange(len(self.x), device=d.device)
        length = self.config.push
        for _ in range(HALVINGS):
            stays = ~self.left(waiting, torch.full((len(waiting),), -length, device=d.device), d[waiting])
            self.x[waiting[stays]] -= length * d[waiting[stays]]
            self.state.extra["distance"][waiting[stays]] += length
            waiting, length = waiting[~stays], length / 2
        self.state.x = self.x.view(self.state.x.shape)

    def targets(self) -> Tensor:
        """Soft labels (M, B, G, C) from the distances along rays toward samples of the other classes."""
        m, classes = len(self.state.x), self.state.problem.classes
        x, y = self.x.view(m, -1, *self.shape), self.y.view(m, -1)
        far = self.x.new_full((*y.shape, classes), self.config.reach)
        for t in range(classes):
            for part in range(m):  # rays go to samples of the same mini-batch, whatever else is in flight
                theirs = (y[part] == t).nonzero()[:, 0]
                others = (y[part] != t).nonzero()[:, 0]
                if len(theirs) and len(others):
                    apart = torch.cdist(x[part, others].flatten(1), x[part, theirs].flatten(1))
                    length, nearest = apart.min(dim=1)
                    ray = unit(x[part, theirs[nearest]] - x[part, others])
                    far[part, others, t] = self._reaches(x[part, others], ray, length, t)
        closeness = 1 / far.clamp_min(1e-3)
        own = F.one_hot(y, classes).bool()
        closeness = closeness.masked_fill(own, 0)
        logits = closeness + own * closeness.sum(dim=-1, keepdim=True)
        soft = (logits / self.config.softness).softmax(dim=-1)
        return ((own + soft) / 2).view(*self.state.y.shape, classes)

    def _reaches(self, x: Tensor, d: Tensor, length: Tensor, t: int) -> Tensor:
        """Distance at which the ray from x along d becomes class t, which it is at `length`."""
        ask = self.state.problem.teacher.labels
        return self._first(length, lambda radius: ask(x + self._wide(radius) * d) == t)

    def _bisected(self, at: Tensor, high: Tensor, d: Tensor) -> Tensor:
        """The radius at which samples `at` leave their class along d, where they have left it at `high`."""
        return self._first(high, lambda radius: self.left(at, radius, d))

    def _first(self, high: Tensor, true: Callable[[Tensor], Tensor]) -> Tensor:
        """The radius (k,) from which on something is true, as it is at `high`; by bisection from 0."""
        low = torch.zeros_like(high)
        for _ in range(self.config.precision_steps):
            middle = (low + high) / 2
            found = true(middle)
            high, low = torch.where(found, middle, high), torch.where(found, low, middle)
        return high

    def _draw(self, rng: Streams) -> Tensor:
        return rng.normal(*self.state.x.shape[1:]).flatten(0, 2)

    def _wide(self, values: Tensor) -> Tensor:
        """Values (k,) that broadcast against samples (k, *shape)."""
        return values.view(-1, *(1,) * len(self.shape))


def unit(d: Tensor) -> Tensor:
    """Each of the directions (k, *shape) at length 1."""
    return d / d.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, *(1,) * (d.dim() - 1))
