"""The control: the prior and nothing else."""

from __future__ import annotations

import torch

from cake_core.synthesis import synthesize


def test_it_is_what_the_others_start_from(plane_teacher):
    shared = {"shape": (2,), "classes": 2, "device": "cpu", "batches": 3, "samples": 20, "sigma": 0.3, "seed": 5}
    noise = synthesize(plane_teacher, "noise", **shared)
    list(noise)
    start = next(synthesize(plane_teacher, "cake", **shared))
    assert torch.equal(noise.result.x, start.x.flatten(0, 1))


def test_its_spread_is_sigma(plane_teacher):
    noise = synthesize(
        plane_teacher, "noise", shape=(2,), classes=2, device="cpu", batches=1, samples=20_000, sigma=0.3
    )
    list(noise)
    torch.testing.assert_close(noise.result.x.std(dim=0), torch.full((2,), 0.3), atol=0.005, rtol=0)
    assert noise.result.provenance["forward_calls"] == 20_000  # only for the labels
