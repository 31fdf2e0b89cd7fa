"""Who is this student copied from? Probes made from the student alone are put to candidate teachers behind APIs, and
whose answers are most like the student's is named, or nobody.

Deviations from the paper and its code (of classifiers only notes are public, the released code is for text-to-image):

1. Probes are optimised directly by default; the generator, which the paper has, is the other choice. Here each probe
   has one latent and one soft label of its own.
2. Two classes a, b share a soft label, w e_a + (1 - w) e_b with w uniform; the loss is its cross-entropy.
3. Batch normalisation's statistics enter as in DeepInversion (norms, not squared; variance, not deviation). Students
   without it get total variation (images) and the squared norm instead. Probes for images stay within what a pixel can
   be, and are rounded to it, for an API takes nothing else.
4. Both answers are mixed with a little of the uniform distribution before the divergence is taken, so that answers that
   an API has rounded to 0 cost no more than log(1 / floor).
5. Beside the scores themselves stand standardised ones (see `standardise`), for a badly calibrated teacher always loses
   where raw ones are compared.
6. "None of them" is an answer. Its threshold comes from students that copied nobody (see `threshold`).
7. One MMD test with the median bandwidth stands for MMD-FUSE, which takes the best of several kernels.

References: | KD detection for open-weights models (Shi, Zheng, Song, Yeh, NeurIPS 2025) | https://arxiv.org/abs/2510.02302
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import generators
from .black_box import BlackBox
from .config import Config, param
from .errors import CakeError
from .hooks import batch_norms
from .losses import feature_statistics, total_variation
from .oracle import Oracle
from .rng import generator

__all__ = [
    "SCORES",
    "SETS",
    "TITLES",
    "Answer",
    "ProbeConfig",
    "aligned_cosine",
    "ask",
    "auc",
    "cka",
    "decide",
    "kl_score",
    "mixed_labels",
    "mmd_p_value",
    "probes",
    "scores",
    "standardise",
    "threshold",
]

FLOOR = 1e-3  # share of the uniform distribution that every answer is mixed with
EPS = 0.05  # keeps one probe on which both agree entirely from deciding alone
PROBE_STREAM = 2**31 + 7


# -- probes ------------------------------------------------------------------------------------------------------------


class ProbeConfig(Config):
    """How probes are made from a student."""

    maker: Literal["direct", "generator"] = param(
        "direct", help="Direct: every probe is optimised by itself. Generator: a small network makes them all."
    )
    count: int = param(
        100,
        low=1,
        high=10_000,
        scale="log",
        label="Probes",
        symbol="N",
        help="How many inputs are made. Each candidate is asked once about each.",
    )
    steps: int = param(100, low=0, high=10_000, scale="log", help="Steps of Adam. With 0 probes stay noise.")
    step_size: float = param(
        0.05, low=1e-4, high=10.0, scale="log", symbol="η", help="Learning rate of Adam; a tenth of it for a generator."
    )
    weight_statistics: float = param(
        1.0,
        low=0.0,
        high=100.0,
        scale="log",
        label="Statistics weight",
        symbol="λ_BN",
        help="Makes the probes look to batch normalisation like the student's training data, where it has any.",
    )
    weight_variation: float = param(
        0.1,
        low=0.0,
        high=100.0,
        scale="log",
        label="Smoothness weight",
        symbol="λ_TV",
        suits="images",
        help="Smooths the probes of students without batch normalisation.",
    )
    weight_norm: float = param(
        0.01,
        low=0.0,
        high=100.0,
        scale="log",
        label="Norm weight",
        symbol="λ_2",
        help="Keeps the probes of students without batch normalisation near the mean of all inputs.",
    )


def mixed_labels(count: int, classes: int, rng: torch.Generator) -> Tensor:
    """Soft labels w e_a + (1 - w) e_b (N, C): two different classes, and w uniform in [0, 1)."""
    pair = torch.rand(count, classes, generator=rng).argsort(dim=1)[:, :2]
    w = torch.rand(count, 1, generator=rng)
    return torch.zeros(count, classes).scatter_(1, pair, torch.cat([w, 1 - w], dim=1))


def probes(
    student: nn.Module,
    shape: tuple[int, ...],
    classes: int,
    config: ProbeConfig,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    within: tuple[Tensor, Tensor] | None = None,
) -> Generator[float, None, Tensor]:
    """Makes probes from a student alone: inputs that it takes for a mixture of two classes.

        min_x  mean_n CE(y_n, softmax g(x_n)) + λ_BN L_BN    where the student has batch normalisation,
        min_x  mean_n CE(y_n, softmax g(x_n)) + λ_TV mean TV(x_n) + λ_2 mean x_n²    where it has none.

    Args:
        student: g, from normalised inputs to logits; a copy is asked, and it is not changed.
        shape: of one input.
        classes: C.
        config: how.
        seed: of noise and labels.
        device: where to compute.
        within: the least and the largest value that inputs may have.

    Yields:
        The share of the steps that are done.

    Returns:
        Probes (N, *shape), normalised.
    """
    rng = generator(seed, PROBE_STREAM)
    norm = bool(batch_norms(student)) and config.weight_statistics > 0
    oracle = Oracle(student, device, frozenset({"logits", "gradient", *(["batchnorm"] if norm else [])}))
    y = mixed_labels(config.count, classes, rng).to(device)
    moved, draw = _drawn_by(config, shape, rng, seed, device)
    # Inputs move by the step size itself; a network's weights must move less, for all of them move the inputs.
    rate = config.step_size if config.maker == "direct" else config.step_size / 10
    optimiser = torch.optim.Adam(moved, lr=rate)
    for step in range(config.steps):
        for p, gradient in zip(
            moved, torch.autograd.grad(_objective(oracle, draw(), y, norm, config), moved), strict=True
        ):
            p.grad = gradient
        optimiser.step()
        if within is not None and config.maker == "direct":
            moved[0].data.clamp_(*within)
        yield (step + 1) / config.steps
    x = draw().detach()
    return x.clamp(*within) if within is not None else x


def _drawn_by(
    config: ProbeConfig, shape: tuple[int, ...], rng: torch.Generator, seed: int, device: torch.device | str
) -> tuple[list[Tensor], Callable[[], Tensor]]:
    """What is optimised, and the function that makes probes (N, *shape) of it."""
    if config.maker == "direct":
        x = torch.randn(config.count, *shape, generator=rng).to(device).requires_grad_()
        return [x], lambda: x
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = generators.build(shape, LATENT, WIDTH).to(device)
    latents = torch.randn(config.count, LATENT, generator=rng).to(device)
    return list(network.parameters()), lambda: network(latents)


LATENT, WIDTH = 64, 32  # of the generator


def _objective(oracle: Oracle, x: Tensor, y: Tensor, norm: bool, config: ProbeConfig) -> Tensor:
    if norm:
        z, layers = oracle.normalised(x)
        return F.cross_entropy(z, y) + config.weight_statistics * feature_statistics(layers, 1).sum()
    loss = F.cross_entropy(oracle(x), y) + config.weight_norm * x.square().mean()
    if x.dim() == 4 and config.weight_variation > 0:
        loss = loss + config.weight_variation * total_variation(x[None, None]).sum() / len(x)
    return loss


# -- candidates --------------------------------------------------------------------------------------------------------


def ask(candidates: Sequence[BlackBox], x: Tensor) -> Tensor:
    """The answers of all candidates (K, N, C); each is asked once for each probe (N, *shape), here or through HTTP.

    Raises:
        CakeError: there are fewer than two, or they tell different numbers of classes apart.
    """
    if len(candidates) < 2:
        raise CakeError("One candidate alone can't be chosen among. Name at least two teachers.")
    answers = [candidate.ask(x) for candidate in candidates]
    if len({a.shape[1] for a in answers}) > 1:
        raise CakeError("The candidates tell different numbers of classes apart. Choose teachers of the same data.")
    return torch.stack(answers)


# -- scores: how alike two sets of answers are -------------------------------------------------------------------------


def kl_score(g: Tensor, f: Tensor, eps: float = EPS, floor: float = FLOOR) -> float:
    """Point-wise likeness: log of the mean over probes of 1 / (KL(g(x_n) || f(x_n)) + eps).

    Answers enter as (1 - floor) p + floor / C, so that KL is never above about log(C / floor). The logarithm changes no
    order, and makes differences of scores ratios of divergences.

    Args:
        g: the student's probabilities (N, C).
        f: a teacher's (N, C).
        eps: see above.
        floor: see above.
    """
    p, q = ((1 - floor) * a + floor / a.shape[1] for a in (g, f))
    divergence = (p * (p.log() - q.log())).sum(dim=1)  # (N,)
    return math.log(float((1 / (divergence.clamp_min(0) + eps)).mean()))


def aligned_cosine(g: Tensor, f: Tensor) -> float:
    """Aligned cosine similarity: mean over probes of cos(x_n, (Y R)_n) with R = argmin_orthogonal ||Y R - X||_F.

    X and Y are the answers of student and teacher, centred over the probes; R = U V^T of the singular value
    decomposition U S V^T of Y^T X. It does not change when the teacher's answers are rotated as a whole.

    Args:
        g: the student's probabilities (N, C).
        f: a teacher's (N, C).

    Returns:
        -1 to 1; NaN for a single probe, whose centred answers are nothing.

    Source: Schönemann (1966), Psychometrika 31, 1-10, for R.
    """
    if len(g) < 2:
        return math.nan
    x, y = (a.double() - a.double().mean(dim=0) for a in (g, f))
    u, _, v = torch.linalg.svd(y.T @ x)
    return float(F.cosine_similarity(x, y @ u @ v, dim=1).mean())


def cka(g: Tensor, f: Tensor) -> float:
    """Centred kernel alignment: HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), with HSIC(K, L) = tr(K H L H).

    K and L are RBF kernels exp(-d² / (2 σ²)) of the answers, each with σ² the median of its squared distances.

    Args:
        g: the student's probabilities (N, C).
        f: a teacher's (N, C).

    Returns:
        0 to 1; 0 where either gives the same answer for all probes; NaN for a single probe.

    Source: Kornblith et al. (2019), arXiv 1905.00414, eq. 1 and 2.
    """
    if len(g) < 2:
        return math.nan
    k, other = (_centred(_rbf(_squares(a, a))) for a in (g, f))
    scale = float(k.square().sum() * other.square().sum()) ** 0.5
    return float((k * other).sum()) / scale if scale > 0 else 0.0


def mmd_p_value(g: Tensor, f: Tensor, permutations: int = 200, seed: int = 0) -> float:
    """Two-sample test: how often a random split of all answers differs as much as student and teacher do.

        MMD² = mean k(x, x') + mean k(y, y') - 2 mean k(x, y),    p = (1 + #{MMD²_perm >= MMD²}) / (1 + permutations)

    k is an RBF kernel with σ² the median of all squared distances. A baseline: it forgets which answer belongs to which
    probe.

    Args:
        g: the student's probabilities (N, C).
        f: a teacher's (N, C).
        permutations: how many splits.
        seed: of the splits.

    Returns:
        p, larger where both are more alike; NaN for a single probe.

    Source: Gretton et al. (2012), JMLR 13, 723-773.
    """
    n = len(g)
    if n < 2:
        return math.nan
    both = torch.cat([g, f])
    kernel = _rbf(_squares(both, both))
    rng = generator(seed, PROBE_STREAM)
    orders = torch.stack([torch.arange(2 * n), *(torch.randperm(2 * n, generator=rng) for _ in range(permutations))])
    side = torch.where(orders < n, 1.0, -1.0).to(kernel.dtype)  # +1 for those of the first half, (P + 1, 2N)
    # With n on each side the three means are s^T K s / n².
    found = ((side @ kernel) * side).sum(dim=1) / n**2
    return float((1 + (found[1:] >= found[0] - 1e-12).sum()) / (1 + permutations))


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances (N, M) of rows, in double precision."""
    return (a.double()[:, None] - b.double()[None]).square().sum(dim=-1)


def _rbf(squares: Tensor) -> Tensor:
    """exp(-d² / (2 σ²)) with σ² the median of the squared distances between different rows."""
    n = len(squares)
    apart = squares[~torch.eye(n, dtype=torch.bool)]
    median = apart.median() if n > 1 else squares.new_tensor(1.0)
    return (-squares / (2 * median.clamp_min(1e-12))).exp()


def _centred(k: Tensor) -> Tensor:
    """H K H with H = I - 1/N."""
    return k - k.mean(dim=0) - k.mean(dim=1, keepdim=True) + k.mean()


SCORES: dict[str, Callable[[Tensor, Tensor], float]] = {
    "kl": kl_score,
    "acs": aligned_cosine,
    "cka": cka,
    "mmd": mmd_p_value,
}
TITLES = {"kl": "KL, point by point", "acs": "Aligned cosine", "cka": "CKA", "mmd": "MMD test"}
SETS = ("acs", "cka", "mmd")  # those that say nothing of a single probe


def scores(g: Tensor, answers: Tensor, score: str = "kl") -> tuple[list[float], list[float]]:
    """Scores of all candidates: raw, and standardised.

    Args:
        g: the student's probabilities (N, C).
        answers: the candidates' (K, N, C).
        score: a key of `SCORES`.
    """
    like = SCORES[score]
    raw = [like(g, f) for f in answers]
    peers = [[like(other, f) if j != k else 0.0 for j, other in enumerate(answers)] for k, f in enumerate(answers)]
    return raw, standardise(raw, peers)


def standardise(raw: Sequence[float], peers: Sequence[Sequence[float]]) -> list[float]:
    """How much more like each candidate the student is than the other candidates are: s_k - mean_{j != k} s_jk.

    s_jk is the score that candidate j gets in the student's place, from the same answers; so nobody is asked again. A
    teacher whose answers are like nobody's, being sharper or softer than all others, has a low mean to beat. A student
    that copied nobody is about as far from each as they are from one another, and gets about 0.

    Args:
        raw: scores of the student with each candidate (K,).
        peers: row k: scores of the candidates with candidate k (K, K); the diagonal is not used.
    """
    count = len(raw)
    return [
        s - sum(p for j, p in enumerate(row) if j != k) / (count - 1)
        for k, (s, row) in enumerate(zip(raw, peers, strict=True))
    ]


# -- decisions ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """Who is named.

    Attributes:
        best: index of the candidate with the largest score.
        margin: by how much it is larger than the runner-up's.
        threshold: what the margin has to be above; None where no students that copied nobody are there to set it.
    """

    best: int
    margin: float
    threshold: float | None = None

    @property
    def named(self) -> int | None:
        """The candidate that is named; None for none of them."""
        return None if self.threshold is not None and self.margin <= self.threshold else self.best


def decide(scores: Sequence[float], threshold: float | None = None) -> Answer:
    """Names the candidate with the largest score, or nobody where it is not further ahead than in null students.

    Not the score itself is compared with theirs, for it tells another thing: who was distilled from anybody answers
    more softly, and is more like all teachers, than who learned from labels.

    Args:
        scores: of all candidates (K,), larger for those more alike.
        threshold: what the margin has to be above (see `threshold`).
    """
    second, first = sorted(range(len(scores)), key=scores.__getitem__)[-2:]
    return Answer(first, scores[first] - scores[second], threshold)


def threshold(nulls: Sequence[Sequence[float]]) -> float | None:
    """The largest margin among students that copied nobody; None without such students.

    Another student of the same kind has a larger one with probability 1 / (n + 1) at most, whatever the distribution,
    for all n + 1 are exchangeable. So of n = 9 null students follow at most 10 % false alarms.

    Args:
        nulls: of each null student, the scores of all candidates (n, K).
    """
    return max((decide(row).margin for row in nulls), default=None)


def auc(scores: Sequence[Sequence[float]], truth: Sequence[int]) -> float | None:
    """Area under the ROC curve, one against the rest: the share of pairs in which the score of a true teacher is above
    that of a wrong one (ties count half), over all students; scores enter as their softmax over the candidates.

    Args:
        scores: of each student, for all candidates (S, K).
        truth: each student's teacher (S,).

    Returns:
        0 to 1; None without students, or where scores are missing.
    """
    if not truth or any(math.isnan(s) for row in scores for s in row):
        return None
    shares = torch.tensor(scores, dtype=torch.float64).softmax(dim=1)
    right = F.one_hot(torch.tensor(truth), shares.shape[1]).bool()
    gap = shares[right][:, None] - shares[~right][None]
    return float((gap > 0).double().mean() + 0.5 * (gap == 0).double().mean())
