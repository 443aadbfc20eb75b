"""Turns a training model into an inference model: folds batch norm and normalisation into the convolutions.

Channel means and batch norms are linear, like the convolution next to them. Therefore the weights of the convolution
can contain them. The exported file then takes raw pixels and has no additional layers.
"""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from sqznet.core.errors import InputError
from sqznet.network import model as models


def inference_model(trained: keras.Model, image_size: int, temperature: float = 1.0) -> keras.Model:
    """Builds a model that computes the same function as `trained` at `image_size`, except for rounding.

    Args:
        temperature: the logits are divided by it. With ReLU, conv10's kernel and bias contain the division. With ELU,
            the layer `temperature` before the softmax performs it, because ELU(x / T) is not ELU(x) / T.

    Returns:
        A Keras model. Its input `image` is float32 RGB pixels 0..255 (batch, image_size, image_size, 3). Its output
        `probabilities` is float32 (batch, classes).

    Raises:
        InputError: `trained` is not a SqueezeNet of this package.
    """
    network, means, deviations = models.describe(trained, image_size)
    folded = models.build(dataclasses.replace(network, batch_norm=False), channel_means=None, fixed_size=True)
    _fold_into(folded, trained, means, deviations)
    logits = folded.output
    if network.activation == "relu":
        _divide_conv10(folded, temperature)
    elif temperature != 1:
        logits = keras.layers.Rescaling(1 / temperature, name="temperature")(logits)
    probabilities = keras.layers.Softmax(name="probabilities")(logits)
    return keras.Model(folded.input, probabilities, name="squeezenet")


def without_batch_norm(trained: keras.Model, image_size: int, temperature: float = 1.0) -> keras.Model:
    """Builds a model of the same function with batch norm folded into the convolutions.

    It takes uint8 pixels and gives logits.

    Args:
        temperature: the logits are divided by it. It has to be 1 for a network with ELU, which has no layer for it.

    Raises:
        InputError: `trained` is not a SqueezeNet of this package, or has ELU and a temperature.
    """
    network, means, deviations = models.describe(trained, image_size)
    network = dataclasses.replace(network, batch_norm=False)
    folded = models.build(network, channel_means=means, channel_deviations=deviations)
    _fold_into(folded, trained)
    if temperature != 1 and network.activation != "relu":
        raise InputError(
            "the model is calibrated and has ELU, and a .sqz file has no field for its temperature: compress a network "
            "with ReLU; train --recipe=finetune --activation=relu --init_weights=RUN changes ELU to ReLU in minutes"
        )
    _divide_conv10(folded, temperature)
    return folded


def _divide_conv10(folded: keras.Model, temperature: float) -> None:
    """Divides the logits by the temperature. This is exact with ReLU: max(0, x) / T = max(0, x / T)."""
    if temperature != 1:
        conv10 = folded.get_layer("conv10")
        conv10.set_weights(
            [(each.astype(np.float64) / temperature).astype(np.float32) for each in conv10.get_weights()]
        )


def _fold_into(
    folded: keras.Model,
    trained: keras.Model,
    means: models.Channels | None = None,
    deviations: models.Channels = (1.0, 1.0, 1.0),
) -> None:
    """Sets the weights of `folded` from `trained`. With `means`, conv1 performs the normalisation as well."""
    layers = {layer.name: layer for layer in trained.layers}
    for layer in models.convolutions(folded):
        kernel, bias = _fold_batch_norm(layers[layer.name], layers.get(f"{layer.name}_bn"))
        if layer.name == "conv1" and means is not None:
            # conv((x - m) / d) = conv'(x) - sum of kernel' * m, kernel' = kernel / d; exact: conv1 pads nothing.
            kernel = kernel / np.asarray(deviations, np.float64)[:, None]
            bias = bias - np.einsum("hwio,i->o", kernel, np.asarray(means, np.float64))
        layer.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])


def _fold_batch_norm(
    convolution: keras.layers.Conv2D, batch_norm: keras.layers.BatchNormalization | None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the kernel (h, w, in, out) and bias (out,) of both layers together, float64."""
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
