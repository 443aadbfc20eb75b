"""Writes TFLite files with builtin operators only. A file takes one image per run, as on phones, or any number."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import flatbuffers
import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from sqznet.core.errors import CheckFailed
from sqznet.export import serving
from sqznet.network import class_map
from sqznet.network.quantization import calibration, int8


def write(
    model: keras.Model, path: Path, quantize: str, batch: int | None = 1, *, with_class_map: bool = False
) -> None:
    """Writes an inference model as a .tflite file.

    Its signature `serving_default` takes `image`, float32 (batch, size, size, 3), and returns `probabilities`. With
    `with_class_map`, it returns `class_map` as well.

    Args:
        quantize: none (float32); float16 (weights of half the size); dynamic (int8 weights, float32 activations).
        batch: images per run. None means any number.
    """
    converter = _converter(serving.module(model, batch))
    if quantize != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    content = bytes(converter.convert())
    path.write_bytes(_with_class_map(content) if with_class_map else content)


def write_int8(quantized: int8.Quantized, path: Path, batch: int | None = 1, *, with_class_map: bool = False) -> None:
    """Writes a .tflite file that computes in integers only: uint8 pixels to uint8 probabilities in steps of 1/256.

    With `with_class_map`, the second output is `class_map`, float32.
    """
    converter = _converter(_fake_quantized(quantized, batch))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    content = _with_int8_elu(bytes(converter.convert()))
    path.write_bytes(_with_class_map(content) if with_class_map else content)


def logit_range(path: Path) -> tuple[float, float] | None:
    """Returns the lowest and the highest logit that an int8 file can represent, or None for any other file."""
    if path.suffix != ".tflite":
        return None
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    (graph,) = model.subgraphs
    (softmax,) = (each for each in graph.operators if _kind(model, each) == schema.BuiltinOperator.SOFTMAX)
    logits = graph.tensors[softmax.inputs[0]]
    if logits.type != schema.TensorType.INT8:
        return None
    (scale,), (zero,) = logits.quantization.scale, logits.quantization.zeroPoint
    return float(scale * (-128 - zero)), float(scale * (127 - zero))


def _converter(module: tf.Module) -> tf.lite.TFLiteConverter:
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.serve.get_concrete_function()], module)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter


def _fake_quantized(quantized: int8.Quantized, batch: int | None) -> tf.Module:
    """Returns the network with its activation ranges in the graph, where the converter reads them."""
    model, ranges = quantized.model, quantized.ranges
    module = tf.Module(name="squeezenet")
    signature = tf.TensorSpec([batch, *model.input_shape[1:]], tf.float32, name="image")
    weights = {layer.name: layer.get_weights() for layer in model.layers}

    @tf.function(input_signature=[signature], autograph=False)
    def serve(image):
        values: dict[str, Any] = {}
        for layer in model.layers:
            if isinstance(layer, keras.layers.InputLayer):
                value = image
            else:
                inputs = [values[name] for name in calibration.inputs_of(layer)]
                if isinstance(layer, keras.layers.Conv2D):
                    value = _convolve(layer, quantized.kernel_scales[layer.name], weights[layer.name], inputs[0])
                else:
                    value = layer(inputs if len(inputs) > 1 else inputs[0])
            # Runtimes fuse a ReLU with its convolution, so that only the output of the ReLU needs a range.
            if layer.name in ranges and f"{layer.name}_relu" not in ranges:
                value = tf.quantization.fake_quant_with_min_max_args(value, *ranges[layer.name])
            values[layer.name] = value
        return {"probabilities": values["probabilities"]}

    module.serve = serve
    return module


def _convolve(layer: keras.layers.Conv2D, scales: np.ndarray, weights: list[np.ndarray], x: tf.Tensor) -> tf.Tensor:
    kernel, bias = weights
    limit = scales * 127
    kernel = tf.quantization.fake_quant_with_min_max_vars_per_channel(kernel, -limit, limit, narrow_range=True)
    return tf.nn.conv2d(x, kernel, layer.strides, layer.padding.upper()) + bias


def _with_class_map(content: bytes) -> bytes:
    """Makes the input of the average the second output. An int8 map gets a DEQUANTIZE, so that the output is float32.

    The converter is not asked for two outputs: it would put them into the order of their names, and would quantize both
    of an int8 file.
    """
    model = schema.ModelT.InitFromPackedBuf(content)
    (graph,) = model.subgraphs
    averages = [operator for operator in graph.operators if _kind(model, operator) == schema.BuiltinOperator.MEAN]
    if len(averages) != 1:
        raise CheckFailed(f"one MEAN was expected before the softmax, and the converter wrote {len(averages)}")
    index = int(averages[0].inputs[0])
    if graph.tensors[index].type == schema.TensorType.INT8:
        index = _dequantized(model, index)
    graph.tensors[index].name = class_map.NAME.encode()
    graph.outputs = np.append(graph.outputs, index).astype(np.int32)
    port = schema.TensorMapT()
    port.name, port.tensorIndex = class_map.NAME.encode(), index
    model.signatureDefs[0].outputs.append(port)
    return _packed(model)


def _dequantized(model, index: int) -> int:
    """Adds a DEQUANTIZE of a tensor. Returns the index of the float32 tensor."""
    (graph,) = model.subgraphs
    of_steps, values, operator = graph.tensors[index], schema.TensorT(), schema.OperatorT()
    values.shape, values.shapeSignature, values.type = (
        of_steps.shape,
        of_steps.shapeSignature,
        schema.TensorType.FLOAT32,
    )
    graph.tensors.append(values)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = 2  # of the operator, from int8 tensors
    model.operatorCodes.append(code)
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = np.array([index], np.int32), np.array([len(graph.tensors) - 1], np.int32)
    graph.operators.append(operator)
    return len(graph.tensors) - 1


def _kind(model, operator) -> int:
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def _packed(model) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _with_int8_elu(content: bytes) -> bytes:
    """Replaces each DEQUANTIZE, ELU, QUANTIZE by one int8 ELU.

    LiteRT has such a kernel (a table of 256 entries), but TensorFlow's converter does not use it.
    """
    model = schema.ModelT.InitFromPackedBuf(content)
    (graph,) = model.subgraphs
    kind = functools.partial(_kind, model)
    made_by = {output: operator for operator in graph.operators for output in operator.outputs}
    used_by = {operator.inputs[0]: operator for operator in graph.operators if len(operator.inputs)}
    removed = []
    for operator in graph.operators:
        if kind(operator) == schema.BuiltinOperator.ELU:
            before, after = made_by.get(operator.inputs[0]), used_by.get(operator.outputs[0])
            if before is None or kind(before) != schema.BuiltinOperator.DEQUANTIZE:
                raise CheckFailed("a DEQUANTIZE was expected before each ELU, and the converter wrote none")
            if after is None or kind(after) != schema.BuiltinOperator.QUANTIZE:
                raise CheckFailed("a QUANTIZE was expected after each ELU, and the converter wrote none")
            operator.inputs, operator.outputs = before.inputs, after.outputs
            removed += [before, after]
    if not removed:
        return content
    graph.operators = [operator for operator in graph.operators if all(operator is not each for each in removed)]
    _drop_unused_tensors(graph)
    return _packed(model)


def _drop_unused_tensors(graph) -> None:
    """Removes the tensors that no operator reads or writes, and renumbers the others."""
    used = {*graph.inputs, *graph.outputs}
    for operator in graph.operators:
        used |= {*operator.inputs, *operator.outputs}
    kept = [index for index in range(len(graph.tensors)) if index in used]
    renumbered = {index: place for place, index in enumerate(kept)}
    graph.tensors = [graph.tensors[index] for index in kept]
    for holder in (graph, *graph.operators):
        holder.inputs = np.array([renumbered.get(index, index) for index in holder.inputs], np.int32)
        holder.outputs = np.array([renumbered.get(index, index) for index in holder.outputs], np.int32)
