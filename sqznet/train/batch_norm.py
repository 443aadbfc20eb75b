"""Provides fused batch norm for training on one replica."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras' layer, computed in training by TensorFlow's fused operation, which is faster.

    Keras 3 computes and applies the statistics in separate operations, each of which reads the whole feature map. The
    fused operation uses the statistics of its own replica only, so training on several replicas uses Keras' layer,
    which synchronises them. Saved models contain Keras' layer, which has the same name and state.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not training or not self.trainable:
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance, *_ = tf.compat.v1.nn.fused_batch_norm(
            inputs, self.gamma.value, self.beta.value, epsilon=self.epsilon, is_training=True
        )
        # The operation returns the unbiased variance (n - 1). Keras stores the biased variance (n).
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), tf.float32)
        variance *= (count - 1) / count
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + now * (1 - self.momentum))
        return outputs
