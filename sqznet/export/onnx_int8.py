"""Writes int8 ONNX files: integers between QuantizeLinear and DequantizeLinear (QDQ), standard operators only.

Runtimes fuse each convolution and the pairs around it into one integer convolution. Biases are stored as int32, weights
as uint8 with zero point 128. int8 weights would give other answers on x86 processors without VNNI: there, runtimes
multiply uint8 by int8 with VPMADDUBSW, which adds two products in 16 bits and saturates. They multiply uint8 by uint8
with VPMADDWD, which adds in 32 bits.

No runtime has an integer kernel for ELU. Therefore ELU is a lookup (Gather) in a table of 256 entries.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from sqznet.export.onnx import IR_VERSION, OPSET, class_map_port, to_class_map
from sqznet.network.quantization import calibration, int8

ELU_STEPS = np.arange(256)
KERNEL_ZERO = 128  # the zero point of weights


def write(quantized: int8.Quantized, path: Path, layout: str = "NHWC", *, with_class_map: bool = False) -> None:
    """Writes an .onnx file with the ports of the float32 one: `image`, float32, to `probabilities`, float32.

    With `with_class_map`, the second output is `class_map`, float32.
    """
    size, classes = quantized.model.input_shape[1], quantized.model.output_shape[-1]
    shape = ["batch", size, size, 3] if layout == "NHWC" else ["batch", 3, size, size]
    writer = _Writer(quantized)
    image = "image"
    if layout == "NHWC":
        image = writer.add("Transpose", "image_nchw", ["image"], perm=[0, 3, 1, 2])
    for layer in quantized.model.layers:
        writer.layer(layer, image)
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", classes])]
    if with_class_map:
        (before_average,) = calibration.inputs_of(quantized.model.get_layer("logits"))
        writer.nodes.append(to_class_map(writer.values[before_average]))
        outputs.append(class_map_port(quantized.model))
    graph: GraphProto = helper.make_graph(
        writer.nodes,
        "squeezenet",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        outputs,
        sorted(writer.constants.values(), key=lambda constant: constant.name),
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="sqznet")
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


class _Writer:
    """Collects nodes. `values` maps a layer's name to its output tensor: real values, or steps for an ELU."""

    def __init__(self, quantized: int8.Quantized) -> None:
        self.ranges = dict(quantized.ranges)
        self.kernel_scales = quantized.kernel_scales
        self.values: dict[str, str] = {}
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}

    def add(self, operator: str, output: str, inputs: list[str], **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: Any) -> str:
        self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def layer(self, layer: keras.Layer, image: str) -> None:
        """Adds the nodes of a layer. Quantizes its output if the layer has its own range."""
        name = layer.name
        if isinstance(layer, keras.layers.InputLayer):
            self.values[name] = self._real(name, self._steps(name, image))
            return
        inputs = [self.values[each] for each in calibration.inputs_of(layer)]
        match layer:
            case keras.layers.Conv2D():
                value = self._convolve(layer, inputs[0], calibration.inputs_of(layer)[0])
            case keras.layers.Activation() if name.endswith("_elu"):
                self.values[name] = self._elu(name, calibration.inputs_of(layer)[0], inputs[0])
                return
            case keras.layers.Activation():
                value = self.add("Relu", f"{name}_real", inputs)
            case keras.layers.MaxPooling2D():
                # TensorFlow's "same" pads an even side below and to the right only, for a window of 3.
                pads = [0, 0, 1, 1] if layer.padding == "same" else [0, 0, 0, 0]
                value = self.add("MaxPool", f"{name}_real", inputs, kernel_shape=[3, 3], strides=[2, 2], pads=pads)
            case keras.layers.ZeroPadding2D():
                ((rim, _), _) = layer.padding
                widths = self.constant(f"{name}_pads", np.array([0, 0, rim, rim, 0, 0, rim, rim], np.int64))
                value = self.add("Pad", f"{name}_real", [*inputs, widths])
            case keras.layers.Concatenate():
                value = self.add("Concat", f"{name}_real", inputs, axis=1)
            case keras.layers.Add():
                value = self.add("Add", f"{name}_real", inputs)
            case keras.layers.GlobalAveragePooling2D():
                pooled = self.add("GlobalAveragePool", f"{name}_pooled", inputs)
                self.values[name] = self.add("Flatten", name, [pooled], axis=1)
                return
            case keras.layers.Rescaling():  # the temperature of a network with ELU, in float like the softmax
                factor = self.constant(f"{name}_factor", np.float32(layer.scale))
                self.values[name] = self.add("Mul", name, [*inputs, factor])
                return
            case keras.layers.Softmax():
                # The softmax is in float, like the logits: 256 steps would give many classes the same probability.
                self.add("Softmax", name, inputs, axis=-1)
                return
            case _:
                raise AssertionError(f"no int8 form of {layer!r}")
        if f"{name}_relu" in self.ranges:  # a ReLU is fused with its convolution: no quantization between them
            self.values[name] = value
            return
        if name not in self.ranges:  # it only moves values: its input's range holds
            (before,) = calibration.inputs_of(layer)
            self.ranges[name] = self.ranges[before]
        steps = self._steps(name, value)
        self.values[name] = steps if f"{name}_elu" in self.ranges else self._real(name, steps)

    def _steps(self, name: str, real: str) -> str:
        return self.add("QuantizeLinear", f"{name}_steps", [real, *self._scale(name)])

    def _real(self, name: str, steps: str) -> str:
        return self.add("DequantizeLinear", name if name != "image" else "image_real", [steps, *self._scale(name)])

    def _scale(self, name: str) -> list[str]:
        scale, zero = int8.scale_and_zero(self.ranges[name])
        return [self.constant(f"{name}_scale", scale), self.constant(f"{name}_zero", np.uint8(zero))]

    def _convolve(self, layer: keras.layers.Conv2D, x: str, before: str) -> str:
        name = layer.name
        kernel, bias = layer.get_weights()
        scales = self.kernel_scales[name]
        kernel_steps = np.clip(np.round(kernel / scales), -127, 127).transpose(3, 2, 0, 1) + KERNEL_ZERO
        bias_scales = int8.scale_and_zero(self.ranges[before])[0] * scales
        bias_steps = np.clip(np.round(bias / bias_scales), -(2**31) + 1, 2**31 - 1)
        weights = self._weights(f"{name}_kernel", kernel_steps.astype(np.uint8), scales, KERNEL_ZERO)
        biases = self._weights(f"{name}_bias", bias_steps.astype(np.int32), bias_scales, 0)
        rim = layer.kernel_size[0] // 2 if layer.padding == "same" else 0
        return self.add("Conv", f"{name}_real", [x, weights, biases], strides=list(layer.strides), pads=[rim] * 4)

    def _weights(self, name: str, steps: np.ndarray, scales: np.ndarray, zero: int) -> str:
        zeros = self.constant(f"{name}_zero", np.full(len(scales), zero, steps.dtype))
        parts = [self.constant(f"{name}_steps", steps), self.constant(f"{name}_scale", scales), zeros]
        return self.add("DequantizeLinear", name, parts, axis=0)

    def _elu(self, name: str, before: str, steps: str) -> str:
        """Adds an ELU as a table: from the steps of its input to real values."""
        scale, zero = int8.scale_and_zero(self.ranges[before])
        real = (ELU_STEPS - zero) * float(scale)
        scale, zero = int8.scale_and_zero(self.ranges[name])
        after = np.round(np.where(real > 0, real, np.expm1(np.minimum(real, 0))) / float(scale)) + zero
        table = self.constant(f"{name}_table", np.clip(after, 0, int8.STEPS).astype(np.uint8))
        index = self.add("Cast", f"{name}_index", [steps], to=TensorProto.INT32)
        return self._real(name, self.add("Gather", f"{name}_steps", [table, index], axis=0))
