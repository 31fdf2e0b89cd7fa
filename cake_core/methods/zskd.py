"""ZSKD: data impressions, inputs whose softened answers match targets drawn from class similarity.

References: | Zero-Shot Knowledge Distillation in Deep Networks (Nayak et al. 2019) | https://arxiv.org/abs/1905.08114
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..config import param
from ..rng import Streams, generator
from ..synthetic import Problem
from .base import Failure, Inversion, InversionConfig, State, descent

__all__ = ["Zskd", "class_similarity"]

TARGETS = 7  # of the random streams: that of the targets of mini-batch m is (seed, m, TARGETS)
FLOOR = 1e-4  # smallest concentration of the Dirichlet distribution


class ZskdConfig(InversionConfig):
    """Targets, temperature, and a pull to the origin."""

    weight_match: float = param(
        1.0,
        low=0.0,
        high=1000.0,
        scale="log",
        label="Match weight",
        symbol="λ_m",
        live=True,
        help="Pulls the teacher's softened answer for each sample to the sample's target.",
    )
    weight_norm: float = param(
        1e-3,
        low=0.0,
        high=100.0,
        scale="log",
        label="Norm weight",
        symbol="λ_norm",
        live=True,
        help="Mean square of the sample. Without it nothing bounds the inputs, whose logits must be large at a high "
        "temperature.",
    )
    temperature: float = param(
        20.0,
        low=1.0,
        high=100.0,
        scale="log",
        symbol="τ",
        help="Softens the teacher's answers when they are matched to the targets.",
    )
    concentration: float = param(
        1.0,
        low=0.01,
        high=100.0,
        scale="log",
        symbol="β",
        help="Of the targets' Dirichlet distribution, for half of the mini-batches; the others have a tenth of it. "
        "Small: targets are nearly one class. Large: they resemble the class similarity.",
    )
    optimizer: Literal["sgd", "adam"] = descent("adam")


class Zskd(Inversion):
    r"""Data impressions: for a target y of class k, an input whose softened answer is y.

    With W the weights of the last layer, c_k the cosine similarities of row k with all rows, scaled to [0, 1]:

        y ~ Dirichlet(β c_k + δ),     x = argmin λ_m CE(y, softmax(z / τ)) + λ_norm mean x²

    by Adam. Classes whose weights are alike so get targets that mix them.

    Deviations from the paper and its code:

    1. c is scaled once and then multiplied by β and β / 10. The released script scales again when it samples, which
       cancels the factor; both its halves so have β = 1.
    2. Every mini-batch starts from fresh noise N(0, σ²), for once per class; that makes the impressions more diverse.
    3. The norm term is a re-implementation's: the original rescales the batch to [0, 1] at each step instead.
    4. Defaults are our own, for budgets of minutes: 100 steps for 1,500, and for images β = 10, for 1: more of the
       targets then mix classes, which on MNIST teaches far more from a few thousand impressions.
    5. The student learns at τ = 20 as there, from the answers for the finished impressions without augmentation.
    """

    name = "zskd"
    title = "ZSKD"
    summary = "Data impressions: inputs whose softened answers match targets drawn from class similarity."
    equation = (
        r"x^* = \arg\min_x \mathrm{CE}\big(y, \mathrm{softmax}(z / \tau)\big) + \lambda_{norm} \overline{x^2},"
        r"\quad y \sim \mathrm{Dirichlet}(\beta\, c_k)"
    )
    reference = "Nayak et al. (ICML 2019), arXiv 1905.08114"
    access = frozenset({"logits", "gradient", "weights"})
    Config = ZskdConfig
    presets = {
        "points": {"step_size": 0.05, "steps": 150},
        "images": {
            "step_size": 0.05,
            "steps": 100,
            "batches": 40,
            "samples": 250,
            "concentration": 10.0,
            "weight_norm": 0.1,
        },
        "digits": {"batches": 20, "samples": 200},
    }
    student = {"": {"temperature": 20.0}}
    failures = (
        Failure(
            "Nothing bounds the inputs",
            "At temperature 20 only large logits match a peaked target. Without the norm term the inputs grow far "
            "beyond anything real, and the answers there mean little.",
            {"data": "moons", "weight_norm": "0", "steps": "1000"},
        ),
    )

    def init(self, problem: Problem, rng: Streams) -> State:
        state = self.prior(problem, rng)
        similar = class_similarity(problem.teacher.last_weights()).cpu().double()
        half = (problem.batches + 1) // 2
        drawn = []
        for place, m in enumerate(rng.batches):
            beta = self.config.concentration * (1.0 if m < half else 0.1)
            concentration = beta * similar[state.y[place].cpu()] + FLOOR  # (B, G, C)
            drawn.append(dirichlet(concentration, generator(rng.seed, m, TARGETS)))
        state.extra["targets"] = torch.stack(drawn).float().to(state.x.device)
        return state

    def losses(self, state: State, x: Tensor, z: Tensor) -> dict[str, Tensor]:
        answers = (z / self.config.temperature).log_softmax(dim=-1)
        return {
            "match": -(state.extra["targets"] * answers).sum(dim=(1, 2, 3)),
            "norm": x.square().flatten(3).mean(dim=-1).sum(dim=(1, 2)),
        }


def class_similarity(weights: Tensor) -> Tensor:
    """c (C, C): cosine similarities of the rows of the last layer's weights (C, F), each row scaled to [0, 1].

    Source: Nayak et al. (2019), arXiv 1905.08114, eq. 1 and Section 3.2.
    """
    rows = F.normalize(weights, dim=1)
    s = rows @ rows.T
    low, high = s.amin(dim=1, keepdim=True), s.amax(dim=1, keepdim=True)
    return (s - low) / (high - low).clamp_min(1e-12)


def dirichlet(concentration: Tensor, draws: torch.Generator) -> Tensor:
    """One draw of Dirichlet(concentration) along the last axis: Gamma draws, normalised.

    For small concentrations a, Gamma(a) is drawn as Gamma(a + 1) U^(1/a) in logarithms, since most of its draws are
    smaller than the smallest number.
    """
    more = torch._standard_gamma(concentration + 1, generator=draws)
    uniform = torch.rand(concentration.shape, generator=draws, dtype=concentration.dtype).clamp_min(1e-300)
    return (more.log() + uniform.log() / concentration).softmax(dim=-1)
