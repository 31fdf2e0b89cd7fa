"""What tests share: a small teacher in the plane and one for images, and folders of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from xdist.scheduler import LoadScopeScheduling

from cake_core import models, teacher
from cake_core.data import data_folder

# Two processes share the machine's cores, with compute processes of their own.
torch.set_num_threads(1)
os.environ.setdefault("CAKE_THREADS", "1")
# Many tests open the same page as several browsers and look at the engine: each computes, but where sharing is tested.
os.environ.setdefault("CAKE_MAX_SHARED_MB", "0")


class ByFile(LoadScopeScheduling):
    """Which of the processes runs a test: files stay together, and all those with a browser, which share a server."""

    def _split_scope(self, nodeid: str) -> str:
        return "browser" if nodeid.startswith("tests/browser/") else nodeid.split("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Hands the tests out, those with a browser first."""
    return ByFile(config, log)


@pytest.fixture(scope="session", autouse=True)
def runs_folder(tmp_path_factory) -> Iterator[Path]:
    """Runs and uploads go to folders of the tests' own. One for all: compute processes inherit it when they start."""
    folder = tmp_path_factory.mktemp("runs")
    os.environ["CAKE_RUNS_DIR"] = str(folder)
    os.environ["CAKE_UPLOADS_DIR"] = str(tmp_path_factory.mktemp("uploads"))
    yield folder
    del os.environ["CAKE_RUNS_DIR"], os.environ["CAKE_UPLOADS_DIR"]


@pytest.fixture
def plane_teacher() -> torch.nn.Module:
    """A random network for points: two classes."""
    return models.build("mlp", (2,), 2, seed=3).eval()


@pytest.fixture
def moons_teacher() -> torch.nn.Module:
    """The shipped teacher of two moons, for what only a trained one shows."""
    return teacher.load("moons/mlp").network


@pytest.fixture
def moons_norm_teacher() -> torch.nn.Module:
    """The shipped teacher of two moons with batch normalisation."""
    return teacher.load("moons/mlp-norm").network


@pytest.fixture
def image_teacher() -> torch.nn.Module:
    """A random LeNet-5 for 8x8 images: ten classes."""
    return models.build("lenet5", (1, 8, 8), 10, seed=3).eval()


@pytest.fixture
def plane_norm_teacher() -> torch.nn.Module:
    """A random network for points with batch normalisation, whose running statistics are not those of its first day."""
    return lived_in(models.build("mlp-norm", (2,), 2, seed=3), (2,))


@pytest.fixture
def image_norm_teacher() -> torch.nn.Module:
    """A small random network for 8x8 images with batch normalisation: ten classes."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        body = torch.nn.Sequential(
            torch.nn.Conv2d(1, 8, 3, stride=2), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Conv2d(8, 12, 3),
            torch.nn.BatchNorm2d(12), torch.nn.ReLU(), torch.nn.Flatten(),
        )  # fmt: skip
        network = models.Classifier(body, torch.nn.Linear(12, 10))
    return lived_in(network, (1, 8, 8))


def lived_in(network: torch.nn.Module, shape: tuple[int, ...]) -> torch.nn.Module:
    """The network in eval mode, after a few batches of noise about 0.5 have moved its running statistics."""
    draws = torch.Generator().manual_seed(7)
    network.train()
    with torch.no_grad():
        for _ in range(5):
            network(0.5 + 1.5 * torch.randn(64, *shape, generator=draws))
    return network.eval()


@pytest.fixture
def mnist_folder() -> Path:
    """The data folder, where MNIST lies in it."""
    if "CAKE_DATA_DIR" not in os.environ or not (data_folder() / "MNIST" / "raw").is_dir():
        pytest.skip("MNIST is not here; set CAKE_DATA_DIR to a folder that holds MNIST/raw")
    return data_folder()
