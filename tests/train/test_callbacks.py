"""Callbacks for other programs, with these programs."""

from __future__ import annotations

import builtins
import json

import pytest
import tensorflow as tf

import sqznet
from tests.conftest import TINY


@pytest.fixture
def fit(shard_set, tmp_path):
    def run(*callbacks: sqznet.Callback) -> sqznet.TrainingRun:
        return sqznet.fit(shard_set.folder, TINY, epochs=2, folder=tmp_path / "run", callbacks=callbacks)

    return run


def test_tensorboard_gets_the_metrics_of_each_epoch(trained_run):
    found: dict[str, list[int]] = {}
    for path in (trained_run / "events").iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append(event.step)
    assert found["val_top1"] == found["train_loss"] == [1, 2, 3]


@pytest.mark.slow
def test_mlflow_gets_the_recipe_and_the_metrics_of_each_epoch(fit, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="needs the package mlflow-skinny")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database needs more packages
    address = (tmp_path / "mlruns").as_uri()
    run = fit(sqznet.MLflow("tests", address))
    client = mlflow.MlflowClient(address)
    (logged,) = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    assert logged.info.status == "FINISHED" and logged.data.params["learning_rate"] == str(TINY.learning_rate)
    steps = client.get_metric_history(logged.info.run_id, "val_top1")
    assert [(each.step, each.value) for each in steps] == [
        (line["epoch"], pytest.approx(line["val_top1"])) for line in run.history
    ]


@pytest.mark.slow
def test_wandb_gets_the_recipe_and_the_metrics_of_each_epoch(fit, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs the package wandb")
    monkeypatch.chdir(tmp_path)
    callback = sqznet.WandB(project="tests", mode="offline")
    run = fit(callback)
    assert callback._run.config["learning_rate"] == TINY.learning_rate
    (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    content = file.read_bytes()  # names and values as text, among protobufs
    assert content.count(b"val_top1") >= len(run.history)
    assert all(json.dumps(line["train_loss"]).encode() in content for line in run.history)


@pytest.mark.parametrize(("name", "package"), [("MLflow", "mlflow"), ("WandB", "wandb")])
def test_a_missing_package_is_named_with_its_extra(name, package, monkeypatch):
    real = builtins.__import__

    def without(wanted, *rest):
        if wanted == package:
            raise ImportError(wanted)
        return real(wanted, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        sqznet.InputError, match=rf"package {package} is not installed: pip install 'sqznet\[{package}\]'"
    ):
        getattr(sqznet, name)()


@pytest.mark.slow
def test_a_callback_that_fails_ends_the_training_with_the_epoch_saved(fit, tmp_path):
    class Fails(sqznet.Callback):
        def on_epoch_end(self, run, line):
            raise RuntimeError("no connection")

    with pytest.raises(RuntimeError, match="no connection"):
        fit(Fails())
    resumed = sqznet.fit(folder=tmp_path / "run", resume=True)
    assert [line["epoch"] for line in resumed.history] == [1, 2]
