"""Imports any ONNX file of a SqueezeNet. Convolutions are identified by their places in the graph.

Only operators of a SqueezeNet are supported. A graph that scales its pixels is refused.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from sqznet.core import protobuf
from sqznet.core.errors import InputError
from sqznet.network import class_map
from sqznet.network.architecture import ARCHS, FIRES, SIMPLY_BYPASSED, map_sides
from sqznet.weights import activations
from sqznet.weights.convolutions import Convolution, Found, as_float32

_ACTIVATIONS = {"Relu": "relu", "Elu": "elu"}
_AVERAGES = {"GlobalAveragePool", "AveragePool", "ReduceMean"}
_UNCHANGING = {"Dropout", "Identity", "Cast", "Transpose"}
_AFTER_LOGITS = {"Reshape", "Flatten", "Squeeze", "Softmax", *_UNCHANGING}
_QUANTISED = re.compile("(Dynamic)?QuantizeLinear|DequantizeLinear|QLinear.*|.*Integer")
_SHAPE_ARITHMETIC = {"Shape", "Gather", "Slice", "Unsqueeze", "Squeeze", "Concat", "Cast"}  # for a Reshape of logits
_FLOATS = (1, 10, 11)  # TensorProto's float32, float16, float64
_ATTRIBUTES = {float: (1, "f"), int: (2, "i"), bytes: (3, "s"), list: (7, "ints")}  # AttributeProto: type, field
_TO_NCHW, _TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]
_RAW = " (not activated)"  # marks a place before its activation
_BLOCKS = ("conv1", *FIRES)  # their outputs are pooled and squeezed

# For `protobuf.check`: all messages of an ordinary file for which the library creates objects.
_PROPERTIES: protobuf.Schema = {1: None, 2: None}
_TENSOR: protobuf.Schema = {4: None, 8: None, 9: None, 10: None, 12: None, 13: _PROPERTIES, 16: _PROPERTIES}
_TYPE: protobuf.Schema = {1: {2: {1: {2: None, 3: None}}}, 6: None}
_VALUE: protobuf.Schema = {1: None, 2: _TYPE, 3: None, 4: _PROPERTIES}
_ATTRIBUTE: protobuf.Schema = {1: None, 4: None, 5: _TENSOR, 13: None}
_NODE: protobuf.Schema = {1: None, 2: None, 3: None, 4: None, 5: _ATTRIBUTE, 6: None, 7: None, 8: None, 9: _PROPERTIES}
_GRAPH: protobuf.Schema = {1: _NODE, 2: None, 5: _TENSOR, 10: None, 11: _VALUE, 12: _VALUE, 13: _VALUE, 16: _PROPERTIES}
_MODEL: protobuf.Schema = {2: None, 3: None, 4: None, 6: None, 7: _GRAPH, 8: {1: None}, 14: _PROPERTIES}


def looks_like(content: bytes) -> bool:
    """Checks for the first field of a ModelProto, which is a version below 128."""
    return content[:1] == b"\x08"


def read(content: bytes, where: str) -> Found:
    """Reads the file. Raises InputError if it is damaged, has data in other files, or contains another network."""
    import onnx
    from google.protobuf.message import DecodeError

    protobuf.check(content, _MODEL, where)
    try:
        graph = onnx.ModelProto.FromString(content).graph
    except DecodeError as error:
        raise InputError(f"{where} is damaged, or not an ONNX file: {error}") from None
    quantised = next((node.op_type for node in graph.node if _QUANTISED.fullmatch(node.op_type)), None)
    if quantised:
        raise InputError(f"{where} is quantised (it has {quantised}); import the float file that it was made from")
    walk = _Walk(graph, where)
    for node in graph.node:
        walk.step(node)
    return walk.found()


class _Walk:
    """Follows the nodes of the graph in order. `at` maps each tensor to the part of a SqueezeNet that computed it."""

    def __init__(self, graph: Any, where: str) -> None:
        self.where = where
        self.weights = {each.name: each for each in graph.initializer}
        self.at: dict[str, str] = {}
        self.convolutions: dict[str, Convolution] = {}
        self.activations: set[str] = set()
        self.bypassed: set[str] = set()
        self.arch = ""
        self.conv10_padding = 0
        inputs = [each for each in graph.input if each.name not in self.weights]
        if len(inputs) != 1:
            raise InputError(f"{where} is not a SqueezeNet: it has {len(inputs)} inputs, where 1 is expected")
        self.at[inputs[0].name] = "image"
        shape = [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim]
        self.image_size = shape[2] if len(shape) == 4 and shape[2] > 0 else None
        self.channels_last = {inputs[0].name} if shape[3:] == [3] and shape[1] != 3 else set()
        self.outputs = [each.name for each in graph.output]
        # Files exported by sqznet, which take raw pixels.
        ours = (["probabilities"], ["probabilities", class_map.NAME])
        self.ours = bool(self.channels_last) and inputs[0].name == "image" and self.outputs in ours

    def refuse(self, node: Any, why: str) -> InputError:
        return InputError(
            f"{self.where} is not a SqueezeNet: {node.op_type} {(node.name or ', '.join(node.output))!r} {why}"
        )

    def attribute(self, node: Any, name: str, default: Any) -> Any:
        """Returns the value of a node's attribute, of the same type as its default."""
        kind, field = _ATTRIBUTES[type(default)]
        for attribute in node.attribute:
            if attribute.name == name:
                if attribute.type != kind:
                    raise self.refuse(node, f"has {name} of an unexpected type")
                value = getattr(attribute, field)
                return list(value) if isinstance(default, list) else value
        return default

    def step(self, node: Any) -> None:
        if node.op_type == "Constant":
            self._constant(node)
            return
        if not node.output or not node.input:
            raise self.refuse(node, "has no input or no output")
        if node.op_type in ("Identity", "Cast") and node.input[0] in self.weights:
            self.weights[node.output[0]] = self.weights[node.input[0]]
            return
        places = [self.at[name] for name in node.input if name in self.at]
        if not places:
            raise self.refuse(node, "has no input that depends on the image")
        self._check_layout(node)
        self.at[node.output[0]] = self._place(node, places)

    def _place(self, node: Any, places: list[str]) -> str:
        """Returns the part of a SqueezeNet that the node's output belongs to."""
        place, op = places[0], node.op_type
        handlers = {"Conv": self._conv, "Concat": self._concat, "Add": self._add, "MaxPool": self._max_pool}
        if op in _SHAPE_ARITHMETIC and (place == "shape" or (place == "logits" and op == "Shape")):
            return "shape"
        if op in _ACTIVATIONS:
            return self._activation(node, place)
        if place.endswith(_RAW) and (op in _AVERAGES or op in ("Conv", "MaxPool", "Add")):
            raise InputError(f"{self.where}: {activations.refusal([place.removesuffix(_RAW)])}")
        if op in handlers:
            return handlers[op](node, places)
        if op in _AVERAGES and place == "conv10":
            self._check_average(node)
            return "logits"
        if op == "Cast" and self.attribute(node, "to", 1) not in _FLOATS:
            raise self.refuse(node, "rounds to whole numbers")
        if op in _UNCHANGING or (place == "logits" and op in _AFTER_LOGITS):
            return place
        raise self.refuse(node, f"after {place} is not part of one")

    def _check_layout(self, node: Any) -> None:
        """Keeps track of tensors with the channels last. ONNX's operators do not take such tensors."""
        last = node.input[0] in self.channels_last
        if node.op_type == "Transpose":
            if self.attribute(node, "perm", []) != (_TO_NCHW if last else _TO_NHWC):
                raise self.refuse(node, "is not a change between NHWC and NCHW")
            last = not last
        elif last and node.op_type in ("Conv", "MaxPool", "Concat", "GlobalAveragePool", "AveragePool", "ReduceMean"):
            raise self.refuse(node, "takes channels last, where they have to come second")
        if last:
            self.channels_last.add(node.output[0])

    def _constant(self, node: Any) -> None:
        for attribute in node.attribute:
            if attribute.name == "value" and node.output:
                self.weights[node.output[0]] = attribute.t

    def _array(self, node: Any, index: int) -> np.ndarray:
        import onnx
        from onnx import numpy_helper

        name = node.input[index]
        if name not in self.weights:
            raise self.refuse(node, f"takes {name!r} as its weights, which the file does not hold")
        tensor = self.weights[name]
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise self.refuse(node, f"has its weights {name!r} in another file; save the model as one file")
        try:
            return as_float32(numpy_helper.to_array(tensor), f"{self.where}, {name}")
        except InputError:
            raise
        except Exception as error:  # damaged sizes and types cause errors of many classes
            raise self.refuse(node, f"has damaged weights {name!r} ({error})") from None

    def _conv(self, node: Any, places: list[str]) -> str:
        kernel = self._array(node, 1) if len(node.input) > 1 else np.zeros(0)
        if kernel.ndim != 4:
            raise self.refuse(node, f"has a kernel of {kernel.shape}, where four dimensions are expected")
        bias = self._array(node, 2) if len(node.input) > 2 and node.input[2] else np.zeros(len(kernel), np.float32)
        place = self._place_of_conv(node, places[0], kernel)
        if place in self.convolutions:
            raise self.refuse(node, f"has the same place as another {place}")
        padding = 1 if place.endswith("expand3x3") else 0
        given = self.attribute(node, "pads", [0] * 4)
        if self.attribute(node, "auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER"):
            # This is half of an odd kernel at a stride of 1. At conv1's stride of 2 it differs from Caffe's padding.
            given = [kernel.shape[2] // 2] * 4
        if place == "conv10" and given == [1] * 4:
            self.conv10_padding = padding = 1
        stride = 2 if place == "conv1" else 1
        expected = {"pads": [padding] * 4, "strides": [stride] * 2, "dilations": [1, 1], "group": 1}
        found = {"pads": given, **{name: self.attribute(node, name, [1, 1]) for name in ("strides", "dilations")}}
        found["group"] = self.attribute(node, "group", 1)
        for name, value in expected.items():
            if found[name] != value:
                raise self.refuse(node, f"({place}) has {name} {found[name]}, where {value} is expected")
        self.convolutions[place] = Convolution(kernel, bias)
        return place if place.endswith("_bypass1x1") else place + _RAW

    def _place_of_conv(self, node: Any, place: str, kernel: np.ndarray) -> str:
        """Returns the name of a convolution whose input is `place`."""
        if place == "image":
            kernels = {each.conv1_kernel: name for name, each in ARCHS.items()}
            if kernel.shape[2] not in kernels:
                raise self.refuse(node, f"is the first, of {kernel.shape}; expected a side of 7 (v1.0) or 3 (v1.1)")
            self.arch = kernels[kernel.shape[2]]
            return "conv1"
        if place.endswith("_squeeze1x1"):
            fire = place.removesuffix("_squeeze1x1")
            return f"{fire}_expand{kernel.shape[2]}x{kernel.shape[3]}"
        block = self._block(node, place)
        if block == "fire9":
            return "conv10"
        if block:
            fire = _BLOCKS[_BLOCKS.index(block) + 1]
            is_bypass = fire not in SIMPLY_BYPASSED and len(kernel) == 2 * FIRES[fire][1]
            return f"{fire}_bypass1x1" if is_bypass else f"{fire}_squeeze1x1"
        raise self.refuse(node, f"after {place} is not part of one")

    def _block(self, node: Any, place: str) -> str:
        """Returns the block whose output is `place`, or an empty string if there is none.

        Checks the pooling of the block.
        """
        block = place.removesuffix("_pool")
        if block not in _BLOCKS:
            return ""
        if (block in ARCHS[self.arch].pooled_after) != place.endswith("_pool"):
            pooled = "pooled" if place.endswith("_pool") else "unpooled"
            raise self.refuse(node, f"takes {block} {pooled}, unlike SqueezeNet {self.arch}")
        return block

    def _concat(self, node: Any, places: list[str]) -> str:
        # The branches of a fire module may be activated before or after the concatenation.
        raw = _RAW if places[0].endswith(_RAW) else ""
        fire = places[0].removesuffix(_RAW).removesuffix("_expand1x1")
        axis = self.attribute(node, "axis", 1)
        if fire not in FIRES or places != [f"{fire}_expand1x1{raw}", f"{fire}_expand3x3{raw}"] or axis not in (1, -3):
            raise self.refuse(
                node, f"joins {', '.join(places)} along axis {axis}; expected expand1x1 and expand3x3 along 1"
            )
        return fire + raw

    def _add(self, node: Any, places: list[str]) -> str:
        for fire, other in zip(places, reversed(places), strict=True):
            if len(places) != 2 or fire not in FIRES or fire in self.bypassed:
                continue
            before = _BLOCKS[_BLOCKS.index(fire) - 1]
            simply = fire in SIMPLY_BYPASSED and other.removesuffix("_pool") == before
            if other == f"{fire}_bypass1x1" or (simply and self._block(node, other)):
                self.bypassed.add(fire)
                return fire
        raise self.refuse(node, f"adds {' and '.join(places)}, which no bypass does")

    def _max_pool(self, node: Any, places: list[str]) -> str:
        block = places[0]
        kernel, strides = self.attribute(node, "kernel_shape", []), self.attribute(node, "strides", [1, 1])
        dilations, pads = self.attribute(node, "dilations", [1, 1]), self.attribute(node, "pads", [0] * 4)
        if block not in _BLOCKS or (kernel, strides, dilations) != ([3, 3], [2, 2], [1, 1]):
            raise self.refuse(node, f"pools {block} by {kernel} at strides of {strides}; expected [3, 3] at [2, 2]")
        same = self.attribute(node, "auto_pad", b"NOTSET") == b"SAME_UPPER"
        if same or pads != [0, 0, 1, 1]:  # padding at the end only: the same as Caffe's ceil mode
            ceil = self.attribute(node, "ceil_mode", 0) == 1 and not same
            side = self._side(node, block)
            if any(pads) or not (ceil or (side and side % 2 == (0 if same else 1))):
                raise self.refuse(
                    node, f"pools {block} in another way than Caffe's, whose last window may extend over the edge"
                )
        return f"{block}_pool"

    def _side(self, node: Any, block: str) -> int:
        """Returns the side of a block's output in pixels.

        Returns 0 if the file does not state the size of its images.
        """
        try:
            return map_sides(self.arch, self.image_size)[block] if self.image_size else 0
        except InputError as error:
            raise self.refuse(node, f"does not fit: {error}") from None

    def _check_average(self, node: Any) -> None:
        """Raises InputError unless the average is over the whole map."""
        if node.op_type == "AveragePool":
            side = self._side(node, "fire9") + 2 * self.conv10_padding if self.image_size else 0
            if self.attribute(node, "kernel_shape", []) != [side, side]:
                raise self.refuse(node, "does not average over the whole map")
        if node.op_type == "ReduceMean":
            axes = self.attribute(node, "axes", [])
            if len(node.input) > 1:
                axes = self._numbers(node, 1)
            if sorted(axis % 4 for axis in axes) != [2, 3]:
                raise self.refuse(node, f"averages over the axes {axes}, where 2 and 3 are expected")

    def _numbers(self, node: Any, index: int) -> list[int]:
        from onnx import numpy_helper

        try:
            numbers = numpy_helper.to_array(self.weights[node.input[index]])
            return [int(number) for number in numbers.reshape(-1)[:8]]
        except Exception as error:
            raise self.refuse(node, f"has damaged numbers {node.input[index]!r} ({error})") from None

    def _activation(self, node: Any, place: str) -> str:
        if node.op_type == "Elu" and self.attribute(node, "alpha", 1.0) != 1.0:
            raise self.refuse(node, "has an alpha other than 1")
        if not place.endswith(_RAW):
            raise self.refuse(node, f"after {place} is not part of one, or is there twice")
        self.activations.add(_ACTIVATIONS[node.op_type])
        return place.removesuffix(_RAW)

    def found(self) -> Found:
        if not any(self.at.get(name) == "logits" for name in self.outputs):
            ends = ", ".join(self.at.get(name, "nothing") for name in self.outputs[:5]) or "no output"
            raise InputError(
                f"{self.where} is not a SqueezeNet: it ends with {ends}, where averaged conv10 is expected"
            )
        if len(self.activations) > 1:
            raise InputError(f"{self.where} is not a SqueezeNet: it has both ReLU and ELU")
        complex_bypass = any(name.endswith("_bypass1x1") for name in self.convolutions)
        expected = set(FIRES) if complex_bypass else set(SIMPLY_BYPASSED)
        if self.bypassed not in (set(), expected):
            around = ", ".join(sorted(self.bypassed))
            raise InputError(f"{self.where} is not a SqueezeNet: it has bypasses around {around} only")
        return Found(
            self.convolutions,
            pixels="raw" if self.ours else None,
            activation=next(iter(self.activations), None),
            bypass="none" if not self.bypassed else "complex" if complex_bypass else "simple",
            conv10_padding=self.conv10_padding,
            image_size=self.image_size,
        )
