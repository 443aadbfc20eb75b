"""Datasets for other training loops."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from sqznet.core.errors import InputError
from sqznet.data import datasets, pipeline
from tests.conftest import TINY


def labels_of(dataset) -> np.ndarray:
    return np.concatenate([labels.numpy() for _, labels in dataset])


def test_an_epoch_has_every_record_once_and_each_iteration_another_order(shard_set):
    epoch = datasets.training_epoch(shard_set, TINY)
    first, second = labels_of(epoch), labels_of(epoch)
    assert len(epoch) == 15 and epoch.element_spec[0].shape == (8, 32, 32, 3)
    assert np.bincount(first).tolist() == np.bincount(second).tolist() == [40, 40, 40]
    assert first.tolist() != second.tolist()


def test_the_seed_decides_the_order_and_the_crops(shard_set):
    def images(seed: int) -> np.ndarray:
        return next(iter(datasets.training_epoch(shard_set, TINY.replace(seed=seed))))[0].numpy()

    np.testing.assert_array_equal(images(1), images(1))
    assert (images(1) != images(2)).any()


def test_a_global_seed_of_the_caller_is_accepted_and_kept(shard_set):
    try:
        tf.random.set_seed(7)
        before = tf.random.uniform([3])
        tf.random.set_seed(7)
        assert np.bincount(labels_of(datasets.training_epoch(shard_set, TINY))).tolist() == [40, 40, 40]
        np.testing.assert_array_equal(tf.random.uniform([3]), before)
    finally:
        tf.random.set_seed(None)


def test_records_that_do_not_fill_a_batch_are_left_out(shard_set):
    assert len(labels_of(datasets.training_epoch(shard_set, TINY.replace(global_batch_size=50)))) == 100
    with pytest.raises(InputError, match="the training split has 120 records, fewer than one global batch of 128"):
        datasets.training_epoch(shard_set, TINY.replace(global_batch_size=128))


def test_mixed_images_have_probabilities_as_labels(shard_set):
    images, targets = next(iter(datasets.training_epoch(shard_set, TINY.replace(mixup=0.4, cutmix=0.4))))
    assert images.dtype == "uint8" and targets.shape == (8, 3)
    np.testing.assert_allclose(targets.numpy().sum(axis=1), 1, atol=1e-6)
    assert (targets.numpy().max(axis=1) < 1).any()


def test_other_splits_come_in_order_without_padding(shard_set):
    found = list(datasets.in_order(shard_set, "val", TINY.preprocessing, 8))
    assert [len(labels) for _, labels in found] == [8, 8, 8, 8, 1]
    expected = list(pipeline.examples(shard_set, "val", TINY.preprocessing, None, 8))
    for (images, labels), (same_images, same_labels) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(images.numpy(), same_images)
        np.testing.assert_array_equal(labels.numpy(), same_labels)
