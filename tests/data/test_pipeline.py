from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from sqznet.data import pipeline
from sqznet.recipes import schedule
from tests.conftest import TINY

STEPS = 15  # an epoch of 120 records in batches of 8


def batches(shard_set, recipe=TINY, **options) -> list[tuple[np.ndarray, np.ndarray]]:
    plan = schedule.plan(recipe, shard_set.records("train"))
    dataset = pipeline.training_batches(shard_set, plan, **{"replicas": 1, **options})
    return list(dataset.as_numpy_iterator())


def assert_same(first, second) -> None:
    assert len(first) == len(second)
    for (images, labels), (other_images, other_labels) in zip(first, second, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)


def joined(parts) -> list[tuple[np.ndarray, np.ndarray]]:
    """Joins the batches of the replicas to global batches."""
    return [
        tuple(np.concatenate(each) for each in zip(*replicas, strict=True)) for replicas in zip(*parts, strict=True)
    ]


def test_an_epoch_has_every_record_once(shard_set):
    epochs = batches(shard_set)
    assert len(epochs) == TINY.epochs * STEPS
    for epoch in range(TINY.epochs):
        labels = np.concatenate([labels for _, labels in epochs[epoch * STEPS : (epoch + 1) * STEPS]])
        assert np.bincount(labels).tolist() == [40, 40, 40]


def test_an_epoch_contains_each_photograph_once(shard_set):
    """Crops are of the whole photograph, mirrored or not, so each photograph can be identified."""
    whole = TINY.replace(crop="window", epochs=1)
    seen = {
        min(image.tobytes(), image[:, ::-1].tobytes()) for images, _ in batches(shard_set, whole) for image in images
    }
    assert len(seen) == 120


def test_batches_are_uint8_of_the_recipes_size(shard_set):
    images, labels = batches(shard_set)[0]
    assert (images.dtype, images.shape) == (np.uint8, (8, 32, 32, 3))
    assert (labels.dtype, labels.shape) == (np.int64, (8,))


def test_the_same_seed_gives_the_same_batches_and_another_does_not(shard_set):
    first = batches(shard_set)
    assert_same(first, batches(shard_set))
    other = batches(shard_set, TINY.replace(seed=1))
    assert any((labels != other_labels).any() for (_, labels), (_, other_labels) in zip(first, other, strict=True))


def test_the_shuffle_buffer_is_bounded_in_bytes(shard_set):
    large = [dataclasses.replace(shard, bytes=shard.records * 2**20) for shard in shard_set.shards]
    photographs_of_a_mib = dataclasses.replace(shard_set, shards=tuple(large))
    assert pipeline._shuffle_buffer(photographs_of_a_mib, TINY.replace(shuffle_mib=5)) == 5
    assert pipeline._shuffle_buffer(photographs_of_a_mib, TINY.replace(shuffle_mib=1000)) == 120
    assert_same(batches(shard_set), batches(shard_set, TINY.replace(shuffle_mib=1000)))


def test_epochs_differ_in_order(shard_set):
    epochs = batches(shard_set)
    first, second = (np.concatenate([labels for _, labels in epochs[i * STEPS : (i + 1) * STEPS]]) for i in (0, 1))
    assert (first != second).any()


@pytest.mark.parametrize("start_step", [1, 7, STEPS, STEPS + 4])
def test_a_resumed_stream_continues_where_it_stopped(shard_set, start_step):
    assert_same(batches(shard_set, start_step=start_step), batches(shard_set)[start_step:])


def test_two_replicas_share_the_global_batch_of_one(shard_set):
    halves = batches(shard_set, replicas=2)
    assert_same(joined([halves[0::2], halves[1::2]]), batches(shard_set))


def test_two_workers_share_the_global_batch_of_one(shard_set):
    parts = [batches(shard_set, replicas=2, worker=worker, workers=2) for worker in (0, 1)]
    assert_same(joined(parts), batches(shard_set))


def test_image_sizes_follow_the_recipe(shard_set):
    growing = TINY.replace(train_sizes=((0, 24), (2, 40)))
    sides = [images.shape[1] for images, _ in batches(shard_set, growing)]
    assert sides == [24] * 2 * STEPS + [40] * STEPS


@pytest.mark.parametrize(("batch_size", "multiple_of"), [(8, 1), (10, 2), (33, 1), (64, 1)])
def test_evaluation_has_every_record_once_in_full_batches(shard_set, batch_size, multiple_of):
    dataset = pipeline.evaluation_batches(
        shard_set, "val", TINY.preprocessing, batch_size=batch_size, multiple_of=multiple_of
    )
    got = list(dataset.as_numpy_iterator())
    assert len(got) % multiple_of == 0
    assert all(len(images) == batch_size for images, _, _ in got)
    labels = np.concatenate([labels[weights == 1] for _, labels, weights in got])
    assert np.bincount(labels).tolist() == [11, 11, 11]
    assert sum(weights.sum() for _, _, weights in got) == 33


@pytest.mark.parametrize(("count", "expected"), [(None, 33), (20, 20), (1, 1), (100, 33)])
def test_examples_are_the_first_records_unpadded(shard_set, count, expected):
    got = list(pipeline.examples(shard_set, "val", TINY.preprocessing, count, 8))
    assert sum(len(labels) for _, labels in got) == sum(len(images) for images, _ in got) == expected


def test_a_label_outside_the_classes_is_named(shard_set):
    two_classes = dataclasses.replace(shard_set, classes=shard_set.classes[:2])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"a label is outside 0\.\.1"):
        batches(two_classes)
