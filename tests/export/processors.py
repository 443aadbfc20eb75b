"""An int8 ONNX file of ours computed in NumPy, as x86 processors with and without VNNI multiply its integers.

No runtime is used, so every processor gives the same answers here. The instructions are those of ONNX Runtime's kernels
(QgemmU8X8KernelAvx2 and its VNNI forms in MLAS).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Multiply = Callable[[np.ndarray, np.ndarray], np.ndarray]  # uint8 (m, k) and uint8 or int8 (k, n) to (m, n)


def with_vnni(activations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """VPDPBUSD adds products in 32 bits, where all of ours fit: exact."""
    return activations.astype(np.float64) @ weights.astype(np.float64)  # integers below 2**53


def without_vnni(activations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """VPMADDUBSW for int8 weights: the sum of two neighbours is cut off at 16 bits. VPMADDWD for uint8: at 32."""
    limits = np.iinfo(np.int16 if weights.dtype == np.int8 else np.int32)
    odd = activations.shape[1] % 2
    activations = np.pad(activations.astype(np.int64), ((0, 0), (0, odd)))
    weights = np.pad(weights.astype(np.int64), ((0, odd), (0, 0)))
    total = np.zeros((len(activations), weights.shape[1]), np.int32)
    for k in range(0, len(weights), 2):
        two = activations[:, k : k + 1] * weights[k] + activations[:, k + 1 : k + 2] * weights[k + 1]
        total += np.clip(two, limits.min, limits.max).astype(np.int32)
    return total


def answers(path: Path, images: np.ndarray, multiply: Multiply) -> np.ndarray:
    """Probabilities (n, classes) that a file gives for uint8 pixels (n, size, size, 3)."""
    graph = onnx.load(str(path)).graph
    values: dict[str, Any] = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    steps: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}  # by dequantized tensor: integers, scale, zero
    (port,) = graph.input
    channels_first = port.type.tensor_type.shape.dim[1].dim_value == 3
    values[port.name] = images.transpose(0, 3, 1, 2).astype(np.float32) if channels_first else images.astype(np.float32)
    for node in graph.node:
        inputs = [values[name] for name in node.input]
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        if node.op_type == "Conv":
            value = _convolve([steps[name] for name in node.input], attributes, multiply)
        else:
            value = OPERATORS[node.op_type](*inputs, **attributes)
        if node.op_type == "DequantizeLinear":
            steps[node.output[0]] = (inputs[0], inputs[1], inputs[2])
        values[node.output[0]] = value
    return values["probabilities"]


def _convolve(inputs: list[tuple[np.ndarray, np.ndarray, np.ndarray]], attributes: dict, multiply: Multiply):
    (x, x_scale, x_zero), (kernel, kernel_scale, kernel_zero), (bias, _, _) = inputs
    rim = attributes["pads"][0]
    x = np.pad(x, ((0, 0), (0, 0), (rim, rim), (rim, rim)), constant_values=x_zero)  # (n, in, height, width)
    stride, (height, width) = attributes["strides"][0], kernel.shape[2:]
    windows = np.lib.stride_tricks.sliding_window_view(x, (height, width), axis=(2, 3))[:, :, ::stride, ::stride]
    windows = windows.transpose(0, 2, 3, 4, 5, 1)  # the channels last, as ONNX Runtime has them
    count, rows, columns = windows.shape[:3]
    windows = windows.reshape(count * rows * columns, -1)
    weights = kernel.transpose(2, 3, 1, 0).reshape(-1, len(kernel))
    # (x - x_zero) * (weight - kernel_zero), added up
    sums = multiply(windows, weights) - int(x_zero) * weights.sum(axis=0, dtype=np.int64)
    sums = sums - (windows.sum(axis=1, dtype=np.int64, keepdims=True) - len(weights) * int(x_zero)) * kernel_zero
    real = ((sums + bias) * (x_scale.astype(np.float64) * kernel_scale)).astype(np.float32)
    return real.reshape(count, rows, columns, -1).transpose(0, 3, 1, 2)


def _quantize(x: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.uint8)


def _dequantize(steps: np.ndarray, scale: np.ndarray, zero: np.ndarray, axis: int = 0) -> np.ndarray:
    shape = [-1 if axis == each and scale.ndim else 1 for each in range(steps.ndim)]
    return (steps.astype(np.int32) - zero.astype(np.int32).reshape(shape)).astype(np.float32) * scale.reshape(shape)


def _max_pool(x: np.ndarray, kernel_shape: list[int], strides: list[int], pads: list[int]) -> np.ndarray:
    x = np.pad(x, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel_shape, axis=(2, 3))
    return windows[:, :, :: strides[0], :: strides[1]].max(axis=(4, 5))


def _pad(x: np.ndarray, pads: np.ndarray) -> np.ndarray:
    return np.pad(x, list(zip(pads[: x.ndim], pads[x.ndim :], strict=True)))


def _softmax(x: np.ndarray, axis: int) -> np.ndarray:
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


OPERATORS: dict[str, Callable[..., np.ndarray]] = {
    "Transpose": lambda x, perm: x.transpose(perm),
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "Relu": lambda x: np.maximum(x, 0),
    "MaxPool": _max_pool,
    "Pad": _pad,
    "Concat": lambda *inputs, axis: np.concatenate(inputs, axis),
    "Add": np.add,
    "GlobalAveragePool": lambda x: x.mean(axis=(2, 3), keepdims=True),
    "Flatten": lambda x, axis: x.reshape(*x.shape[:axis], -1),
    "Softmax": _softmax,
    "Cast": lambda x, to: x.astype(helper.tensor_dtype_to_np_dtype(to)),
    "Gather": lambda table, index, axis: table.take(index, axis),
}
