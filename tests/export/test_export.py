from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sqznet import evaluate, files, inference, model, predict
from sqznet.data import pipeline
from sqznet.errors import InputError
from sqznet.export import bundle, fold, onnx, saved_model, tflite, verify

from ..conftest import CLASSES

BUDGET = 5 * 1024**2


def export(run_dir: Path, shard_set, out: Path, **changes):
    options = {"formats": list(bundle.FORMATS), "quantize": "none", "budget": BUDGET, "split": "val", "records": None}
    return bundle.export(run_dir, *inference.load_keras(run_dir), shard_set, out=out, **{**options, **changes})


@pytest.fixture(scope="module")
def artifacts(trained_run, shard_set, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("artifacts") / "tiny"
    export(trained_run, shard_set, out)
    export(trained_run, shard_set, out, formats=["tflite", "onnx"], quantize="float16")
    return out


def images_of(shard_set, predictor) -> np.ndarray:
    return np.concatenate(
        [images for images, _ in pipeline.examples(shard_set, "val", predictor.card.preprocessing, None, 8)]
    )


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("savedmodel", 1e-4),
        ("model.tflite", 1e-4),
        ("model.onnx", 1e-4),
        ("model_float16.tflite", 2e-2),
        ("model_float16.onnx", 2e-2),
    ],
)
def test_each_file_equals_the_keras_model_in_its_own_runtime(artifacts, trained_run, shard_set, name, tolerance):
    keras_model, exported = inference.load(trained_run), inference.load(artifacts / name)
    images = images_of(shard_set, keras_model)
    expected = keras_model.predict(images)
    assert np.abs(exported.predict(images) - expected).max() <= tolerance
    for batch in (1, 8):
        assert np.abs(exported.predict(images[:batch]) - expected[:batch]).max() <= tolerance


def test_ports_have_the_promised_names_shapes_and_types(artifacts):
    import onnxruntime
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    session = onnxruntime.InferenceSession(artifacts / "model.onnx")
    (image,), (output,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.shape, image.type) == ("image", ["batch", 32, 32, 3], "tensor(float)")
    assert (output.name, output.shape) == ("probabilities", ["batch", 3])

    runner = Interpreter(str(artifacts / "model.tflite")).get_signature_runner("serving_default")
    assert runner.get_input_details()["image"]["shape"].tolist() == [1, 32, 32, 3]
    assert runner.get_output_details()["probabilities"]["shape"].tolist() == [1, 3]

    serve = tf.saved_model.load(str(artifacts / "savedmodel")).signatures["serving_default"]
    assert serve.structured_input_signature[1]["image"].shape.as_list() == [None, 32, 32, 3]
    assert list(serve.structured_outputs) == ["probabilities"]


def test_exporting_twice_gives_the_same_bytes(artifacts, trained_run, shard_set, tmp_path):
    command = [sys.executable, "-m", "sqznet.export", f"--model={trained_run}", "--split=val", f"--out={tmp_path}"]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": "1"})
    for name in ("model.tflite", "model.onnx"):
        first, second = ((folder / name).read_bytes() for folder in (artifacts, tmp_path))
        assert hashlib.sha256(first).digest() == hashlib.sha256(second).digest(), name
    first, second = (saved_model_content(folder / "savedmodel") for folder in (artifacts, tmp_path))
    assert first == second


def saved_model_content(folder: Path) -> tuple[list[str], bytes]:
    """The operators of the serving graph, and the weights."""
    import tensorflow as tf

    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    operators = [node.op for function in serve.graph.as_graph_def().library.function for node in function.node_def]
    (data,) = (folder / "variables").glob("variables.data-*")
    return operators, data.read_bytes()


def test_a_savedmodel_holds_each_variable_once(artifacts, trained_run):
    trained, _ = inference.load_keras(trained_run)
    folded = fold.inference_model(trained, 32)
    (data,) = (artifacts / "savedmodel" / "variables").glob("variables.data-*")
    assert data.stat().st_size < folded.count_params() * 4 + 20_000


def test_float16_is_half_the_size(artifacts):
    for suffix in ("tflite", "onnx"):
        assert files.size_of(artifacts / f"model_float16.{suffix}") < 0.55 * files.size_of(
            artifacts / f"model.{suffix}"
        )


def test_tflite_uses_builtin_operators_only(artifacts):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(artifacts / "model.tflite"))
    operators = {operator["op_name"] for operator in interpreter._get_ops_details()}
    assert operators <= {"CONV_2D", "MAX_POOL_2D", "CONCATENATION", "ADD", "MEAN", "RESHAPE", "SOFTMAX", "DELEGATE"}


def test_the_manifest_and_labels_describe_the_files(artifacts):
    assert (artifacts / "labels.txt").read_text().split() == list(CLASSES)
    content = json.loads((artifacts / "manifest.json").read_text())
    assert set(content["files"]) == {
        "savedmodel", "model.tflite", "model.onnx", "model_float16.tflite", "model_float16.onnx",
    }  # fmt: skip
    for name, entry in content["files"].items():
        path = artifacts / name
        assert entry["bytes"] == files.size_of(path)
        if path.is_file():
            assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert entry["proof"]["n"] == 33
    assert content["preprocessing"]["image_size"] == 32


