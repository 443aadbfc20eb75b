from __future__ import annotations

import csv

import numpy as np
import pytest

from sqznet.core import console
from sqznet.core.errors import InputError
from sqznet.train import __main__ as train
from sqznet.train import find_rate

RATES = np.geomspace(find_rate.LOWEST, find_rate.HIGHEST, find_rate.STEPS)


def test_the_steepest_fall_is_suggested():
    """A loss that falls about one rate, then rises; smoothing may move that by the steps that it looks back."""
    fall_at = 0.01
    logs = np.log10(RATES)
    losses = 2.3 - 1.5 / (1 + np.exp(-8 * (logs - np.log10(fall_at)))) + np.where(RATES > 1, 3 * (logs + 0.01), 0)
    suggested = find_rate.suggest(RATES, losses.tolist())
    assert fall_at / 1.5 < suggested < 5 * fall_at


def test_the_smoothed_loss_of_a_constant_is_that_constant():
    np.testing.assert_allclose(find_rate.smoothed([2.0] * 30), 2.0)


@pytest.mark.parametrize("losses", [[], [2.3], [2.3] * 200, np.linspace(2, 5, 200).tolist()])
def test_a_loss_that_does_not_fall_suggests_nothing(losses):
    with pytest.raises(InputError, match="the loss fell at no learning rate"):
        find_rate.suggest(RATES[: len(losses)], losses)


def test_the_command_writes_a_plot_and_a_table_and_no_weights(shard_set, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(find_rate, "STEPS", 60)
    flags = [f"--data={shard_set.folder}", "--recipe=demo", "--image_size=32", "--global_batch_size=8"]
    flags += ["--dropout=0.2"]  # of recipe imagenette
    assert train.main([*flags, "--strategy=one", "--find_lr", f"--run_dir={tmp_path}"]) == 0
    shown = capsys.readouterr().out
    rate = float(shown.split("suggested: --learning_rate=")[1].split()[0])
    assert find_rate.LOWEST < rate < find_rate.HIGHEST
    rows = list(csv.DictReader((tmp_path / "find_lr.csv").open()))
    assert 10 < len(rows) <= 60 and float(rows[0]["learning_rate"]) == pytest.approx(find_rate.LOWEST)
    assert (tmp_path / "find_lr.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "best.keras").exists() and not (tmp_path / "checkpoints").exists()


def test_it_goes_with_no_resuming():
    with pytest.raises(InputError, match="--find_lr is for a fresh network"):
        train.main(["--find_lr", "--resume"])


def test_a_recipe_that_needs_weights_is_refused_without_them(shard_set, tmp_path):
    with pytest.raises(InputError, match="this recipe needs trained weights: give --init_weights=squeezenet-v1.1"):
        train.main([f"--data={shard_set.folder}", "--recipe=dsd", "--find_lr", f"--run_dir={tmp_path / 'run'}"])


@pytest.mark.slow
def test_it_searches_on_the_weights_that_will_be_trained(trained_run, shard_set, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(find_rate, "STEPS", 30)
    monkeypatch.setattr(find_rate, "suggest", lambda rates, losses: float(rates[0]))
    flags = [f"--data={shard_set.folder}", "--recipe=finetune", "--image_size=32", "--global_batch_size=8"]
    flags += ["--strategy=one", "--find_lr", f"--run_dir={tmp_path}", f"--init_weights={trained_run}"]
    assert train.main(flags) == 0
    said = capsys.readouterr().err
    assert "conv10 covers 3 of 3 classes" in said
    followed = [flag for flag in flags if flag != "--find_lr"]
    assert f"next: {console.command('sqznet.train', *followed, '--learning_rate=1e-05')}" in said


def test_the_training_that_follows_has_the_same_flags_and_the_rate():
    given = [
        "--recipe=finetune",
        "--init_weights=W",
        "--find_lr",
        "--image_size=64",
        "--learning_rate",
        "1",
        "--keep=3",
    ]
    followed = ["--recipe=finetune", "--init_weights=W", "--image_size=64", "--keep=3", "--learning_rate=0.012"]
    assert find_rate.flags_with(given, 0.01234) == followed
    assert find_rate.flags_with([*given, "--learning_rate=2"], 0.01234) == followed
