"""The inference model as a plain tf.Module, the common start of all writers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def module(model: keras.Model, batch: int | None) -> tf.Module:
    """A module whose function `serve` maps `image`, float32 (batch, size, size, 3), to `probabilities`.

    TensorFlow finds the weights through the module: `keras.Model.export` keeps each under two names, which doubles
    a SavedModel, and the TFLite converter given Keras variables directly leaves them out, which gives NaN.

    Args:
        model: an inference model (`fold.inference_model`).
        batch: images at a time; None means any number.
    """
    import tensorflow as tf

    made = tf.Module(name="squeezenet")
    made.weights = [variable.value for variable in model.variables]
    signature = tf.TensorSpec([batch, *model.input_shape[1:]], tf.float32, name="image")

    @tf.function(input_signature=[signature], autograph=False)
    def serve(image):
        return {"probabilities": model(image, training=False)}

    made.serve = serve
    return made
