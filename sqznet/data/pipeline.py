"""Reads shards as batches of uint8 images, with tf.data.

Order and crops depend only on (seed, epoch, place in the epoch). They do not depend on threads, replicas or workers, or
on whether the run was stopped and resumed. A resumed run does not decode the records that it has used already.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import tensorflow as tf

from sqznet.core import console, startup
from sqznet.core.errors import InputError
from sqznet.data import augment, corruption, records, sampling
from sqznet.data.manifest import Manifest
from sqznet.images import crop
from sqznet.images.preprocessing import Preprocessing
from sqznet.recipes import Recipe
from sqznet.recipes.schedule import Schedule

READERS = 16  # shards that are read at a time
_DRAW_BLOCK = 1_024  # training crops whose random numbers are drawn in one call
VERIFY = "compare the shards with their manifest: python -m sqznet.data --verify --out=FOLDER"
_SERVICE_BATCH = 32  # examples in a message of a data service
_SERVICE_BUFFER = 4_096  # examples that a worker may have received from a data service and not used yet


class Teacher(Protocol):
    """A model that a student learns from: a `predict.inference.Predictor`, which this module must not import."""

    @property
    def image_size(self) -> int:
        """Side of the input images in pixels."""

    def outputs_of(self, classes: tuple[str, ...], where: Path) -> np.ndarray:
        """Returns the index of the output for each class of a data set, int64 (classes,)."""

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Converts uint8 (n, size, size, 3) to float32 probabilities (n, outputs)."""


