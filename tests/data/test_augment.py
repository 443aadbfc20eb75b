from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from sqznet.core.errors import InputError
from sqznet.data import augment, pipeline
from sqznet.recipes import schedule
from tests.conftest import TINY

SEED = tf.constant([1, 2], tf.int64)
MIXED = TINY.replace(mixup=0.4, cutmix=1.0)
ALL = MIXED.replace(jitter=0.4, erasing=0.5)


def photograph(size: int = 24) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)


def test_the_same_seed_gives_the_same_draws_and_another_does_not():
    first = augment.draw(SEED, 50, ALL).numpy()
    np.testing.assert_array_equal(first, augment.draw(SEED, 50, ALL).numpy())
    assert (first != augment.draw(SEED + 1, 50, ALL).numpy()).mean() > 0.9
    assert first.shape == (50, 16) and (first >= 0).all() and (first <= 1).all()


@pytest.mark.parametrize("recipe", [TINY.replace(jitter=0.4), TINY.replace(erasing=1.0)], ids=["jitter", "erasing"])
def test_an_augmented_crop_keeps_type_range_and_shape(recipe):
    image = photograph()
    for draws in augment.draw(SEED, 20, recipe):
        made = augment.augment(tf.constant(image), draws, recipe).numpy()
        assert (made.dtype, made.shape) == (np.uint8, image.shape)
        assert (made != image).any()
        np.testing.assert_array_equal(made, augment.augment(tf.constant(image), draws, recipe).numpy())


def test_a_recipe_without_augmentation_leaves_a_crop_as_it_is():
    (draws,) = augment.draw(SEED, 1, TINY)
    np.testing.assert_array_equal(augment.augment(tf.constant(photograph()), draws, TINY), photograph())
    assert not TINY.augments and not TINY.mixes


def test_jitter_scales_the_colours_by_its_strength_and_not_at_the_middle():
    image = np.clip(photograph(), 60, 150)
    assert (augment.jitter(tf.constant(image), tf.constant([0.5, 0.5, 0.5]), 0.4).numpy() == image).all()
    grey = image.astype(float) @ [0.299, 0.587, 0.114]

    def jittered(*draws: float) -> np.ndarray:
        return augment.jitter(tf.constant(image), tf.constant(draws), 0.4).numpy().astype(float)

    assert np.abs(jittered(1, 0.5, 0.5) - 1.4 * image).max() < 0.51
    assert np.abs(jittered(0.5, 0, 0.5) - (grey.mean() + 0.6 * (image - grey.mean()))).max() < 0.51
    assert np.abs(jittered(0.5, 0.5, 1) - (grey[..., None] + 1.4 * (image - grey[..., None])).clip(0, 255)).max() < 0.51


def test_erasing_fills_one_rectangle_with_the_given_probability():
    recipe, image = TINY.replace(erasing=0.3), photograph(40)
    image[..., 0] |= 1  # so that no pixel is of the mean colour
    image[..., 0][image[..., 0] == round(image[..., 0].mean())] += 2
    erased = 0
    for draws in augment.draw(SEED, 300, recipe):
        changed = (augment.augment(tf.constant(image), draws, recipe).numpy() != image).any(axis=-1)
        if changed.any():
            erased += 1
            rows, columns = np.nonzero(changed)
            box = changed[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert box.all() and 0.01 < box.size / changed.size < 0.36
    assert 60 < erased < 120


@pytest.mark.parametrize("mode", ["mixup", "cutmix"])
def test_labels_are_mixed_as_the_pixels_are(mode):
    recipe = TINY.replace(**{mode: 1.0})
    values = np.array([0, 100, 200, 40, 0, 255], np.uint8)
    images = np.broadcast_to(values[:, None, None, None], (6, 20, 20, 3))
    labels = np.array([4, 5, 6, 7, 8, 9])
    seen = []
    for start in range(20):
        draws = augment.draw(SEED + start, 6, recipe)
        mixed, own, others, shares = (each.numpy() for each in augment.mix(images, tf.constant(labels), draws))
        assert mixed.dtype == np.uint8 and own.tolist() == labels.tolist()
        assert others.tolist() == [5, 4, 7, 6, 9, 8]
        assert (shares >= 0).all() and (shares <= 1).all()
        theirs = values[[1, 0, 3, 2, 5, 4]].astype(float)
        expected = shares * values + (1 - shares) * theirs
        assert np.abs(mixed.mean(axis=(1, 2, 3)) - expected).max() < 0.51
        two = [set(np.unique(each)) <= {a, int(b)} for each, a, b in zip(mixed, values, theirs, strict=True)]
        assert all(two) if mode == "cutmix" else not all(two)
        seen += shares.tolist()
    assert 0.4 < np.mean(seen) < 0.6 and np.std(seen) > 0.2  # Beta(1, 1) is uniform


def test_small_alphas_give_mostly_shares_near_0_and_1():
    shares = augment.draw(SEED, 2000, TINY.replace(mixup=0.2)).numpy()[:, 8]
    assert 0.45 < np.mean(shares > 0.5) < 0.55
    assert np.mean(np.minimum(shares, 1 - shares) < 0.1) > 0.5


def test_mixup_and_cutmix_together_are_each_applied_to_half_of_the_images():
    cuts = augment.draw(SEED, 1000, MIXED).numpy()[:, 9]
    assert set(np.unique(cuts)) == {0, 1} and 0.45 < cuts.mean() < 0.55


def test_corrupt_records_are_not_mixed():
    images = np.stack([np.full((8, 8, 3), 90, np.uint8), np.zeros((8, 8, 3), np.uint8)])
    mixed, _, _, shares = augment.mix(images, tf.constant([3, -1], tf.int64), augment.draw(SEED, 2, MIXED))
    np.testing.assert_array_equal(mixed, images)
    assert shares.numpy().tolist() == [1, 1]


def test_the_number_of_replicas_and_workers_does_not_change_mixed_images(shard_set):
    plan = schedule.plan(ALL.replace(epochs=1), shard_set.records("train"))

    def batches(**options):
        return list(pipeline.training_batches(shard_set, plan, **options).as_numpy_iterator())

    whole, halves, later = batches(replicas=1), batches(replicas=2), batches(replicas=1, start_step=4)
    assert len(whole[0]) == 4 and whole[0][0].dtype == np.uint8
    joined = [[np.concatenate(each) for each in zip(*halves[i : i + 2], strict=True)] for i in range(0, len(halves), 2)]
    for expected, got in (*zip(whole, joined, strict=True), *zip(whole[4:], later, strict=True)):
        for a, b in zip(expected, got, strict=True):
            np.testing.assert_array_equal(a, b)
    plain = schedule.plan(TINY.replace(epochs=1), shard_set.records("train"))
    unmixed = list(pipeline.training_batches(shard_set, plain, replicas=1).as_numpy_iterator())
    assert all((a[1] == b[1]).all() for a, b in zip(whole, unmixed, strict=True))  # the same order
    assert all((a[0] != b[0]).any() for a, b in zip(whole, unmixed, strict=True))


def test_mixing_needs_an_even_number_of_images_in_each_replica(shard_set):
    plan = schedule.plan(MIXED, shard_set.records("train"))
    odd = dataclasses.replace(plan, recipe=MIXED.replace(global_batch_size=10))
    with pytest.raises(InputError, match="each replica's share of the batch is 5: choose .* multiple of 4"):
        pipeline.training_batches(shard_set, odd, replicas=2)
