"""DeepInversion: images whose statistics inside the teacher are those that its batch normalisation remembers.

References: | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al. 2020) | https://arxiv.org/abs/1912.08795
"""

from __future__ import annotations

from torch import Tensor

from ..config import param
from ..losses import feature_statistics
from .base import Failure, State
from .deepdream import DeepDream, DreamConfig

__all__ = ["DeepInversion", "InversionOfStatisticsConfig"]


class InversionOfStatisticsConfig(DreamConfig):
    """DeepDream's, and the weight of the statistics."""

    weight_statistics: float = param(
        10.0,
        low=0.0,
        high=1e4,
        scale="log",
        label="Statistics weight",
        symbol="λ_BN",
        live=True,
        help="Pulls mean and variance inside the teacher to those of its training data. 0 is DeepDream.",
    )


class DeepInversion(DeepDream):
    r"""DeepDream, with the statistics that batch normalisation keeps of the training data as a prior.

        L = L_DeepDream + λ_BN R,     R = Σ_l ||mean_l(x) - μ_l|| + ||var_l(x) - σ²_l||

    over all layers l of batch normalisation; mean and (biased) variance per channel are those of what comes into the
    layer for this mini-batch, μ and σ² the layer's running statistics. So the mini-batch looks to the teacher as its
    training data did, layer by layer.

    Deviations from the paper and its code:

    1. The paper's last state is kept, as its script in fact does; it means to keep the best one.
    2. Defaults are our own, for budgets of minutes: 100 steps for 2,000.
    3. On points the statistics are those of an MLP with batch normalisation, and there is no image prior: our own
       extension, not in the paper.
    """

    name = "deepinversion"
    title = "DeepInversion"
    summary = "Images whose statistics inside the teacher are those of its training data."
    equation = (
        r"\mathcal{L} = \mathcal{L}_{\mathrm{DeepDream}} + \lambda_{BN} \textstyle\sum_l"
        r" \lVert \mathrm{mean}_l(x) - \mu_l \rVert + \lVert \mathrm{var}_l(x) - \sigma^2_l \rVert"
    )
    reference = "Yin et al. (CVPR 2020), arXiv 1912.08795"
    access = frozenset({"logits", "gradient", "batchnorm"})
    Config = InversionOfStatisticsConfig
    presets = {
        "points": {"step_size": 0.05, "steps": 100, "weight_statistics": 1.0},
        "images": DeepDream.presets["images"] | {"weight_variation": 2.5e-5, "weight_statistics": 10.0},
        "digits": DeepDream.presets["digits"],
    }
    failures = (
        Failure(
            "Without the statistics it is DeepDream",
            "With the statistics weight at 0 samples go wherever the teacher is surest, hardly any lies near the "
            "boundary, and the student falls well behind.",
            {"data": "digits", "student": "resnet4-half", "weight_statistics": "0"},
        ),
    )

    def objective(self, state: State, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if self.config.weight_statistics == 0:
            return super().objective(state, x)
        z, layers = state.problem.teacher.normalised(x.flatten(0, 2))
        z = z.unflatten(0, x.shape[:3])
        return z, {**self.losses(state, x, z), "statistics": feature_statistics(layers, len(x))}
