"""Builds SqueezeNet as a Keras functional model (Iandola et al. 2016, arXiv 1602.07360).

Input: uint8 RGB pixels 0..255, NHWC, (batch, height, width, 3). Output: float32 logits, (batch, classes).
Normalisation is the first layer, so the only preprocessing outside the model is the resize.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from sqznet.core.errors import InputError
from sqznet.network.architecture import ARCHS, FIRES, SIMPLY_BYPASSED, Channels, Network, pool_paddings


def build(
    network: Network,
    *,
    channel_means: Channels | None,
    channel_deviations: Channels = (1.0, 1.0, 1.0),
    dropout: float | None = None,
    seed: int = 0,
    dropout_layer: type[keras.layers.Dropout] | None = None,
    batch_norm_layer: type[keras.layers.BatchNormalization] | None = None,
    fixed_size: bool = False,
) -> keras.Model:
    """Builds a SqueezeNet with fresh weights.

    The activation follows every convolution, including conv10, as in the paper and in the article. If the network has
    batch norm, it is between convolution and activation.

    Args:
        network: the architecture. Pools have the published geometry (ceil mode) at `image_size`.
        channel_means: R, G, B on the 0..255 scale, subtracted from the pixels by the first layer. None means that the
            means are folded into conv1 (`network/fold.py`). Such a network takes the pixels as float32.
        channel_deviations: R, G, B on the 0..255 scale. The first layer divides by these values. All recipes of this
            package have the value 1. Imported weights may have other values.
        dropout: fraction of fire9's output that is dropped in training. None leaves the dropout layer out.
        seed: seed of the dropout.
        dropout_layer: class of the dropout layer. None means Keras's own class.
        batch_norm_layer: class of the batch norm layers. None means Keras's own class.
        fixed_size: whether the input is fixed to `image_size`. Otherwise the network accepts other sizes as well.

    Raises:
        InputError: the image is so small that the input of a pool is smaller than a window.
    """
    arch, paddings = ARCHS[network.arch], pool_paddings(network.arch, network.image_size)
    convolve = functools.partial(_convolve, network, batch_norm_layer or layers.BatchNormalization)

    def pool_if_due(x, after: str):
        if after not in paddings:
            return x
        return layers.MaxPooling2D(3, strides=2, padding=paddings[after], name=f"{after}_pool")(x)

    side = network.image_size if fixed_size else None
    image = keras.Input((side, side, 3), dtype="uint8" if channel_means else "float32", name="image")
    x = image
    if channel_means is not None:
        pairs = list(zip(channel_means, channel_deviations, strict=True))
        scale, offset = [1 / deviation for _, deviation in pairs], [-mean / deviation for mean, deviation in pairs]
        x = layers.Rescaling(scale, offset, name="normalise")(x)
    x = convolve(x, arch.conv1_filters, arch.conv1_kernel, "conv1", strides=2)
    x = pool_if_due(x, "conv1")
    for name in FIRES:
        x = pool_if_due(_fire(network, convolve, x, name), name)
    if dropout is not None:
        x = (dropout_layer or layers.Dropout)(dropout, seed=seed, name="dropout")(x)
    if network.conv10_padding:
        x = layers.ZeroPadding2D(network.conv10_padding, name="conv10_pad")(x)
    # A Gaussian with a standard deviation of 0.01, as in the paper's released network.
    x = convolve(x, network.classes, 1, "conv10", kernel_initializer=keras.initializers.RandomNormal(stddev=0.01))
    logits = layers.GlobalAveragePooling2D(name="logits")(x)  # (batch, classes)
    return keras.Model(image, logits, name="squeezenet")


def _convolve(
    network: Network,
    batch_norm_layer: type[keras.layers.BatchNormalization],
    x: keras.KerasTensor,
    filters: int,
    kernel: int,
    name: str,
    *,
    activate: bool = True,
    **options: Any,
) -> keras.KerasTensor:
    """Adds a convolution with `options`.

    Adds batch norm if the network has it, and the activation if `activate` is true.
    """
    # Caffe's "xavier", as in the paper's released network: it keeps the initial logits small for pixels in 0..255.
    options = {"kernel_initializer": "lecun_uniform", **options}
    x = layers.Conv2D(filters, kernel, use_bias=not network.batch_norm, name=name, **options)(x)
    if network.batch_norm:
        # Statistics over the global batch, so the result does not depend on the number of replicas.
        x = batch_norm_layer(momentum=0.9, epsilon=1e-5, synchronized=True, name=f"{name}_bn")(x)
    return layers.Activation(network.activation, name=f"{name}_{network.activation}")(x) if activate else x


def _fire(
    network: Network, convolve: Callable[..., keras.KerasTensor], x: keras.KerasTensor, name: str
) -> keras.KerasTensor:
    """Adds the fire module of that name (paper, section 3.2)."""
    squeeze_filters, expand_filters = FIRES[name]
    squeezed = convolve(x, squeeze_filters, 1, f"{name}_squeeze1x1")
    expanded = layers.Concatenate(name=name)(
        [
            convolve(squeezed, expand_filters, 1, f"{name}_expand1x1"),
            convolve(squeezed, expand_filters, 3, f"{name}_expand3x3", padding="same"),
        ]
    )
    if network.bypass == "complex" and name not in SIMPLY_BYPASSED:
        x = convolve(x, 2 * expand_filters, 1, f"{name}_bypass1x1", activate=False)
    elif network.bypass == "none" or name not in SIMPLY_BYPASSED:
        return expanded
    return layers.Add(name=f"{name}_bypass")([expanded, x])


def class_map(model: keras.Model) -> keras.KerasTensor:
    """Returns the output of conv10 and its activation in a model of `build`, also if a softmax follows the logits."""
    return model.get_layer("logits").input


def convolutions(model: keras.Model) -> list[keras.layers.Conv2D]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]


def describe(model: keras.Model, image_size: int) -> tuple[Network, Channels, Channels]:
    """Returns the architecture of a model made by `build`, its channel means and its channel deviations (R, G, B).

    Raises:
        InputError: the model was not made by `build`.
    """
    named = {layer.name: layer for layer in model.layers}
    try:
        kernel = named["conv1"].kernel_size[0]
        network = Network(
            classes=named["conv10"].filters,
            arch=next(name for name, arch in ARCHS.items() if arch.conv1_kernel == kernel),
            activation="elu" if "conv1_elu" in named else "relu",
            batch_norm="conv1_bn" in named,
            bypass="complex" if "fire2_bypass" in named else "simple" if "fire3_bypass" in named else "none",
            conv10_padding=1 if "conv10_pad" in named else 0,
            image_size=image_size,
        )
        scales, offsets = named["normalise"].scale, named["normalise"].offset
        red, green, blue = ((-offset / scale, 1 / scale) for scale, offset in zip(scales, offsets, strict=True))
    except (KeyError, StopIteration) as missing:
        raise InputError(f"{model.name!r} is not a SqueezeNet trained by this package: it lacks {missing}") from None
    return network, (red[0], green[0], blue[0]), (red[1], green[1], blue[1])
