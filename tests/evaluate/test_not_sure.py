"""The threshold for "not sure": the calibration's table, `export --min_precision`, and the answers of `predict`."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
from pathlib import Path

import pytest

import sqznet
from sqznet.core.errors import InputError
from sqznet.evaluate import temperature
from sqznet.export import __main__ as exporting
from sqznet.export import session
from sqznet.network import keras_file
from sqznet.predict import __main__ as predicting
from sqznet.predict import inference
from sqznet.runs import run_folder


@pytest.fixture(scope="module")
def calibrated(trained_run, shard_set, tmp_path_factory) -> Path:
    run = Path(shutil.copytree(trained_run, tmp_path_factory.mktemp("calibrated") / "run"))
    temperature.calibrate(run, shard_set)
    return run


@pytest.fixture(scope="module")
def rows(calibrated) -> list[dict]:
    found = keras_file.read_card(calibrated / run_folder.BEST).answered
    assert found is not None
    return found


@pytest.fixture(scope="module")
def not_sure(calibrated, rows, shard_set, tmp_path_factory) -> Path:
    """A bundle with the highest accuracy that a threshold gives."""
    out = tmp_path_factory.mktemp("artifacts") / "not_sure"
    best = max(row["accuracy"] for row in rows)
    flags = [f"--model={calibrated}", f"--data={shard_set.folder}", f"--out={out}", f"--min_precision={best}"]
    assert exporting.main([*flags, "--format=tflite,onnx", "--split=val", "--max_drop=10"]) == 0
    return out


def test_calibration_stores_how_many_records_are_answered_rightly(rows, shard_set):
    assert rows[0]["threshold"] == 0 and rows[0]["n"] == shard_set.records("val") and rows[0]["share"] == 1
    assert [row["n"] for row in rows] == sorted((row["n"] for row in rows), reverse=True)
    for row in rows:
        low, high = row["accuracy_interval_95"]
        assert low <= row["accuracy"] <= high


def test_the_bundle_has_the_lowest_threshold_with_that_accuracy(not_sure, rows):
    best = max(row["accuracy"] for row in rows)
    expected = {"value": min(row["threshold"] for row in rows if row["accuracy"] == best), "min_precision": best}
    manifest = json.loads((not_sure / "manifest.json").read_text())
    assert manifest["threshold"] == expected and manifest["answered"] == rows
    assert expected["value"] > 0
    for name in ("model.tflite", "model.onnx"):
        shutil.copy(not_sure / name, alone := not_sure.parent / name)  # without the manifest
        assert inference.load(alone).threshold == expected["value"]
        assert inference.load(alone).card.answered is None
    constant = f"{expected['value']}"
    assert f"THRESHOLD: Double = {constant}\n" in (not_sure / "kotlin/ModelContract.kt").read_text()
    assert f"threshold: Double = {constant}\n" in (not_sure / "swift/ModelContract.swift").read_text()
    for name in ("MODEL_CARD.md", "report.html"):
        text = (not_sure / name).read_text()
        assert f"{constant.rstrip('0').rstrip('.')} (chosen)" in text.replace("\\", "")
        assert "Not sure" in text


def test_without_the_flag_there_is_no_threshold(calibrated, bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert not {"threshold", "answered", "temperature"} & manifest.keys()
    assert inference.load(bundle / "model.onnx").threshold is None
    assert inference.load(calibrated).threshold is None
    assert "THRESHOLD: Double = 0.0\n" in (bundle / "kotlin/ModelContract.kt").read_text()


def test_a_model_without_the_table_says_how_to_get_it(trained_run, calibrated):
    for source in (trained_run, calibrated):
        card = dataclasses.replace(keras_file.read_card(source / run_folder.BEST), answered=None)
        with pytest.raises(InputError, match=r"python -m sqznet.evaluate --model=.* --calibrate first"):
            session.with_threshold(source, card, 0.98)


def test_a_share_that_no_threshold_reaches_is_refused_with_the_highest_one(calibrated, rows):
    card = keras_file.read_card(calibrated / run_folder.BEST)
    poor = [{**row, "accuracy": 0.9 + row["threshold"] / 100} for row in rows]
    with pytest.raises(InputError, match=r"no threshold gives --min_precision=0.98: .* highest accuracy of the answ"):
        session.with_threshold(calibrated, dataclasses.replace(card, answered=poor), 0.98)
    with pytest.raises(InputError, match="is not above 0 and at most 1; 0.98 means 98 %"):
        session.with_threshold(calibrated, card, 98.0)


@pytest.mark.parametrize("value", [{"value": 2.0, "min_precision": 0.9}, {"value": 0.5}, 0.5])
def test_a_card_with_another_threshold_is_refused(calibrated, value):
    content = keras_file.read_card(calibrated / run_folder.BEST).to_dict()
    with pytest.raises(InputError, match="threshold"):
        keras_file.card_from_dict({**content, "threshold": value}, "here")


@pytest.fixture(params=[0.0, 1.0], ids=["sure", "not sure"])
def edited(request, not_sure, tmp_path) -> tuple[Path, bool]:
    """A bundle with a threshold that every photograph reaches, or none does, and which of both it is."""
    folder = Path(shutil.copytree(not_sure, tmp_path / "bundle"))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["threshold"]["value"] = request.param
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder, request.param == 0


def test_predict_says_not_sure_with_the_best_guess(edited, photographs, capsys):
    folder, is_sure = edited
    photo = str(photographs / "val" / "star" / "001.jpg")
    model = f"--model={folder / 'model.onnx'}"
    assert predicting.main([model, "--json", photo]) == 0
    found = json.loads(capsys.readouterr().out)
    (answer,) = found["photographs"]
    assert answer["answered"] is is_sure and found["threshold"] == (0 if is_sure else 1)
    best = answer["predictions"][0]["name"]
    assert predicting.main([model, "--csv", photo]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {line["answered"] for line in lines} == {str(is_sure).lower()} and lines[0]["name"] == best
    assert predicting.main([model, photo]) == 0
    assert ("not sure" in capsys.readouterr().out) is not is_sure


def test_a_classifier_tells_whether_its_first_class_is_an_answer(edited, photographs):
    folder, is_sure = edited
    classifier = sqznet.load(folder / "model.tflite")
    ranking = classifier.predict(photographs / "val" / "star" / "001.jpg")
    assert isinstance(ranking, sqznet.Ranking)
    assert ranking.answered is is_sure and ranking.threshold == (0 if is_sure else 1)
    label = ranking[0].label
    assert ranking.answer == (label if is_sure else f"not sure (best guess: {label})")
    assert str(ranking).startswith(str(ranking[0]) if is_sure else "not sure\n")
