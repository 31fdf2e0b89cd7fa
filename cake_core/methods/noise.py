"""Control: the noise that every other method starts from, and nothing else.

References: | Deep Classifier Mimicry without Data Access (Braun, Mundt, Kersting 2024), the prior of Section 3 | https://arxiv.org/abs/2306.02090
"""

from __future__ import annotations

from torch import Tensor

from ..config import param
from ..rng import Streams
from ..synthetic import Problem
from .base import Method, MethodConfig, State, cut_out, smooth_noise
from .cake import Cake

__all__ = ["Noise"]


class NoiseConfig(MethodConfig):
    """What it adds to what all methods have."""

    shapes: bool = param(
        False,
        label="Cut out in shapes",
        group="Schedule",
        suits="images",
        help="The control of CAKE+ with shapes: smooth noise, cut out in random shapes on plain ground.",
    )


class Noise(Method):
    r"""x ~ N(0, σ² I), labelled by the teacher. Whatever a method claims must be more than this gives.

    A method whose samples are more than moved noise needs a control that is more than noise, too. With shapes samples
    are smooth noise (7 x 7 numbers from N(0, σ²), enlarged, times the spread of 0.4 that CAKE's samples have), cut out
    as those of CAKE+ are.

    Deviations from the paper and its code: none; neither has this control.
    """

    name = "noise"
    title = "Noise only"
    summary = "Control: random samples that are labelled by the teacher and never moved."
    equation = r"x \sim \mathcal{N}(0, \sigma^2 I)"
    reference = "Control; the prior of Braun, Mundt, Kersting (AISTATS 2024), arXiv 2306.02090"
    access = frozenset({"logits"})
    family = "Control"
    control = True
    Config = NoiseConfig
    presets = MethodConfig.shared(Cake.presets)

    def init(self, problem: Problem, rng: Streams) -> State:
        state = self.prior(problem, rng)
        if self.config.shapes:
            x = 0.4 * self.config.sigma * smooth_noise(problem.shape, rng, state.y[0].numel(), 7)
            state.x = cut_out(x, rng).view_as(state.x)
        return state

    def step(self, state: State, rng: Streams) -> dict[str, Tensor]:
        return {}
