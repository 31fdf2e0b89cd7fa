"""Control: LAKE's noise without its gradient.

References: | Deep Classifier Mimicry without Data Access (Braun, Mundt, Kersting 2024), the noise of eq. 3 | https://arxiv.org/abs/2306.02090
"""

from __future__ import annotations

from torch import Tensor

from ..config import param
from ..rng import Streams
from .base import State, Walk, WalkConfig, langevin
from .lake import Lake

__all__ = ["Brownian"]


class BrownianConfig(WalkConfig):
    """A walk's settings and the strength of the noise."""

    temperature: float = param(
        1.0, low=0.0, high=10.0, step=0.05, symbol="τ", live=True, help="Strength of the noise added at each step."
    )


class Brownian(Walk):
    r"""x <- x + sqrt(2 η_m τ) ξ with ξ ~ N(0, I): what LAKE would do if it never asked for a gradient.

    After T steps the samples are distributed as N(0, (σ² + 2 η_m τ T) I). In the plane that covers the neighbourhood of
    every boundary, which is why this control is shown beside LAKE.

    Deviations from the paper and its code: none; neither has this control.
    """

    name = "brownian"
    title = "Brownian"
    summary = "Control: samples that drift at random, with LAKE's noise and no gradient."
    equation = r"x \leftarrow x + \sqrt{2 \eta_m \tau}\, \xi"
    reference = "Control; the noise of eq. 3 in Braun, Mundt, Kersting (AISTATS 2024), arXiv 2306.02090"
    access = frozenset({"logits"})
    family = "Control"
    control = True
    Config = BrownianConfig
    # LAKE's, without the settings that it has not got.
    presets = {
        name: {k: v for k, v in p.items() if k in BrownianConfig.model_fields} for name, p in Lake.presets.items()
    }

    def step(self, state: State, rng: Streams) -> dict[str, Tensor]:
        langevin(state.x, self.step_sizes(state, rng), self.config.temperature, rng)
        return {}
