"""Files of weights written byte by byte to each published layout, without the importers' own code."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable

import numpy as np

from sqznet.weights.convolutions import Convolution

Convolutions = dict[str, Convolution]

POOLED = {"v1.0": ("conv1", "fire4", "fire8"), "v1.1": ("conv1", "fire3", "fire5")}
FIRES = [f"fire{number}" for number in range(2, 10)]
PARTS = ("squeeze1x1", "expand1x1", "expand3x3")


def arch_of(convolutions: Convolutions) -> str:
    return "v1.0" if convolutions["conv1"].kernel.shape[2] == 7 else "v1.1"


def caffe_name(name: str) -> str:
    return name.replace("_", "/")


def firenet_name(name: str) -> str:
    """As in the authors' dense-sparse-dense release."""
    parts = {"squeeze1x1": "conv1x1_1", "expand1x1": "conv1x1_2", "expand3x3": "conv3x3_2"}
    if name == "conv10":
        return "conv_final"
    return "/".join(parts.get(part, part) for part in name.split("_"))


def torchvision_name(name: str, arch: str = "v1.1") -> str:
    indices = {"v1.0": (3, 4, 5, 7, 8, 9, 10, 12), "v1.1": (3, 4, 6, 7, 9, 10, 11, 12)}[arch]
    if name in ("conv1", "conv10"):
        return {"conv1": "features.0", "conv10": "classifier.1"}[name]
    fire, part = name.split("_")
    return f"features.{indices[FIRES.index(fire)]}.{part.replace('squeeze1x1', 'squeeze')}"


Naming = Callable[[str], str]  # our name of a layer to that of a file


