from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from sqznet import recipes
from sqznet.core import metrics
from sqznet.core.errors import InputError, Stopped
from sqznet.data import manifest
from sqznet.predict import inference
from sqznet.runs import checkpoint, history, run_folder
from sqznet.train import __main__ as train
from sqznet.train import loop, settings, start, strategy
from sqznet.train.run import Run
from sqznet.train.state import METRIC_COLUMNS
from tests.conftest import CLASSES, TINY
from tests.data.test_build import flip_a_bit

NEW_FIELDS = ("class_weights", "sampling", "patience", "best")  # of recipes, since the first release


def test_a_run_folder_holds_what_it_promises(trained_run, shard_set):
    names = {path.name for path in trained_run.iterdir()}
    assert {
        "config.json",
        "metrics.csv",
        "best.keras",
        "checkpoints",
        "curve.png",
        "timings.csv",
        "logs",
        "events",
    } <= names
    assert not [name for name in names if name.startswith(".tmp-")]
    with (trained_run / "metrics.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == list(METRIC_COLUMNS)
    assert [line["epoch"] for line in lines] == ["1", "2", "3"]
    assert float(lines[-1]["train_loss"]) < float(lines[0]["train_loss"])
    assert any(path.name.startswith("events.out.tfevents") for path in (trained_run / "events").iterdir())
    config = json.loads((trained_run / "config.json").read_text())
    assert config["classes"] == list(CLASSES)
    assert config["data"] == str(shard_set.folder)


def test_the_config_is_a_recipe_that_repeats_the_run(trained_run):
    assert recipes.load(str(trained_run / "config.json")) == TINY


def test_the_best_model_scores_what_the_run_said(trained_run, shard_set):
    from sqznet.evaluate import scoring

    with (trained_run / "metrics.csv").open() as file:
        best = max(float(line["val_top1"]) for line in csv.DictReader(file))
    assert scoring.evaluate(inference.load(trained_run), shard_set, "val").top1 == pytest.approx(best)


def fresh_run(shard_set, run_dir, **changes) -> Run:
    run_dir.mkdir(exist_ok=True)
    return Run(shard_set, TINY.replace(**{"epochs": 2, **changes}), strategy.create("one"), run_dir)


@pytest.fixture(scope="module")
def whole(shard_set, tmp_path_factory) -> Run:
    """A run that was not stopped."""
    made = fresh_run(shard_set, tmp_path_factory.mktemp("whole"))
    made.train()
    return made


@pytest.mark.parametrize(
    "stop_after",
    [
        pytest.param(8, id="within-an-epoch"),
        pytest.param(15, id="at-its-end", marks=pytest.mark.slow),
        pytest.param(30, id="at-the-last-step", marks=pytest.mark.slow),
    ],
)
def test_a_run_stopped_and_resumed_ends_like_one_that_was_not(whole, shard_set, tmp_path, stop_after):
    stopped = fresh_run(shard_set, tmp_path / "stopped")
    real_call = stopped._train_call

    def call_and_stop(iterator, steps):
        real_call(iterator, steps)
        if steps.stop == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped._train_call = call_and_stop
    with pytest.raises(Stopped, match="SIGTERM"):
        stopped.train()
    assert stopped.state.step == stop_after  # of 15 in an epoch

    resumed = fresh_run(shard_set, tmp_path / "stopped")
    resumed.resume()
    resumed.train()
    assert int(resumed.counter.numpy()) == resumed.state.step  # by which the bar moves
    expected = checkpoint.read(whole.variables)
    for name, array in checkpoint.read(resumed.variables).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    assert (tmp_path / "stopped" / "metrics.csv").read_text() == (whole.run_dir / "metrics.csv").read_text()


def test_a_run_of_another_architecture_is_not_resumed(shard_set, tmp_path):
    fresh_run(shard_set, tmp_path / "run").save()
    other = fresh_run(shard_set, tmp_path / "run", arch="v1.0", image_size=48, resize_to=48)
    with pytest.raises(InputError, match=r"of another architecture: model/conv1/kernel is \(3, 3, 3, 64\) there and"):
        other.resume()
    other = fresh_run(shard_set, tmp_path / "run", batch_norm=False)
    with pytest.raises(InputError, match="of another architecture: it has no model/conv1/bias"):
        other.resume()


def test_flags_that_contradict_a_resumed_run_are_refused(trained_run):
    with pytest.raises(InputError, match=r"was trained with --arch=v1.1, not v1.0: a resumed run keeps its recipe"):
        train.main(["--resume", f"--run_dir={trained_run}", "--arch=v1.0"])


@pytest.mark.slow
def test_resuming_a_finished_run_changes_nothing(shard_set, tmp_path):
    finished = fresh_run(shard_set, tmp_path / "run", total_steps=20)  # which is not a whole number of epochs
    finished.train()
    resumed = fresh_run(shard_set, tmp_path / "run", total_steps=20)
    resumed.resume()
    resumed.train()
    assert resumed.state == finished.state


def test_a_run_is_not_resumed_on_other_data(trained_run, shard_set):
    other = dataclasses.replace(shard_set, channel_means=(1.0, 2.0, 3.0))
    with pytest.raises(InputError, match="was trained on other data than .*: data_channel_means was"):
        start.train(other, TINY, strategy_name="one", replicas=None, run_dir=trained_run, resume=True)


def test_the_same_command_with_resume_added_will_do(trained_run, tmp_path):
    """Fields that follow from a flag (resize_to from image_size) are no contradiction."""
    recipe = settings.override(recipes.IMAGENETTE, {"image_size": 96})
    config = json.loads((trained_run / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "recipe": recipe.to_dict()}))
    args = train.make_parser().parse_args(["--resume", f"--run_dir={tmp_path}", "--recipe=imagenette"])
    assert settings.resumed(args, {"image_size": 96}).recipe == recipe


