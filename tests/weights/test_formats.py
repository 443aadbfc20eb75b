"""Every format, from real weights to a Keras model."""

from __future__ import annotations

import io
import json
import math
import struct

import numpy as np
import pytest

from sqznet import weights
from sqznet.core.errors import InputError
from sqznet.network.architecture import Network
from sqznet.weights import formats
from sqznet.weights.convolutions import Convolution, shapes
from tests.weights import writers
from tests.weights.conftest import published, published_file, random_convolutions

CAFFE = weights.ImportOptions(input="caffe")
UNNAMED = ("MXNet params", "MXNet params V0", "MXNet params V1", "MXNet params V3")


def keras_weights(published: weights.Published) -> dict[str, np.ndarray]:
    return {each.path: np.asarray(each) for each in weights.build(published).variables}


def decoded(content: bytes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The published Deep Compression file, code by code and without our reader: kernels (out, in, ...) and biases."""
    counts, offset, layers = struct.unpack("<26I", content[:104]), 104, {}
    for (name, shape), count in zip(shapes(Network(1000, "v1.0")).items(), counts, strict=True):
        codebook = np.frombuffer(content, "<f4", 256, offset)
        bias = np.frombuffer(content, "<f4", shape[0], offset + 1024)
        codes = content[offset + 1024 + 4 * shape[0] :][:count]
        packed = content[offset + 1024 + 4 * shape[0] + count :][: (count + 1) // 2]
        kernel, place = np.full(math.prod(shape), codebook[0], np.float32), -1
        for index, code in enumerate(codes):
            place += 1 + (packed[index // 2] >> 4 * (index % 2) & 15)
            kernel[place] = codebook[code]
        layers[name] = (kernel.reshape(shape), bias)
        offset += 1024 + 4 * shape[0] + count + (count + 1) // 2
    assert offset == len(content)
    return layers


@pytest.fixture(scope="module")
def expected() -> dict[str, dict[str, np.ndarray]]:
    """By version, what the real files of the shared data must become, taken from them without the importers."""
    with np.load(published_file("v1.1")) as stored:
        caffe = {key: stored[key].astype(np.float32) for key in stored.files}
    names = {name: name.replace("_", "/") for name in shapes(Network(1000, "v1.1"))}
    layers = {
        "v1.0": decoded(published_file("v1.0").read_bytes()),
        "v1.1": {name: (caffe[f"{theirs}/weights"], caffe[f"{theirs}/bias"]) for name, theirs in names.items()},
    }
    made: dict[str, dict[str, np.ndarray]] = {}
    for arch, each in layers.items():
        made[arch] = {}
        for name, (kernel, bias) in each.items():
            turned = kernel[:, ::-1] if name == "conv1" else kernel  # BGR to RGB
            made[arch][f"{name}/kernel"] = np.ascontiguousarray(turned.transpose(2, 3, 1, 0))
            made[arch][f"{name}/bias"] = bias
    return made


@pytest.mark.parametrize("arch", ["v1.0", "v1.1"])
@pytest.mark.parametrize("name", writers.WRITERS)
def test_every_format_of_the_same_weights_gives_the_same_bits(name, arch, expected, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(writers.WRITERS[name](published(arch).found.convolutions))
    read = weights.read(path, CAFFE)
    assert name.startswith(read.card.weights["format"])
    # Caffe's v1.0 pads conv10; the others say, or are known, not to.
    caffe = name in ("npz", "caffemodel", "caffemodel V1", "ONNX")
    activation = "elu" if name in UNNAMED else "relu"
    assert read.network == Network(1000, arch, activation, conv10_padding=1 if caffe and arch == "v1.0" else 0)
    got = keras_weights(read)
    assert got.keys() == expected[arch].keys()
    for key, array in expected[arch].items():
        assert array.dtype == got[key].dtype and array.tobytes() == got[key].tobytes(), key


@pytest.mark.parametrize("arch", ["v1.0", "v1.1"])
def test_the_real_files_are_read_to_the_bit(arch, expected):
    got = keras_weights(published(arch))
    assert got.keys() == expected[arch].keys()
    assert all(array.tobytes() == got[key].tobytes() for key, array in expected[arch].items())


def test_a_deep_compression_file_written_anew_gives_the_same_bits(expected, tmp_path):
    content = writers.deep_compression(published("v1.0").found.convolutions)
    path = tmp_path / "weights.net"
    path.write_bytes(content)
    got = keras_weights(weights.read(path))
    assert all(array.tobytes() == got[key].tobytes() for key, array in expected["v1.0"].items())


def gluon_name(index: int) -> str:
    """Of the 26 convolutions, as Gluon saves them since version 1.2."""
    blocks = [3, 4, 6, 7, 9, 10, 11, 12]
    if index in (0, 25):
        return "features.0" if index == 0 else "output.0"
    return f"features.{blocks[(index - 1) // 3]}.{('0.0', '1.0.0', '1.1.0')[(index - 1) % 3]}"


@pytest.mark.parametrize(
    ("name", "suffix"), [(gluon_name, "."), (lambda index: f"conv{index}", "_"), (lambda index: f"x7_fc{index}", "_")]
)
def test_mxnet_arrays_go_by_their_numbers(small, name, suffix, tmp_path):
    path = tmp_path / "weights.params"
    content = writers.mxnet(small, name=name, separator=suffix)
    path.write_bytes(content)
    _, found = formats.read(path)
    assert all(np.array_equal(each.kernel, found.convolutions[key].kernel) for key, each in small.items())


def test_mxnet_arrays_with_caffes_names_leave_the_rest_open(tmp_path):
    convolutions = random_convolutions("v1.0")
    path = tmp_path / "weights.params"
    path.write_bytes(writers.mxnet(convolutions, name=lambda index: f"arg:{list(convolutions)[index]}"))
    with pytest.raises(InputError, match="does not say which pixels"):
        weights.read(path)
    assert weights.read(path, CAFFE).network.conv10_padding == 1


def test_bfloat16_is_the_upper_half_of_a_float32(small):
    content = writers.safetensors(small)
    length = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + length], np.frombuffer(content[8 + length :], "<u4")
    header = json.loads(header.replace(b'"F32"', b'"BF16"'))
    for key, each in header.items():
        if key != "__metadata__":
            each["data_offsets"] = [offset // 2 for offset in each["data_offsets"]]
    encoded = json.dumps(header).encode()
    halved = len(encoded).to_bytes(8, "little") + encoded + (data >> 16).astype("<u2").tobytes()
    found = formats.parse(halved, "x")[1].convolutions
    np.testing.assert_allclose(found["conv1"].kernel, small["conv1"].kernel, rtol=2**-7)


def test_a_caffemodel_may_hold_bypasses_and_other_activations(small):
    def layers(kind: bytes, count: int, **more: bytes) -> bytes:
        return b"".join(
            writers.field(100, writers.field(1, b"x%d" % index) + writers.field(2, kind) + more.get("with_", b""))
            for index in range(count)
        )

    content = writers.caffemodel(small)
    assert formats.parse(content + layers(b"Eltwise", 4), "x")[1].bypass == "simple"
    for addition, message in (
        (layers(b"Eltwise", 3), "it has 3 bypasses, where 0, 4 or 8 are expected"),
        (layers(b"ELU", 1), "it has several activations, elu and relu"),
        (layers(b"Sigmoid", 1), "'x0' is a layer of type Sigmoid with 0 arrays"),
        (layers(b"ReLU", 1, with_=writers.field(123, b"\x0d\xcd\xcc\xcc\x3d")), "'x0' is a leaky ReLU, of slope 0.1"),
        (layers(b"Pooling", 1, with_=writers.field(121, b"\x10\x02\x18\x02")), "'x0' pools by 2 at a stride of 2"),
    ):
        with pytest.raises(InputError, match=message):
            formats.parse(content + addition, "x")


def caffe_layer(kind: bytes | int, bottom: tuple[bytes, ...] = (), top: bytes = b"", more: bytes = b"") -> bytes:
    """Of either list of layers: the old one numbers its types."""
    old = isinstance(kind, int)
    numbers = {"list": 2, "name": 4, "type": 5, "bottom": 2, "top": 3}
    if not old:
        numbers = {"list": 100, "name": 1, "type": 2, "bottom": 3, "top": 4}
    content = writers.field(numbers["name"], b"extra") + writers.field(numbers["type"], kind) + more
    content += b"".join(writers.field(numbers["bottom"], each) for each in bottom)
    return writers.field(numbers["list"], content + (writers.field(numbers["top"], top) if top else b""))


AVERAGE = writers.field(121, writers.field(1, 1))  # pooling_param.pool


@pytest.mark.parametrize("connected", [False, True])
@pytest.mark.parametrize(
    "extra",
    [
        *(caffe_layer(kind) for kind in (b"Flatten", b"Reshape", b"ArgMax", b"InfogainLoss")),
        caffe_layer(b"MultinomialLogisticLoss", (b"prob", b"label"), b"loss"),
        *(caffe_layer(kind, top=b"data") for kind in (b"Python", b"AnnotatedData", b"WindowData", b"MyData")),
        caffe_layer(b"Pooling", (b"conv10",), b"pool10", AVERAGE) + caffe_layer(b"Sigmoid", (b"pool10",), b"answer"),
        caffe_layer(b"Pooling", more=AVERAGE) + caffe_layer(b"Python") + caffe_layer(b"ReLU") + caffe_layer(b"Eltwise"),
    ],
)
def test_a_caffemodel_may_hold_layers_that_make_its_input_or_use_its_answer(extra, connected, small):
    _, found = formats.parse(writers.caffemodel(small, connected=connected) + extra, "x")
    assert (found.activation, found.bypass) == ("relu", "none")


@pytest.mark.parametrize("kind", [8, 30, 13, 16])  # Flatten, ArgMax, InfogainLoss, MultinomialLogisticLoss
def test_an_old_caffemodel_may_hold_them_too(kind, small):
    for connected in (False, True):
        content = writers.caffemodel_v1(small, connected=connected)
        assert formats.parse(content + caffe_layer(kind, (b"conv10",), b"x"), "x")[1].activation == "relu"
    data = caffe_layer(24, top=b"data")  # WINDOW_DATA
    assert formats.parse(data + writers.caffemodel_v1(small), "x")[1].activation == "relu"


def test_an_unknown_layer_of_a_caffemodel_is_refused_before_the_average(small):
    sigmoid = caffe_layer(b"Sigmoid", (b"conv10",), b"conv10")
    average = caffe_layer(b"Pooling", (b"conv10",), b"pool10", AVERAGE)
    with pytest.raises(InputError, match="'extra' is a layer of type Sigmoid with 0 arrays"):
        formats.parse(writers.caffemodel(small) + sigmoid + average, "x")


def test_what_a_file_states_is_not_overruled(small, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(writers.caffemodel(small))
    with pytest.raises(InputError, match="has relu after its convolutions, not elu"):
        weights.read(path, weights.ImportOptions(activation="elu"))
    path.write_bytes(writers.npz(small))
    assert weights.read(path, weights.ImportOptions(activation="elu")).network.activation == "elu"


def test_a_kernel_is_transposed_and_its_colours_turned_round():
    """Against the values of the file, place by place: BGR (out, in, height, width) to RGB (height, width, in, out)."""
    read = published("v1.1")
    with np.load(published_file("v1.1")) as stored:
        conv1, squeeze = stored["conv1/weights"], stored["fire2/squeeze1x1/weights"]
    model = weights.build(read)
    kernel = np.asarray(model.get_layer("conv1").kernel)
    for red_green_blue in range(3):
        assert kernel[0, 2, red_green_blue, 5] == conv1[5, 2 - red_green_blue, 0, 2]
    assert np.asarray(model.get_layer("fire2_squeeze1x1").kernel)[0, 0, 7, 3] == squeeze[3, 7, 0, 0]
    assert model.get_layer("normalise").offset == [-123.0, -117.0, -104.0]


@pytest.mark.parametrize(("arch", "parameters"), [("v1.0", 1_248_424), ("v1.1", 1_235_496)])
def test_the_published_networks_have_the_published_numbers_of_parameters(arch, parameters):
    read = published(arch)
    assert weights.build(read).count_params() == parameters
    assert read.network.conv10_padding == (1 if arch == "v1.0" else 0)
    assert read.card.classes[0] == "n01440764" and len(read.card.classes) == 1000
    assert read.card.pretrained_on == weights.IMAGENET_TRAIN


@pytest.mark.parametrize(
    ("name", "pixels", "activation", "conv10_padding"),
    [
        ("npz", "caffe", "relu", 1),
        ("caffemodel", "caffe", "relu", 1),
        ("safetensors", "torchvision", "relu", 0),
        ("MXNet params", "article", "elu", 0),
        ("MXNet params of Gluon", "torchvision", "relu", 0),
    ],
)
def test_each_format_implies_how_its_networks_were_trained(name, pixels, activation, conv10_padding, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(writers.WRITERS[name](random_convolutions("v1.0")))
    read = weights.read(path)
    assert (read.card.weights["input"], read.network.activation) == (pixels, activation)
    assert read.network.conv10_padding == conv10_padding


def test_a_caffemodel_says_itself_whether_conv10_is_padded(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(writers.caffemodel(random_convolutions("v1.0"), conv10_pad=0))
    assert weights.read(path).network.conv10_padding == 0


def test_scaled_input_goes_into_conv1(small, tmp_path):
    """A torchvision network sees (x / 255 - mean) / deviation; the import sees x - 255 * mean."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(writers.safetensors(small))
    model = weights.build(weights.read(path, weights.ImportOptions(image_size=64)))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.float32)
    scaled = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]  # NHWC
    kernel = small["conv1"].kernel
    patch = scaled[0, 10:13, 20:23, :].transpose(2, 0, 1)
    expected = (patch * kernel[7]).sum() + small["conv1"].bias[7]
    got = model.get_layer("conv1")(model.get_layer("normalise")(pixels))
    assert np.asarray(got)[0, 5, 10, 7] == pytest.approx(expected, abs=1e-4)


