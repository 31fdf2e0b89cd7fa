"""CAKE: pairs of samples are pulled together across the teacher's decision boundary.

References: | Deep Classifier Mimicry without Data Access (Braun, Mundt, Kersting 2024) | https://arxiv.org/abs/2306.02090
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..config import param
from ..losses import certainty, classification, contrast, entanglement, total_variation
from .base import Failure, Inversion, InversionConfig, State

__all__ = ["Cake"]


class CakeConfig(InversionConfig):
    """Weights of CAKE's three terms."""

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
    weight_contrast: float = param(
        0.1,
        low=0.0,
        high=1000.0,
        scale="log",
        label="Contrast weight",
        symbol="λ_contr",
        live=True,
        help="Pulls samples of different classes together, so that they meet at the boundary between them.",
    )
    weight_variation: float = param(
        0.0,
        low=0.0,
        high=1e8,
        scale="log",
        label="Smoothness weight",
        symbol="λ_TV",
        live=True,
        suits="images",
        help="Image prior: the smaller the total variation, the smoother the image. Points have none.",
    )
    weight_entropy: float = param(
        0.0,
        low=0.0,
        high=1000.0,
        scale="log",
        label="Entropy weight",
        symbol="λ_ent",
        group="Advanced",
        help="Raises the entropy of the teacher's answers, which is highest at the boundary. The reference code has "
        "such a term, and does not use it.",
    )
    contrast: Literal["squared", "neighbours"] = param(
        "squared",
        group="Advanced",
        help="squared: the distance between the answers of each pair in a group. neighbours: the soft-nearest-"
        "neighbour loss, which wants each sample's nearest neighbours among the answers to be of other classes.",
    )
    neighbourhood: float = param(
        10.0,
        low=0.01,
        high=100.0,
        scale="log",
        symbol="T",
        group="Advanced",
        help="How far the contrast of neighbours looks for them, in mean squared distance of answers.",
    )


class Cake(Inversion):
    r"""Contrastive abductive knowledge extraction.

    For logits z of samples x with steering labels y, in groups that hold each class once:

        L = λ_cls Σ CE(z, y) + λ_contr Σ_b 1/(2C) Σ_ij ||z_bi - z_bj||² + λ_TV Σ TV(x)
        x <- x - η_m ∇_x L,     η_m = η_0 10^(-D m/M)

    Classification pulls a sample into its class, contrast pulls the samples of a group toward each other: together they
    hold the group on both sides of a boundary. The step size falls over the mini-batches, so that they stop at
    different distances. Targets of the student are the teacher's probabilities for the finished samples.

    Deviations from the paper and its code:

    1. The terms are sums over a group's samples, where the code takes means over the mini-batch of N = B G samples. A
       sample's step then does not depend on N. The code's weights at its N = 500 and G = C = 10 correspond to
       λ_cls / 50, λ_contr / 50 and λ_TV / 500 here: its (1e3, 1e1, 1e5) is (20, 0.2, 200), and its MNIST setting
       (1e3, 1e-3, 1e7) is (20, 2e-5, 2e4).
    2. The contrast is computed from distances to the group's mean, which equals the sum over pairs.
    3. A mini-batch holds whole groups: N is rounded up to a multiple of G, where the code demands one.
    4. Several mini-batches can be in flight at once; each has its own step size and random numbers, so the samples
       are those of one at a time.
    5. The gradient of a sample can be clipped (off by default; the code has none).
    6. The soft-nearest-neighbour contrast and the entropy term are options of the code alone, off by default there and
       here; their exact form is ours (`losses.entanglement`, `losses.certainty`).
    7. Defaults are our own, found at budgets of seconds to minutes on the test accuracy of a few seeds: fewer and
       shorter mini-batches, and of the code's four decades of step sizes only the middle one (0.03 to 0.005 on MNIST),
       whose samples teach the most by far; on MNIST less than half of the code's λ_TV, and the contrast it has
       for its other data sets; on CIFAR-10 five times the code's λ_TV, the best of five settings in a small trial.
    """

    name = "cake"
    title = "CAKE"
    summary = "Pulls pairs of samples together across the decision boundary, at step sizes that fall over the run."
    equation = (
        r"x \leftarrow x - \eta_m \nabla_x \big[\lambda_{cls} \textstyle\sum_i \mathrm{CE}(z_i, y_i)"
        r" + \lambda_{contr} \frac{1}{2C} \sum_{ij} \lVert z_i - z_j \rVert^2 + \lambda_{TV} \mathrm{TV}(x)\big]"
    )
    reference = "Braun, Mundt, Kersting (AISTATS 2024), arXiv 2306.02090"
    Config = CakeConfig
    presets = {
        "points": {"step_size": 0.1, "decades": 1.0, "clip": 1.0},
        "images": {
            "weight_classification": 20.0,
            "weight_contrast": 0.2,
            "weight_variation": 8000.0,
            "step_size": 0.03,
            "decades": 0.75,
            "steps": 64,
            "batches": 40,
            "samples": 250,
        },
        "cifar10": {"weight_variation": 1000.0},
        "digits": {
            "weight_contrast": 0.02,
            "weight_variation": 100.0,
            "step_size": 0.01,
            "decades": 1.0,
            "steps": 32,
            "batches": 20,
            "samples": 200,
        },
    }

    failures = (
        Failure(
            "One spot on the boundary",
            "Where all samples start close together, they meet the boundary in one place and stay there: nothing "
            "spreads them along it, and the student learns a small piece of it.",
            {"data": "moons", "sigma": "0.1", "step_size": "0.5", "decades": "0"},
        ),
        Failure(
            "Too much contrast",
            "With a heavy contrast the samples of a group only want equal answers, whatever their class: steps "
            "overshoot, and samples jump across the plane.",
            {"data": "moons", "weight_contrast": "5"},
        ),
    )

    def losses(self, state: State, x: Tensor, z: Tensor) -> dict[str, Tensor]:
        neighbours = self.config.contrast == "neighbours"
        terms = {
            "classification": classification(z, state.y),
            "contrast": entanglement(z, state.y, self.config.neighbourhood) if neighbours else contrast(z),
        }
        if self.config.weight_entropy > 0:
            terms["entropy"] = certainty(z)
        if x.dim() == 6 and self.config.weight_variation > 0:  # images (M, B, G, channels, H, W)
            terms["variation"] = total_variation(x)
        return terms
