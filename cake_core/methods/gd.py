"""Gaussian distillation: noise is enough, where batch normalisation may adapt to it.

References: | Discovering and Overcoming Limitations of Noise-engineered Data-free KD (Raikwar, Mishra 2022) | https://openreview.net/forum?id=K8JngctQ2Tu
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import param
from ..rng import Streams
from ..synthetic import Problem
from .base import Failure, Method, MethodConfig, State

__all__ = ["GaussianDistillation"]


class GaussianConfig(MethodConfig):
    """Where the noise is, and what the teacher makes of it."""

    shift: float = param(
        0.0,
        low=-10.0,
        high=10.0,
        step=0.5,
        label="Mean of the noise",
        symbol="μ",
        help="Far from 0, running statistics give answers of one class alone; batch statistics do not mind.",
    )
    batch_mode: bool = param(
        True,
        label="Batch statistics",
        help="On: the teacher normalises with the statistics of the noise itself. Off: with those of its data, "
        "to which noise is foreign.",
    )


class GaussianDistillation(Method):
    r"""x ~ N(μ, σ² I), answered by a teacher whose batch normalisation takes its statistics from these very samples.

        h -> γ (h - mean(h)) / sqrt(var(h) + ε) + β     with mean and variance of the mini-batch

    With the running statistics of its training data, noise takes a teacher to activations that it has never seen, and
    its answers are nearly all one class. With the statistics of the mini-batch, the next layer sees what it expects.
    The student normalises by batch too, also when it is tested.

    Deviations from the paper and its code:

    1. A fixed number of noise samples, for fresh ones at every update: the same budget as with all methods here.
    2. The student's learning rate follows one cycle; the published run lowers it by the loss on real test data, which
       is not data-free.
    3. The teacher's running statistics stay as they are; the published code overwrites them with those of noise.
    4. σ and μ are settings; the paper has 1 and 0.
    """

    name = "gd"
    title = "Gaussian distillation"
    summary = "Pure noise, answered by a teacher whose batch normalisation adapts to it."
    equation = (
        r"x \sim \mathcal{N}(\mu, \sigma^2 I), \quad"
        r" h \mapsto \gamma\, \frac{h - \mathrm{mean}(h)}{\sqrt{\mathrm{var}(h) + \epsilon}} + \beta"
    )
    reference = "Raikwar and Mishra (NeurIPS 2022), OpenReview K8JngctQ2Tu"
    access = frozenset({"logits", "batchnorm"})
    steered = False
    own_targets = True
    tracks = False
    Config = GaussianConfig
    presets = {"images": {"batches": 40, "samples": 250}, "digits": {"batches": 20, "samples": 200}}
    student = {
        "": {"batch_statistics": True},
        "points": {"model": "mlp-norm"},
        "images": {"model": "resnet4-half"},
    }
    failures = (
        Failure(
            "Running statistics",
            "A teacher that normalises noise as if it were its data sees activations that it does not know. On noise "
            "that lies away from the data it names one class for nearly all, and the student learns that one.",
            {"data": "moons", "batch_mode": "false", "shift": "-5"},
        ),
    )

    def init(self, problem: Problem, rng: Streams) -> State:
        state = self.prior(problem, rng)
        state.x += self.config.shift
        return state

    def step(self, state: State, rng: Streams) -> dict[str, Tensor]:
        return {}

    def samples(self, state: State) -> tuple[Tensor, Tensor]:
        x, teacher = state.x.flatten(1, 2), state.problem.teacher
        with torch.no_grad():
            # One mini-batch at a time: its statistics are its own, however many are in flight.
            z = [teacher.in_batch_mode(part) if self.config.batch_mode else teacher(part) for part in x]
        return x, torch.stack(z).softmax(dim=-1)
