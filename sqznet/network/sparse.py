"""Dense-sparse-dense training (Han et al. 2016, arXiv 1607.04381): small weights held at zero for a while.

A weight that is pruned is exactly zero, so the weights themselves say which ones are: there is no mask to keep, and a
run that is resumed in its sparse phase goes on with the same ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def kernels(model: keras.Model) -> list[keras.Variable]:
    """What is pruned: the kernels of convolutions that are trained, not biases or norms."""
    return [variable for variable in model.trainable_variables if variable.name == "kernel"]


def mask(kernel: np.ndarray, sparsity: float) -> np.ndarray:
    """1 where a weight stays and 0 where it is among the share `sparsity` of the smallest; float32, as the kernel.

    Of equal weights the first go first, so the share is exact (rounded down to whole weights), and pruning once more
    changes nothing.
    """
    order = np.argsort(np.abs(kernel), axis=None, kind="stable")
    kept = np.ones(kernel.size, np.float32)
    kept[order[: int(sparsity * kernel.size)]] = 0
    return kept.reshape(kernel.shape)


def prune(model: keras.Model, sparsity: float) -> None:
    """Sets that share of each kernel to zero, the smallest first."""
    for kernel in kernels(model):
        value = kernel.value.numpy()
        kernel.assign(value * mask(value, sparsity))


def alive(model: keras.Model) -> list[tf.Tensor]:
    """For each kernel, 1.0 where it is not zero."""
    import tensorflow as tf

    return [tf.cast(tf.not_equal(kernel.value, 0), tf.float32) for kernel in kernels(model)]


def hold(model: keras.Model, alive: list[tf.Tensor], sparse: tf.Tensor) -> None:
    """Sets what was zero when `alive` was taken back to zero, if `sparse`."""
    import tensorflow as tf

    for kernel, each in zip(kernels(model), alive, strict=True):
        kernel.assign(tf.where(sparse, kernel.value * each, kernel.value))
