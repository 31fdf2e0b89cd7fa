"""Naive inversion: gradient descent on the cross-entropy alone.

References: | Deep Classifier Mimicry without Data Access (Braun, Mundt, Kersting 2024), Fig. 1 and Table 1 | https://arxiv.org/abs/2306.02090
"""

from __future__ import annotations

from torch import Tensor

from ..config import param
from ..losses import classification
from .base import Failure, Inversion, InversionConfig, State
from .cake import Cake

__all__ = ["Naive"]


class NaiveConfig(InversionConfig):
    """The one weight."""

    weight_classification: float = param(
        1.0,
        low=0.0,
        high=1000.0,
        scale="log",
        label="Classification weight",
        symbol="λ_cls",
        live=True,
        help="Pulls each sample to its own class, away from the boundary.",
    )


class Naive(Inversion):
    r"""Each sample becomes what the teacher is most certain of.

        x <- x - η_m ∇_x λ_cls Σ CE(z, y)

    In a ReLU network the gap between logits grows along rays, so the loss has no minimum at a finite distance: samples
    leave the boundary and run until the gradient fades. The student sees where the teacher is certain, and not where it
    changes its mind.

    Deviations from the paper and its code:

    1. Those of CAKE that concern sums, whole groups, mini-batches in flight and clipping.
    2. Targets are the teacher's probabilities; choose hard targets for the student to have the paper's "baseline".
    """

    name = "naive"
    title = "Naive"
    summary = "Descends the cross-entropy alone: samples run away from the boundary."
    equation = r"x \leftarrow x - \eta_m \nabla_x \lambda_{cls} \textstyle\sum_i \mathrm{CE}(z_i, y_i)"
    reference = "Baseline of Braun, Mundt, Kersting (AISTATS 2024), Fig. 1 and Table 1, arXiv 2306.02090"
    Config = NaiveConfig
    presets = NaiveConfig.shared(Cake.presets)

    failures = (
        Failure(
            "Away from the boundary",
            "Samples that start in one spot run outward until the teacher is sure of them; between the classes none is "
            "left, and the student must guess where the boundary is.",
            {"data": "moons", "sigma": "0.1", "step_size": "0.5", "decades": "0", "clip": "1"},
        ),
    )

    def losses(self, state: State, x: Tensor, z: Tensor) -> dict[str, Tensor]:
        return {"classification": classification(z, state.y)}
