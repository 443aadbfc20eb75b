"""Recognizes files of other programs that the importers cannot read, and tells the user what to do.

This module compares the first and last bytes of a file, and names inside the file. It unpacks and loads nothing.
"""

from __future__ import annotations

import re
from pathlib import Path

from sqznet.core import protobuf

_TO_ONNX = "export the model as ONNX from the program that made it"
_TO_SAFETENSORS = "save the weights as .safetensors"
_NOT_LOADED = "which is not loaded because it can run code"
_UNPACK = "unpack it and give the file inside"
_FAILED = "perhaps of a failed download; fetch the file again"
_ANSWER = f"a server's message of an error, {_FAILED}"
_PROTOTXT = "a Caffe .prototxt, which describes a network without its weights; give the .caffemodel that goes with it"

_BEGINNINGS = {
    b"\x89HDF\r\n": "an HDF5 file; save the model as ONNX (Keras's .h5 and .hdf5: with tf2onnx)",
    b"MATLAB ": f"a MATLAB file; {_TO_ONNX}",
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself (git lfs pull)",
    b"\x89SQZ": "a .sqz file, which needs no import: give it as --model, --init_weights or --teacher",
    b"\x93NUMPY": "a single NumPy array; expected all arrays in one .npz",
    b"ftrt": f"a TensorRT engine, made for one kind of GPU; {_TO_ONNX}",
    b"ptrt": f"a TensorRT engine, made for one kind of GPU; {_TO_ONNX}",
    b"7767517\n": "an ncnn .param, which describes a network without its weights; import the model it was made from",
    b"7767517\r": "an ncnn .param, which describes a network without its weights; import the model it was made from",
    b"\xdd\x85\x76\x00": "a binary ncnn .param without weights; import the model it was made from",
    b"GGUF": f"a GGUF file; {_TO_SAFETENSORS}",
    b"\x1f\x8b": f"a gzip archive; {_UNPACK}",
    b"BZh": f"a bzip2 archive; {_UNPACK}",
    b"\xfd7zXZ\0": f"an xz archive; {_UNPACK}",
    b"(\xb5/\xfd": f"a zstd archive; {_UNPACK}",
    b"7z\xbc\xaf\x27\x1c": f"a 7z archive; {_UNPACK}",
    b"Rar!\x1a\x07": f"a RAR archive; {_UNPACK}",
    b"\xff\xd8\xff": "a JPEG photograph; expected weights",
    b"\x89PNG": "a PNG image; expected weights",
    b"%PDF": "a PDF document; expected weights",
}
_FLATBUFFERS = {  # bytes 4 to 8
    b"TFL3": "a TFLite file, whose weights may be quantised; import the model it was made from",
    b"ORTM": "an ONNX Runtime .ort file; import the .onnx file it was made from",
    b"ET12": "an ExecuTorch .pte file; import the model it was made from",
}
_MEMBERS = {  # a name inside of a zip archive
    b"constants.pkl": f"a TorchScript archive of PyTorch, {_NOT_LOADED}; {_TO_SAFETENSORS}, or export ONNX",
    b"data.pkl": f"a PyTorch pickle, which is not loaded: it can run code; {_TO_SAFETENSORS}",
    b"sqznet.json": "a Keras model already, of sqznet; it needs no import: give it as --model",
    b"model.weights.h5": "a Keras model already; it needs no import if sqznet wrote it, else save the model as ONNX",
    b"com.apple.CoreML": f"a packed Core ML .mlpackage; {_TO_ONNX}",
    b"saved_model.pb": "a packed TensorFlow SavedModel; unpack it and save it as ONNX with tf2onnx",
}
_TEXTS = {  # somewhere near the beginning of a text
    rb"<net[ >]": f"an OpenVINO .xml, which describes a network without its weights; {_TO_ONNX}",
    rb"(?i)<html|<!doctype|^<!": f"a web page, {_FAILED}",
    rb"<Error>": _ANSWER,
    rb"^<\?xml": "an XML file; expected weights",
    rb"(?m)^\s*(layers?|input_param|input_shape)\s*\{|^\s*input:": _PROTOTXT,
    rb"(?m)^\s*node\s*\{": "a TensorFlow graph as text; save the model as ONNX with tf2onnx",
    rb"model_checkpoint_path": "the `checkpoint` file of a TensorFlow checkpoint; save the model as ONNX with tf2onnx",
    rb"^\{\s*\"nodes\"": "an MXNet -symbol.json, which describes a network without its weights; give the .params file "
    "that goes with it",
    rb"modelTopology|weightsManifest": "a TensorFlow.js model.json; import the model it was made from",
    rb"\"weight_map\"": "an index of .safetensors files; save the weights as one file",
    rb"(?i)not found|access denied|forbidden|unauthorized|\"(error|message)\"": _ANSWER,
}
_ENDS = {  # the end of the name of files whose content does not show their kind
    r"\.data-\d+-of-\d+": "the data of a TensorFlow checkpoint; save the model as ONNX with tf2onnx",
    r"\.ckpt": "perhaps a TensorFlow checkpoint; save the model as ONNX with tf2onnx",
    r"\.bin": f"raw values without names, as OpenVINO and ncnn have them; {_TO_ONNX}",
    r"\.pdiparams": f"PaddlePaddle's values without names; {_TO_ONNX} (paddle2onnx)",
    r"\.weights": f"perhaps Darknet's; {_TO_ONNX}",
}


