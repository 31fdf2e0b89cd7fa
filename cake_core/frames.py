"""What the live view sees: scenes and frames in a compact binary form.

A message is 4 bytes "CAKE", a little-endian uint32 with the length of a JSON header, the header (padded to a multiple
of 4 bytes), and the raw arrays that the header's "parts" describe, each beginning at a multiple of 4 bytes.

A *scene* says once what stays the same while a job runs: the teacher's surface, its boundary, the classes. A *frame*
is one moment: positions of the points or a sheet of images, losses, numbers.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import evaluation
from .pipeline import Distillation, Update
from .synthetic import Snapshot

__all__ = ["IMAGES_SHOWN", "DistillationView", "decode", "encode", "record"]

MAGIC = b"CAKE"
SURFACE = 96  # grid points along each side of a surface
REACH = 4  # positions are encoded up to so many times the view's half width; beyond it they are clamped
IMAGES_SHOWN = 64
POINTS_SHOWN = 4000  # of the samples, at most
DATA_SHOWN = 600  # of the teacher's data


def encode(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> bytes:
    """One message: a header of plain values, and arrays."""
    parts, chunks, offset = [], [], 0
    for name, array in (arrays or {}).items():
        array = np.ascontiguousarray(array)
        raw = array.tobytes()
        parts.append({"name": name, "dtype": array.dtype.name, "shape": array.shape, "offset": offset})
        padding = -len(raw) % 4
        chunks += [raw, b"\0" * padding]
        offset += len(raw) + padding
    text = json.dumps({**header, "parts": parts}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    return b"".join([MAGIC, struct.pack("<I", len(text)), text, *chunks])


def decode(message: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The inverse of `encode`."""
    if message[:4] != MAGIC:
        raise ValueError("not a frame")
    (length,) = struct.unpack_from("<I", message, 4)
    header = json.loads(message[8 : 8 + length])
    arrays = {}
    for part in header.pop("parts"):
        dtype, count = np.dtype(part["dtype"]), int(np.prod(part["shape"]))
        start = 8 + length + part["offset"]
        arrays[part["name"]] = np.frombuffer(message, dtype, count, start).reshape(part["shape"])
    return header, arrays


