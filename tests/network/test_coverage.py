"""How many of a model's classes occur in the photographs, and where that is printed."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from sqznet.compress import __main__ as compress
from sqznet.export.__main__ import main as export
from sqznet.network import architecture, coverage, fold, keras_file
from sqznet.network import model as models
from sqznet.network.coverage import Coverage
from sqznet.predict import inference

CLASSES = (*"abcde", "ball", "house", "star")  # of the model: five more than the photographs have


@pytest.mark.parametrize(
    ("labels", "of_set", "of_model", "classes", "few"),
    [
        (range(10), 10, 1000, 10, True),
        ([0, 0, 1], 2, 1000, 2, True),
        ([*range(10)] * 50, 10, 1000, 10, True),
        (range(1000), 1000, 1000, 1000, False),
        (range(0, 1000, 10), 1000, 1000, 100, False),  # a hundred photographs cannot show more
        ([*range(20)] * 6, 1000, 1000, 20, True),  # the first shards of a set that is sorted by class
        ([0, 1, 2, 2], 3, 3, 3, False),
        ([1, 1, 1, 1], 3, 3, 1, True),
        ([0, 1, 2], 3, 6, 3, False),
        ([0, 1, 2], 3, 7, 3, True),
        ([], 3, 3, 0, False),
    ],
)
def test_classes_are_counted_and_compared_with_the_possible_number(labels, of_set, of_model, classes, few):
    batches = np.array_split(np.array(list(labels), np.int64), 3)
    assert coverage.count(batches, of_set, of_model) == Coverage(classes, of_model, few)


def test_a_coverage_is_read_as_it_was_written():
    counted = Coverage(10, 1000, True)
    assert str(counted) == "10 of 1,000 classes"
    assert coverage.read({"n": 5, **counted.to_dict()}) == counted
    assert coverage.read({"n": 5}) is None


def test_the_warning_names_the_missing_classes():
    few, enough = Coverage(10, 1000, True), Coverage(900, 1000, False)
    measured = "measured on photographs of 10 of 1,000 classes; they say little about the other 990"
    fitted = "The photographs calibrated on show 10 of 1,000 classes: the other 990 may lose more."
    assert coverage.warning(enough, enough) is None and coverage.warning(enough, None) is None
    assert measured in coverage.warning(few, enough) and fitted not in coverage.warning(few, enough)
    assert fitted == coverage.warning(enough, few)
    assert measured in coverage.warning(few, few) and fitted in coverage.warning(few, few)


@pytest.fixture(scope="module")
def wide(trained_run, tmp_path_factory):
    """The trained network with five more classes, whose logits are always 0."""
    trained, card = inference.load_keras(trained_run)
    small = fold.without_batch_norm(trained, card.preprocessing.image_size)
    described, means, deviations = models.describe(small, card.preprocessing.image_size)
    wider = architecture.Network(
        len(CLASSES), described.arch, described.activation, False, described.bypass, image_size=32
    )
    made = models.build(wider, channel_means=means, channel_deviations=deviations)
    for layer in models.convolutions(small):
        arrays = layer.get_weights()
        if layer.name == "conv10":
            arrays = [np.pad(each, [(0, 0)] * (each.ndim - 1) + [(5, 0)]) for each in arrays]
        made.get_layer(layer.name).set_weights(arrays)
    path = tmp_path_factory.mktemp("wide") / "wide.keras"
    keras_file.save(made, keras_file.Card(CLASSES, card.preprocessing), path)
    return path


def test_an_export_prints_how_many_classes_it_was_calibrated_and_measured_on(wide, shard_set, tmp_path, capsys):
    out = tmp_path / "bundle"
    flags = [f"--model={wide}", f"--data={shard_set.folder}", f"--out={out}", "--format=tflite", "--quantize=int8"]
    assert export([*flags, "--calibration_records=32", "--max_drop=100", "--golden=synthetic"]) == 0
    printed = capsys.readouterr()
    assert "int8 is calibrated on 32 records of train, which show 3 of 8 classes" in printed.err
    assert "warning: The losses were measured on photographs of 3 of 8 classes" in printed.err
    assert f"27 records of {shard_set.folder}, test, 3 of 8 classes" in printed.out
    manifest = json.loads((out / "manifest.json").read_text())
    (entry,) = manifest["files"].values()
    for counted in (manifest["calibration"], entry["proof"]):
        assert coverage.read(counted) == Coverage(3, 8, True)
    for name in ("MODEL_CARD.md", "report.html"):
        content = (out / name).read_text()
        assert "test (3 of 8 classes)" in content and "train (3 of 8 classes)" in content
        assert "say little about the other 5, which may lose more" in content


def test_compress_prints_how_many_classes_it_was_calibrated_and_measured_on(wide, shard_set, tmp_path, capsys):
    out = tmp_path / "wide.sqz"
    flags = [f"--model={wide}", f"--data={shard_set.folder}", f"--out={out}", "--calibration_records=32"]
    plain = ["--no-measure", "--no-compensate", "--no-count_bits"]
    assert compress.main([*flags, *plain, "--target=190kB", "--max_drop=100", "--records=20"]) == 0
    printed = capsys.readouterr()
    assert "calibrating on 32 records of train, which show 3 of 8 classes" in printed.err
    assert "n = 20, 3 of 8 classes; uncompressed top-1" in printed.out
    assert "warning: The losses were measured on photographs of 3 of 8 classes" in printed.out
    with out.with_name("wide-curve.csv").open() as file:
        line = next(csv.DictReader(file))
    assert (line["classes"], line["calibrated_classes"], line["of_classes"]) == ("3", "3", "8")


def test_full_coverage_gives_no_warning(bundle):
    for name in ("MODEL_CARD.md", "report.html"):
        content = (bundle / name).read_text()
        assert "(3 of 3 classes)" in content and "may lose more" not in content
