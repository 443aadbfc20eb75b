"""Exported files alone, with a contradicting manifest, and files of other programs."""

from __future__ import annotations

import json
import shlex
import shutil
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx import helper, numpy_helper

from sqznet import weights
from sqznet.core import files
from sqznet.core.errors import InputError
from sqznet.evaluate import __main__ as evaluate
from sqznet.evaluate import scoring
from sqznet.export import variants
from sqznet.images.preprocessing import Preprocessing
from sqznet.network import exported, metadata
from sqznet.network.keras_file import Card
from sqznet.network.labels import readable
from sqznet.predict import __main__ as predict
from sqznet.predict import inference, latency
from sqznet.train import start
from tests.conftest import CLASSES, TINY

SAMPLE = Path(__file__).parents[2] / "sqznet" / "predict" / "samples" / "imagenette"
IMPORT = "python -m sqznet.weights --source={} --out=model.keras"


def alone(path: Path, folder: Path) -> Path:
    """A copy with nothing beside it."""
    folder.mkdir(exist_ok=True)
    copy = shutil.copytree if path.is_dir() else shutil.copy
    return Path(copy(path, folder / path.name))


# A file by itself


@pytest.mark.parametrize("variant", variants.VARIANTS, ids=lambda variant: variant.file_name)
def test_a_file_alone_has_the_card_of_its_manifest(bundle, tmp_path, variant):
    there = inference.load(bundle / variant.file_name).card
    here = inference.load(alone(bundle / variant.file_name, tmp_path / "alone")).card
    assert here.classes == there.classes == CLASSES
    assert (here.preprocessing, here.pretrained_on) == (there.preprocessing, there.pretrained_on)


def test_evaluate_and_predict_answer_as_in_the_bundle(bundle, shard_set, photographs, tmp_path, capsys):
    path = alone(bundle / "model_int8.tflite", tmp_path / "alone")
    flags = [f"--data={shard_set.folder}", "--split=val"]
    for model, out in ((bundle / path.name, "there"), (path, "here")):
        assert evaluate.main([f"--model={model}", *flags, f"--out={tmp_path / out}"]) == 0
    there, here = (json.loads(next((tmp_path / out).glob("*.json")).read_text()) for out in ("there", "here"))
    assert {**here, "model": ""} == {**there, "model": ""}
    capsys.readouterr()
    assert predict.main([f"--model={path}", str(photographs / "val" / "star" / "000.jpg")]) == 0
    assert "star" in capsys.readouterr().out  # and not a number


def test_the_suffix_may_be_in_capitals(bundle, tmp_path):
    shutil.copy(bundle / "model.tflite", tmp_path / "MODEL.TFLITE")
    assert inference.load(tmp_path / "MODEL.TFLITE").card.classes == CLASSES


def test_a_saved_model_may_be_named_from_inside(bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(alone(bundle / "savedmodel", tmp_path / "alone"))
    assert inference.load(Path()).card.classes == CLASSES


def test_an_onnx_file_keeps_its_card_when_it_is_imported(bundle, tmp_path):
    for name in ("model.onnx", "model_nchw.onnx"):
        path = alone(bundle / name, tmp_path / "alone")
        assert weights.read(path).card.classes == CLASSES
        assert weights.read(path).card.preprocessing == inference.load(path).card.preprocessing


# A file of an earlier version: the sample has labels and a description of the crop


def test_the_sample_file_alone_has_its_classes_and_its_crop(tmp_path, capsys):
    path = alone(SAMPLE / "model_int8.tflite", tmp_path / "alone")
    here, there = inference.load(path).card, inference.load(SAMPLE / path.name).card
    assert here.preprocessing == there.preprocessing == Preprocessing(144, 144)
    assert here.classes == readable(there.classes)
    said = capsys.readouterr().err
    assert said.count("note:") == 1 and "was exported by an earlier version of sqznet" in said
    assert "scale the short side to 144 pixels" in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "scale the short side to 256 pixels (bilinear, antialiased), cut out the central square of 227",
            Preprocessing(227, 256),
        ),
        (
            "scale both sides, whatever the shape, to 10 pixels (bicubic, not antialiased), cut out the central square "
            "of 9",
            Preprocessing(9, 10, "squash", "bicubic", False),
        ),
    ],
)
def test_every_crop_that_an_earlier_version_described_is_read(tmp_path, words, expected):
    content = (SAMPLE / "model_int8.tflite").read_bytes()
    description = f"Image classifier. {words}, and give the pixels as they are: no mean, no scale.".encode()
    path = tmp_path / "other.tflite"
    path.write_bytes(content[: content.index(b"Image classifier")] + description)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "cat\ndog\n")
    (found,) = exported.find_cards(path, None)
    assert (found.card.preprocessing, found.card.classes) == (expected, ("cat", "dog"))
    assert words in found.note