def what_is(content: bytes) -> str | None:
    """Returns the kind of a file and what to do, as the end of a sentence "FILE is ...", or None."""
    for beginning, what in _BEGINNINGS.items():
        if content.startswith(beginning):
            return what
    kind = _FLATBUFFERS.get(content[4:8])
    return kind or _archive(content) or _pickle(content) or _engine(content) or _graph(content) or _text(content)


def folder(path: Path) -> str | None:
    """Returns the kind of a folder and what to do, as the end of a sentence "FOLDER is ...", or None."""
    if (path / "Manifest.json").is_file() and (path / "Data").is_dir():
        return f"a Core ML .mlpackage; {_TO_ONNX}"
    if (path / "coremldata.bin").is_file():
        return f"a compiled Core ML model (.mlmodelc); {_TO_ONNX}"
    if (path / "saved_model.pb").is_file():
        return "a SavedModel folder, which needs no import if sqznet wrote it; save another as ONNX with tf2onnx"
    if (path / "checkpoint").is_file():
        return "a folder with a TensorFlow checkpoint; save the model as ONNX with tf2onnx"
    return None


def by_name(name: str) -> str:
    """Guesses the kind of a file with unknown content from its name. Returns an empty string if the name is unknown."""
    return next((f" (by its name {what})" for end, what in _ENDS.items() if re.search(f"{end}$", name.lower())), "")