STALLED = TINY.replace(epochs=6, patience=2, learning_rate=1e-9, warmup_epochs=0.0, batch_norm=False)


def test_a_run_ends_early_when_val_gets_no_better_and_stays_ended(shard_set, tmp_path, capsys):
    def train_on(resume):
        return start.train(shard_set, STALLED, strategy_name="one", run_dir=tmp_path / "run", resume=resume)

    ended = train_on(resume=False)
    said = "ended early, after epoch 3 of 6: no better val top-1 in 2 epochs (patience=2)"
    assert said in capsys.readouterr().out
    assert (len(ended.history), ended.state.step) == (3, 45)
    assert train_on(resume=True).state == ended.state
    assert said in capsys.readouterr().out
    assert history.read(tmp_path / "run").state == "ended early"


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"sampling": "balanced", "class_weights": "effective"},
        {"patience": 2, "epochs": 6, "learning_rate": 1e-9, "batch_norm": False},
    ],
    ids=["balanced", "patience"],
)
def test_a_stopped_run_counts_on_with_sampling_and_patience(shard_set, tmp_path, changes):
    def made(name):
        return fresh_run(shard_set, tmp_path / name, **changes)

    uninterrupted, stopped = made("whole"), made("stopped")
    uninterrupted.train()
    real_call = stopped._train_call

    def call_and_stop(iterator, steps):
        real_call(iterator, steps)
        if steps.stop == 23:  # in the second epoch
            os.kill(os.getpid(), signal.SIGTERM)

    stopped._train_call = call_and_stop
    with pytest.raises(Stopped):
        stopped.train()
    resumed = made("stopped")
    resumed.resume()
    resumed.train()
    expected = checkpoint.read(uninterrupted.variables)
    for name, array in checkpoint.read(resumed.variables).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    assert resumed.stopped_early == uninterrupted.stopped_early == ("patience" in changes)
    assert (tmp_path / "stopped" / "metrics.csv").read_text() == (tmp_path / "whole" / "metrics.csv").read_text()


