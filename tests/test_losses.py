"""Each loss term against an oracle: a naive loop over samples or pairs, a value worked by hand, autograd."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from cake_core import losses
from cake_core.losses import classification, contrast, distillation, total_variation
from cake_core.schedules import step_sizes

SHAPES = [(1, 1, 2, 2), (3, 4, 2, 2), (2, 5, 10, 10), (2, 3, 4, 10)]  # (M, B, G, C)


def logits(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
def test_contrast_is_the_sum_over_pairs(shape):
    z = logits(shape)
    m, b, g, c = shape
    naive = torch.zeros(m, dtype=torch.float64)
    for i in range(m):
        for j in range(b):
            for p in range(g):
                for q in range(g):  # every pair counts twice, a sample with itself is zero
                    naive[i] += (z[i, j, p] - z[i, j, q]).square().sum() / (2 * c)
    torch.testing.assert_close(contrast(z), naive)


def test_contrast_by_hand():
    """Two samples with logits (1, 0) and (0, 3): squared distance 1 + 9, twice, over 2 C = 4."""
    z = torch.tensor([[[[1.0, 0.0], [0.0, 3.0]]]])
    assert contrast(z).item() == pytest.approx(2 * 10 / 4)


@pytest.mark.parametrize("shape", [(1, 50, 10, 10), (1, 50, 2, 2)])
def test_contrast_is_the_published_one_up_to_the_number_of_groups(shape):
    """The code's form: mean squared error over broadcast pairs, times G^2 / 2; ours is B times it."""
    z = logits(shape)[0]
    b, g, _ = z.shape
    published = F.mse_loss(*torch.broadcast_tensors(z.unsqueeze(1), z.unsqueeze(2))) * 0.5 * g**2
    torch.testing.assert_close(contrast(z[None]), published[None] * b)


@pytest.mark.parametrize("shape", SHAPES)
def test_classification_is_the_sum_over_samples(shape):
    z = logits(shape)
    y = torch.randint(0, shape[-1], shape[:-1], generator=torch.Generator().manual_seed(1))
    naive = torch.zeros(shape[0], dtype=torch.float64)
    for i in range(shape[0]):
        for j in range(shape[1]):
            for k in range(shape[2]):
                naive[i] -= z[i, j, k].log_softmax(dim=0)[y[i, j, k]]
    torch.testing.assert_close(classification(z, y), naive)


def test_classification_by_hand():
    """Logits (0, ln 3) give probabilities (1/4, 3/4)."""
    z = torch.tensor([[[[0.0, math.log(3)], [0.0, math.log(3)]]]])
    y = torch.tensor([[[0, 1]]])
    assert classification(z, y).item() == pytest.approx(math.log(4) + math.log(4 / 3))


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 2, 2), (2, 3, 2, 1, 5, 4), (2, 1, 2, 3, 4, 6)])
def test_total_variation_against_a_loop_and_autograd(shape):
    x = logits(shape).requires_grad_()
    m, _, _, channels, height, width = shape
    naive = []
    for i in range(m):
        total = 0
        for image in x[i].flatten(0, 1):
            for plane in image:
                down = sum((plane[r + 1, c] - plane[r, c]).abs() for r in range(height - 1) for c in range(width))
                right = sum((plane[r, c + 1] - plane[r, c]).abs() for r in range(height) for c in range(width - 1))
                total = total + (down / ((height - 1) * width) + right / (height * (width - 1))) / channels
        naive.append(total)
    naive = torch.stack(naive)
    torch.testing.assert_close(total_variation(x), naive)
    weight = torch.arange(1.0, m + 1, dtype=torch.float64)  # another upstream gradient for each mini-batch
    grads = [torch.autograd.grad((f * weight).sum(), x)[0] for f in (total_variation(x), naive)]
    torch.testing.assert_close(*grads)


def test_total_variation_of_a_flat_image_is_zero_and_has_no_gradient():
    x = torch.full((1, 1, 1, 1, 4, 4), 3.0, requires_grad=True)
    value = total_variation(x)
    assert value.item() == 0
    assert torch.autograd.grad(value.sum(), x)[0].abs().sum() == 0


def test_step_sizes_by_hand():
    assert step_sizes(0.1, 4, range(4), 4) == pytest.approx([0.1, 0.01, 0.001, 0.0001])
    assert step_sizes(0.1, 0, range(3), 3) == pytest.approx([0.1] * 3)
    assert step_sizes(0.1, 2, [5], 10) == pytest.approx([0.01])
    assert step_sizes(1.0, 2, [0, 5], 10, "cosine") == pytest.approx([1.0, 0.1])


