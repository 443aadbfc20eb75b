from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import onnx
import pytest

from sqznet import __version__
from sqznet.core.errors import InputError
from sqznet.data import pipeline
from sqznet.export import onnx as onnx_writer
from sqznet.export import saved_model, tflite
from sqznet.images.preprocessing import Preprocessing
from sqznet.network import fold, metadata, tflite_metadata
from sqznet.network.keras_file import Card
from sqznet.network.quantization import int8
from sqznet.predict import inference
from tests.conftest import run_file

LABELS = ("a ball", "Haus", "étoile, star")
CARD = Card(LABELS, Preprocessing(32, 40, "squash", "bicubic", False), "data/here", "ImageNet", {"licence": "MIT"})
PORTS = [("float32", 1.0), ("uint8", 255.0)]


@pytest.fixture(scope="module")
def plain(trained_run, shard_set, tmp_path_factory) -> SimpleNamespace:
    """Files as the converters leave them, TFLite ones by the type of their ports, and pixels to run them on."""
    trained, card = inference.load_keras(trained_run)
    folded = fold.inference_model(trained, 32)
    images = [images for images, _ in pipeline.examples(shard_set, "train", card.preprocessing, 16, 8)]
    folder = tmp_path_factory.mktemp("plain")
    tflite.write(folded, folder / "float32.tflite", "none")
    tflite.write_int8(int8.quantize(folded, images), folder / "uint8.tflite")
    onnx_writer.write(folded, folder / "model.onnx", "none")
    saved_model.write(folded, folder / "savedmodel")
    return SimpleNamespace(folder=folder, images=np.concatenate(images))


@pytest.fixture
def described(plain, tmp_path):
    """A function: the file of that type of ports with metadata, in a folder of its own."""

    def describe(dtype: str, where: str = "described") -> Path:
        path = tmp_path / where / f"{dtype}.tflite"
        path.parent.mkdir()
        shutil.copy(plain.folder / path.name, path)
        metadata.add_card(path, "tflite", CARD, "tiny")
        return path

    return describe


def model_of(path: Path):
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(path.read_bytes())


@functools.cache
def metadata_schema() -> ModuleType:
    """MediaPipe's generated classes, from their one file: `import mediapipe` takes seconds."""
    package = importlib.util.find_spec("mediapipe")
    if package is None or package.origin is None:
        pytest.skip("needs mediapipe, which is not installed")
    file = Path(package.origin).parent / "tasks" / "metadata" / "metadata_schema_py_generated.py"
    spec = importlib.util.spec_from_file_location("metadata_schema", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def metadata_buffer_of(path: Path) -> bytes:
    model = model_of(path)
    (entry,) = [each for each in model.metadata if each.name == metadata.ENTRY]
    return model.buffers[entry.buffer].data.tobytes()


def metadata_of(path: Path):
    content = metadata_buffer_of(path)
    assert content[4:8] == b"M001"
    return metadata_schema().ModelMetadataT.InitFromPackedBuf(content)


@pytest.mark.parametrize(("dtype", "largest_output"), PORTS)
def test_the_metadata_describe_input_and_output(described, dtype, largest_output):
    fb = metadata_schema()
    model = metadata_of(described(dtype))
    assert (model.name, model.license) == (b"SqueezeNet tiny", b"MIT")
    assert model.description.decode() == f"Image classifier. {CARD.preprocessing.steps}."
    assert model.minParserVersion == b"1.0.0"
    (graph,) = model.subgraphMetadata
    (image,), (probabilities,) = graph.inputTensorMetadata, graph.outputTensorMetadata
    assert (image.name, probabilities.name) == (b"image", b"probabilities")
    square = image.content.contentProperties
    assert (square.colorSpace, square.defaultSize.width, square.defaultSize.height) == (fb.ColorSpaceType.RGB, 32, 32)
    (unit,) = image.processUnits
    assert unit.optionsType == fb.ProcessUnitOptions.NormalizationOptions
    assert (unit.options.mean, unit.options.std) == ([0], [1])
    assert (image.stats.min, image.stats.max) == ([0], [255])
    assert (probabilities.stats.min, probabilities.stats.max) == ([0], [largest_output])
    (file,) = probabilities.associatedFiles
    assert (file.name, file.type) == (b"labels.txt", fb.AssociatedFileType.TENSOR_AXIS_LABELS)


def test_the_metadata_are_the_bytes_that_mediapipes_own_classes_write():
    content = tflite_metadata.build("tiny", "three things", "MIT", 32, 255.0, "labels.txt", "sqznet.json")
    builder = tflite_metadata.Builder(1024)
    read = metadata_schema().ModelMetadataT.InitFromPackedBuf(content)
    builder.Finish(read.Pack(builder), file_identifier=b"M001")
    assert content == bytes(builder.Output())


WITHOUT_MEDIAPIPE = """
import sys
sys.modules["mediapipe"] = sys.modules["cv2"] = None  # importing either fails
from pathlib import Path
from sqznet.images.preprocessing import Preprocessing
from sqznet.network import metadata
from sqznet.network.keras_file import Card
metadata.add_card(Path(sys.argv[1]), "tflite", Card(("a", "b", "c"), Preprocessing(32, 32)), "x")
assert metadata.labels_of(Path(sys.argv[1])) == ("a", "b", "c")
"""


def test_metadata_need_neither_mediapipe_nor_opencv(plain, tmp_path):
    path = shutil.copy(plain.folder / "float32.tflite", tmp_path)
    subprocess.run([sys.executable, "-c", WITHOUT_MEDIAPIPE, str(path)], check=True)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_labels_come_back_in_order_from_an_uncompressed_archive(described, plain, dtype):
    path = described(dtype)
    assert metadata.labels_of(path) == LABELS
    assert metadata.labels_of(plain.folder / path.name) is None
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    assert [member.filename for member in members] == ["labels.txt", "sqznet.json"]
    assert {member.compress_type for member in members} == {zipfile.ZIP_STORED}


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_the_same_model_is_the_same_bytes(described, dtype):
    assert described(dtype, "one").read_bytes() == described(dtype, "other").read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_metadata_do_not_change_the_network(described, plain, dtype):
    path = described(dtype)
    before, after = model_of(plain.folder / path.name), model_of(path)
    assert len(after.buffers) == len(before.buffers) + 1
    for old, new in zip(before.buffers, after.buffers, strict=False):
        assert np.array_equal(old.data if old.data is not None else [], new.data if new.data is not None else [])
    assert [each.name for each in after.metadata] == [*(each.name for each in before.metadata), metadata.ENTRY]
    assert [each.signatureKey for each in after.signatureDefs] == [b"serving_default"]
    for old, new in zip(before.subgraphs[0].tensors, after.subgraphs[0].tensors, strict=True):
        assert (old.name, old.type, list(old.shape), old.buffer) == (new.name, new.type, list(new.shape), new.buffer)
        for field in ("scale", "zeroPoint"):
            assert np.array_equal(getattr(old.quantization, field, None), getattr(new.quantization, field, None))


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_outputs_are_equal_before_and_after(described, plain, dtype):
    path = described(dtype)
    assert np.array_equal(run(plain.folder / path.name, plain.images), run(path, plain.images))


def run(path: Path, images: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path)).get_signature_runner("serving_default")
    dtype = runner.get_input_details()["image"]["dtype"]
    return np.concatenate([runner(image=image[None].astype(dtype))["probabilities"] for image in images])


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_weights_are_aligned_as_the_schema_requires(described, dtype):
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAsModel(described(dtype).read_bytes(), 0)
    starts = [table.Vector(table.Offset(4)) for table in (model.Buffers(i)._tab for i in range(model.BuffersLength()))
              if table.Offset(4)]  # fmt: skip
    assert len(starts) > 10
    assert not any(start % 16 for start in starts)


