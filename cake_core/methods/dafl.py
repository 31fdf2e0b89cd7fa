"""DAFL: a generator whose images make the teacher confident, active and balanced.

References: | Data-Free Learning of Student Networks (Chen et al. 2019) | https://arxiv.org/abs/1904.01186
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ..config import param
from ..losses import negative_entropy_of_mean
from .base import Failure, FreeGenerative, FreeGenerativeConfig, State

__all__ = ["Dafl"]


class DaflConfig(FreeGenerativeConfig):
    """Weights of DAFL's three terms."""

    weight_confidence: float = param(
        1.0,
        low=0.0,
        high=100.0,
        scale="log",
        label="Confidence weight",
        symbol="λ_oh",
        live=True,
        help="Makes the teacher sure of each image, whatever class it names.",
    )
    weight_activation: float = param(
        0.1,
        low=0.0,
        high=100.0,
        scale="log",
        label="Activation weight",
        symbol="λ_a",
        live=True,
        help="Makes the teacher's penultimate features large, as real data do.",
    )
    weight_balance: float = param(
        5.0,
        low=0.0,
        high=100.0,
        scale="log",
        label="Balance weight",
        symbol="λ_ie",
        live=True,
        help="Makes all classes equally frequent in a batch. Without it every image becomes one class.",
    )


class Dafl(FreeGenerative):
    r"""A generator is trained so that the teacher, a fixed critic, takes its images for real data.

    For a batch x = G(u), u ~ N(0, I), with logits z, penultimate features f and p = mean softmax(z):

        L = λ_oh mean CE(z, argmax z) + λ_a (-mean |f|) + λ_ie Σ_c p_c log p_c

    The mini-batches are taken along the training, so that the student sees the generator at all its stages, as in the
    original, where both are trained at once. The images are confident by design, and few lie near the boundary.

    Deviations from the paper and its code:

    1. The student does not enter the generator's loss there; here it therefore learns afterwards, on a fixed number of
       samples taken along the training, for the same budget as with all other methods. The original gives it a fresh
       batch at every step, hundreds of times more.
    2. Adam's learning rate is 1e-3, for 0.2 in the published script on MNIST: 0.2 is quicker and then collapses.
    3. The generator has width 32 by default, for 128. The last ones of its normalisation layers take ε at its usual
       value, where the code has 0.8 in the variance's place by a slip.
    4. The balance term uses the natural logarithm, for the code's base 10.
    5. On points generator and critic are small fully connected networks: our own extension, not in the paper.
    """

    name = "dafl"
    title = "DAFL"
    summary = "Trains a generator whose images make the teacher confident, active and balanced."
    equation = (
        r"\theta \leftarrow \theta - \mathrm{Adam}\,\nabla_\theta \big[\lambda_{oh} \mathrm{CE}(z, \arg\max z)"
        r" - \lambda_a \overline{|f|} + \lambda_{ie} \textstyle\sum_c \bar p_c \log \bar p_c\big]"
    )
    reference = "Chen et al. (ICCV 2019), arXiv 1904.01186"
    access = frozenset({"logits", "gradient", "features"})
    along = True
    Config = DaflConfig
    presets = {
        "points": {"latent": 5, "width": 32, "steps": 500},
        "images": {"steps": 600, "batches": 40, "samples": 250},
        "digits": {"steps": 400, "batches": 20, "samples": 200},
    }
    failures = (
        Failure(
            "One class only",
            "Without the balance term nothing asks for all classes: most images are of the one that comes easiest, "
            "some classes hardly occur, and the student never learns them.",
            {"data": "digits", "weight_balance": "0"},
        ),
    )

    def losses(self, state: State) -> dict[str, Tensor]:
        z, features = state.problem.teacher.features(self.draw(state))
        return {
            "confidence": F.cross_entropy(z, z.argmax(dim=1)),
            "activation": -features.abs().mean(),
            "balance": negative_entropy_of_mean(z),
        }
