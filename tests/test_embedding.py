"""Embeddings: fitted to real inputs alone, traceable, and the same each time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from cake_core import data, evaluation, models
from cake_core.embedding import embed, penultimate
from cake_core.synthetic import SyntheticSet


@pytest.fixture
def scene():
    dataset = data.load(data.DataConfig(name="digits"))
    network = models.build("lenet5-half", (1, 8, 8), 10).eval()
    x = torch.randn(120, 1, 8, 8)
    y = evaluation.predict(network, x).softmax(dim=1)
    batch = torch.arange(120) // 30
    return network, dataset, SyntheticSet(x, y, torch.zeros(120, dtype=torch.int64), batch)


def test_features_are_what_the_last_layer_gets(scene):
    network, dataset, _ = scene
    x = dataset.inputs(dataset.test_x[:7])
    features = penultimate(network, x)
    assert features.shape == (7, 42)
    with torch.no_grad():
        torch.testing.assert_close(network.head(torch.tensor(features)), network(x))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_pca_is_fitted_to_real_inputs_alone(scene, dimensions):
    network, dataset, samples = scene
    found = embed(network, dataset, samples, how="pca", dimensions=dimensions, most=100)
    real = penultimate(network, dataset.inputs(dataset.test_x[found.index[:100]]))
    reference = PCA(dimensions, svd_solver="full").fit(real)
    np.testing.assert_allclose(found.position[:100], reference.transform(real), atol=1e-3)
    fewer = embed(network, dataset, samples.take(torch.arange(50)), how="pca", dimensions=dimensions, most=100)
    np.testing.assert_allclose(found.position[:100], fewer.position[:100], atol=1e-3)
    assert 0 < found.explained <= 1


def test_every_point_can_be_traced_back(scene):
    network, dataset, samples = scene
    found = embed(network, dataset, samples, most=60)
    assert found.source.tolist() == ["real"] * 60 + ["synthetic"] * 60
    for k in (0, 17, 59):
        assert found.label[k] == dataset.test_y[found.index[k]]
        assert found.batch[k] == -1
        assert found.batch[60 + k] == samples.batch[found.index[60 + k]]
        assert found.confidence[60 + k] == pytest.approx(samples.y[found.index[60 + k]].max().item(), abs=1e-3)


def test_umap_is_the_same_each_time(scene):
    network, dataset, samples = scene
    one = embed(network, dataset, samples, how="umap", most=60)
    two = embed(network, dataset, samples, how="umap", most=60)
    assert one.position.shape == (120, 2)
    assert np.isfinite(one.position).all()
    np.testing.assert_array_equal(one.position, two.position)
    assert one.explained is None