def three_examples():
    student = torch.tensor([[0.5, -1.0, 2.0], [3.0, 0.0, -2.0], [0.1, 0.2, 0.3]], dtype=torch.float64)
    teacher = torch.tensor([[1.0, 0.0, 4.0], [2.0, 1.0, 0.0], [-1.0, 5.0, 0.0]], dtype=torch.float64)
    return student.requires_grad_(), teacher, torch.tensor([2, 0, 1])


@pytest.mark.parametrize(("t", "a"), [(1.0, 0.5), (4.0, 0.9), (20.0, 1.0), (2.5, 0.0)])
def test_distillation_against_a_loop_over_examples_and_classes(t, a):
    student, teacher, y = three_examples()

    def softmax(z, t):
        e = [math.exp(v / t) for v in z]
        return [v / sum(e) for v in e]

    total = 0.0
    for z_s, z_t, label in zip(student.tolist(), teacher.tolist(), y.tolist(), strict=True):
        p, q = softmax(z_t, t), softmax(z_s, t)
        kl = sum(p_c * (math.log(p_c) - math.log(q_c)) for p_c, q_c in zip(p, q, strict=True))
        total += (1 - a) * -math.log(softmax(z_s, 1)[label]) + a * t**2 * kl
    assert distillation(student, teacher, y, t, a).item() == pytest.approx(total / 3)


def test_distillation_by_hand():
    """At t = 2 the teacher's (0, 2 ln 3) give (1/4, 3/4), the student's zeros (1/2, 1/2): the soft part is
    1/4 ln(1/2) + 3/4 ln(3/2), four times; the label costs ln 2."""
    teacher, student = torch.tensor([[0.0, 2 * math.log(3)]]), torch.zeros(1, 2)
    kl = math.log(0.5) / 4 + 3 * math.log(1.5) / 4
    expected = 0.3 * math.log(2) + 0.7 * 4 * kl
    assert distillation(student, teacher, torch.tensor([0]), 2.0, 0.7).item() == pytest.approx(expected)


def test_distillation_becomes_matching_of_logits():
    """For t to infinity and logits of mean zero the gradient is (z_S - z_T) / (N C), whatever t is."""
    student, teacher, y = three_examples()
    centred = (student - student.mean(dim=1, keepdim=True)).detach().requires_grad_()
    teacher = teacher - teacher.mean(dim=1, keepdim=True)
    (grad,) = torch.autograd.grad(distillation(centred, teacher, y, 1e4, 1.0), centred)
    torch.testing.assert_close(grad, ((centred - teacher) / 9).detach(), atol=1e-4, rtol=0)


def test_distillation_has_the_gradient_of_the_cross_entropy():
    """KL and cross-entropy to the teacher's softened answers differ by a constant."""
    student, teacher, y = three_examples()
    t = 3.0
    (ours,) = torch.autograd.grad(distillation(student, teacher, y, t, 1.0), student)
    soft = F.cross_entropy(student / t, (teacher / t).softmax(dim=1))
    (theirs,) = torch.autograd.grad(t**2 * soft, student)
    torch.testing.assert_close(ours, theirs)
    # A copy of the teacher has nothing left to learn from it.
    (none,) = torch.autograd.grad(distillation(copy := teacher.clone().requires_grad_(), teacher, y, t, 1.0), copy)
    torch.testing.assert_close(none, torch.zeros_like(none))


def test_entanglement_against_a_naive_loop():
    z, y = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 3, 4))
    y[0, 0, 0] = 4  # the only one of its class: it does not count
    expected = []
    for logits, labels in zip(z.flatten(1, 2).tolist(), y.flatten(1, 2).tolist(), strict=True):
        total = 0.0
        for i, a in enumerate(logits):
            weights = [
                math.exp(-sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) / 5 / 0.7) if i != j else 0.0
                for j, b in enumerate(logits)
            ]
            same = sum(w for j, w in enumerate(weights) if labels[j] == labels[i])
            total += math.log(same / sum(weights)) if same else 0.0
        expected.append(total)
    torch.testing.assert_close(losses.entanglement(z, y, 0.7), torch.tensor(expected), atol=1e-4, rtol=1e-4)


def test_entanglement_has_a_gradient_where_a_sample_is_alone():
    z = torch.randn(1, 2, 3, 3, requires_grad=True)
    losses.entanglement(z, torch.arange(6).view(1, 2, 3) % 5, 1.0).sum().backward()
    assert z.grad.isfinite().all()


def test_certainty_is_minus_the_entropy():
    even = torch.zeros(2, 3, 4, 5)
    torch.testing.assert_close(losses.certainty(even), torch.full((2,), -12 * math.log(5)))
    sure = torch.zeros(1, 1, 1, 5)
    sure[..., 0] = 60.0
    torch.testing.assert_close(losses.certainty(sure), torch.zeros(1), atol=1e-6, rtol=0)