def deep_compression(convolutions: Convolutions) -> bytes:
    """Fillers of entry 0 bridge gaps of more than 16 places, as in the release."""
    heads, bodies = [], []
    for each in convolutions.values():
        flat = each.kernel.reshape(-1)
        codebook = np.concatenate([[0.0], np.setdiff1d(flat, [0.0])]).astype("<f4")
        assert len(codebook) <= 256
        codes, positions, last = [], [], -1
        for place in np.flatnonzero(flat):
            while place - last > 16:
                codes.append(0)
                positions.append(15)
                last += 16
            codes.append(int(np.flatnonzero(codebook == flat[place])[0]))
            positions.append(int(place - last - 1))
            last = int(place)
        halves = [*positions, 0][: 2 * ((len(positions) + 1) // 2)]
        packed = bytes(low | high << 4 for low, high in zip(halves[::2], halves[1::2], strict=True))
        padded = np.zeros(256, "<f4")
        padded[: len(codebook)] = codebook
        heads.append(struct.pack("<I", len(codes)))
        bodies.append(padded.tobytes() + each.bias.astype("<f4").tobytes() + bytes(codes) + packed)
    return b"".join(heads + bodies)


def npz(convolutions: Convolutions, name: Naming = caffe_name, suffixes=("/weights", "/bias")) -> bytes:
    arrays = {}
    for ours, each in convolutions.items():
        arrays[name(ours) + suffixes[0]] = each.kernel
        arrays[name(ours) + suffixes[1]] = each.bias
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


# Protobuf on the wire.


def varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def caffemodel(
    convolutions: Convolutions,
    conv10_pad: int | None = None,
    name: Naming = caffe_name,
    linear: tuple[str, ...] = (),
    connected: bool = False,
) -> bytes:
    """NetParameter.layer, as Caffe writes it since 2014.

    Args:
        linear: the ends of our names of layers that no ReLU follows.
        connected: whether layers name their inputs and outputs, and concatenations are among them.
    """
    net = field(1, b"SqueezeNet")

    def layer(called: str, kind: bytes, inputs: list[str], output: str, more: bytes = b"") -> bytes:
        ports = b"".join(field(3, each.encode()) for each in inputs) + field(4, output.encode()) if connected else b""
        return field(100, field(1, called.encode()) + field(2, kind) + ports + more)

    before = "data"
    for ours, each in convolutions.items():
        blobs = b""
        for array in (each.kernel, each.bias):
            shape = field(7, field(1, b"".join(map(varint, array.shape))))
            blobs += field(7, field(5, array.astype("<f4").tobytes()) + shape)
        blobs += field(106, _convolution_parameter(ours, each.kernel, convolutions, conv10_pad))
        called = name(ours)
        net += layer(called, b"Convolution", [before], called, blobs)
        if not ours.endswith(linear or ("nothing",)):
            net += layer(f"relu_{ours}", b"ReLU", [called], called)
        if ours.endswith("expand3x3") and connected:
            fire = ours.split("_")[0]
            branches = [name(f"{fire}_expand1x1"), called]
            net += layer(f"{fire}/concat", b"Concat", branches, f"{fire}/concat")
            before = f"{fire}/concat"
        elif not ours.endswith("expand1x1"):
            before = called
    return net


def caffemodel_v1(
    convolutions: Convolutions, called: Naming = caffe_name, linear: tuple[str, ...] = (), connected: bool = False
) -> bytes:
    """NetParameter.layers, with the old four dimensions of each array."""
    net = field(1, b"SqueezeNet")
    for name, each in convolutions.items():
        output = called(name).encode()
        layer = (field(3, output) if connected else b"") + field(4, output) + field(5, 4)
        for array in (each.kernel, each.bias):
            shape = (1,) * (4 - array.ndim) + array.shape
            blob = b"".join(field(number, side) for number, side in enumerate(shape, start=1))
            blob += field(5, array.astype("<f4").tobytes())
            layer += field(6, blob)
        layer += field(10, _convolution_parameter(name, each.kernel, convolutions, None))
        net += field(2, layer)
        if not name.endswith(linear or ("nothing",)):
            ports = field(2, output) + field(3, output) if connected else b""
            net += field(2, ports + field(4, f"relu_{name}".encode()) + field(5, 18))
    return net


def _convolution_parameter(name: str, kernel: np.ndarray, convolutions: Convolutions, conv10_pad: int | None) -> bytes:
    pad = 1 if name.endswith("3x3") else 0
    if name == "conv10":
        pad = (1 if arch_of(convolutions) == "v1.0" else 0) if conv10_pad is None else conv10_pad
    stride = 2 if name == "conv1" else 1
    return field(1, len(kernel)) + field(3, pad) + field(4, kernel.shape[2]) + field(6, stride)


# MXNet.


def mxnet(
    convolutions: Convolutions,
    version: int = 2,
    name: Callable[[int], str] = lambda index: f"arg:convolution{index}",
    separator: str = "_",
    counter: tuple[str, np.ndarray] | None = None,
) -> bytes:
    """`counter` is a name and whole numbers, to go among the weights."""
    arrays, labels = [], []
    if counter is not None:
        called, count = counter
        labels.append(called.encode())
        head = struct.pack(f"<IiI{count.ndim}q", 0xF993FAC9, 0, count.ndim, *count.shape)
        arrays.append(head + struct.pack("<iii", 1, 0, {4: 4, 8: 6}[count.itemsize]) + count.tobytes())
    for index, each in enumerate(convolutions.values()):
        for array, suffix in ((each.kernel, "weight"), (each.bias, "bias")):
            labels.append((name(index) + separator + suffix).encode())
            if version == 0:
                head = struct.pack(f"<I{array.ndim}I", array.ndim, *array.shape)
            else:
                magic = struct.pack("<I", 0xF993FAC7 + version)
                storage = struct.pack("<i", 0) if version >= 2 else b""
                head = magic + storage + struct.pack(f"<I{array.ndim}q", array.ndim, *array.shape)
            arrays.append(head + struct.pack("<iii", 1, 0, 0) + array.astype("<f4").tobytes())
    order = np.random.default_rng(0).permutation(len(arrays))  # a dictionary's, not the network's
    names = b"".join(struct.pack("<Q", len(labels[index])) + labels[index] for index in order)
    count = struct.pack("<Q", len(arrays))
    return struct.pack("<QQ", 0x112, 0) + count + b"".join(arrays[index] for index in order) + count + names


# PyTorch.


def safetensors(convolutions: Convolutions, name: Naming | None = None) -> bytes:
    arch = arch_of(convolutions)
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for ours, each in convolutions.items():
        layer = name(ours) if name else torchvision_name(ours, arch)
        for array, suffix in ((each.kernel, "weight"), (each.bias, "bias")):
            content = array.astype("<f4").tobytes()
            offsets = [len(data), len(data) + len(content)]
            header[f"{layer}.{suffix}"] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": offsets}
            data += content
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


# ONNX, node by node, with Caffe's geometry: ceil-mode pools, conv10 of v1.0 padded.


def onnx(
    convolutions: Convolutions,
    *,
    bypass: str = "none",
    conv10_pad: int | None = None,
    called: Naming = str,
    linear: tuple[str, ...] = (),
) -> bytes:
    """`linear` has the ends of our names of layers that no ReLU follows."""
    from onnx import TensorProto, helper, numpy_helper

    arch, classes = arch_of(convolutions), len(convolutions["conv10"].kernel)
    nodes, weights = [], []
    padding = (1 if arch == "v1.0" else 0) if conv10_pad is None else conv10_pad

    def conv(x: str, name: str, stride: int = 1, pad: int = 0, activate: bool = True) -> str:
        each = convolutions[name]
        activate = activate and not name.endswith(linear or ("nothing",))
        name = called(name)
        weights.append(numpy_helper.from_array(each.kernel, f"{name}_w"))
        weights.append(numpy_helper.from_array(each.bias, f"{name}_b"))
        side = each.kernel.shape[2]
        shape = {"kernel_shape": [side] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        nodes.append(helper.make_node("Conv", [x, f"{name}_w", f"{name}_b"], [name], name=name, **shape))
        if not activate:
            return name
        nodes.append(helper.make_node("Relu", [name], [f"{name}_relu"], name=f"{name}_relu"))
        return f"{name}_relu"

    def pool_if_due(x: str, after: str) -> str:
        if after not in POOLED[arch]:
            return x
        name, shape = f"{after}_pool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}
        nodes.append(helper.make_node("MaxPool", [x], [name], name=name, **shape))
        return name

    x = pool_if_due(conv("image_bgr", "conv1", stride=2), "conv1")
    for fire in FIRES:
        squeezed = conv(x, f"{fire}_squeeze1x1")
        branches = [conv(squeezed, f"{fire}_expand1x1"), conv(squeezed, f"{fire}_expand3x3", pad=1)]
        nodes.append(helper.make_node("Concat", branches, [fire], name=fire, axis=1))
        simple = int(fire[4:]) % 2 == 1
        if bypass == "complex" and not simple:
            nodes.append(helper.make_node("Add", [fire, conv(x, f"{fire}_bypass1x1", activate=False)], [f"{fire}_sum"]))
        elif bypass != "none" and simple:
            nodes.append(helper.make_node("Add", [x, fire], [f"{fire}_sum"]))
        summed = f"{fire}_sum" if bypass == "complex" or (bypass == "simple" and simple) else fire
        x = pool_if_due(summed, fire)
    x = conv(x, "conv10", pad=padding)
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["averaged"], name="average"))
    nodes.append(helper.make_node("Flatten", ["averaged"], ["logits"], name="flatten"))
    nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], name="softmax", axis=1))
    graph = helper.make_graph(
        nodes,
        "squeezenet",
        [helper.make_tensor_value_info("image_bgr", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", classes])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString()


WRITERS: dict[str, Callable[[Convolutions], bytes]] = {
    "npz": npz,
    "caffemodel": caffemodel,
    "caffemodel V1": caffemodel_v1,
    "MXNet params": mxnet,
    "MXNet params V0": lambda convolutions: mxnet(convolutions, 0),
    "MXNet params V1": lambda convolutions: mxnet(convolutions, 1),
    "MXNet params V3": lambda convolutions: mxnet(convolutions, 3),
    "MXNet params of Gluon": lambda convolutions: mxnet(convolutions, name=lambda index: f"squeezenet0_conv{index}"),
    "safetensors": safetensors,
    "ONNX": onnx,
}