class DistillationView:
    """Pictures of a `Distillation` for the live view.

    Args:
        run: the distillation.

    Attributes:
        arrows: whether frames carry gradients (set while somebody looks at them).
    """

    def __init__(self, run: Distillation):
        self.run = run
        self.arrows = False
        self._next: dict[str, float] = {}  # when costly parts are due again
        self._values: dict[str, float] = {}

    def scene(self) -> bytes | None:
        """What stays the same, as soon as the data and a teacher are there."""
        run = self.run
        if run.dataset is None or run.oracle is None:
            return None
        info = run.dataset.info
        header = {"type": "scene", "kind": info.kind, "classes": info.classes, "shape": info.shape}
        if info.kind == "images":
            return encode(header)
        width = run.dataset.half_width
        line = evaluation.boundary_line(run.oracle.network, width).numpy().astype("<f4")
        shown = run.dataset.inputs(run.dataset.train_x[:DATA_SHOWN]).cpu()
        arrays = {
            "teacher": self._surface(run.oracle.network, width),
            "boundary": line,
            "data": _quantised(shown, width),
            "data_labels": run.dataset.train_y[:DATA_SHOWN].cpu().numpy().astype("u1"),
        }
        return encode({**header, "half_width": width, "reach": REACH}, arrays)

    def frame(self, update: Update, version: int, last: bool = False) -> bytes:
        """One moment.

        Args:
            update: what the distillation just yielded.
            version: counts the edits of its settings, so that a viewer knows which ones a frame has seen.
            last: whether no more frames will come, so that nothing may be left out.
        """
        header: dict[str, Any] = {
            "type": "frame",
            "t": time.time() * 1000,
            "stage": update.stage,
            "progress": round(update.progress, 4),
            "version": version,
        }
        arrays: dict[str, np.ndarray] = {}
        if update.snapshot is not None:
            self._samples(update.snapshot, header, arrays)
        if update.training is not None:
            step = update.training
            header |= {"step": step.update, "total": step.total, "losses": {"loss": step.loss}}
        if update.stage in ("student", "evaluation"):
            self._student(arrays, last)
        if self.run.oracle is not None:
            self._values["forward_calls"] = self.run.oracle.forward_calls
            self._values["gradient_calls"] = self.run.oracle.gradient_calls
        return encode({**header, "values": dict(self._values)}, arrays)

    # -- parts --------------------------------------------------------------------------------------------------

    def _samples(self, s: Snapshot, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        in_flight = s.labels.numel()
        header |= {"step": s.step, "total": s.total, "batches": (s.batches[0], s.batches[-1])}
        header["losses"] = {k: s.weights[k] * v.sum().item() / in_flight for k, v in s.losses.items()}
        shown = self._shown(s)
        x, labels = s.x.flatten(0, 1)[shown], s.labels.flatten()[shown]
        if x.dim() == 2:
            width = self.run.dataset.half_width
            arrays["xy"] = _quantised(x.cpu(), width)
            if self.arrows and s.gradient is not None:
                arrays["arrows"] = (-s.gradient.flatten(0, 1)[shown]).cpu().numpy().astype("<f4")
        else:
            arrays["images"] = self.run.dataset.pixels(x).cpu().numpy()
        arrays["labels"] = labels.cpu().numpy().astype("<u2")  # there may be 1,000 classes
        if s.logits is not None:
            confidence, predicted = s.logits.flatten(0, 1)[shown].softmax(dim=-1).max(dim=-1)
            self._values["hit_rate"] = (predicted == labels).float().mean().item()
            self._values["confidence"] = confidence.mean().item()
            if x.dim() > 2:
                arrays["predicted"] = predicted.cpu().numpy().astype("<u2")
                arrays["confidence"] = (255 * confidence).cpu().numpy().astype("u1")
        if self._due("near", 0.25) or s.step == s.total:
            distance = evaluation.boundary_distance(self.run.oracle.network, x)
            self._values["near_boundary"] = (distance <= evaluation.NEAR).float().mean().item()

    def _shown(self, s: Snapshot) -> Tensor:
        """Positions of the samples that are shown: the same number from each mini-batch in flight."""
        m, n = s.labels.shape
        most = POINTS_SHOWN if s.x.dim() == 3 else IMAGES_SHOWN
        if m * n <= most:
            return torch.arange(m * n, device=s.x.device)
        rows = torch.linspace(0, m - 1, min(m, max(1, round(most**0.5))), device=s.x.device).round().long()
        each = min(n, most // len(rows))
        return (rows[:, None] * n + torch.arange(each, device=s.x.device)).flatten()

    def _student(self, arrays: dict[str, np.ndarray], last: bool) -> None:
        run = self.run
        if run.student is None:
            return
        points = run.dataset.info.kind == "points"
        if points and (last or self._due("surface", 0.2)):
            arrays["student"] = self._surface(run.student, run.dataset.half_width)
        if len(run.dataset.test_x) and (last or self._due("accuracy", 0.25 if points else 1.0)):
            part = slice(None) if last or points else slice(500)
            with evaluation.in_eval_mode(run.student):
                logits = evaluation.predict(run.student, run.dataset.test_x[part], run.dataset.inputs)
            rate = evaluation.accuracy(logits, run.dataset.test_y[part])
            self._values |= {"student_accuracy": rate.value, "n_test": rate.n}

    def _surface(self, network: Any, width: float) -> np.ndarray:
        """Probabilities of all classes over the plane in view, uint8 (SURFACE, SURFACE, C), rows from below."""
        points = evaluation.grid(width, SURFACE, self.run.device)
        with evaluation.in_eval_mode(network):
            probabilities = evaluation.predict(network, points, batch=len(points)).softmax(dim=1)
        return (255 * probabilities).round().to(torch.uint8).view(SURFACE, SURFACE, -1).cpu().numpy()

    def _due(self, what: str, seconds: float) -> bool:
        now = time.monotonic()
        if now < self._next.get(what, 0):
            return False
        self._next[what] = now + seconds
        return True


def _quantised(x: Tensor, width: float) -> np.ndarray:
    """Points (N, 2) as uint16 over [-REACH w, REACH w]²."""
    scaled = (x / (REACH * width) + 1) / 2 * 65535
    return scaled.clamp(0, 65535).nan_to_num(0).numpy().astype("<u2")


def record(run: Distillation, path: Path) -> int:
    """Runs a distillation and writes all that its live view would show: messages, each behind its length.

    Args:
        run: not begun yet.
        path: the file to write.

    Returns:
        The number of frames.
    """
    view, messages = DistillationView(run), []
    for update in run:
        if not messages and (scene := view.scene()) is not None:
            messages.append(scene)
        if messages:
            messages.append(view.frame(update, 0, last=update.progress >= 1))
    path.write_bytes(b"".join(struct.pack("<I", len(m)) + m for m in messages))
    return len(messages) - 1