def test_readable_names_match_data_with_wordnet_ids(tmp_path):
    predictor = inference.load(alone(SAMPLE / "model_int8.tflite", tmp_path / "alone"))
    ids = inference.load(SAMPLE / "model_int8.tflite").card.classes
    assert predictor.outputs_of(ids, tmp_path).tolist() == list(range(10))
    assert predictor.outputs_of(ids[5:2:-1], tmp_path).tolist() == [5, 4, 3]
    with pytest.raises(InputError, match="class 0 is 'tench' in the model and 'n02102040' in the data"):
        predictor.outputs_of((ids[1], ids[0], *ids[2:]), tmp_path)


@pytest.mark.parametrize(
    ("place", "value"),
    [(10, 99), (10, 8), (8, 1), (16, 7)],
    ids=["unknown method", "deflated", "encrypted", "checksum"],
)
def test_unreadable_labels_of_an_earlier_version_are_reported_as_damage(tmp_path, photographs, place, value):
    path = alone(SAMPLE / "model_int8.tflite", tmp_path / "alone")
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        local = archive.getinfo("labels.txt").header_offset
    central = content.rindex(b"PK\x01\x02")
    content[central + place] = value
    content[local + place - 2] = value
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"model_int8.tflite is damaged: labels.txt in it cannot be read"):
        predict.main([f"--model={path}", str(photographs / "val" / "star" / "000.jpg")])


def lose_the_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(100_000))


@pytest.mark.parametrize("harm", [lose_the_end, append])
def test_a_truncated_file_is_reported_as_damaged(bundle, tmp_path, harm):
    for source, member in ((SAMPLE / "model_int8.tflite", "labels.txt"), (bundle / "model.tflite", "sqznet.json")):
        path = alone(source, tmp_path / "alone")
        harm(path)
        with pytest.raises(InputError, match=f"is damaged or truncated: its metadata name {member}, which the end of"):
            inference.load(path)


def test_an_onnx_file_without_its_end_is_refused(bundle, tmp_path):
    path = alone(bundle / "model.onnx", tmp_path / "alone")
    lose_the_end(path)
    with pytest.raises(InputError, match="is not an ONNX file that ONNX Runtime can run"):
        inference.load(path)


@pytest.mark.parametrize("name", ["model.onnx", "savedmodel"])
def test_a_file_of_an_earlier_version_without_a_card_needs_its_manifest(bundle, tmp_path, name):
    old = shutil.copytree(bundle, tmp_path / "old")
    without_card(old / name)
    content = json.loads((old / "manifest.json").read_text())
    content["files"][name]["sha256"] = files.sha256_below(old / name)
    files.write_json(old / "manifest.json", content)
    assert inference.load(old / name).card.classes == CLASSES
    assert inference.load((old / name).rename(old / f"mine{Path(name).suffix}")).card.classes == CLASSES
    (old / "manifest.json").unlink()
    with pytest.raises(InputError, match="If an earlier version of sqznet exported it, put the manifest.json of its"):
        inference.load(old / f"mine{Path(name).suffix}")


def without_card(path: Path) -> None:
    if path.is_dir():
        (path / "sqznet.json").unlink()
        return
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)


