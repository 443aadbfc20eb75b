"""Every format, from real weights to a Keras model."""

from __future__ import annotations

import numpy as np
import pytest

from sqznet import weights
from sqznet.errors import InputError
from sqznet.weights import formats
from sqznet.weights.convolutions import Convolution

from . import writers
from .conftest import published, published_file, random_convolutions

CAFFE = weights.Options(input="caffe")


def keras_weights(published: weights.Published) -> dict[str, np.ndarray]:
    return {each.path: np.asarray(each) for each in weights.build(published).variables}


@pytest.fixture(scope="module")
def expected() -> dict[str, dict[str, np.ndarray]]:
    """By version, what the real files in the shared data are imported as."""
    return {arch: keras_weights(published(arch)) for arch in ("v1.0", "v1.1")}


def names_without_model(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {path: array for path, array in arrays.items() if "seed" not in path}


@pytest.mark.parametrize("arch", ["v1.0", "v1.1"])
@pytest.mark.parametrize("name", writers.WRITERS)
def test_every_format_of_the_same_weights_gives_the_same_bits(name, arch, expected, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(writers.WRITERS[name](published(arch).found.convolutions))
    read = weights.read(path, CAFFE)
    assert name.startswith(read.card.weights["format"])
    got = keras_weights(read)
    assert got.keys() == expected[arch].keys()
    for key, array in expected[arch].items():
        assert array.dtype == got[key].dtype and array.tobytes() == got[key].tobytes(), key


def test_a_deep_compression_file_written_anew_gives_the_same_bits(expected, tmp_path):
    content = writers.deep_compression(published("v1.0").found.convolutions)
    path = tmp_path / "weights.net"
    path.write_bytes(content)
    got = keras_weights(weights.read(path))
    assert all(array.tobytes() == got[key].tobytes() for key, array in expected["v1.0"].items())


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
    assert model.get_layer("subtract_mean").offset == [-123.0, -117.0, -104.0]


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
    model = weights.build(weights.read(path, weights.Options(image_size=64)))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.float32)
    scaled = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]  # NHWC
    kernel = small["conv1"].kernel
    patch = scaled[0, 10:13, 20:23, :].transpose(2, 0, 1)
    expected = (patch * kernel[7]).sum() + small["conv1"].bias[7]
    got = model.get_layer("conv1")(model.get_layer("subtract_mean")(pixels))
    assert np.asarray(got)[0, 5, 10, 7] == pytest.approx(expected, abs=1e-4)


def test_a_network_of_other_classes_takes_its_labels(small, tmp_path):
    path = tmp_path / "weights.npz"
    path.write_bytes(writers.npz(small))
    assert weights.read(path).card.classes == ("0", "1")
    assert weights.read(path, weights.Options(classes=("cat", "dog"))).card.classes == ("cat", "dog")
    assert weights.read(path).card.pretrained_on is None
    with pytest.raises(InputError, match="has 2 classes, and 1 labels are given"):
        weights.read(path, weights.Options(classes=("cat",)))


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
    with pytest.raises(InputError, match="does not say which pixels .*: give --input. caffe: BGR less 104, 117, 123"):
        weights.read(path)
    with pytest.raises(InputError, match="no input 'bgr'; there are caffe, torchvision, article, raw"):
        weights.read(path, weights.Options(input="bgr"))
