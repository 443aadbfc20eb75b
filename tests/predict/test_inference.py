from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from pathlib import Path

import pytest

from sqznet.core.errors import InputError
from sqznet.data import manifest
from sqznet.evaluate import accuracy_report, scoring
from sqznet.images.preprocessing import Preprocessing
from sqznet.network import keras_file, labels, model
from sqznet.network.architecture import Network
from sqznet.network.keras_file import Card
from sqznet.network.sqz import encoder
from sqznet.predict import inference
from tests.conftest import build_set
from tests.data.test_build import flip_a_bit
from tests.network.test_sqz import network as drawn_network


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.tflite", b"not a flatbuffer", "model.tflite is not a TFLite file that LiteRT can run"),
        ("model.onnx", b"not a protobuf", "model.onnx is not an ONNX file that ONNX Runtime can run"),
        (
            "model.bin",
            b"",
            r"model.bin is of no known format .*; expected one of Deep Compression, npz, MXNet params, ",
        ),
        ("best.keras", b"", "best.keras cannot be loaded as a Keras model: File is not a zip file"),
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
        scoring.evaluate(inference.load(trained_run), swapped, "val")


def test_another_number_of_classes_is_refused(trained_run, shard_set):
    fewer = dataclasses.replace(shard_set, classes=("ball", "moon"))
    with pytest.raises(InputError, match="has 3 classes, .* has 2, and the model has no class 'moon'"):
        scoring.evaluate(inference.load(trained_run), fewer, "val")


