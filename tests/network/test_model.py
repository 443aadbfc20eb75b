from __future__ import annotations

import numpy as np
import pytest

from sqznet.core.errors import InputError
from sqznet.network import model
from sqznet.network.architecture import Network

MEANS = (120.0, 110.0, 100.0)


@pytest.mark.parametrize(("arch", "parameters"), [("v1.0", 1_248_424), ("v1.1", 1_235_496)])
def test_parameter_counts_are_the_published_ones(arch, parameters):
    built = model.build(Network(1000, arch), channel_means=MEANS)
    assert built.count_params() == parameters


@pytest.mark.parametrize(("bypass", "parameters"), [("simple", 1_248_424), ("complex", 1_248_424 + 339_968 + 1_280)])
def test_a_simple_bypass_costs_nothing_and_a_complex_one_four_convolutions(bypass, parameters):
    """96 x 128, 128 x 256, 256 x 384 and 384 x 512 weights around fire2, 4, 6 and 8, and their biases."""
    built = model.build(Network(1000, "v1.0", bypass=bypass), channel_means=MEANS)
    assert built.count_params() == parameters


@pytest.mark.parametrize(
    ("arch", "size", "sides"),
    [
        # The paper's table 1 has 111, 55, 27, 13 (for 224 px with padding, which is 227 px without).
        ("v1.0", 227, {"conv1": 111, "conv1_pool": 55, "fire4_pool": 27, "fire8_pool": 13, "conv10": 13}),
        ("v1.1", 227, {"conv1": 113, "conv1_pool": 56, "fire3_pool": 28, "fire5_pool": 14, "conv10": 14}),
        ("v1.1", 64, {"conv1": 31, "conv1_pool": 15, "fire3_pool": 7, "fire5_pool": 3, "conv10": 3}),
    ],
)
def test_maps_have_the_published_sides(arch, size, sides):
    built = model.build(Network(10, arch, image_size=size), channel_means=MEANS, fixed_size=True)
    assert {name: built.get_layer(name).output.shape[1] for name in sides} == sides


def test_pooling_is_in_ceil_mode():
    """On an even side Caffe adds a last, partial window: its maximum is over the pixels inside."""
    built = model.build(Network(10, "v1.1", image_size=227), channel_means=MEANS, fixed_size=True)
    pool = built.get_layer("fire3_pool")
    image = -np.arange(56 * 56, dtype=np.float32).reshape(1, 56, 56, 1) - 1  # negative: padding with 0 would show
    pooled = np.asarray(pool(image))[0, :, :, 0]
    assert pooled.shape == (28, 28)
    assert pooled[27, 27] == image[0, 54, 54, 0]


@pytest.mark.parametrize("activation", ["relu", "elu"])
def test_the_activation_follows_every_convolution(activation):
    built = model.build(Network(10, "v1.0", activation), channel_means=MEANS)
    convolutions = [layer.name for layer in built.layers if layer.__class__.__name__ == "Conv2D"]
    names = {layer.name for layer in built.layers}
    assert len(convolutions) == 26
    assert all(f"{name}_{activation}" in names for name in convolutions)


@pytest.mark.parametrize(
    "network",
    [
        Network(7, "v1.0", "elu", False, "none", 1, 227),
        Network(10, "v1.1", "relu", True, "simple", 0, 64),
        Network(10, "v1.1", "elu", True, "complex", 0, 64),
    ],
)
def test_a_model_describes_the_network_it_was_built_from(network):
    built = model.build(network, channel_means=MEANS, dropout=0.5)
    described, means, deviations = model.describe(built, network.image_size)
    assert described == network
    assert means == pytest.approx(MEANS) and deviations == (1.0, 1.0, 1.0)


def test_an_image_that_is_too_small_is_refused():
    with pytest.raises(InputError, match="cannot take images of 16 pixels: too little is left to pool after fire5"):
        model.build(Network(10, "v1.1", image_size=16), channel_means=MEANS)


def test_a_model_of_another_program_is_not_described():
    import keras

    stranger = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="stranger")
    with pytest.raises(InputError, match="'stranger' is not a SqueezeNet trained by this package"):
        model.describe(stranger, 32)
