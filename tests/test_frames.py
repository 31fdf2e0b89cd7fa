"""Messages of the live view: decoded as they were encoded, and true to what they picture."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch

from cake_core import evaluation
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
    frames = [(u, decode(view.frame(u, 5, last=u.progress >= 1))) for u in run]
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
    expected = evaluation.predict(run.oracle.network, points).softmax(dim=1)
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


def test_images():
    flat = {"data": "digits", "batches": "4", "samples": "100", "steps": "2", "student.updates": "20"}
    run, view, frames = watched(**flat)
    scene, _ = decode(view.scene())
    assert (scene["kind"], scene["shape"]) == ("images", [1, 8, 8])
    update, (header, arrays) = next((u, f) for u, f in frames if u.snapshot is not None and u.snapshot.step == 1)
    assert arrays["images"].shape == (IMAGES_SHOWN, 1, 8, 8)
    # The same number from each of the four mini-batches in flight.
    s = update.snapshot
    shown = torch.cat([s.x[m, :16] for m in range(4)])
    np.testing.assert_array_equal(arrays["images"], run.dataset.pixels(shown).numpy())
    probabilities = torch.cat([s.logits[m, :16] for m in range(4)]).softmax(dim=1)
    np.testing.assert_array_equal(arrays["predicted"], probabilities.argmax(dim=1).numpy())
    assert set(header["values"]) >= {"hit_rate", "confidence", "near_boundary", "forward_calls"}


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
