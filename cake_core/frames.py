"""What the live view sees: scenes and frames in a compact binary form.

A message is 4 bytes "CAKE", a little-endian uint32 with the length of a JSON header, the header (padded to a multiple
of 4 bytes), and the raw arrays that the header's "parts" describe, each beginning at a multiple of 4 bytes.

A *scene* says once what stays the same while a job runs: the teacher's surface, its boundary, the classes. A *frame*
is one moment: positions of the points or a sheet of images, losses, numbers.

A frame of images has these arrays, for the n samples of the sheet (the header's "sheet") and, behind them, for those
partners of the chosen sample that are not on it:

- ids: uint32 (n,), places among all samples in flight; sample j of mini-batch m (of those in flight) has m N + j.
- images: uint8 (n, channels, H, W), each stretched from its own lowest to its own highest pixel; range: float32 (n, 2),
  those two, where 0 is black and 1 is white. Both views of the page follow: stretched it is v, as pixels
  lo + (hi - lo) v / 255, cut off at 0 and 1.
- labels: uint16 (n,), steering labels; probabilities: uint16 (n, C), the teacher's before the latest move, when the
  method asked for them, in steps of 1 / 65535.
- distance: float32 (n,), to the boundary, to first order; NaN where nobody has asked. All of the sheet are known a few
  times a second and after the last step; the chosen sample in every frame.
- gradient: int8 (k, channels, H, W), of the k samples `gradient_of` (uint32, ids): the chosen one, and after the last
  step all. 127 is `gradient_peak` (float32), the largest amount; `gradient_norm` (float32) is its length.
"""

from __future__ import annotations

import json
import math
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import ages, evaluation
from .anatomy import dissect
from .history import evenly
from .losses import total_variation
from .methods import METHODS
from .pipeline import Distillation, Update
from .synthetic import Snapshot

__all__ = ["IMAGES_SHOWN", "DistillationView", "decode", "encode", "is_whole", "record"]

MAGIC = b"CAKE"
SURFACE = 96  # grid points along each side of a surface
REACH = 4  # positions are encoded up to so many times the view's half width; beyond it they are clamped
IMAGES_SHOWN = 64
PARTNERS_SHOWN = 24  # of the chosen sample, at most: a group has as many as there are classes
POINTS_SHOWN = 4000  # of the samples, at most
PIXEL_LIMIT = 1e6  # of samples that run off to infinity, so that a picture can still be made
DATA_SHOWN = 600  # of the teacher's data
CHANNELS_SHOWN = 300  # of all layers of batch normalisation


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
    text = json.dumps(_finite({**header, "parts": parts}), separators=(",", ":"), allow_nan=False).encode()
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


# What is read of messages that were stored: kinds and dimensions of arrays.
ARRAYS = {"teacher": "u3", "student": "u3", "boundary": "f3", "xy": "u2", "labels": "u1", "ids": "u1", "images": "u4",
          "range": "f2", "probabilities": "u2"}  # fmt: skip
DAMAGED = (ValueError, KeyError, TypeError, struct.error, AttributeError, OverflowError, RecursionError)


def is_whole(message: bytes) -> bool:
    """Whether a stored message of a distillation can be read, and holds what its scene or frame has to hold."""
    try:
        header, arrays = decode(message)
        known = {k: arrays[k] for k in ARRAYS if k in arrays}
        if any(f"{a.dtype.kind}{a.ndim}" != ARRAYS[k] for k, a in known.items()):
            return False
        if any(not a.size or a.shape[0] != a.shape[1] for k, a in known.items() if k in ("teacher", "student")):
            return False
        return _is_scene(header, arrays) if header["type"] == "scene" else _is_frame(header, arrays)
    except DAMAGED:
        return False


