"""The walk through an ONNX graph, and the geometry of our network against one built node by node."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from sqznet import weights
from sqznet.core.errors import InputError
from sqznet.predict import inference
from sqznet.weights import onnx_graph
from sqznet.weights.convolutions import Convolution
from tests.conftest import run_file
from tests.weights import writers
from tests.weights.conftest import published, published_file, random_convolutions

CAFFE_MEANS = np.array([104.0, 117.0, 123.0], np.float32)  # B, G, R


def run_onnx(content: bytes, images: np.ndarray) -> np.ndarray:
    """An independent implementation: ONNX Runtime on uint8 RGB images, prepared as Caffe does."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    prepared = images[..., ::-1].astype(np.float32) - CAFFE_MEANS
    return session.run(None, {"image_bgr": np.ascontiguousarray(prepared.transpose(0, 3, 1, 2))})[0]


def photographs(size: int) -> np.ndarray:
    """Noise on gradients: every edge and corner of the maps differs."""
    rng = np.random.default_rng(size)
    y, x = np.mgrid[0:size, 0:size] / size
    smooth = np.stack([x, y, x * y], axis=-1) * 255
    return np.clip(smooth + rng.normal(0, 60, (3, size, size, 3)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [227, 224, 192])
@pytest.mark.parametrize("arch", ["v1.0", "v1.1"])
def test_published_networks_have_caffes_geometry_at_any_size(arch, size):
    options = weights.ImportOptions(image_size=size)
    read = weights.read(published_file(arch), options)
    images = photographs(size)
    expected = run_onnx(writers.onnx(read.found.convolutions), images)
    got = inference.KerasRuntime(weights.build(read), size)(images)
    assert np.abs(got - expected).max() < 1e-4
    assert expected.max() > 0.02  # an opinion, at which a wrong geometry shows


def test_without_the_padding_of_conv10_the_answers_differ():
    """The comparison above would notice."""
    read = published("v1.0")
    images = photographs(227)
    expected = run_onnx(writers.onnx(read.found.convolutions, conv10_pad=0), images)
    got = inference.KerasRuntime(weights.build(read), 227)(images)
    assert np.abs(got - expected).max() > 1e-3


@pytest.mark.parametrize("bypass", ["none", "simple", "complex"])
@pytest.mark.parametrize("arch", ["v1.0", "v1.1"])
def test_bypasses_are_found_and_computed_alike(arch, bypass, tmp_path):
    content = writers.onnx(random_convolutions(arch, classes=5, bypass=bypass), bypass=bypass)
    path = tmp_path / "weights.onnx"
    path.write_bytes(content)
    read = weights.read(path, weights.ImportOptions(input="caffe", image_size=96))
    assert read.network.bypass == bypass
    images = photographs(96)
    got = inference.KerasRuntime(weights.build(read), 96)(images)
    np.testing.assert_allclose(got, run_onnx(content, images), atol=1e-4)


@pytest.mark.parametrize(
    ("bypass", "quantize", "tolerance"),
    [("none", "none", 1e-5), ("simple", "none", 1e-5), ("complex", "none", 1e-5), ("none", "float16", 1e-3)],
)
def test_our_own_exports_can_be_imported(bypass, quantize, tolerance, tmp_path):
    from sqznet.export import onnx as writer
    from sqznet.network import fold
    from sqznet.network import model as models
    from sqznet.network.architecture import Network

    network = Network(4, "v1.0", "elu", batch_norm=True, bypass=bypass, conv10_padding=1, image_size=96)
    trained = models.build(network, channel_means=(120.0, 110.0, 100.0))
    writer.write(fold.inference_model(trained, 96), tmp_path / "model.onnx", quantize)
    read = weights.read(tmp_path / "model.onnx")
    assert read.card.weights["input"] == "raw"
    assert (read.network.activation, read.network.bypass, read.network.conv10_padding) == ("elu", bypass, 1)
    images = photographs(96)
    expected = run_file(tmp_path / "model.onnx", images)
    np.testing.assert_allclose(inference.KerasRuntime(weights.build(read), 96)(images), expected, atol=tolerance)


def test_weights_may_be_constants_in_the_graph(small):
    model = onnx.load_from_string(writers.onnx(small))
    tensors = list(model.graph.initializer)
    del model.graph.initializer[:]
    constants = [helper.make_node("Constant", [], [each.name], value=each) for each in tensors]
    nodes = [*constants, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    found = onnx_graph.read(model.SerializeToString(), "x.onnx")
    assert all(np.array_equal(each.kernel, small[name].kernel) for name, each in found.convolutions.items())


# Graphs that look like a SqueezeNet and are none


def change_node(name: str, **attributes):
    def change(graph) -> None:
        node = next(each for each in graph.node if each.name == name)
        for key, value in attributes.items():
            kept = [each for each in node.attribute if each.name != key]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute(key, value)])

    return change


