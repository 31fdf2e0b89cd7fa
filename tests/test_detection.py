"""Detection: every score against a hand-worked value, a naive loop or another library; probes; decisions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from sklearn.metrics import roc_auc_score

from cake_core import detection
from cake_core.black_box import LocalBlackBox
from cake_core.detection import ProbeConfig, ask, auc, cka, decide, kl_score, mmd_p_value, standardise, threshold
from cake_core.errors import CakeError


def answers(n: int, classes: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, classes, generator=torch.Generator().manual_seed(seed)).softmax(dim=1)


def made(network, config: ProbeConfig, shape=(2,), classes=2, **options) -> torch.Tensor:
    steps = detection.probes(network, shape, classes, config, **options)
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            return ended.value


# -- scores ------------------------------------------------------------------------------------------------------------


def test_kl_by_hand():
    g, f = torch.tensor([[0.75, 0.25], [0.5, 0.5]]), torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    one = 0.75 * math.log(3) + 0.25 * math.log(1 / 3)  # the second probe's divergence is 0
    expected = math.log((1 / (one + 0.1) + 1 / 0.1) / 2)
    assert kl_score(g, f, eps=0.1, floor=0) == pytest.approx(expected, rel=1e-6)


def test_answers_rounded_to_zero_stay_finite():
    g, f = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    assert kl_score(g, f) == pytest.approx(-math.log(math.log(3 / 1e-3) + detection.EPS), abs=0.01)
    assert kl_score(g, g) == pytest.approx(-math.log(detection.EPS), rel=1e-5)


def test_aligned_cosine_is_that_of_scipys_procrustes():
    g, f = answers(30, seed=1), answers(30, seed=2)
    x, y = (a.double().numpy() - a.double().numpy().mean(axis=0) for a in (g, f))
    turned = y @ orthogonal_procrustes(y, x)[0]
    cosines = (x * turned).sum(axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(turned, axis=1)
    assert detection.aligned_cosine(g, f) == pytest.approx(cosines.mean(), rel=1e-9)


def test_aligned_cosine_forgives_a_rotation():
    g = answers(20).double()
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5)))[0]
    assert detection.aligned_cosine(g, g @ turn) == pytest.approx(1)
    assert math.isnan(detection.aligned_cosine(g[:1], g[:1]))


def test_cka_is_that_of_naive_loops():
    g, f = answers(12, seed=1), answers(12, seed=2)

    def kernel(a):
        n = len(a)
        d = [[float(((a[i].double() - a[j].double()) ** 2).sum()) for j in range(n)] for i in range(n)]
        # torch's median of an even number of values is the lower of the two in the middle.
        apart = sorted(d[i][j] for i in range(n) for j in range(n) if i != j)
        median = apart[(len(apart) - 1) // 2]
        return np.array([[math.exp(-d[i][j] / (2 * median)) for j in range(n)] for i in range(n)])

    def hsic(k, m):
        h = np.eye(12) - 1 / 12
        return np.trace(k @ h @ m @ h)

    k, m = kernel(g), kernel(f)
    assert cka(g, f) == pytest.approx(hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m)), rel=1e-9)
    assert cka(g, g) == pytest.approx(1)
    assert cka(g, torch.full((12, 4), 0.25)) == 0


def test_mmd_is_small_for_others_and_not_for_the_same():
    g = answers(40, seed=1)
    assert mmd_p_value(g, answers(40, seed=2)) > 0.05  # another draw from the same
    assert mmd_p_value(g, (answers(40, seed=2) * torch.tensor([9.0, 1, 1, 1])).softmax(dim=1)) < 0.02
    assert mmd_p_value(g, g) == 1


def test_mmd_squared_by_hand():
    """The p-value's statistic, for the split that is not permuted, is the textbook's three means."""
    g, f = answers(3, seed=1).double(), answers(3, seed=2).double()
    kernel = detection._rbf(detection._squares(torch.cat([g, f]), torch.cat([g, f])))
    naive = kernel[:3, :3].mean() + kernel[3:, 3:].mean() - 2 * kernel[:3, 3:].mean()
    side = torch.tensor([1.0, 1, 1, -1, -1, -1], dtype=torch.float64)
    assert float(side @ kernel @ side) / 9 == pytest.approx(float(naive))


def test_standardised_scores_by_hand():
    # Of candidate 0 the others score 2 and 4, of candidate 1 they score 1 and 1, of candidate 2 they score 0 and 2.
    assert standardise([5.0, 3.0, 1.0], [[9, 2, 4], [1, 9, 1], [0, 2, 9]]) == [2.0, 2.0, 0.0]


def test_a_soft_teacher_loses_by_raw_scores_alone():
    """Three candidates with the same taste; the first answers far softer than the student that copied it."""
    draws = torch.Generator().manual_seed(0)
    z = torch.randn(3, 200, 4, generator=draws) + torch.randn(200, 4, generator=draws)
    candidates = torch.stack([(z[0] / 6).softmax(dim=1), (3 * z[1]).softmax(dim=1), (3 * z[2]).softmax(dim=1)])
    student = (1.2 * z[0]).softmax(dim=1)
    raw, standard = detection.scores(student, candidates, "kl")
    assert standard[0] - max(standard[1:]) > raw[0] - max(raw[1:])


# -- decisions ---------------------------------------------------------------------------------------------------------


def test_decisions():
    answer = decide([0.2, 1.5, 1.0])
    assert (answer.best, answer.named) == (1, 1)
    assert answer.margin == pytest.approx(0.5)
    limit = threshold([[0.1, 0.4], [1.5, 1.0, -1.0]])
    assert limit == pytest.approx(0.5)
    assert decide([9.2, 9.6, 9.0], limit).named is None
    assert decide([0.2, 1.6, 1.0], limit).named == 1
    assert threshold([]) is None


def test_auc_is_sklearns():
    draws = np.random.default_rng(0)
    scores, truth = draws.normal(size=(20, 3)), draws.integers(3, size=20)
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    expected = roc_auc_score(np.eye(3)[truth].ravel(), shares.ravel())
    assert auc(scores.tolist(), truth.tolist()) == pytest.approx(expected)
    assert auc([[1.0, 1.0]], [0]) == 0.5
    assert auc([], []) is None


# -- candidates --------------------------------------------------------------------------------------------------------


def test_each_candidate_is_asked_once_for_each_probe(plane_teacher):
    apis = [LocalBlackBox(plane_teacher, (2,), "ab", digits=digits) for digits in (None, 2)]
    x = torch.randn(7, 2)
    found = ask(apis, x)
    assert found.shape == (2, 7, 2)
    assert [a.usage().calls for a in apis] == [7, 7]
    assert torch.allclose(found[0].sum(dim=1), torch.ones(7))
    assert torch.equal(found[1], (found[1] * 100).round() / 100)


def test_one_candidate_is_no_choice(plane_teacher):
    with pytest.raises(CakeError, match="Name at least two"):
        ask([LocalBlackBox(plane_teacher, (2,), "ab")], torch.randn(3, 2))
    with pytest.raises(CakeError, match="different numbers of classes"):
        boxes = [LocalBlackBox(lambda x, c=c: torch.ones(len(x), c), (2,), "abc"[:c]) for c in (2, 3)]
        ask(boxes, torch.randn(3, 2))


# -- probes ------------------------------------------------------------------------------------------------------------


def test_soft_labels_mix_two_classes():
    y = detection.mixed_labels(200, 5, torch.Generator().manual_seed(0))
    assert torch.allclose(y.sum(dim=1), torch.ones(200))
    assert ((y > 0).sum(dim=1) <= 2).all()
    assert (y > 0).any(dim=0).all()


@pytest.mark.parametrize("maker", ["direct", "generator"])
@pytest.mark.parametrize("norm", [False, True], ids=["plain", "norm"])
def test_probes_are_what_the_student_takes_for_two_classes(maker, norm, plane_teacher, plane_norm_teacher):
    """Steps bring the answers nearer to the soft labels; the student is not touched; the same seed, the same probes."""
    student = plane_norm_teacher if norm else plane_teacher
    before = {k: v.clone() for k, v in student.state_dict().items()}
    config = ProbeConfig(maker=maker, count=20, steps=60, weight_statistics=0.01)
    y = detection.mixed_labels(20, 2, detection.generator(3, detection.PROBE_STREAM))

    def distance(x):
        return float(torch.nn.functional.cross_entropy(student(x).detach(), y))

    torch.manual_seed(11)
    state = torch.get_rng_state()
    x = made(student, config, seed=3)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(x, made(student, config, seed=3))
    assert not torch.equal(x, made(student, config, seed=4))
    assert distance(x) < distance(made(student, config.replace(steps=0), seed=3))
    assert all(torch.equal(v, before[k]) for k, v in student.state_dict().items())


def test_images_stay_within_what_pixels_can_be(image_norm_teacher):
    config = ProbeConfig(count=6, steps=4, step_size=1.0)
    low, high = torch.full((1, 1, 1), -0.5), torch.full((1, 1, 1), 1.5)
    x = made(image_norm_teacher, config, (1, 8, 8), 10, within=(low, high))
    assert x.shape == (6, 1, 8, 8)
    assert x.min() >= -0.5
    assert x.max() <= 1.5


def test_batch_normalisation_pulls_probes_to_what_it_remembers(image_norm_teacher):
    """Its inputs' mean comes nearer to the remembered one where the statistics count."""

    def far(weight):
        x = made(image_norm_teacher, ProbeConfig(count=40, steps=60, weight_statistics=weight), (1, 8, 8), 10)
        with torch.no_grad():
            h = image_norm_teacher.body[0](x)
        return float((h.mean(dim=(0, 2, 3)) - image_norm_teacher.body[1].running_mean).norm())

    assert far(10.0) < 0.5 * far(0.0)
