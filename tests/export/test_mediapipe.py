"""MediaPipe's own image classifier takes the exported files unmodified and sees what LiteRT sees."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from sqznet.data import pipeline
from sqznet.images import crop
from sqznet.images.preprocessing import RUNTIME_RESIZES, Preprocessing
from sqznet.network import metadata
from sqznet.network.keras_file import Card
from sqznet.predict import inference
from tests import ci

# In a process of its own, without a network: MediaPipe looks up a telemetry host when it classifies.
ALONE = ["unshare", "--map-root-user", "--net"]

CLASSIFY = """
import json, sys
import numpy as np
import mediapipe
from mediapipe.tasks.python import BaseOptions, vision

options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=sys.argv[1]))
with vision.ImageClassifier.create_from_options(options) as classifier:
    for pixels in np.load(sys.argv[2]):
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(pixels))
        (head,) = classifier.classify(image).classifications
        print(json.dumps([[each.index, each.category_name, each.score] for each in head.categories]))
"""


@pytest.fixture(scope="module")
def mediapipe_alone() -> list[str]:
    """The start of a command line that runs Python code with MediaPipe and without a network."""
    if importlib.util.find_spec("mediapipe") is None:
        pytest.skip("needs mediapipe, which is not installed")
    if shutil.which("unshare") is None:
        ci.cannot_have("needs unshare (util-linux) to run MediaPipe without a network")
    command = [*ALONE, sys.executable, "-c"]
    tried = subprocess.run([*command, "print()"], capture_output=True, text=True)
    if tried.returncode:
        ci.cannot_have(f"this system allows no network namespaces: {tried.stderr.strip()}")
    tried = subprocess.run([*command, "import mediapipe"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"mediapipe cannot be imported: {tried.stderr.strip().splitlines()[-1]}")
    return command


def classified(command: list[str], model: Path, images: Path) -> list[list[tuple[int, str, float]]]:
    """(output, label, score) of each image, likeliest first."""
    done = subprocess.run([*command, CLASSIFY, str(model), str(images)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", ["model.tflite", "model_float16.tflite", "model_dynamic.tflite", "model_int8.tflite"])
def test_mediapipe_classifies_as_litert_does(bundle, shard_set, mediapipe_alone, tmp_path, name):
    ours = inference.load(bundle / name)
    parts = [images for images, _ in pipeline.examples(shard_set, "val", ours.card.preprocessing, None, 8)]
    images = np.concatenate(parts)  # of the input's size, so that nobody has to resize
    expected = ours.predict(images)
    np.save(tmp_path / "images.npy", images)
    found = classified(mediapipe_alone, bundle / name, tmp_path / "images.npy")
    labels = Path(bundle / "labels.txt").read_text().splitlines()
    assert len(found) == len(images)
    for categories, probabilities in zip(found, expected, strict=True):
        assert sorted(index for index, _, _ in categories) == list(range(len(labels)))
        for index, label, score in categories:
            assert label == labels[index]
            assert abs(score - probabilities[index]) < 1e-5
        assert probabilities[categories[0][0]] >= probabilities.max() - 1e-5  # ties aside, the same top-1


def test_mediapipe_resizes_as_our_table_of_runtimes_says(mediapipe_alone, tmp_path):
    size = 32
    pixel_names = tuple(map(str, range(size * size * 3)))
    write_mirror(tmp_path / "mirror.tflite", size)
    card = Card(pixel_names, Preprocessing(size, size))
    metadata.add_card(tmp_path / "mirror.tflite", "tflite", card, "mirror")
    noise = np.random.default_rng(0).integers(0, 256, (90, 135, 3), np.uint8)
    jpeg = tf.io.encode_jpeg(noise)
    np.save(tmp_path / "photograph.npy", tf.io.decode_jpeg(jpeg).numpy()[np.newaxis])
    (found,) = classified(mediapipe_alone, tmp_path / "mirror.tflite", tmp_path / "photograph.npy")
    theirs = np.zeros(size * size * 3)
    theirs[[index for index, _, _ in found]] = [score for _, _, score in found]
    ours = crop.preprocess_for_eval(jpeg, RUNTIME_RESIZES["mediapipe"].at(size)).numpy().astype(float)
    difference = np.abs(theirs.reshape(ours.shape) - ours)
    # OpenCV computes with weights in steps of 1/32.
    assert difference.max() <= 8 and difference.mean() < 1


def write_mirror(path: Path, size: int) -> None:
    """A model whose "probabilities" are its own pixels."""

    @tf.function(input_signature=[tf.TensorSpec([1, size, size, 3], tf.float32, name="image")], autograph=False)
    def serve(image):
        return {"probabilities": tf.reshape(image, [1, -1])}

    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()])
    path.write_bytes(converter.convert())
