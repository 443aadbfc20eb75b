from __future__ import annotations

import json
import shutil

import pytest

from sqznet import runs
from sqznet.errors import InputError


@pytest.fixture
def two(trained_run, tmp_path):
    """A run, and another of another learning rate whose second epoch was its best."""
    for name in ("one", "two"):
        for file in ("config.json", "metrics.csv", "timings.csv"):
            (tmp_path / name).mkdir(exist_ok=True)
            shutil.copy(trained_run / file, tmp_path / name / file)
    config = json.loads((tmp_path / "two" / "config.json").read_text())
    config["recipe"] |= {"learning_rate": 0.25, "name": "demo"}
    (tmp_path / "two" / "config.json").write_text(json.dumps(config))
    head, *lines = (tmp_path / "two" / "metrics.csv").read_text().splitlines()
    column = head.split(",").index("val_top1")
    cells = lines[1].split(",")
    cells[column] = "0.987"
    (tmp_path / "two" / "metrics.csv").write_text("\n".join([head, lines[0], ",".join(cells), lines[2]]) + "\n")
    return tmp_path


def test_runs_are_listed_best_first_with_what_was_changed(two, capsys):
    (two / "begun").mkdir()
    shutil.copy(two / "one" / "config.json", two / "begun")
    first, second, last = runs.find(two)
    assert (first.folder.name, second.folder.name, last.folder.name) == ("two", "one", "begun")
    assert first.best["epoch"] == 2 and first.best["val_top1"] == 0.987
    changes = first.changes()
    assert changes["learning_rate"] == (0.1, 0.25) and changes["global_batch_size"] == (64, 8)
    assert "crop" not in changes and "precision" not in changes
    assert first.seconds > 0 and first.images_per_second > 0
    assert runs.main([f"--runs={two}"]) == 0
    shown = capsys.readouterr().out
    assert "98.70 %" in shown and shown.index("two") < shown.index("begun")


def test_two_runs_are_compared(two, capsys):
    assert runs.main(["--compare", str(two / "one"), str(two / "two")]) == 0
    shown = capsys.readouterr().out
    assert "learning_rate" in shown and "0.25" in shown and "momentum" not in shown
    assert "best epoch 2, val top-1 98.70 %" in shown


def test_a_run_equals_itself(two):
    assert runs.differences(runs.read(two / "one").recipe, runs.read(two / "one").recipe) == {}
    assert runs.differences({"a": (1, (2, 3))}, {"a": [1, [2, 3]]}) == {}
    assert runs.differences({"a": 1}, {"b": 2}) == {"a": (1, None), "b": (None, 2)}


def test_what_is_no_run_or_damaged_is_named(two):
    with pytest.raises(InputError, match=r"no runs in .*one/: train one first"):
        runs.main([f"--runs={two / 'one'}"])
    with pytest.raises(InputError, match="no such run folder"):
        runs.main(["--compare", str(two / "one"), str(two / "three")])
    (two / "one" / "metrics.csv").write_text("epoch,val_top1\n1,much\n")
    with pytest.raises(InputError, match=r"metrics.csv cannot be read as a table of numbers"):
        runs.find(two)
