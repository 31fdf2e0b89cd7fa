"""What one step was made of: the teacher's answers, each loss term and its gradient, the move, the noise.

Nothing here is a model of the step: the terms are taken from the method itself, at the samples and labels that the step
began with, and their gradients must add up to the one that the step followed. Where they do not, nothing is said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from .methods.base import Inversion, Method, Optimizer, State, Walk
from .synthetic import Snapshot

__all__ = ["Anatomy", "Part", "dissect"]

TOLERANCE = 1e-3  # of the longest gradient: the same products in another order


@dataclass(frozen=True)
class Part:
    """One loss term of a step.

    Attributes:
        weight: what it is multiplied by.
        each: the weighted term for every sample (M, N), which add up to it; None for terms that are no such sums.
        gradient: its weighted gradient with respect to the samples (M, N, *shape), before any clip.
    """

    weight: float
    each: Tensor | None
    gradient: Tensor


@dataclass(frozen=True)
class Anatomy:
    """One step, taken apart: x_after = x + move + noise.

    Attributes:
        x: the samples before it (M, N, *shape).
        probabilities: the teacher's for them (M, N, C).
        parts: its loss terms by name; empty for a method without a gradient.
        gradient: what was followed: the parts' sum, clipped where it was too long (M, N, *shape).
        clipped: for which samples it was (M, N).
        eta: the step size of each mini-batch (M,).
        move: where the gradient took them (M, N, *shape).
        noise: where chance took them after it (M, N, *shape).
    """

    x: Tensor
    probabilities: Tensor
    parts: dict[str, Part]
    gradient: Tensor
    clipped: Tensor
    eta: Tensor
    move: Tensor
    noise: Tensor


def dissect(method: Method, state: State, before: Snapshot, after: Snapshot) -> Anatomy | None:
    """Takes a step apart. Asks the teacher anew; these calls are not counted, for nobody copies with them.

    Args:
        method: with the settings that the step had.
        state: as the step left it.
        before, after: the moments before and after the step.

    Returns:
        None where the two are not one step apart, or where the method's step is more than noise and a gradient of terms
        of answers and labels.
    """
    walks = isinstance(method, Walk) and state.eta is not None
    if (
        not walks
        or after.step != before.step + 1
        or after.batches != before.batches
        or state.x.shape[0] != len(after.x)
    ):
        return None
    problem, (b, g) = state.problem, state.y.shape[1:]
    x = before.x.unflatten(1, (b, g)).detach().requires_grad_()  # (M, B, G, *shape)
    y = before.labels.unflatten(1, (b, g))
    parts: dict[str, Part] = {}
    if isinstance(method, Inversion):
        if type(method).objective is not Inversion.objective or type(method).offsets is not Inversion.offsets:
            return None
        uncounted = replace(problem, teacher=problem.teacher.uncounted())
        z, parts = _parts(method, replace(state, problem=uncounted, x=x, y=y), x, dict(after.weights))
    else:
        with torch.no_grad():
            z = problem.teacher.uncounted()(x.flatten(0, 2)).unflatten(0, x.shape[:3])
    total = sum((p.gradient for p in parts.values()), torch.zeros_like(before.x))
    followed = torch.zeros_like(total) if after.gradient is None else after.gradient
    length = total.flatten(2).norm(dim=2)
    clip = getattr(method.config, "clip", 0)
    clipped = (length > clip) if clip > 0 else torch.zeros_like(length, dtype=torch.bool)
    factor = torch.where(clipped, clip / length.clamp(min=1e-30), 1.0).view(*length.shape, *(1,) * (total.dim() - 2))
    if (total * factor - followed).abs().max() > TOLERANCE * max(1e-6, float(followed.abs().max())):
        return None
    eta = state.eta.flatten()
    steps = eta.view(-1, *(1,) * (total.dim() - 1))
    direction = FOLLOWED[getattr(method.config, "optimizer", "sgd")](state, followed)
    move = -steps * direction
    noise = after.x - before.x - move
    noise = torch.where(noise.abs() > 1e-6 * (1 + before.x.abs()), noise, 0.0)  # what is left of rounding
    probabilities = z.detach().softmax(dim=-1).flatten(1, 2)
    return Anatomy(before.x, probabilities, parts, followed, clipped, eta, move, noise)


def _parts(method: Inversion, state: State, x: Tensor, weights: dict[str, float]) -> tuple[Tensor, dict[str, Part]]:
    """The logits, and each term with its own gradient."""
    z, terms = method.objective(state, x)
    parts = {}
    for name, term in terms.items():
        weight = weights[name]
        (gradient,) = torch.autograd.grad(term.sum(), x, retain_graph=True)
        each = EACH[name](z.detach(), state.y, x.detach()) if name in EACH and _is_sum(method, name) else None
        parts[name] = Part(weight, None if each is None else weight * each.flatten(1), weight * gradient.flatten(1, 2))
    return z, parts


def _is_sum(method: Method, name: str) -> bool:
    """Whether a term is what `EACH` takes it for: contrast has another form too."""
    return name != "contrast" or getattr(method.config, "contrast", "squared") == "squared"


def _variation(x: Tensor) -> Tensor:
    down, right = x.diff(dim=-2).abs().mean(dim=(-3, -2, -1)), x.diff(dim=-1).abs().mean(dim=(-3, -2, -1))
    return down + right


# A term's share of every sample, (M, B, G), from logits (M, B, G, C), labels (M, B, G) and samples (M, B, G, *shape).
EACH: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "classification": lambda z, y, x: F.cross_entropy(z.reshape(-1, z.shape[-1]), y.reshape(-1), reduction="none").view(
        y.shape
    ),
    "contrast": lambda z, y, x: (z - z.mean(dim=2, keepdim=True)).square().sum(dim=-1) * (z.shape[2] / z.shape[3]),
    "entropy": lambda z, y, x: (z.softmax(dim=-1) * z.log_softmax(dim=-1)).sum(dim=-1),
    "variation": lambda z, y, x: _variation(x),
}


def _adams(state: State, followed: Tensor) -> Tensor:
    """What Adam made of the latest gradient, from the means that it left behind (see `methods.base.adam`)."""
    m, v = state.extra["adam_m"] / (1 - 0.9**state.t), state.extra["adam_v"] / (1 - 0.999**state.t)
    return (m / (v.sqrt() + 1e-8)).flatten(1, 2)


FOLLOWED: dict[Optimizer, Callable[[State, Tensor], Tensor]] = {  # what a step went along (M, B G, *shape)
    "sgd": lambda state, followed: followed,
    "momentum": lambda state, followed: state.extra["velocity"].flatten(1, 2),
    "adam": _adams,
}
