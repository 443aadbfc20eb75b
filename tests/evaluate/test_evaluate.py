"""How photographs are made to fit, said on the command line; and the table of the worst classes."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from sqznet.core import cli, metrics
from sqznet.core.errors import InputError
from sqznet.evaluate import __main__ as evaluate
from sqznet.evaluate import accuracy_report, evaluation
from sqznet.images import geometry
from sqznet.predict import __main__ as predict
from sqznet.predict import inference
from sqznet.weights import __main__ as import_command
from tests.conftest import CLASSES
from tests.weights import writers
from tests.weights.conftest import random_convolutions


def evaluated(model, shard_set, out, *flags: str) -> dict[str, dict]:
    """The reports in `out` after an evaluation, by file name."""
    assert evaluate.main([f"--model={model}", f"--data={shard_set.folder}", "--split=val", f"--out={out}", *flags]) == 0
    return {path.name: json.loads(path.read_text()) for path in out.glob("*.json")}


def test_an_out_that_cannot_be_a_folder_is_refused_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(inference, "file_of", lambda path: path)
    monkeypatch.setattr(inference, "load", lambda path: pytest.fail("it has begun"))
    for out in (tmp_path / "file", tmp_path / "file" / "x"):
        with pytest.raises(InputError, match="Not a directory; a file exists where a folder is needed; name another"):
            evaluate.main([f"--model={tmp_path}", f"--out={out}"])
    with pytest.raises(InputError, match="File name too long; give it a shorter name"):
        evaluate.main([f"--model={tmp_path}", f"--out={tmp_path / ('x' * 300)}"])
    with pytest.raises(InputError, match="a file exists where a folder is needed"):
        predict.main([f"--picture={tmp_path / 'file' / 'x.png'}", "photo.jpg"])


def test_geometry_flags_are_applied_and_recorded_beside_the_plain_report(trained_run, shard_set, tmp_path, capsys):
    evaluated(trained_run, shard_set, tmp_path)
    reports = evaluated(trained_run, shard_set, tmp_path, "--resize=squash", "--resize_to=48", "--no-antialias")
    plain = reports["evaluation-val.json"]
    changed = reports["evaluation-val-resized-squash-48-no-antialias.json"]
    assert plain["geometry_override"] is None
    assert changed["geometry_override"] == {"resize": "squash", "resize_to": 48, "antialias": False}
    asked_for = {"image_size": 32, "resize_to": 48, "resize": "squash", "interpolation": "bilinear", "antialias": False}
    assert changed["preprocessing"] == asked_for
    assert (tmp_path / "confusion-val-resized-squash-48-no-antialias.png").is_file()
    assert f"{trained_run}, --resize=squash --resize_to=48 --no-antialias" in capsys.readouterr().out


def test_both_models_see_what_the_flags_say(bundle, trained_run, shard_set, tmp_path):
    flags = ["--resize=squash", "--resize_to=40", "--interpolation=bicubic"]
    reports = evaluated(bundle / "model.onnx", shard_set, tmp_path, *flags, f"--against={trained_run}")
    (report,) = reports.values()
    assert report["loss"]["preprocessing"] == report["preprocessing"]
    assert report["preprocessing"]["resize_to"] == 40 and report["loss"]["drop"] == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--resize_as=ios", "--resize=squash"], "leave out --resize=squash, or --resize_as"),
        (["--resize_as=android", "--no-antialias"], "leave out --no-antialias, or --resize_as"),
        (
            ["--resize_to=31"],
            r"--resize_to=31 is too small: the model takes 32 x 32 pixels, .*; give --resize_to=32 or more",
        ),
        (["--resize_to=0"], "--resize_to: '0' is not a whole number of 1 or more"),
    ],
)
def test_geometry_flags_that_do_not_go_together_are_refused(trained_run, shard_set, flags, message):
    with pytest.raises(InputError, match=message):
        evaluate.main([f"--model={trained_run}", f"--data={shard_set.folder}", *flags])


def test_imported_weights_keep_the_geometry_that_flags_give(tmp_path):
    source, out = tmp_path / "net.caffemodel", tmp_path / "model.keras"
    source.write_bytes(writers.caffemodel(random_convolutions()))
    assert import_command.main([f"--source={source}", f"--out={out}", "--image_size=64", "--resize_to=64"]) == 0
    card = inference.load(out).card
    assert (card.preprocessing.resize, card.preprocessing.resize_to, card.preprocessing.image_size) == (
        "squash",
        64,
        64,
    )
    assert card.weights["geometry_override"] == {"resize_to": 64}


def test_flags_that_are_not_given_change_nothing():
    parser = cli.parser("sqznet.test", None)
    geometry.add_flags(parser)
    assert geometry.given(parser.parse_args([])) == {}
    assert geometry.given(parser.parse_args(["--antialias"])) == {"antialias": True}


def score_of(counts: dict[int, tuple[int, int]], classes: int) -> metrics.Score:
    """Of so many records and hits by class; the others are taken for the class before."""
    confusion = np.zeros((classes, classes), np.int64)
    for label, (n, hits) in counts.items():
        confusion[label, label] = hits
        confusion[label, label - 1] = n - hits
    return metrics.Score(np.zeros(1), 0, confusion, np.zeros(1, np.float32), 0.0, 0.0)


def test_the_worst_classes_are_those_that_have_the_records_to_say_so(capsys):
    names = tuple(f"class{index}" for index in range(40))
    counts = dict.fromkeys(range(30), (3, 0)) | {index: (50, index) for index in range(30, 40)}
    accuracy_report._print_by_class(score_of(counts, 40), names)
    printed = capsys.readouterr().out
    assert (
        "the 10 worst of 40 classes (all are in the report); 30 of 40 classes have fewer than 10 records and" in printed
    )
    lines = [line.split("│")[1:-1] for line in printed.splitlines() if "│" in line]
    first = [cell.strip() for cell in lines[0]]
    assert first == ["class30", "50", "30", "60.00 %", "46.18 to 72.39 %", "61.22 %", "60.61 %", "class29 (20)"]
    assert "class3 " not in printed


def test_where_no_class_has_enough_records_there_is_no_table(capsys):
    counts = dict.fromkeys(range(100), (1, 0))
    accuracy_report._print_by_class(score_of(counts, 100), tuple(map(str, range(100))))
    printed = capsys.readouterr().out
    assert printed.startswith("no table of the worst classes: 100 of 100 classes have fewer than 10 records")
    assert "most often" not in printed


def test_few_classes_are_all_listed_with_their_counts(capsys):
    accuracy_report._print_by_class(score_of({0: (2, 1), 1: (1, 1), 2: (9, 0)}, 3), CLASSES)
    printed = capsys.readouterr().out
    assert all(name in printed for name in CLASSES) and "right" in printed


def test_a_set_that_has_changed_since_the_training_is_told_of(trained_run, shard_set, tmp_path):
    assert evaluation._changed_since(trained_run, shard_set) is None
    changed = dataclasses.replace(shard_set, channel_means=(1.0, 2.0, 3.0))
    for model in (trained_run, trained_run / "best.keras"):
        assert "has changed since" in evaluation._changed_since(model, changed)
    assert evaluation._changed_since(trained_run, dataclasses.replace(changed, folder=tmp_path)) is None  # another set
