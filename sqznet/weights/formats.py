"""Detects the format of a file of weights by its content, and imports the file.

Loads neither TensorFlow nor pickles.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqznet.core import console, foreign
from sqznet.core.errors import InputError
from sqznet.weights import caffemodel, deep_compression, mxnet, npz, onnx_graph, safetensors
from sqznet.weights.convolutions import Found

MAX_FILE_BYTES = 48 * 2**20  # ten times a SqueezeNet

# The order matters: a Deep Compression file begins with 26 counts that hardly any other file has, and the beginning of
# a protobuf is the least specific.
IMPORTERS: dict[str, tuple[Callable[[bytes], bool], Callable[[bytes, str], Found]]] = {
    "Deep Compression": (deep_compression.looks_like, deep_compression.read),
    "npz": (lambda content: content.startswith(b"PK\x03\x04"), npz.read),
    "MXNet params": (lambda content: content.startswith(mxnet.MAGIC), mxnet.read),
    "safetensors": (safetensors.looks_like, safetensors.read),
    "ONNX": (onnx_graph.looks_like, onnx_graph.read),
    "caffemodel": (caffemodel.looks_like, caffemodel.read),
}


def read(path: Path) -> tuple[str, Found]:
    """Returns the name of the file's format, and the content of the file.

    Raises:
        InputError: there is no such file, or the file is too large, damaged, of an unknown format, or not a SqueezeNet.
    """
    try:
        size = path.stat().st_size
        if path.is_dir() or size > MAX_FILE_BYTES:
            what = f"has {size:,} bytes, and SqueezeNets have about 5,000,000"
            if path.is_dir():
                what = f"is {foreign.folder(path) or 'a folder'}"
            raise InputError(f"{path} {what}; expected a file of weights of at most {MAX_FILE_BYTES:,} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    name, found = parse(content, str(path))
    for theirs, ours in found.by_shape.items():
        console.say(f"{path}: {theirs!r} is taken for {ours}, by its shape")
    return name, found


def parse(content: bytes, where: str) -> tuple[str, Found]:
    """Parses the content of a file as `read` does. `where` is the name of the file in messages."""
    stranger = None if deep_compression.looks_like(content) else foreign.what_is(content)
    if stranger:
        raise InputError(f"{where} is {stranger}")
    for name, (looks_like, importer) in IMPORTERS.items():
        if looks_like(content):
            return name, importer(content, where)
    raise InputError(f"{where} is of no known format{foreign.by_name(where)}; expected one of {', '.join(IMPORTERS)}")
