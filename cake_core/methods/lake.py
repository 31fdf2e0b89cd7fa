"""LAKE: CAKE's descent with Langevin noise at every step.

References: | Deep Classifier Mimicry without Data Access (Braun, Mundt, Kersting 2024), Section 3.2 | https://arxiv.org/abs/2306.02090
"""

from __future__ import annotations

from torch import Tensor

from ..config import param
from ..rng import Streams
from .base import Failure, State, langevin
from .cake import Cake, CakeConfig

__all__ = ["Lake"]


class LakeConfig(CakeConfig):
    """CAKE's settings and the strength of the noise."""

    temperature: float = param(
        1.0,
        low=0.0,
        high=10.0,
        step=0.05,
        symbol="τ",
        live=True,
        help="Strength of the noise added at each step. 0 is CAKE; higher spreads the samples along the boundary.",
    )


class Lake(Cake):
    r"""Langevin abductive knowledge extraction.

        x <- x - η_m ∇_x L + sqrt(2 η_m τ) ξ,     ξ ~ N(0, I)

    with CAKE's L. For small steps and many of them the samples are distributed as exp(-L(x) / τ): they spread along the
    boundary instead of stopping where they first meet it.

    Deviations from the paper and its code:

    1. The printed eq. 3 has a plus before the gradient, the loss as a factor and ε in two roles; taken literally it
       climbs the loss. This is the usual Langevin step, which is also what the code does.
    2. Temperature τ is a setting of its own (1 in the code).
    3. Those of CAKE.
    """

    name = "lake"
    title = "LAKE"
    summary = "CAKE with noise added at every step, so that samples spread along the boundary."
    equation = r"x \leftarrow x - \eta_m \nabla_x \mathcal{L}_{\mathrm{CAKE}} + \sqrt{2 \eta_m \tau}\, \xi"
    Config = LakeConfig
    presets = {
        **{name: {**preset, "temperature": 0.01} for name, preset in Cake.presets.items()},
        "points": {"step_size": 0.1, "decades": 0.5, "clip": 1.0, "temperature": 0.1},
    }

    failures = (
        Failure(
            "Too hot",
            "At a high temperature the noise outweighs the gradient: samples wander as in Brownian motion, and few of "
            "them are near the boundary.",
            {"data": "moons", "temperature": "5"},
        ),
    )

    def step(self, state: State, rng: Streams) -> dict[str, Tensor]:
        terms = super().step(state, rng)
        langevin(state.x, self.step_sizes(state, rng), self.config.temperature, rng)
        return terms
