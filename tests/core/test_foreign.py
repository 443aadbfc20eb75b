"""Files of other programs: each is called what it is, by its content, with what to do instead."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sqznet import weights
from sqznet.core import foreign
from sqznet.core.errors import InputError
from sqznet.predict import inference
from sqznet.weights import formats
from sqznet.weights.__main__ import main
from tests.weights import writers
from tests.weights.conftest import random_convolutions
from tests.weights.test_hostile import mutated
from tests.weights.writers import field

MUTATIONS = 300


def core_ml() -> bytes:
    """Model: specificationVersion, description, and the neural network at field 500."""
    description = field(1, field(1, b"image")) + field(10, field(1, b"classLabelProbs"))
    return field(1, 4) + field(2, description) + field(500, field(1, field(1, b"conv1")) * 20)


def keras_h5() -> bytes:
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["conv1/conv1/kernel:0"] = np.zeros((3, 3, 3, 64), np.float32)
    return buffer.getvalue()


def frozen_graph() -> bytes:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        image = tf.compat.v1.placeholder(tf.float32, [None, 8, 8, 3], "image")
        tf.nn.conv2d(image, np.ones((3, 3, 3, 4), np.float32), 1, "SAME", name="fire2/squeeze1x1")
    return graph.as_graph_def().SerializeToString()


def checkpoint(end: str) -> Callable[[], bytes]:
    def make() -> bytes:
        import tempfile

        import tensorflow as tf

        with tempfile.TemporaryDirectory() as folder:
            with tf.Graph().as_default(), tf.compat.v1.Session() as session:
                tf.compat.v1.get_variable("conv1", initializer=tf.zeros([3, 3, 3, 64]))  # no random numbers
                session.run(tf.compat.v1.global_variables_initializer())
                tf.compat.v1.train.Saver().save(session, f"{folder}/model.ckpt")
            (found,) = Path(folder).glob(f"*{end}")
            return found.read_bytes()

    return make


def saved_model() -> bytes:
    import tempfile

    import tensorflow as tf

    class Doubling(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
        def __call__(self, x):
            return 2 * x

    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(Doubling(), folder)
        return (Path(folder) / "saved_model.pb").read_bytes()


def archive(*members: str) -> Callable[[], bytes]:
    def make() -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as made:
            for name in members:
                made.writestr(name, b"\x80\x02}q\x00." if name.endswith(".pkl") else bytes(100))
        return buffer.getvalue()

    return make


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        made.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    return buffer.getvalue()


def old_pytorch() -> bytes:
    """Three pickles, of a magic number, a version, and what the machine is like; then the tensors' own."""
    parts = [pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    return b"".join(parts) + b"\x80\x02ccollections\nOrderedDict\nq\x00ctorch._utils\n_rebuild_tensor_v2\n."


def engine_behind_json() -> bytes:
    described = json.dumps({"task": "classify"}).encode()
    return struct.pack("<I", len(described)) + described + b"ftrt" + bytes(100)


def msgpack() -> bytes:
    """{"params": {"conv1": ...}}, as flax.serialization.to_bytes begins."""
    return b"\x81\xa6params\x81\xa5conv1\x82\xa4bias\xc7\x10\x01\x93\x91\x40\xa7float32\xc4\x00"


STRANGERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "model.mlmodel": (core_ml, "is a Core ML model; export the model as ONNX"),
    "packed.mlpackage.zip": (
        archive("a.mlpackage/Manifest.json", "a.mlpackage/Data/com.apple.CoreML/model.mlmodel"),
        "is a packed Core ML .mlpackage; export",
    ),
    "frozen.pb": (frozen_graph, r"is a frozen TensorFlow graph \(.pb\); save the model as ONNX with tf2onnx"),
    "saved_model.pb": (saved_model, "is a TensorFlow SavedModel; save it as ONNX with tf2onnx"),
    "model.ckpt.index": (checkpoint(".index"), r"is a TensorFlow checkpoint \(its index\); save the model as ONNX"),
    "model.ckpt.meta": (checkpoint(".meta"), r"is the graph of a TensorFlow checkpoint \(.meta\); save the model"),
    "checkpoint": (lambda: b'model_checkpoint_path: "model.ckpt"\n', "is the `checkpoint` file of a TensorFlow checkp"),
    "graph.pbtxt": (lambda: b'node {\n  name: "image"\n', "is a TensorFlow graph as text"),
    "model.json": (lambda: b'{"modelTopology": {}, "weightsManifest": []}', "is a TensorFlow.js model.json"),
    "init_net.pb": (lambda: field(1, b"net") + field(2, field(4, b"GivenTensorFill")), "is a Caffe2 network; export"),
    "weights.h5": (keras_h5, r"is an HDF5 file; save the model as ONNX \(Keras's .h5 and .hdf5: with tf2onnx\)"),
    "model.keras": (archive("metadata.json", "config.json", "model.weights.h5"), "is a Keras model already; it needs"),
    "ours.keras": (archive("config.json", "model.weights.h5", "sqznet.json"), "is a Keras model already, of sqznet"),
    "model.pth": (archive("archive/data.pkl", "archive/data/0"), "is a PyTorch pickle, which is not loaded: it can"),
    "model.pt": (
        archive("m/data.pkl", "m/code/x.py", "m/constants.pkl"),
        "is a TorchScript archive of PyTorch, which is not loaded",
    ),
    "old.pth": (old_pytorch, "is a Python pickle of PyTorch, which is not loaded: it can run code; save the weights"),
    "weights.pkl": (lambda: pickle.dumps({"conv1": [1.0]}), "is a Python pickle, which is not loaded: it can run code"),
    "python2.pkl": (lambda: pickle.dumps({"conv1": [1.0]}, 0), "is a Python pickle, which is not loaded"),
    "model.pdparams": (
        lambda: pickle.dumps({"conv1": 1, "StructuredToParameterName@@": {}}, 4),
        "is a PaddlePaddle .pdparams, a pickle, which is not loaded",
    ),
    "torch7.t7": (lambda: struct.pack("<III", 4, 1, 3) + b"V 1" + bytes(100), "is a Torch7 .t7 file; export"),
    "flax.msgpack": (msgpack, "is a MessagePack file, as Flax writes them; save the weights as .safetensors"),
    "model.engine": (lambda: b"ftrt" + bytes(200), "is a TensorRT engine, made for one kind of GPU; export"),
    "described.engine": (engine_behind_json, "is a TensorRT engine"),
    "model.xml": (
        lambda: b'<?xml version="1.0"?>\n<net name="squeezenet" version="11">\n',
        "is an OpenVINO .xml, which describes a network without its weights",
    ),
    "model.bin": (
        lambda: np.random.default_rng(0).normal(size=1000).astype("<f4").tobytes(),
        "is of no known format .by its name raw values without names, as OpenVINO and ncnn have them",
    ),
    "model.ckpt.data-00000-of-00001": (
        lambda: np.random.default_rng(1).normal(size=1000).astype("<f4").tobytes(),
        "is of no known format .by its name the data of a TensorFlow checkpoint",
    ),
    "model.param": (lambda: b"7767517\n75 83\nInput data 0 1 data\n", "is an ncnn .param, which describes a network"),
    "model.param.bin": (lambda: struct.pack("<iii", 7767517, 75, 83), "is a binary ncnn .param without weights"),
    "deploy.prototxt": (
        lambda: b'name: "SqueezeNet"\nlayer {\n  name: "data"\n',
        "is a Caffe .prototxt, .* give the .caffemodel that goes with it",
    ),
    "snap.solverstate": (
        lambda: field(1, 1000) + field(2, b"/snap.caffemodel") + field(3, bytes(50)),
        "is a Caffe .solverstate, which has no weights",
    ),
    "net-symbol.json": (lambda: b'{\n  "nodes": [{"op": "null"}]}', "is an MXNet -symbol.json"),
    "model.ort": (lambda: b"\x1c\0\0\0ORTM" + bytes(50), "is an ONNX Runtime .ort file; import the .onnx file"),
    "model.pte": (lambda: b"\x1c\0\0\0ET12" + bytes(50), "is an ExecuTorch .pte file"),
    "model.tflite": (lambda: b"\x1c\0\0\0TFL3" + bytes(50), "is a TFLite file, whose weights may be quantised"),
    "model.sqz": (lambda: b"\x89SQZ\r\n\x1a\n" + bytes(50), "is a .sqz file, which needs no import"),
    "array.npy": (lambda: b"\x93NUMPY\x01\x00" + bytes(50), "is a single NumPy array"),
    "net.mat": (lambda: b"MATLAB 5.0 MAT-file, Platform: GLNXA64", "is a MATLAB file; export"),
    "model.gguf": (lambda: b"GGUF\x03\0\0\0", "is a GGUF file"),
    "model.tar": (tar, "is a tar archive; unpack it and give the file inside"),
    "model.tar.gz": (lambda: gzip.compress(tar()), "is a gzip archive; unpack it"),
    "model.zip": (
        archive("squeezenet_v1.1.caffemodel"),
        r"is an archive that NumPy has not written \(zip\); unpack it",
    ),
    "photo.jpg": (lambda: b"\xff\xd8\xff\xe0" + bytes(50), "is a JPEG photograph; expected weights"),
    "page.caffemodel": (lambda: b"\n\n<!DOCTYPE html>\n<html>", "is a web page, perhaps of a failed download"),
    "bom.html": (lambda: b"\xef\xbb\xbf<html><body>404</body></html>", "is a web page"),
    "xhtml.pth": (lambda: b'<?xml version="1.0"?><!DOCTYPE html PUBLIC>', "is a web page"),
    "denied.onnx": (lambda: b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a server's message"),
    "missing.safetensors": (lambda: b"Entry not found", "is a server's message of an error, perhaps of a failed down"),
    "github.npz": (lambda: b'{"message": "Not Found", "status": "404"}', "is a server's message of an error"),
    "pointer.caffemodel": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
        "is a Git LFS pointer; fetch the file itself",
    ),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_a_file_of_another_program_is_called_what_it_is(name, tmp_path):
    make, message = STRANGERS[name]
    path = tmp_path / name
    path.write_bytes(make())
    with pytest.raises(InputError, match=message):
        formats.read(path)
    if "name" not in message:  # by its content, whatever it is called
        with pytest.raises(InputError, match=message):
            formats.parse(path.read_bytes(), "x")


@pytest.mark.parametrize("name", ["model.mlmodel", "frozen.pb", "weights.h5", "model.pth", "flax.msgpack"])
def test_it_is_called_so_wherever_a_model_is_asked_for(name, tmp_path):
    make, message = STRANGERS[name]
    path = tmp_path / name
    path.write_bytes(make())
    for ask in (inference.load, inference.load_keras, lambda path: main([f"--source={path}", "--out=x.keras"])):
        with pytest.raises(InputError, match=message):
            ask(path)


def test_a_file_that_is_cut_short_is_still_called_what_it_is():
    for name in ("model.mlmodel", "frozen.pb"):
        make, message = STRANGERS[name]
        content = make()
        with pytest.raises(InputError, match=message):
            formats.parse(content[: int(0.9 * len(content))], "x")


def test_folders_are_called_what_they_are(tmp_path):
    (tmp_path / "a.mlpackage" / "Data").mkdir(parents=True)
    (tmp_path / "a.mlpackage" / "Manifest.json").write_text("{}")
    (tmp_path / "a.mlmodelc").mkdir()
    (tmp_path / "a.mlmodelc" / "coremldata.bin").write_bytes(bytes(8))
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint").write_text("")
    for name, message in (
        ("a.mlpackage", "is a Core ML .mlpackage; export the model as ONNX"),
        ("a.mlmodelc", r"is a compiled Core ML model \(.mlmodelc\); export the model as ONNX"),
        ("saved", "is a SavedModel folder, which needs no import if sqznet wrote it"),
        ("run", "is a folder with a TensorFlow checkpoint"),
    ):
        with pytest.raises(InputError, match=message):
            weights.read(tmp_path / name)
        with pytest.raises(InputError, match=f"is not a run folder: it has no config.json; it {message}"):
            inference.load_keras(tmp_path / name)


@pytest.mark.parametrize("arch", ["v1.0", "v1.1"])
def test_files_that_can_be_read_are_no_strangers(arch):
    convolutions = random_convolutions(arch)
    for name, write in writers.WRITERS.items():
        assert foreign.what_is(write(convolutions)) is None, name


@pytest.mark.slow
@pytest.mark.parametrize("name", STRANGERS)
def test_no_mutated_stranger_crashes(name):
    content, rng = STRANGERS[name][0](), np.random.default_rng(0)
    for _ in range(MUTATIONS):
        with pytest.raises(InputError, match="^x"):
            formats.parse(mutated(content, rng), "x")
