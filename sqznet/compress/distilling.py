"""Learning from the uncompressed network after rounding: kernels stay whole steps, and no labels are needed."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from sqznet.core import console
from sqznet.network.sqz import convert
from sqznet.network.sqz.encoder import Integers

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

RATE = 0.02  # of Adam, whose updates are about as long, in steps; it falls to nothing with the time
BIAS_RATE = 0.002  # of the mean magnitude of a layer's biases


def distill(
    model: keras.Model,
    teacher: keras.Model,
    integers: dict[str, Integers],
    photographs: Iterable[np.ndarray],
    minutes: float,
) -> dict[str, Integers]:
    """Trains a rounded model for so long to give the teacher's answers.

    A step computes with whole steps and hands its gradient on to numbers between them (straight-through estimator:
    Bengio et al. 2013, arXiv 1308.3432). Zeros stay zero: they are what makes a file small.

    Args:
        model: with the values of `integers`; it gets those of the result.
        photographs: uint8 (n, size, size, 3) each, without labels, until the time is over.

    Returns:
        The integers of each kernel.
    """
    import keras
    import tensorflow as tf

    layers = convert.convolutions(model)
    steps = [integers[layer.name].step for layer in layers]
    between = [tf.Variable(integers[layer.name].values, dtype=tf.float32) for layer in layers]
    alive = [tf.cast(each != 0, tf.float32) for each in between]
    scales = [BIAS_RATE / RATE * float(np.abs(layer.bias.numpy()).mean()) + 1e-6 for layer in layers]
    biases = [tf.Variable(layer.bias.numpy() / scale) for layer, scale in zip(layers, scales, strict=True)]
    optimizer = keras.optimizers.Adam(RATE)
    optimizer.build(between + biases)
    place = {id(variable): index for index, variable in enumerate(model.trainable_variables)}

    def values() -> list[tf.Tensor]:
        """Of the model's variables, in its order, with gradients that pass rounding by."""
        found: list[tf.Tensor | None] = [None] * len(place)
        for layer, each, zeros, step, bias, scale in zip(layers, between, alive, steps, biases, scales, strict=True):
            whole = each + tf.stop_gradient(tf.round(each) - each)
            found[place[id(layer.kernel)]] = whole * zeros * step
            found[place[id(layer.bias)]] = bias * scale
        return found

    @tf.function(reduce_retracing=True)
    def learn(images):
        wanted = tf.nn.log_softmax(teacher(images, training=False))
        with tf.GradientTape() as tape:
            logits, _ = model.stateless_call(values(), model.non_trainable_variables, images, training=False)
            diverges = tf.reduce_sum(tf.exp(wanted) * (wanted - tf.nn.log_softmax(logits)), axis=1)
            loss = tf.reduce_mean(diverges)
        optimizer.apply_gradients(zip(tape.gradient(loss, between + biases), between + biases, strict=True))
        return loss

    began, seconds, recent = time.monotonic(), 60 * minutes, None
    with console.progress("s") as bar:
        task = bar.add_task("learning from the uncompressed network", total=round(seconds))
        for images in photographs:
            used = time.monotonic() - began
            if used >= seconds:
                break
            optimizer.learning_rate = RATE * (0.5 + 0.5 * np.cos(np.pi * used / seconds))
            loss = float(learn(images))
            recent = loss if recent is None else 0.9 * recent + 0.1 * loss
            text = f"learning from the uncompressed network, divergence {recent:.4f}"
            bar.update(task, completed=round(used), description=text)
    found = {}
    for layer, each, zeros, step, bias, scale in zip(layers, between, alive, steps, biases, scales, strict=True):
        whole = np.round(each.numpy() * zeros.numpy()).astype(np.int64)
        found[layer.name] = Integers(whole, step)
        layer.set_weights([found[layer.name].kernel, (bias.numpy() * scale).astype(np.float16).astype(np.float32)])
    return found