# A manifest that contradicts the file


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["preprocessing"].update(resize_to=160), "resize_to is 144 in the file and 160 in the"),
        (
            lambda content: content["preprocessing"].update(antialias=False),
            "antialias is True in the file and False in",
        ),
        (
            lambda content: content["classes"].reverse(),
            "class 0 is 'tench' in the file and 'parachute' in the manifest",
        ),
        (lambda content: content["preprocessing"].update(image_size=128), "144 x 144 pixels, and .* says 128"),
        (lambda content: content["files"]["model_int8.tflite"].update(sha256="0" * 64), "does not have the sha256"),
    ],
)
def test_a_manifest_that_disagrees_with_the_file_is_refused(tmp_path, change, message):
    shutil.copy(SAMPLE / "model_int8.tflite", tmp_path)
    content = json.loads((SAMPLE / "manifest.json").read_text())
    change(content)
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        inference.load(tmp_path / "model_int8.tflite")


FOREIGN_MANIFESTS = {
    "web page": b'{"name": "My app", "icons": []}',
    "no JSON": b"not JSON",
    "not UTF-8": b'{"name": "caf\xe9"}',
    "no object": b"[1, 2]",
    "sizes": b'{"files": {"model.onnx": {"size": 3}, "model.tflite": {"size": 3}, "savedmodel": {"size": 3}}}',
    "other sums": b'{"files": {"model.onnx": {"sha256": "0"}, "model.tflite": {"sha256": "0"}, "savedmodel": {}}}',
}


@pytest.mark.parametrize("kind", FOREIGN_MANIFESTS)
def test_a_manifest_of_another_program_is_ignored(bundle, tmp_path, kind):
    (tmp_path / "manifest.json").write_bytes(FOREIGN_MANIFESTS[kind])
    for name in ("model.onnx", "model.tflite", "savedmodel"):
        assert inference.load(alone(bundle / name, tmp_path)).card.classes == CLASSES


@pytest.mark.parametrize("kind", ["no JSON", "not UTF-8", "sizes"])
def test_a_damaged_manifest_is_an_error_if_the_file_has_no_card(bundle, tmp_path, kind):
    (tmp_path / "manifest.json").write_bytes(FOREIGN_MANIFESTS[kind])
    path = alone(bundle / "model.onnx", tmp_path)
    without_card(path)
    with pytest.raises(InputError, match=r"manifest.json(:| cannot be read| is not text in UTF-8)"):
        inference.load(path)


# Files under another name


@pytest.mark.parametrize("new", ["model.lite", "model.onnx", "model.keras", "model.sqz", "model", "MODEL.BIN"])
@pytest.mark.parametrize("name", ["model.tflite", "model_int8.tflite", "model.onnx", "model_int8.onnx"])
def test_a_renamed_file_runs_by_its_content(bundle, tmp_path, name, new):
    path = Path(shutil.copy(bundle / name, tmp_path / new))
    here, there = inference.load(path), inference.load(bundle / name)
    assert type(here.runtime) is type(there.runtime) and here.card.classes == CLASSES
    assert not inference.needs_tensorflow(path)


def test_an_earlier_version_of_a_file_may_be_renamed(tmp_path):
    path = Path(shutil.copy(SAMPLE / "model_int8.tflite", tmp_path / "model.lite"))
    assert inference.load(path).card.preprocessing == Preprocessing(144, 144)


def test_a_tflite_file_of_another_program_is_recognised_under_any_name(foreign, tmp_path):
    with pytest.raises(InputError, match="A TFLite file cannot be imported"):
        inference.load(Path(shutil.copy(foreign["tflite"], tmp_path / "model.onnx")))


def test_a_file_inside_a_saved_model_is_refused_with_its_folder(bundle):
    with pytest.raises(InputError, match=r"saved_model.pb is one file of a SavedModel; give its folder: .*savedmodel$"):
        inference.load(bundle / "savedmodel" / "saved_model.pb")


def test_a_damaged_card_is_not_taken_for_none(bundle, tmp_path):
    path = alone(bundle / "model.tflite", tmp_path / "alone")
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"resize_to":32', b'"resize_to":99'))
    with pytest.raises(InputError, match=r"model.tflite is damaged: sqznet.json in it cannot be read"):
        inference.load(path)


# Files of other programs


