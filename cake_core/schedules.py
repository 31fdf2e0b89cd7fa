"""Step sizes over the mini-batches of a run.

References: | Deep Classifier Mimicry without Data Access (Braun, Mundt, Kersting 2024), Section 3.2 | https://arxiv.org/abs/2306.02090
"""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = ["step_sizes"]


def step_sizes(start: float, decades: float, batches: Iterable[int], total: int, shape: str = "linear") -> list[float]:
    """eta_m = start * 10^(-decades * s(m / total)), one step size per mini-batch.

    s(t) = t for "linear" and (1 - cos(pi t)) / 2 for "cosine". The paper calls the first "linear"; it is linear in
    the exponent, as its code shows.

    Args:
        start: step size of mini-batch 0.
        decades: how many powers of ten it falls over the run.
        batches: the indices m.
        total: number of mini-batches M.
        shape: "linear" or "cosine".
    """
    share = {"linear": lambda t: t, "cosine": lambda t: (1 - math.cos(math.pi * t)) / 2}[shape]
    return [start * 10 ** (-decades * share(m / total)) for m in batches]