def test_files_of_an_earlier_model_do_not_stay_beside_a_new_one(artifacts, trained_run, shard_set, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(artifacts, out)
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps({**manifest, "model_sha256": "another"}))
    export(trained_run, shard_set, out, formats=["tflite"])
    assert {path.name for path in out.iterdir()} == {"model.tflite", "labels.txt", "manifest.json"}


@pytest.mark.parametrize("older", [False, True], ids=["fresh", "over-an-older-export"])
def test_over_budget_leaves_nothing_that_looks_finished(artifacts, trained_run, shard_set, tmp_path, older):
    out = tmp_path / "out"
    if older:
        shutil.copytree(artifacts, out)
    size = files.size_of(artifacts / "model.onnx")
    with pytest.raises(InputError, match=rf"onnx is {size:,} bytes .*, over the budget of 100,000 bytes .*float16"):
        export(trained_run, shard_set, out, formats=["onnx"], budget=100_000)
    assert not (out / "model.onnx").exists()
    if older:
        assert "model.onnx" not in json.loads((out / "manifest.json").read_text())["files"]
    assert not list(out.glob(".tmp-*"))


def test_one_bad_format_keeps_the_others_from_being_written(trained_run, shard_set, tmp_path, artifacts):
    between = (files.size_of(artifacts / "model.tflite") + files.size_of(artifacts / "savedmodel")) // 2
    with pytest.raises(InputError, match="savedmodel is"):
        export(trained_run, shard_set, tmp_path, formats=["tflite", "savedmodel"], budget=between)
    assert list(tmp_path.iterdir()) == []


def broken(model, change):
    """The inference model with its last weights changed, as a faulty conversion would."""
    layer = model.get_layer("conv10")
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel, change(bias)])
    return model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda bias: bias + np.array([0.5, 0, 0]),
            r"not equal to the Keras model: the largest difference .* and 1e-04 is allowed",
        ),
        (lambda bias: bias + np.inf, "puts out values that are not numbers"),
    ],
    ids=["wrong", "nan"],
)
def test_a_file_that_is_not_equal_is_not_written(trained_run, shard_set, tmp_path, monkeypatch, change, message):
    real = fold.inference_model
    monkeypatch.setattr(fold, "inference_model", lambda *args: broken(real(*args), change))
    with pytest.raises(InputError, match=message):
        export(trained_run, shard_set, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("arch", "limit"), [("v1.0", 5 * 1024**2), ("v1.1", 5_000_000)])
def test_a_thousand_classes_stay_under_five_mebibytes(arch, limit, tmp_path):
    network = model.Network(1000, arch, "elu", image_size=227)
    folded = fold.inference_model(model.build(network, channel_means=(120.0, 110.0, 100.0)), 227)
    saved_model.write(folded, tmp_path / "savedmodel")
    tflite.write(folded, tmp_path / "model.tflite", "none")
    onnx.write(folded, tmp_path / "model.onnx", "none")
    sizes = {path.name: files.size_of(path) for path in tmp_path.iterdir()}
    assert max(sizes["model.tflite"], sizes["model.onnx"]) < limit, sizes
    assert sizes["savedmodel"] < 5 * 1024**2, sizes


@pytest.mark.parametrize(
    ("format", "quantize", "message"),
    [
        ("tflight", "none", "no format 'tflight'; there are savedmodel, tflite, onnx, and all"),
        ("onnx", "int3", "no quantization 'int3'; there are none, float16"),
        ("savedmodel", "float16", "savedmodel has no float16 variant; tflite, onnx have"),
    ],
)
def test_an_unknown_format_lists_the_known_ones(format, quantize, message):
    with pytest.raises(InputError, match=message):
        bundle.choose(format, quantize)


def test_all_means_every_format_that_can():
    assert bundle.choose("all", "none") == ["savedmodel", "tflite", "onnx"]
    assert bundle.choose("all", "float16") == ["tflite", "onnx"]


def test_evaluate_scores_an_exported_file_like_the_model(artifacts, trained_run, shard_set):
    scores = [
        evaluate.evaluate(inference.load(path), shard_set, "test")
        for path in (trained_run, artifacts / "model.tflite", artifacts / "model.onnx", artifacts / "savedmodel")
    ]
    assert len({(score.n, score.top1_hits, score.top5_hits) for score in scores}) == 1


def test_the_proof_compares_on_the_records_it_says(trained_run, shard_set):
    against = verify.reference(inference.load(trained_run), shard_set, "val", 20)
    assert len(against.labels) == len(against.probabilities) == sum(map(len, against.images)) == 20


def test_the_program_of_the_readme_answers_as_the_model_does(artifacts, trained_run, photographs, tmp_path):
    readme = Path(__file__).parents[2] / "export" / "README.md"
    program = readme.read_text().split("```python\n")[1].split("```")[0]
    for name in ("manifest.json", "labels.txt", "model.tflite"):
        shutil.copy(artifacts / name, tmp_path)
    shutil.copy(photographs / "val" / "star" / "000.jpg", tmp_path / "photo.jpg")
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    predictor = inference.load(trained_run)
    (expected,) = predictor.predict(predict.read(tmp_path / "photo.jpg", predictor)[None])
    name, probability = done.stdout.split()
    assert name == CLASSES[expected.argmax()]
    assert float(probability) == pytest.approx(expected.max(), abs=0.05)  # Pillow scales a little differently