def foreign_onnx(path: Path, batch: int | str = "batch", softmax: bool = False) -> Path:
    """Colours to three classes, channels first, as PyTorch exports them."""
    kernel = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "kernel"], ["logits"]),
        *([helper.make_node("Softmax", ["logits"], ["output"])] if softmax else []),
    ]
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, [batch, 3, 32, 32])],
        [helper.make_tensor_value_info("output" if softmax else "logits", onnx.TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def foreign_module() -> tf.Module:
    module, kernel = tf.Module(), tf.constant(np.random.default_rng(0).normal(size=(3, 3)), tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, 32, 32, 3], tf.float32, name="image")], autograph=False)
    def serve(image):
        return {"probabilities": tf.reduce_mean(image, [1, 2]) @ kernel}

    module.serve = serve
    return module


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> dict[str, Path]:
    """Models with the shapes of ours, by kind."""
    folder, module = tmp_path_factory.mktemp("foreign"), foreign_module()
    tf.saved_model.save(module, str(folder / "saved"), signatures={"serving_default": module.serve})
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.serve.get_concrete_function()], module)
    (folder / "foreign.tflite").write_bytes(converter.convert())
    return {
        "logits": foreign_onnx(folder / "logits.onnx"),
        "batch of 1": foreign_onnx(folder / "one.onnx", batch=1),
        "softmax": foreign_onnx(folder / "softmax.onnx", softmax=True),
        "tflite": folder / "foreign.tflite",
        "savedmodel": folder / "saved",
    }


FOREIGN = ["logits", "batch of 1", "softmax", "tflite", "savedmodel"]


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_model_of_another_program_is_refused_everywhere(foreign, shard_set, photographs, tmp_path, kind):
    path, photo = foreign[kind], photographs / "val" / "star" / "000.jpg"
    command = IMPORT.format(path if path.suffix == ".onnx" else "FILE")
    options = {"strategy_name": "one", "replicas": None, "run_dir": tmp_path / "run", "resume": False}
    for use in (
        lambda: predict.main([f"--model={path}", str(photo)]),
        lambda: evaluate.main([f"--model={path}", f"--data={shard_set.folder}", "--split=val", f"--out={tmp_path}"]),
        lambda: start.train(shard_set, TINY, teacher=path, **options),
        # TensorFlow accepts its number of threads in a new process only.
        lambda: (latency.in_own_process if kind == "savedmodel" else latency.measure_here)(path, 1, 1),
    ):
        with pytest.raises(InputError, match="is not a file exported by sqznet") as refusal:
            use()
        assert command in str(refusal.value)
        assert kind not in ("tflite", "savedmodel") or "cannot be imported" in str(refusal.value)
    assert not list(tmp_path.glob("evaluation-*"))


def test_the_command_can_be_pasted_where_the_path_has_blanks(tmp_path):
    path = foreign_onnx(tmp_path / "my model.onnx")
    with pytest.raises(InputError) as refusal:
        inference.load(path)
    command = str(refusal.value).partition("this writes: ")[2]
    assert shlex.split(command)[3] == f"--source={path}"


def test_a_foreign_file_beside_a_manifest_is_refused(bundle, foreign, tmp_path):
    shutil.copy(bundle / "manifest.json", tmp_path)
    shutil.copy(foreign["softmax"], tmp_path / "theirs.onnx")
    with pytest.raises(
        InputError, match=r"theirs.onnx is not a file exported by sqznet: it has no sqznet.json inside and no"
    ):
        inference.load(tmp_path / "theirs.onnx")
    shutil.copy(foreign["softmax"], tmp_path / "model.onnx")
    with pytest.raises(InputError, match=r"model.onnx does not have the sha256 that .*manifest.json gives"):
        inference.load(tmp_path / "model.onnx")


def test_a_saved_model_of_another_program_is_refused_before_it_is_loaded(foreign, monkeypatch):
    monkeypatch.setattr(
        tf.saved_model, "load", lambda *args, **options: pytest.fail("it was loaded, and could do harm")
    )
    with pytest.raises(InputError, match="A SavedModel cannot be imported"):
        inference.load(foreign["savedmodel"])


