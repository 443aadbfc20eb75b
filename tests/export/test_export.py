from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sqznet import weights
from sqznet.core import files
from sqznet.core.errors import InputError
from sqznet.data import pipeline
from sqznet.evaluate import __main__ as evaluate
from sqznet.evaluate import scoring
from sqznet.export import check, onnx, saved_model, tflite, variants, verify
from sqznet.images import resize
from sqznet.images.preprocessing import Preprocessing
from sqznet.network import architecture, fold, labels, metadata, model
from sqznet.network.keras_file import Card
from sqznet.predict import inference
from sqznet.predict import photographs as reading
from tests.conftest import CLASSES, export


def images_of(shard_set, predictor) -> np.ndarray:
    return np.concatenate(
        [images for images, _ in pipeline.examples(shard_set, "val", predictor.card.preprocessing, None, 8)]
    )


TOLERANCES = {"none": 1e-4, "float16": 2e-2, "dynamic": 0.1}


@pytest.mark.parametrize("variant", variants.VARIANTS, ids=lambda variant: variant.file_name)
def test_each_file_equals_the_keras_model_in_its_own_runtime(bundle, trained_run, shard_set, variant):
    keras_model, exported = inference.load(trained_run), inference.load(bundle / variant.file_name)
    images = images_of(shard_set, keras_model)
    expected, given = keras_model.predict(images), exported.predict(images)
    if variant.quantize == "int8":  # single answers of so small a network may change
        assert np.abs(given - expected).mean() < np.abs(expected - expected.mean(axis=0)).mean() / 3
    else:
        assert np.abs(given - expected).max() <= TOLERANCES[variant.quantize]
    for batch in (1, 8):
        np.testing.assert_allclose(exported.predict(images[:batch]), given[:batch], rtol=0, atol=1e-3)


def test_ports_have_the_promised_names_shapes_and_types(bundle):
    import onnxruntime
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    session = onnxruntime.InferenceSession(bundle / "model.onnx")
    (image,), (output,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.shape, image.type) == ("image", ["batch", 32, 32, 3], "tensor(float)")
    assert (output.name, output.shape) == ("probabilities", ["batch", 3])

    runner = Interpreter(str(bundle / "model.tflite")).get_signature_runner("serving_default")
    assert runner.get_input_details()["image"]["shape"].tolist() == [1, 32, 32, 3]
    assert runner.get_output_details()["probabilities"]["shape"].tolist() == [1, 3]

    serve = tf.saved_model.load(str(bundle / "savedmodel")).signatures["serving_default"]
    assert serve.structured_input_signature[1]["image"].shape.as_list() == [None, 32, 32, 3]
    assert list(serve.structured_outputs) == ["probabilities"]


WRITERS = """
import sys
from pathlib import Path
from sqznet.core import startup
from sqznet.predict import inference
startup.load_tensorflow()
from sqznet.export import variants
from sqznet.network import fold
trained, _ = inference.load_keras(Path(sys.argv[1]))
source = variants.ModelToExport(fold.inference_model(trained, 32), [])
for variant in variants.choose(["all"], ["none"]):
    variant.write(source, Path(sys.argv[2]) / variant.file_name)
"""


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(trained_run, tmp_path):
    for seed in ("1", "2"):
        (tmp_path / seed).mkdir()
        command = [sys.executable, "-c", WRITERS, str(trained_run), str(tmp_path / seed)]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": seed})
    for name in ("model.tflite", "model.onnx", "model_nchw.onnx"):
        first, second = ((tmp_path / seed / name).read_bytes() for seed in ("1", "2"))
        assert hashlib.sha256(first).digest() == hashlib.sha256(second).digest(), name
    first, second = (saved_model_content(tmp_path / seed / "savedmodel") for seed in ("1", "2"))
    assert first == second


def saved_model_content(folder: Path) -> list[tuple[str, bytes]]:
    """The operators of the serving graph, with the values of its constants."""
    import tensorflow as tf

    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    return [
        (node.op, node.attr["value"].tensor.tensor_content)
        for function in serve.graph.as_graph_def().library.function
        for node in function.node_def
    ]


