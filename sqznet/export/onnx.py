"""Writes ONNX files: NHWC or NCHW input, any batch size, standard operators only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import onnx
import tf2onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from sqznet.export import serving
from sqznet.network import class_map
from sqznet.network import model as models

IR_VERSION = 8  # of the opset's release
OPSET = 17  # of 2022: every runtime in use reads it


def write(model: keras.Model, path: Path, quantize: str, layout: str = "NHWC", *, with_class_map: bool = False) -> None:
    """Writes an inference model as an .onnx file in float32. quantize="float16" halves the size of the weights.

    Input `image`, float32 (batch, size, size, 3), or (batch, 3, size, size) with layout="NCHW"; output
    `probabilities`, float32 (batch, classes). With `with_class_map`, the second output is `class_map`.
    """
    module = serving.module(model, batch=None)
    proto, _ = tf2onnx.convert.from_function(
        module.serve,
        module.serve.input_signature,
        opset=OPSET,
        inputs_as_nchw=["image:0"] if layout == "NCHW" else None,
    )
    proto.ir_version = IR_VERSION
    _remove_identity_moves(proto)
    _sort(proto)
    _rename(proto)
    if with_class_map:
        (average,) = (node for node in proto.graph.node if node.op_type == "GlobalAveragePool")
        proto.graph.node.append(to_class_map(average.input[0]))
        proto.graph.output.append(class_map_port(model))
    if quantize == "float16":
        # Input and output stay float32. The casts are appended to the graph, so it must be sorted again.
        converted = OnnxModel(convert_float_to_float16(proto, keep_io_types=True))
        converted.topological_sort()
        proto = converted.model
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def to_class_map(channels_first: str) -> NodeProto:
    """Returns the node that makes the class map from the tensor before the average, (batch, classes, side, side)."""
    return helper.make_node("Transpose", [channels_first], [class_map.NAME], name=class_map.NAME, perm=[0, 2, 3, 1])


def class_map_port(model: keras.Model) -> ValueInfoProto:
    """Returns the second output of a file, for an inference model."""
    shape = ["batch", *models.class_map(model).shape[1:]]
    return helper.make_tensor_value_info(class_map.NAME, TensorProto.FLOAT, shape, class_map.DESCRIPTION)


def _remove_identity_moves(proto) -> None:
    """Removes reshapes, and transposes of 1 x 1 maps, whose result has the shape of an earlier tensor.

    tf2onnx converts such transposes to reshapes and removes some of them. The removed ones differ from run to run.
    """
    graph = onnx.shape_inference.infer_shapes(proto).graph
    shapes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input)
    }
    constants = {weight.name: weight for weight in proto.graph.initializer}

    def moved_to(node) -> list[int] | None:
        """Returns the new shape if the node keeps the order of the numbers, or else None (also if this is unknown)."""
        if node.op_type == "Reshape" and node.input[1] in constants:
            return numpy_helper.to_array(constants[node.input[1]]).tolist()
        if node.op_type == "Transpose" and shapes.get(node.input[0]):
            before = shapes[node.input[0]]
            (order,) = (attribute.ints for attribute in node.attribute if attribute.name == "perm")
            longer = [axis for axis in order if axis == 0 or before[axis] != 1]
            return [before[axis] for axis in order] if longer == sorted(longer) else None
        return None

    outputs = {port.name for port in graph.output}
    origins: dict[str, str] = {}  # the first tensor with the same numbers in the same order
    same: dict[str, str] = {}  # a tensor that also has the same shape
    kept = []
    for node in proto.graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
        after = moved_to(node)
        if after is not None:
            before = node.input[0]
            origin = origins.get(before, before)
            sure = all(size > 0 for size in after[1:])
            alike = [name for name in (origin, before) if len(shapes.get(name, [])) == len(after)]
            alike = [name for name in alike if sure and shapes[name][1:] == after[1:]]
            if alike and node.output[0] not in outputs:
                same[node.output[0]] = alike[0]
                continue
            if node.op_type == "Reshape" and sure and after[0] == -1:
                node.input[0] = origin  # a reshape can read the first tensor directly
            origins[node.output[0]] = origin
        kept.append(node)
    del proto.graph.node[:]
    proto.graph.node.extend(kept)


def _sort(proto) -> None:
    """Sorts nodes depth-first from the output: tf2onnx's order of branches depends on its generated names.

    Nodes and weights that are not reached are removed.
    """
    made_by = {output: node for node in proto.graph.node for output in node.output}
    ordered: dict[str, Any] = {}  # by first output

    def visit(name: str) -> None:
        node = made_by.get(name)
        if node is None or node.output[0] in ordered:
            return
        for each in node.input:
            visit(each)
        ordered[node.output[0]] = node

    for output in proto.graph.output:
        visit(output.name)
    nodes = list(ordered.values())
    used = {name for node in nodes for name in node.input}
    weights = [weight for weight in proto.graph.initializer if weight.name in used]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(weights)


def _rename(proto) -> None:
    """Names everything by its position: tf2onnx's names contain counters of the process, and bytes must repeat.

    Input and output become `image` and `probabilities`, the batch dimension `batch`.
    """
    graph = proto.graph
    (image,), (output,) = graph.input, graph.output
    named = {image.name: "image", output.name: "probabilities"}
    for index, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{index}"
        for position, name in enumerate(node.input):
            named.setdefault(name, f"{node.name}_input_{position}" if name else "")
        for position, name in enumerate(node.output):
            named.setdefault(name, f"{node.name}_output_{position}")
    for node in graph.node:
        node.input[:] = [named[name] for name in node.input]
        node.output[:] = [named[name] for name in node.output]
    for value in (image, output, *graph.initializer, *graph.value_info):
        value.name = named[value.name]
    weights = sorted(graph.initializer, key=lambda weight: weight.name)
    del graph.initializer[:]
    graph.initializer.extend(weights)
    for port in (image, output):
        port.type.tensor_type.shape.dim[0].dim_param = "batch"
    graph.name, graph.doc_string = "squeezenet", ""
