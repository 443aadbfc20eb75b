"""What a recipe may add to plain SGD: each is wrong or off if its test fails."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from sqznet import recipes
from sqznet.core.errors import InputError
from sqznet.predict import inference
from sqznet.runs import checkpoint
from sqznet.train import loop, start, strategy
from sqznet.train.run import Run
from tests.conftest import TINY

SHORT = TINY.replace(total_steps=6, dropout=0.0, batch_norm=False, learning_rate=1e-3, warmup_epochs=0.0)


def stepped(shard_set, recipe, run_dir, steps: int) -> list[dict[str, np.ndarray]]:
    """The variables of a run before its first step and after each."""
    run = Run(shard_set, recipe.replace(steps_per_call=1), strategy.create("one"), run_dir)
    seen = [checkpoint.read(run.variables)]
    run_batches = run.strategy.distribute_datasets_from_function(lambda _: _batches(run))
    iterator = iter(run_batches)
    for step in range(steps):
        run._train_call(iterator, range(step, step + 1))
        seen.append(checkpoint.read(run.variables))
    return seen


def _batches(run):
    from sqznet.data import pipeline

    return pipeline.training_batches(run.manifest, run.schedule, replicas=1)


def test_the_average_of_weights_is_its_closed_form(shard_set, tmp_path):
    kept = 0.15  # soon above (1 + steps) / (10 + steps), which holds at first
    seen = stepped(shard_set, SHORT.replace(ema=kept), tmp_path / "run", 4)
    names = [name for name in seen[0] if name.startswith("model/") and seen[0][name].dtype == np.float32]
    assert len(names) > 40
    for name in names:
        mean = seen[0]["averaged/" + name.removeprefix("model/")].astype(np.float64)
        for steps, after in enumerate(seen[1:], start=1):
            share = min(kept, (1 + steps) / (10 + steps))
            mean = share * mean + (1 - share) * after[name]
            np.testing.assert_allclose(after["averaged/" + name.removeprefix("model/")], mean, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_the_averaged_weights_are_what_is_evaluated_kept_and_resumed(shard_set, tmp_path):
    recipe = TINY.replace(ema=0.9, epochs=2)
    start.train(shard_set, recipe, strategy_name="one", replicas=None, run_dir=tmp_path / "run", resume=False)
    _, arrays, _ = checkpoint.load_last(tmp_path / "run")
    best, _ = inference.load_keras(tmp_path / "run")
    kernel = next(each for each in best.get_layer("conv10").variables if each.name == "kernel")
    last = json.loads((tmp_path / "run" / "config.json").read_text())["recipe"]
    assert last["ema"] == 0.9
    kept = [np.abs(np.asarray(kernel) - arrays[f"{which}/conv10/kernel"]).max() for which in ("averaged", "model")]
    assert kept[0] < kept[1]
    run = Run(shard_set, recipe, strategy.create("one"), tmp_path / "run")
    run.resume()
    np.testing.assert_array_equal(run.averaged.get_layer("conv10").variables[0], arrays["averaged/conv10/kernel"])


def test_a_gradient_is_scaled_to_the_longest_and_shorter_ones_are_left():
    gradients = [tf.constant([3.0, 0.0]), tf.constant([[4.0]])]
    one = strategy.create("one")

    def clipped(longest: float, scale: float = 1.0) -> list[np.ndarray]:
        made = one.run(lambda: loop.clip(gradients, longest, scale))
        return [each.numpy() for each in made]

    assert [each.tolist() for each in clipped(10.0)] == [[3, 0], [[4]]]
    np.testing.assert_allclose(np.concatenate([each.ravel() for each in clipped(1.0)]), [0.6, 0, 0.8], rtol=1e-6)
    # Of a scaled loss the gradients are as much longer, and stay so.
    np.testing.assert_allclose(clipped(1.0, 2.5)[1], [[2.0]], rtol=1e-6)


def test_clipping_bounds_a_step(shard_set, tmp_path):
    longest = 1e-3
    recipe = SHORT.replace(gradient_clip=longest, momentum=0.0, learning_rate=1.0, optimizer="sgd")
    before, after = stepped(shard_set, recipe, tmp_path / "run", 1)
    moved = [after[name] - before[name] for name in before if name.startswith("model/") and "seed" not in name]
    assert np.sqrt(sum((each.astype(np.float64) ** 2).sum() for each in moved)) == pytest.approx(longest, rel=1e-3)


@pytest.mark.slow
def test_adamw_decays_kernels_apart_from_the_loss_and_nothing_else(shard_set, tmp_path):
    changes = {}
    for decay in (0.0, 0.1):
        recipe = TINY.replace(optimizer="adamw", weight_decay=decay, learning_rate=1e-3, dropout=0.0, warmup_epochs=0.0)
        changes[decay] = stepped(shard_set, recipe, tmp_path / str(decay), 1)
    for name, start_value in changes[0.0][0].items():
        if not name.startswith("model/") or "seed" in name:
            continue
        difference = changes[0.1][1][name] - changes[0.0][1][name]
        expected = -0.1 * 1e-3 * start_value if name.endswith("/kernel") else 0 * start_value
        np.testing.assert_allclose(difference, expected, atol=2e-6, err_msg=name)


@pytest.mark.slow
def test_mixed_labels_are_in_the_loss(shard_set, tmp_path):
    """With an image's own share of 1 it is plain cross-entropy; the fractions of both labels sum to 1."""
    logits = tf.constant([[2.0, -1.0, 0.5]])
    own, other = (loop.cross_entropy(tf.constant([label]), logits, 0.1) for label in (0, 2))
    targets = 0.3 * tf.one_hot([0], 3) + 0.7 * tf.one_hot([2], 3)
    smoothed = targets * 0.9 + 0.1 / 3
    assert tf.reduce_sum(smoothed).numpy() == pytest.approx(1)
    expected = tf.nn.softmax_cross_entropy_with_logits(smoothed, logits)
    np.testing.assert_allclose(0.3 * own + 0.7 * other, expected, rtol=1e-6)
    losses = {}
    for alpha in (0.0, 1.0):
        recipe = SHORT.replace(mixup=alpha, epochs=1, total_steps=None)
        start.train(shard_set, recipe, strategy_name="one", replicas=None, run_dir=tmp_path / str(alpha), resume=False)
        losses[alpha] = (tmp_path / str(alpha) / "metrics.csv").read_text()
    assert losses[0.0] != losses[1.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ema": 1.0}, "ema is 1.0; it must be at least 0 and below 1"),
        ({"jitter": -0.1}, "jitter is -0.1"),
        ({"erasing": 1.5}, "erasing is 1.5; it must be 0 to 1"),
        ({"mixup": -1.0}, "mixup is -1.0; it must be 0 or more"),
        ({"gradient_clip": -1.0}, "gradient_clip is -1.0"),
        ({"optimizer": "adamw", "layer_decay": 0.5}, "layer_decay goes with sgd and nesterov"),
    ],
)
def test_values_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        recipes.ARTICLE.replace(**changes)


def test_the_article_has_none_of_them():
    article = recipes.ARTICLE
    assert not article.augments and not article.ema and not article.gradient_clip and article.optimizer == "sgd"
