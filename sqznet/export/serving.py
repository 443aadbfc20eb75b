"""Wraps the inference model in a plain tf.Module, which the SavedModel, TFLite and ONNX writers convert."""

from __future__ import annotations

import keras
import tensorflow as tf

from sqznet.network import class_map
from sqznet.network import model as models


def module(model: keras.Model, batch: int | None, *, with_class_map: bool = False) -> tf.Module:
    """Returns a module whose function `serve` maps `image`, float32 (batch, size, size, 3), to `probabilities`.

    With `with_class_map`, `serve` returns `class_map` as well.

    The weights are constants of the graph. With variables, a SavedModel would have another 180 kB of graph to save and
    restore them, which makes v1.1 larger than 5 MB, and the TFLite converter would omit Keras's variables and give NaN.

    Args:
        model: an inference model (`fold.inference_model`).
        batch: batch size. None means any number.
    """
    made = tf.Module(name="squeezenet")
    weights = [variable.numpy() for variable in model.trainable_variables]
    signature = tf.TensorSpec([batch, *model.input_shape[1:]], tf.float32, name="image")
    if with_class_map:
        model = keras.Model(model.input, [model.output, models.class_map(model)])

    @tf.function(input_signature=[signature], autograph=False)
    def serve(image):
        constants = [tf.constant(weight) for weight in weights]
        outputs, _ = model.stateless_call(constants, [], image, training=False)
        return dict(zip(("probabilities", class_map.NAME), outputs if with_class_map else [outputs], strict=False))

    made.serve = serve
    return made