def test_an_onnx_file_without_a_number_of_classes_is_refused(tmp_path):
    model = onnx.load(foreign_onnx(tmp_path / "free.onnx"))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "classes"
    onnx.save(model, tmp_path / "free.onnx")
    with pytest.raises(InputError, match="is not a file exported by sqznet"):
        inference.load(tmp_path / "free.onnx")


# Batches that are fixed


@pytest.mark.parametrize("batch", [1, 4])
def test_our_onnx_file_runs_when_a_tool_has_fixed_its_batch(bundle, shard_set, tmp_path, batch):
    from onnxruntime.tools.onnx_model_utils import make_dim_param_fixed

    model = onnx.load(bundle / "model.onnx")
    make_dim_param_fixed(model.graph, "batch", batch)
    onnx.save(model, tmp_path / "fixed.onnx")
    fixed, free = inference.load(tmp_path / "fixed.onnx"), inference.load(bundle / "model.onnx")
    assert fixed.runtime.batch == batch
    scores = [scoring.evaluate(each, shard_set, "val") for each in (fixed, free)]
    assert np.array_equal(scores[0].hits, scores[1].hits)


# Rows that are no probabilities


def test_a_file_with_a_card_that_puts_out_logits_is_refused(tmp_path):
    path = foreign_onnx(tmp_path / "logits.onnx")
    metadata.add_card(path, "onnx", Card(CLASSES, Preprocessing(32, 32)), "logits")
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    with pytest.raises(InputError, match=r"for image 1 of 3 the values are .* with sum .*Probably these are logits"):
        inference.load(path).predict(images)


def test_evaluate_says_which_records_were_answered_with_logits(shard_set, tmp_path):
    path = foreign_onnx(tmp_path / "logits.onnx")
    metadata.add_card(path, "onnx", Card(CLASSES, Preprocessing(32, 32)), "logits")
    with pytest.raises(InputError, match=r"does not put out probabilities: .* \(records 0 to 32, 0 first, of val of "):
        scoring.evaluate(inference.load(path), shard_set, "val")


def test_a_teacher_that_answers_with_logits_ends_training_with_one_line(shard_set, tmp_path):
    path = foreign_onnx(tmp_path / "logits.onnx")
    metadata.add_card(path, "onnx", Card(CLASSES, Preprocessing(32, 32)), "logits")
    options = {"strategy_name": "one", "replicas": None, "run_dir": tmp_path / "run", "resume": False}
    with pytest.raises(InputError, match=r"--teacher: .*logits.onnx does not put out probabilities: for image 1 of 8"):
        start.train(shard_set, TINY, teacher=path, **options)


# A bundle's folder


def test_a_bundle_is_represented_by_the_file_nearest_to_the_trained_model(bundle, shard_set, tmp_path, capsys):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    for name in ("model.tflite", "model.onnx", "model_nchw.onnx", "savedmodel", "model_float16.tflite"):
        assert inference.load(copy).path == copy / name
        files.remove(copy / name)
    flags = [f"--data={shard_set.folder}", "--split=val", f"--out={tmp_path}"]
    assert evaluate.main([f"--model={copy}", *flags]) == 0
    assert (tmp_path / "evaluation-val-model_float16.onnx.json").is_file()
    assert f"of the bundle {copy}: model_float16.onnx" in capsys.readouterr().err


def test_a_bundle_without_its_files_is_named(tmp_path):
    shutil.copy(SAMPLE / "manifest.json", tmp_path)
    with pytest.raises(InputError, match=r"manifest.json lists model_int8.tflite, and none of them is there"):
        inference.load(tmp_path)


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text('{"name": "My app"}')
    with pytest.raises(InputError, match="is neither a run folder nor a SavedModel folder nor a bundle's"):
        inference.load(tmp_path)


def test_predict_takes_geometry_flags(bundle, photographs, capsys):
    photo = str(photographs / "val" / "star" / "000.jpg")
    answers = []
    for flags in ([], ["--resize=squash", "--resize_to=64"]):
        assert predict.main([f"--model={bundle}", "--json", *flags, photo]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] != answers[1]  # the middle quarter of the drawing is another picture
    with pytest.raises(InputError, match="--resize_to=31 is too small"):
        predict.main([f"--model={bundle}", "--resize_to=31", photo])
