from __future__ import annotations

import numpy as np
import pytest

from sqznet.core.errors import InputError
from sqznet.network import class_map
from sqznet.network import model as models
from sqznet.network.architecture import Network
from sqznet.network.class_map import Grid


@pytest.mark.parametrize(
    ("network", "grid"),
    [
        (Network(10, "v1.1", image_size=227), Grid(14, 16, 15.5)),
        (Network(10, "v1.0", image_size=227), Grid(13, 16, 17.5)),
        (Network(10, "v1.0", image_size=227, conv10_padding=1), Grid(15, 16, 1.5)),
    ],
)
def test_the_grid_has_the_places_of_the_cells(network, grid):
    assert class_map.grid_of(network) == grid


@pytest.mark.parametrize(("arch", "image_size"), [("v1.1", 63), ("v1.1", 127), ("v1.0", 67), ("v1.0", 131)])
@pytest.mark.parametrize("padding", [0, 1])
def test_the_grid_is_in_the_middle_of_an_image_that_the_windows_cover_exactly(arch, image_size, padding):
    grid = class_map.grid_of(Network(2, arch, image_size=image_size, conv10_padding=padding))
    assert grid.offset + grid.stride * (grid.side - 1) / 2 == image_size / 2


@pytest.mark.parametrize("arch", ["v1.0", "v1.1"])
def test_an_object_that_moves_by_the_stride_moves_by_one_cell(arch):
    network = Network(3, arch, image_size=195)
    model = models.build(network, channel_means=(0.0, 0.0, 0.0))
    grid = class_map.grid_of(network)
    maps = models.keras.Model(model.input, models.class_map(model))
    images = np.zeros((2, 195, 195, 3), np.uint8)
    spot = np.random.default_rng(0).integers(0, 256, (32, 32, 3))
    images[0, 64:96, 80:112], images[1, 64:96, 96:128] = spot, spot
    before, after = maps(images).numpy()
    assert before.shape == (grid.side, grid.side, 3) and np.ptp(before) > 0
    np.testing.assert_allclose(after[2:-2, 2:-2], before[2:-2, 1:-3], atol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "elu"])
def test_the_average_of_the_map_is_the_logits(activation):
    model = models.build(Network(3, "v1.1", activation, image_size=64), channel_means=(120.0, 110.0, 100.0))
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    maps = models.keras.Model(model.input, models.class_map(model))(images).numpy()
    expected = model(images).numpy()
    np.testing.assert_allclose(class_map.logits(maps), expected, rtol=1e-5, atol=1e-6)
    shares = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(class_map.probabilities(maps), shares, rtol=1e-4)


def test_a_file_without_a_description_has_no_grid():
    assert class_map.read({"classes": []}, "sqznet.json") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stride": "16"}, r'sqznet.json, class_map: stride is "16"; expected a number'),
        ({"side": None}, "sqznet.json, class_map: side is null; expected a whole number"),
        ({"stride": 0}, "expected a side of 1 or more, a stride and a divisor above 0; export again"),
    ],
)
def test_a_wrong_description_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        class_map.read({"class_map": {**Grid(14, 16, 15.5).to_dict(), **changes}}, "sqznet.json")
