"""What is inside an exported file: which operators, and in which types they compute.

A converter may quietly leave a custom operator, a layer in float between two in int8, or a graph without weights.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sqznet.core.errors import CheckFailed

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

# fmt: off
TFLITE_OPERATORS = frozenset({
    "CONV_2D", "MAX_POOL_2D", "CONCATENATION", "ADD", "PAD", "ELU", "MEAN", "RESHAPE", "SOFTMAX", "QUANTIZE",
    "DEQUANTIZE",
})
ONNX_OPERATORS = frozenset({
    "Conv", "Relu", "Elu", "MaxPool", "Concat", "Add", "Pad", "Transpose", "GlobalAveragePool", "Flatten", "Squeeze",
    "Reshape", "Softmax", "Cast", "Gather", "QuantizeLinear", "DequantizeLinear",
})
# fmt: on
ONNX_IN_INTEGERS = frozenset({"Conv", "Relu", "MaxPool", "Concat", "Add", "Pad", "GlobalAveragePool"})
# Work on one number a class, not on maps.
ONNX_AFTER_POOLING = frozenset({"Softmax", "Flatten", "Squeeze", "Reshape"})
SMALL = 1024  # values; a tensor below that is no kernel: shapes, paddings, biases
CONVOLUTIONS = 26  # of a SqueezeNet without complex bypass: conv1, conv10, three in each of eight fire modules


def check(path: Path, quantize: str) -> None:
    """Looks into a .tflite or .onnx file.

    Args:
        quantize: none, float16, dynamic or int8: what the file is said to be.

    Raises:
        InputError: an operator that is not on the list, a type that is not what `quantize` says, or no weights.
    """
    if path.suffix == ".tflite":
        _check_tflite(path, quantize)
    elif path.suffix == ".onnx":
        _check_onnx(path, quantize)


def _check_tflite(path: Path, quantize: str) -> None:
    from ai_edge_litert import schema_py_generated as schema

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
        raise CheckFailed(f"{path.name} is no TFLite file with one graph ({type(error).__name__}: {error})") from None
    _check_operators(path, names, TFLITE_OPERATORS)
    _check_convolutions(path, names.count("CONV_2D"))

    def is_constant(tensor) -> bool:
        data = model.buffers[tensor.buffer].data
        return data is not None and len(data) > 0

    kernels = [each for each in graph.tensors if is_constant(each) and np.prod(each.shape) >= SMALL]
    expected = {"none": "FLOAT32", "float16": "FLOAT16", "dynamic": "INT8", "int8": "INT8"}[quantize]
    if expected == "INT8":
        kernels = [each for each in kernels if len(each.shape) == 4]  # biases of 1,000 classes and more are not
    _check_kernels(path, [(_text(each.name), types[each.type]) for each in kernels], expected)
    if quantize == "int8":
        floating = [_text(each.name) for each in graph.tensors if types[each.type].startswith("FLOAT")]
        if floating:
            makers = {
                output: name for name, each in zip(names, graph.operators, strict=True) for output in each.outputs
            }
            first = next(i for i, each in enumerate(graph.tensors) if types[each.type].startswith("FLOAT"))
            raise CheckFailed(
                f"{path.name} is not all int8: {len(floating)} of {len(graph.tensors)} tensors are float, the first "
                f"of them {floating[0]} (made by {makers.get(first, 'the graph')})"
            )


def _text(name: bytes | str) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name


def _check_onnx(path: Path, quantize: str) -> None:
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf has several classes of error, without a common base
        raise CheckFailed(f"{path.name} is no ONNX file ({type(error).__name__})") from None
    graph = model.graph
    outside = [each.name for each in graph.initializer if each.data_location == onnx.TensorProto.EXTERNAL]
    if outside or model.functions or graph.sparse_initializer:
        raise CheckFailed(f"{path.name} keeps weights in other files, or has functions of its own: {outside[:3]}")
    foreign = sorted({f"{node.domain}.{node.op_type}" for node in graph.node if node.domain not in ("", "ai.onnx")})
    if foreign:
        raise CheckFailed(f"{path.name} has operators outside the ONNX standard: {', '.join(foreign)}")
    names = [node.op_type for node in graph.node]
    _check_operators(path, names, ONNX_OPERATORS)
    _check_convolutions(path, names.count("Conv"))
    types = {value: name for name, value in onnx.TensorProto.DataType.items()}
    kernels = [each for each in graph.initializer if np.prod(each.dims) >= SMALL]
    expected = {"none": "FLOAT", "float16": "FLOAT16", "int8": "UINT8"}[quantize]
    if quantize == "int8":
        kernels = [each for each in kernels if len(each.dims) == 4]  # biases of 1,000 classes and more are int32
    found = [(each.name, types[each.data_type]) for each in kernels]
    if quantize == "int8" and any(kind == "INT8" for _, kind in found):
        # Known from the file alone, so that every processor gives the same verdict.
        raise CheckFailed(
            f"{path.name} gives other answers on x86 processors without VNNI: its weights are INT8, whose products "
            "they add in 16 bits and cut off; UINT8 was expected; export again"
        )
    _check_kernels(path, found, expected)
    if quantize == "int8":
        _check_integers_only(path, graph)


def _check_integers_only(path: Path, graph: GraphProto) -> None:
    """QDQ: whatever computes on maps stands between DequantizeLinear and QuantizeLinear, so that it melts into int8."""
    made_by = {output: node for node in graph.node for output in node.output}
    taken_by: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            taken_by.setdefault(name, []).append(node)

    def refuse(node: NodeProto, what: str) -> None:
        raise CheckFailed(f"{path.name} is not all int8: {node.op_type} {node.name} {what}")

    for node in graph.node:
        if node.op_type == "Gather":  # the table of an ELU: uint8 to uint8
            continue
        if node.op_type not in ONNX_IN_INTEGERS:
            if node.op_type == "Elu":
                refuse(node, "computes in float")
            continue
        values = [name for name in node.input if name in made_by]  # not the constants, such as widths of a padding
        for maker in (made_by[name] for name in values):
            melts = node.op_type == "Relu" and maker.op_type in ("Conv", "Add")
            if maker.op_type != "DequantizeLinear" and not melts:
                refuse(node, f"takes float values of {maker.op_type} {maker.name}")
        for taker in (taker for name in node.output for taker in taken_by.get(name, [])):
            melts = taker.op_type == "Relu" or taker.op_type in ONNX_AFTER_POOLING
            if taker.op_type != "QuantizeLinear" and not melts:
                refuse(node, f"gives float values to {taker.op_type} {taker.name}")


def _check_operators(path: Path, names: Iterable[str], allowed: frozenset[str]) -> None:
    unknown = sorted(set(names) - allowed)
    if unknown:
        raise CheckFailed(
            f"{path.name} has operators that are not on the list of what every runtime has: {', '.join(unknown)} "
            f"(the list: {', '.join(sorted(allowed))})"
        )


def _check_convolutions(path: Path, count: int) -> None:
    if count < CONVOLUTIONS:
        raise CheckFailed(
            f"{path.name} is not a whole SqueezeNet: it has {count} convolutions, and {CONVOLUTIONS} were expected"
        )


def _check_kernels(path: Path, kernels: list[tuple[str, str]], expected: str) -> None:
    if not kernels:
        raise CheckFailed(f"{path.name} holds no weights: the conversion has lost them")
    for name, found in kernels:
        if found != expected:
            raise CheckFailed(f"{path.name}: weights {name} are {found}, and {expected} was expected")
