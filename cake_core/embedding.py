"""Pictures of feature space: real and synthetic inputs as a network sees them, in two or three dimensions.

References: | UMAP: Uniform Manifold Approximation and Projection (McInnes, Healy, Melville 2018) | https://arxiv.org/abs/1802.03426
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from . import evaluation, hooks
from .data import Dataset
from .synthetic import SyntheticSet

__all__ = ["Embedding", "embed", "penultimate"]

NEIGHBOURS = 15


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
    """Points of a picture of feature space; every array has one entry for each point.

    Attributes:
        position: coordinates (N, 2) or (N, 3).
        source: "real" or "synthetic".
        label: true class of real inputs, the network's answer for synthetic ones.
        confidence: the network's largest probability.
        batch: mini-batch a synthetic sample comes from, -1 for real inputs.
        index: position of the input in its own set, so that a point can be traced back.
        how: "pca" or "umap".
        explained: share of the variance that PCA's axes keep (None for UMAP, whose axes have no such meaning).
    """

    position: np.ndarray
    source: np.ndarray
    label: np.ndarray
    confidence: np.ndarray
    batch: np.ndarray
    index: np.ndarray
    how: str
    explained: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and values."""
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in self.__dict__.items()}


def embed(
    network: nn.Module,
    dataset: Dataset,
    samples: SyntheticSet,
    *,
    how: Literal["pca", "umap"] = "pca",
    dimensions: int = 2,
    most: int = 1000,
    seed: int = 0,
) -> Embedding:
    """Places real test inputs and synthetic samples by a network's penultimate features.

    The map is fitted to the features of the real inputs alone; the synthetic ones are put into it as one batch. So it
    does not change with the samples, and shows whether they lie where real inputs do.

    Args:
        network: teacher or student.
        dataset: whose test part is shown.
        samples: the synthetic samples.
        how: PCA (at once) or UMAP (seconds; imported only here, for it takes long).
        dimensions: 2 or 3.
        most: points of each kind at most, evenly picked.
        seed: of UMAP.
    """
    real_at, made_at = _evenly(len(dataset.test_x), most), _evenly(len(samples), most)
    real_x, made_x = dataset.inputs(dataset.test_x[real_at]), samples.x[made_at]
    real, made = penultimate(network, real_x), penultimate(network, made_x)
    if how == "pca":
        from sklearn.decomposition import PCA

        mapping = PCA(dimensions, svd_solver="full").fit(real)
        explained = float(mapping.explained_variance_ratio_.sum())
    else:
        from umap import UMAP

        neighbours = min(NEIGHBOURS, len(real) - 1)
        mapping = UMAP(n_components=dimensions, n_neighbors=neighbours, random_state=seed, n_jobs=1).fit(real)
        explained = None
    position = np.concatenate(
        [mapping.transform(real) if how == "pca" else mapping.embedding_, mapping.transform(made)]
    )
    logits = evaluation.predict(network, torch.cat([real_x, made_x]))
    confidence, answer = logits.softmax(dim=1).max(dim=1)
    return Embedding(
        position=position.round(4),
        source=np.array(["real"] * len(real) + ["synthetic"] * len(made)),
        label=np.concatenate([dataset.test_y[real_at].cpu().numpy(), answer[len(real) :].cpu().numpy()]),
        confidence=confidence.cpu().numpy().round(4),
        batch=np.concatenate([np.full(len(real), -1), samples.batch[made_at].cpu().numpy()]),
        index=np.concatenate([real_at.numpy(), made_at.numpy()]),
        how=how,
        explained=explained,
    )


def _evenly(n: int, most: int) -> Tensor:
    """At most so many of the positions 0..n-1, evenly spread."""
    return torch.linspace(0, n - 1, min(n, most)).round().long()
