"""`evaluate --calibrate`: the temperature in the .keras file, and what predict, evaluate and export make of it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sqznet.core.errors import InputError
from sqznet.data import pipeline
from sqznet.evaluate import __main__ as evaluate
from sqznet.evaluate import scoring, temperature
from sqznet.network import fold, keras_file
from sqznet.predict import inference
from sqznet.runs import run_folder
from tests.conftest import export

FITTED = {"value": 1.75, "split": "val", "records": 33, "records_sha256": "0"}


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    """A copy of the trained run, to calibrate."""
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def set_temperature(run: Path) -> None:
    file = run / run_folder.BEST
    keras_file.replace_card(file, dataclasses.replace(keras_file.read_card(file), temperature=FITTED))


def test_calibration_stores_one_temperature_and_leaves_the_weights(run, shard_set, capsys):
    before = members(run / "best.keras")
    assert evaluate.main([f"--model={run}", f"--data={shard_set.folder}", "--split=val", "--calibrate"]) == 0
    after = members(run / "best.keras")
    assert {name for name in after if after[name] != before[name]} == {keras_file.MEMBER}
    fitted = keras_file.read_card(run / "best.keras").temperature
    assert fitted is not None
    assert fitted["records"] == shard_set.records("val")
    report = json.loads((run / "evaluation-val.json").read_text())
    assert report["temperature"] == fitted
    assert "the temperature was fitted on these" in report["note"]
    assert (run / "reliability-val.png").is_file()
    assert "ECE, calibration error" in capsys.readouterr().out


def test_a_second_calibration_finds_the_same_temperature(run, shard_set):
    set_temperature(run)
    first = temperature.calibrate(run, shard_set)
    assert first != FITTED["value"]
    assert temperature.calibrate(run, shard_set) == first


def test_calibration_lowers_the_loss_and_keeps_every_top1(run, shard_set):
    before = scoring.evaluate(inference.load(run), shard_set, "val")
    temperature.calibrate(run, shard_set)
    after = scoring.evaluate(inference.load(run), shard_set, "val")
    assert after.nll < before.nll
    np.testing.assert_array_equal(after.confusion, before.confusion)
    np.testing.assert_array_equal(after.hits, before.hits)


@pytest.mark.slow
def test_exported_files_give_the_calibrated_probabilities(run, shard_set, tmp_path):
    uncalibrated = inference.load(run)
    set_temperature(run)
    calibrated = inference.load(run)
    bundle = tmp_path / "bundle"
    export(run, shard_set, bundle, quantize="none")
    images, _ = next(pipeline.examples(shard_set, "val", calibrated.card.preprocessing, 16, 16))
    expected = calibrated.predict(images)
    assert np.abs(expected - uncalibrated.predict(images)).max() > 1e-3
    np.testing.assert_array_equal(expected.argmax(axis=1), uncalibrated.predict(images).argmax(axis=1))
    for name in ("model.tflite", "model.onnx", "savedmodel"):
        predictor = inference.load(bundle / name)
        np.testing.assert_allclose(predictor.predict(images), expected, atol=1e-4)
        assert predictor.card.temperature == FITTED


def test_without_calibration_the_card_and_the_network_are_those_of_before(trained_run):
    trained, card = inference.load_keras(trained_run)
    assert "temperature" not in card.to_dict()
    plain = fold.inference_model(trained, card.preprocessing.image_size)
    folded = fold.inference_model(trained, card.preprocessing.image_size, card.divisor)
    assert [layer.name for layer in plain.layers] == [layer.name for layer in folded.layers]
    for expected, got in zip(plain.get_weights(), folded.get_weights(), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_models_without_a_keras_file_and_sets_without_val_are_refused(bundle, run, shard_set):
    with pytest.raises(InputError, match=r"model\.onnx is not a run folder or a \.keras file: calibrate the run"):
        evaluate.main([f"--model={bundle / 'model.onnx'}", f"--data={shard_set.folder}", "--calibrate"])
    with pytest.raises(InputError, match="python -m sqznet.weights --out=model.keras writes"):
        temperature.file_of(Path("squeezenet-v1.1"))
    shards = tuple(each for each in shard_set.shards if each.split != "val")
    before = (run / "best.keras").read_bytes()
    with pytest.raises(InputError, match="has no val split to fit the temperature on; it has train, test"):
        temperature.calibrate(run, dataclasses.replace(shard_set, shards=shards))
    assert (run / "best.keras").read_bytes() == before


def test_calibration_with_another_preprocessing_is_refused(run):
    with pytest.raises(InputError, match=r"own preprocessing: leave out --resize_as=ios, or --calibrate"):
        evaluate.main([f"--model={run}", "--calibrate", "--resize_as=ios"])
    with pytest.raises(InputError, match=r"leave out --resize_to=40, or --calibrate"):
        evaluate.main([f"--model={run}", "--calibrate", "--resize_to=40"])


@pytest.mark.parametrize("value", [0.0, -1.0, "hot", None])
def test_a_card_with_another_temperature_is_refused(trained_run, value):
    content = keras_file.read_card(trained_run / "best.keras").to_dict()
    with pytest.raises(InputError, match="value|temperature"):
        keras_file.card_from_dict({**content, "temperature": {**FITTED, "value": value}}, "here")


def test_the_most_confident_mistakes_are_kept_in_their_order():
    kept = scoring.Mistakes(2)
    rows = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]], np.float32)
    images = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    kept.add(images, rows, np.array([0, 1, 0, 0]), first=10)
    assert [(each.record, each.label, each.predicted) for each in kept.kept] == [(12, 0, 1), (13, 0, 1)]
    kept.add(images[:1], rows[:1], np.array([1]), first=14)
    assert [each.record for each in kept.kept] == [14, 12]
    assert (kept.kept[1].image == 2).all()
