"""CAKE against a plain loop of the same algorithm, and what it is for."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from cake_core import data
from cake_core.errors import CakeError
from cake_core.evaluation import NEAR, boundary_distance
from cake_core.methods.cake import Cake
from cake_core.rng import Streams
from cake_core.synthesis import synthesize

BATCHES, SAMPLES, STEPS = 3, 20, 5


def plain_loop(teacher, shape, classes, *, seed, eta, decades, w_cls, w_contr, w_tv, clip=0.0):
    """One mini-batch at a time, pairs by broadcasting, everything by autograd."""
    made = []
    for m in range(BATCHES):
        rng = Streams(seed, [m])
        groups = SAMPLES // classes
        x = rng.normal(groups, classes, *shape)[0]
        y = rng.permutations(groups, classes)[0]
        step = eta * 10 ** (-decades * m / BATCHES)
        for _ in range(STEPS):
            x.requires_grad_()
            z = teacher(x.flatten(0, 1)).view(groups, classes, classes)
            loss = w_cls * F.cross_entropy(z.flatten(0, 1), y.flatten(), reduction="sum")
            pairs = (z.unsqueeze(1) - z.unsqueeze(2)).square().sum()
            loss = loss + w_contr * pairs / (2 * classes)
            if len(shape) == 3:
                down = (x[..., 1:, :] - x[..., :-1, :]).abs().mean(dim=(-2, -1))
                right = (x[..., :, 1:] - x[..., :, :-1]).abs().mean(dim=(-2, -1))
                loss = loss + w_tv * (down + right).mean(dim=-1).sum()
            (grad,) = torch.autograd.grad(loss, x)
            if clip:
                norm = grad.flatten(2).norm(dim=-1).view(groups, classes, *(1,) * len(shape))
                grad = grad * torch.where(norm > clip, clip / norm, torch.ones_like(norm))
            x = x.detach() - step * grad
        made.append(x.flatten(0, 1))
    return torch.cat(made)


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_points_equal_the_plain_loop(plane_teacher, clip):
    weights = {"weight_classification": 1.0, "weight_contrast": 0.1}
    run = synthesize(
        plane_teacher, "cake", shape=(2,), classes=2, seed=4, device="cpu", batches=BATCHES, samples=SAMPLES,
        steps=STEPS, step_size=0.2, decades=1.5, clip=clip, **weights,
    )  # fmt: skip
    list(run)
    plane_teacher.requires_grad_(False)
    expected = plain_loop(
        plane_teacher, (2,), 2, seed=4, eta=0.2, decades=1.5, w_cls=1.0, w_contr=0.1, w_tv=0.0, clip=clip
    )
    torch.testing.assert_close(run.result.x, expected, atol=1e-5, rtol=1e-4)


def test_images_equal_the_plain_loop(image_teacher):
    run = synthesize(
        image_teacher, "cake", shape=(1, 8, 8), classes=10, seed=1, device="cpu", batches=BATCHES, samples=SAMPLES,
        steps=STEPS, step_size=0.05, decades=1.0, weight_classification=20.0, weight_contrast=0.5,
        weight_variation=50.0,
    )  # fmt: skip
    list(run)
    image_teacher.requires_grad_(False)
    expected = plain_loop(
        image_teacher, (1, 8, 8), 10, seed=1, eta=0.05, decades=1.0, w_cls=20.0, w_contr=0.5, w_tv=50.0
    )
    torch.testing.assert_close(run.result.x, expected, atol=1e-4, rtol=1e-3)


def test_contrast_keeps_samples_at_the_boundary(moons_teacher):
    """On two moons with the shipped teacher: most end near the boundary, without contrast next to none."""

    def near(weight: float) -> float:
        config = Cake.config_for(data.info("moons"), samples=40, weight_contrast=weight)
        run = synthesize(moons_teacher, Cake(config), shape=(2,), classes=2, device="cpu")
        list(run)
        return (boundary_distance(moons_teacher, run.result.x) < NEAR).float().mean().item()

    assert near(0.1) > 0.8
    assert near(0.0) < 0.1


def test_a_run_that_diverges_is_a_sentence(plane_teacher):
    run = synthesize(
        plane_teacher, "cake", shape=(2,), classes=2, device="cpu", batches=2, samples=20, steps=300, step_size=10.0,
        weight_contrast=1000.0,
    )  # fmt: skip
    with pytest.raises(CakeError, match="The samples of mini-batch 0 ran off to infinity. Lower the step size"):
        list(run)


def test_published_weights_translate_as_documented(image_teacher):
    """One step at the code's (cls, contr, TV) = (1e3, 1e1, 1e5) with N = 500, G = 10 means is one at (20, 0.2, 200)
    in sums."""
    image_teacher.requires_grad_(False)
    rng = Streams(0, [0])
    x = rng.normal(50, 10, 1, 8, 8)[0].requires_grad_()
    y = rng.permutations(50, 10)[0]
    z = image_teacher(x.flatten(0, 1)).view(50, 10, 10)
    published = (
        1e3 * 10 * F.cross_entropy(z.flatten(0, 1), y.flatten())
        + 1e1 * 0.5 * 100 * F.mse_loss(*torch.broadcast_tensors(z.unsqueeze(1), z.unsqueeze(2)))
        + 1e5 * (x.diff(dim=-2).abs().mean(dim=(-2, -1)) + x.diff(dim=-1).abs().mean(dim=(-2, -1))).mean()
    )
    (grad,) = torch.autograd.grad(published, x)
    config = Cake.Config(
        batches=1, samples=500, steps=1, step_size=1e-3, weight_classification=20.0, weight_contrast=0.2,
        weight_variation=200.0,
    )  # fmt: skip
    run = synthesize(image_teacher, Cake(config), shape=(1, 8, 8), classes=10, device="cpu")
    list(run)
    torch.testing.assert_close(run.result.x, (x.detach() - 1e-3 * grad).flatten(0, 1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "changes", [{"contrast": "neighbours", "weight_contrast": 1.0}, {"weight_entropy": 1.0, "weight_contrast": 0.0}]
)
def test_options_of_the_code_hold_samples_at_the_boundary_too(moons_teacher, changes):
    """Nearest neighbours of other classes, or unsure answers: both are found at the boundary."""

    def near(**more) -> float:
        config = Cake.config_for(data.info("moons"), samples=40, batches=4, **more)
        run = synthesize(moons_teacher, Cake(config), shape=(2,), classes=2, device="cpu")
        list(run)
        return (boundary_distance(moons_teacher, run.result.x) < NEAR).float().mean().item()

    assert near(**changes) > near(weight_contrast=0.0) + 0.1