def test_an_evaluation_counts_hits_records_and_predictions_of_each_class():
    logits = tf.constant([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 3.0, 1.0], [float("nan")] * 3, [9.0, 0.0, 0.0]])
    labels, weights = tf.constant([0, 1, 1, 2, 2], tf.int64), tf.constant([1.0, 1.0, 1.0, 1.0, 0.0])
    counts = loop.counts_by_class(labels, logits, weights).numpy()
    assert counts.tolist() == [[1, 1, 0], [1, 2, 1], [2, 1, 0]]
    macro = metrics.ByClass.of_counts(*counts).macro()
    assert macro["balanced_accuracy"] == pytest.approx((1 + 0.5 + 0) / 3)


def test_a_run_writes_the_balanced_accuracy_of_each_epoch(trained_run, shard_set):
    """The classes of val are equally large, so that it is top-1."""
    for line in history.read(trained_run).metrics:
        assert line["val_balanced_accuracy"] == pytest.approx(line["val_top1"])
        assert 0 <= line["val_macro_f1"] <= 1


def test_another_figure_for_the_best_epoch_is_refused_when_a_run_is_resumed(trained_run):
    with pytest.raises(InputError, match=r"was trained with --best=top1, not loss: a resumed run keeps its recipe"):
        train.main(["--resume", f"--run_dir={trained_run}", "--best=loss"])


def test_a_run_of_an_older_version_has_the_defaults_of_the_new_fields(trained_run):
    config = json.loads((trained_run / "config.json").read_text())
    older = {name: value for name, value in config["recipe"].items() if name not in NEW_FIELDS}
    assert recipes.from_dict(older, "config.json") == TINY


def test_equal_logits_rank_in_class_order_as_in_an_evaluation():
    """A network whose last ReLU put out zeros for every class has answered the first; one of NaN nothing."""
    logits = tf.constant([[0.0] * 6, [0.0] * 6, [0.0, 2.0, 0.0, 0.0, 0.0, 0.0], [float("nan")] * 6])
    labels = tf.constant([0, 5, 1, 0], tf.int64)
    sums = loop.sums_of(tf.zeros([4]), labels, logits, tf.ones([4]))
    assert sums.numpy().tolist() == [0.0, 2.0, 2.0, 4.0]
    assert metrics.rank_of_label(logits[:3].numpy(), labels[:3].numpy()).tolist() == [1, 6, 1]


