"""The fused batch norm against Keras' own."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from sqznet.train import strategy
from sqznet.train.batch_norm import FusedBatchNormalization
from sqznet.train.run import Run
from tests.conftest import TINY


def outcome(layer: keras.layers.BatchNormalization, pixels: np.ndarray, training: bool) -> dict[str, np.ndarray]:
    """What a layer puts out, its gradients and its state, after one batch."""
    layer.build(pixels.shape)
    layer.gamma.assign(np.linspace(0.5, 2, pixels.shape[-1]))
    layer.beta.assign(np.linspace(-1, 1, pixels.shape[-1]))
    inputs = tf.constant(pixels)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, training=training)
        target = tf.reduce_sum(outputs**3)
    # Through .value: `trainable_variables` of a frozen layer is empty.
    wanted = {"inputs": inputs, "gamma": layer.gamma.value, "beta": layer.beta.value}
    gradients = tape.gradient(target, wanted)
    state = {"mean": layer.moving_mean, "variance": layer.moving_variance}
    return {name: np.asarray(each) for name, each in {"outputs": outputs, **gradients, **state}.items()}


@pytest.mark.parametrize(("training", "trainable"), [(True, True), (False, True), (True, False)])
@pytest.mark.parametrize("shape", [(4, 5, 5, 16), (1, 2, 1, 8)], ids=str)
def test_the_fused_operation_computes_what_keras_does(shape, training, trainable):
    pixels = np.random.default_rng(0).normal(1, 3, shape).astype(np.float32)
    expected, got = (
        outcome(kind(momentum=0.9, epsilon=1e-5, trainable=trainable), pixels, training)
        for kind in (keras.layers.BatchNormalization, FusedBatchNormalization)
    )
    for name, array in expected.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-4, err_msg=name)


def test_one_replica_uses_it_and_saved_models_hold_keras_own_layer(shard_set, tmp_path):
    run = Run(shard_set, TINY.replace(batch_norm=True), strategy.create("one"), tmp_path / "run")
    assert isinstance(run.model.get_layer("conv1_bn"), FusedBatchNormalization)
    run.save_best()
    saved = keras.models.load_model(tmp_path / "run" / "best.keras")
    assert type(saved.get_layer("conv1_bn")) is keras.layers.BatchNormalization
    assert json.loads(saved.to_json())["class_name"] == "Functional"
