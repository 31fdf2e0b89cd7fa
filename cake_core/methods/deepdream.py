"""DeepDream: images that the teacher is sure of, held together by an image prior alone.

References:
| Inceptionism: Going Deeper into Neural Networks (Mordvintsev, Olah, Tyka 2015) | https://research.google/blog/inceptionism-going-deeper-into-neural-networks/
| Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al. 2020) | https://arxiv.org/abs/1912.08795
"""

from __future__ import annotations

from torch import Tensor

from ..config import param
from ..losses import classification, neighbour_variation
from ..rng import Streams
from ..synthetic import Problem
from .base import Failure, Inversion, InversionConfig, Optimizer, State, descent

__all__ = ["DeepDream", "DreamConfig"]


class DreamConfig(InversionConfig):
    """Weights of the image prior, and the jitter."""

    weight_classification: float = param(
        1.0,
        low=0.0,
        high=1000.0,
        scale="log",
        label="Classification weight",
        symbol="λ_cls",
        live=True,
        help="Makes the teacher surer of each sample's own class.",
    )
    weight_variation: float = param(
        0.0,
        low=0.0,
        high=1e3,
        scale="log",
        label="Smoothness weight",
        symbol="λ_TV",
        live=True,
        suits="images",
        help="Image prior: differences of neighbouring pixels, also diagonal ones. Points have none.",
    )
    weight_norm: float = param(
        0.0,
        low=0.0,
        high=1e3,
        scale="log",
        label="Norm weight",
        symbol="λ_norm",
        live=True,
        help="Pulls all samples of a mini-batch toward the origin.",
    )
    jitter: int = param(
        0,
        low=0,
        high=8,
        unit="pixels",
        group="Advanced",
        suits="images",
        help="At each step the images of a mini-batch are rolled by up to so many pixels, so that nothing may hang on "
        "one exact place.",
    )
    optimizer: Optimizer = descent("adam")


class DeepDream(Inversion):
    r"""Samples become what the teacher is surest of, and an image prior keeps them smooth.

    For a mini-batch x of N samples, rolled by a random offset, with steering labels y:

        L = λ_cls mean CE(z, y) + λ_TV R_TV(x) + λ_norm ||x||
        R_TV = ||Δ_w x|| + ||Δ_h x|| + ||Δ_diag x|| + ||Δ_anti x||
        x <- x - η Adam(∇_x L)

    Every norm is that of the whole mini-batch. The result looks smooth and the teacher is sure of it, and it teaches
    badly: nothing asks for samples near the boundary, nor for activations like those of real data.

    Deviations from the paper and its code:

    1. This is the "image prior only" baseline of the DeepInversion paper, which the CAKE paper's tables call DeepDream;
       the picture of 2015 starts from a photo and climbs a layer's activations.
    2. Points have no image prior: there it is naive inversion by Adam with a pull to the origin.
    3. Defaults are our own, for budgets of seconds to minutes: 100 steps for 2,000.
    """

    name = "deepdream"
    title = "DeepDream"
    summary = "Images that the teacher is sure of, held together by an image prior alone."
    equation = (
        r"x \leftarrow x - \eta\, \mathrm{Adam}\, \nabla_x \big[\tfrac{1}{N} \textstyle\sum_i \mathrm{CE}(z_i, y_i)"
        r" + \lambda_{TV} \sum_d \lVert \Delta_d x \rVert + \lambda_{norm} \lVert x \rVert\big]"
    )
    reference = "Mordvintsev, Olah, Tyka (2015); as a baseline Yin et al. (CVPR 2020), arXiv 1912.08795"
    Config = DreamConfig
    presets = {
        "points": {"step_size": 0.05, "steps": 100, "weight_norm": 0.002},
        "images": {
            "weight_variation": 1e-3,
            "jitter": 2,
            "step_size": 0.1,
            "steps": 100,
            "batches": 40,
            "samples": 250,
        },
        "digits": {"jitter": 1, "step_size": 0.05, "batches": 20, "samples": 200},
    }
    student = {"": {"temperature": 3.0}}
    failures = (
        Failure(
            "Sure of everything, and far from the boundary",
            "Samples that start in one spot run to where the teacher is certain. None is left near the boundary, and "
            "the student must guess where it is.",
            {"data": "moons", "sigma": "0.1"},
        ),
    )

    def init(self, problem: Problem, rng: Streams) -> State:
        state = super().init(problem, rng)
        if (most := self.config.jitter) and len(problem.shape) == 3:
            # Drawn for all steps at once, so that no step waits for the device.
            state.extra["rolls"] = (rng.uniform(self.steps, 2) * (2 * most + 1)).long() - most  # (M, T, 2)
        return state

    def offsets(self, state: State) -> Tensor | None:
        rolls = state.extra.get("rolls")
        return rolls[:, state.t] if rolls is not None else None

    def losses(self, state: State, x: Tensor, z: Tensor) -> dict[str, Tensor]:
        terms = {"classification": classification(z, state.y) / state.y[0].numel()}
        if x.dim() == 6 and self.config.weight_variation > 0:
            terms["variation"] = neighbour_variation(x)
        if self.config.weight_norm > 0:
            terms["norm"] = x.flatten(1).norm(dim=1)
        return terms