def test_of_damaged_checkpoints_the_one_before_is_used(trained_run, tmp_path, capfd):
    last = checkpoint.path_of(tmp_path, checkpoint.steps(trained_run)[-1])
    shutil.copytree(trained_run / checkpoint.FOLDER, last.parent)
    first = checkpoint.path_of(tmp_path, checkpoint.steps(trained_run)[0])
    assert first != last
    whole = last.read_bytes()
    for position in np.random.default_rng(0).integers(0, len(whole), 20):
        content = bytearray(whole)
        content[position] ^= 1 << int(position) % 8
        last.write_bytes(content)
        with pytest.raises(InputError, match="is damaged"):
            checkpoint.load(last)
    last.write_bytes(whole[: len(whole) // 2])
    assert checkpoint.load_last(tmp_path)[0] == first
    assert (
        f"{last} is damaged (its checksum is wrong); going back to the checkpoint before it" in capfd.readouterr().err
    )
    first.write_bytes(b"")
    with pytest.raises(InputError, match="no checkpoint in .* can be read"):
        checkpoint.load_last(tmp_path)
    with pytest.raises(InputError, match="has no checkpoint: nothing to resume from"):
        checkpoint.load_last(tmp_path / "none")


def test_a_folder_that_holds_a_run_is_not_written_over(trained_run, shard_set):
    with pytest.raises(InputError, match="holds a run already: add --resume"):
        start.train(shard_set, TINY, strategy_name="one", replicas=None, run_dir=trained_run, resume=False)


def test_a_loss_that_is_not_finite_stops_the_run(shard_set, tmp_path):
    diverging = fresh_run(shard_set, tmp_path / "run", learning_rate=1e30, batch_norm=False, warmup_epochs=0.0)
    reasons = r"the loss became (nan|inf) in step \d+ |is no longer finite by step \d+"
    with pytest.raises(InputError, match=rf"({reasons}).*: try a lower --learning_rate .* the state of step 0 is kept"):
        diverging.train()
    _, arrays, progress = checkpoint.load_last(tmp_path / "run")
    assert progress["step"] == 0 and all(np.isfinite(array).all() for array in arrays.values())


def test_a_corrupt_shard_is_named_with_its_record(shard_set, tmp_path):
    shutil.copytree(shard_set.folder, tmp_path / "set")
    copied = manifest.load(tmp_path / "set")
    shard = copied.shards_of("train")[2].path
    flip_a_bit(shard, record=3)
    with pytest.raises(InputError, match=rf"{shard.name}, record 3 \(0 first\), is corrupt"):
        fresh_run(copied, tmp_path / "run").train()


def test_a_set_without_val_is_refused(shard_set, tmp_path):
    without = dataclasses.replace(shard_set, shards=tuple(s for s in shard_set.shards if s.split != "val"))
    with pytest.raises(InputError, match="has no val split, which picks the best model"):
        fresh_run(without, tmp_path / "run")


@pytest.mark.parametrize("recipe", ["article", "paper"])
def test_the_published_recipes_start_sanely(shard_set, tmp_path, recipe):
    """Raw pixel scale, no batch norm: the first loss is that of chance, and it stays finite."""
    small = recipes.load(recipe).replace(global_batch_size=8, total_steps=6, image_size=113, resize_to=128)
    made = Run(shard_set, small, strategy.create("one"), tmp_path)
    made.train()
    assert made.state.history[0]["train_loss"] == pytest.approx(math.log(3), abs=0.6)


@pytest.mark.slow
def test_sigterm_saves_and_the_command_says_how_to_go_on(shard_set, tmp_path):
    run_dir = tmp_path / "run"
    flags = [
        f"--data={shard_set.folder}", "--recipe=imagenette", "--image_size=32", "--global_batch_size=8",
        "--epochs=500", "--strategy=one", f"--run_dir={run_dir}",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "sqznet.train", *flags], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 2:"):
            process.send_signal(signal.SIGTERM)
            break
    rest = process.stderr.read()
    assert process.wait(timeout=60) == 128 + signal.SIGTERM, rest
    assert f"go on with: python -m sqznet.train --resume --run_dir={run_dir}" in rest
    _, _, progress = checkpoint.load_last(run_dir)
    assert progress["step"] >= 30


def test_the_newest_run_is_the_one_written_last(tmp_path):
    with pytest.raises(InputError, match=r"no run with best.keras in .*: train one first"):
        run_folder.newest("best.keras", tmp_path)
    for name, age in (("b", 20), ("a", 10), ("c", 30)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "best.keras").touch()
        os.utime(tmp_path / name / "best.keras", (1000 - age, 1000 - age))
    assert run_folder.newest("best.keras", tmp_path).name == "a"


def test_of_epochs_with_equal_top1_best_keras_is_of_the_one_with_the_lowest_loss(shard_set, tmp_path, monkeypatch):
    made = fresh_run(shard_set, tmp_path / "run")
    scores = iter([(0.9, 0.2), (1.0, 0.252), (1.0, 0.083), (1.0, 0.1)])  # val top-1 and loss of four epochs
    saved = []
    monkeypatch.setattr(
        made, "evaluate", lambda split: dict(zip(("top1", "loss"), next(scores), strict=True), top5=1.0)
    )
    monkeypatch.setattr(made, "save_best", lambda: saved.append(made.state.kept_epoch))
    with made._calling_back():
        for epoch in range(4):
            made.state.step += 15
            made.state.sums, made.state.seconds = loop.Sums(1.0, 1.0, 1.0, 120.0), 1.0
            made._end_epoch(epoch)
    assert saved == [1, 2, 3] and made.state.kept["epoch"] == 3
    resumed = fresh_run(shard_set, tmp_path / "run")
    resumed.resume()
    assert resumed.state == made.state
