"""Reads a built set as a `tf.data.Dataset` for a training loop that is not sqznet's, such as Keras's `fit`."""

from __future__ import annotations

import functools

import tensorflow as tf

from sqznet.data import augment, pipeline
from sqznet.data.manifest import Manifest
from sqznet.images.preprocessing import Preprocessing
from sqznet.recipes import Recipe, schedule


def training_epoch(manifest: Manifest, recipe: Recipe) -> tf.data.Dataset:
    """Returns the batches of one epoch of the training split, as the recipe crops and augments them.

    Each iteration over the dataset has another order and other crops. The recipe's seed determines them. The images
    have the recipe's `image_size` in all epochs. The last records of an epoch that do not fill a batch are left out.

    Returns:
        (images uint8 (global_batch_size, image_size, image_size, 3), labels int64 (global_batch_size,)). If the recipe
        mixes images, the labels are probabilities, float32 (global_batch_size, classes).

    Raises:
        InputError: the set has no training split, or fewer records than a batch.
    """
    count, classes = manifest.records("train"), len(manifest.classes)
    schedule.plan(recipe, count)  # raises InputError for too few records
    batch_size = recipe.global_batch_size

    def epoch_examples(epoch):
        # Keras users often set TensorFlow's global seed. While it is set, tf.data takes no tensor as the seed of a
        # shuffle. In this traced function, the call changes the seed of the function only.
        tf.compat.v1.set_random_seed(None)
        order = pipeline.epoch_order(manifest, recipe, epoch)
        return tf.data.Dataset.zip(order, pipeline.epoch_draws(recipe, count, epoch))

    def example(of_order, draws):
        *_, record = of_order
        return pipeline.training_example(manifest, recipe, record, draws, recipe.image_size)

    def with_probabilities(images, labels, neighbours, shares):
        own, theirs = tf.one_hot(labels, classes), tf.one_hot(neighbours, classes)
        return images, shares[:, None] * own + (1 - shares[:, None]) * theirs

    # A number for each iteration, which stands for the number of the epoch.
    epoch = tf.data.Dataset.random(seed=recipe.seed, rerandomize_each_iteration=True).take(1)
    stream = epoch.flat_map(epoch_examples)
    stream = stream.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    stream = stream.batch(batch_size, drop_remainder=True)
    if recipe.mixes:
        stream = stream.map(augment.mix, num_parallel_calls=tf.data.AUTOTUNE).map(with_probabilities)
    stream = stream.apply(tf.data.experimental.assert_cardinality(count // batch_size))
    size = recipe.image_size
    stream = stream.map(lambda images, labels: (tf.ensure_shape(images, [batch_size, size, size, 3]), labels))
    return stream.prefetch(tf.data.AUTOTUNE).with_options(pipeline.dataset_options())


def in_order(manifest: Manifest, split: str, preprocessing: Preprocessing, batch_size: int) -> tf.data.Dataset:
    """Returns every record of a split once, in the order of the shards. The last batch may be smaller.

    Unlike `pipeline.evaluation_batches`, there is no padding, which a metric of Keras would count.

    Returns:
        (images uint8 (batch, size, size, 3), labels int64 (batch,)).

    Raises:
        InputError: the set has no such split.
    """
    stream = pipeline.stored(manifest, split).map(
        functools.partial(pipeline.evaluation_example, manifest, preprocessing),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    stream = stream.batch(batch_size)
    return stream.prefetch(tf.data.AUTOTUNE).with_options(pipeline.dataset_options())
