"""Messages of the live view: decoded as they were encoded, and true to what they picture."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch

from cake_core import evaluation, film
from cake_core.frames import IMAGES_SHOWN, REACH, DistillationView, decode, encode, record
from cake_core.pipeline import Distillation, Experiment


def test_round_trip():
    arrays = {
        "a": np.arange(7, dtype=np.uint8),  # 7 bytes: the next one has to be padded
        "b": np.arange(6, dtype="<f4").reshape(2, 3),
        "c": np.zeros((0, 2), dtype="<u2"),
    }
    header, back = decode(encode({"type": "frame", "text": "σ", "n": 1.5}, arrays))
    assert header == {"type": "frame", "text": "σ", "n": 1.5}
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype


def test_arrays_begin_where_a_browser_can_map_them():
    message = encode({"type": "x"}, {"a": np.zeros(3, np.uint8), "b": np.zeros(2, "<f4")})
    (length,) = struct.unpack_from("<I", message, 4)
    assert length % 4 == 0
    assert len(message) % 4 == 0


def test_other_messages_are_refused():
    with pytest.raises(ValueError, match="not a frame"):
        decode(b"GARBAGE!")


def watched(**flat) -> tuple[Distillation, DistillationView, list]:
    run = Distillation(Experiment.from_query(flat))
    view = DistillationView(run)
    frames = [(u, decode(view.frame(u, 5))) for u in run]
    return run, view, frames


def test_points():
    flat = {"batches": "2", "samples": "50", "steps": "4", "student.updates": "50"}
    run, view, frames = watched(**flat)
    scene, parts = decode(view.scene())
    width = scene["half_width"]
    assert scene["kind"] == "points"
    assert scene["classes"] == ["upper moon", "lower moon"]
    # The surface is the teacher's probabilities, in 256 steps, row by row from below.
    points = evaluation.grid(width, parts["teacher"].shape[0])
    expected = evaluation.predict(run.network, points).softmax(dim=1)
    np.testing.assert_allclose(parts["teacher"].reshape(-1, 2) / 255, expected.numpy(), atol=0.003)
    assert parts["boundary"].shape[1:] == (2, 2)
    assert parts["data"].shape == (600, 2)

    snapshots = [(u, h, a) for u, (h, a) in frames if u.snapshot is not None]
    assert [h["step"] for _, h, _ in snapshots] == [0, 1, 2, 3, 4]
    for update, header, arrays in snapshots:
        x = (arrays["xy"] / 65535 * 2 - 1) * REACH * width
        np.testing.assert_allclose(x, update.snapshot.x.flatten(0, 1).numpy(), atol=2 * REACH * width / 65535)
        np.testing.assert_array_equal(arrays["labels"], update.snapshot.labels.flatten().numpy())
        assert header["version"] == 5
    update, header, _ = snapshots[2]
    for name, value in update.snapshot.losses.items():
        assert header["losses"][name] == pytest.approx(update.snapshot.weights[name] * value.sum().item() / 100)
    last_header, last = frames[-1][1]
    assert last["student"].shape == parts["teacher"].shape
    assert last_header["progress"] == 1
    assert last_header["values"]["student_accuracy"] == pytest.approx(run.outcome.student_accuracy.value)
    assert last_header["values"]["forward_calls"] == run.outcome.forward_calls


def test_arrows_are_sent_while_somebody_looks():
    run = Distillation(Experiment.from_query({"batches": "1", "samples": "20", "steps": "3"}))
    view = DistillationView(run)
    updates = (u for u in run if u.snapshot is not None)
    first = next(updates)
    assert "arrows" not in decode(view.frame(first, 0))[1]
    view.arrows = True
    second = next(updates)
    arrows = decode(view.frame(second, 0))[1]["arrows"]
    np.testing.assert_allclose(arrows, -second.snapshot.gradient.flatten(0, 1).numpy())


# -- what methods show of themselves ---------------------------------------------------------------------------------


def drawn_by(method: str, **flat: str) -> tuple[Distillation, dict, list]:
    """The scene and the frames of a small synthesis on points."""
    small = {"batches": "2", "samples": "40", "student.updates": "5"}
    run, view, frames = watched(method=method, **small, **flat)
    return run, decode(view.scene())[0], [f for u, f in frames if u.snapshot is not None]


def ends(run: Distillation, arrays: dict) -> np.ndarray:
    """Lines as they were encoded (K, 2, 2)."""
    return ((arrays["lines"] / 65535 * 2 - 1) * REACH * run.dataset.half_width).reshape(-1, 2, 2)


def test_rays_end_where_the_label_changes():
    run, scene, frames = drawn_by("zsdb3kd", sigma="0.5")
    assert scene["drawn"].startswith("Rays")
    assert "lines" not in frames[0][1]  # before the first search
    for _, arrays in frames[1:]:  # also after samples were pushed away
        lines = torch.tensor(ends(run, arrays), dtype=torch.float32)
        found = (lines[:, 1] - lines[:, 0]).norm(dim=1) < 5  # those that have not gone as far as they may
        beyond = lines[:, 0] + 1.02 * (lines[:, 1] - lines[:, 0])
        label, across = (run.network(x).argmax(dim=1) for x in (lines[:, 0], beyond))
        assert (label != across)[found].float().mean() > 0.9


def test_a_generators_net_is_where_it_puts_its_random_inputs():
    run, scene, frames = drawn_by("dafl", steps="5")
    assert scene["drawn"].startswith("Net")
    lines = ends(run, frames[-1][1])
    assert lines.shape == (2 * 20 * 21, 2, 2)
    network = run.synthesis.state.generator.network
    corner = torch.zeros(1, run.experiment.settings.latent)
    corner[0, :2] = -2
    with evaluation.in_eval_mode(network), torch.no_grad():
        expected = network(corner)[0].numpy()
    np.testing.assert_allclose(lines[0, 0], expected, atol=2e-3)
    assert network.training  # as it was before


@pytest.mark.parametrize(("method", "in_loop"), [("dfad_activation", True), ("dafl", False)])
def test_a_student_in_the_loop_is_shown_while_samples_are_made(method, in_loop):
    _, scene, frames = drawn_by(method, steps="5")
    assert scene["in_loop"] is in_loop
    assert any("student" in arrays for _, arrays in frames) is in_loop


def test_statistics_of_batch_normalisation_beside_those_of_the_samples():
    run, _, frames = drawn_by("deepinversion", steps="3")
    found = frames[-1][1]["statistics"]
    # The first layer by hand: what comes into it, and what it remembers, in units of its own spread.
    x = run.synthesis.state.x[0].flatten(0, 1)
    linear, norm = run.network.body[0], run.network.body[1]
    h, unit = linear(x), norm.running_var.mean().sqrt()
    first = found[found[:, 0] == 0]
    rows = torch.stack([norm.running_mean, h.mean(dim=0), norm.running_var.sqrt(), h.std(dim=0, correction=0)], dim=1)
    np.testing.assert_allclose(first[:, 1:], (rows / unit).numpy(), rtol=1e-4, atol=1e-5)
    _, _, others = drawn_by("cake", steps="3")
    assert not any("statistics" in arrays for _, arrays in others)


DIGITS = {"data": "digits", "batches": "4", "samples": "100", "steps": "2", "student.updates": "20"}


def test_images():
    run, view, frames = watched(**DIGITS)
    scene, _ = decode(view.scene())
    assert (scene["kind"], scene["shape"]) == ("images", [1, 8, 8])
    update, (header, arrays) = next((u, f) for u, f in frames if u.snapshot is not None and u.snapshot.step == 1)
    assert arrays["images"].shape == (IMAGES_SHOWN, 1, 8, 8)
    # The same number from each of the four mini-batches in flight.
    s = update.snapshot
    shown = torch.cat([s.x[m, :16] for m in range(4)])
    assert arrays["ids"].tolist() == [100 * m + j for m in range(4) for j in range(16)]
    probabilities = torch.cat([s.logits[m, :16] for m in range(4)]).softmax(dim=1)
    np.testing.assert_allclose(arrays["probabilities"] / 65535, probabilities.numpy(), atol=1e-5)
    np.testing.assert_array_equal(arrays["labels"], torch.cat([s.labels[m, :16] for m in range(4)]).numpy())
    assert set(header["values"]) >= {"hit_rate", "confidence", "near_boundary", "forward_calls"}
    # Both views: as pixels to within the steps of each image's own range, stretched from end to end.
    low, high = arrays["range"].T.astype(float)
    seen = film.pixels(arrays["images"], arrays["range"], "pixels").astype(float)
    steps = np.ceil((high - low) / 2).reshape(-1, 1, 1, 1) + 1
    assert (abs(seen - run.dataset.pixels(shown).numpy()) <= steps).all()
    stretched = film.pixels(arrays["images"], arrays["range"], "stretched")
    assert (stretched.min(axis=(1, 2, 3)) == 0).all()
    assert (stretched.max(axis=(1, 2, 3)) == 255).all()
    pixels = shown * run.dataset.std + run.dataset.mean
    np.testing.assert_allclose(low, pixels.flatten(1).min(dim=1).values.numpy(), rtol=1e-5)
    np.testing.assert_allclose(high, pixels.flatten(1).max(dim=1).values.numpy(), rtol=1e-5)


@pytest.mark.parametrize("sample", [7, 395])  # one on the sheet, and one that is not, with its partners
def test_details_of_one_image(sample):
    run = Distillation(Experiment.from_query(DIGITS))
    view = DistillationView(run)
    view.sample = sample
    m, j = divmod(sample, 100)
    for update in run:
        s = update.snapshot
        if s is None:
            continue
        header, arrays = decode(view.frame(update, 0))
        at = arrays["ids"].tolist()
        first = j // 10 * 10
        group = [100 * m + first + k for k in range(10)]
        assert header["sheet"] == IMAGES_SHOWN
        assert set(at[IMAGES_SHOWN:]) == set(group) - set(at[:IMAGES_SHOWN])  # nothing else travels
        assert sorted(arrays["labels"][[at.index(i) for i in group]]) == list(range(10))
        k = at.index(sample)
        expected = evaluation.boundary_distance(run.network, s.x[m, j : j + 1]).item()
        assert arrays["distance"][k] == pytest.approx(expected, rel=1e-4)
        if s.logits is None:  # before the first step: asked for the eye
            network = run.network
            np.testing.assert_allclose(
                arrays["probabilities"][k] / 65535, network(s.x[m, j : j + 1]).softmax(dim=1)[0].numpy(), atol=1e-4
            )
            assert "gradient" not in arrays
            continue
        np.testing.assert_allclose(arrays["probabilities"][k] / 65535, s.logits[m, j].softmax(dim=0), atol=1e-5)
        g = arrays["gradient_of"].tolist().index(sample)
        gradient = s.gradient[m, j]
        peak = arrays["gradient_peak"][g]
        assert peak == pytest.approx(gradient.abs().max().item())
        assert arrays["gradient_norm"][g] == pytest.approx(gradient.norm().item(), rel=1e-5)
        np.testing.assert_allclose(arrays["gradient"][g] * peak / 127, gradient.numpy(), atol=peak / 253)
        assert len(arrays["gradient"]) == (len(at) if s.step == s.total else 1)  # after the last step, all


def test_looking_costs_the_method_nothing():
    """What is computed for the eye is not counted, and nothing is computed when nobody looks."""
    calls = []
    for sample in (None, 3):
        run = Distillation(Experiment.from_query({**DIGITS, "method": "brownian"}))
        view = DistillationView(run)
        view.sample = sample
        update = next(u for u in run if u.snapshot is not None)
        _, arrays = decode(view.frame(update, 0))
        assert ("probabilities" in arrays) is (sample is not None)
        assert "gradient" not in arrays  # it moves without one
        calls.append((run.oracle.forward_calls, run.oracle.gradient_calls))
    assert calls[0] == calls[1] == (0, 0)


def test_the_latest_frame_again_with_other_details():
    run = Distillation(Experiment.from_query(DIGITS))
    view = DistillationView(run)
    assert view.again() is None
    update = next(u for u in run if u.snapshot is not None and u.snapshot.step == 1)
    first, before = decode(view.frame(update, 0))
    view.sample = 399 + 400  # in flight are 400: counted on from the first
    second, after = decode(view.again())
    assert second == first
    for name in ("images", "ids", "probabilities", "range"):
        np.testing.assert_array_equal(after[name][:IMAGES_SHOWN], before[name])
    np.testing.assert_array_equal(after["distance"][:IMAGES_SHOWN], before["distance"])
    assert after["gradient_of"].tolist() == [399]
    assert set(after["ids"][IMAGES_SHOWN:]) == set(range(390, 400))


def test_colour_images_and_those_that_ran_off():
    from cake_core.frames import _stretched

    pixels = torch.randn(5, 3, 4, 6)
    images, ends = _stretched(pixels)
    low, high = ends.T[..., None, None, None]
    np.testing.assert_allclose(low + (high - low) * images / 255, pixels.numpy(), atol=float((high - low).max()) / 500)
    images, ends = _stretched(torch.tensor([[[[float("nan"), float("inf")]]], [[[0.5, 0.5]]]]))
    assert np.isfinite(ends).all()
    assert images[1].tolist() == [[[0, 0]]]  # one shade: its lowest value, 0.5
    assert ends[1].tolist() == [0.5, 0.5]


def test_numbers_that_json_has_not_got_become_nothing():
    header, _ = decode(encode({"losses": {"a": float("nan"), "b": 1.0}, "list": [float("inf"), 2]}))
    assert header == {"losses": {"a": None, "b": 1.0}, "list": [None, 2]}


def test_points_far_outside_are_clamped_and_nan_does_not_break_the_view():
    from cake_core.frames import _quantised

    encoded = _quantised(torch.tensor([[1e9, -1e9], [float("nan"), 0.0]]), 2.0)
    assert encoded[0].tolist() == [65535, 0]
    assert encoded[1, 1] == 32767


def test_a_recording_begins_with_its_scene(tmp_path):
    path = tmp_path / "run.bin"
    run = Distillation(Experiment.from_query({"batches": "1", "samples": "20", "steps": "3", "student.updates": "20"}))
    count = record(run, path)
    raw, messages = path.read_bytes(), []
    while raw:
        (length,) = struct.unpack_from("<I", raw)
        messages.append(decode(raw[4 : 4 + length])[0])
        raw = raw[4 + length :]
    assert messages[0]["type"] == "scene"
    assert len(messages) == count + 1
    assert messages[-1]["progress"] == 1
