"""A network walked through on calibration photographs, real and rounded side by side, and kernels rounded for it.

Both quantizers stand on this: `export.int8`, and `compression` for `.sqz` files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from sqznet.core import console

if TYPE_CHECKING:
    import keras

Batches = list[np.ndarray]  # (images, height, width, channels) each

WINDOWS = 40_000  # windows that a kernel is rounded by; the widest has 576 weights
DAMPING = 0.01  # of the mean diagonal (Frantar et al. 2022, arXiv 2210.17323, section 3.3)


def inputs_of(layer: keras.Layer) -> list[str]:
    """Names of the layers that a layer takes its input from, in order."""
    tensors = layer.input if isinstance(layer.input, list) else [layer.input]
    return [tensor._keras_history.operation.name for tensor in tensors]


def outputs(layer: keras.Layer, inputs: list[Batches]) -> Batches:
    """A layer's output for each batch, float32."""
    return [np.asarray(layer(list(each) if len(each) > 1 else each[0])) for each in zip(*inputs, strict=True)]


def walk(
    layers: list[keras.Layer],
    batches: Batches,
    change: Callable[[keras.layers.Conv2D, Batches, Batches, Batches], None],
    after: Callable[[keras.Layer, Batches], Batches] = lambda _layer, values: values,
    title: str = "calibrating",
) -> None:
    """Computes layer after layer twice: with the weights as they are, and as they have been changed on the way.

    Args:
        layers: of a model, in its order, the input first.
        batches: photographs, uint8 (n, size, size, 3) each.
        change: called for each convolution with its real inputs, the inputs that it will get, and its real outputs;
            gives it other weights.
        after: called for each layer with what it puts out then; gives what others get of it.
    """
    import keras

    waiting = Counter(name for layer in layers[1:] for name in inputs_of(layer))
    real: dict[str, Batches] = {}  # of each layer that something still waits for
    changed: dict[str, Batches] = {}
    with console.progress("layers/s") as bar:
        for layer in bar.track(layers, description=title):
            name = layer.name
            if isinstance(layer, keras.layers.InputLayer):
                real[name] = changed[name] = batches
                continue
            names = inputs_of(layer)
            real[name] = outputs(layer, [real[each] for each in names])
            if isinstance(layer, keras.layers.Conv2D):
                change(layer, real[names[0]], changed[names[0]], real[name])
            changed[name] = outputs(layer, [changed[each] for each in names])
            changed[name] = after(layer, changed[name])
            for each in names:
                waiting[each] -= 1
                if not waiting[each]:
                    del real[each], changed[each]


def windows(layer: keras.layers.Conv2D, inputs: Batches) -> np.ndarray:
    """Some of the windows that a convolution slides over, float32 (windows, height * width * channels)."""
    import tensorflow as tf

    height, width = layer.kernel_size
    sizes, strides = [1, height, width, 1], [1, *layer.strides, 1]
    found = []
    for images in inputs:
        cut = tf.image.extract_patches(images, sizes, strides, [1, 1, 1, 1], layer.padding.upper())
        found.append(some_rows(cut.numpy(), len(inputs)))
    return np.concatenate(found)


def some_rows(maps: np.ndarray, batches: int) -> np.ndarray:
    """Of maps (images, height, width, channels) of one of so many batches, the pixels that go with `windows`."""
    rows = maps.reshape(-1, maps.shape[-1])
    return rows[:: max(1, len(rows) * batches // WINDOWS)]


def second_moments(windows: np.ndarray) -> np.ndarray:
    """Mean products of a window's values, float64: how an error in one weight adds to that in another."""
    return (windows.T @ windows / len(windows)).astype(np.float64)


def damped(moments: np.ndarray, share: float = DAMPING) -> np.ndarray:
    return moments + np.eye(len(moments)) * (share * np.diag(moments).mean() + 1e-12)


def round_in_turn(
    weights: np.ndarray, moments: np.ndarray, choose: Callable[[np.ndarray, float, int], np.ndarray]
) -> np.ndarray:
    """Rounds weight after weight, each time moving the rest so that outputs change least.

    Frantar et al. 2022 (arXiv 2210.17323), section 3, in the order of the loudest inputs first.

    Args:
        weights: (inputs, out), float64.
        moments: `damped` second moments of the inputs.
        choose: rounds the weights of one input, (out,). It is also given the squared error that an error of 1 makes
            in an output once the rest has moved, and the index of the input.
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


def missing_mean(layer: keras.layers.Conv2D, inputs: Batches, wanted: Batches) -> np.ndarray:
    """What to add to the bias for the mean of each output to be that of the real outputs, float64 (out,)."""
    got = outputs(layer, [inputs])
    return np.mean([(a - b).mean(axis=(0, 1, 2), dtype=np.float64) for a, b in zip(wanted, got, strict=True)], axis=0)