def test_a_savedmodel_holds_each_weight_once(bundle, trained_run):
    trained, _ = inference.load_keras(trained_run)
    weights = fold.inference_model(trained, 32).count_params() * 4
    assert weights < files.size_of(bundle / "savedmodel") < weights + 60_000


def test_float16_is_half_the_size(bundle):
    for suffix in ("tflite", "onnx"):
        assert files.size_of(bundle / f"model_float16.{suffix}") < 0.55 * files.size_of(bundle / f"model.{suffix}")


def test_the_manifest_and_labels_describe_the_files(bundle):
    assert (bundle / "labels.txt").read_text().split() == list(CLASSES)
    content = json.loads((bundle / "manifest.json").read_text())
    assert list(content["files"]) == sorted(each.file_name for each in variants.VARIANTS)
    for name, entry in content["files"].items():
        path = bundle / name
        assert entry["bytes"] == files.size_of(path)
        if path.is_file():
            assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert entry["proof"]["n"] == 33
    assert content["preprocessing"]["image_size"] == 32


def test_a_bundle_is_what_its_manifest_says(bundle):
    results = check.check(bundle)
    assert [name for name, _, _ in results] == sorted(each.file_name for each in variants.VARIANTS)
    assert max(difference for _, _, difference in results) < 1e-5  # the same runtime on the same machine


def test_golden_pictures_are_the_golden_inputs(bundle, trained_run):
    from PIL import Image

    golden = json.loads((bundle / "golden" / "golden.json").read_text())
    pixels = np.fromfile(bundle / "golden" / "inputs.bin", np.uint8).reshape(golden["inputs"]["shape"])
    for number, image in enumerate(pixels):
        assert np.array_equal(np.asarray(Image.open(bundle / "golden" / f"{number}.png")), image)
    expected = inference.load(trained_run).predict(pixels)
    stored = np.fromfile(bundle / "golden" / "expected" / "model.onnx.bin", "<f4").reshape(len(pixels), -1)
    assert np.abs(stored - expected).max() < 1e-5
    for name in (golden["photo"], golden["photo_turned"]):
        photograph, _ = reading.read(bundle / "golden" / name)
        read = resize.prepare(photograph, inference.load(trained_run).card.preprocessing).astype(int)
        assert np.abs(read - pixels[0]).mean() < 2  # Pillow decodes, not TensorFlow
    assert len(set(golden["labels"])) == len(CLASSES)


def test_the_turned_photograph_is_upright_only_with_its_orientation(bundle):
    from PIL import Image, ImageOps

    photo, turned = (Image.open(bundle / "golden" / name) for name in ("photo.jpg", "photo_turned.jpg"))
    assert (turned.getexif()[0x0112], turned.size) == (6, photo.size[::-1])
    upright, stored, wanted = (np.asarray(each, int) for each in (ImageOps.exif_transpose(turned), turned, photo))
    assert np.abs(upright - wanted).mean() < 2
    assert np.abs(stored - wanted).mean() > 5  # the pictures are square


@pytest.mark.slow
def test_a_free_batch_takes_any_number_of_images(bundle, trained_run, shard_set, tmp_path):
    export(trained_run, shard_set, tmp_path / "out", files="tflite", quantize="all", tflite_batch=None)
    for name in ("model.tflite", "model_int8.tflite"):
        free, one = inference.load(tmp_path / "out" / name), inference.load(bundle / name)
        assert free.runtime.batch is None
        images = images_of(shard_set, free)
        for count in (5, 1, 3):
            assert np.abs(free.predict(images[:count]) - one.predict(images[:count])).max() < 0.01


@pytest.mark.parametrize(("arch", "limit"), [("v1.0", 5 * 1024**2), ("v1.1", 5_000_000)])
def test_a_thousand_classes_stay_under_five_mebibytes(arch, limit, tmp_path):
    network = architecture.Network(1000, arch, "elu", image_size=227)
    folded = fold.inference_model(model.build(network, channel_means=(120.0, 110.0, 100.0)), 227)
    saved_model.write(folded, tmp_path / "savedmodel")
    tflite.write(folded, tmp_path / "model.tflite", "none")
    onnx.write(folded, tmp_path / "model.onnx", "none")
    card = Card(tuple(labels.imagenet()), Preprocessing(227, 256, "squash", "bicubic"), None, weights.IMAGENET_TRAIN)
    for name, format_name in (("savedmodel", "savedmodel"), ("model.tflite", "tflite"), ("model.onnx", "onnx")):
        metadata.add_card(tmp_path / name, format_name, card, "x")
    sizes = {path.name: files.size_of(path) for path in tmp_path.iterdir()}
    assert max(sizes.values()) < limit, sizes


