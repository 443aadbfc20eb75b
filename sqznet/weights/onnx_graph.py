"""Any ONNX file in the shape of a SqueezeNet: the graph is walked, and each convolution named by where it stands.

Only operators that a SqueezeNet has are understood. What scales the pixels inside the graph is refused rather than
guessed at.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sqznet.errors import InputError
from sqznet.model import ARCHS, FIRES, SIMPLY_BYPASSED
from sqznet.weights.convolutions import Convolution, Found, as_float32

_ACTIVATIONS = {"Relu": "relu", "Elu": "elu"}
_UNCHANGING = {"Dropout", "Identity", "Transpose"}
_ENDING = {"GlobalAveragePool", "AveragePool", "ReduceMean", "Reshape", "Flatten", "Squeeze", "Softmax", *_UNCHANGING}
_ATTRIBUTES = {float: (1, "f"), int: (2, "i"), bytes: (3, "s"), list: (7, "ints")}  # AttributeProto: type, field
_LAYOUTS = ([0, 3, 1, 2], [0, 2, 3, 1])
_RAW = " (not activated)"  # marks a place whose activation is still to come
_BLOCKS = ("conv1", *FIRES)  # what is pooled and squeezed


def looks_like(content: bytes) -> bool:
    """The first field of a ModelProto, a version below 128."""
    return content[:1] == b"\x08"


def read(content: bytes, where: str) -> Found:
    """Raises InputError for a damaged file, data outside of it, or a graph that is no SqueezeNet's."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.ModelProto.FromString(content).graph
    except DecodeError as error:
        raise InputError(f"{where} is damaged, or not an ONNX file: {error}") from None
    walk = _Walk(graph, where)
    for node in graph.node:
        walk.step(node)
    return walk.found()


class _Walk:
    """Follows the graph in its order; `at` says of each tensor which part of a SqueezeNet has computed it."""

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
        self.ours = inputs[0].name == "image" and shape[3:] == [3]  # NHWC: our own exports, and they take raw pixels

    def refuse(self, node: Any, why: str) -> InputError:
        return InputError(
            f"{self.where} is not a SqueezeNet: {node.op_type} {(node.name or ', '.join(node.output))!r} {why}"
        )

    def attribute(self, node: Any, name: str, default: Any) -> Any:
        """The value of a node's attribute, of the same type as its default."""
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
        places = [self.at[name] for name in node.input if name in self.at]
        if not places:
            raise self.refuse(node, "takes nothing that the image has led to")
        handlers = {"Conv": self._conv, "Concat": self._concat, "Add": self._add, "MaxPool": self._max_pool}
        if node.op_type in _ACTIVATIONS:
            place = self._activation(node, places[0])
        elif node.op_type in handlers:
            place = handlers[node.op_type](node, places)
        elif node.op_type == "Transpose" and self.attribute(node, "perm", []) not in _LAYOUTS:
            raise self.refuse(node, "does something else than to change between NHWC and NCHW")
        elif node.op_type in _UNCHANGING or (places[0] == "conv10" and node.op_type in _ENDING):
            place = places[0]
        else:
            raise self.refuse(node, f"after {places[0]} is not part of one")
        self.at[node.output[0]] = place

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
        except Exception as error:  # what the sizes and types of a damaged tensor lead to
            raise self.refuse(node, f"has damaged weights {name!r} ({error})") from None

    def _conv(self, node: Any, places: list[str]) -> str:
        kernel = self._array(node, 1) if len(node.input) > 1 else np.zeros(0)
        if kernel.ndim != 4:
            raise self.refuse(node, f"has a kernel of {kernel.shape}, where four dimensions are expected")
        bias = self._array(node, 2) if len(node.input) > 2 and node.input[2] else np.zeros(len(kernel), np.float32)
        place = self._place_of_conv(node, places[0], kernel)
        if place in self.convolutions:
            raise self.refuse(node, f"stands where {place} does already")
        padding = 1 if place.endswith("expand3x3") else 0
        given = self.attribute(node, "pads", [0] * 4)
        if self.attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID", b""):
            given = [padding] * 4  # SAME, of an odd kernel at a stride of 1, which is checked below
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
        """The name of a convolution that takes what `place` computed."""
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
        """The block that `place` is the output of, pooled as it has to be; nothing if it is no block's."""
        block = place.removesuffix("_pool")
        if block not in _BLOCKS:
            return ""
        if (block in ARCHS[self.arch].pooled_after) != place.endswith("_pool"):
            pooled = "pooled" if place.endswith("_pool") else "unpooled"
            raise self.refuse(node, f"takes {block} {pooled}, unlike SqueezeNet {self.arch}")
        return block

    def _concat(self, node: Any, places: list[str]) -> str:
        # Activated before or after they are joined, the branches of a fire module are the same.
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
        kernel, strides = self.attribute(node, "kernel_shape", []), self.attribute(node, "strides", [1, 1])
        begins = self.attribute(node, "pads", [0] * 4)[:2]
        if places[0] not in _BLOCKS or kernel != [3, 3] or strides != [2, 2] or any(begins):
            raise self.refuse(
                node,
                f"pools {places[0]} by {kernel} at strides of {strides}; expected [3, 3] at [2, 2] without padding",
            )
        return f"{places[0]}_pool"

    def _activation(self, node: Any, place: str) -> str:
        if node.op_type == "Elu" and self.attribute(node, "alpha", 1.0) != 1.0:
            raise self.refuse(node, "has an alpha other than 1")
        if not place.endswith(_RAW):
            raise self.refuse(node, f"after {place} is not part of one, or is there twice")
        self.activations.add(_ACTIVATIONS[node.op_type])
        return place.removesuffix(_RAW)

    def found(self) -> Found:
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
