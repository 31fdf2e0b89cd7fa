"""The control: a random walk of known variance."""

from __future__ import annotations

import torch

from cake_core.synthesis import synthesize


def test_its_variance_is_known(plane_teacher):
    """sigma^2 + 2 eta tau T."""
    run = synthesize(
        plane_teacher, "brownian", shape=(2,), classes=2, device="cpu", batches=1, samples=20_000, sigma=0.1, steps=50,
        step_size=0.02, temperature=0.5,
    )  # fmt: skip
    list(run)
    expected = 0.1**2 + 2 * 0.02 * 0.5 * 50
    torch.testing.assert_close(run.result.x.var(dim=0), torch.full((2,), expected), atol=0, rtol=0.05)
    assert run.result.provenance["forward_calls"] == 20_000
