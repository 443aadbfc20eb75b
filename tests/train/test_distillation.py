from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from sqznet.core.errors import InputError
from sqznet.data import pipeline
from sqznet.predict import inference
from sqznet.recipes import schedule
from sqznet.train import __main__ as train
from sqznet.train import loop, start
from tests.conftest import TINY


@pytest.fixture(scope="module")
def teachers(trained_run, bundle):
    """The same network as everything that evaluate takes."""
    return {"run": trained_run, **{name: bundle / name for name in ("savedmodel", "model.tflite", "model.onnx")}}


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_the_loss_is_the_scaled_divergence_at_the_temperature():
    rng = np.random.default_rng(0)
    teacher_logits, logits = rng.normal(0, 3, (2, 6, 4)).astype(np.float32)
    wanted, given = softmax(teacher_logits / 2.5), softmax(logits / 2.5)
    expected = 2.5**2 * (wanted * np.log(wanted / given)).sum(axis=1)
    got = loop.distillation(softmax(teacher_logits), logits, 2.5)
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    np.testing.assert_allclose(loop.distillation(softmax(logits), logits, 2.5), np.zeros(6), atol=1e-5)


def test_a_teacher_that_rules_a_class_out_gives_a_finite_loss():
    """An int8 teacher's probabilities are often 0."""
    got = loop.distillation(tf.constant([[1.0, 0.0, 0.0]]), tf.constant([[0.0, 5.0, 1.0]]), 1.0)
    assert np.isfinite(got).all() and got[0] > 1


@pytest.mark.parametrize("kind", ["run", "savedmodel", "model.tflite", "model.onnx"])
def test_the_teacher_sees_the_same_crops(teachers, shard_set, kind):
    teacher = inference.load(teachers[kind])
    plan = schedule.plan(TINY, shard_set.records("train"))
    batches = pipeline.training_batches(shard_set, plan, replicas=1, teacher=teacher)
    for images, _, probabilities in batches.take(3).as_numpy_iterator():
        # Its size is the student's here, so that what it saw is the batch itself.
        np.testing.assert_allclose(probabilities, inference.load(teachers["run"]).predict(images), atol=1e-4)


@dataclasses.dataclass
class Colours:
    """A teacher whose answer is how much red, green and blue it saw."""

    image_size: int
    batch: int | None = None
    classes: int = 3

    def __call__(self, images: np.ndarray) -> np.ndarray:
        seen = images.mean(axis=(1, 2), dtype=np.float32)
        return seen / seen.sum(axis=1, keepdims=True)


def test_a_student_of_another_size_gets_the_same_crops_scaled(teachers, shard_set):
    plan = schedule.plan(TINY.replace(image_size=64, resize_to=64), shard_set.records("train"))
    teacher = dataclasses.replace(inference.load(teachers["run"]), runtime=Colours(32))
    images, _, probabilities = next(
        pipeline.training_batches(shard_set, plan, replicas=1, teacher=teacher).as_numpy_iterator()
    )
    assert images.shape[1:] == (64, 64, 3)
    expected = Colours(64)(images)
    difference = np.abs(probabilities - expected).mean()
    assert difference < np.abs(probabilities - np.roll(expected, 1, axis=0)).mean() / 10  # another photograph
    half = Colours(64)(images[:, :, :32])
    assert difference < np.abs(probabilities - half).mean() / 5  # another crop


@pytest.mark.parametrize("kind", ["run", "model.tflite"])
@pytest.mark.slow
def test_a_student_comes_closer_to_its_teacher(teachers, shard_set, tmp_path, kind, capsys):
    """On two replicas: test_finetune, in a process of its own."""
    recipe = TINY.replace(epochs=3, distill_weight=1.0, distill_temperature=2.0, dropout=0.0, seed=1)
    options = {"strategy_name": "one", "replicas": None, "run_dir": tmp_path / "run", "resume": False}
    start.train(shard_set, recipe, teacher=teachers[kind], **options)
    lines = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    losses = [float(line.split(",")[3]) for line in lines[1:]]
    assert losses[-1] < losses[0]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["teacher"] == str(teachers[kind])
    assert "teacher" in capsys.readouterr().err


def test_a_teacher_of_other_classes_is_refused(teachers, shard_set):
    other = dataclasses.replace(shard_set, classes=("ball", "house", "moon"))
    plan = schedule.plan(TINY, shard_set.records("train"))
    with pytest.raises(InputError, match="the model has no class 'moon'"):
        pipeline.training_batches(other, plan, replicas=1, teacher=inference.load(teachers["run"]))


def test_a_wrong_teacher_leaves_no_run_behind(teachers, shard_set, tmp_path):
    other = dataclasses.replace(shard_set, classes=("ball", "house", "moon"))
    options = {"strategy_name": "one", "replicas": None, "run_dir": tmp_path / "run", "resume": False}
    with pytest.raises(InputError, match="the model has no class 'moon'"):
        start.train(other, TINY, teacher=teachers["run"], **options)
    assert not (tmp_path / "run").exists()


def test_a_temperature_without_a_teacher_is_refused(shard_set):
    with pytest.raises(InputError, match="--distill_temperature needs a teacher"):
        train.main([f"--data={shard_set.folder}", "--distill_temperature=2"])


def test_a_teacher_may_know_more_classes(teachers, shard_set):
    """Its probabilities of the data's classes are scaled to add up to 1."""
    fewer = dataclasses.replace(shard_set, classes=("star", "house"), shards=shard_set.shards)
    ask = pipeline._with_teacher(inference.load(teachers["run"]), fewer)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    _, _, probabilities = ask(tf.zeros([4]), tf.zeros([4]), tf.constant(images))
    whole = inference.load(teachers["run"]).predict(images)[:, [2, 1]]
    np.testing.assert_allclose(probabilities, whole / whole.sum(axis=1, keepdims=True), rtol=1e-5)
