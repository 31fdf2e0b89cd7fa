"""How good a student is, and where synthetic samples lie. Every rate comes with its number of trials and interval."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from . import hooks
from .rng import generator

__all__ = [
    "NEAR",
    "Rate",
    "accuracy",
    "accuracy_by_batch",
    "agreement",
    "boundary_distance",
    "boundary_line",
    "calibration_error",
    "channel_statistics",
    "confusion",
    "coverage",
    "grid",
    "in_eval_mode",
    "predict",
    "wilson",
]

Network = Callable[[Tensor], Tensor]

MIXING_STREAM = 2**31 + 17  # of the random numbers that mix examples
NEAR = 0.1  # inputs this close to the boundary count as near it; they have standard deviation 1 in each dimension


@dataclass(frozen=True)
class Rate:
    """A share of n trials with its 95 % Wilson interval.

    Attributes:
        value: the share, 0 to 1.
        n: number of trials.
        low, high: the interval.
    """

    value: float
    n: int
    low: float
    high: float

    @classmethod
    def of(cls, successes: int, n: int) -> Rate:
        """The rate of so many successes in n trials."""
        return cls(successes / n, n, *wilson(successes, n))

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f}, n = {self.n:,})"

    def to_dict(self) -> dict[str, float]:
        """Plain values for a file."""
        return asdict(self)


def wilson(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a share p = k / n:
    (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n).

    Args:
        successes: k.
        n: number of trials, at least 1.
        z: quantile of the normal distribution; the default gives 95 %.

    Source: Wilson (1927), J. Am. Stat. Assoc. 22, 209-212.
    """
    p = successes / n
    centre, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (centre - spread) / (1 + z * z / n)), min(1.0, (centre + spread) / (1 + z * z / n))


@contextmanager
def in_eval_mode(network: Network) -> Iterator[None]:
    """A look at a network in training: eval mode inside the block, its own mode again after it."""
    training = isinstance(network, nn.Module) and network.training
    if training:
        network.eval()
    try:
        yield
    finally:
        if training:
            network.train()


@torch.no_grad()
def predict(network: Network, x: Tensor, inputs: Network = lambda x: x, batch: int = 1024) -> Tensor:
    """Logits (N, C) of all inputs, a batch at a time.

    Args:
        network: maps inputs (B, *shape) to logits (B, C).
        x: examples (N, *shape), raw where `inputs` normalises them.
        inputs: turns a batch of x into what the network takes.
        batch: examples at a time.
    """
    return torch.cat([network(inputs(part)) for part in x.split(batch)])


def accuracy(logits: Tensor, labels: Tensor) -> Rate:
    """Share of examples whose largest logit is that of the true class; logits (N, C), labels (N,)."""
    return Rate.of(int((logits.argmax(dim=1) == labels).sum()), len(labels))


def accuracy_by_batch(
    network: nn.Module, x: Tensor, labels: Tensor, inputs: Network = lambda x: x, batch: int = 1024
) -> Rate | None:
    """Accuracy where batch normalisation goes by the statistics of mixed batches of these examples, and not by those of
    the training data; None where the network has none, or there is but one example.

    What lies between it and the plain accuracy is what the network loses because it was trained on other images.

    Args:
        network: in eval mode; as it was, when this returns.
        x, inputs, batch: see `predict`; batches have one size, or one more, and their examples are in random order.
        labels: (N,).
    """
    if not hooks.batch_norms(network) or len(x) < 2:
        return None
    order = torch.randperm(len(x), generator=generator(0, MIXING_STREAM)).to(x.device)
    with hooks.by_batch(network):
        parts = order.tensor_split(math.ceil(len(x) / batch))
        logits = torch.cat([predict(network, x[part], inputs, batch=len(part)) for part in parts])
    return accuracy(logits, labels[order])


def agreement(student: Tensor, teacher: Tensor) -> Rate:
    """Share of inputs on which student and teacher name the same class; logits (N, C) of both."""
    return accuracy(student, teacher.argmax(dim=1))


@torch.no_grad()
def channel_statistics(network: nn.Module, x: Tensor) -> Tensor:
    """What each layer of batch normalisation remembers of its training data, beside what inputs give there.

    Args:
        network: with batch normalisation.
        x: inputs (N, *shape).

    Returns:
        One row for each channel of each layer (K, 5): the layer's place, the remembered and the given mean, the
        remembered and the given standard deviation; the last four in units of the layer's root mean square deviation.
    """
    with hooks.inputs_of(hooks.batch_norms(network)) as seen, in_eval_mode(network):
        network(x)
    rows = []
    for place, (layer, h) in enumerate(seen):
        var, mean = torch.var_mean(h.float(), dim=[d for d in range(h.dim()) if d != 1], correction=0)
        unit = layer.running_var.mean().sqrt()
        both = [layer.running_mean, mean, layer.running_var.sqrt(), var.sqrt()]
        rows.append(torch.stack([torch.full_like(mean, place), *(v / unit for v in both)], dim=1))
    return torch.cat(rows)


def confusion(rows: Tensor, columns: Tensor, classes: int) -> Tensor:
    """How often each pair of classes occurs, int64 (C, C) on the CPU: classes (N,) for its rows and its columns."""
    pairs = rows * classes + columns
    return torch.bincount(pairs.cpu(), minlength=classes**2).view(classes, classes)


def calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error: sum over bins of n_b/N |accuracy_b - mean confidence_b|.

    Bins divide [0, 1] evenly; a prediction belongs to the bin its confidence max softmax(z) falls into.

    Args:
        logits: (N, C).
        labels: (N,).
        bins: number of bins.

    Source: Guo, Pleiss, Sun, Weinberger (2017), arXiv 1706.04599, eq. 3.
    """
    confidence, predicted = logits.softmax(dim=1).max(dim=1)
    right = (predicted == labels).float()
    index = (confidence * bins).ceil().long().clamp(1, bins) - 1  # bin b is ((b)/bins, (b+1)/bins]
    gap = torch.zeros(bins, device=logits.device).index_add_(0, index, right - confidence)
    return float(gap.abs().sum() / len(labels))


def boundary_distance(network: Network, x: Tensor) -> Tensor:
    """Distance (N,) of inputs to the decision boundary, to first order: (z_a - z_b) / ||grad_x (z_a - z_b)||.

    a is the class of the largest logit, b the runner-up. Exact where the network is linear between the input and the
    boundary; infinite where the gap does not depend on the input.

    Args:
        network: maps inputs (N, *shape) to logits (N, C).
        x: inputs (N, *shape).

    Source: one step of DeepFool, Moosavi-Dezfooli et al. (2016), arXiv 1511.04599, restricted to the runner-up.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        top = network(x).topk(2, dim=1).values
        gap = top[:, 0] - top[:, 1]
        (grad,) = torch.autograd.grad(gap.sum(), x)
    return gap.detach() / grad.flatten(1).norm(dim=1)


def grid(half_width: float, resolution: int, device: torch.device | str = "cpu") -> Tensor:
    """The points of a square grid over [-w, w]², row by row from below, (resolution², 2)."""
    axis = torch.linspace(-half_width, half_width, resolution, device=device)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y], dim=-1).flatten(0, 1)


def boundary_line(network: Network, half_width: float, resolution: int = 160) -> Tensor:
    """The decision boundary inside [-w, w]² as line segments (S, 2, 2): S times (start, end) times (x, y).

    Marching squares on the gap between a class and the best of the others, with linear interpolation on the edges of
    the grid's cells. A cell in which the gap changes sign on all four edges gives two segments.

    Args:
        network: maps points (N, 2) to logits (N, C).
        half_width: w.
        resolution: grid points along each side.
    """
    points = grid(half_width, resolution)
    logits = predict(network, points, batch=len(points)).cpu()
    classes = logits.shape[1]
    segments = []
    for k in range(classes if classes > 2 else 1):  # of two classes, one boundary is also the other's
        others = logits.clone()
        others[:, k] = -math.inf
        gap = (logits[:, k] - others.max(dim=1).values).view(resolution, resolution)
        segments.append(_zero_level(gap, points.view(resolution, resolution, 2)))
    return torch.cat(segments)


def _zero_level(f: Tensor, points: Tensor) -> Tensor:
    """Segments (S, 2, 2) of the level f = 0 for values f (R, R) at points (R, R, 2)."""

    def crossing(fa: Tensor, fb: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        crossed = (fa > 0) != (fb > 0)
        t = torch.where(crossed, fa / (fa - fb), 0.5)
        return crossed, a + t[..., None] * (b - a)

    corner = {
        name: (f[rows, columns], points[rows, columns])
        for name, rows, columns in (
            ("sw", slice(None, -1), slice(None, -1)),
            ("se", slice(None, -1), slice(1, None)),
            ("ne", slice(1, None), slice(1, None)),
            ("nw", slice(1, None), slice(None, -1)),
        )
    }
    around = ("sw", "se", "ne", "nw", "sw")
    edges = [crossing(corner[a][0], corner[b][0], corner[a][1], corner[b][1]) for a, b in itertools.pairwise(around)]
    crossed = torch.stack([c for c, _ in edges], dim=-1).flatten(0, 1)  # (cells, 4)
    where = torch.stack([p for _, p in edges], dim=-2).flatten(0, 1)  # (cells, 4, 2)
    # The crossed edges first, in their order around the cell: (1st, 2nd) is one segment, (3rd, 4th) a second one.
    order = crossed.logical_not().long().argsort(dim=1, stable=True)
    where = where.gather(1, order[..., None].expand(-1, -1, 2)).unflatten(1, (2, 2))  # (cells, 2 segments, 2, 2)
    count = crossed.sum(dim=1)
    return torch.cat([where[count >= 2, 0], where[count == 4, 1]])


def coverage(line: Tensor, x: Tensor, radius: float, spacing: float = 0.02) -> float:
    """Share of a boundary's length that has a sample within a radius.

    Args:
        line: segments (S, 2, 2), as from `boundary_line`.
        x: samples (N, 2).
        radius: how near is near.
        spacing: length of the pieces that the line is judged by.

    Returns:
        0 to 1; NaN where there is no boundary.
    """
    if not len(line) or not len(x):
        return math.nan if not len(line) else 0.0
    length = (line[:, 1] - line[:, 0]).norm(dim=1)
    pieces = (length / spacing).ceil().long().clamp(min=1)
    index = torch.repeat_interleave(torch.arange(len(line)), pieces)
    first = pieces.cumsum(0) - pieces
    t = (torch.arange(len(index)) - first[index] + 0.5) / pieces[index]
    points = line[index, 0] + t[:, None] * (line[index, 1] - line[index, 0])
    weight = length[index] / pieces[index]
    near = torch.cat([torch.cdist(p, x).min(dim=1).values <= radius for p in points.split(512)])
    return float(weight[near].sum() / weight.sum())
