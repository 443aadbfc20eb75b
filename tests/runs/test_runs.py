from __future__ import annotations

import json
import shutil

import pytest

from sqznet.core.errors import InputError
from sqznet.runs import __main__ as runs
from sqznet.runs import history, run_folder


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
    first, second, last = history.find(two)
    assert (first.folder.name, second.folder.name, last.folder.name) == ("two", "one", "begun")
    assert first.best["epoch"] == 2 and first.best["val_top1"] == 0.987
    changes = first.changes()
    assert changes["learning_rate"] == (0.05, 0.25) and changes["global_batch_size"] == (32, 8)
    assert "crop" not in changes and "precision" not in changes
    assert first.seconds > 0 and first.images_per_second > 0
    assert runs.main([f"--runs={two}"]) == 0
    shown = capsys.readouterr().out
    assert "98.70 %" in shown and shown.index("two") < shown.index("begun")


def with_recipe(folder, **fields):
    config = json.loads((folder / "config.json").read_text())
    config["recipe"] |= fields
    config["total_steps"] = -(-config["recipe"]["epochs"] * config["train_records"] // 8)
    (folder / "config.json").write_text(json.dumps(config))


def test_the_list_says_which_runs_have_ended_and_why(two, capsys):
    assert [run.state for run in history.find(two)] == ["finished", "finished"]
    with_recipe(two / "two", epochs=8)
    with_recipe(two / "one", epochs=8, patience=1)
    metrics = (two / "one" / "metrics.csv").read_text().splitlines()
    cells = metrics[3].split(",")
    cells[metrics[0].split(",").index("val_top1")] = "0.0"
    (two / "one" / "metrics.csv").write_text("\n".join([*metrics[:3], ",".join(cells)]) + "\n")
    assert runs.main([f"--runs={two}"]) == 0
    shown = capsys.readouterr().out
    assert "unfinished" in shown
    assert "one: ended early, after epoch 3 of 8: no better val top-1 in 1 epoch (patience=1)" in shown


def test_a_config_without_the_number_of_steps_tells_no_state(two):
    config = json.loads((two / "one" / "config.json").read_text())
    del config["total_steps"]
    (two / "one" / "config.json").write_text(json.dumps(config))
    assert history.read(two / "one").state == "-"


def test_two_runs_are_compared(two, capsys):
    assert runs.main(["--compare", str(two / "one"), str(two / "two")]) == 0
    shown = capsys.readouterr().out
    assert "learning_rate" in shown and "0.25" in shown and "momentum" not in shown
    assert "best epoch 2, val top-1 98.70 %" in shown


def test_a_run_equals_itself(two):
    assert history.differences(history.read(two / "one").recipe, history.read(two / "one").recipe) == {}
    assert history.differences({"a": (1, (2, 3))}, {"a": [1, [2, 3]]}) == {}
    assert history.differences({"a": 1}, {"b": 2}) == {"a": (1, None), "b": (None, 2)}


def test_what_is_no_run_or_damaged_is_named(two):
    with pytest.raises(InputError, match=r"no runs in .*one/: train one first"):
        runs.main([f"--runs={two / 'one'}"])
    with pytest.raises(InputError, match="no such run folder"):
        runs.main(["--compare", str(two / "one"), str(two / "three")])
    (two / "one" / "metrics.csv").write_text("epoch,val_top1\n1,much\n")
    with pytest.raises(InputError, match=r"one/metrics.csv cannot be read as a table of numbers"):
        runs.main(["--compare", str(two / "one"), str(two / "two")])


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def metrics_with(top1):
    head = "epoch,train_loss,val_loss,val_top1,val_top5"
    return lambda path: path.write_text(f"{head}\n1,1.0,1.0,{top1},0.5\n")


def without_a_value(path):
    path.write_text(path.read_text().replace('"classes"', '"clases"'))


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        ("config.json", cut, "config.json cannot be read as JSON"),
        ("config.json", lambda path: path.write_text(""), "config.json is empty"),
        ("config.json", lambda path: path.write_bytes(b"\xff\x00"), "config.json is not text in UTF-8"),
        ("config.json", lambda path: path.write_text("[]"), "expected a JSON object"),
        ("config.json", without_a_value, "classes is missing"),
        ("config.json", lambda path: path.write_text('{"recipe": 3}'), "recipe is 3; expected an object"),
        ("config.json", lambda path: path.unlink(), "has no config.json"),
        ("config.json", lambda path: (path.unlink(), path.mkdir()), "has no config.json"),
        ("metrics.csv", cut, "metrics.csv cannot be read as a table of numbers"),
        ("metrics.csv", lambda path: path.write_text(""), "it is empty"),
        ("metrics.csv", lambda path: path.write_bytes(b"\x00\xff"), "metrics.csv cannot be read"),
        ("metrics.csv", lambda path: path.write_text("epoch,val_top1\n1,0.5\n"), "line 2 has no train_loss"),
        ("metrics.csv", metrics_with("nan"), "line 2 has val_top1 nan, which is not 0 to 1"),
        ("metrics.csv", metrics_with("1.5"), "line 2 has val_top1 1.5, which is not 0 to 1"),
        ("metrics.csv", metrics_with("-0.1"), "line 2 has val_top1 -0.1, which is not 0 to 1"),
        ("metrics.csv", lambda path: (path.unlink(), path.mkdir()), "metrics.csv cannot be read: Is a directory"),
        ("timings.csv", cut, "timings.csv cannot be read as a table of numbers"),
    ],
)
def test_a_damaged_run_is_listed_with_the_reason_and_hides_no_other(file, damage, reason, two, capsys):
    damage(two / "one" / file)
    assert runs.main([f"--runs={two}"]) == 0
    shown = capsys.readouterr().out
    assert "98.70 %" in shown
    (line,) = (line for line in shown.splitlines() if line.startswith("one: damaged: "))
    assert reason in line
    with pytest.raises(InputError, match="one"):
        runs.main(["--compare", str(two / "two"), str(two / "one")])


def test_settings_are_compared_by_their_full_names(two, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    path = two / "two" / "config.json"
    config = json.loads(path.read_text())
    config["recipe"] |= {"label_smoothing": 0.2, "bypass": "none"}
    config["versions"] |= {"tensorflow": "9.9"}
    config["data"] = "data/" + "long/" * 60 + "[old]"
    path.write_text(json.dumps(config))
    assert runs.main(["--compare", str(two / "one"), str(two / "two")]) == 0
    shown = capsys.readouterr().out
    for name in ("label_smoothing", "bypass", "versions.tensorflow", "learning_rate", config["data"]):
        assert f" {name} " in shown
    assert "versions.python" not in shown


def test_top5_of_three_classes_is_not_shown(two, capsys):
    assert runs.main([f"--runs={two}"]) == 0
    assert "top-5" not in capsys.readouterr().out


def test_the_newest_run_is_found_among_broken_links(two):
    (two / "gone").mkdir()
    (two / "gone" / "config.json").symlink_to(two / "nowhere")
    assert run_folder.newest("config.json", two).name in ("one", "two")
