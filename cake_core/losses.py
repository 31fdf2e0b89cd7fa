"""The named loss terms, each a pure function.

What samples are optimised for is summed over one mini-batch: M mini-batches in flight, each of B groups of G samples
(N = B G); C classes; these functions return (M,). Sums, not means, so that how far one sample moves does not depend on
how many others there are. What a student is trained for (`distillation`) is a mean over its batch, one number.

References: | Deep Classifier Mimicry without Data Access (Braun, Mundt, Kersting 2024), eq. 2 and 4 | https://arxiv.org/abs/2306.02090
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .oracle import NormInput

__all__ = [
    "activation_spread",
    "certainty",
    "classification",
    "contrast",
    "distillation",
    "entanglement",
    "feature_statistics",
    "jensen_shannon",
    "negative_entropy_of_mean",
    "neighbour_variation",
    "total_variation",
]


def classification(z: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy to the steering labels: sum over samples of -log softmax(z)_y.

    Args:
        z: logits (M, B, G, C).
        y: int64 labels (M, B, G).
    """
    m, classes = z.shape[0], z.shape[-1]
    each = F.cross_entropy(z.reshape(-1, classes), y.reshape(-1), reduction="none")
    return each.view(m, -1).sum(dim=1)


def contrast(z: Tensor) -> Tensor:
    """Squared distance between the logits of all pairs in a group: 1/(2C) sum_b sum_ij ||z_bi - z_bj||^2.

    Computed as G/C sum_b sum_i ||z_bi - mean_j z_bj||^2, which is the same and needs no pairs.

    Args:
        z: logits (M, B, G, C).
    """
    group, classes = z.shape[2:]
    from_mean = z - z.mean(dim=2, keepdim=True)
    return from_mean.square().sum(dim=(1, 2, 3)) * (group / classes)


def certainty(z: Tensor) -> Tensor:
    """Negative entropy of the teacher's answers: sum over samples of sum_c p_c log p_c. Lowest where it is unsure.

    Args:
        z: logits (M, B, G, C).
    """
    log_p = z.log_softmax(dim=-1)
    return (log_p.exp() * log_p).sum(dim=(1, 2, 3))


def entanglement(z: Tensor, y: Tensor, temperature: float) -> Tensor:
    """Negative soft-nearest-neighbour loss: sum over samples of
    log( sum_{j != i, y_j = y_i} e^(-d_ij / T) / sum_{k != i} e^(-d_ik / T) ), with d_ij = ||z_i - z_j||^2 / C.

    Between samples of all groups of a mini-batch. Lowest where nearest neighbours are of other classes, that is where
    classes lie entangled: at the boundary. Samples that are the only ones of their class do not count.

    Args:
        z: logits (M, B, G, C).
        y: int64 labels (M, B, G).
        temperature: T: how far neighbours are looked for.

    Source: Frosst, Papernot and Hinton (2019), arXiv 1902.01889, eq. 1, with the sign that entangles.
    """
    z, y = z.flatten(1, 2), y.flatten(1, 2)  # (M, N, C), (M, N)
    squares = z.square().sum(dim=-1)
    distance = squares[:, :, None] + squares[:, None, :] - 2 * z @ z.transpose(1, 2)
    near = -distance / (z.shape[-1] * temperature)
    itself = torch.eye(z.shape[1], dtype=torch.bool, device=z.device)
    near = near.masked_fill(itself, -torch.inf)
    same = (y[:, :, None] == y[:, None, :]) & ~itself
    alone = ~same.any(dim=2)
    # A row without its own kind would be the logarithm of nothing, whose gradient is no number.
    share = near.masked_fill(~(same | alone[:, :, None]), -torch.inf).logsumexp(dim=2) - near.logsumexp(dim=2)
    return share.masked_fill(alone, 0).sum(dim=1)


def distillation(student: Tensor, teacher: Tensor, y: Tensor, temperature: float, weight: float) -> Tensor:
    """Knowledge distillation with data: (1 - a) CE(y, p_S) + a t^2 KL(p_T^t || p_S^t), a mean over the batch.

    p^t = softmax(z / t), and p_S is the student's at t = 1. The gradient of the soft part shrinks as 1 / t^2 when t
    grows; the factor t^2 keeps it as large as that of the labels. KL differs from the cross-entropy CE(p_T^t, p_S^t)
    by the teacher's entropy, which the student can't change, so both have the same gradient.

    Args:
        student: logits (N, C).
        teacher: logits (N, C) for the same inputs.
        y: int64 true labels (N,).
        temperature: t, above 0.
        weight: a, the share of the soft part, 0 to 1.

    Source: Hinton, Vinyals and Dean (2015), arXiv 1503.02531, section 2.
    """
    hard = F.cross_entropy(student, y)
    of_student, of_teacher = ((z / temperature).log_softmax(dim=1) for z in (student, teacher))
    soft = F.kl_div(of_student, of_teacher, reduction="batchmean", log_target=True)
    return (1 - weight) * hard + weight * temperature**2 * soft


