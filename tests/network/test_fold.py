from __future__ import annotations

import numpy as np
import pytest

from sqznet.core.errors import InputError
from sqznet.network import fold, model
from sqznet.network.architecture import Network
from sqznet.predict import inference

MEANS = (122.687, 116.656, 104.0)  # the article's


def randomised(network: Network):
    """A training model whose weights and batch statistics are all different from their first values."""
    built = model.build(network, channel_means=MEANS, dropout=0.5)
    rng = np.random.default_rng(0)
    for layer in built.layers:
        for variable in layer.weights:
            if "seed" in variable.path:
                continue
            if variable.name in ("gamma", "moving_variance"):
                variable.assign(rng.uniform(0.5, 1.5, variable.shape))
            elif variable.name in ("beta", "moving_mean", "bias"):
                variable.assign(rng.normal(0, 0.2, variable.shape))
    return built


@pytest.mark.parametrize(
    "network",
    [
        Network(10, "v1.0", "elu", image_size=113),
        Network(10, "v1.1", "relu", batch_norm=True, image_size=64),
        Network(10, "v1.1", "elu", batch_norm=True, bypass="complex", image_size=57),
    ],
    ids=["v1.0-elu", "v1.1-batch_norm", "v1.1-elu-batch_norm-bypass"],
)
def test_the_folded_model_is_the_same_function(network):
    trained = randomised(network)
    folded = fold.inference_model(trained, network.image_size)
    images = np.random.default_rng(1).integers(0, 256, (4, network.image_size, network.image_size, 3), np.uint8)
    expected = inference.KerasRuntime(trained, network.image_size)(images)
    got = folded(images.astype(np.float32)).numpy()
    # The logits reach 30, and float32 sums them in another order on every processor.
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)
    assert expected.std() > 1e-3  # not the same answer for everything
    kinds = {layer.__class__.__name__ for layer in folded.layers}
    assert not kinds & {"BatchNormalization", "Rescaling", "Dropout"}


@pytest.mark.parametrize(
    "network",
    [
        Network(10, "v1.1", "relu", batch_norm=True, image_size=64),
        Network(10, "v1.1", "elu", batch_norm=True, image_size=64),
    ],
    ids=["relu", "elu"],
)
def test_the_folded_model_divides_the_logits_by_the_temperature(network):
    trained = randomised(network)
    images = np.random.default_rng(1).integers(0, 256, (4, 64, 64, 3), np.uint8)
    folded = fold.inference_model(trained, 64, 3.0)
    expected = inference.KerasRuntime(trained, 64, 3.0)(images)
    np.testing.assert_allclose(folded(images.astype(np.float32)).numpy(), expected, rtol=0, atol=1e-4)
    assert np.abs(expected - inference.KerasRuntime(trained, 64)(images)).max() > 1e-2
    assert ("temperature" in [layer.name for layer in folded.layers]) == (network.activation == "elu")


def test_a_sqz_network_is_divided_with_relu_and_refused_with_elu():
    images = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), np.uint8)
    trained = randomised(Network(10, "v1.1", "relu", batch_norm=True, image_size=64))
    folded = fold.without_batch_norm(trained, 64, 3.0)
    np.testing.assert_allclose(folded(images).numpy(), trained(images).numpy() / 3, rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="calibrated and has ELU"):
        fold.without_batch_norm(randomised(Network(10, "v1.1", "elu", image_size=64)), 64, 3.0)
