"""The anatomy of a step: each term's gradient against autograd of that term alone, and the parts against the whole."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from cake_core.anatomy import dissect
from cake_core.frames import DistillationView, decode
from cake_core.methods import METHODS
from cake_core.pipeline import Distillation, Experiment
from cake_core.synthesis import synthesize


def two_moments(teacher, shape, classes, method, at=3, **settings):
    """A run after a few steps, with the moments before and after the last of them."""
    run = synthesize(teacher, method, shape=shape, classes=classes, batches=2, samples=6, steps=8, **settings)
    before = after = None
    for after in run:
        if after.step == at:
            break
        before = after
    return run, before, after


def alone(teacher, x, loss):
    """The gradient of one loss with respect to one tensor, from a graph of its own."""
    x = x.clone().requires_grad_()
    loss(teacher(x), x).backward()
    return x.grad


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5 * float(b.abs().max()) + 1e-8)


def test_each_term_is_its_own_gradient(plane_teacher):
    weights = {"weight_classification": 1.5, "weight_contrast": 0.3}
    run, before, after = two_moments(plane_teacher, (2,), 2, "lake", clip=0.2, temperature=0.4, **weights)
    seen = dissect(run.method, run.state, before, after)
    assert set(seen.parts) == {"classification", "contrast"}
    for m in range(2):
        x, y = before.x[m], before.labels[m]
        cross = alone(plane_teacher, x, lambda z, x, y=y: 1.5 * F.cross_entropy(z, y, reduction="sum"))

        def pairs(z, x):  # by a loop over all pairs of each group of two
            return 0.3 * sum(
                (z[i] - z[j]).square().sum() / 4 for k in range(0, 6, 2) for i in (k, k + 1) for j in (k, k + 1)
            )

        pull = alone(plane_teacher, x, pairs)
        close(seen.parts["classification"].gradient[m], cross)
        close(seen.parts["contrast"].gradient[m], pull)
        # What was followed: the sum, each sample's shortened to 0.2.
        for i, g in enumerate(cross + pull):
            close(seen.gradient[m, i], g * min(1.0, 0.2 / float(g.norm())))
            assert bool(seen.clipped[m, i]) == (float(g.norm()) > 0.2)
    close(seen.move, -seen.eta.view(-1, 1, 1) * seen.gradient)
    close(seen.x + seen.move + seen.noise, after.x)
    assert seen.noise.abs().min() > 0  # every sample is shaken


def test_the_terms_of_samples_add_up_to_the_loss(plane_teacher, image_teacher):
    for teacher, shape, classes, more in (
        (plane_teacher, (2,), 2, {}),
        (image_teacher, (1, 8, 8), 10, {"weight_variation": 7.0, "weight_entropy": 0.5}),
    ):
        run, before, after = two_moments(teacher, shape, classes, "cake", step_size=0.01, **more)
        seen = dissect(run.method, run.state, before, after)
        for name, part in seen.parts.items():
            close(part.each.sum(dim=1), part.weight * after.losses[name])
        assert set(seen.parts) == set(after.losses)
        assert not seen.noise.any()  # CAKE adds none


def test_the_image_prior_against_a_naive_form(image_teacher):
    run, before, after = two_moments(image_teacher, (1, 8, 8), 10, "cake", weight_variation=7.0, step_size=0.01)
    seen = dissect(run.method, run.state, before, after)

    def rough(z, x):
        down, right = x[..., 1:, :] - x[..., :-1, :], x[..., :, 1:] - x[..., :, :-1]
        return 7.0 * (down.abs().mean(dim=(1, 2, 3)) + right.abs().mean(dim=(1, 2, 3))).sum()

    close(seen.parts["variation"].gradient[1], alone(image_teacher, before.x[1], rough))


@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
def test_the_move_of_what_remembers(plane_teacher, optimizer):
    run, before, after = two_moments(plane_teacher, (2,), 2, "naive", optimizer=optimizer, step_size=0.05)
    seen = dissect(run.method, run.state, before, after)
    close(seen.move, after.x - before.x)
    assert not seen.noise.any()


def test_brownian_noise(plane_teacher):
    run, before, after = two_moments(plane_teacher, (2,), 2, "brownian")
    seen = dissect(run.method, run.state, before, after)
    assert not seen.parts
    assert not seen.move.any()
    close(seen.noise, after.x - before.x)


def test_looking_costs_no_calls_and_changes_nothing(plane_teacher):
    run, before, after = two_moments(plane_teacher, (2,), 2, "lake")
    counted, x = run.problem.teacher.forward_calls, run.state.x.clone()
    dissect(run.method, run.state, before, after)
    assert run.problem.teacher.forward_calls == counted
    assert torch.equal(run.state.x, x)


def test_what_cannot_be_said_is_not_said(plane_teacher, image_teacher):
    run, before, after = two_moments(plane_teacher, (2,), 2, "cake")
    assert dissect(run.method, run.state, before, before) is None  # no step between them
    run.method.config = run.method.config.replace(clip=1e-4)  # not what the step had
    assert dissect(run.method, run.state, before, after) is None
    for name in METHODS:
        if name in ("generative", "deepdream"):
            run, before, after = two_moments(image_teacher, (1, 8, 8), 10, name)
            assert dissect(run.method, run.state, before, after) is None


@pytest.mark.parametrize("name", ["moons", "digits"])
def test_frames_carry_it_while_somebody_looks(name):
    flat = {"data": name, "batches": "1", "samples": "20", "steps": "4", "student.updates": "1"}
    run = Distillation(Experiment.from_query(flat))
    view, seen = DistillationView(run), []
    view.sample = 3
    for update in run:
        if update.stage not in ("data", "teacher"):
            header, arrays = decode(view.frame(update, 0))
            seen.append((header.get("step"), header.get("anatomy"), arrays))
        if update.snapshot is not None:
            view.anatomy = update.snapshot.step >= 1
    told = {step: (a, arrays) for step, a, arrays in seen if a}
    assert list(told) == [2, 3, 4]
    a, arrays = told[3]
    shown = (1, 1, 8, 8) if name == "digits" else (20, 2)
    assert arrays["anatomy_from"].shape == shown
    assert arrays["anatomy_gradients"].shape == (len(a["terms"]), *shown)
    assert [t["name"] for t in a["terms"]][:2] == ["classification", "contrast"]
    assert a["ids"] == ([3] if name == "digits" else None)
    assert a["noise"] == 0
