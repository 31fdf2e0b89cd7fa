"""Active self-paced distillation from few calls: which proxies to ask about, and what to believe of the others.

    centre of class c        m_c = mean of h_i over the proxies i made for c
    chance of being asked    p_i ∝ exp(-||h_i - m_c||₂ / (s d_c)),  d_c the median of ||h_i - m_c||₂
    label of one not asked   soft: Σ_j w_j y_j / Σ_j w_j over its k nearest asked proxies j; hard: their majority

h_i is what the student's last convolution makes of proxy i, y_j what the teacher answered.

Deviations from the paper and its code:

1. The spread σ of the choice is s times the median distance within the class. The code's σ = 600 belongs to the
   scale of its own features.
2. With Euclidean neighbours the code weights by the distance, so that far ones count more ("printed"); by default the
   inverse of the distance is taken ("inverse"). With cosine neighbours both weight by the similarity, cut off at 0.
3. No stopping by a validation set: the code's has the teacher's labels too, which its budget does not count. Students
   are trained for a fixed number of updates, the same for all variants.
4. The student is small and starts from random weights, or from scikit-learn's digits; the paper's from ImageNet or
   Tiny-ImageNet.

Source: Hondru and Ionescu (2025), arXiv 2310.00096, and its code, https://github.com/vladhondru25/model-stealing.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import hooks

__all__ = ["Distance", "Weighting", "centres", "choose", "latent", "nearest", "pseudo_labels"]

Distance = Literal["cosine", "euclidean"]
Weighting = Literal["inverse", "printed"]

AT_ONCE = 1024  # inputs, or rows of a table of distances


@torch.no_grad()
def latent(network: nn.Module, x: Tensor) -> Tensor:
    """What comes out of a network's last convolution, flattened (N, d): the input of the linear layer after it.

    Of a network without convolutions it is the input of the last linear layer.

    Args:
        network: the student, in eval mode.
        x: inputs (N, *shape).

    Raises:
        CakeError: the network has no linear layer.
    """
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    last = max((i for i, m in enumerate(layers) if isinstance(m, nn.Conv2d)), default=None)
    after = [m for m in layers[last + 1 :] if isinstance(m, nn.Linear)] if last is not None else []
    layer = after[0] if after else hooks.last_linear(network)
    with hooks.inputs_of([layer]) as seen:
        for part in x.split(AT_ONCE):
            network(part)
    return torch.cat([h.flatten(1).float() for _, h in seen])


def centres(h: Tensor, prompt: Tensor, classes: int) -> Tensor:
    """Class centres m_c (C, d): the mean of the features (N, d) of the proxies made for each class (N,)."""
    sums = torch.zeros(classes, h.shape[1], device=h.device).index_add_(0, prompt, h)
    return sums / prompt.bincount(minlength=classes).clamp_min(1)[:, None]


def choose(distance: Tensor, prompt: Tensor, free: Tensor, count: int, s: float | None, rng: torch.Generator) -> Tensor:
    """Draws proxies to ask about, so many of each class, without repetition.

    Args:
        distance: to the class centres (N,).
        prompt: the class each proxy was made for (N,).
        free: which have not been asked about (N,), bool.
        count: how many of each class.
        s: spread of the choice in medians of the class's distances; None draws all with the same chance.
        rng: on the CPU.

    Returns:
        Positions (C * count,) of the chosen, class by class.
    """
    chosen = []
    for label in prompt.unique().tolist():
        where = ((prompt == label) & free).nonzero().flatten().cpu()
        if s is None:
            chance = torch.ones(len(where))
        else:
            d = distance[prompt == label].cpu().float()
            scale = s * d.median().clamp_min(1e-12)
            ours = distance.cpu().float()[where] / scale
            chance = (ours.min() - ours).exp().clamp_min(1e-30)  # the nearest has 1: nothing underflows to all zeros
        chosen.append(where[torch.multinomial(chance, count, generator=rng)])
    return torch.cat(chosen).to(prompt.device)


def nearest(h: Tensor, asked: Tensor, k: int, distance: Distance) -> tuple[Tensor, Tensor]:
    """The k nearest asked proxies of each feature vector.

    Args:
        h: features (N, d).
        asked: features (M, d) of those that were asked about.
        k: how many; all of them where there are fewer.
        distance: "euclidean" ||h - h_j||₂, or "cosine" 1 - h·h_j / (||h|| ||h_j||).

    Returns:
        Distances (N, k), the smallest first, and positions (N, k) among the asked.
    """
    if distance == "cosine":
        h, asked = F.normalize(h, dim=1), F.normalize(asked, dim=1)
    found = []
    for part in h.split(AT_ONCE):
        d = 1 - part @ asked.T if distance == "cosine" else torch.cdist(part, asked)
        found.append(d.topk(min(k, len(asked)), dim=1, largest=False))
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def pseudo_labels(
    d: Tensor,
    answers: Tensor,
    distance: Distance = "cosine",
    weighting: Weighting = "inverse",
    hard: bool = False,
) -> Tensor:
    """Labels of proxies that were not asked about, from their nearest neighbours that were.

    Soft: Σ_j w_j y_j / Σ_j w_j. With cosine w = max(0, 1 - d), the similarity; with Euclidean w = 1/d, or w = d as
    printed. Hard: the class that most neighbours have; of several, the one whose neighbours are nearer in sum.

    Args:
        d: distances (N, k) to the neighbours.
        answers: what the teacher answered for these (N, k, C).
        distance: what d is.
        weighting: of Euclidean neighbours.
        hard: whether the majority is taken.

    Returns:
        Probabilities (N, C).
    """
    if hard:
        votes = F.one_hot(answers.argmax(dim=2), answers.shape[2]).to(d.dtype)  # (N, k, C)
        counts, summed = votes.sum(dim=1), (votes * d[:, :, None]).sum(dim=1)
        best = summed.masked_fill(counts < counts.amax(dim=1, keepdim=True), float("inf")).argmin(dim=1)
        return F.one_hot(best, answers.shape[2]).to(d.dtype)
    if distance == "cosine":
        w = (1 - d).clamp_min(1e-6)
    else:
        w = d.clamp_min(1e-12) if weighting == "printed" else 1 / d.clamp_min(1e-12)
    return (w[:, :, None] * answers).sum(dim=1) / w.sum(dim=1, keepdim=True)
