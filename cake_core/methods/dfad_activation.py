"""DFAD with activation regularisation and virtual interpolation: a generator seeks what the student gets wrong.

References:
| Data-Free Adversarial Distillation (Fang et al. 2019) | https://arxiv.org/abs/1912.11006
| Enhancing Data-Free Adversarial Distillation (Qu, Wang, Xiao 2021) | https://arxiv.org/abs/2102.11638
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..config import param
from ..losses import activation_spread
from ..rng import Streams
from ..synthetic import Problem
from .base import Failure, FreeGenerative, FreeGenerativeConfig, State

__all__ = ["DfadActivation"]


class DfadConfig(FreeGenerativeConfig):
    """Weights of the game and how the student in the loop plays it."""

    weight_disagreement: float = param(
        1.0,
        low=0.0,
        high=100.0,
        scale="log",
        label="Disagreement weight",
        symbol="λ_adv",
        live=True,
        help="Makes the generator seek images where the student's logits differ from the teacher's.",
    )
    weight_activation: float = param(
        0.1,
        low=0.0,
        high=100.0,
        scale="log",
        label="Activation weight",
        symbol="λ_act",
        live=True,
        help="Keeps the teacher's hidden units near where they switch on or off; our reading of the abstract.",
    )
    interpolation: float = param(
        1.0,
        low=0.0,
        high=100.0,
        scale="log",
        label="Interpolation weight",
        symbol="λ_VI",
        live=True,
        help="The student also learns mixtures of two images, with the same mixture of the teacher's answers (our "
        "reading of the abstract).",
    )
    student_steps: int = param(
        5,
        low=1,
        high=50,
        group="Schedule",
        help="Steps of the student for one of the generator. With 1 the generator wins, with many it starves.",
    )
    student_rate: float = param(
        1e-3,
        low=1e-6,
        high=1.0,
        scale="log",
        group="Advanced",
        label="Student's learning rate",
        help="Of Adam, for the student in the loop.",
    )


class DfadActivation(FreeGenerative):
    r"""A game: the student follows the teacher on the generator's images, the generator looks for where it can't.

    With logits t of the teacher and s of a student in the loop, on x = G(u), u ~ N(0, I):

        student:    min  mean |s(x) - t(x)| + λ_VI mean |s(v) - (r t(x) + (1 - r) t(x'))|,   v = r x + (1 - r) x'
        generator:  min  -λ_adv mean |s(x) - t(x)| + λ_act mean_l mean tanh²(a_l)

    with r ~ U(0, 1) for each image, x' the same images in another order, and a_l the teacher's activations before their
    nonlinearity. The moving cloud of samples chases the disagreement. Mini-batches are taken along the game.

    Deviations from the paper and its code:

    1. Activation regularisation and virtual interpolation are our reading of the abstract of 2021; no code of theirs is
       public, and their weights are ours.
    2. The student that is delivered starts afresh on the samples taken along the game, for the same budget as with all
       methods here; in the paper it is the one of the game.
    3. Adam for the student of the game, for SGD with momentum; generator of width 32, for 64; its gradient is clipped.
    4. On points generator and students are small fully connected networks: our own extension, not in the paper.
    """

    name = "dfad_activation"
    title = "DFAD-AR/VI"
    summary = "A game in which a generator seeks what a student in the loop still gets wrong."
    equation = (
        r"\min_S \max_G\ \overline{|s(G(u)) - t(G(u))|}"
        r" \;-\; \lambda_{act} \overline{\tanh^2 a_l} \;+\; \lambda_{VI} \overline{|s(v) - t_v|}"
    )
    reference = "Fang et al. (2019), arXiv 1912.11006; Qu, Wang, Xiao (2021), arXiv 2102.11638"
    access = frozenset({"logits", "gradient", "features"})
    student_in_loop = True
    along = True
    longest = 5.0  # unbounded logits would let the generator raise the disagreement by scale alone
    Config = DfadConfig
    presets = {
        "points": {"latent": 5, "width": 32, "steps": 400},
        "images": {"steps": 400, "batches": 40, "samples": 250},
        "digits": {"steps": 300, "batches": 20, "samples": 200},
    }
    student = {"": {"temperature": 4.0}}
    failures = (
        Failure(
            "A generator that wins",
            "With one step of the student for each of the generator's the student never catches up: the cloud runs "
            "from place to place and leaves parts of the plane unvisited.",
            {"data": "moons", "student_steps": "1", "learning_rate": "0.02", "interpolation": "0"},
        ),
    )

    def init(self, problem: Problem, rng: Streams) -> State:
        state = super().init(problem, rng)
        student = problem.student(rng.seed)
        state.extra["student"] = student
        state.extra["optimiser"] = torch.optim.Adam(student.parameters(), lr=self.config.student_rate)
        return state

    def step(self, state: State, rng: Streams) -> dict[str, Tensor]:
        student = state.extra["student"].train()
        for _ in range(self.config.student_steps):
            with torch.no_grad():
                x = self.draw(state)
                t = state.problem.teacher(x)
            loss = F.l1_loss(student(x), t)
            if self.config.interpolation > 0:
                loss = loss + self.config.interpolation * self._between(state, student, x, t)
            state.extra["optimiser"].zero_grad(set_to_none=True)
            loss.backward()
            state.extra["optimiser"].step()
        return super().step(state, rng)

    def _between(self, state: State, student: torch.nn.Module, x: Tensor, t: Tensor) -> Tensor:
        """Virtual interpolation: the student's error on mixtures of pairs."""
        draw = {"generator": state.generator.rng, "device": x.device}
        other = torch.randperm(len(x), **draw)
        r = torch.rand(len(x), 1, **draw)
        share = r.view(-1, *(1,) * (x.dim() - 1))
        return F.l1_loss(student(share * x + (1 - share) * x[other]), r * t + (1 - r) * t[other])

    def losses(self, state: State) -> dict[str, Tensor]:
        x = self.draw(state)
        t, hidden = state.problem.teacher.activations(x)
        return {
            "disagreement": -F.l1_loss(state.extra["student"](x), t),
            "activation": activation_spread(hidden),
        }
