"""Checks the graph of an exported file: its operators, and the types of its tensors.

A converter may write, without an error, a custom operator, a float layer between int8 layers, or no weights.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import GraphProto, NodeProto

from sqznet.core.errors import CheckFailed

# fmt: off
TFLITE_OPERATORS = frozenset({
    "CONV_2D", "MAX_POOL_2D", "CONCATENATION", "ADD", "PAD", "ELU", "MEAN", "RESHAPE", "SOFTMAX", "QUANTIZE",
    "DEQUANTIZE", "MUL",
})
ONNX_OPERATORS = frozenset({
    "Conv", "Relu", "Elu", "MaxPool", "Concat", "Add", "Pad", "Transpose", "GlobalAveragePool", "Flatten", "Squeeze",
    "Reshape", "Softmax", "Cast", "Gather", "QuantizeLinear", "DequantizeLinear", "Mul",
})
# fmt: on
ONNX_IN_INTEGERS = frozenset({"Conv", "Relu", "MaxPool", "Concat", "Add", "Pad", "GlobalAveragePool"})
# They compute on the logits, which stay in float.
ONNX_AFTER_POOLING = frozenset({"Mul", "Softmax", "Flatten", "Squeeze", "Reshape"})
SMALL = 1024  # number of values: smaller tensors are shapes, paddings or biases, no kernels
CONVOLUTIONS = 26  # of a SqueezeNet without complex bypass: conv1, conv10, three in each of eight fire modules


def check(path: Path, quantize: str) -> None:
    """Checks a .tflite or .onnx file. Accepts other formats.

    Args:
        quantize: the expected quantization: none, float16, dynamic or int8.

    Raises:
        CheckFailed: an operator is not allowed, a type does not match `quantize`, or there are no weights.
    """
    if path.suffix == ".tflite":
        _check_tflite(path, quantize)
    elif path.suffix == ".onnx":
        _check_onnx(path, quantize)


def _check_tflite(path: Path, quantize: str) -> None:
    kinds = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    types = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    try:
        model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
        (graph,) = model.subgraphs
        names = []
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            number = max(code.builtinCode, code.deprecatedBuiltinCode)
            name = kinds.get(number, f"operator {number}")
            names.append(f"custom {_text(code.customCode or b'')}" if name == "CUSTOM" else name)
    except (ValueError, IndexError, TypeError, AttributeError, struct.error) as error:
        raise CheckFailed(
            f"{path.name} is not a TFLite file with one graph ({type(error).__name__}: {error})"
        ) from None
    _check_operators(path, names, TFLITE_OPERATORS)
    _check_convolutions(path, names.count("CONV_2D"))

    def is_constant(tensor) -> bool:
        data = model.buffers[tensor.buffer].data
        return data is not None and len(data) > 0

    kernels = [each for each in graph.tensors if is_constant(each) and np.prod(each.shape) >= SMALL]
    expected = {"none": "FLOAT32", "float16": "FLOAT16", "dynamic": "INT8", "int8": "INT8"}[quantize]
    if expected == "INT8":  # biases of 1,000 classes and more are not int8
        kernels = [each for each in kernels if len(each.shape) == 4]
    _check_kernels(path, [(_text(each.name), types[each.type]) for each in kernels], expected)
    if quantize == "int8":
        floating = [
            index
            for index, each in enumerate(graph.tensors)
            if types[each.type].startswith("FLOAT") and index not in graph.outputs[1:]  # the class map
        ]
        if floating:
            makers = {
                output: name for name, each in zip(names, graph.operators, strict=True) for output in each.outputs
            }
            first = floating[0]
            raise CheckFailed(
                f"{path.name} is not all int8: {len(floating)} of {len(graph.tensors)} tensors are float, the first "
                f"of them {_text(graph.tensors[first].name)} (output of {makers.get(first, 'the graph')})"
            )


def _text(name: bytes | str) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name


def _check_onnx(path: Path, quantize: str) -> None:
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf has several classes of error, without a common base
        raise CheckFailed(f"{path.name} is not an ONNX file ({type(error).__name__})") from None
    graph = model.graph
    outside = [each.name for each in graph.initializer if each.data_location == onnx.TensorProto.EXTERNAL]
    if outside or model.functions or graph.sparse_initializer:
        raise CheckFailed(f"{path.name} has weights in other files, or functions of its own: {outside[:3]}")
    foreign = sorted({f"{node.domain}.{node.op_type}" for node in graph.node if node.domain not in ("", "ai.onnx")})
    if foreign:
        raise CheckFailed(f"{path.name} has operators outside the ONNX standard: {', '.join(foreign)}")
    names = [node.op_type for node in graph.node]
    _check_operators(path, names, ONNX_OPERATORS)
    _check_convolutions(path, names.count("Conv"))
    types = {value: name for name, value in onnx.TensorProto.DataType.items()}
    expected = {"none": "FLOAT", "float16": "FLOAT16", "int8": "UINT8"}[quantize]
    kernels = [each for each in graph.initializer if np.prod(each.dims) >= SMALL]
    if quantize == "int8":  # biases of 1,000 classes and more are int32
        kernels = [each for each in kernels if len(each.dims) == 4]
    found = [(each.name, types[each.data_type]) for each in kernels]
    if quantize == "int8" and any(kind == "INT8" for _, kind in found):
        # Detected from the file, so that the check gives the same result on every processor.
        raise CheckFailed(
            f"{path.name} gives other answers on x86 processors without VNNI: its weights are INT8, for which they "
            "saturate sums at 16 bits; UINT8 was expected; export again"
        )
    _check_kernels(path, found, expected)
    if quantize == "int8":
        _check_integers_only(path, graph)


def _check_integers_only(path: Path, graph: GraphProto) -> None:
    """Checks that operators on feature maps are between DequantizeLinear and QuantizeLinear: runtimes fuse these."""
    made_by = {output: node for node in graph.node for output in node.output}
    used_by: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            used_by.setdefault(name, []).append(node)

    def refuse(node: NodeProto, what: str) -> None:
        raise CheckFailed(f"{path.name} is not all int8: {node.op_type} {node.name} {what}")

    for node in graph.node:
        if node.op_type == "Gather":  # the table of an ELU: uint8 to uint8
            continue
        if node.op_type not in ONNX_IN_INTEGERS:
            if node.op_type == "Elu":
                refuse(node, "computes in float")
            continue
        values = [name for name in node.input if name in made_by]  # not constants, such as padding widths
        for maker in (made_by[name] for name in values):
            fuses = node.op_type == "Relu" and maker.op_type in ("Conv", "Add")
            if maker.op_type != "DequantizeLinear" and not fuses:
                refuse(node, f"takes float values of {maker.op_type} {maker.name}")
        for user in (user for name in node.output for user in used_by.get(name, [])):
            fuses = user.op_type == "Relu" or user.op_type in ONNX_AFTER_POOLING
            if user.op_type != "QuantizeLinear" and not fuses:
                refuse(node, f"gives float values to {user.op_type} {user.name}")


def _check_operators(path: Path, names: Iterable[str], allowed: frozenset[str]) -> None:
    unknown = sorted(set(names) - allowed)
    if unknown:
        raise CheckFailed(
            f"{path.name} has operators that not every runtime has: {', '.join(unknown)} "
            f"(allowed: {', '.join(sorted(allowed))})"
        )


def _check_convolutions(path: Path, count: int) -> None:
    if count < CONVOLUTIONS:
        raise CheckFailed(
            f"{path.name} is not a whole SqueezeNet: it has {count} convolutions, and {CONVOLUTIONS} were expected"
        )


def _check_kernels(path: Path, kernels: list[tuple[str, str]], expected: str) -> None:
    if not kernels:
        raise CheckFailed(f"{path.name} has no weights: the conversion lost them")
    for name, found in kernels:
        if found != expected:
            raise CheckFailed(f"{path.name}: weights {name} are {found}, and {expected} was expected")
