"""Embeddings: fitted to real inputs alone, traceable, and the same each time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from cake_core import data, evaluation, models
from cake_core.embedding import Embedding, embed, penultimate
from cake_core.history import History
from cake_core.synthetic import SyntheticSet

SETTINGS = {"settings": {"steps": 8}}


@pytest.fixture
def scene():
    dataset = data.load(data.DataConfig(name="digits"))
    network = models.build("lenet5-half", (1, 8, 8), 10).eval()
    x = torch.randn(120, 1, 8, 8)
    y = evaluation.predict(network, x).softmax(dim=1)
    batch = torch.arange(120) // 30
    return network, dataset, SyntheticSet(x, y, torch.zeros(120, dtype=torch.int64), batch, SETTINGS)


@pytest.fixture
def history(scene):
    """Samples 5, 50 and 119 on straight lines from 0 to their ends, in half precision."""
    index, steps = torch.tensor([5, 50, 119]), torch.tensor([0, 3, 8])
    x = steps.view(-1, 1, 1, 1, 1) / 8 * scene[2].x[index]
    return History(index, steps, x.half())


def test_features_are_what_the_last_layer_gets(scene):
    network, dataset, _ = scene
    x = dataset.inputs(dataset.test_x[:7])
    features = penultimate(network, x)
    assert features.shape == (7, 42)
    with torch.no_grad():
        torch.testing.assert_close(network.head(torch.tensor(features)), network(x))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_pca_is_fitted_to_real_inputs_alone(scene, history, dimensions):
    network, dataset, samples = scene
    found = embed(network, dataset, samples, history=history, how="pca", dimensions=dimensions, most=100)
    real = penultimate(network, dataset.inputs(dataset.test_x[found.index[:100]]))
    reference = PCA(dimensions, svd_solver="full").fit(real)
    np.testing.assert_allclose(found.position[:100], reference.transform(real), atol=1e-4)
    fewer = embed(network, dataset, samples.take(torch.arange(50)), how="pca", dimensions=dimensions, most=100)
    np.testing.assert_allclose(found.position[:100], fewer.position[:100], atol=1e-4)
    assert found.explained == pytest.approx(reference.explained_variance_ratio_.sum(), abs=1e-5)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_frames_are_placed_by_the_same_map(scene, history, dimensions):
    """The oracle is scikit-learn, given what the last linear layer is given: a hand-written hook, another loop."""
    network, dataset, samples = scene
    found = embed(network, dataset, samples, history=history, dimensions=dimensions)
    seen = []
    handle = network.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(dataset.inputs(dataset.test_x))
        for moment in history.x:
            network(moment.float())
    handle.remove()
    real, *moments = (s.numpy() for s in seen)
    reference = PCA(dimensions, svd_solver="full").fit(real)
    assert found.moments == (0, 3, 8)
    assert found.ended == 500 + 120
    rows = found.ended + np.arange(2 * 3).reshape(2, 3)
    for k in range(2):
        np.testing.assert_allclose(found.position[rows[k]], reference.transform(moments[k]), atol=1e-4)
    # The last moment is where the samples themselves are.
    assert found.tracked.tolist() == [505, 550, 619]
    exact = penultimate(network, samples.x[history.index])
    np.testing.assert_allclose(found.position[found.tracked], reference.transform(exact), atol=1e-4)
    np.testing.assert_allclose(found.position[found.tracked], reference.transform(moments[2]), atol=2e-2)


def test_every_point_can_be_traced_back(scene, history):
    network, dataset, samples = scene
    found = embed(network, dataset, samples, history=history, most=60)
    assert found.real == 60
    assert set(history.index.tolist()) <= set(found.index[60 : found.ended].tolist())
    assert len({found.name(row) for row in range(len(found))}) == len(found)
    logits = network(samples.x).softmax(dim=1)
    distance = evaluation.boundary_distance(network, samples.x)
    for k in (0, 17, 59):
        assert found.name(k) == f"r{found.index[k]}"
        assert found.label[k] == dataset.test_y[found.index[k]]
        assert (found.batch[k], found.step[k]) == (-1, -1)
        assert np.array_equal(found.shown[k], dataset.test_x[found.index[k], 0].numpy())
    for row in range(60, found.ended):
        own = found.index[row]
        assert found.name(row) == f"s{own}"
        assert found.batch[row] == samples.batch[own]
        assert found.step[row] == 8
        assert found.answer[row] == found.label[row] == logits[own].argmax()
        assert found.confidence[row] == pytest.approx(logits[own].max().item(), abs=1e-5)
        assert found.distance[row] == pytest.approx(distance[own].item(), rel=1e-4)
        assert np.array_equal(found.shown[row], dataset.pixels(samples.x[own])[0].numpy())
    for k, step in enumerate((0, 3)):
        for s, own in enumerate((5, 50, 119)):
            row = found.ended + 3 * k + s
            assert found.name(row) == f"s{own}@{step}"
            assert found.batch[row] == samples.batch[own]
            assert np.array_equal(found.shown[row], dataset.pixels(history.x[k, s].float())[0].numpy())


def test_the_table_says_what_is_known(scene, history):
    network, dataset, samples = scene
    found = embed(network, dataset, samples, history=history, most=60)
    names = [found.name(3), "s50", "s50@3", "s4711", "nonsense"]
    real, ended, earlier = found.table(names)
    assert real["source"] == "real"
    assert real["true class"] == str(dataset.test_y[found.index[3]].item())
    assert (real["mini-batch"], real["step"]) == (None, None)
    assert (ended["number"], ended["mini-batch"], ended["step"], ended["true class"]) == (50, 2, 8, None)
    assert (earlier["number"], earlier["mini-batch"], earlier["step"]) == (50, 2, 3)
    assert earlier["confidence"] == pytest.approx(network(history.x[1, 1:2].float()).softmax(dim=1).max().item(), 1e-3)
    shares = found.shares(names)
    assert (shares["real"], shares["synthetic"]) == (1, 2)
    assert sum(shares["classes"].values()) == pytest.approx(1)
    assert found.shares([]) == {"real": 0, "synthetic": 0, "classes": {}}


def test_points_have_coordinates(moons_teacher):
    dataset = data.load(data.DataConfig(name="moons"))
    x = torch.randn(40, 2)
    y = evaluation.predict(moons_teacher, x).softmax(dim=1)
    samples = SyntheticSet(x, y, torch.zeros(40, dtype=torch.int64), torch.zeros(40, dtype=torch.int64), SETTINGS)
    found = embed(moons_teacher, dataset, samples, most=50)
    np.testing.assert_array_equal(found.shown[50:], x.numpy())
    (entry,) = found.table(["s7"])
    assert (entry["x1"], entry["x2"]) == pytest.approx(tuple(x[7].tolist()), abs=1e-4)
    assert found.moments == ()


def test_large_images_are_shown_small(scene):
    network, dataset, samples = scene
    wide = torch.nn.functional.interpolate(samples.x, (40, 80)).expand(-1, 3, -1, -1)

    class Pooled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network

        def forward(self, x):
            return self.inner(torch.nn.functional.adaptive_avg_pool2d(x[:, :1], 8))

    raw = torch.zeros(30, 3, 40, 80, dtype=torch.uint8)
    raw[:, :, :20] = 255
    one = torch.ones(3, 1, 1)
    colour = data.Dataset(dataset.info, raw, dataset.test_y[:30], raw, dataset.test_y[:30], 0.5 * one, one)
    found = embed(Pooled(), colour, SyntheticSet(wide, samples.y, samples.labels, samples.batch))
    assert found.shown.shape == (150, 16, 32, 3)
    assert (found.shown[0, :8] == 255).all()
    assert (found.shown[0, 8:] == 0).all()


def test_it_survives_the_way_to_the_page(scene, history):
    network, dataset, samples = scene
    found = embed(network, dataset, samples, history=history, most=60)
    back = Embedding.decode(found.encode())
    for name, value in vars(found).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(back, name), value)
        else:
            assert getattr(back, name) == value


def test_a_history_of_one_moment_is_none(scene, history):
    still = History(history.index, history.steps[:1], history.x[:1])
    assert embed(*scene, history=still, most=60).moments == ()


@pytest.mark.long
def test_umap_is_the_same_each_time(scene, history):
    one = embed(*scene, history=history, how="umap", most=60)
    two = embed(*scene, history=history, how="umap", most=60)
    assert one.position.shape == (len(one), 2)
    assert np.isfinite(one.position).all()
    np.testing.assert_array_equal(one.position, two.position)
    alone = embed(*scene, how="umap", most=60)
    np.testing.assert_array_equal(alone.position[:60], one.position[:60])  # fitted to the real inputs alone
    assert one.explained is None
