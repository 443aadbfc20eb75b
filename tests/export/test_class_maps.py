"""Files with two outputs: how they are described, and what the gate of an export refuses."""

from __future__ import annotations

import json
import runpy

import numpy as np
import onnx
import pytest

from sqznet import weights
from sqznet.core.errors import CheckFailed, InputError
from sqznet.data import pipeline
from sqznet.export import check, session, variants, verify
from sqznet.export import onnx as onnx_writer
from sqznet.export import tflite as tflite_writer
from sqznet.network import class_map, fold, metadata
from sqznet.predict import inference
from sqznet.predict.runtimes import OnnxRuntime, TfliteRuntime
from tests.conftest import MAP_FILES, export
from tests.network.test_metadata import metadata_of
from tests.predict.test_class_maps import check_file

GRID = {"side": 5, "stride": 16, "offset": 15.5, "divisor": 1.0}


def test_the_manifest_describes_the_class_map_of_each_file(map_bundle):
    manifest = check.load(map_bundle)
    assert sorted(manifest["files"]) == sorted(MAP_FILES)
    for name, entry in manifest["files"].items():
        found, proof = entry["class_map"], entry["proof"]["class_map"]
        batch = 1 if name.endswith(".tflite") else None
        assert (found["name"], found["dtype"], found["shape"]) == ("class_map", "float32", [batch, 5, 5, 3])
        assert found.items() >= GRID.items() and "softmax of the average" in found["description"]
        assert 0 < found["bytes"] < 2000, name
        assert proof["largest_difference"] <= verify.MAP_TOLERANCES[entry["quantize"]]
        assert proof["relative_error"] <= verify.MAP_ERRORS[entry["quantize"]]
        assert (found["logit_range"] is not None) == (name == "model_int8.tflite")
        assert entry["output"]["name"] == "probabilities"


@pytest.mark.slow
def test_every_file_can_have_a_class_map_beside_files_without(map_model, shard_set, photographs, tmp_path):
    out = tmp_path / "all"
    export(map_model, shard_set, out, quantize="all", with_class_map=True)
    names = [each.file_name for each in variants.VARIANTS]
    for name in names:
        check_file(out / name, map_model, photographs / "val" / "star" / "000.jpg")
    before = check.load(out)["files"]
    assert sorted(before) == sorted(names) and all(0 < each["class_map"]["bytes"] < 2000 for each in before.values())
    export(map_model, shard_set, out, files="onnx")
    after = check.load(out)["files"]
    assert [name for name in names if "class_map" not in after[name]] == ["model.onnx"]
    added = before["model.onnx"]["bytes"] - after["model.onnx"]["bytes"]
    assert added == before["model.onnx"]["class_map"]["bytes"]
    assert {name for name, _, _ in check.check(out)} == set(names)


def test_files_have_no_class_map_by_default(bundle):
    assert not any("class_map" in entry for entry in check.load(bundle)["files"].values())
    assert "<h2>Class maps</h2>" not in (bundle / "report.html").read_text()


def test_the_bundle_passes_its_own_check(map_bundle):
    assert {name for name, _, _ in check.check(map_bundle)} == set(MAP_FILES)


def test_a_lone_file_describes_its_class_map(map_bundle):
    for path in (path for path in map_bundle.iterdir() if path.name in MAP_FILES):
        readers = {".tflite": metadata.card_in_tflite, ".onnx": metadata.card_in_onnx}
        card = json.loads(readers.get(path.suffix, metadata.card_in_saved_model)(path))
        assert card["class_map"] == {**GRID, "description": class_map.DESCRIPTION}, path.name
    port = onnx.load(map_bundle / "model.onnx").graph.output[1]
    assert (port.name, port.doc_string) == ("class_map", class_map.DESCRIPTION)


def test_the_metadata_of_tflite_describe_the_class_map(map_bundle):
    (graph,) = metadata_of(map_bundle / "model_int8.tflite").subgraphMetadata
    first, second = graph.outputTensorMetadata
    assert (first.name, second.name) == (b"probabilities", b"class_map")
    assert second.description.decode() == class_map.DESCRIPTION


def test_the_signature_of_tflite_names_both_outputs(map_bundle):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(map_bundle / "model_int8.tflite"))
    assert interpreter.get_signature_list()["serving_default"]["outputs"] == ["class_map", "probabilities"]
    pixels = np.full((1, 96, 96, 3), 90, np.uint8)
    outputs = interpreter.get_signature_runner()(image=pixels)
    assert outputs["class_map"].dtype == np.float32 and outputs["class_map"].shape == (1, 5, 5, 3)
    assert outputs["probabilities"].dtype == np.uint8


