"""What tests share: a small teacher in the plane and one for images, and folders of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cake_core import models, teacher
from cake_core.data import data_folder

torch.set_num_threads(2)


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
def image_teacher() -> torch.nn.Module:
    """A random LeNet-5 for 8x8 images: ten classes."""
    return models.build("lenet5", (1, 8, 8), 10, seed=3).eval()


@pytest.fixture
def mnist_folder() -> Path:
    """The data folder, where MNIST lies in it."""
    if "CAKE_DATA_DIR" not in os.environ or not (data_folder() / "MNIST" / "raw").is_dir():
        pytest.skip("MNIST is not here; set CAKE_DATA_DIR to a folder that holds MNIST/raw")
    return data_folder()
