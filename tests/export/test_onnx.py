"""The ONNX writer removes nodes from tf2onnx's graphs, so that the same model gives the same bytes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from sqznet.export import onnx as writer


def graph_of(side: int, reshaped: list[int]) -> onnx.ModelProto:
    """image -> Transpose to NCHW -> Reshape -> Relu -> output."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", side, side, 4])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", *reshaped[1:]])
    nodes = [
        helper.make_node("Transpose", ["image"], ["turned"], perm=[0, 3, 1, 2]),
        helper.make_node("Reshape", ["turned", "shape"], ["shaped"]),
        helper.make_node("Relu", ["shaped"], ["output"]),
    ]
    shape = numpy_helper.from_array(np.array(reshaped, np.int64), "shape")
    graph = helper.make_graph(nodes, "graph", [image], [output], [shape])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", writer.OPSET)])


@pytest.mark.parametrize(
    ("side", "reshaped", "left"),
    [
        (1, [-1, 1, 1, 4], ["Relu"]),  # there and back
        (1, [-1, 4, 1, 1], ["Transpose", "Relu"]),  # the reshape alone does nothing
        (1, [-1, 2, 1, 2], ["Reshape", "Relu"]),
        (2, [-1, 2, 2, 4], ["Transpose", "Reshape", "Relu"]),  # pixels change places
    ],
)
def test_moves_that_cancel_out_are_removed(side, reshaped, left):
    proto = graph_of(side, reshaped)
    images = np.arange(2 * side * side * 4, dtype=np.float32).reshape(2, side, side, 4) - 3
    (expected,) = ReferenceEvaluator(proto).run(None, {"image": images})
    writer._remove_identity_moves(proto)
    writer._sort(proto)
    onnx.checker.check_model(proto, full_check=True)
    assert [node.op_type for node in proto.graph.node] == left
    assert bool(proto.graph.initializer) == ("Reshape" in left)
    (given,) = ReferenceEvaluator(proto).run(None, {"image": images})
    np.testing.assert_array_equal(given, expected)