def total_variation(x: Tensor) -> Tensor:
    """Anisotropic total variation, the image prior: sum over samples of
    1/ch sum_ch (mean |x[h+1, w] - x[h, w]| + mean |x[h, w+1] - x[h, w]|).

    Args:
        x: images (M, B, G, channels, H, W).
    """
    return _TotalVariation.apply(x)


def activation_spread(hidden: Sequence[Tensor]) -> Tensor:
    """How far hidden units are from the point where they switch on or off: mean over layers of mean tanh^2(a).

    Args:
        hidden: activations before their nonlinearity, one tensor for each layer.

    Source: our reading of the abstract of Qu, Wang and Xiao (2021), arXiv 2102.11638.
    """
    return torch.stack([a.tanh().square().mean() for a in hidden]).mean()


def neighbour_variation(x: Tensor) -> Tensor:
    """The image prior of DeepInversion: ||x[w+1] - x[w]|| + ||x[h+1] - x[h]|| + those along both diagonals, each the L2
    norm over all images of a mini-batch. Not a mean: it grows with the root of their number.

    Args:
        x: images (M, B, G, channels, H, W).

    Source: Yin et al. (2020), arXiv 1912.08795, eq. 3, and its code.
    """
    right = x[..., :, 1:] - x[..., :, :-1]
    down = x[..., 1:, :] - x[..., :-1, :]
    diagonal = x[..., 1:, 1:] - x[..., :-1, :-1]
    anti = x[..., 1:, :-1] - x[..., :-1, 1:]
    return sum(d.flatten(1).norm(dim=1) for d in (right, down, diagonal, anti))


def feature_statistics(layers: Sequence[NormInput], batches: int) -> Tensor:
    """How far a mini-batch is from what batch normalisation remembers: sum over layers of
    ||mean - running mean|| + ||variance - running variance||, with the biased variance of the mini-batch, (M,).

    Args:
        layers: what comes into each layer, for M mini-batches of equal size one behind the other.
        batches: how many mini-batches M.

    Source: Yin et al. (2020), arXiv 1912.08795, eq. 4.
    """
    total = 0
    for layer in layers:
        h = layer.x.unflatten(0, (batches, -1))  # (M, N, channels, ...)
        var, mean = torch.var_mean(h, dim=[d for d in range(h.dim()) if d not in (0, 2)], correction=0)
        total = total + (mean - layer.mean).norm(dim=1) + (var - layer.var).norm(dim=1)
    return total


def jensen_shannon(one: Tensor, other: Tensor, temperature: float = 1.0) -> Tensor:
    """Jensen-Shannon divergence of two answers: (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2, between 0 and ln 2.

    Args:
        one, other: logits (N, C); p and q are their softmax at the temperature.

    Source: Lin (1991), IEEE Trans. Inf. Theory 37(1), eq. 4.1.
    """
    log_p, log_q = ((z / temperature).log_softmax(dim=1) for z in (one, other))
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return 0.5 * ((log_p.exp() * (log_p - log_m)).sum(dim=1) + (log_q.exp() * (log_q - log_m)).sum(dim=1))


def negative_entropy_of_mean(z: Tensor) -> Tensor:
    """Class balance of a batch: sum_c p_c log p_c with p the mean of softmax(z); lowest, -log C, when all are equal.

    Args:
        z: logits (N, C).

    Source: Chen et al. (2019), arXiv 1904.01186, eq. 7.
    """
    p = z.softmax(dim=1).mean(dim=0)
    return (p * p.clamp_min(1e-12).log()).sum()


class _TotalVariation(torch.autograd.Function):
    """Forward and its gradient written out: the gradient is a difference of signs, one pass instead of six."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        down, right = x.diff(dim=-2), x.diff(dim=-1)
        m, (channels, height, width) = x.shape[0], x.shape[-3:]
        ctx.scales = (1 / (channels * (height - 1) * width), 1 / (channels * height * (width - 1)))
        value = sum(d.abs().view(m, -1).sum(dim=1) * s for d, s in zip((down, right), ctx.scales, strict=True))
        ctx.save_for_backward(down.sign_(), right.sign_())
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        down, right = ctx.saved_tensors
        *batch, height, _ = down.shape
        grad = down.new_zeros(*batch, height + 1, down.shape[-1])
        for signs, scale, dim in ((down, ctx.scales[0], -2), (right, ctx.scales[1], -1)):
            size = grad.shape[dim]
            grad.narrow(dim, 1, size - 1).add_(signs, alpha=scale)
            grad.narrow(dim, 0, size - 1).sub_(signs, alpha=scale)
        return grad.mul_(upstream.view(-1, *(1,) * (grad.dim() - 1)))
