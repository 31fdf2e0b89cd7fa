"""The equations of active self-paced distillation, against values worked by hand, naive loops and scikit-learn."""

from __future__ import annotations

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from torch import nn

from cake_core import models
from cake_core.aspkd import centres, choose, latent, nearest, pseudo_labels
from cake_core.rng import generator


def test_centres_are_means_of_the_class():
    h = torch.tensor([[0.0, 0.0], [2.0, 4.0], [5.0, 5.0]])
    assert centres(h, torch.tensor([0, 0, 2]), 3).tolist() == [[1.0, 2.0], [0.0, 0.0], [5.0, 5.0]]


def test_latent_is_what_the_last_convolution_gives():
    network = models.build("lenet5-half", (1, 28, 28), 10).eval()
    x = torch.randn(3, 1, 28, 28)
    by_hand = network.body[:-2](x)  # all but the last two layers: Linear, ReLU
    assert isinstance(network.body[-2], nn.Linear)
    assert torch.allclose(latent(network, x), by_hand)


def test_latent_of_a_network_without_convolutions():
    network = models.build("mlp", (2,), 2).eval()
    last = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
    assert latent(network, torch.randn(5, 2)).shape == (5, last.in_features)


def test_those_near_the_centre_are_drawn_with_the_printed_chance():
    distance = torch.tensor([0.0, 1.0, 2.0, 4.0])  # median 1, as torch takes the lower of the two in the middle
    prompt, free = torch.zeros(4, dtype=torch.long), torch.ones(4, dtype=torch.bool)
    drawn = torch.cat([choose(distance, prompt, free, 1, 2.0, generator(0, n)) for n in range(4000)])
    wanted = (-distance / 2.0).exp()
    found = drawn.bincount(minlength=4) / 4000
    assert torch.allclose(found, wanted / wanted.sum(), atol=0.03)


def test_without_active_choice_all_have_the_same_chance():
    distance = torch.tensor([0.0, 100.0])
    prompt, free = torch.zeros(2, dtype=torch.long), torch.ones(2, dtype=torch.bool)
    drawn = torch.cat([choose(distance, prompt, free, 1, None, generator(0, n)) for n in range(2000)])
    assert 0.45 < drawn.float().mean() < 0.55


def test_as_many_of_each_class_none_twice_and_none_that_was_asked():
    prompt = torch.arange(40) % 4
    free = torch.arange(40) >= 12
    chosen = choose(torch.rand(40), prompt, free, 5, 1.0, generator(1))
    assert len(chosen.unique()) == 20
    assert free[chosen].all()
    assert prompt[chosen].bincount().tolist() == [5] * 4


def test_a_choice_of_the_nearest_does_not_underflow():
    distance = torch.tensor([1.0, 1000.0, 2000.0])
    chosen = choose(distance, torch.zeros(3, dtype=torch.long), torch.ones(3, dtype=torch.bool), 3, 0.01, generator(0))
    assert sorted(chosen.tolist()) == [0, 1, 2]


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_nearest_as_scikit_learn_has_them(distance):
    h, asked = torch.randn(50, 8), torch.randn(20, 8)
    d, index = nearest(h, asked, 5, distance)
    theirs, positions = NearestNeighbors(n_neighbors=5, metric=distance).fit(asked).kneighbors(h)
    assert torch.equal(index, torch.as_tensor(positions))
    assert torch.allclose(d, torch.as_tensor(theirs).float(), atol=1e-5)


def test_fewer_asked_than_neighbours():
    d, index = nearest(torch.randn(3, 2), torch.randn(2, 2), 5, "euclidean")
    assert d.shape == index.shape == (3, 2)


HAND = (torch.tensor([[0.25, 0.5]]), torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]))


@pytest.mark.parametrize(
    ("distance", "weighting", "wanted"),
    [
        ("cosine", "inverse", [0.75 / 1.25, 0.5 / 1.25]),
        ("euclidean", "inverse", [4 / 6, 2 / 6]),
        ("euclidean", "printed", [0.25 / 0.75, 0.5 / 0.75]),
    ],
)
def test_soft_labels_by_hand(distance, weighting, wanted):
    assert torch.allclose(pseudo_labels(*HAND, distance, weighting)[0], torch.tensor(wanted))


def test_soft_labels_as_scikit_learn_has_them():
    x, asked, y = torch.randn(30, 4), torch.randn(20, 4), torch.arange(20) % 3
    d, index = nearest(x, asked, 5, "euclidean")
    answers = nn.functional.one_hot(y, 3).float()
    theirs = KNeighborsClassifier(5, weights="distance").fit(asked, y).predict_proba(x)
    assert torch.allclose(pseudo_labels(d, answers[index], "euclidean"), torch.as_tensor(theirs).float(), atol=1e-5)


def test_the_majority_and_its_ties():
    def votes(*classes: int) -> torch.Tensor:
        return nn.functional.one_hot(torch.tensor([classes]), 3).float()

    d = torch.tensor([[0.1, 0.2, 0.9]])
    assert pseudo_labels(d, votes(2, 1, 1), hard=True).tolist() == [[0.0, 1.0, 0.0]]
    tied = torch.tensor([[0.1, 0.5, 0.2, 0.3]])  # class 0: 0.6 in sum, class 1: 0.5
    assert pseudo_labels(tied, votes(0, 0, 1, 1), hard=True).tolist() == [[0.0, 1.0, 0.0]]
