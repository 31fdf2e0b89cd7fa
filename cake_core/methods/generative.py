"""Generative baseline: a small conditional generator is trained through the teacher.

References: | Deep Classifier Mimicry without Data Access (Braun, Mundt, Kersting 2024), Fig. 1 | https://arxiv.org/abs/2306.02090
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import param
from ..rng import Streams
from ..synthetic import Problem
from .base import Failure, Generative, GenerativeConfig, State

__all__ = ["ConditionalGenerator"]

REPEL_FLOOR = 1e-2  # keeps the repelling term finite when two draws coincide


class ConditionalConfig(GenerativeConfig):
    """The generator's size and the weights of its terms."""

    weight_classification: float = param(
        1.0,
        low=0.0,
        high=1000.0,
        scale="log",
        label="Classification weight",
        symbol="λ_cls",
        live=True,
        help="Makes the teacher recognise each sample as the class it was made for.",
    )
    weight_contrast: float = param(
        0.0,
        low=0.0,
        high=1000.0,
        scale="log",
        label="Contrast weight",
        symbol="λ_contr",
        live=True,
        help="Pulls two samples of one latent and different classes together. Small values already make it collapse.",
    )
    weight_repel: float = param(
        0.0,
        low=0.0,
        high=10.0,
        scale="log",
        label="Repel weight",
        symbol="λ_rep",
        live=True,
        help="Pushes samples of one class and different latents apart, against collapse.",
    )
    latent: int = param(
        5, low=1, high=512, label="Latent size", group="Advanced", help="Number of random inputs of the generator."
    )
    width: int = param(
        10, low=1, high=2048, label="Hidden units", group="Advanced", help="Width of its two hidden layers."
    )
    pairs: int = param(
        64, low=1, high=4096, scale="log", label="Pairs per step", group="Advanced", help="Pairs in a training batch."
    )


class ConditionalGenerator(Generative):
    r"""G(u, c): a two-layer network makes samples of class c from a latent u; the teacher judges them.

    A pair shares one u ~ U[0, 1)^d and has two different classes:

        L = λ_cls mean CE(f(G(u, c)), c) + λ_contr mean ||f(G(u, c1)) - f(G(u, c2))||² / C
            + λ_rep mean 1 / (ε + ||G(u, c) - G(u', c)||² / n)

    With cross-entropy alone it forgets u and emits a short curve or a point for each class, far from the boundary; with
    contrast the points meet at one place of the boundary and stay there.

    Deviations from the paper and its code:

    1. The text says that the teacher's confidence is minimised; the code, as here, minimises the cross-entropy.
    2. The repelling term has a floor ε = 0.01; in the code it divides by zero when two draws coincide.
    3. Sampling gives each group one latent and all classes; the code draws pairs of classes.
    4. For images the same network gets wider and ends in one output per pixel: our extension, not in the paper.
    5. Default 3,000 steps, where the code takes 15,000; the picture is the same.
    """

    name = "generative"
    title = "Generative"
    summary = "Trains a small generator whose samples the teacher recognises; it tends to collapse."
    equation = (
        r"\theta \leftarrow \theta - \mathrm{Adam}\,\nabla_\theta\,"
        r"\mathrm{CE}\big(f(G_\theta(u, c)), c\big),\quad u \sim U[0,1)^d"
    )
    reference = "Second row of Fig. 1 in Braun, Mundt, Kersting (AISTATS 2024), arXiv 2306.02090"
    Config = ConditionalConfig
    presets = {
        "images": {"latent": 64, "width": 256, "steps": 1000, "batches": 40, "samples": 250},
        "digits": {"batches": 20, "samples": 200},
    }

    failures = (
        Failure(
            "Collapse",
            "The generator needs but one good point for each class: with contrast both meet at one place of the "
            "boundary, and all samples are that place.",
            {"data": "moons", "weight_contrast": "0.1"},
        ),
    )

    def build(self, problem: Problem) -> nn.Module:
        c = self.config
        return nn.Sequential(
            nn.Linear(c.latent + problem.classes, c.width),
            nn.ReLU(),
            nn.Linear(c.width, c.width),
            nn.ReLU(),
            nn.Linear(c.width, math.prod(problem.shape)),
            nn.Unflatten(-1, problem.shape),
        )

    def latents(self, problem: Problem, rng: Streams) -> Tensor:
        return rng.uniform(self.groups(problem)[0], self.config.latent)  # (M, B, d)

    def decode(self, network: nn.Module, latents: Tensor, y: Tensor) -> Tensor:
        classes = network[0].in_features - self.config.latent
        shared = latents.unsqueeze(-2).expand(*y.shape, -1)  # one latent for the whole group
        return network(torch.cat([shared, F.one_hot(y, classes)], dim=-1))

    def losses(self, state: State) -> dict[str, Tensor]:
        generator, problem, pairs = state.generator, state.problem, self.config.pairs
        draw = {"generator": generator.rng, "device": problem.device}
        u = torch.rand(2, pairs, self.config.latent, **draw)  # two draws, for the repelling term
        c = torch.rand(pairs, problem.classes, **draw).argsort(dim=-1)[:, :2]  # two different classes (pairs, 2)
        x = self.decode(generator.network, u[0], c)  # (pairs, 2, *shape)
        z = problem.teacher(x.flatten(0, 1))
        terms = {"classification": F.cross_entropy(z, c.flatten())}
        if self.config.weight_contrast > 0:
            one, two = z.unflatten(0, (pairs, 2)).unbind(dim=1)
            terms["contrast"] = F.mse_loss(one, two)
        if self.config.weight_repel > 0:
            other = self.decode(generator.network, u[1], c)
            apart = (x - other).square().flatten(2).mean(dim=-1)  # (pairs, 2)
            terms["repel"] = (1 / (REPEL_FLOOR + apart)).mean()
        return terms
