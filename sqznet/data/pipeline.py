"""Shards to batches of uint8 images, with tf.data.

Order and crops depend on (seed, epoch, place in the epoch) only: not on threads, replicas or workers, nor on
whether the run was stopped and resumed on the way. Records that a resumed run has already used are skipped
before they are decoded.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from sqznet import console
from sqznet.data import preprocess, records, shards
from sqznet.data.manifest import Manifest
from sqznet.preprocessing import Preprocessing
from sqznet.training.schedule import Schedule

if TYPE_CHECKING:
    import tensorflow as tf

    from sqznet.inference import Predictor

READERS = 16  # shards read at a time


def training_batches(
    manifest: Manifest,
    schedule: Schedule,
    *,
    replicas: int,
    start_step: int = 0,
    worker: int = 0,
    workers: int = 1,
    teacher: Predictor | None = None,
) -> tf.data.Dataset:
    """All batches of a run from `start_step` on: one after the other, epoch after epoch.

    Args:
        replicas: over all workers; the global batch is split evenly among them, in order.
        worker: number of the machine this runs on, of `workers`; each takes its replicas' part of every batch.
        teacher: a model that is shown the same crops, at the size that it was made for.

    Returns:
        (images uint8 (batch, size, size, 3), labels int64 (batch,)), where batch is one replica's share. `size`
        follows the recipe's train_sizes. With a teacher, its probabilities come third: float32 (batch, classes).
    """
    import tensorflow as tf

    recipe = schedule.recipe
    batch = recipe.global_batch_size
    files = tf.constant([str(shard.path) for shard in manifest.shards_of("train")])
    classes = len(manifest.classes)
    start_epoch, skipped_steps = divmod(start_step, schedule.steps_per_epoch)
    sizes = tf.constant([schedule.image_size(epoch) for epoch in range(schedule.epochs)])

    def seed_of(epoch):
        return tf.random.experimental.stateless_fold_in(tf.constant([recipe.seed, 0], tf.int64), epoch)

    def epoch_records(epoch):
        epoch_seed = seed_of(epoch)
        order = tf.random.experimental.stateless_shuffle(files, epoch_seed)
        stream = tf.data.Dataset.from_tensor_slices(order).interleave(
            tf.data.TFRecordDataset,
            cycle_length=READERS,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        stream = stream.shuffle(recipe.shuffle_buffer, seed=epoch_seed[0], reshuffle_each_iteration=False)
        stream = stream.take(schedule.steps_per_epoch * batch).enumerate()
        used = tf.constant(skipped_steps * batch, tf.int64)
        stream = stream.skip(tf.where(epoch == start_epoch, used, 0))
        return stream.map(lambda place, record: (epoch, place, record))

    def mine(epoch, place, record):
        return place % batch // (batch // workers) == worker

    def example(epoch, place, record):
        jpeg, label = records.parse(record)
        seed = tf.random.experimental.stateless_fold_in(seed_of(epoch), place)
        image = preprocess.preprocess_for_train(jpeg, seed, recipe, sizes[epoch])
        if teacher is None:
            return image, _checked(label, classes)
        size = teacher.runtime.image_size
        # The same seed is the same crop.
        shown = tf.cond(
            sizes[epoch] == size, lambda: image, lambda: preprocess.preprocess_for_train(jpeg, seed, recipe, size)
        )
        return image, _checked(label, classes), shown

    stream = tf.data.Dataset.range(start_epoch, schedule.epochs).flat_map(epoch_records)
    if workers > 1:
        stream = stream.filter(mine)
    stream = stream.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    stream = stream.batch(batch // replicas, drop_remainder=True)
    if teacher is not None:
        stream = stream.map(_asking(teacher, manifest))  # one call at a time: not every runtime bears more
    return stream.prefetch(tf.data.AUTOTUNE).with_options(_options())


def _asking(teacher: Predictor, manifest: Manifest) -> Callable[..., tuple[tf.Tensor, ...]]:
    """Replaces the images that are the teacher's by its probabilities of the data's classes.

    Raises:
        InputError: the teacher does not know these classes.
    """
    import tensorflow as tf

    outputs = teacher.outputs_of(manifest.classes, manifest.folder)

    def ask(images: np.ndarray) -> np.ndarray:
        probabilities = teacher.predict(images)[:, outputs]
        return probabilities / np.maximum(probabilities.sum(axis=1, keepdims=True), 1e-10)

    def answer(images, labels, shown):
        probabilities = tf.numpy_function(ask, [shown], tf.float32)
        return images, labels, tf.ensure_shape(probabilities, [None, len(outputs)])

    return answer


def evaluation_batches(
    manifest: Manifest,
    split: str,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    multiple_of: int = 1,
    worker: int = 0,
    workers: int = 1,
) -> tf.data.Dataset:
    """Every record of a split once, in the order of the shards, in full batches.

    Args:
        batch_size: images in a batch.
        multiple_of: pad with blank images until the number of batches is a multiple of this (replicas need
            as many batches each).

    Returns:
        (images uint8 (batch, size, size, 3), labels int64 (batch,), weights float32 (batch,)); weight 1 for a
        record, 0 for padding.
    """
    import tensorflow as tf

    files = [str(shard.path) for shard in manifest.shards_of(split)]
    classes = len(manifest.classes)
    size = preprocessing.image_size
    padding = -manifest.records(split) % (batch_size * multiple_of)

    def example(record):
        jpeg, label = records.parse(record)
        image = tf.ensure_shape(preprocess.preprocess_for_eval(jpeg, preprocessing), [size, size, 3])
        return image, _checked(label, classes), tf.constant(1.0)

    blank = (tf.zeros([size, size, 3], tf.uint8), tf.constant(0, tf.int64), tf.constant(0.0))
    stream = tf.data.TFRecordDataset(files).map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    stream = stream.concatenate(tf.data.Dataset.from_tensors(blank).repeat(padding))
    stream = stream.batch(batch_size, drop_remainder=True)
    if workers > 1:
        stream = stream.shard(workers, worker)
    return stream.prefetch(tf.data.AUTOTUNE).with_options(_options())


def _checked(label: tf.Tensor, classes: int) -> tf.Tensor:
    import tensorflow as tf

    message = f"a label is outside 0..{classes - 1}, the manifest's classes; do the labels start at 1?"
    with tf.control_dependencies([tf.debugging.Assert((label >= 0) & (label < classes), [message, label])]):
        return tf.identity(label)


def _options() -> tf.data.Options:
    import tensorflow as tf

    options = tf.data.Options()
    options.deterministic = True
    # The datasets above already hold this worker's part; TensorFlow must not divide them again.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options


@contextlib.contextmanager
def naming_corrupt_shards(manifest: Manifest) -> Iterator[None]:
    """Around the use of a dataset: TensorFlow says that some record is corrupt; this finds and names it.

    Raises:
        InputError: instead of TensorFlow's error, if a shard of the set is corrupt or has a label out of range.
    """
    import tensorflow as tf

    try:
        yield
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        console.say(f"reading failed ({type(error).__name__}); looking for the record in {manifest.folder}")
        for shard in manifest.shards:
            shards.check(shard.path, len(manifest.classes))
        raise


def examples(
    manifest: Manifest, split: str, preprocessing: Preprocessing, count: int | None, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (images, labels) as numpy arrays for the first `count` records of a split (None: all), unpadded.

    Raises:
        InputError: a record is corrupt; names it.
    """
    wanted = manifest.records(split) if count is None else min(count, manifest.records(split))
    batches = evaluation_batches(manifest, split, preprocessing, batch_size=batch_size)
    with naming_corrupt_shards(manifest):
        for images, labels, weights in itertools.islice(batches.as_numpy_iterator(), -(-wanted // batch_size)):
            kept = min(int(weights.sum()), wanted)
            wanted -= kept
            yield images[:kept], labels[:kept]
