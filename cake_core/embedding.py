"""Pictures of feature space: real and synthetic inputs as a network sees them, in two or three dimensions.

References: | UMAP: Uniform Manifold Approximation and Projection (McInnes, Healy, Melville 2018) | https://arxiv.org/abs/1802.03426
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from . import evaluation, frames, hooks
from .data import Dataset
from .history import History, evenly
from .synthetic import SyntheticSet

__all__ = ["Embedding", "Placing", "embed", "penultimate"]

NEIGHBOURS = 15
MOST = 1000  # points of each kind
THUMBNAIL = 32  # pixels along the longer side, at most
AT_ONCE = 256  # inputs between two looks at the progress

Fitting = Generator[tuple[float, str], None, tuple[np.ndarray, float | None]]


def penultimate(network: nn.Module, x: Tensor) -> np.ndarray:
    """Features (N, F) of inputs (N, *shape): what the network's last linear layer is given.

    Raises:
        CakeError: the network has no linear layer.
    """
    with hooks.features(network) as seen:
        evaluation.predict(network, x)
    return torch.cat(seen).cpu().numpy()


@dataclass(frozen=True)
class Embedding:
    """A picture of feature space: one row for each point.

    First come the real inputs, then the synthetic samples as they ended, then some of these samples at the earlier
    moments of their history, moment by moment.

    Attributes:
        position: coordinates (N, 2) or (N, 3).
        index: position (N,) of the input in its own set, so that a point can be traced back.
        label: true class (N,) of real inputs, the network's answer for synthetic ones.
        answer: the class (N,) that the network names.
        confidence: the network's largest probability (N,).
        distance: distance (N,) to the network's decision boundary, to first order.
        batch: mini-batch (N,) a synthetic sample comes from, -1 for real inputs.
        step: steps (N,) that a synthetic sample had taken, -1 for real inputs.
        shown: what is shown of an input: pixels (N, H, W) or (N, H, W, 3), or coordinates (N, 2) of a point.
        tracked: rows (S,) of the samples that have a history.
        real: number of real inputs.
        moments: steps taken at each moment of the history, the last being the end; empty where there is no history.
        classes: names of the classes.
        how: "pca" or "umap".
        explained: share of the variance that PCA's axes keep (None for UMAP, whose axes have no such meaning).
    """

    position: np.ndarray
    index: np.ndarray
    label: np.ndarray
    answer: np.ndarray
    confidence: np.ndarray
    distance: np.ndarray
    batch: np.ndarray
    step: np.ndarray
    shown: np.ndarray
    tracked: np.ndarray
    real: int
    moments: tuple[int, ...]
    classes: tuple[str, ...]
    how: str
    explained: float | None

    def __len__(self) -> int:
        return len(self.position)

    @property
    def ended(self) -> int:
        """Rows of real inputs and of samples as they ended; the rest are earlier moments."""
        return len(self) - max(0, len(self.moments) - 1) * len(self.tracked)

    def encode(self) -> bytes:
        """All of it as one message (see `frames`)."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        arrays = {k: v for k, v in values.items() if isinstance(v, np.ndarray)}
        plain = {k: v for k, v in values.items() if k not in arrays}
        return frames.encode({"type": "scene", "kind": "embedding", **plain}, arrays)

    @classmethod
    def decode(cls, message: bytes) -> Self:
        """The inverse of `encode`."""
        header, arrays = frames.decode(message)
        plain = {f.name: header[f.name] for f in fields(cls) if f.name not in arrays}
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}, **arrays)

    # -- points by their names ----------------------------------------------------------------------------------

    def name(self, row: int) -> str:
        """A name that stays the same in every map of a run: "r12" for the real input 12, "s7" for sample 7 as it
        ended, "s7@40" for the same after 40 steps.
        """
        if row < self.real:
            return f"r{self.index[row]}"
        return f"s{self.index[row]}" + (f"@{self.step[row]}" if row >= self.ended else "")

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {self.name(row): row for row in range(len(self))}

    def table(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """What is known about some points, for people. Names that are not in the picture are left out."""
        return [self._entry(self._rows[name]) for name in names if name in self._rows]

    def _entry(self, row: int) -> dict[str, Any]:
        real, distance = row < self.real, float(self.distance[row])
        entry = {
            "source": "real" if real else "synthetic",
            "number": int(self.index[row]),
            "true class": self.classes[self.label[row]] if real else None,
            "answer": self.classes[self.answer[row]],
            "confidence": round(float(self.confidence[row]), 4),
            "mini-batch": None if real else int(self.batch[row]) + 1,
            "step": None if real else int(self.step[row]),
            "distance to boundary": round(distance, 4) if np.isfinite(distance) else None,
        }
        if self.shown.ndim == 2:
            entry |= {f"x{k}": round(float(v), 4) for k, v in enumerate(self.shown[row], start=1)}
        return entry

    def shares(self, names: Iterable[str]) -> dict[str, Any]:
        """What some points are: how many are "real" and "synthetic", and the share of each class among them, the
        largest first ("classes": true class of real ones, answer for synthetic ones).
        """
        rows = [self._rows[name] for name in names if name in self._rows]
        real = sum(row < self.real for row in rows)
        counts = Counter(self.classes[self.label[row]] for row in rows)
        shares = {name: count / len(rows) for name, count in counts.most_common()}
        return {"real": real, "synthetic": len(rows) - real, "classes": shares}


class Placing(Iterator[tuple[float, str]]):
    """Makes an `Embedding`, piece by piece: yields the share that is done and what comes next.

    The map is fitted once, to the features of the real inputs alone; the synthetic samples, and their earlier moments,
    are put into it as one batch. So it does not change with the samples, and shows whether they lie where real inputs
    do.

    Args:
        network: teacher or student.
        dataset: whose test part is shown.
        samples: the synthetic samples.
        history: some of them at earlier moments.
        how: PCA (at once) or UMAP (seconds; imported only here, for it takes long).
        dimensions: 2 or 3.
        most: real inputs, and synthetic samples, at most, evenly picked. Those with a history come on top.
        seed: of UMAP.

    Attributes:
        result: the embedding, when the iterator is exhausted.
    """

    def __init__(
        self,
        network: nn.Module,
        dataset: Dataset,
        samples: SyntheticSet,
        history: History | None = None,
        *,
        how: Literal["pca", "umap"] = "pca",
        dimensions: int = 2,
        most: int = MOST,
        seed: int = 0,
    ):
        self.network, self.dataset, self.samples = network, dataset, samples
        self.history = history if history is not None and len(history.steps) > 1 else None
        self.how, self.dimensions, self.most, self.seed = how, dimensions, most, seed
        self.result: Embedding | None = None
        self._pieces = self._loop()

    def __next__(self) -> tuple[float, str]:
        return next(self._pieces)

    def _loop(self) -> Iterator[tuple[float, str]]:
        dataset, samples, history, device = self.dataset, self.samples, self.history, self.samples.x.device
        real_at, made_at = evenly(len(dataset.test_x), self.most), evenly(len(samples), self.most)
        before, moments, tracked = made_at[:0], (), made_at[:0]
        if history is not None:
            made_at = torch.cat([made_at, history.index]).unique()
            moments = tuple(history.steps.tolist())
            tracked = len(real_at) + torch.searchsorted(made_at, history.index)
            before = history.index.repeat(len(moments) - 1)
        real, made = len(real_at), len(made_at)
        parts = [dataset.inputs(dataset.test_x[real_at.to(device)]), samples.x[made_at.to(device)]]
        last = int(samples.provenance.get("settings", {}).get("steps", 0))
        steps = [torch.full((real,), -1), torch.full((made,), last)]
        if history is not None:
            # The end is not taken from the history, where images are rounded.
            parts.append(history.x[:-1].flatten(0, 1).to(device, samples.x.dtype))
            steps.append(history.steps[:-1].repeat_interleave(len(tracked)))
        every = torch.cat(parts)

        features, confidence, answer, distance = [], [], [], []
        for done in range(0, len(every), AT_ONCE):
            yield 0.5 * done / len(every), f"Features of {len(every):,} inputs"
            part = every[done : done + AT_ONCE]
            with hooks.features(self.network) as seen:
                logits = evaluation.predict(self.network, part)
            features += seen
            top = logits.softmax(dim=1).max(dim=1)
            confidence.append(top.values)
            answer.append(top.indices)
            distance.append(evaluation.boundary_distance(self.network, part))
        answer, f = _numpy(answer, "u2"), _numpy(features, "f4")

        fit = self._umap if self.how == "umap" else self._pca
        position, explained = yield from fit(f[:real], f[real:])
        synthetic = torch.cat([made_at, before])  # which sample each row behind the real inputs is
        self.result = Embedding(
            position=position.astype("f4"),
            index=_numpy([real_at, synthetic], "i4"),
            label=np.concatenate([_numpy([dataset.test_y[real_at.to(device)]], "u2"), answer[real:]]),
            answer=answer,
            confidence=_numpy(confidence, "f4"),
            distance=_numpy(distance, "f4"),
            batch=_numpy([torch.full((real,), -1), samples.batch.cpu()[synthetic]], "i4"),
            step=_numpy(steps, "i4"),
            shown=_shown(dataset, every),
            tracked=_numpy([tracked], "i4"),
            real=real,
            moments=moments,
            classes=tuple(dataset.info.classes),
            how=self.how,
            explained=explained,
        )

    def _pca(self, real: np.ndarray, made: np.ndarray) -> Fitting:
        yield 0.6, "Fitting PCA"
        from sklearn.decomposition import PCA

        mapping = PCA(self.dimensions, svd_solver="full").fit(real)
        position = mapping.transform(np.concatenate([real, made]))
        return position, float(mapping.explained_variance_ratio_.sum())

    def _umap(self, real: np.ndarray, made: np.ndarray) -> Fitting:
        yield 0.5, "Starting UMAP; this takes seconds"
        from umap import UMAP

        yield 0.65, f"Fitting UMAP to {len(real):,} real inputs; this takes seconds"
        neighbours = min(NEIGHBOURS, len(real) - 1)
        mapping = UMAP(n_components=self.dimensions, n_neighbors=neighbours, random_state=self.seed, n_jobs=1).fit(real)
        yield 0.85, f"Placing {len(made):,} synthetic points"
        return np.concatenate([mapping.embedding_, mapping.transform(made)]), None


def embed(network: nn.Module, dataset: Dataset, samples: SyntheticSet, **options: Any) -> Embedding:
    """Places real test inputs and synthetic samples by a network's penultimate features: `Placing`, run to its end."""
    placing = Placing(network, dataset, samples, **options)
    for _ in placing:
        pass
    return placing.result


def _numpy(parts: Sequence[Tensor], kind: str) -> np.ndarray:
    return torch.cat([p.cpu() for p in parts]).numpy().astype(kind)


def _shown(dataset: Dataset, x: Tensor) -> np.ndarray:
    """Coordinates of points; of images small pictures (N, H, W) or (N, H, W, 3)."""
    if x.dim() == 2:
        return x.cpu().numpy().astype("f4")
    pixels = dataset.pixels(x)
    longer = max(pixels.shape[2:])
    if longer > THUMBNAIL:
        size = [max(1, round(side * THUMBNAIL / longer)) for side in pixels.shape[2:]]
        pixels = nn.functional.adaptive_avg_pool2d(pixels.float(), size).round().to(torch.uint8)
    pixels = pixels.permute(0, 2, 3, 1).cpu().numpy()
    return np.ascontiguousarray(pixels[..., 0] if pixels.shape[3] == 1 else pixels)