def order(manifest: Manifest, schedule: Schedule, start_step: int = 0) -> tf.data.Dataset:
    """Returns the records in training order, from a step to the end of the run.

    This order does not depend on the number of replicas or workers.

    Returns:
        (epoch, place in the epoch, shard of the training split, record in the shard, the stored record). The first four
        are int64 and start at 0. Records that earlier steps have used are read but not decoded.
    """
    recipe, records = schedule.recipe, schedule.records
    start, end = start_step * recipe.global_batch_size, schedule.total_steps * recipe.global_batch_size
    start_epoch, used = divmod(start, records)

    def epoch_records(epoch):
        stream = epoch_order(manifest, recipe, epoch)
        stream = stream.enumerate().skip(tf.where(epoch == start_epoch, tf.constant(used, tf.int64), 0))
        return stream.map(lambda place, record: (epoch, place, *record))

    epochs = tf.data.Dataset.range(start_epoch, -(-end // records))
    return epochs.flat_map(epoch_records).take(end - start)


def epoch_order(manifest: Manifest, recipe: Recipe, epoch: tf.Tensor) -> tf.data.Dataset:
    """Returns the records of an epoch in training order, which depends on the recipe's seed and the epoch only.

    The recipe's `sampling` decides whether each record comes once (natural) or each class equally often (balanced).

    Args:
        epoch: int64 (), 0 or more.

    Returns:
        (shard of the training split, record in the shard, the stored record). The first two are int64 and start at 0.
    """
    records, shards = manifest.records("train"), manifest.shards_of("train")
    files = tf.constant([str(shard.path) for shard in shards])

    def read(shard):
        numbered = tf.data.TFRecordDataset(files[shard]).enumerate()
        return numbered.map(lambda number, record: (shard, number, record))

    epoch_seed = _epoch_seed(recipe, epoch)
    shuffled = tf.random.experimental.stateless_shuffle(tf.range(len(shards), dtype=tf.int64), epoch_seed)
    stream = tf.data.Dataset.from_tensor_slices(shuffled).interleave(
        read, cycle_length=READERS, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    # TensorFlow raises no error if a shard ends too early, at the end of a record.
    stream = stream.apply(tf.data.experimental.assert_cardinality(records))
    if recipe.sampling == "balanced":
        stream = sampling.balanced(stream, manifest.per_class("train"), epoch, epoch_seed)
    return stream.shuffle(_shuffle_buffer(manifest, recipe), seed=epoch_seed[0], reshuffle_each_iteration=False)


def _shuffle_buffer(manifest: Manifest, recipe: Recipe) -> int:
    """Returns the size of the shuffle buffer in records: as many as fit into the recipe's `shuffle_mib`."""
    records = manifest.records("train")
    mean_bytes = sum(shard.bytes for shard in manifest.shards_of("train")) / records
    return max(1, min(records, int(recipe.shuffle_mib * 2**20 / mean_bytes)))


def _epoch_seed(recipe: Recipe, epoch: tf.Tensor) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(tf.constant([recipe.seed, 0], tf.int64), epoch)


def training_batches(
    manifest: Manifest,
    schedule: Schedule,
    *,
    replicas: int,
    start_step: int = 0,
    worker: int = 0,
    workers: int = 1,
    teacher: Teacher | None = None,
    service: str | None = None,
    job: str | None = None,
) -> tf.data.Dataset:
    """Returns all batches of a run from `start_step` on, over all epochs.

    Args:
        replicas: the replicas of all workers. The global batch is split evenly among the replicas, in order.
        worker: number of this machine among `workers`. Each machine reads its replicas' part of every batch.
        teacher: a model that gets the same crops, at its own input size.
        service: grpc://host:port of a data service that decodes. The order is then not fixed (see `_from_service`).
        job: name of a job of the service that the workers share, or None for a job of this process alone.

    Returns:
        (images uint8 (batch, size, size, 3), labels int64 (batch,)), where batch is one replica's share. `size`
        follows the recipe's train_sizes. With a teacher, the third element is its probabilities, float32 (batch,
        classes). If the recipe mixes images, the third and fourth are the neighbours' labels, int64, and the share of
        each image's own label, float32, both (batch,).
        A record that was found corrupt is a black image with the label -1.
    """
    recipe = schedule.recipe
    batch = recipe.global_batch_size
    if service and recipe.sampling != "natural":
        raise InputError(
            f"--data_service does not support --sampling={recipe.sampling}: leave one of them out, or use "
            "--class_weights"
        )
    if recipe.mixes and teacher is not None:
        raise InputError("--teacher does not support mixed images: leave out --mixup and --cutmix")
    if recipe.mixes and batch // replicas % 2:
        raise InputError(
            f"mixup and cutmix take images in pairs, and each replica's share of the batch is {batch // replicas}: "
            f"choose a --global_batch_size that is a multiple of {2 * replicas}"
        )
    if service:
        stream = _from_service(manifest, schedule, start_step, workers, teacher, service, job)
    else:
        stream = _in_order(manifest, schedule, start_step, worker, workers, teacher)
    stream = stream.batch(batch // replicas, drop_remainder=True)
    if recipe.mixes:
        stream = stream.map(augment.mix, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if teacher is not None:
        stream = stream.map(_with_teacher(teacher, manifest))  # one call at a time: not every runtime is thread-safe
    return stream.prefetch(tf.data.AUTOTUNE).with_options(dataset_options())


def _in_order(
    manifest: Manifest, schedule: Schedule, start_step: int, worker: int, workers: int, teacher: Teacher | None
) -> tf.data.Dataset:
    """Returns the examples of each batch that this worker trains on, in the sequence that `order` yields."""
    recipe, batch = schedule.recipe, schedule.recipe.global_batch_size
    sizes = tf.constant([schedule.image_size(epoch) for epoch in range(schedule.epochs)], tf.int32)

    def position(epoch, place):
        return epoch * schedule.records + place

    def is_mine(of_order, _draws):
        epoch, place, *_ = of_order
        return position(epoch, place) % batch // (batch // workers) == worker

    def example(of_order, draws):
        epoch, place, _shard, _number, record = of_order
        # All images of a batch have the size of the epoch in which the batch begins.
        size = sizes[position(epoch, place) // batch * batch // schedule.records]
        return training_example(manifest, recipe, record, draws, size, teacher)

    stream = tf.data.Dataset.zip(order(manifest, schedule, start_step), _draws(schedule, start_step))
    if workers > 1:
        stream = stream.filter(is_mine)
    return stream.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _draws(schedule: Schedule, start_step: int) -> tf.data.Dataset:
    """Returns the random numbers for each example of `order`: a row of `_draw`."""
    recipe, records = schedule.recipe, schedule.records
    start_epoch, used = divmod(start_step * recipe.global_batch_size, records)

    def draws(epoch):
        skipped = tf.where(epoch == start_epoch, tf.constant(used, tf.int64), 0)
        return epoch_draws(recipe, records, epoch).skip(skipped)

    return tf.data.Dataset.range(start_epoch, schedule.epochs + 1).flat_map(draws)


def epoch_draws(recipe: Recipe, records: int, epoch: tf.Tensor) -> tf.data.Dataset:
    """Returns the random numbers for each example of an epoch, in the order of `epoch_order`: rows of `_draw`."""
    fold = tf.random.experimental.stateless_fold_in
    blocks = tf.data.Dataset.range(-(-records // _DRAW_BLOCK))
    blocks = blocks.map(lambda block: _draw(fold(_epoch_seed(recipe, epoch), block), _DRAW_BLOCK, recipe))
    return blocks.unbatch().take(records)


def _draw(seed: tf.Tensor, count: int, recipe: Recipe) -> tf.Tensor:
    """Returns rows of `crop.draw`, each followed by a row of `augment.draw` if the recipe augments."""
    crops = crop.draw(seed, count, recipe.min_crop_area)
    return tf.concat([crops, augment.draw(seed + 2, count, recipe)], axis=1) if recipe.augments else crops


def _from_service(
    manifest: Manifest,
    schedule: Schedule,
    start_step: int,
    workers: int,
    teacher: Teacher | None,
    service: str,
    job: str | None,
) -> tf.data.Dataset:
    """Returns examples from a data service, in the order in which its workers finish them.

    The unit of work is one shard in one epoch, which goes to one data worker. An uninterrupted run reads every record
    once in each epoch, but it may read the last shards of an epoch together with the first shards of the next epoch. A
    resumed run starts with the shard in which it stopped, so it repeats at most one shard. If a data worker dies, the
    shards that it was reading are missing in that epoch. Several training workers receive examples at different rates.
    At the end of the run, shards of further epochs follow, so that each worker has enough examples. Their records
    replace some records of the last epoch.
    """
    recipe, shards = schedule.recipe, manifest.shards_of("train")
    sizes = {schedule.image_size(epoch) for epoch in range(schedule.epochs)}
    if len(sizes) > 1:
        raise InputError(
            f"--data_service goes with one size of training images, and this recipe has {len(sizes)} "
            f"(train_sizes): add --train_sizes=0:{max(sizes)}"
        )
    (size,) = sizes
    files = tf.constant([str(shard.path) for shard in shards])
    start, end = start_step * recipe.global_batch_size, schedule.total_steps * recipe.global_batch_size
    supply = end + (_SERVICE_BUFFER * workers if workers > 1 else 0)
    units, passed = [], 0  # (epoch, shard); records up to there
    for epoch in range(-(-supply // schedule.records)):
        for shard in np.random.default_rng([recipe.seed, epoch]).permutation(len(shards)):
            passed += shards[shard].records
            if start < passed < supply + shards[shard].records:
                units.append((epoch, shard))

    def read(unit):
        numbered = tf.data.TFRecordDataset(files[unit[1]]).enumerate()
        return numbered.map(lambda number, record: (unit, number, record))

    def example(unit, number, record):
        fold = tf.random.experimental.stateless_fold_in
        seed = fold(fold(_epoch_seed(recipe, unit[0]), unit[1]), number)
        return training_example(manifest, recipe, record, _draw(seed, 1, recipe)[0], size, teacher)

    stream = tf.data.Dataset.from_tensor_slices(tf.constant(units, tf.int64))
    stream = stream.interleave(read, min(READERS, len(shards)), num_parallel_calls=tf.data.AUTOTUNE)
    stream = stream.shuffle(_shuffle_buffer(manifest, recipe), seed=recipe.seed).map(
        example, num_parallel_calls=tf.data.AUTOTUNE
    )
    stream = stream.batch(_SERVICE_BATCH)
    dynamic = tf.data.experimental.service.ShardingPolicy.DYNAMIC
    stream = stream.apply(tf.data.experimental.service.distribute(dynamic, service, job_name=job))
    return stream.unbatch().take((end - start) // workers)


def training_example(
    manifest: Manifest,
    recipe: Recipe,
    record: tf.Tensor,
    draws: tf.Tensor,
    size: tf.Tensor | int,
    teacher: Teacher | None = None,
) -> tuple[tf.Tensor, ...]:
    """Returns (image, label), with a teacher also the crop at its size, or for `augment.mix` the random numbers."""
    cut = functools.partial(crop.preprocess_for_train, crop=recipe.crop, preprocessing=recipe.preprocessing)

    def crops(photograph):
        image = cut(photograph, draws[:5], size=size)
        if recipe.augments:
            image = augment.augment(image, draws[5:], recipe)
        if teacher is None:
            return (image,)
        # The same draws give the same crop.
        again = functools.partial(cut, photograph, draws[:5], size=teacher.image_size)
        return image, tf.cond(tf.equal(size, teacher.image_size), lambda: image, again)

    def usable():
        photograph, label = records.parse(record, manifest.decoded)
        return *crops(photograph), _checked_label(label, len(manifest.classes))

    def unusable():
        blanks = [size] if teacher is None else [size, teacher.image_size]
        return *(tf.zeros([side, side, 3], tf.uint8) for side in blanks), tf.constant(-1, tf.int64)

    image, *for_teacher, label = tf.cond(tf.equal(record, records.UNUSABLE), unusable, usable)
    return (image, label, draws[5:]) if recipe.mixes else (image, label, *for_teacher)


def _with_teacher(teacher: Teacher, manifest: Manifest) -> Callable[..., tuple[tf.Tensor, ...]]:
    """Returns a function for `map` that replaces the teacher's images by its probabilities of the data's classes.

    Raises:
        InputError: the teacher lacks some of these classes.
    """
    outputs = teacher.outputs_of(manifest.classes, manifest.folder)

    def predict(images: np.ndarray) -> np.ndarray:
        probabilities = teacher.predict(images)[:, outputs]
        return probabilities / np.maximum(probabilities.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)

    def replace(images, labels, for_teacher):
        probabilities = tf.numpy_function(predict, [for_teacher], tf.float32)
        return images, labels, tf.ensure_shape(probabilities, [None, len(outputs)])

    return replace


def teacher_error(error: Exception) -> str | None:
    """Returns the message of an InputError that a teacher raised inside TensorFlow, or None for any other error."""
    found = re.search(r"InputError: (.*?)\s*(?:Traceback \(most recent call last\)|\n|$)", str(error))
    return found[1] if found else None


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
    """Returns every record of a split once, in the order of the shards, in full batches.

    Args:
        multiple_of: pad with blank images until the number of batches is a multiple of this, so that each replica gets
            the same number of batches.

    Returns:
        (images uint8 (batch, size, size, 3), labels int64 (batch,), weights float32 (batch,)). The weight is 1 for a
        record, 0 for padding.
    """
    size = preprocessing.image_size
    padding = -manifest.records(split) % (batch_size * multiple_of)

    def example(record):
        return *evaluation_example(manifest, preprocessing, record), tf.constant(1.0)

    blank = (tf.zeros([size, size, 3], tf.uint8), tf.constant(0, tf.int64), tf.constant(0.0))
    # Padding comes before decoding, so that each worker decodes its own batches only.
    stream = stored(manifest, split).concatenate(tf.data.Dataset.from_tensors(records.UNUSABLE).repeat(padding))
    stream = stream.batch(batch_size, drop_remainder=True).shard(workers, worker).unbatch()
    stream = stream.map(
        lambda record: tf.cond(tf.equal(record, records.UNUSABLE), lambda: blank, lambda: example(record)),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    stream = stream.batch(batch_size, drop_remainder=True)
    return stream.prefetch(tf.data.AUTOTUNE).with_options(dataset_options())


def stored(manifest: Manifest, split: str) -> tf.data.Dataset:
    """Returns the stored records of a split, in the order of the shards."""
    files = tf.data.TFRecordDataset([str(shard.path) for shard in manifest.shards_of(split)])
    # TensorFlow raises no error if a file has too few or too many records. The score would be of other records.
    return files.apply(tf.data.experimental.assert_cardinality(manifest.records(split)))


def evaluation_example(
    manifest: Manifest, preprocessing: Preprocessing, record: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the image of a stored record, uint8 (size, size, 3), cropped as for evaluation, and its label, int64."""
    size = preprocessing.image_size
    photograph, label = records.parse(record, manifest.decoded)
    image = tf.ensure_shape(crop.preprocess_for_eval(photograph, preprocessing), [size, size, 3])
    return image, _checked_label(label, len(manifest.classes))


def _checked_label(label: tf.Tensor, classes: int) -> tf.Tensor:
    message = f"a label is outside 0..{classes - 1}, the manifest's classes; do the labels start at 1?"
    with tf.control_dependencies([tf.debugging.Assert((label >= 0) & (label < classes), [message, label])]):
        return tf.identity(label)


def dataset_options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    if startup.threads():  # otherwise TensorFlow starts a thread for each core of the machine
        options.autotune.cpu_budget = startup.threads()
    options.threading.max_intra_op_parallelism = 1  # the operations on one image are too small to divide
    # The datasets already contain this worker's part only. TensorFlow must not divide them again.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options


@contextlib.contextmanager
def naming_bad_records(manifest: Manifest, split: str) -> Iterator[None]:
    """Replaces TensorFlow's error by an error that names the corrupt record, while the block reads a dataset.

    Raises:
        InputError: a record of the split cannot be used.
    """
    try:
        yield
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        if not corruption.is_read_error(error):
            raise
        console.say(f"reading failed ({type(error).__name__}); looking for the record in {manifest.folder}")
        bad = corruption.find_first(manifest, split)
        if bad is not None:
            raise InputError(bad.message(manifest.folder)) from None
        if isinstance(error, tf.errors.FailedPreconditionError):  # of `assert_cardinality`; has both numbers
            raise InputError(f"{split} of {manifest.folder}: {corruption.first_line(error)} {VERIFY}") from None
        raise


def examples(
    manifest: Manifest, split: str, preprocessing: Preprocessing, count: int | None, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (images, labels) as NumPy arrays for the first `count` records of a split (None: all), unpadded.

    Raises:
        InputError: a record is corrupt. The error names the record.
    """
    wanted = manifest.records(split) if count is None else min(count, manifest.records(split))
    batches = evaluation_batches(manifest, split, preprocessing, batch_size=batch_size)
    with naming_bad_records(manifest, split):
        for images, labels, weights in itertools.islice(batches.as_numpy_iterator(), -(-wanted // batch_size)):
            kept = min(int(weights.sum()), wanted)
            wanted -= kept
            yield images[:kept], labels[:kept]
    if wanted:
        total = manifest.records(split)
        raise InputError(f"{total - wanted:,} of {total:,} records of {split} were read; {VERIFY}")
