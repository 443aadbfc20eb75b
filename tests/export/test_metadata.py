from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sqznet import inference
from sqznet.data import pipeline
from sqznet.errors import InputError
from sqznet.export import fold, int8, metadata, tflite

LABELS = ("a ball", "Haus", "étoile, star")
SAYS = {"name": "tiny", "description": "three drawn things", "licence": "Apache-2.0"}
PORTS = [("float32", 1.0), ("uint8", 255.0)]


@pytest.fixture(scope="module")
def plain(trained_run, shard_set, tmp_path_factory) -> SimpleNamespace:
    """Two files as the converter leaves them, by the type of their ports, and pixels to run them on."""
    trained, card = inference.load_keras(trained_run)
    folded = fold.inference_model(trained, 32)
    images = [images for images, _ in pipeline.examples(shard_set, "train", card.preprocessing, 16, 8)]
    folder = tmp_path_factory.mktemp("plain")
    tflite.write(folded, folder / "float32.tflite", "none")
    tflite.write_int8(int8.quantize(folded, images), folder / "uint8.tflite")
    return SimpleNamespace(folder=folder, images=np.concatenate(images))


@pytest.fixture
def described(plain, tmp_path):
    """A function: the file of that type of ports with metadata, in a folder of its own."""

    def describe(dtype: str, where: str = "described") -> Path:
        path = tmp_path / where / f"{dtype}.tflite"
        path.parent.mkdir()
        shutil.copy(plain.folder / path.name, path)
        metadata.add(path, **SAYS, labels=LABELS, image_size=32)
        return path

    return describe


def model_of(path: Path):
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(path.read_bytes())


def metadata_of(path: Path):
    model = model_of(path)
    (entry,) = [each for each in model.metadata if each.name == metadata.ENTRY]
    content = model.buffers[entry.buffer].data.tobytes()
    assert content[4:8] == b"M001"
    return metadata.metadata_schema().ModelMetadataT.InitFromPackedBuf(content)


@pytest.mark.parametrize(("dtype", "largest_output"), PORTS)
def test_the_file_says_what_goes_in_and_what_comes_out(described, dtype, largest_output):
    fb = metadata.metadata_schema()
    model = metadata_of(described(dtype))
    assert (model.name, model.description, model.license) == (b"tiny", b"three drawn things", b"Apache-2.0")
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


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_labels_come_back_in_order_from_an_uncompressed_archive(described, plain, dtype):
    path = described(dtype)
    assert metadata.labels_of(path) == LABELS
    assert metadata.labels_of(plain.folder / path.name) is None
    with zipfile.ZipFile(path) as archive:
        (member,) = archive.infolist()
    assert (member.filename, member.compress_type) == ("labels.txt", zipfile.ZIP_STORED)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_the_same_model_is_the_same_bytes(described, dtype):
    assert described(dtype, "one").read_bytes() == described(dtype, "other").read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_the_network_in_the_file_stays_what_it_is(described, plain, dtype):
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
def test_weights_lie_where_the_schema_promises(described, dtype):
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAsModel(described(dtype).read_bytes(), 0)
    starts = [table.Vector(table.Offset(4)) for table in (model.Buffers(i)._tab for i in range(model.BuffersLength()))
              if table.Offset(4)]  # fmt: skip
    assert len(starts) > 10
    assert not any(start % 16 for start in starts)


@pytest.mark.parametrize(
    "content", [b"", b"no model, though long enough", b"\x00\x00\x00\x00TFL3", b"\xff" * 4 + b"TFL3"]
)
def test_a_file_that_is_no_tflite_file_is_refused(tmp_path, content):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(InputError, match="model.tflite is not a TFLite file"):
        metadata.add(path, **SAYS, labels=LABELS, image_size=32)
    assert path.read_bytes() == content
    assert metadata.labels_of(path) is None


def test_a_second_helping_is_refused(described):
    path = described("float32")
    with pytest.raises(InputError, match="has metadata already"):
        metadata.add(path, **SAYS, labels=LABELS, image_size=32)
