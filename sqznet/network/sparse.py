"""Sets small weights to zero in some epochs: dense-sparse-dense training (Han et al. 2016, arXiv 1607.04381).

A pruned weight is exactly zero. Therefore no mask is stored: the zeros of the weights are the mask. A run that is
resumed in its sparse phase continues with the same mask.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf


def kernels(model: keras.Model) -> list[keras.Variable]:
    """Lists the variables that are pruned: trainable kernels of convolutions, not biases or norms."""
    return [variable for variable in model.trainable_variables if variable.name == "kernel"]


def mask(kernel: np.ndarray, sparsity: float) -> np.ndarray:
    """Returns a float32 mask in the kernel's shape.

    It is 0 for the fraction `sparsity` of the smallest weights, else 1.

    If weights are equal, the first of them are pruned first. Therefore the fraction is exact, rounded down to whole
    weights. Pruning a second time changes nothing.
    """
    order = np.argsort(np.abs(kernel), axis=None, kind="stable")
    kept = np.ones(kernel.size, np.float32)
    kept[order[: int(sparsity * kernel.size)]] = 0
    return kept.reshape(kernel.shape)


def prune(model: keras.Model, sparsity: float) -> None:
    """Sets the fraction `sparsity` of each kernel to zero, the smallest weights first."""
    for kernel in kernels(model):
        value = kernel.value.numpy()
        kernel.assign(value * mask(value, sparsity))


def nonzero_masks(model: keras.Model) -> list[tf.Tensor]:
    """Returns a mask for each kernel. The mask is 1.0 where the kernel is not zero."""
    return [tf.cast(tf.not_equal(kernel.value, 0), tf.float32) for kernel in kernels(model)]


def apply_masks(model: keras.Model, masks: list[tf.Tensor], sparse: tf.Tensor) -> None:
    """Sets the kernels to zero where `masks` are zero, if `sparse` is true."""
    for kernel, each in zip(kernels(model), masks, strict=True):
        kernel.assign(tf.where(sparse, kernel.value * each, kernel.value))