def test_a_network_of_other_classes_takes_its_labels(small, tmp_path):
    path = tmp_path / "weights.npz"
    path.write_bytes(writers.npz(small))
    assert weights.read(path).card.classes == ("0", "1")
    assert weights.read(path, weights.ImportOptions(classes=("cat", "dog"))).card.classes == ("cat", "dog")
    assert weights.read(path).card.pretrained_on is None
    with pytest.raises(InputError, match="has 2 classes, and 1 labels are given"):
        weights.read(path, weights.ImportOptions(classes=("cat",)))


@pytest.mark.parametrize(
    "text", ["cat\ndog\n", "\ufeffcat\r\ndog\r\n", "0:cat\n1:dog", "2 dog\n1 cat\n\n", "0,cat\n1,dog\n"]
)
def test_labels_are_read_as_those_of_shards_are(text, tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text(text, encoding="utf-8", newline="")
    assert weights.read_labels(path) == ("cat", "dog")


def test_labels_that_cannot_be_read_are_refused(tmp_path):
    path = tmp_path / "labels.txt"
    with pytest.raises(InputError, match="--labels=.*labels.txt cannot be read: No such file or directory"):
        weights.read_labels(path)
    path.write_bytes(b"cat\nd\xf6g\n")
    with pytest.raises(InputError, match="labels.txt, line 2, is not UTF-8"):
        weights.read_labels(path)


# PyTorch's counts of steps, beside the weights


def with_counter(format_name: str, made: writers.Convolutions, counter: str, count: np.ndarray) -> bytes:
    """A file under PyTorch's names that holds the counter too."""
    if format_name == "npz":
        buffer = io.BytesIO(writers.npz(made, writers.torchvision_name, (".weight", ".bias")))
        with np.load(buffer) as stored:
            arrays = dict(stored)
        np.savez(buffer := io.BytesIO(), **arrays, **{counter: count})
        return buffer.getvalue()
    if format_name == "safetensors":
        from safetensors import numpy as safetensors

        arrays = safetensors.load(writers.safetensors(made))
        return safetensors.save({**arrays, counter: count})
    named = {writers.torchvision_name(name): each for name, each in made.items()}
    return writers.mxnet(named, name=lambda index: list(named)[index], separator=".", counter=(counter, count))


@pytest.mark.parametrize("counter", ["n_averaged", "module.features.1.num_batches_tracked"])
@pytest.mark.parametrize("format_name", ["npz", "safetensors", "MXNet params"])
def test_a_count_of_steps_is_no_weight(format_name, counter, small):
    for count in (np.array([7], np.int64), np.array([7], np.int32)):
        found = formats.parse(with_counter(format_name, small, counter, count), "x")[1]
        assert found.convolutions.keys() == small.keys()
    if format_name != "MXNet params":  # MXNet has no arrays without dimensions
        found = formats.parse(with_counter(format_name, small, counter, np.array(7, np.int64)), "x")[1]
        assert found.pixels == "torchvision"


@pytest.mark.parametrize("format_name", ["npz", "safetensors", "MXNet params"])
@pytest.mark.parametrize(("counter", "size"), [("n_averaged", 2), ("steps", 1)])
def test_other_whole_numbers_are_refused(format_name, counter, size, small):
    with pytest.raises(InputError, match=f"^x, {counter}: ?holds|^x, {counter} holds"):
        formats.parse(with_counter(format_name, small, counter, np.arange(size)), "x")


@pytest.mark.parametrize(
    "kind", ["QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "DynamicQuantizeLinear"]
)
def test_a_quantised_onnx_file_is_called_that(kind, small):
    import onnx

    model = onnx.ModelProto.FromString(writers.onnx(small))
    model.graph.node.append(onnx.helper.make_node(kind, ["image_bgr"], ["x"]))
    with pytest.raises(InputError, match=rf"^x is quantised \(it has {kind}\); import the float file"):
        formats.parse(model.SerializeToString(), "x")


# What is refused, and where it says the fault is


def altered(convolutions: writers.Convolutions, **changes: Convolution | None) -> writers.Convolutions:
    changed = {**convolutions, **changes}
    return {name: each for name, each in changed.items() if each is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fire5_expand3x3": None}, "is not a SqueezeNet v1.1: it has no fire5_expand3x3"),
        ({"conv10": None}, "is not a SqueezeNet: it has no conv10; it has conv1, fire2_squeeze1x1"),
        ({"fc": Convolution(np.zeros((2, 2, 1, 1)), np.zeros(2))}, "it has fc, which is not part of one"),
        (
            {"fire3_squeeze1x1": Convolution(np.zeros((17, 128, 1, 1)), np.zeros(17))},
            r"fire3_squeeze1x1 has a kernel of \(17, 128, 1, 1\) and a bias of \(17,\), where \(16, 128, 1, 1\)",
        ),
        (
            {"conv1": Convolution(np.zeros((64, 3, 11, 11)), np.zeros(64))},
            r"conv1 is \(64, 3, 11, 11\), where it is \(96, 3, 7, 7\) in v1.0 and \(64, 3, 3, 3\) in v1.1",
        ),
        (
            {"fire2_squeeze1x1": Convolution(np.full((16, 64, 1, 1), np.nan), np.zeros(16))},
            "fire2_squeeze1x1 has values that are not finite",
        ),
    ],
)
def test_what_is_not_a_squeezenet_is_refused_with_the_first_mismatch(small, changes, message, tmp_path):
    path = tmp_path / "weights.npz"
    path.write_bytes(writers.npz(altered(small, **changes)))
    with pytest.raises(InputError, match=message):
        weights.read(path)


def test_surplus_arrays_are_refused(small, tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, **{"conv1/weights": small["conv1"].kernel, "conv1/momentum": np.zeros(3)})
    with pytest.raises(InputError, match="it has 'conv1/momentum', which belongs to no convolution of one"):
        weights.read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x04\x95\x00", "is a Python pickle, which is not loaded"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file; save the model as ONNX"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html>", "is a web page"),
        (b"\x1c\0\0\0TFL3", "is a TFLite file"),
        (b"", "is of no known format; expected one of Deep Compression, npz"),
        (b"nothing that anyone knows", "is of no known format"),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(content, message, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        formats.read(path)


def test_archives_of_other_kinds_are_called_what_they_are(tmp_path):
    import zipfile

    for member, message in (("squeezenet/data.pkl", "is a PyTorch pickle"), ("model.weights.h5", "is a Keras model")):
        path = tmp_path / "weights.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, b"")
        with pytest.raises(InputError, match=message):
            formats.read(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file: .*nowhere; nor is it one of squeezenet-v1.0"):
        weights.read(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is a folder; expected a file of weights"):
        weights.read(tmp_path)


def test_an_onnx_file_needs_to_be_told_its_pixels(small, tmp_path):
    path = tmp_path / "weights.onnx"
    path.write_bytes(writers.onnx(small))
    with pytest.raises(
        InputError, match="does not say which pixels .* --input=... --out=model.keras`. caffe: BGR less 104, 117, 123"
    ):
        weights.read(path)
    with pytest.raises(InputError, match="no input 'bgr'; there are caffe, torchvision, article, raw"):
        weights.read(path, weights.ImportOptions(input="bgr"))