@pytest.mark.parametrize(
    "content", [b"", b"no model, though long enough", b"\x00\x00\x00\x00TFL3", b"\xff" * 4 + b"TFL3"]
)
def test_a_file_that_is_not_tflite_is_refused(tmp_path, content):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(InputError, match="model.tflite is not a TFLite file"):
        metadata.add_card(path, "tflite", CARD, "tiny")
    assert path.read_bytes() == content
    assert metadata.labels_of(path) is None


def test_a_file_that_has_metadata_is_refused(described):
    path = described("float32")
    with pytest.raises(InputError, match="has metadata already"):
        metadata.add_card(path, "tflite", CARD, "tiny")


# The card


CONTRACT = {
    "image_size": 32,
    "resize_to": 40,
    "resize": "squash",
    "interpolation": "bicubic",
    "antialias": False,
    "colour_order": "RGB",
    "range": [0, 255],
    "steps": CARD.preprocessing.steps,
    "rule": CARD.preprocessing.rule,
}


@pytest.fixture(params=["float32.tflite", "uint8.tflite", "model.onnx", "savedmodel"])
def carrying(request, plain, tmp_path) -> Path:
    """A file with a card, with nothing beside it."""
    path = tmp_path / request.param
    (shutil.copy if path.suffix else shutil.copytree)(plain.folder / path.name, path)
    metadata.add_card(path, path.suffix[1:] or "savedmodel", CARD, "tiny")
    return path


def stated_in(path: Path) -> dict:
    """sqznet.json, read without sqznet."""
    if path.is_dir():
        return json.loads((path / "sqznet.json").read_text())
    if path.suffix == ".onnx":
        stored = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        assert set(stored) == {"sqznet.json", "labels.txt"}
        assert stored["labels.txt"] == "".join(f"{name}\n" for name in LABELS)
        return json.loads(stored["sqznet.json"])
    with zipfile.ZipFile(path) as archive:
        assert {member.compress_type for member in archive.infolist()} == {
            zipfile.ZIP_STORED
        }  # MediaPipe reads no other
        return json.loads(archive.read("sqznet.json"))


def test_a_file_carries_its_whole_contract(carrying):
    stated = stated_in(carrying)
    assert {name: stated["preprocessing"][name] for name in CONTRACT} == CONTRACT
    assert (stated["classes"], stated["sqznet"]) == (list(LABELS), __version__)
    assert (stated["pretrained_on"], stated["weights"]) == ("ImageNet", {"licence": "MIT"})
    assert "data" not in stated  # a folder that exists on one machine only
    assert inference.load(carrying).card == dataclasses.replace(CARD, data=None)


def test_the_card_changes_nothing_in_the_network(carrying, plain):
    given, bare = inference.load(carrying).predict(plain.images), run_file(plain.folder / carrying.name, plain.images)
    assert np.array_equal(given, bare)


def test_a_card_is_listed_among_the_files_of_tflite_metadata(plain, tmp_path):
    path = Path(shutil.copy(plain.folder / "float32.tflite", tmp_path))
    metadata.add_card(path, "tflite", CARD, "tiny")
    (listed,) = metadata_of(path).associatedFiles
    assert listed.name == b"sqznet.json"
    assert metadata.labels_of(path) == LABELS


def test_the_same_card_is_the_same_bytes(plain, tmp_path):
    for name in ("one", "other"):
        shutil.copy(plain.folder / "model.onnx", tmp_path / f"{name}.onnx")
        metadata.add_card(tmp_path / f"{name}.onnx", "onnx", CARD, "tiny")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "other.onnx").read_bytes()
