"""What is made of the trials of a search; the trials themselves are written here as KerasTuner leaves them."""

from __future__ import annotations

import csv
import json

import pytest

from sqznet import recipes
from sqznet.core.errors import InputError
from sqznet.runs import history
from sqznet.train import __main__ as train
from sqznet.train import settings
from sqznet.train.finetune import load
from sqznet.tune import results, search
from tests.conftest import TINY


@pytest.fixture
def out(tmp_path):
    """Three trials that are over, one of which failed, and one that is not."""
    for trial_id, status, score, rate in (
        ("00", "COMPLETED", 0.5, 0.001),
        ("01", "COMPLETED", 0.75, 0.004),
        ("02", "FAILED", None, 1e9),
        ("03", "RUNNING", None, 0.002),
    ):
        values = {"learning_rate": rate, "tuner/epochs": 2}
        trial = {"trial_id": trial_id, "hyperparameters": {"values": values}, "status": status, "score": score}
        folder = tmp_path / search.PROJECT / f"trial_{trial_id}"
        folder.mkdir(parents=True)
        (folder / "trial.json").write_text(json.dumps({**trial, "message": "the loss is not finite"}))
        run_dir = search.run_dir_of(tmp_path, trial_id)
        run_dir.mkdir()
        (run_dir / search.TRIAL).write_text(json.dumps({"recipe": TINY.replace(epochs=2, warmup_epochs=0.5).to_dict()}))
    return tmp_path


def test_a_search_ends_with_a_table_a_plot_and_a_recipe(out, shard_set, capsys):
    results.conclude(out, TINY, ["learning_rate"], None, data=shard_set)
    rows = list(csv.DictReader((out / results.TABLE).open()))
    assert [(row["trial"], row["val_top1"], row["learning_rate"], row["failed"]) for row in rows] == [
        ("01", "0.75", "0.004", ""),
        ("00", "0.5", "0.001", ""),
        ("02", "", "1000000000.0", "the loss is not finite"),
    ]
    assert (out / results.PLOT).read_bytes().startswith(b"\x89PNG")
    assert recipes.load(str(out / results.BEST_RECIPE)) == TINY.replace(name="tiny-tuned", learning_rate=0.004)
    assert "best: trial 01, val top-1 75.00 % after 2 epochs: learning_rate=0.004" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("best", "loss", "verdict"),
    [
        (0.81, 0.5, "(n = 33; +1.00 points): better"),
        (0.80, 0.4, "(n = 33; +0.00 points): better, by its val loss"),
        (0.80, 0.5, "(n = 33; +0.00 points): NOT better"),
        (0.7, 0.1, "(n = 33; -10.00 points): NOT better"),
    ],
)
def test_the_best_settings_must_be_better_than_the_recipe_unchanged(
    out, shard_set, capsys, monkeypatch, best, loss, verdict
):
    ends = {  # instead of two trainings
        "unchanged": {"val_top1": 0.80, "val_loss": 0.5},
        "best": {"val_top1": best, "val_loss": loss},
    }
    monkeypatch.setattr(search, "train", lambda recipe, run_dir, flags: ends[run_dir.name])
    results.conclude(out, TINY, ["learning_rate"], [], data=shard_set)
    said = " ".join(capsys.readouterr().out.split())
    assert verdict in said and "val has 33 photographs, and one of them is 3.0 points of top-1" in said


def test_the_best_settings_are_trained_on_the_data_and_weights_of_the_search(out, shard_set, trained_run, capsys):
    results.conclude(
        out, TINY.replace(bypass="none"), ["learning_rate"], None, data=shard_set, origin=load(trained_run)
    )
    path = out / results.BEST_RECIPE
    args = train.make_parser().parse_args([f"--recipe={path}"])
    found = settings.fresh(args, {})
    assert (found.data, found.init_weights, found.teacher) == (shard_set.folder, trained_run, None)
    assert found.recipe.bypass == TINY.bypass  # of the weights, which decide the network
    said = capsys.readouterr()
    assert f"from {path}: --data={shard_set.folder} --init_weights={trained_run}" in said.err
    assert f"python -m sqznet.train --recipe={path};" in "".join(said.out.splitlines())


def test_without_a_finished_trial_it_says_why(out, shard_set):
    for trial_id in ("00", "01"):
        (out / search.PROJECT / f"trial_{trial_id}" / "trial.json").unlink()
    with pytest.raises(InputError, match="none of the 1 trials of .* was finished: the loss is not finite"):
        results.conclude(out, TINY, ["learning_rate"], None, data=shard_set)


def test_of_equal_trials_the_one_with_the_lower_val_loss_is_best(out, monkeypatch):
    path = out / search.PROJECT / "trial_01" / "trial.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "score": 0.5}))
    losses = {"run_00": 0.2, "run_01": 0.1}

    def read(folder):
        return history.History(folder, {}, [{"epoch": 1, "val_top1": 0.5, "val_loss": losses[folder.name]}], [])

    monkeypatch.setattr(search.history, "read", read)
    assert [trial.name for trial in search.finished(out)] == ["01", "00", "02"]