def _is_scene(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    names = all(isinstance(c, str) for c in header["classes"]) and isinstance(header["classes"], list)
    shape = isinstance(header["shape"], list) and all(type(n) is int and 0 < n < 2**16 for n in header["shape"])
    if header["kind"] == "images":
        return names and shape and len(header["shape"]) == 3
    width, line = header["half_width"], arrays["boundary"]
    fits = "teacher" in arrays and line.shape[1:] == (2, 2) if line.size else "teacher" in arrays
    return names and shape and fits and _is_number(width) and 1e-9 < width < 1e9 and bool((abs(line) < 1e9).all())


def _is_frame(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    told = [*(header.get("values") or {}).values(), *(header.get("losses") or {}).values()]
    if not isinstance(header["stage"], str) or not all(v is None or _is_number(v) for v in told):
        return False
    if not all(_is_number(header[k]) for k in ("t", "progress")):
        return False
    if "xy" not in arrays and "images" not in arrays:
        return "step" not in header or _is_number(header["step"])
    first, last = header["batches"]
    if not all(type(n) is int and abs(n) < 2**53 for n in (first, last, header["step"], header["total"])):
        return False
    if "xy" in arrays:
        return arrays["xy"].shape == (len(arrays["labels"]), 2)
    n, sheet = len(arrays["images"]), header["sheet"]
    if not all(type(header[k]) is int and header[k] > 0 for k in ("sheet", "in_flight", "each")):
        return False
    fit = arrays["range"].shape == (n, 2) and len(arrays["labels"]) == len(arrays["ids"]) == n
    fit = fit and len(arrays.get("probabilities", arrays["images"])) == n and arrays["images"].shape[1] in (1, 3)
    return fit and 0 < sheet <= n and arrays["images"].size > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _finite(value: Any) -> Any:
    """Plain values with None for numbers that JSON has not got (losses of samples that ran off to infinity)."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value


class DistillationView:
    """Pictures of a `Distillation` for the live view.

    Args:
        run: the distillation.

    Attributes:
        arrows: whether frames of points carry gradients (set while somebody looks at them).
        anatomy: whether frames carry what their step was made of (see `anatomy`): of points for all that are shown, of
            images for the chosen one.
        sample: of which sample frames of images carry details, by its place among those in flight; None for none. A
            place beyond the last begins again at the first, because the last mini-batches can be fewer.
    """

    def __init__(self, run: Distillation):
        self.run = run
        self.arrows = False
        self.anatomy = False
        self.sample: int | None = None
        self._before: Snapshot | None = None
        self._latest: tuple[Snapshot, dict[str, Any]] | None = None
        self._next: dict[str, float] = {}  # when costly parts are due again
        self._judged = False  # whether what came out has been shown
        self._values: dict[str, float] = {}

    def scene(self) -> bytes | None:
        """What stays the same, as soon as the data and a teacher are there."""
        run = self.run
        if run.dataset is None or run.oracle is None:
            return None
        info = run.dataset.info
        header = {"type": "scene", "kind": info.kind, "classes": info.classes, "shape": info.shape}
        if info.kind == "images":
            return encode({**header, "near": evaluation.NEAR})
        width = run.dataset.half_width
        line = evaluation.boundary_line(run.network, width).numpy().astype("<f4")
        shown = run.dataset.inputs(run.dataset.train_x[:DATA_SHOWN]).cpu()
        arrays = {
            "teacher": self._surface(run.network, width),
            "boundary": line,
            "data": _quantised(shown, width),
            "data_labels": run.dataset.train_y[:DATA_SHOWN].cpu().numpy().astype("u1"),
        }
        method = METHODS[run.experiment.method]
        header |= {"drawn": method.drawn, "in_loop": method.student_in_loop}
        return encode({**header, "half_width": width, "reach": REACH}, arrays)

    def frame(self, update: Update, version: int) -> bytes:
        """One moment.

        Args:
            update: what the distillation just yielded.
            version: counts the edits of its settings, so that a viewer knows which ones a frame has seen.
        """
        header: dict[str, Any] = {
            "type": "frame",
            "t": ages.milliseconds(),
            "stage": update.stage,
            "progress": round(update.progress, 4),
            "version": version,
        }
        arrays: dict[str, np.ndarray] = {}
        if update.snapshot is not None:
            self._before = self._latest[0] if self._latest else None
            self._samples(update.snapshot, header, arrays)
        if update.training is not None:
            step = update.training
            header |= {"step": step.update, "total": step.total, "losses": {"loss": step.loss}}
        if update.stage in ("student", "evaluation", "control"):
            self._student(arrays)
        if self.run.oracle is not None:
            self._values["forward_calls"] = self.run.oracle.forward_calls
            self._values["gradient_calls"] = self.run.oracle.gradient_calls
        header["values"] = dict(self._values)
        if update.snapshot is not None:
            self._latest = update.snapshot, header
        return encode(header, arrays)

    def again(self) -> bytes | None:
        """The latest frame with samples once more, now with what is looked at; None where there was none."""
        if self._latest is None:
            return None
        snapshot, header = self._latest
        self._next.clear()  # it has to say all that the first one said
        arrays: dict[str, np.ndarray] = {}
        self._samples(snapshot, header, arrays)
        return encode(header, arrays)

    # -- parts --------------------------------------------------------------------------------------------------

    def _samples(self, s: Snapshot, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        in_flight = s.labels.numel()
        header |= {"step": s.step, "total": s.total, "batches": (s.batches[0], s.batches[-1])}
        header["losses"] = {k: s.weights[k] * v.sum().item() / in_flight for k, v in s.losses.items()}
        shown = self._shown(s)
        if s.x.dim() == 3:
            self._points(s, shown, arrays)
            self._method(arrays)
        else:
            self._images(s, shown, header, arrays)
        labels, x = s.labels.flatten()[shown], s.x.flatten(0, 1)[shown]
        if s.logits is not None:
            confidence, predicted = s.logits.flatten(0, 1)[shown].softmax(dim=-1).max(dim=-1)
            if self.run.synthesis.method.steered:
                self._values["hit_rate"] = (predicted == labels).float().mean().item()
            self._values["confidence"] = confidence.mean().item()
        if self.anatomy:
            self._anatomy(s, shown, header, arrays)
        remembers = "batchnorm" in self.run.synthesis.method.access
        if remembers and (self._due("statistics", 0.5) or s.step == s.total):
            values = evaluation.channel_statistics(self.run.network, s.x[0])
            arrays["statistics"] = values.cpu()[evenly(len(values), CHANNELS_SHOWN)].numpy().astype("<f4")
        if self._due("near", 0.25) or s.step == s.total:
            distance = evaluation.boundary_distance(self.run.network, x)
            self._values["near_boundary"] = (distance <= evaluation.NEAR).float().mean().item()
            if "distance" in arrays:
                arrays["distance"][: len(shown)] = distance.cpu().numpy()

    def _anatomy(self, s: Snapshot, shown: Tensor, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """What the latest step was made of. The header says it in means over all samples; the arrays have, for the n
        samples in question, and T terms: anatomy_from (n, *shape), anatomy_p (n, C), anatomy_values (T, n),
        anatomy_gradients (T, n, *shape), anatomy_followed, anatomy_move and anatomy_noise (n, *shape), all float32.
        """
        run = self.run.synthesis
        seen = dissect(run.method, run.state, self._before, s) if self._before is not None else None
        if seen is None:
            return
        if s.x.dim() > 3:
            shown = torch.tensor([(self.sample or 0) % s.labels.numel()], device=s.x.device)

        def some(values: Tensor) -> np.ndarray:
            return values.flatten(0, 1)[shown].nan_to_num().cpu().numpy().astype("<f4")

        def length(values: Tensor) -> float:
            return values.flatten(2).norm(dim=2).mean().item()

        right = seen.probabilities.argmax(dim=-1) == s.labels
        header["anatomy"] = {
            "step": s.step,
            "ids": shown.tolist() if s.x.dim() > 3 else None,
            "terms": [
                {
                    "name": name,
                    "weight": part.weight,
                    "loss": None if part.each is None else part.each.mean().item(),
                    "gradient": length(part.gradient),
                }
                for name, part in seen.parts.items()
            ],
            "confidence": seen.probabilities.amax(dim=-1).mean().item(),
            "right": right.float().mean().item() if run.method.steered else None,
            "clipped": seen.clipped.float().mean().item(),
            "clip": getattr(run.method.config, "clip", 0),
            "eta": [seen.eta.max().item(), seen.eta.min().item()],
            "followed": length(seen.gradient),
            "move": length(seen.move),
            "noise": length(seen.noise),
        }
        terms = list(seen.parts.values())
        nothing = torch.full(s.labels.shape, math.nan, device=s.x.device)
        values = [nothing if t.each is None else t.each for t in terms]
        arrays |= {f"anatomy_{k}": some(v) for k, v in (
            ("from", seen.x), ("p", seen.probabilities), ("followed", seen.gradient), ("move", seen.move),
            ("noise", seen.noise),
        )}  # fmt: skip
        if terms:
            arrays["anatomy_values"] = np.stack([some(v) for v in values])
            arrays["anatomy_gradients"] = np.stack([some(t.gradient) for t in terms])

    def _points(self, s: Snapshot, shown: Tensor, arrays: dict[str, np.ndarray]) -> None:
        arrays["xy"] = _quantised(s.x.flatten(0, 1)[shown].cpu(), self.run.dataset.half_width)
        if self.arrows and s.gradient is not None:
            arrays["arrows"] = (-s.gradient.flatten(0, 1)[shown]).cpu().numpy().astype("<f4")
        arrays["labels"] = s.labels.flatten()[shown].cpu().numpy().astype("<u2")  # there may be 1,000 classes

    def _method(self, arrays: dict[str, np.ndarray]) -> None:
        """What a method for points shows of itself: lines in the plane, the student in its loop."""
        synthesis, width = self.run.synthesis, self.run.dataset.half_width
        if synthesis.state is None:
            return
        if (lines := synthesis.method.lines(synthesis.state)) is not None:
            arrays["lines"] = _quantised(lines.flatten(0, 1).cpu(), width)
        student = synthesis.state.extra.get("student") if synthesis.method.student_in_loop else None
        if student is not None and self._due("surface", 0.2):
            arrays["student"] = self._surface(student, width)

    def _images(self, s: Snapshot, shown: Tensor, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """See the head of this module."""
        in_flight, each = s.labels.numel(), s.labels.shape[1]
        data, network = self.run.dataset, self.run.network
        group = self.run.synthesis.method.groups(self.run.synthesis.problem)[1]
        header |= {"sheet": len(shown), "in_flight": in_flight, "each": each, "group": group}
        header |= {"contrast": s.weights.get("contrast", 0) > 0, "gradients": s.gradient is not None}
        header["steered"] = self.run.synthesis.method.steered
        ids = shown.tolist()
        chosen = None if self.sample is None else self.sample % in_flight
        if chosen is not None:
            first = chosen - chosen % each % group
            partners = [i for i in range(first, first + group) if i != chosen][:PARTNERS_SHOWN]
            ids += [i for i in (chosen, *partners) if i not in ids]
        at = torch.tensor(ids, device=s.x.device)
        x = s.x.flatten(0, 1)[at]
        self._values["variation"] = total_variation(x[None, None]).item() / len(x)
        arrays["ids"] = np.array(ids, "<u4")
        arrays["images"], arrays["range"] = _stretched(x * data.std + data.mean)
        arrays["labels"] = s.labels.flatten()[at].cpu().numpy().astype("<u2")
        if s.logits is not None or chosen is not None:
            # Some methods never ask the teacher on their way: then it is asked here, for the eye, and not counted.
            logits = s.logits.flatten(0, 1)[at] if s.logits is not None else evaluation.predict(network, x)
            scaled = (65535 * logits.softmax(dim=-1)).round().nan_to_num(0)
            arrays["probabilities"] = scaled.cpu().numpy().astype("<u2")
        arrays["distance"] = np.full(len(ids), np.nan, "<f4")
        if chosen is not None:
            k = ids.index(chosen)
            arrays["distance"][k] = evaluation.boundary_distance(network, x[k : k + 1]).item()
        wanted = ids if s.step == s.total else [] if chosen is None else [chosen]
        if s.gradient is not None and wanted:
            gradient = s.gradient.flatten(0, 1)[torch.tensor(wanted, device=s.x.device)].nan_to_num()
            peak = gradient.abs().amax(dim=(1, 2, 3))
            scaled = 127 * gradient / peak.clamp(min=1e-30).view(-1, 1, 1, 1)
            arrays["gradient"] = scaled.round().to(torch.int8).cpu().numpy()
            arrays["gradient_of"] = np.array(wanted, "<u4")
            arrays["gradient_peak"] = peak.cpu().numpy().astype("<f4")
            arrays["gradient_norm"] = gradient.flatten(1).norm(dim=1).cpu().numpy().astype("<f4")

    def _shown(self, s: Snapshot) -> Tensor:
        """Positions of the samples that are shown: the same number from each mini-batch in flight."""
        m, n = s.labels.shape
        most = POINTS_SHOWN if s.x.dim() == 3 else IMAGES_SHOWN
        if m * n <= most:
            return torch.arange(m * n, device=s.x.device)
        rows = torch.linspace(0, m - 1, min(m, max(1, round(most**0.5))), device=s.x.device).round().long()
        each = min(n, most // len(rows))
        return (rows[:, None] * n + torch.arange(each, device=s.x.device)).flatten()

    def _student(self, arrays: dict[str, np.ndarray]) -> None:
        """The student as it is: looked at now and then while it learns, and once more when it has been judged."""
        run, points = self.run, self.run.dataset.info.kind == "points"
        judged = run.outcome is not None and not self._judged
        if judged:
            self._judged = True
            rate = run.outcome.student_accuracy
        elif run.outcome is None and len(run.dataset.test_x) and self._due("accuracy", 0.25 if points else 1.0):
            part = slice(None) if points else slice(500)
            with evaluation.in_eval_mode(run.student):
                logits = evaluation.predict(run.student, run.dataset.test_x[part], run.dataset.inputs)
            rate = evaluation.accuracy(logits, run.dataset.test_y[part])
        else:
            rate = None
        if rate is not None:
            self._values |= {"student_accuracy": rate.value, "n_test": rate.n}
        if points and (judged or self._due("surface", 0.2)):  # again later: who lags behind may have missed that frame
            arrays["student"] = self._surface(run.student, run.dataset.half_width)

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


def _stretched(pixels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, channels, H, W) as uint8, each from its lowest value 0 to its highest 255, and those two (N, 2)."""
    pixels = pixels.nan_to_num(0, PIXEL_LIMIT, -PIXEL_LIMIT).clamp(-PIXEL_LIMIT, PIXEL_LIMIT)
    low, high = pixels.amin(dim=(1, 2, 3)), pixels.amax(dim=(1, 2, 3))
    scaled = (pixels - low.view(-1, 1, 1, 1)) / (high - low).clamp(min=1e-12).view(-1, 1, 1, 1)
    ends = torch.stack([low, high], dim=1)
    return (255 * scaled).round().to(torch.uint8).cpu().numpy(), ends.cpu().numpy().astype("<f4")


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
            messages.append(view.frame(update, 0))
    path.write_bytes(b"".join(struct.pack("<I", len(m)) + m for m in messages))
    return len(messages) - 1
