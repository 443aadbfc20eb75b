from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from sqznet.core.errors import InputError
from sqznet.network import architecture, model
from sqznet.runs import checkpoint
from sqznet.train import class_weights, loop, start, strategy
from sqznet.train.run import Run
from tests.conftest import CLASSES, TINY

WEIGHTS = np.array([0.5, 1.0, 3.0], np.float32)
PLAIN = TINY.replace(precision="float32", dropout=0.0, weight_decay=0.0, label_smoothing=0.0, optimizer="sgd")


@pytest.mark.parametrize("kind", ["balanced", "effective"])
@pytest.mark.parametrize("seen", [(100, 10, 1), (1, 1, 1)], ids=["natural", "balanced"])
def test_the_mean_weight_of_a_record_is_1(kind, seen):
    weights = class_weights.of(kind, (100, 10, 1), seen)
    assert np.dot(weights, seen) / np.sum(seen) == pytest.approx(1)
    assert weights[0] < weights[1] < weights[2]


def test_balanced_weights_are_inverse_to_the_records():
    """n / (classes * records of the class), as of scikit-learn."""
    np.testing.assert_allclose(
        class_weights.of("balanced", (60, 30, 10), (60, 30, 10)), [100 / 180, 100 / 90, 100 / 30]
    )


def test_effective_weights_are_inverse_to_the_effective_number():
    weights = class_weights.of("effective", (5_000, 500, 10), (5_000, 500, 10))
    numbers = [(1 - 0.999**n) / 0.001 for n in (5_000, 500, 10)]
    np.testing.assert_allclose(weights / weights[0], numbers[0] / np.array(numbers), rtol=1e-6)
    assert weights[2] / weights[0] < 500  # balanced weights have this ratio


def test_a_class_without_records_has_weight_0_and_changes_no_other():
    weights = class_weights.of("balanced", (60, 0, 30), (60, 0, 30))
    np.testing.assert_allclose(weights, [90 / 120, 0, 90 / 60])


def test_no_weights_are_none():
    assert class_weights.of("none", (1, 2), (1, 2)) is None


def one_update(recipe, weights, batch) -> tuple[float, dict[str, np.ndarray], tf.Tensor]:
    """The loss of one update on a batch, the weights after it, and the logits before it."""
    one = strategy.create("one")
    with one.scope():
        keras.utils.set_random_seed(0)
        network = architecture.Network(3, arch="v1.1", image_size=32)
        net = model.build(network, channel_means=(120.0, 120.0, 120.0), dropout=0.0)
        optimizer = loop.make_optimizer(recipe)
        optimizer.build(net.trainable_variables)
    logits = net(batch[0], training=False)
    iterator = iter(one.experimental_distribute_dataset(tf.data.Dataset.from_tensors(batch).repeat()))
    steps = loop.make_train_steps(net, optimizer, recipe, one, class_weights=weights)
    sums = steps(iterator, tf.constant([0.01])).numpy()[0]
    return float(sums[0]), checkpoint.read(checkpoint.model_variables(net)), logits


def a_batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (8, 32, 32, 3), np.uint8), np.array([0, 1, 2, 2, 1, 0, 0, 2])


def test_the_loss_of_a_record_is_multiplied_by_the_weight_of_its_class():
    images, labels = a_batch()
    loss, _, logits = one_update(PLAIN.replace(label_smoothing=0.1), WEIGHTS, (images, labels))
    expected = WEIGHTS[labels] * loop.cross_entropy(labels, logits, 0.1)
    assert loss == pytest.approx(np.sum(expected), rel=1e-4)
    assert loss != pytest.approx(np.sum(loop.cross_entropy(labels, logits, 0.1)), rel=1e-2)


def test_a_mixed_image_has_the_weighted_losses_of_both_labels():
    images, labels = a_batch()
    neighbours, shares = labels[::-1].copy(), np.linspace(0.5, 1, 8, dtype=np.float32)
    loss, _, logits = one_update(PLAIN.replace(mixup=0.2), WEIGHTS, (images, labels, neighbours, shares))
    own, theirs = loop.cross_entropy(labels, logits), loop.cross_entropy(neighbours, logits)
    expected = shares * WEIGHTS[labels] * own + (1 - shares) * WEIGHTS[neighbours] * theirs
    assert loss == pytest.approx(np.sum(expected), rel=1e-4)


def test_the_distillation_loss_is_weighted_too():
    images, labels = a_batch()
    teacher = np.full((8, 3), 1 / 3, np.float32)
    loss, _, logits = one_update(PLAIN, WEIGHTS, (images, labels, teacher))
    distilled = loop.distillation(teacher, logits, PLAIN.distill_temperature)
    expected = WEIGHTS[labels] * (0.5 * loop.cross_entropy(labels, logits) + 0.5 * distilled)
    assert loss == pytest.approx(np.sum(expected), rel=1e-4)


def test_weights_of_1_change_nothing():
    _, plain, _ = one_update(PLAIN, None, a_batch())
    _, ones, _ = one_update(PLAIN, np.ones(3, np.float32), a_batch())
    assert all((plain[name] == ones[name]).all() for name in plain)


def test_a_run_prints_and_stores_what_it_does_to_each_class(shard_set, tmp_path, capsys):
    recipe = TINY.replace(
        total_steps=4, warmup_epochs=0.0, class_weights="effective", sampling="balanced", best="macro_f1"
    )
    start.train(shard_set, recipe, strategy_name="one", run_dir=tmp_path / "run", resume=False)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["weight_of_class"] == dict.fromkeys(CLASSES, pytest.approx(1))
    assert config["seen_per_epoch"] == {name: {"records": 40, "least": 1, "most": 1} for name in CLASSES}
    said = capsys.readouterr()
    assert "class_weights=effective, sampling=balanced" in said.out + said.err
    assert "both raise the small classes" in said.out + said.err
    assert "macro F1" in said.out


def test_a_plain_run_stores_nothing_of_it(trained_run):
    config = json.loads((trained_run / "config.json").read_text())
    assert "weight_of_class" not in config and "seen_per_epoch" not in config


def test_balanced_sampling_cannot_leave_records_out(shard_set, tmp_path):
    with pytest.raises(InputError, match="--sampling=balanced needs every record, and --max_bad_records=1"):
        Run(shard_set, TINY.replace(sampling="balanced"), strategy.create("one"), tmp_path, max_bad_records=1)
