"""Draws the same number of records from each class in an epoch (`sampling=balanced`).

An epoch has as many records as the split. Every class that has records gets an equal part of them. If the division has
a remainder, some classes get one record more, and these classes change from epoch to epoch. Within a class, the counts
of two records in an epoch differ by 1 at most. A permutation of the class, which depends on the seed and the epoch,
chooses the records that are seen once more. A record of a large class may have the count 0 in an epoch.

The shards have no index of their labels. Therefore every shard is read in every epoch, and the label of each record is
parsed. Records with the count 0 are not decoded. The counts of an epoch take 4 bytes for each record of the split, and
about 110 bytes while they are drawn: 5 MB and 140 MB for the 1.28 million records of ImageNet.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from sqznet.data import records

_BLOCK = 256  # records that are counted in one call
_STREAM = -1  # distinguishes the seed of the counts from the seeds of the crops, which are 0 or more


def range_of_counts(per_class: Sequence[int]) -> list[tuple[int, int]]:
    """Returns for each class how often one of its records is seen in an epoch: the least and the most.

    Args:
        per_class: the records of each class. At least one is above 0.
    """
    part, remainder = divmod(sum(per_class), sum(count > 0 for count in per_class))
    return [(part // count, -(-(part + (remainder > 0)) // count)) if count else (0, 0) for count in per_class]


def draw_counts(per_class: Sequence[int], epoch: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draws how often each record is seen in an epoch, int32 (records,).

    The records are sorted by class. Within a class, they are in the order in which this epoch reads them.

    Args:
        per_class: the records of each class. At least one is above 0.
        epoch: int64 (), 0 or more.
        seed: int64 (2,), different for each epoch.
    """
    sizes = np.array([count for count in per_class if count], np.int64)  # (present,)
    total, present = int(sizes.sum()), len(sizes)
    part, remainder = divmod(total, present)
    turn = (tf.range(present, dtype=tf.int64) - (epoch % present) * remainder) % present
    wanted = part + tf.cast(turn < remainder, tf.int64)  # (present,), records of the epoch
    label = tf.repeat(tf.range(present, dtype=tf.int64), sizes)  # (records,)
    seed = tf.random.experimental.stateless_fold_in(seed, _STREAM)
    # Sorting these keys permutes the records of each class: the whole part of a key is the class.
    keys = tf.cast(label, tf.float64) + tf.random.stateless_uniform([total], seed, maxval=0.5, dtype=tf.float64)
    order = tf.cast(tf.argsort(keys), tf.int64)
    first = tf.constant(np.cumsum(sizes) - sizes)
    rank = tf.scatter_nd(
        order[:, None], tf.range(total, dtype=tf.int64) - tf.gather(first, label), tf.constant([total], tf.int64)
    )
    size = tf.constant(sizes)
    counts = tf.gather(wanted // size, label) + tf.cast(rank < tf.gather(wanted % size, label), tf.int64)
    return tf.cast(counts, tf.int32)


def balanced(stream: tf.data.Dataset, per_class: Sequence[int], epoch: tf.Tensor, seed: tf.Tensor) -> tf.data.Dataset:
    """Returns the records of an epoch, each as often as `draw_counts` says. Copies of a record follow each other.

    Args:
        stream: elements of which the last component is the stored record.
        per_class: the records of each class in the stream.
        epoch: int64 (), 0 or more.
        seed: int64 (2,), different for each epoch.
    """
    counts = draw_counts(per_class, epoch, seed)
    sizes = np.array(per_class, np.int64)
    first, total = tf.constant(np.cumsum(sizes) - sizes), int(sizes.sum())

    def repeated(seen, block):
        labels = records.parse_labels(block[-1])  # (block,)
        is_class = tf.one_hot(labels, len(sizes), dtype=tf.int64)  # (block, classes)
        earlier = tf.gather(tf.cumsum(is_class, exclusive=True), labels, axis=1, batch_dims=1)
        numbers = tf.gather(first, labels) + tf.gather(seen, labels) + earlier
        # A set with more records of a class than in its manifest is found by the caller, which counts all records.
        times = tf.gather(counts, tf.minimum(numbers, total - 1))
        return seen + tf.reduce_sum(is_class, axis=0), tuple(tf.repeat(each, times) for each in block)

    return stream.batch(_BLOCK).scan(tf.zeros([len(sizes)], tf.int64), repeated).unbatch()
