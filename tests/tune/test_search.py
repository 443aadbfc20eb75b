from __future__ import annotations

import csv
import json
import threading
from pathlib import Path

import pytest

from sqznet import recipes
from sqznet.core import console
from sqznet.core.errors import InputError
from sqznet.tune import __main__ as tune
from sqznet.tune import results, search
from tests.conftest import TINY


@pytest.fixture
def flags(shard_set, tmp_path) -> list[str]:
    """Of a search over trials of one epoch."""
    recipe, space = tmp_path / "recipe.json", tmp_path / "space.json"
    recipe.write_text(json.dumps(TINY.replace(warmup_epochs=0.5, epochs=1).to_dict()))
    space.write_text(json.dumps({"learning_rate": {"min": 1e-3, "max": 1e-2, "scale": "log"}, "dropout": [0.0, 0.2]}))
    common = [f"--data={shard_set.folder}", f"--recipe={recipe}", f"--space={space}", "--tuner=random"]
    return [*common, "--strategy=one", f"--out={tmp_path / 'search'}"]


@pytest.mark.slow
def test_a_search_ends_with_a_table_a_plot_and_a_recipe_and_repeats_nothing(flags, tmp_path, capsys):
    out = tmp_path / "search"
    assert tune.main([*flags, "--trials=1", "--no-compare"]) == 0
    assert not (out / "unchanged").exists()
    (first,) = search.finished(out)
    written = {path: path.stat().st_mtime_ns for path in search.run_dir_of(out, first.name).rglob("*")}
    assert tune.main([*flags, "--trials=2"]) == 0  # as after a stop
    printed = capsys.readouterr()
    assert "are finished already" in printed.err
    assert "trained to the end, 1 epoch: best settings" in " ".join(printed.out.split())
    assert (out / "unchanged" / "metrics.csv").is_file() and (out / "best" / "metrics.csv").is_file()
    trials = search.finished(out)
    assert len(trials) == 2 and first in trials and trials[0].top1 >= trials[1].top1
    assert written == {path: path.stat().st_mtime_ns for path in search.run_dir_of(out, first.name).rglob("*")}

    rows = list(csv.DictReader((out / results.TABLE).open()))
    assert [float(row["val_top1"]) for row in rows] == [trial.top1 for trial in trials]
    assert (out / results.PLOT).read_bytes().startswith(b"\x89PNG")
    best = recipes.load(str(out / results.BEST_RECIPE))
    assert best.learning_rate == trials[0].values["learning_rate"] and best.epochs == 1
    assert best.global_batch_size == TINY.global_batch_size
    with pytest.raises(InputError, match="holds a search with another tuner"):
        tune.main([*flags, "--tuner=hyperband"])


def test_a_trial_tells_its_finished_epochs(tmp_path, monkeypatch, capsys):
    (tmp_path / "metrics.csv").write_text("epoch,val_top1\n1,0.5\n2,0.6\n")
    told = threading.Event()
    monkeypatch.setattr(console, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(console, "HEARTBEAT_SECONDS", 0.0)
    monkeypatch.setattr(console, "_last_output", 0.0)  # another test may have stopped the heartbeat
    monkeypatch.setattr(console, "_note_output", lambda text: told.set())

    class Training:
        def wait(self) -> int:
            assert told.wait(60)
            return 3

    assert search._awaited(Training(), tmp_path, 12) == 3
    assert f"epochs of {tmp_path.name}, 2 of 12; " in capsys.readouterr().err
    assert search._epochs_finished(tmp_path / "none") == 0


@pytest.mark.slow
def test_a_trial_that_fails_is_named_and_the_search_goes_on(flags, tmp_path):
    space = Path(next(flag for flag in flags if flag.startswith("--space="))[8:])
    space.write_text(json.dumps({"learning_rate": [1e9, 1e10]}))
    with pytest.raises(InputError, match="none of the 2 trials of .* was finished"):
        tune.main([*flags, "--trials=2"])
    trials = search.finished(tmp_path / "search")
    assert [trial.top1 for trial in trials] == [None, None] and all(trial.reason for trial in trials)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--trials=0"], "argument --trials: '0' is not a whole number of 1 or more"),
        (["--strategy=multiworker"], "argument --strategy: invalid choice: 'multiworker'"),
        (["--role=chief", "--chief=here"], "argument --chief: 'here' is not host:port"),
        (["--data=nowhere"], "no such folder: nowhere"),
        (["--seed=-1"], "argument --seed: '-1' is not a whole number of 0 or more"),
        (
            ["--recipe=finetune"],
            r"--recipe=finetune \(freeze\): this recipe needs trained weights: give --init",
        ),
        (["--recipe=finetune", "--init_weights=nowhere.keras"], "no such file: nowhere.keras"),
    ],
)
def test_flags_that_make_no_sense_are_refused(flags, extra, message):
    with pytest.raises(InputError, match=message):
        tune.main([*flags, *extra])