def change_kind(name: str, op_type: str):
    def change(graph) -> None:
        node = next(each for each in graph.node if each.name == name)
        node.op_type = op_type
        if op_type in ("Relu", "Elu", "Sigmoid"):
            del node.attribute[:]

    return change


def swap_branches(graph) -> None:
    node = next(each for each in graph.node if each.name == "fire4")
    node.input[:] = list(node.input)[::-1]


def take_unpooled(graph) -> None:
    node = next(each for each in graph.node if each.name == "fire4_squeeze1x1")
    node.input[0] = "fire3"


def skip_activation(graph) -> None:
    node = next(each for each in graph.node if each.name == "fire6_expand1x1")
    after = next(each for each in graph.node if each.name == "fire6")
    after.input[0] = node.output[0]


def external_weights(graph) -> None:
    tensor = graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")


def floor_pools(graph) -> None:
    for node in graph.node:
        kept = [each for each in node.attribute if each.name != "ceil_mode"]
        del node.attribute[:]
        node.attribute.extend(kept)


def average_a_part(graph) -> None:
    change_kind("average", "AveragePool")(graph)
    change_node("average", kernel_shape=[2, 2])(graph)


def end_before_the_average(graph) -> None:
    graph.output[0].name = "conv10"
    del graph.node[-4:]


def turn_the_map(graph) -> None:
    node = next(each for each in graph.node if each.name == "conv10")
    place = list(graph.node).index(node)
    graph.node.insert(place, helper.make_node("Transpose", [node.input[0]], ["turned"], name="turn", perm=[0, 2, 3, 1]))
    node = next(each for each in graph.node if each.name == "conv10")
    node.input[0] = "turned"


def scale_pixels(graph) -> None:
    graph.initializer.append(numpy_helper.from_array(np.float32(255), "scale"))
    graph.node.insert(0, helper.make_node("Div", ["image_bgr", "scale"], ["scaled"], name="divide"))
    next(each for each in graph.node if each.name == "conv1").input[0] = "scaled"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_node("conv1", strides=[1, 1]), r"Conv 'conv1' \(conv1\) has strides \[1, 1\], where \[2, 2\]"),
        (change_node("fire2_expand3x3", pads=[0] * 4), r"\(fire2_expand3x3\) has pads \[0, 0, 0, 0\]"),
        (change_node("fire3_squeeze1x1", group=2), "has group 2, where 1 is expected"),
        (change_node("conv10", dilations=[2, 2]), r"has dilations \[2, 2\]"),
        (change_node("fire5_pool", kernel_shape=[2, 2]), r"MaxPool 'fire5_pool' pools fire5 by \[2, 2\]"),
        (change_node("fire7", axis=2), "joins fire7_expand1x1, fire7_expand3x3 along axis 2"),
        (swap_branches, "joins fire4_expand3x3, fire4_expand1x1 along axis 1"),
        (take_unpooled, "takes fire3 unpooled, unlike SqueezeNet v1.1"),
        (skip_activation, r"joins fire6_expand1x1 \(not activated\), fire6_expand3x3 along axis 1"),
        (change_kind("fire2_squeeze1x1_relu", "Elu"), "it has both ReLU and ELU"),
        (change_kind("fire2_squeeze1x1_relu", "Sigmoid"), "Sigmoid 'fire2_squeeze1x1_relu' after fire2_squeeze1x1"),
        (change_node("conv1", pads=[1] * 4), r"\(conv1\) has pads \[1, 1, 1, 1\]"),
        (change_node("fire3_pool", pads=[0, 0, 2, 2]), "pools fire3 in another way than Caffe's"),
        (change_node("fire3_pool", dilations=[2, 2]), "MaxPool 'fire3_pool' pools fire3 by"),
        (floor_pools, "MaxPool 'conv1_pool' pools conv1 in another way than Caffe's"),
        (average_a_part, "AveragePool 'average' does not average over the whole map"),
        (end_before_the_average, r"it ends with conv10 \(not activated\), where averaged conv10 is expected"),
        (turn_the_map, "Conv 'conv10' takes channels last, where they have to come second"),
        (external_weights, "has its weights 'conv1_w' in another file"),
        (scale_pixels, "Div 'divide' after image is not part of one"),
    ],
)
def test_a_graph_of_another_meaning_is_refused(small, change, message):
    model = onnx.load_from_string(writers.onnx(small))
    change(model.graph)
    with pytest.raises(InputError, match=message):
        onnx_graph.read(model.SerializeToString(), "x.onnx")


