"""ADI: DeepInversion with a student in the loop, on which later images are to disagree with the teacher.

References: | Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al. 2020), Section 3.3 | https://arxiv.org/abs/1912.08795
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..config import param
from ..losses import feature_statistics, jensen_shannon
from ..rng import Streams, generator
from ..synthetic import Problem
from .base import Failure, State
from .deepinversion import DeepInversion, InversionOfStatisticsConfig

__all__ = ["Adi"]

TEMPERATURE = 3.0  # of the competition and of the student in the loop
STUDENT_STREAM = 2**31 + 3


class AdiConfig(InversionOfStatisticsConfig):
    """DeepInversion's, the weight of the competition, and how the student in the loop learns."""

    weight_competition: float = param(
        1.0,
        low=0.0,
        high=1e3,
        scale="log",
        label="Competition weight",
        symbol="λ_comp",
        live=True,
        help="Seeks samples on which teacher and student disagree. 0 is DeepInversion.",
    )
    rounds: int = param(
        4,
        low=1,
        high=1000,
        group="Schedule",
        help="The mini-batches are made in so many rounds; before each but the first the student learns all so far.",
    )
    student_updates: int = param(
        200,
        low=1,
        high=100_000,
        scale="log",
        group="Schedule",
        help="Updates of the student in the loop between two rounds.",
    )


class Adi(DeepInversion):
    r"""DeepInversion, and from the second round on also samples on which a student disagrees with the teacher.

        L = L_DeepInversion + λ_comp (1 - JS(p_T, p_S)),     softmax at temperature 3

    JS is the Jensen-Shannon divergence of teacher and current student on the same sample. Rounds take turns: some
    mini-batches are made, then the student learns from all there are, then the next ones are made against it. Samples
    of earlier rounds stay in the set.

    Deviations from the paper and its code:

    1. The alternation is not in the released code; it follows its authors' description: DeepInversion first, then new
       batches while the student learns. Here it happens in a few rounds, with several mini-batches in each, for one new
       batch every 50 updates there.
    2. The divergence is the textbook's, without the code's clamping of probabilities to [0.01, 0.99].
    3. The student in the loop has the architecture of the final one, which then starts afresh on the whole set, as with
       all methods here.
    4. Those of DeepInversion.
    """

    name = "adi"
    title = "Adaptive DeepInversion"
    summary = "DeepInversion that seeks out what a student in the loop still gets wrong."
    equation = (
        r"\mathcal{L} = \mathcal{L}_{\mathrm{DeepInversion}}"
        r" + \lambda_{comp} \big(1 - \mathrm{JS}(p_T \,\Vert\, p_S)\big)"
    )
    student_in_loop = True
    whole = True
    tracks = False  # a sample's way is over while those of later rounds have not begun
    Config = AdiConfig
    presets = {
        **DeepInversion.presets,
        "points": DeepInversion.presets["points"] | {"rounds": 5, "student_updates": 100},
    }
    failures = (
        Failure(
            "A student that knows nothing",
            "After a single update the student answers the same for everything. The competition then has hardly any "
            "gradient, and what comes out is DeepInversion, for more work.",
            {"data": "digits", "student_updates": "1"},
        ),
    )

    @property
    def steps(self) -> int:
        return self.config.rounds * self.config.steps

    def init(self, problem: Problem, rng: Streams) -> State:
        state = super().init(problem, rng)
        state.extra["everything"] = state.x
        return state

    def step(self, state: State, rng: Streams) -> dict[str, Tensor]:
        """A step of the mini-batches whose round it is; a round begins with lessons for the student."""
        number, first = divmod(state.t, self.config.steps)
        mine = self._round(state, number)
        if first == 0 and number:
            self._teach(state, number, rng)
        if not len(mine):  # more rounds than mini-batches
            state.t += 1
            return {}
        part = State(state.problem, state.extra["everything"][mine], state.y[mine], t=first)
        part.extra = {k: v for k, v in state.extra.items() if first or k not in ("adam_m", "adam_v")}
        if "rolls" in part.extra:
            part.extra["rolls"] = state.extra["rolls"][mine]
        part.eta = self.step_sizes(state, rng)[mine]
        part.eta_of = self.config
        terms = super().step(part, rng)
        state.extra |= {k: part.extra[k] for k in ("adam_m", "adam_v") if k in part.extra}
        state.extra["everything"][mine] = part.x
        state.x = state.extra["everything"]
        state.t += 1
        return {k: torch.zeros(len(state.x), device=v.device).index_copy(0, mine, v) for k, v in terms.items()}

    def objective(self, state: State, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        student = state.extra.get("student")
        if student is None or self.config.weight_competition == 0:
            return super().objective(state, x)
        z, layers = state.problem.teacher.normalised(x.flatten(0, 2))
        apart = jensen_shannon(z, student(x.flatten(0, 2)), TEMPERATURE).view(len(x), -1)
        z = z.unflatten(0, x.shape[:3])
        terms = self.losses(state, x, z) | {"statistics": feature_statistics(layers, len(x))}
        return z, terms | {"competition": 1 - apart.mean(dim=1)}

    def _round(self, state: State, number: int) -> Tensor:
        """Indices of the mini-batches that are made in a round."""
        each = math.ceil(len(state.x) / self.config.rounds)
        return torch.arange(len(state.x), device=state.x.device)[number * each : (number + 1) * each]

    def _teach(self, state: State, number: int, rng: Streams) -> None:
        """The student in the loop learns from all mini-batches so far, at temperature 3."""
        problem = state.problem
        done = int(self._round(state, number - 1)[-1:].sum()) + 1 if number else 0
        x = state.extra["everything"][:done].flatten(0, 2)
        student = state.extra.get("student")
        if student is None:
            student = problem.student(rng.seed)
            state.extra["optimiser"] = torch.optim.Adam(student.parameters(), lr=2e-3)
        with torch.no_grad():
            targets = (problem.teacher(x) / TEMPERATURE).softmax(dim=1)
        draws = generator(rng.seed, STUDENT_STREAM, number, device=x.device)
        student.requires_grad_(True).train()
        for _ in range(self.config.student_updates):
            index = torch.randint(len(x), (128,), generator=draws, device=x.device)
            loss = F.cross_entropy(student(x[index]) / TEMPERATURE, targets[index])
            state.extra["optimiser"].zero_grad(set_to_none=True)
            loss.backward()
            state.extra["optimiser"].step()
        # Frozen while samples are made against it: its gradient is wanted for them, not for its weights.
        state.extra["student"] = student.eval().requires_grad_(False)
