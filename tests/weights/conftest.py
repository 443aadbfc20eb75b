"""Convolutions to write files from: the published ones, and random ones where their values do not matter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sqznet import weights
from sqznet.network.architecture import Network
from sqznet.weights.convolutions import Convolution, shapes
from tests.conftest import SHARED
from tests.weights.writers import Convolutions

FILES = {"v1.0": "squeezenet_v1.0_deep_compression.net", "v1.1": "squeezenet_v1.1_caffe_fp16.npz"}


def published_file(arch: str) -> Path:
    path = SHARED / "weights" / FILES[arch]
    if not path.is_file():
        pytest.skip(f"needs the published weights of {path}, which are not part of the project")
    return path


def published(arch: str) -> weights.Published:
    return weights.read(published_file(arch))


def random_convolutions(arch: str = "v1.1", classes: int = 2, bypass: str = "none", levels: int = 8) -> Convolutions:
    """Of few values, so that every format can hold them."""
    rng = np.random.default_rng(0)
    made = {}
    for name, shape in shapes(Network(classes, arch, bypass=bypass)).items():
        spread = np.sqrt(6 / np.prod(shape[1:]))
        kernel = rng.integers(-levels, levels + 1, shape) * (spread / levels)
        made[name] = Convolution(kernel.astype(np.float32), rng.normal(0, 0.1, shape[0]).astype(np.float32))
    return made


@pytest.fixture(scope="session")
def small() -> Convolutions:
    """v1.1 with two classes."""
    return random_convolutions()
