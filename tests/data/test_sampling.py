from __future__ import annotations

import shutil
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from sqznet.core.errors import InputError
from sqznet.data import corruption, pipeline, sampling
from sqznet.recipes import schedule
from tests.conftest import CLASSES, TINY
from tests.conftest import UNEVEN as SIZES
from tests.data.test_pipeline import assert_same, batches, joined
from tests.train.test_bad_records import rewrite

BALANCED = TINY.replace(sampling="balanced", epochs=3)


def counts_of(per_class, epoch: int, seed: int = 0) -> list[np.ndarray]:
    """The counts of each class in an epoch."""
    counts = sampling.draw_counts(per_class, tf.constant(epoch, tf.int64), tf.constant([seed, epoch], tf.int64))
    return np.split(counts.numpy(), np.cumsum(per_class)[:-1])


@pytest.mark.parametrize("per_class", [(25, 10, 3), (50, 0, 7, 1, 22), (4, 4), (1, 1, 1), (1_000, 1)])
def test_an_epoch_has_each_class_equally_often_and_as_many_records_as_the_split(per_class):
    present = sum(size > 0 for size in per_class)
    for epoch in range(3):
        counts = counts_of(per_class, epoch)
        wanted = [each.sum() for each, size in zip(counts, per_class, strict=True) if size]
        assert sum(wanted) == sum(per_class)
        assert max(wanted) - min(wanted) == (sum(per_class) % present > 0)
        for each, (least, most) in zip(counts, sampling.range_of_counts(per_class), strict=True):
            assert all(least <= count <= most for count in each)
            assert len(each) == 0 or each.max() - each.min() <= 1


def test_over_the_epochs_the_remainder_goes_to_each_class_equally_often():
    totals = np.sum([[each.sum() for each in counts_of((25, 10, 3), epoch)] for epoch in range(3)], axis=0)
    assert totals.tolist() == [38, 38, 38]


def test_the_records_of_a_large_class_change_from_epoch_to_epoch():
    first, second = (counts_of((100, 5), epoch)[0] for epoch in (0, 1))
    assert (first != second).any()
    seen = np.sum([counts_of((100, 5), epoch)[0] for epoch in range(40)], axis=0)
    assert seen.min() > 10 and seen.max() < 32  # of 20.8 on average


def labels_by_epoch(uneven_set, recipe) -> list[np.ndarray]:
    plan = schedule.plan(recipe, uneven_set.records("train"))
    labels = np.concatenate([labels for _, labels in batches(uneven_set, recipe)])
    return [labels[epoch * plan.records : (epoch + 1) * plan.records] for epoch in range(recipe.epochs)]


def test_training_has_each_class_equally_often(uneven_set):
    for labels in labels_by_epoch(uneven_set, BALANCED):
        assert sorted(np.bincount(labels)) == [12, 13, 13]
    natural = labels_by_epoch(uneven_set, BALANCED.replace(sampling="natural"))
    assert [np.bincount(labels).tolist() for labels in natural] == [list(SIZES)] * 3


def test_each_photograph_is_seen_as_often_as_the_run_says(uneven_set):
    """Crops are of the whole photograph, mirrored or not, so each photograph can be identified."""
    recipe = BALANCED.replace(crop="window", epochs=1)
    seen: list[Counter[bytes]] = [Counter() for _ in CLASSES]
    for images, labels in batches(uneven_set, recipe.replace(global_batch_size=1)):
        for image, label in zip(images, labels, strict=True):
            seen[label][min(image.tobytes(), image[:, ::-1].tobytes())] += 1
    for counts, (least, most), size in zip(seen, sampling.range_of_counts(SIZES), SIZES, strict=True):
        assert all(max(least, 1) <= count <= most for count in counts.values())
        assert len(counts) == size if least else len(counts) <= most * 13


def test_copies_of_a_record_are_not_neighbours(uneven_set):
    labels = labels_by_epoch(uneven_set, BALANCED)[0]
    changes = (labels[1:] != labels[:-1]).sum()
    assert changes > 12  # 2 if nothing shuffled the copies of three classes; 25 by chance


@pytest.mark.parametrize("start_step", [1, 7])
def test_a_resumed_stream_continues_where_it_stopped(uneven_set, start_step):
    assert_same(batches(uneven_set, BALANCED, start_step=start_step), batches(uneven_set, BALANCED)[start_step:])


def test_the_order_does_not_depend_on_replicas_or_workers(uneven_set):
    whole, halves = batches(uneven_set, BALANCED), batches(uneven_set, BALANCED, replicas=2)
    assert_same(joined([halves[0::2], halves[1::2]]), whole)
    parts = [batches(uneven_set, BALANCED, replicas=2, worker=worker, workers=2) for worker in (0, 1)]
    assert_same(joined(parts), whole)


def test_a_small_shuffle_buffer_leaves_the_counts_equal(uneven_set, monkeypatch):
    monkeypatch.setattr(pipeline, "_shuffle_buffer", lambda *_: 4)
    assert sorted(np.bincount(labels_by_epoch(uneven_set, BALANCED)[0])) == [12, 13, 13]


def test_equal_classes_have_each_record_once(shard_set):
    labels = np.concatenate([labels for _, labels in batches(shard_set, BALANCED.replace(epochs=1))])
    assert np.bincount(labels).tolist() == [40, 40, 40]
    assert sampling.range_of_counts([40, 40, 40]) == [(1, 1)] * 3


def test_a_corrupt_record_is_named_with_balanced_sampling_too(uneven_set, tmp_path):
    from sqznet.data import manifest as manifests

    copied = manifests.load(shutil.copytree(uneven_set.folder, tmp_path / "copied"))
    shard = copied.shards_of("train")[1]
    rewrite(shard, 2, lambda record: record[:40])
    plan = schedule.plan(BALANCED, copied.records("train"))
    found = corruption.find_ahead(copied, pipeline.order(copied, plan)) or corruption.find_all(copied, "train")
    assert [(each.shard, each.record) for each in found] == [(shard.path.name, 2)]


def test_a_data_service_is_refused(uneven_set):
    with pytest.raises(InputError, match="--data_service does not support --sampling=balanced"):
        batches(uneven_set, BALANCED, service="grpc://localhost:1")