def test_a_graph_that_ends_early_is_refused(small):
    model = onnx.load_from_string(writers.onnx(small))
    del model.graph.node[40:]
    with pytest.raises(InputError, match="it ends with nothing, where averaged conv10 is expected"):
        onnx_graph.read(model.SerializeToString(), "x.onnx")


def test_conv1_with_padding_by_name_is_refused(small):
    model = onnx.load_from_string(writers.onnx(small))
    node = next(each for each in model.graph.node if each.name == "conv1")
    del node.attribute[:]
    node.attribute.extend([helper.make_attribute("auto_pad", "SAME_UPPER"), helper.make_attribute("strides", [2, 2])])
    with pytest.raises(InputError, match=r"\(conv1\) has pads \[1, 1, 1, 1\], where \[0, 0, 0, 0\]"):
        onnx_graph.read(model.SerializeToString(), "x.onnx")


@pytest.mark.parametrize(("size", "accepted"), [(224, True), (227, False)])
def test_floor_pools_will_do_where_every_map_is_odd(small, size, accepted):
    """As of v1.1 at 224 px: 111, 55, 27, 13. That is how older exporters write it."""
    model = onnx.load_from_string(writers.onnx(small))
    floor_pools(model.graph)
    for dimension in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dimension.dim_value = size
    if accepted:
        assert onnx_graph.read(model.SerializeToString(), "x.onnx").image_size == 224
    else:
        with pytest.raises(InputError, match="pools fire3 in another way than Caffe's|pools conv1 in another way"):
            onnx_graph.read(model.SerializeToString(), "x.onnx")


def as_torch_writes_it(graph) -> None:
    """Identity for equal tensors, casts, and a Reshape by the batch's own size."""
    graph.node.insert(0, helper.make_node("Identity", ["fire2_expand1x1_b"], ["same"], name="same"))
    next(each for each in graph.node if each.name == "fire2_expand1x1").input[2] = "same"
    graph.node.insert(0, helper.make_node("Cast", ["image_bgr"], ["cast"], name="cast", to=onnx.TensorProto.FLOAT))
    next(each for each in graph.node if each.name == "conv1").input[0] = "cast"
    flatten = next(each for each in graph.node if each.name == "flatten")
    place = list(graph.node).index(flatten)
    flatten.op_type = "Reshape"
    flatten.input.append("wanted")
    graph.initializer.append(numpy_helper.from_array(np.array([0]), "first"))
    graph.initializer.append(numpy_helper.from_array(np.array([-1]), "rest"))
    for node in reversed(
        (
            helper.make_node("Shape", ["averaged"], ["shape"]),
            helper.make_node("Gather", ["shape", "first"], ["size"], axis=0),
            helper.make_node("Concat", ["size", "rest"], ["wanted"], axis=0),
        )
    ):
        graph.node.insert(place, node)


def test_what_exporters_add_is_understood(small):
    model = onnx.load_from_string(writers.onnx(small))
    as_torch_writes_it(model.graph)
    onnx.checker.check_model(model)
    found = onnx_graph.read(model.SerializeToString(), "x.onnx")
    assert np.array_equal(found.convolutions["fire2_expand1x1"].bias, small["fire2_expand1x1"].bias)


def test_averages_may_be_means_over_the_map(small):
    for attributes in ({"axes": [2, 3]}, {"axes": [-2, -1]}):
        model = onnx.load_from_string(writers.onnx(small))
        change_kind("average", "ReduceMean")(model.graph)
        change_node("average", **attributes)(model.graph)
        assert len(onnx_graph.read(model.SerializeToString(), "x.onnx").convolutions) == 26
    model = onnx.load_from_string(writers.onnx(small))
    change_kind("average", "ReduceMean")(model.graph)
    change_node("average", axes=[1, 2])(model.graph)
    with pytest.raises(InputError, match=r"averages over the axes \[1, 2\], where 2 and 3 are expected"):
        onnx_graph.read(model.SerializeToString(), "x.onnx")


def test_an_activation_may_follow_the_joined_branches(small):
    model = onnx.load_from_string(writers.onnx(small))
    kept = []
    for node in model.graph.node:
        if node.name in ("fire2_expand1x1_relu", "fire2_expand3x3_relu"):
            continue
        if node.name == "fire2":
            node.input[:] = ["fire2_expand1x1", "fire2_expand3x3"]
            node.output[0] = "fire2_joined"
            kept += [node, helper.make_node("Relu", ["fire2_joined"], ["fire2"])]
            continue
        kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    found = onnx_graph.read(model.SerializeToString(), "x.onnx")
    assert isinstance(found.convolutions["fire2_expand3x3"], Convolution)
    assert found.activation == "relu"
