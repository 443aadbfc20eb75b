"""Training model to inference model: raw RGB pixels in, probabilities out, nothing but convolutions between.

The channel means and the batch norms are linear, as the convolution beside them is, so they fold into its weights:
a consumer has no preprocessing to get wrong but the resize, and the file holds no layer that does no work.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from sqznet.network import model as models

if TYPE_CHECKING:
    import keras


def inference_model(trained: keras.Model, image_size: int) -> keras.Model:
    """The same function as `trained` at `image_size`, up to rounding.

    Returns:
        A Keras model of float32 RGB pixels 0..255 (batch, image_size, image_size, 3), named `image`, to float32
        probabilities (batch, classes), named `probabilities`.

    Raises:
        InputError: `trained` is not a SqueezeNet of this package.
    """
    import keras

    network, channel_means, channel_deviations = models.describe(trained, image_size)
    folded = models.build(
        dataclasses.replace(network, batch_norm=False),
        channel_means=None,
        fixed_size=True,
    )
    layers = {layer.name: layer for layer in trained.layers}
    for layer in folded.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel, bias = fold_batch_norm(layers[layer.name], layers.get(f"{layer.name}_bn"))
            if layer.name == "conv1":
                # conv((x - m) / d) = conv'(x) - sum of kernel' * m, kernel' = kernel / d; exact: conv1 pads nothing.
                kernel = kernel / np.asarray(channel_deviations, np.float64)[:, None]
                bias = bias - np.einsum("hwio,i->o", kernel, np.asarray(channel_means, np.float64))
            layer.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
    probabilities = keras.layers.Softmax(name="probabilities")(folded.output)
    return keras.Model(folded.input, probabilities, name="squeezenet")


def fold_batch_norm(
    convolution: keras.layers.Conv2D, batch_norm: keras.layers.BatchNormalization | None
) -> tuple[np.ndarray, np.ndarray]:
    """(kernel (h, w, in, out), bias (out,)) of both together, float64."""
    kernel = convolution.kernel.numpy().astype(np.float64)
    bias = convolution.bias.numpy().astype(np.float64) if convolution.use_bias else np.zeros(kernel.shape[-1])
    if batch_norm is None:
        return kernel, bias
    gamma, beta, mean, variance = (
        np.asarray(variable, np.float64)
        for variable in (batch_norm.gamma, batch_norm.beta, batch_norm.moving_mean, batch_norm.moving_variance)
    )
    scale = gamma / np.sqrt(variance + batch_norm.epsilon)
    return kernel * scale, beta + (bias - mean) * scale
