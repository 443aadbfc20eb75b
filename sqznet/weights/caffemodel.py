"""Caffe's `.caffemodel`: a NetParameter in protobuf (BVLC/caffe, src/caffe/proto/caffe.proto).

Both lists of layers are read: `layers`, of Caffe before 2014 (V1LayerParameter), and `layer`. Only the fields below are
declared; protobuf skips the others. Names are declared as bytes: protobuf leaves the check of UTF-8 to whoever reads.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from sqznet.errors import InputError
from sqznet.weights.convolutions import Convolution, Found, as_float32

_V1_CONVOLUTION, _V1_ELTWISE = 4, 25
_ACTIVATIONS = {b"ReLU": "relu", b"ELU": "elu", 18: "relu"}

_MESSAGES = {  # message: {field: (number, type, repeated)}
    "BlobShape": {"dim": (1, "int64", True)},
    "Blob": {
        "num": (1, "int32", False),
        "channels": (2, "int32", False),
        "height": (3, "int32", False),
        "width": (4, "int32", False),
        "data": (5, "float", True),
        "shape": (7, "BlobShape", False),
        "double_data": (8, "double", True),
    },
    "Convolution": {"pad": (3, "uint32", True), "group": (5, "uint32", False), "stride": (6, "uint32", True)},
    "Layer": {
        "name": (1, "bytes", False),
        "type": (2, "bytes", False),
        "blobs": (7, "Blob", True),
        "convolution_param": (106, "Convolution", False),
    },
    "V1Layer": {
        "name": (4, "bytes", False),
        "type": (5, "int32", False),
        "blobs": (6, "Blob", True),
        "convolution_param": (10, "Convolution", False),
    },
    "Net": {"name": (1, "bytes", False), "layers": (2, "V1Layer", True), "layer": (100, "Layer", True)},
}


@functools.cache
def message_class(name: str) -> Any:
    """The protobuf class of one of the messages above, built from this table: Caffe itself is not needed."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="sqznet/caffe.proto", package="sqznet.caffe", syntax="proto2")
    for message, fields in _MESSAGES.items():
        declared = file.message_type.add(name=message)
        for field, (number, kind, repeated) in fields.items():
            added = declared.field.add(name=field, number=number)
            added.label = field_type.LABEL_REPEATED if repeated else field_type.LABEL_OPTIONAL
            if kind in _MESSAGES:
                added.type, added.type_name = field_type.TYPE_MESSAGE, f".sqznet.caffe.{kind}"
            else:
                added.type = getattr(field_type, f"TYPE_{kind.upper()}")
                added.options.packed = repeated and kind != "uint32"  # parsed either way
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"sqznet.caffe.{name}"))


def looks_like(content: bytes) -> bool:
    """The first field of a NetParameter: its name, or a layer of either kind."""
    return content[:1] in (b"\x0a", b"\x12") or content[:2] == b"\xa2\x06"


def read(content: bytes, where: str) -> Found:
    """Raises InputError for a damaged file, or layers that are not of a SqueezeNet."""
    from google.protobuf.message import DecodeError

    try:
        net = message_class("Net").FromString(content)
    except DecodeError as error:
        raise InputError(f"{where} is damaged, or not a caffemodel: {error}") from None
    layers = list(net.layers) or list(net.layer)
    if not layers:
        raise InputError(f"{where} is a protobuf without layers; expected a caffemodel")
    convolutions, padding = {}, None
    for layer in layers:
        if not layer.blobs:
            continue
        called = layer.name.decode("utf-8", "replace")
        if layer.type not in (b"Convolution", _V1_CONVOLUTION) or len(layer.blobs) != 2:
            raise InputError(
                f"{where} is not a SqueezeNet: {called!r} is a layer of type {_text(layer.type)} with "
                f"{len(layer.blobs)} arrays; only convolutions with kernel and bias are expected"
            )
        kernel, bias = (_array(blob, f"{where}, {called}") for blob in layer.blobs)
        name = called.replace("/", "_")
        if name in convolutions:
            raise InputError(f"{where} is damaged: two layers are called {called!r}")
        convolutions[name] = Convolution(kernel, bias.reshape(-1))  # old files have it as (1, 1, 1, out)
        if layer.HasField("convolution_param"):
            _check_geometry(name, layer.convolution_param, where)
            if name == "conv10":
                padding = max(layer.convolution_param.pad, default=0)
    kinds = {_ACTIVATIONS[layer.type] for layer in layers if layer.type in _ACTIVATIONS}
    if len(kinds) > 1:
        raise InputError(f"{where} is not a SqueezeNet: it has several activations, {' and '.join(sorted(kinds))}")
    bypasses = sum(layer.type in (b"Eltwise", _V1_ELTWISE) for layer in layers)
    if bypasses not in (0, 4):
        raise InputError(f"{where} is not a SqueezeNet: it has {bypasses} bypasses, where 0 or 4 are expected")
    return Found(
        convolutions,
        pixels="caffe",
        activation=next(iter(kinds), None),
        bypass="simple" if bypasses else "none",
        conv10_padding=padding,
    )


def _text(layer_type: bytes | int) -> str:
    return layer_type.decode("utf-8", "replace") if isinstance(layer_type, bytes) else str(layer_type)


def _check_geometry(name: str, parameters: Any, where: str) -> None:
    expected = {
        "stride": (2 if name == "conv1" else 1,),
        "pad": (0, 1) if name == "conv10" else (1,) if name.endswith("expand3x3") else (0,),
        "group": (1,),
    }
    found = {
        "stride": list(parameters.stride) or [1],
        "pad": list(parameters.pad) or [0],
        "group": [parameters.group if parameters.HasField("group") else 1],
    }
    for what, allowed in expected.items():
        if any(value not in allowed for value in found[what]):
            raise InputError(
                f"{where} is not a SqueezeNet: {name} has a {what} of {found[what][0]}, where "
                f"{' or '.join(map(str, allowed))} is expected"
            )


def _array(blob: Any, what: str) -> np.ndarray:
    values = np.array(blob.data, np.float32) if blob.data else np.array(blob.double_data, np.float64)
    old = (blob.num, blob.channels, blob.height, blob.width)
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else old
    if min(shape, default=0) < 0 or math.prod(shape) != values.size:
        raise InputError(f"{what} is damaged: {values.size:,} values do not fill the shape {shape}")
    return as_float32(values.reshape(shape), what)