def _archive(content: bytes) -> str | None:
    if content.startswith(b"PK\x03\x04"):
        directory = content[-64 * 1024 :]  # at the end
        for member, what in _MEMBERS.items():
            if member in directory:
                return what
        if b".npy" not in directory and b".npy" not in content[:300]:
            return f"an archive that NumPy has not written (zip); {_UNPACK}"
        return None
    if content[257:262] == b"ustar":
        return f"a tar archive; {_UNPACK}"
    # A LevelDB table ends with these bytes.
    if content.endswith(b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"):
        return "a TensorFlow checkpoint (its index); save the model as ONNX with tf2onnx"
    return None


def _pickle(content: bytes) -> str | None:
    if re.match(rb"\x80[\x02-\x05]", content) or re.match(rb"\(dp?\d*\n|\(lp?\d*\n|ccollections\n", content):
        if b"StructuredToParameterName@@" in content:
            return f"a PaddlePaddle .pdparams, a pickle, {_NOT_LOADED}; {_TO_SAFETENSORS}, or export ONNX"
        torch = content.startswith(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19") or b"torch" in content
        of_torch = " of PyTorch" if torch else ""
        return f"a Python pickle{of_torch}, which is not loaded: it can run code; {_TO_SAFETENSORS}"
    # MessagePack: a map whose first key is a word.
    if re.match(rb"([\x81-\x8f]|\xde..|\xdf....)([\xa1-\xbf]|\xd9.)[A-Za-z_]", content, re.DOTALL):
        return f"a MessagePack file, as Flax writes them; {_TO_SAFETENSORS}, in PyTorch's order of dimensions"
    if content[:4] == b"\x04\0\0\0" and content[12:15] == b"V 1":
        return f"a Torch7 .t7 file; {_TO_ONNX}"
    return None


def _engine(content: bytes) -> str | None:
    """Recognizes a TensorRT engine as Ultralytics writes it: a length, JSON, then the engine."""
    length = int.from_bytes(content[:4], "little")
    if content[4:5] == b"{" and content[4 + length : 8 + length] in (b"ftrt", b"ptrt"):
        return _BEGINNINGS[b"ftrt"]
    return None


def _graph(content: bytes) -> str | None:
    """Recognizes protobufs of other programs.

    The first bytes of such a file can equal those of ONNX and caffemodel files.
    """
    fields = protobuf.outline(content) if content[:1] in (b"\x08", b"\x0a", b"\x12") else []
    if not fields:
        return None
    numbers = {number for number, *_ in fields}
    if content[:1] == b"\x08":
        if any(number >= 200 for number in numbers):
            return f"a Core ML model; {_TO_ONNX}"
        inner = [protobuf.outline(content, begin, end) for begin, end in _seconds(fields)]
        if numbers == {1, 2} and any(_is_graph(content, begin, end) for each in inner for begin, end in _seconds(each)):
            return "a TensorFlow SavedModel; save it as ONNX with tf2onnx"
        if any(content[begin:end].endswith(b".caffemodel") for begin, end in _seconds(fields)):
            return "a Caffe .solverstate, which has no weights; give the .caffemodel of the same snapshot"
        return None
    if _is_graph(content, 0, len(content)):
        return "a frozen TensorFlow graph (.pb); save the model as ONNX with tf2onnx"
    if any(_is_graph(content, begin, end) for begin, end in _seconds(fields)):
        return "the graph of a TensorFlow checkpoint (.meta); save the model as ONNX with tf2onnx"
    if b"GivenTensorFill" in content:
        return f"a Caffe2 network; {_TO_ONNX}"
    if b"conv2d" in content and b"fetch" in content:
        return f"a PaddlePaddle .pdmodel, which describes a network without its weights; {_TO_ONNX} (paddle2onnx)"
    return None


def _seconds(fields: list[tuple[int, int, int, int]]) -> list[tuple[int, int]]:
    return [(begin, end) for number, kind, begin, end in fields if (number, kind) == (2, 2)]


def _is_graph(content: bytes, begin: int, end: int) -> bool:
    """Checks for a TensorFlow GraphDef: its first field is a node with a name and an operator."""
    first = protobuf.outline(content, begin, end)[:1]
    if not first or first[0][:2] != (1, 2):
        return False
    node = protobuf.outline(content, *first[0][2:])[:2]
    if [each[:2] for each in node] != [(1, 2), (2, 2)]:
        return False
    name, operator = (content[each[2] : each[3]] for each in node)
    return bool(name) and re.fullmatch(rb"[A-Z_][A-Za-z0-9_>.]*", operator) is not None


def _text(content: bytes) -> str | None:
    start = content[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start or re.search(rb"[\x00-\x08\x0e-\x1f]", start):
        return None
    return next((what for pattern, what in _TEXTS.items() if re.search(pattern, start)), None)
