"""Reads Caffe's `.caffemodel`: a NetParameter in protobuf (BVLC/caffe, src/caffe/proto/caffe.proto).

This module reads both lists of layers: `layer`, and `layers` of Caffe before 2014 (V1LayerParameter). Only the fields
below are declared. protobuf skips all other fields. Names are declared as bytes, because they may not be UTF-8.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np

from sqznet.core import protobuf
from sqznet.core.errors import InputError
from sqznet.weights import activations, names
from sqznet.weights.convolutions import Convolution, Found, as_float32, shaped

# The types of layers in a SqueezeNet, with those for training: by name, and by number in the old list.
_CONVOLUTION, _POOLING, _ELTWISE = {b"Convolution", 4}, {b"Pooling", 17}, {b"Eltwise", 25}
_CONCAT, _UNCHANGING = {b"Concat", 3}, {b"Dropout", 6, b"Split", 22}
_ACTIVATIONS = {b"ReLU": "relu", 18: "relu", b"ELU": "elu"}
_OTHERS = {
    *(b"Softmax", b"SoftmaxWithLoss", b"Accuracy", b"Silence", b"Flatten", b"Reshape", b"ArgMax"),
    *(b"InfogainLoss", b"MultinomialLogisticLoss"),
    *(b"Input", b"Data", b"ImageData", b"HDF5Data", b"MemoryData", b"DummyData"),
    *(20, 21, 1, 36, 8, 30, 13, 16),
    *(5, 12, 9, 29, 32),
}
_KNOWN = {*_CONVOLUTION, *_POOLING, *_ELTWISE, *_CONCAT, *_UNCHANGING, *_ACTIVATIONS, *_OTHERS}
_BYPASSES = {0: "none", 4: "simple", 8: "complex"}  # by the number of sums

_MESSAGES = {  # message: its fields as NAME=NUMBER:TYPE; * marks a repeated field
    "BlobShape": "dim=1:int64*",
    "Blob": "num=1:int32 channels=2:int32 height=3:int32 width=4:int32 data=5:float* shape=7:BlobShape "
    "double_data=8:double*",
    "Convolution": "pad=3:uint32* group=5:uint32 stride=6:uint32* pad_h=9:uint32 pad_w=10:uint32 stride_h=13:uint32 "
    "stride_w=14:uint32 dilation=18:uint32*",
    "Pooling": "pool=1:int32 kernel_size=2:uint32 stride=3:uint32 pad=4:uint32",
    "ReLU": "negative_slope=1:float",
    "ELU": "alpha=1:float",
    "Layer": "name=1:bytes type=2:bytes bottom=3:bytes* top=4:bytes* blobs=7:Blob* convolution_param=106:Convolution "
    "pooling_param=121:Pooling relu_param=123:ReLU elu_param=140:ELU",
    "V1Layer": "bottom=2:bytes* top=3:bytes* name=4:bytes type=5:int32 blobs=6:Blob* convolution_param=10:Convolution "
    "pooling_param=19:Pooling relu_param=30:ReLU",
    "Net": "name=1:bytes layers=2:V1Layer* layer=100:Layer*",
}

# For `protobuf.check`: the repeated messages of the table, text, and the packed values.
_BLOB: protobuf.Schema = {5: None, 6: None, 8: None, 9: None, 7: {}}
_SCHEMA: protobuf.Schema = {
    1: None,
    2: {2: None, 3: None, 4: None, 6: _BLOB, 10: {}},
    100: {1: None, 2: None, 3: None, 4: None, 7: _BLOB, 106: {}},
}


@functools.cache
def _net_class() -> Any:
    """Builds the protobuf class of Net from the table above."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="sqznet/caffe.proto", package="sqznet.caffe", syntax="proto2")
    for message, fields in _MESSAGES.items():
        declared = file.message_type.add(name=message)
        for field, number, kind, star in re.findall(r"(\w+)=(\d+):(\w+)(\*?)", fields):
            added, repeated = declared.field.add(name=field, number=int(number)), bool(star)
            added.label = field_type.LABEL_REPEATED if repeated else field_type.LABEL_OPTIONAL
            if kind in _MESSAGES:
                added.type, added.type_name = field_type.TYPE_MESSAGE, f".sqznet.caffe.{kind}"
            else:
                added.type = getattr(field_type, f"TYPE_{kind.upper()}")
                added.options.packed = repeated and kind in ("int64", "float", "double")  # both encodings are parsed
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("sqznet.caffe.Net"))


def looks_like(content: bytes) -> bool:
    """Checks for the first field of a NetParameter: the name, or a layer of either kind."""
    return content[:1] in (b"\x0a", b"\x12") or content[:2] == b"\xa2\x06"


