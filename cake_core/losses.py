"""The named loss terms, each a pure function.

What samples are optimised for is summed over one mini-batch: M mini-batches in flight, each of B groups of G samples
(N = B G); C classes; these functions return (M,). Sums, not means, so that how far one sample moves does not depend on
how many others there are. What a student is trained for (`distillation`) is a mean over its batch, one number.

References: | Deep Classifier Mimicry without Data Access (Braun, Mundt, Kersting 2024), eq. 2 and 4 | https://arxiv.org/abs/2306.02090
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["classification", "contrast", "distillation", "total_variation"]


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
