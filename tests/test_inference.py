from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

from sqznet import evaluate, inference
from sqznet.data import manifest
from sqznet.errors import InputError

from .data.test_build import flip_a_bit


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.tflite", b"not a flatbuffer", "model.tflite is not a TFLite file"),
        ("model.onnx", b"not a protobuf", "model.onnx is not an ONNX file"),
        ("model.bin", b"", "model.bin is none of: run folder, .keras, SavedModel folder, .tflite, .onnx"),
        ("best.keras", b"", "is not a run folder: it has no config.json"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        inference.load(tmp_path / name)


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no such model: .*nowhere \(expected a run folder"):
        inference.load(tmp_path / "nowhere")


def test_a_damaged_keras_file_is_refused(trained_run, tmp_path):
    shutil.copy(trained_run / "config.json", tmp_path)
    (tmp_path / "best.keras").write_bytes((trained_run / "best.keras").read_bytes()[:1000])
    with pytest.raises(InputError, match=r"best.keras cannot be loaded as a Keras model"):
        inference.load(tmp_path)


def test_a_run_without_a_finished_epoch_says_so(trained_run, tmp_path):
    shutil.copy(trained_run / "config.json", tmp_path)
    with pytest.raises(InputError, match="has no best.keras: no epoch of that run is finished"):
        inference.load(tmp_path)


def test_classes_in_another_order_are_refused(trained_run, shard_set):
    swapped = dataclasses.replace(shard_set, classes=("house", "ball", "star"))
    with pytest.raises(InputError, match="class 0 is 'ball' in the model and 'house' in the data"):
        evaluate.evaluate(inference.load(trained_run), swapped, "val")


def test_another_number_of_classes_is_refused(trained_run, shard_set):
    fewer = dataclasses.replace(shard_set, classes=("ball", "house"))
    with pytest.raises(InputError, match="has 3 classes, .* has 2"):
        evaluate.evaluate(inference.load(trained_run), fewer, "val")


def test_a_report_names_data_split_and_n(trained_run, shard_set, tmp_path, capsys):
    predictor = inference.load(trained_run)
    score = evaluate.evaluate(predictor, shard_set, "test")
    evaluate.report(score, predictor, shard_set, "test", tmp_path)
    content = json.loads((tmp_path / "evaluation-test.json").read_text())
    assert (content["n"], content["split"], content["data"]) == (27, "test", str(shard_set.folder))
    assert content["top1"] == score.top1_hits / 27
    low, high = content["top1_interval_95"]
    assert low < content["top1"] < high or content["top1"] in (0, 1)
    assert sum(map(sum, content["confusion"])) == 27
    assert (tmp_path / "confusion-test.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "rank-1 (top-1)" in printed and "95 % interval" in printed and "most often taken for" in printed


def test_a_split_that_is_not_there_is_named(trained_run, shard_set):
    with pytest.raises(InputError, match="has no 'dev' split; it has train, val, test"):
        evaluate.evaluate(inference.load(trained_run), shard_set, "dev")


def test_a_corrupt_record_is_named_in_evaluation_too(trained_run, shard_set, tmp_path):
    shutil.copytree(shard_set.folder, tmp_path / "set")
    copied = manifest.load(tmp_path / "set")
    shard = copied.shards_of("val")[1].path
    flip_a_bit(shard, record=2)
    with pytest.raises(InputError, match=rf"{shard.name}, record 2 \(0 first\), is corrupt"):
        evaluate.evaluate(inference.load(trained_run), copied, "val")


def test_a_model_of_another_shape_is_refused(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)
    graph = helper.make_graph(
        [node],
        "nchw",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(made, tmp_path / "model.onnx")
    with pytest.raises(InputError, match=r"is not a file exported by sqznet: expected one input, float32"):
        inference.load(tmp_path / "model.onnx")
