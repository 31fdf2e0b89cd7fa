"""DeepDream against a plain loop with torch's own Adam and roll."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from cake_core.losses import neighbour_variation
from cake_core.methods.base import rolled
from cake_core.rng import Streams
from cake_core.synthesis import synthesize

STEPS, SAMPLES, JITTER = 6, 20, 2


def norms(x: torch.Tensor) -> torch.Tensor:
    """The four norms, difference by difference."""
    total = 0
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        moved, still = [], []
        for i in range(x.shape[-2]):
            for j in range(x.shape[-1]):
                if 0 <= i + dy < x.shape[-2] and 0 <= j + dx < x.shape[-1]:
                    moved.append(x[..., i + dy, j + dx])
                    still.append(x[..., i, j])
        total = total + (torch.stack(moved) - torch.stack(still)).square().sum().sqrt()
    return total


def test_variation_against_a_naive_loop():
    x = torch.randn(2, 3, 4, 1, 5, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(neighbour_variation(x), torch.stack([norms(part) for part in x]))


def test_images_equal_the_plain_loop(image_teacher):
    run = synthesize(
        image_teacher, "deepdream", shape=(1, 8, 8), classes=10, seed=5, device="cpu", batches=2, samples=SAMPLES,
        steps=STEPS, step_size=0.1, weight_classification=2.0, weight_variation=0.05, weight_norm=0.03, jitter=JITTER,
    )  # fmt: skip
    list(run)
    image_teacher.requires_grad_(False)
    made = []
    for m in range(2):
        rng = Streams(5, [m])
        x = rng.normal(2, 10, 1, 8, 8)[0].flatten(0, 1).requires_grad_()
        y = rng.permutations(2, 10)[0].flatten()
        shifts = (rng.uniform(STEPS, 2)[0] * (2 * JITTER + 1)).long() - JITTER
        adam = torch.optim.Adam([x], lr=0.1)
        for dy, dx in shifts.tolist():
            seen = x.roll((dy, dx), dims=(-2, -1))
            loss = 2 * F.cross_entropy(image_teacher(seen), y) + 0.05 * norms(seen) + 0.03 * x.norm()
            adam.zero_grad()
            loss.backward()
            adam.step()
        made.append(x.detach())
    torch.testing.assert_close(run.result.x, torch.cat(made), atol=2e-4, rtol=1e-3)


def test_rolling_is_torch_roll_and_comes_back():
    x = torch.randn(3, 2, 4, 1, 5, 7)
    by = torch.tensor([[1, -2], [0, 3], [-2, 0]])
    for part, (dy, dx), out in zip(x, by.tolist(), rolled(x, by), strict=True):
        assert torch.equal(out, part.roll((dy, dx), dims=(-2, -1)))
    assert torch.equal(rolled(rolled(x, by), -by), x)


def test_any_inversion_can_take_adam(plane_teacher):
    """CAKE with Adam moves each coordinate by the step size in its first step, whatever the gradient."""
    settings = {"shape": (2,), "classes": 2, "device": "cpu", "batches": 1, "samples": 20}
    start = synthesize(plane_teacher, "noise", **settings)
    moved = synthesize(plane_teacher, "cake", steps=1, step_size=0.01, optimizer="adam", **settings)
    list(start), list(moved)
    torch.testing.assert_close((moved.result.x - start.result.x).abs(), torch.full((20, 2), 0.01), atol=1e-5, rtol=1e-3)


def test_any_inversion_can_take_momentum(plane_teacher):
    """Three steps against torch's own SGD with momentum on the same loss."""
    settings = {"shape": (2,), "classes": 2, "device": "cpu", "batches": 1, "samples": 20}
    start = synthesize(plane_teacher, "noise", **settings)
    moved = synthesize(plane_teacher, "naive", steps=3, step_size=0.2, decades=0.0, optimizer="momentum", **settings)
    list(start), list(moved)
    x = start.result.x.clone().requires_grad_()
    torch_sgd = torch.optim.SGD([x], lr=0.2, momentum=0.9)
    weight = moved.method.config.weight_classification
    for _ in range(3):
        torch_sgd.zero_grad()
        (weight * F.cross_entropy(plane_teacher(x), moved.result.labels, reduction="sum")).backward()
        torch_sgd.step()
    torch.testing.assert_close(moved.result.x, x.detach(), atol=1e-5, rtol=1e-4)
