"""RDSKD: a generator that seeks confidence, all classes and diversity, with no weights to tune.

References: | Robustness and Diversity Seeking Data-Free Knowledge Distillation (Han, Park, Wang, Liu 2021) | https://arxiv.org/abs/2011.03749
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import param
from ..losses import negative_entropy_of_mean
from .base import Failure, FreeGenerative, FreeGenerativeConfig, State

__all__ = ["Rdskd"]

STEADY = 1e-6  # keeps the diversity term finite when both halves get the same answers
HIGHEST = 20.0  # of an exponent: e^20 is a punishment that float32 and bfloat16 still hold


class RdskdConfig(FreeGenerativeConfig):
    """How the goals are combined."""

    combination: Literal["exponential", "sum"] = param(
        "exponential",
        live=True,
        help="exponential: a goal that gets worse than at the epoch's start is punished ever harder. sum: goals are "
        "added, and fight each other.",
    )
    weight_diversity: float = param(
        1.0,
        low=0.0,
        high=100.0,
        scale="log",
        label="Diversity weight",
        symbol="λ_ds",
        live=True,
        help="Wants images that differ much for answers that differ little. The paper has 1.",
    )
    epoch: int = param(
        120,
        low=2,
        high=10_000,
        scale="log",
        group="Advanced",
        help="Steps after which the goals' reference values are taken anew.",
    )


class Rdskd(FreeGenerative):
    r"""A generator with three goals, of which none may be bought with another.

    For two halves of a batch, x_1 and x_2, with answers p_1 and p_2, and p the mean answer of all:

        L_oh = mean CE(z, argmax z),   L_ie = Σ_c p_c log p_c,   L_ds = ||p_2 - p_1|| / ||x_2 - x_1||
        L = exp(L_oh - L_oh°) + exp(L_ie - L_ie°) + L_ds

    L° are the values at the start of the epoch: whatever rises above them is punished exponentially, and a fall is
    rewarded less and less. The student then learns from the finished generator.

    Deviations from the paper and its code:

    1. Exponents stop at 20, and the diversity term has a floor of 1e-6 where the code has 1e-20.
    2. The student gets a fixed number of samples of the finished generator, for fresh ones at every step: the same
       budget as with all methods here.
    3. The generator has width 32 by default, for 128, and is trained for hundreds of steps, for 2,400.
    4. The diversity term has a weight; 1 is the paper.
    5. On points the generator is a small fully connected network: our own extension, not in the paper.
    """

    name = "rdskd"
    title = "RDSKD"
    summary = "Trains a generator for confidence, balance and diversity at once, with no weights to tune."
    equation = (
        r"\mathcal{L} = e^{L_{oh} - L_{oh}^\circ} + e^{L_{ie} - L_{ie}^\circ}"
        r" + \frac{\lVert p_2 - p_1 \rVert}{\lVert x_2 - x_1 \rVert}"
    )
    reference = "Han, Park, Wang, Liu (ICASSP 2021), arXiv 2011.03749"
    Config = RdskdConfig
    fixed_weights: ClassVar = {"confidence": 1.0, "balance": 1.0}
    presets = {
        "points": {"latent": 5, "width": 32, "steps": 500},
        "images": {"steps": 600, "batches": 40, "samples": 250},
        "digits": {"steps": 400, "batches": 20, "samples": 200},
    }
    student = {"": {"temperature": 10.0}}
    failures = (
        Failure(
            "A generator that learns too fast",
            "With large steps the generator settles on a few classes at once; the diversity term is too weak to bring "
            "the others back, and the student never learns them.",
            {"data": "digits", "learning_rate": "0.3"},
        ),
    )

    def losses(self, state: State) -> dict[str, Tensor]:
        x = self.draw(state, self.config.batch_size // 2 * 2)
        z = state.problem.teacher(x)
        p1, p2 = z.softmax(dim=1).chunk(2)
        x1, x2 = x.chunk(2)
        return {
            "confidence": F.cross_entropy(z, z.argmax(dim=1)),
            "balance": negative_entropy_of_mean(z),
            "diversity": (p2 - p1).norm() / (x2 - x1).norm().clamp_min(STEADY),
        }

    def combined(self, state: State, terms: dict[str, Tensor]) -> Tensor:
        goals = [terms["confidence"], terms["balance"]]
        # The first step of all has 0 for reference, as in the code; each epoch's second step sets it anew.
        reference = state.extra.setdefault("reference", [torch.zeros_like(g) for g in goals])
        if state.t % self.config.epoch == 1:
            state.extra["reference"] = [g.detach() for g in goals]
        if self.config.combination == "exponential":
            goals = [(g - r).clamp_max(HIGHEST).exp() for g, r in zip(goals, reference, strict=True)]
        return sum(goals) + self.config.weight_diversity * terms["diversity"]

    def decode(self, network: nn.Module, latents: Tensor, y: Tensor) -> Tensor:
        """As the student sees it: with the running statistics of the generator's own normalisation."""
        network.eval()
        try:
            return super().decode(network, latents, y)
        finally:
            network.train()
