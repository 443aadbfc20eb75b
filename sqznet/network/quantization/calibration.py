"""Runs the original and the quantized network side by side on calibration photographs.

Rounds each kernel so that the layer's output stays close to the original one. int8 files (`int8.py`) and `.sqz` files
(`rounding.py`) use this module.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from sqznet.core import console

Batches = list[np.ndarray]  # (images, height, width, channels) each

WINDOWS = 40_000  # rows of a kernel's calibration data; the largest kernel has 576 weights per output
DAMPING = 0.01  # share of the mean diagonal (Frantar et al. 2022, arXiv 2210.17323, section 3.3)


def inputs_of(layer: keras.Layer) -> list[str]:
    """Lists, in order, the names of the layers whose outputs are the inputs of a layer."""
    tensors = layer.input if isinstance(layer.input, list) else [layer.input]
    return [tensor._keras_history.operation.name for tensor in tensors]


def outputs(layer: keras.Layer, inputs: list[Batches]) -> Batches:
    """Computes a layer's output for each batch, float32."""
    return [np.asarray(layer(list(each) if len(each) > 1 else each[0])) for each in zip(*inputs, strict=True)]


def propagate(
    layers: list[keras.Layer],
    batches: Batches,
    visit: Callable[[keras.layers.Conv2D, Batches, Batches, Batches], None],
    after: Callable[[keras.Layer, Batches], Batches] = lambda _layer, values: values,
    title: str = "calibrating",
) -> None:
    """Computes each layer's output twice: with the original weights, and with the weights that `visit` has set.

    Args:
        layers: the layers of a model in its order. The input is the first layer.
        batches: photographs, uint8 (n, size, size, 3) each.
        visit: function that is called for each convolution. Its arguments are the original inputs, the inputs from the
            quantized layers before, and the original outputs. The function may set other weights.
        after: function that is called for each layer with its quantized output. The function returns the values that
            the next layers get.
    """
    waiting = Counter(name for layer in layers[1:] for name in inputs_of(layer))
    original: dict[str, Batches] = {}  # outputs of each layer that later layers still need
    quantized: dict[str, Batches] = {}
    with console.progress("layers/s") as bar:
        for layer in bar.track(layers, description=title):
            name = layer.name
            if isinstance(layer, keras.layers.InputLayer):
                original[name] = quantized[name] = batches
                continue
            names = inputs_of(layer)
            original[name] = outputs(layer, [original[each] for each in names])
            if isinstance(layer, keras.layers.Conv2D):
                visit(layer, original[names[0]], quantized[names[0]], original[name])
            quantized[name] = after(layer, outputs(layer, [quantized[each] for each in names]))
            for each in names:
                waiting[each] -= 1
                if not waiting[each]:
                    del original[each], quantized[each]


def windows(layer: keras.layers.Conv2D, inputs: Batches) -> np.ndarray:
    """Returns a sample of the windows of a convolution's input, float32 (windows, height * width * channels)."""
    height, width = layer.kernel_size
    sizes, strides = [1, height, width, 1], [1, *layer.strides, 1]
    found = []
    for images in inputs:
        cut = tf.image.extract_patches(images, sizes, strides, [1, 1, 1, 1], layer.padding.upper())
        found.append(sample_rows(cut.numpy(), len(inputs)))
    return np.concatenate(found)


def sample_rows(maps: np.ndarray, batches: int) -> np.ndarray:
    """Returns the pixels of maps (images, height, width, channels) that belong to the sample of `windows`.

    Args:
        batches: number of batches. `maps` is one of these batches.
    """
    rows = maps.reshape(-1, maps.shape[-1])
    return rows[:: max(1, len(rows) * batches // WINDOWS)]


def second_moments(windows: np.ndarray) -> np.ndarray:
    """Returns the mean of x x^T over windows x, float64.

    This matrix is half the Hessian of the output's squared error.
    """
    return (windows.T @ windows / len(windows)).astype(np.float64)


def damped(moments: np.ndarray, share: float = DAMPING) -> np.ndarray:
    return moments + np.eye(len(moments)) * (share * np.diag(moments).mean() + 1e-12)


def round_with_compensation(
    weights: np.ndarray, moments: np.ndarray, choose: Callable[[np.ndarray, float, int], np.ndarray]
) -> np.ndarray:
    """Rounds weights with GPTQ error compensation (Frantar et al. 2022, arXiv 2210.17323, section 3).

    After the weights of an input are rounded, the remaining weights change so that the outputs change least. Inputs
    with the largest second moment are rounded first.

    Args:
        weights: (inputs, out), float64.
        moments: `damped` second moments of the inputs.
        choose: function that rounds the weights of one input, (out,). Its other arguments are the index of the input,
            and the squared error of an output per squared error of a weight, after compensation.
    """
    order = np.argsort(-np.diag(moments), kind="stable")
    moving = weights[order]
    upper = np.linalg.cholesky(np.linalg.inv(moments[np.ix_(order, order)])).T
    result = np.empty_like(weights)
    for index, row in enumerate(upper):
        rounded = choose(moving[index], 1 / row[index] ** 2, int(order[index]))
        result[order[index]] = rounded
        moving[index + 1 :] -= np.outer(row[index + 1 :], (moving[index] - rounded) / row[index])
    return result


def bias_correction(layer: keras.layers.Conv2D, inputs: Batches, wanted: Batches) -> np.ndarray:
    """Returns the change of the bias, float64 (out,).

    With this change, each output has its original mean in `wanted`.
    """
    got = outputs(layer, [inputs])
    return np.mean([(a - b).mean(axis=(0, 1, 2), dtype=np.float64) for a, b in zip(wanted, got, strict=True)], axis=0)
