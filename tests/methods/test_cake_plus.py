"""CAKE+: without its additions it is CAKE; what it keeps has the teacher's answers and costs a call at most."""

from __future__ import annotations

import math

import pytest
import torch

from cake_core.budget import fit
from cake_core.errors import CakeError
from cake_core.methods.base import cut_out, mixed_noise
from cake_core.pipeline import Distillation, Experiment, noise_in_words, noise_only
from cake_core.rng import Streams
from cake_core.synthesis import Synthesis, synthesize

SMALL = {"batches": 3, "samples": 20, "steps": 8, "seed": 4, "device": "cpu"}


def made(teacher, name: str = "cake_plus", shape=(2,), classes=2, **more) -> Synthesis:
    run = synthesize(teacher, name, shape=shape, classes=classes, **SMALL, **more)
    list(run)
    return run


def test_without_its_additions_it_is_cake(plane_teacher):
    plain, bare = made(plane_teacher, "cake"), made(plane_teacher, moments=1, prior="white")
    assert torch.equal(plain.result.x, bare.result.x)
    assert torch.equal(plain.result.labels, bare.result.labels)


def test_moments_are_those_of_cakes_way(plane_teacher):
    """Without new classes: after 2, 4 and 6 of 8 steps CAKE itself is where the kept samples were."""
    run = made(plane_teacher, moments=4, prior="white", relabel=False)
    x = run.result.x.view(3, 4, 20, 2)
    cut = synthesize(plane_teacher, "cake", shape=(2,), classes=2, **SMALL, in_flight=3)
    seen = {s.step: s.x for s in cut}
    for k, step in enumerate((2, 4, 6, 8)):
        torch.testing.assert_close(x[:, k], seen[step])


@pytest.mark.parametrize(("moments", "gain", "more"), [(1, 1, 0), (4, 1, 0), (4, 3, 3), (1, 3, 0)])
def test_moments_cost_no_calls_and_a_gain_an_answer_for_each_kept_on_the_way(plane_teacher, moments, gain, more):
    run = made(plane_teacher, moments=moments, gain=gain)
    assert len(run.result) == 3 * 20 * moments
    assert run.problem.teacher.gradient_calls == 3 * 20 * 8
    assert run.problem.teacher.forward_calls == 3 * 20 * (8 + 1 + more)
    with torch.no_grad():
        torch.testing.assert_close(run.result.y, plane_teacher(run.result.x).softmax(dim=1), atol=1e-6, rtol=1e-5)


def test_a_gain_multiplies_what_is_kept_on_the_way(image_teacher):
    """By a number of its own for each, log-uniform up to the gain; ways and ends are as they are without."""
    shown = {"shape": (1, 8, 8), "classes": 10, "moments": 4, "relabel": False}
    plain, more = (made(image_teacher, gain=g, **shown).result.x.view(3, 4, 20, 64) for g in (1, 3))
    assert torch.equal(plain[:, 3], more[:, 3])
    factors = more[:, :3] / plain[:, :3]
    assert (factors.amax(dim=-1) - factors.amin(dim=-1) < 1e-4).all()  # the same for each pixel
    exponents = factors.mean(dim=-1).flatten().log() / torch.tensor(3.0).log()
    assert 0 <= exponents.min() < 0.05 and 0.95 < exponents.max() <= 1
    assert exponents.mean().item() == pytest.approx(0.5, abs=0.08)
    one = made(image_teacher, gain=3, in_flight=1, **shown).result  # each mini-batch alone draws the same
    torch.testing.assert_close(one.x.view(3, 4, 20, 64), more)


def test_shapes_add_a_sample_and_an_answer_for_each_kept_on_the_way(image_teacher):
    """The ways and what is kept of them are as they are without."""
    shown = {"shape": (1, 8, 8), "classes": 10, "moments": 4, "relabel": False}
    plain, more = (made(image_teacher, shapes=s, **shown) for s in (False, True))
    assert more.method.delivered == 7
    x = more.result.x.view(3, 7, 20, 64)
    assert torch.equal(x[:, [0, 2, 4, 6]], plain.result.x.view(3, 4, 20, 64))
    assert torch.equal(more.result.labels.view(3, 7, 20)[:, 1], more.result.labels.view(3, 7, 20)[:, 0])
    counted = more.problem.teacher.forward_calls - plain.problem.teacher.forward_calls
    assert (counted, more.problem.teacher.gradient_calls) == (3 * 20 * 3, 3 * 20 * 8)
    with torch.no_grad():
        torch.testing.assert_close(more.result.y, image_teacher(more.result.x).softmax(dim=1), atol=1e-6, rtol=1e-5)
    one = made(image_teacher, shapes=True, in_flight=1, **shown).result  # each mini-batch alone draws the same
    torch.testing.assert_close(one.x, more.result.x)


