"""Defines dropout whose masks do not depend on the number of replicas."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

PHILOX = 1  # tf.random.Algorithm.PHILOX
_DRAWS = 4  # random numbers for each value of Philox's counter (Salmon et al. 2011, Parallel Random Numbers)


class GlobalDropout(keras.layers.Dropout):
    """Draws one mask for the global batch. Each replica computes its own part of the mask.

    Keras' layer gives every replica the same mask, so the result would depend on the number of replicas. The random
    generator is counter-based: a replica starts its counter at the beginning of its part. Saved models contain Keras'
    layer, which has the same name and state.
    """

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or not self.rate:
            return inputs
        shape = tf.shape(inputs)  # (batch, height, width, channels)
        part = tf.reduce_prod(tf.cast(shape, tf.int64))
        channels = int(np.prod(inputs.shape[-1:]))
        assert channels % _DRAWS == 0, f"a part of the mask must end with a whole counter, not with {channels} channels"
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        seed = tf.cast(self.seed_generator.next(), tf.int64)
        key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)
        first = tf.cast(tf.cast(replica, tf.int64) * part // _DRAWS, tf.uint64)
        counter = tf.stack([counter[0] + first, counter[1]])
        draws = tf.raw_ops.StatelessRandomUniformV2(shape=shape, key=key, counter=counter, alg=PHILOX)
        kept = draws >= self.rate
        return tf.where(kept, inputs / (1 - self.rate), tf.zeros_like(inputs))
