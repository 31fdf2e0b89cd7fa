"""Distillation with data: the reference line for all methods that have none.

References: | Distilling the knowledge in a neural network (Hinton, Vinyals, Dean 2015) | https://arxiv.org/abs/1503.02531
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..rng import Streams, generator
from ..synthetic import Problem
from .base import Failure, Method, MethodConfig, State
from .cake import Cake

__all__ = ["Kd"]

CHOICE = 8  # of the random streams: that of the choice of examples is (seed, CHOICE)


class Kd(Method):
    r"""The teacher's own training examples, with its answers: what all others try to do without.

        L = t² CE(softmax(z_T / t), softmax(z_S / t))

    The factor t² keeps the gradient as large as at t = 1. Shown beside data-free methods as the line they run for; it
    is no data-free method itself.

    Deviations from the paper and its code:

    1. The true labels are left out, so that methods differ in their inputs alone. The page Student distils with labels
       too.
    2. As many examples as other methods make samples, drawn without repetition while there are enough; t = 4.
    """

    name = "kd"
    title = "KD with data"
    summary = "Reference: the teacher's own training data with its softened answers. Not data-free."
    equation = (
        r"x \sim \mathrm{data}, \quad t^2\, \mathrm{CE}\big(\mathrm{softmax}(z_T / t), \mathrm{softmax}(z_S / t)\big)"
    )
    reference = "Hinton, Vinyals, Dean (NIPS workshop 2015), arXiv 1503.02531"
    access = frozenset({"logits", "data"})
    family = "Reference"
    steered = False
    tracks = False
    presets = MethodConfig.shared(Cake.presets)
    student = {"": {"temperature": 4.0}}
    failures = (
        Failure(
            "A handful of examples",
            "With a few dozen examples the student has seen too little of the plane: it agrees with the teacher near "
            "them and guesses elsewhere.",
            {"data": "moons", "batches": "1", "samples": "10"},
        ),
    )

    def init(self, problem: Problem, rng: Streams) -> State:
        b, g = self.groups(problem)
        data, labels = problem.teacher.data()
        order = torch.randperm(len(data), generator=generator(rng.seed, CHOICE))
        batches = torch.tensor(rng.batches)
        at = (batches[:, None] * b * g + torch.arange(b * g)) % len(data)
        index = order[at].to(data.device)  # (M, N)
        return State(problem, data[index].unflatten(1, (b, g)), labels[index].unflatten(1, (b, g)))

    def step(self, state: State, rng: Streams) -> dict[str, Tensor]:
        return {}