def test_a_sample_is_cut_out_by_the_equation():
    """Pixel by pixel, against the numbers that the streams give."""
    x = torch.linspace(-1, 1, 2 * 3 * 2 * 9 * 7).view(2, 3, 2, 9, 7)
    made, rng = cut_out(x, Streams(5, [0, 4])), Streams(5, [0, 4])
    coarse, ground, u = rng.normal(3, 1, 4, 4), rng.normal(3, 2, 1, 1), rng.uniform(3, 1, 1, 1)
    for m in range(2):
        for n in range(3):
            field = torch.nn.functional.interpolate(coarse[m, n][None], (9, 7), mode="bicubic")[0, 0]
            for c in range(2):
                for i in range(9):
                    for j in range(7):
                        inside = 1 / (1 + math.exp(-10 * field[i, j].item()))
                        bright = x[m, n, c, i, j].item() * 4 ** u[m, n].item()
                        wanted = inside * bright + (1 - inside) * 0.7 * ground[m, n, c].item()
                        assert made[m, n, c, i, j].item() == pytest.approx(wanted, abs=1e-4)


def test_a_shape_lies_on_plain_ground():
    x = cut_out(5 + torch.zeros(1, 400, 1, 28, 28), Streams(0, [0])).flatten(2)[0]
    grounds = x.amin(dim=1).clamp_max(4.99)
    on_ground = (x - grounds[:, None]).abs() < 0.05
    assert 0.2 < on_ground.float().mean() < 0.6  # the rest is the shape, or its edge
    assert grounds.std().item() == pytest.approx(0.7, abs=0.1)


def test_points_have_no_shapes(plane_teacher):
    for name in ("cake_plus", "noise"):
        more = {"steps": 8} if name == "cake_plus" else {}
        with pytest.raises(CakeError, match="Only images can be cut out"):
            list(synthesize(plane_teacher, name, shape=(2,), classes=2, shapes=True, device="cpu", **more))


@pytest.mark.parametrize(("shapes", "times"), [("false", 4), ("true", 7)])
def test_the_control_has_as_many_samples_in_the_same_shapes(shapes, times):
    flat = {"data": "digits", "method": "cake_plus", "batches": "2", "samples": "30", "shapes": shapes}
    control = noise_only(Experiment.from_query(flat))
    assert (control.method, control.settings.batches, control.settings.samples) == ("noise", 2 * times, 30)
    assert control.settings.shapes == (shapes == "true")
    assert noise_in_words(control.to_dict()) == (
        "smooth noise, cut out in shapes" if shapes == "true" else "pure noise"
    )
    run = Distillation(control.replace(student=control.student.replace(updates=5)))
    list(run)
    assert len(run.samples) == 60 * times
    neighbours = (run.samples.x[..., 1:] - run.samples.x[..., :-1]).abs().mean() / run.samples.x.std()
    assert (neighbours < 0.8) == (shapes == "true")  # of white noise 1.13: the mean distance of two normal numbers


def test_each_moment_sends_groups_to_a_new_order_of_classes(image_teacher):
    run = made(image_teacher, shape=(1, 8, 8), classes=10, moments=4)
    labels = run.result.labels.view(3, 4, 2, 10)  # mini-batches, moments, groups, samples
    assert torch.equal(labels.sort(dim=-1).values, torch.arange(10).expand_as(labels))
    assert (labels[:, 1:] != labels[:, :-1]).float().mean() > 0.7  # by chance one in ten stays
    kept = made(image_teacher, shape=(1, 8, 8), classes=10, moments=4, relabel=False).result.labels.view(3, 4, 2, 10)
    assert torch.equal(kept[:, 1:], kept[:, :-1])


def test_mixed_noise_is_coarse_fine_weak_and_strong(image_teacher):
    run = synthesize(image_teacher, "noise", shape=(1, 28, 28), classes=10, device="cpu")
    x = mixed_noise(run.problem, Streams(0, [0, 1]), 2000, 1.0).flatten(0, 1)
    x = x - x.mean(dim=(1, 2, 3), keepdim=True)
    strength = x.std(dim=(1, 2, 3))
    assert strength.min() < 0.1 and strength.max() > 1.8
    # Neighbouring pixels of coarse images are alike, those of fine ones are not.
    alike = (x[..., 1:] * x[..., :-1]).mean(dim=(1, 2, 3)) / x.square().mean(dim=(1, 2, 3))
    assert (alike > 0.6).float().mean().item() == pytest.approx(0.5, abs=0.03)


def test_the_history_ends_at_the_samples_that_it_names(moons_teacher):
    flat = {"method": "cake_plus", "batches": "3", "samples": "20", "steps": "8", "student.updates": "5"}
    run = Distillation(Experiment.from_query(flat), keep_history=True)
    list(run)
    torch.testing.assert_close(run.history.x[-1], run.samples.x[run.history.index])
    assert (run.history.index // 20 % 4 == 3).all()  # the last of four moments
    assert torch.equal(run.samples.batch[run.history.index], run.history.index // 80)


def test_the_same_number_of_samples_means_fewer_that_begin():
    experiment = Experiment.from_query({"method": "cake_plus", "batches": "8", "steps": "20"})
    teacher = None  # whom this budget does not ask
    assert fit(experiment, teacher, "samples", 0).settings.batches == 2


def test_on_photos_it_costs_what_cake_does():
    plain, more = (Experiment.from_query({"data": "cifar10", "method": m}).settings for m in ("cake", "cake_plus"))
    assert more.batches * more.samples * more.steps == plain.batches * plain.samples * plain.steps
    assert more.batches * more.moments == 4 * plain.batches