@pytest.mark.parametrize(
    ("format", "quantize", "message"),
    [
        ("bogus", "none", "no format 'bogus'; there are savedmodel, tflite, onnx, onnx_nchw, and all"),
        ("onnx", "int3", "no quantization 'int3'; there are none, float16, dynamic, int8, and all"),
        ("savedmodel", "float16", "savedmodel has no float16 variant; tflite, onnx, onnx_nchw have"),
    ],
)
def test_an_unknown_format_lists_the_known_ones(format, quantize, message):
    with pytest.raises(InputError, match=message):
        variants.choose([format], [quantize])


def test_all_means_every_format_that_has_the_quantization():
    assert [each.format for each in variants.choose(["all"], ["none"])] == ["savedmodel", "tflite", "onnx", "onnx_nchw"]
    assert [each.format for each in variants.choose(["all"], ["float16"])] == ["tflite", "onnx", "onnx_nchw"]
    assert variants.choose(["all"], ["all"]) == list(variants.VARIANTS)


def test_a_bundle_with_synthetic_pictures_has_no_photograph(trained_run, shard_set, tmp_path):
    export(trained_run, shard_set, tmp_path / "synthetic", files="onnx", synthetic=True)  # checks itself
    golden = tmp_path / "synthetic" / "golden"
    pixels = np.fromfile(golden / "inputs.bin", np.uint8).reshape(8, 32, 32, 3)
    predictor = inference.load(trained_run)
    records = images_of(shard_set, predictor).astype(int)
    nearest = [np.abs(records - picture).mean(axis=(1, 2, 3)).min() for picture in pixels.astype(int)]
    assert min(nearest) > 5  # levels of 255
    assert json.loads((golden / "golden.json").read_text())["labels"] is None
    read = resize.prepare(reading.read(golden / "photo.jpg")[0], predictor.card.preprocessing).astype(int)
    assert np.abs(read - pixels[0]).mean() < 1
    report = (tmp_path / "synthetic" / "report.html").read_text()
    assert "of none of the classes" in report and "✗" not in report


def test_evaluate_scores_an_exported_file_like_the_model(bundle, trained_run, shard_set):
    scores = [
        scoring.evaluate(inference.load(path), shard_set, "test")
        for path in (trained_run, bundle / "model.tflite", bundle / "model.onnx", bundle / "savedmodel")
    ]
    assert len({(score.n, score.top1_hits, score.top5_hits) for score in scores}) == 1


def test_evaluate_says_what_a_model_loses_against_another(bundle, trained_run, shard_set, tmp_path, capsys):
    path = bundle / "model_int8.tflite"
    flags = [f"--model={path}", f"--data={shard_set.folder}", "--split=val", f"--out={tmp_path}"]
    assert evaluate.main([*flags, f"--against={trained_run}"]) == 0
    report = json.loads((tmp_path / "evaluation-val-model_int8.tflite.json").read_text())
    loss, whole = report["loss"], scoring.evaluate(inference.load(trained_run), shard_set, "val")
    assert (loss["against"], loss["top1"], loss["top5"]) == (trained_run.name, whole.top1, whole.top5)
    assert loss["drop"] == pytest.approx(whole.top1 - report["top1"])
    assert "points lost" in capsys.readouterr().out
    with pytest.raises(InputError, match="no such model"):
        evaluate.main([*flags, f"--against={tmp_path / 'missing.tflite'}"])


def test_files_are_compared_on_the_requested_records(bundle, trained_run, shard_set):
    paths = {bundle / "model.onnx": "none", bundle / "model_int8.tflite": "int8"}
    against, results = verify.verify_files(inference.load(trained_run), paths, shard_set, "val", 20, 1.0)
    assert len(against.labels) == against.score.n == results["model_int8.tflite"].score.n == 20
    assert results["model.onnx"].agreement == 1.0
