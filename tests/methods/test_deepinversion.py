"""DeepInversion: the statistics against batch normalisation's own, and what they are for."""

from __future__ import annotations

import copy

import torch
from torch import nn

from cake_core.losses import feature_statistics
from cake_core.oracle import Oracle
from cake_core.synthesis import synthesize

ACCESS = frozenset({"logits", "gradient", "batchnorm"})


def test_statistics_against_batch_normalisations_own(image_norm_teacher):
    """With momentum 1 a layer in training mode stores exactly the mean and (unbiased) variance of its input."""
    x = torch.randn(2, 30, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    _, layers = Oracle(image_norm_teacher, "cpu", ACCESS).normalised(x.flatten(0, 1))
    found = feature_statistics(layers, 2)
    for part, value in zip(x, found, strict=True):
        # In eval mode for what comes out, but with what came in collected by hand.
        seen = []
        network = copy.deepcopy(image_norm_teacher)
        norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.register_forward_hook(lambda m, args, out, seen=seen: seen.append(args[0]))
        with torch.no_grad():
            network(part)
        expected = 0.0
        for norm, h in zip(norms, seen, strict=True):
            fresh = nn.BatchNorm2d(h.shape[1], momentum=1.0, affine=False)
            fresh(h)
            pixels = h.numel() // h.shape[1]
            biased = fresh.running_var * (pixels - 1) / pixels
            expected += (fresh.running_mean - norm.running_mean).norm() + (biased - norm.running_var).norm()
        torch.testing.assert_close(value, expected, atol=1e-4, rtol=1e-4)


def test_the_samples_take_on_the_statistics(moons_norm_teacher):
    """The distance falls to a fraction; without its weight it grows."""

    def distance(weight: float) -> tuple[float, float]:
        run = synthesize(
            moons_norm_teacher, "deepinversion", shape=(2,), classes=2, device="cpu", batches=2, samples=200,
            steps=150, step_size=0.05, weight_statistics=weight,
        )  # fmt: skip
        snapshots = list(run)
        oracle = Oracle(moons_norm_teacher, "cpu", ACCESS)
        first, last = (oracle.normalised(s.x.flatten(0, 1))[1] for s in (snapshots[0], snapshots[-1]))
        return feature_statistics(first, 2).mean().item(), feature_statistics(last, 2).mean().item()

    before, after = distance(1.0)
    assert after < before / 10
    before, after = distance(0.0)
    assert after > before


def test_without_the_statistics_it_is_deepdream(image_norm_teacher):
    shared = {"shape": (1, 8, 8), "classes": 10, "device": "cpu", "batches": 2, "samples": 20, "steps": 5}
    settings = {"jitter": 1, "weight_variation": 0.01}
    one = synthesize(image_norm_teacher, "deepinversion", **shared, **settings, weight_statistics=0.0)
    other = synthesize(image_norm_teacher, "deepdream", **shared, **settings)
    list(one), list(other)
    torch.testing.assert_close(one.result.x, other.result.x)