def test_a_report_names_data_split_and_n(trained_run, shard_set, tmp_path, capsys):
    predictor = inference.load(trained_run)
    score = scoring.evaluate(predictor, shard_set, "test")
    accuracy_report.report(score, predictor, shard_set, "test", tmp_path)
    content = json.loads((tmp_path / "evaluation-test.json").read_text())
    assert (content["n"], content["split"], content["data"]) == (27, "test", shard_set.folder.name)
    assert content["top1"] == score.top1_hits / 27
    low, high = content["top1_interval_95"]
    assert low < content["top1"] < high or content["top1"] in (0, 1)
    assert sum(count for _, _, count in content["confusion"]) == 27
    assert (tmp_path / "confusion-test.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "rank-1 (top-1)" in printed and "95 % interval" in printed and "most often taken for" in printed


def test_a_split_that_is_not_there_is_named(trained_run, shard_set):
    with pytest.raises(InputError, match="has no 'dev' split; it has train, val, test"):
        scoring.evaluate(inference.load(trained_run), shard_set, "dev")


def test_a_corrupt_record_is_named_in_evaluation_too(trained_run, shard_set, tmp_path):
    shutil.copytree(shard_set.folder, tmp_path / "set")
    copied = manifest.load(tmp_path / "set")
    shard = copied.shards_of("val")[1].path
    flip_a_bit(shard, record=2)
    with pytest.raises(InputError, match=rf"{shard.name}, record 2 \(0 first\), is corrupt"):
        scoring.evaluate(inference.load(trained_run), copied, "val")


def test_a_model_of_another_shape_is_refused(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)
    graph = helper.make_graph(
        [node],
        "nchw",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(made, tmp_path / "model.onnx")
    with pytest.raises(InputError, match=r"is not a file exported by sqznet: expected one input, float32"):
        inference.load(tmp_path / "model.onnx")


# Data with some of a model's classes, and names that people can read


def with_classes(shard_set, *classes: str):
    return dataclasses.replace(shard_set, classes=classes)


def imported_model(path, pretrained_on: str | None = None):
    """A network that knows the data's classes among others, in another order."""
    network = Network(5, "v1.1", image_size=32)
    card = Card(("n02012849", "star", "house", "n01440764", "ball"), Preprocessing(32, 32), None, pretrained_on)
    keras_file.save(model.build(network, channel_means=(1.0, 2.0, 3.0)), card, path)
    return path


def test_data_may_have_some_of_a_models_classes_in_any_order(shard_set, tmp_path):
    predictor = inference.load(imported_model(tmp_path / "model.keras"))
    assert predictor.outputs_of(shard_set.classes, shard_set.folder).tolist() == [4, 2, 1]
    score = scoring.evaluate(predictor, shard_set, "val")
    assert score.confusion.shape == (5, 5)
    assert score.confusion.sum(axis=1).tolist() == [0, 11, 11, 0, 11]


def test_a_model_that_only_numbers_its_classes_is_not_said_to_order_them(shard_set, tmp_path):
    for count in (3, 5):
        path = with_names(tuple(map(str, range(count))), tmp_path / "model.keras")
        message = rf"only numbers its {count} classes, and .* names them \('ball'.*--labels="
        with pytest.raises(InputError, match=message):
            inference.load(path).outputs_of(shard_set.classes, shard_set.folder)
        assert inference.load(path).outputs_of(("0", "1", "2"), tmp_path).tolist() == [0, 1, 2]


def test_a_name_of_two_outputs_is_refused_unless_the_whole_lists_are_equal(tmp_path):
    names = ("a", "crane", "b", "crane")
    predictor = inference.load(with_names(names, tmp_path / "model.keras"))
    with pytest.raises(
        InputError, match=r"'crane' in .* matches several outputs of .*model.keras: 1 \('crane'\), 3 \('crane'\)"
    ):
        predictor.outputs_of(("a", "crane"), tmp_path)
    assert predictor.outputs_of(("b", "a"), tmp_path).tolist() == [2, 0]
    assert predictor.outputs_of(names, tmp_path).tolist() == [0, 1, 2, 3]


def with_names(names: tuple[str, ...], path: Path) -> Path:
    network = model.build(Network(len(names), "v1.1", image_size=32), channel_means=(1.0, 2.0, 3.0))
    keras_file.save(network, Card(names, Preprocessing(32, 32)), path)
    return path


@pytest.mark.parametrize("new", ["x.sqz", "x.onnx", "x.tflite", "x.zip", "X.KERAS", "x"])
def test_a_renamed_keras_file_runs_as_what_it_is(trained_run, tmp_path, new):
    path = Path(shutil.copy(trained_run / "best.keras", tmp_path / new))
    assert inference.load(path).card == inference.load(trained_run).card
    assert inference.needs_tensorflow(path)


@pytest.mark.parametrize("new", ["x.keras", "sqz.onnx", "x.tflite", "x"])
def test_a_renamed_sqz_file_runs_as_what_it_is(tmp_path, new):
    (tmp_path / new).write_bytes(encoder.encode(*drawn_network()))
    loaded = inference.load(tmp_path / new)
    assert loaded.runtime.classes == drawn_network()[0].classes


def test_a_damaged_keras_file_under_another_name_is_named(trained_run, tmp_path):
    shutil.copy(trained_run / "best.keras", tmp_path / "x.keras")
    with zipfile.ZipFile(tmp_path / "x.keras") as archive, zipfile.ZipFile(tmp_path / "x.sqz", "w") as harmed:
        for name in archive.namelist():
            harmed.writestr(name, b"" if name == "config.json" else archive.read(name))
    with pytest.raises(InputError, match=rf"^{tmp_path / 'x.sqz'} cannot be loaded as a Keras model"):
        inference.load(tmp_path / "x.sqz")


def test_a_manifest_of_other_files_is_refused(bundle, tmp_path):
    """Its class names would be taken for those of the first outputs."""
    out = shutil.copytree(bundle, tmp_path / "out")
    content = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps({**content, "classes": ["a", "b", "c", "d"]}))
    with pytest.raises(
        InputError, match="has 3 outputs, and .*manifest.json lists 4 classes: it is the manifest of other"
    ):
        inference.load(out / "model.tflite")


def test_wordnet_ids_are_shown_as_words(shard_set, tmp_path, capsys):
    network = Network(3, "v1.1", image_size=32)
    ids = ("n01440764", "n02012849", "n03126707")
    path = tmp_path / "model.keras"
    keras_file.save(model.build(network, channel_means=(1.0, 2.0, 3.0)), Card(ids, Preprocessing(32, 32)), path)
    predictor, renamed = inference.load(path), with_classes(shard_set, *ids)
    accuracy_report.report(scoring.evaluate(predictor, renamed, "val"), predictor, renamed, "val", tmp_path)
    printed = capsys.readouterr().out
    assert "tench" in printed and "crane (bird)" in printed and "crane (machine)" in printed
    assert json.loads((tmp_path / "evaluation-val-model.keras.json").read_text())["classes"] == list(ids)


def test_photographs_that_published_weights_have_seen_are_pointed_out(photographs, tmp_path, capsys):
    """By their names: ImageNet's train photographs are called n01440764_10026.JPEG."""
    folder = tmp_path / "photographs"
    for index, photo in enumerate(sorted((photographs / "train").rglob("*.jpg"))):
        name = f"n01440764_{index}.JPEG" if index % 2 else f"ILSVRC2012_val_{index:08d}.JPEG"
        (folder / photo.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, folder / photo.parent.name / name)
    built = build_set(f"folder:{folder}", tmp_path / "set", test_files="ILSVRC2012_val_*")
    predictor = inference.load(imported_model(tmp_path / "model.keras", pretrained_on="ImageNet (ILSVRC 2012) train"))
    for split, seen in (("train", built.records("train")), ("test", 0)):
        accuracy_report.report(scoring.evaluate(predictor, built, split), predictor, built, split, tmp_path)
        content = json.loads((tmp_path / f"evaluation-{split}-model.keras.json").read_text())
        printed = capsys.readouterr().out
        if seen:
            expected = f"{seen} of {seen} records of train are named like ImageNet train photographs"
            assert content["note"].startswith(expected) and expected in printed
        else:
            assert content["note"] is None and "note:" not in printed


def test_the_list_of_imagenets_classes_is_whole():
    classes = labels.imagenet()
    assert len(classes) == len(set(classes.values())) == 1000
    assert list(classes) == sorted(classes)
    assert (classes["n01440764"], list(classes)[999]) == ("tench", "n15075141")
    assert labels.readable(("n01440764", "my cat")) == ("tench", "my cat")


def test_a_keras_file_is_whole_in_itself(trained_run, shard_set, tmp_path):
    """Copied without its run folder, it can still be evaluated."""
    shutil.copy(trained_run / "best.keras", tmp_path / "mine.keras")
    alone, there = inference.load(tmp_path / "mine.keras"), inference.load(trained_run)
    assert alone.card == there.card and alone.card.data == shard_set.folder.name
    import keras

    keras.saving.load_model(tmp_path / "mine.keras")  # and Keras itself reads it


def test_a_keras_file_of_another_program_is_refused(tmp_path):
    import keras

    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(tmp_path / "other.keras")
    with pytest.raises(InputError, match="other.keras was not written by sqznet 0.2 or later: it holds no sqznet.json"):
        inference.load(tmp_path / "other.keras")


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite", "model.keras"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html><html><title>404</title></html>", "is a web page"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "is an HDF5 file"),
    ],
    ids=["git lfs", "html", "hdf5"],
)
def test_a_file_of_another_kind_than_its_name_says_is_called_what_it_is(name, content, what, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=what):
        inference.load(tmp_path / name)


def test_a_folder_of_another_program_is_called_what_it_is(tmp_path):
    (tmp_path / "net.mlpackage" / "Data").mkdir(parents=True)
    (tmp_path / "net.mlpackage" / "Manifest.json").write_text("{}")
    with pytest.raises(InputError, match=r"net.mlpackage is neither .*, but a Core ML .mlpackage; export"):
        inference.load(tmp_path / "net.mlpackage")
