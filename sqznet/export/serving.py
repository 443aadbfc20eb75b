"""The inference model as a plain tf.Module, the common start of all writers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def module(model: keras.Model, batch: int | None) -> tf.Module:
    """A module whose function `serve` maps `image`, float32 (batch, size, size, 3), to `probabilities`.

    The weights are constants of the graph. As variables, a SavedModel would hold 180 kB of graph to save and restore
    them, which takes v1.1 over 5 MB, and the TFLite converter would leave Keras's out, which gives NaN.

    Args:
        model: an inference model (`fold.inference_model`).
        batch: images at a time; None means any number.
    """
    import tensorflow as tf

    made = tf.Module(name="squeezenet")
    weights = [variable.numpy() for variable in model.trainable_variables]
    signature = tf.TensorSpec([batch, *model.input_shape[1:]], tf.float32, name="image")

    @tf.function(input_signature=[signature], autograph=False)
    def serve(image):
        constants = [tf.constant(weight) for weight in weights]
        probabilities, _ = model.stateless_call(constants, [], image, training=False)
        return {"probabilities": probabilities}

    made.serve = serve
    return made