def read(content: bytes, where: str) -> Found:
    """Reads the file. Raises InputError if the file is damaged or a layer does not belong to a SqueezeNet."""
    from google.protobuf.message import DecodeError

    protobuf.check(content, _SCHEMA, where)
    try:
        net = _net_class().FromString(content)
    except DecodeError as error:
        raise InputError(f"{where} is damaged, or not a caffemodel: {error}") from None
    layers = list(net.layers) or list(net.layer)
    if not layers:
        raise InputError(f"{where} is a protobuf without layers; expected a caffemodel")
    layers = layers[: _end(layers)]
    for layer in layers:
        _check(layer, _wrong_in_layer(layer), where)
    filled = {_called(layer): layer for layer in layers if layer.blobs}
    if len(filled) < sum(bool(layer.blobs) for layer in layers):
        raise InputError(f"{where} is damaged: two layers with weights have the same name")
    named = names.read({called: _convolution(layer, where) for called, layer in filled.items()}, where)
    padding = None
    for called, layer in filled.items():
        ours = named.ours.get(called, called)
        _check(layer, _wrong_in_convolution(ours, layer.convolution_param), where)
        if ours == "conv10" and layer.HasField("convolution_param"):
            padding = max(layer.convolution_param.pad, default=0)
    _check_activations(layers, named.ours, where)
    kinds = {_ACTIVATIONS[layer.type] for layer in layers if layer.type in _ACTIVATIONS}
    if len(kinds) > 1:
        raise InputError(f"{where} is not a SqueezeNet: it has several activations, {' and '.join(sorted(kinds))}")
    sums = sum(layer.type in _ELTWISE for layer in layers)
    if sums not in _BYPASSES:
        raise InputError(f"{where} is not a SqueezeNet: it has {sums} bypasses, where 0, 4 or 8 are expected")
    activation = next(iter(kinds), None)
    return named.found("caffe", activation=activation, bypass=_BYPASSES[sums], conv10_padding=padding)


def _end(layers: list[Any]) -> int:
    """Counts the layers up to the average pooling at the end.

    Later layers only use or measure the output of the network.
    """
    last = max((place for place, layer in enumerate(layers) if layer.blobs), default=len(layers))
    averages = [place for place, layer in enumerate(layers) if layer.type in _POOLING and layer.pooling_param.pool == 1]
    return next((place + 1 for place in averages if place > last), len(layers))


def _called(layer: Any) -> str:
    return layer.name.decode("utf-8", "replace")


def _convolution(layer: Any, where: str) -> Convolution:
    kernel, bias = (_array(blob, f"{where}, {_called(layer)}") for blob in layer.blobs)
    return Convolution(kernel, bias.reshape(-1))  # old files have it as (1, 1, 1, out)


def _check(layer: Any, wrong: str, where: str) -> None:
    if wrong:
        raise InputError(f"{where} is not a SqueezeNet: {_called(layer)!r} {wrong}")


def _wrong_in_layer(layer: Any) -> str:
    """Returns the reason why a SqueezeNet has no such layer, or an empty string if it may have one."""
    if layer.type in _CONVOLUTION and len(layer.blobs) == 2:
        return ""
    is_data = layer.top and not layer.bottom  # photographs or labels from any kind of reader
    if layer.blobs or not (is_data or layer.type in _KNOWN):
        kind = layer.type.decode("utf-8", "replace") if isinstance(layer.type, bytes) else layer.type
        return f"is a layer of type {kind} with {len(layer.blobs)} arrays; expected convolutions with kernel and bias"
    if layer.type in _POOLING and layer.pooling_param.pool == 0:  # 0: max pooling; 1: the average pooling at the end
        pool = layer.pooling_param
        found = (pool.kernel_size, pool.stride, pool.pad)
        return "" if found in ((3, 2, 0), (0, 0, 0)) else f"pools by {found[0]} at a stride of {found[1]}, not 3 at 2"
    if layer.type in (b"ReLU", 18) and layer.relu_param.negative_slope:
        return f"is a leaky ReLU, of slope {layer.relu_param.negative_slope:g}"
    if layer.type == b"ELU" and layer.elu_param.HasField("alpha") and layer.elu_param.alpha != 1:
        return f"is an ELU with an alpha of {layer.elu_param.alpha:g}, not 1"
    return ""


def _check_activations(layers: list[Any], ours: dict[str, str], where: str) -> None:
    """Raises InputError if a convolution has no activation after it."""
    nodes = [
        activations.Node(_kind(layer), ours.get(_called(layer), ""), set(layer.bottom), set(layer.top))
        for layer in layers
    ]
    missing = activations.missing(nodes)
    if missing:
        raise InputError(f"{where}: {activations.refusal(missing)}")


def _kind(layer: Any) -> str:
    """Returns the kind of an `activations.Node`."""
    if layer.type in _CONVOLUTION:
        return "convolution"
    if layer.type in _ACTIVATIONS:
        return "activation"
    if layer.type in _CONCAT:
        return "concat"
    is_maximum = layer.type in _POOLING and layer.pooling_param.pool == 0
    return "passing" if is_maximum or layer.type in _UNCHANGING else "other"


def _wrong_in_convolution(name: str, parameters: Any) -> str:
    strides = {2 if name == "conv1" else 1}
    pads = {0, 1} if name == "conv10" else {1} if name.endswith("expand3x3") else {0}
    given = {
        "stride": (strides, [*parameters.stride, *_if_set(parameters, "stride_h", "stride_w")]),
        "pad": (pads, [*parameters.pad, *_if_set(parameters, "pad_h", "pad_w")]),
        "dilation": ({1}, list(parameters.dilation)),
        "group": ({1}, _if_set(parameters, "group")),
    }
    for what, (allowed, values) in given.items():
        for value in values:
            if value not in allowed:
                return f"has a {what} of {value}, where {' or '.join(map(str, sorted(allowed)))} is expected"
    return ""


def _if_set(message: Any, *names: str) -> list[int]:
    return [getattr(message, name) for name in names if message.HasField(name)]


def _array(blob: Any, what: str) -> np.ndarray:
    values = np.array(blob.data, np.float32) if blob.data else np.array(blob.double_data, np.float64)
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else (blob.num, blob.channels, blob.height, blob.width)
    return as_float32(shaped(values, shape, what), what)
