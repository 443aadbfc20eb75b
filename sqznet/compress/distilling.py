"""Fine-tunes a rounded network on the outputs of the uncompressed network (knowledge distillation), without labels."""

from __future__ import annotations

import time
from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from sqznet.core import console
from sqznet.network import model as models
from sqznet.network.sqz.encoder import Integers

RATE = 0.02  # learning rate of Adam, in steps of a kernel; cosine decay to zero over the given time
BIAS_RATE = 0.002  # of the mean magnitude of a layer's biases


def distill(
    student: keras.Model,
    teacher: keras.Model,
    integers: dict[str, Integers],
    photographs: Iterable[np.ndarray],
    minutes: float,
) -> dict[str, Integers]:
    """Trains a rounded model for the given time, so that its probabilities become those of the teacher.

    The forward pass uses integer kernels. Gradients go to real-valued copies (straight-through estimator: Bengio et al.
    2013, arXiv 1308.3432). Weights of zero stay zero, because zeros make a file small.

    Args:
        student: a model with the values of `integers`. This function sets it to the values of the result.
        photographs: uint8 (n, size, size, 3) each, without labels, endless.

    Returns:
        The integers of each kernel.
    """
    layers = models.convolutions(student)
    steps = [integers[layer.name].step for layer in layers]
    kernels = [tf.Variable(integers[layer.name].values, dtype=tf.float32) for layer in layers]
    masks = [tf.cast(each != 0, tf.float32) for each in kernels]
    scales = [BIAS_RATE / RATE * float(np.abs(layer.bias.numpy()).mean()) + 1e-6 for layer in layers]
    biases = [tf.Variable(layer.bias.numpy() / scale) for layer, scale in zip(layers, scales, strict=True)]
    optimizer = keras.optimizers.Adam(RATE)
    optimizer.build(kernels + biases)
    place = {id(variable): index for index, variable in enumerate(student.trainable_variables)}

    def weights() -> list[tf.Tensor]:
        """Returns the student's variables in their order, rounded, with straight-through gradients."""
        found: list[tf.Tensor | None] = [None] * len(place)
        for layer, kernel, mask, step, bias, scale in zip(layers, kernels, masks, steps, biases, scales, strict=True):
            whole = kernel + tf.stop_gradient(tf.round(kernel) - kernel)
            found[place[id(layer.kernel)]] = whole * mask * step
            found[place[id(layer.bias)]] = bias * scale
        return found

    @tf.function(reduce_retracing=True)
    def train_step(images):
        wanted = tf.nn.log_softmax(teacher(images, training=False))
        with tf.GradientTape() as tape:
            logits, _ = student.stateless_call(weights(), student.non_trainable_variables, images, training=False)
            divergence = tf.reduce_sum(tf.exp(wanted) * (wanted - tf.nn.log_softmax(logits)), axis=1)
            loss = tf.reduce_mean(divergence)
        optimizer.apply_gradients(zip(tape.gradient(loss, kernels + biases), kernels + biases, strict=True))
        return loss

    began, seconds, recent = time.monotonic(), 60 * minutes, None
    with console.progress("s") as bar:
        task = bar.add_task("fine-tuning on the uncompressed network", total=round(seconds))
        for images in photographs:
            used = time.monotonic() - began
            if used >= seconds:
                break
            optimizer.learning_rate = RATE * (0.5 + 0.5 * np.cos(np.pi * used / seconds))
            loss = float(train_step(images))
            recent = loss if recent is None else 0.9 * recent + 0.1 * loss
            text = f"fine-tuning on the uncompressed network, divergence {recent:.4f}"
            bar.update(task, completed=round(used), description=text)
    found = {}
    for layer, kernel, mask, step, bias, scale in zip(layers, kernels, masks, steps, biases, scales, strict=True):
        found[layer.name] = Integers(np.round(kernel.numpy() * mask.numpy()).astype(np.int64), step)
        layer.set_weights([found[layer.name].kernel, (bias.numpy() * scale).astype(np.float16).astype(np.float32)])
    return found
