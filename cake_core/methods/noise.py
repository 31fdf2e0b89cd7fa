"""Control: the noise that every other method starts from, and nothing else.

References: | Deep Classifier Mimicry without Data Access (Braun, Mundt, Kersting 2024), the prior of Section 3 | https://arxiv.org/abs/2306.02090
"""

from __future__ import annotations

from torch import Tensor

from ..rng import Streams
from ..synthetic import Problem
from .base import Method, MethodConfig, State
from .cake import Cake

__all__ = ["Noise"]


class Noise(Method):
    r"""x ~ N(0, σ² I), labelled by the teacher. Whatever a method claims must be more than this gives.

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
    presets = MethodConfig.shared(Cake.presets)

    def init(self, problem: Problem, rng: Streams) -> State:
        return self.prior(problem, rng)

    def step(self, state: State, rng: Streams) -> dict[str, Tensor]:
        return {}