def test_the_report_shows_the_class_maps(map_bundle):
    report = (map_bundle / "report.html").read_text()
    assert "<h2>Class maps</h2>" in report and "Below each picture, the class map of its first answer" in report
    assert report.count('alt="where ') == 8
    assert "The second output, class_map, has the scores of each class by place" in report
    assert "class_map, float32, 1x5x5x3" in (map_bundle / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize("outputs", [[], ["class_map"]])
def test_files_without_probabilities_are_refused(outputs):
    with pytest.raises(InputError, match="lacks probabilities, which every file has"):
        variants.has_class_map(outputs)


def test_an_unknown_output_is_refused_before_the_data_is_read(map_model, tmp_path):
    trained, card = inference.load_keras(map_model)
    with pytest.raises(InputError, match="no output 'logits'; there are probabilities, class_map"):
        session.export_model(
            map_model, trained, card, chosen=[], data=tmp_path / "none", outputs=("probabilities", "logits")
        )


def compared(quantize: str, maps: np.ndarray, expected: np.ndarray) -> verify.MapVerification:
    comparison = verify._MapComparison("model.tflite", quantize, None)
    comparison.add(maps, class_map.probabilities(maps), expected)
    return comparison.result()


@pytest.fixture
def maps() -> np.ndarray:
    return np.random.default_rng(0).gamma(1, 2, (4, 5, 5, 3)).astype(np.float32)


@pytest.mark.parametrize("quantize", verify.MAP_ERRORS)
def test_a_map_with_rows_and_columns_exchanged_is_refused(maps, quantize):
    assert compared(quantize, maps, maps).relative_error == 0
    with pytest.raises(CheckFailed, match=r"class map of model.tflite is not that of the Keras model: its relative"):
        compared(quantize, maps.transpose(0, 2, 1, 3), maps)


@pytest.mark.parametrize("quantize", verify.MAP_TOLERANCES)
def test_a_map_that_does_not_give_the_probabilities_is_refused(maps, quantize):
    comparison = verify._MapComparison("model.tflite", quantize, None)
    comparison.add(maps, class_map.probabilities(maps)[:, ::-1], maps)
    with pytest.raises(CheckFailed, match="does not give the probabilities of the file: the largest difference"):
        comparison.result()


def test_an_int8_file_may_cut_off_logits_outside_its_range(maps):
    limits = (0.0, float(class_map.logits(maps).mean()))
    cut_off = class_map.probabilities(maps, limits)
    comparison = verify._MapComparison("model_int8.tflite", "int8", limits)
    comparison.add(maps, cut_off, maps)
    assert comparison.result().largest_difference == 0
    comparison = verify._MapComparison("model_int8.tflite", "int8", None)
    comparison.add(maps, cut_off, maps)
    with pytest.raises(CheckFailed, match="does not give the probabilities of the file"):
        comparison.result()


def test_a_map_that_is_not_a_number_is_refused(maps):
    broken = maps.copy()
    broken[0, 0, 0, 0] = np.nan
    with pytest.raises(CheckFailed, match="does not give the probabilities"):
        compared("int8", broken, maps)


def test_golden_vectors_of_another_map_are_refused(map_bundle, monkeypatch):
    """The self-test of `--check` compares the map with the probabilities of the same file."""
    with_map = OnnxRuntime.with_class_map

    def other_classes(self, images):
        probabilities, maps = with_map(self, images)
        return probabilities, np.roll(maps, 1, axis=-1)

    monkeypatch.setattr(OnnxRuntime, "with_class_map", other_classes)
    with pytest.raises(CheckFailed, match="the class map of model.* does not give the probabilities of the file"):
        check.check(map_bundle)


def test_a_map_of_one_cell_can_be_exported(trained_run, shard_set, tmp_path):
    """At 32 pixels one cell is left, whose average converters may leave out."""
    trained, card = inference.load_keras(trained_run)
    folded = fold.inference_model(trained, 32)
    grid = class_map.Grid(1, 16, 15.5)
    (images, _), *_ = pipeline.examples(shard_set, "val", card.preprocessing, 2, 2)
    expected = inference.of_keras(trained_run, trained, card).predict_with_class_map(images)
    for name, writer in (("model.onnx", onnx_writer), ("model.tflite", tflite_writer)):
        writer.write(folded, tmp_path / name, "none", with_class_map=True)
        metadata.add_card(tmp_path / name, name.split(".")[1], card, "one", grid)
        found = inference.load(tmp_path / name).predict_with_class_map(images)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_a_tflite_file_for_any_number_of_images_gives_a_map_of_each(map_model, tmp_path):
    trained, card = inference.load_keras(map_model)
    path = tmp_path / "model.tflite"
    tflite_writer.write(fold.inference_model(trained, 96), path, "none", None, with_class_map=True)
    metadata.add_card(path, "tflite", card, "any", class_map.Grid(5, 16, 15.5))
    images = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), np.uint8)
    predictor = inference.load(path)
    assert isinstance(predictor.runtime, TfliteRuntime) and predictor.runtime.batch is None
    _, expected = inference.of_keras(map_model, trained, card).predict_with_class_map(images)
    np.testing.assert_allclose(predictor.predict_with_class_map(images)[1], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["model.tflite", "model_int8.tflite", "model.onnx"])
def test_the_python_program_of_a_bundle_takes_files_with_two_outputs(map_bundle, name):
    run, contract, _ = runpy.run_path(str(map_bundle / "python" / "model_file.py"))["load"](map_bundle / name)
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    (expected,) = inference.load(map_bundle / name).predict(pixels[None])
    np.testing.assert_allclose(run(pixels), expected, atol=1e-6)
    assert contract["class_map"]["side"] == 5


def test_a_second_output_that_the_file_does_not_describe_is_refused(map_model, tmp_path):
    trained, card = inference.load_keras(map_model)
    path = tmp_path / "model.onnx"
    onnx_writer.write(fold.inference_model(trained, 96), path, "none", with_class_map=True)
    undescribed = path.read_bytes()
    metadata.add_card(path, "onnx", card, "x")
    with pytest.raises(InputError, match="its second output is a class map .* for 3 classes, and it does not describe"):
        inference.load(path)
    path.write_bytes(undescribed)
    metadata.add_card(path, "onnx", card, "x", class_map.Grid(6, 16, 15.5))
    with pytest.raises(InputError, match="says a side of 6 cells"):
        inference.load(path)


def test_weights_are_imported_from_a_file_with_two_outputs(map_model, map_bundle, photographs):
    """The second output does not make it a file of another program: its pixels are raw."""
    model, card = weights.load(map_bundle / "model.onnx")
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)
    found = inference.of_keras(map_bundle, model, card).predict(images)
    np.testing.assert_allclose(found, inference.load(map_model).predict(images), atol=1e-4)
