"""The names that files have for the layers of a SqueezeNet, in every format that goes by names."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from sqznet import weights
from sqznet.core.errors import InputError
from sqznet.weights import formats, names
from sqznet.weights.__main__ import main
from sqznet.weights.convolutions import Convolution
from tests.weights import writers
from tests.weights.conftest import published, random_convolutions
from tests.weights.writers import caffe_name, firenet_name, torchvision_name


def listed(place: str, name: str) -> str:
    """As in PyTorch's ModuleList."""
    fire, _, part = name.partition("_")
    return f"{place}.{int(fire[4:]) - 2}.{part}" if part else name


CAFFE = weights.ImportOptions(input="caffe")
BY_NAME: dict[str, Callable[[writers.Convolutions, writers.Naming], bytes]] = {
    "npz": lambda made, name: writers.npz(made, name),
    "npz of a state dict": lambda made, name: writers.npz(made, name, (".weight", ".bias")),
    "caffemodel": lambda made, name: writers.caffemodel(made, name=name),
    "caffemodel, connected": lambda made, name: writers.caffemodel(made, name=name, connected=True),
    "caffemodel V1": lambda made, name: writers.caffemodel_v1(made, name),
    "MXNet params": lambda made, name: writers.mxnet(made, name=lambda index: "arg:" + name(list(made)[index])),
    "safetensors": lambda made, name: writers.safetensors(made, name),
    "ONNX": lambda made, name: writers.onnx(made, called=name),
}
NAMINGS: dict[str, writers.Naming] = {
    "Caffe's release": caffe_name,
    "FireNet": firenet_name,
    "FireNet in PyTorch": lambda name: firenet_name(name).replace("/", "."),
    "FireNet in MXNet": lambda name: firenet_name(name).replace("/", "_"),
    "torchvision": torchvision_name,
    "DataParallel": lambda name: f"module.{torchvision_name(name)}",
    "a wrapped part": lambda name: torchvision_name(name).replace("features.", "features.module."),
    "torch.compile in a Lightning module": lambda name: f"model._orig_mod.{torchvision_name(name)}",
    "nested": lambda name: f"net.backbone.module.{torchvision_name(name)}",
    "a backbone with a head": lambda name: ("" if name == "conv10" else "backbone.") + torchvision_name(name),
    "PyTorch with fire modules": lambda name: f"module.{name.replace('_', '.').replace('squeeze1x1', 'squeeze')}",
    "dashes": lambda name: name.replace("_", "-"),
    "capitals": lambda name: caffe_name(name).replace("fire", "Fire").replace("squeeze1x1", "Squeeze_1x1"),
    "short": lambda name: name.replace("squeeze", "s").replace("expand", "e"),
    "FireNet with underscores": lambda name: firenet_name(name).replace("/", "_").replace("conv1x1", "conv_1x1"),
    "numbers of expands": lambda name: name.replace("1x1", "1").replace("3x3", "3").replace("squeeze1", "squeeze"),
    "fire modules from one": lambda name: f"fire{int(name[4]) - 1}/{name[6:]}" if name.startswith("fire") else name,
    "torchvision in a Sequential": lambda name: torchvision_name(name).replace("features", "net"),
    "Sequentials alone": lambda name: torchvision_name(name).replace("features", "0").replace("classifier", "1"),
    "a body": lambda name: torchvision_name(name).replace("features", "backbone.body"),
    "a list": lambda name: listed("fires", name),
    "a list of modules": lambda name: listed("fire_modules", name),
    "a wrapped list": lambda name: f"module.net.{listed('blocks', name)}",
    "a new last layer": lambda name: "conv10-new" if name == "conv10" else caffe_name(name),
    "another new last layer": lambda name: "conv10_flickr" if name == "conv10" else firenet_name(name),
    "a new last layer in PyTorch": lambda name: "module.head.2" if name == "conv10" else torchvision_name(name),
    "a new first layer too": lambda name: {"conv10": "fc", "conv1": "stem"}.get(name, caffe_name(name)),
}


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("format_name", BY_NAME)
def test_every_format_reads_every_naming(format_name, naming, small, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(BY_NAME[format_name](small, NAMINGS[naming]))
    read = weights.read(path, CAFFE)
    assert read.found.convolutions.keys() == small.keys()
    for name, each in small.items():
        assert np.array_equal(read.found.convolutions[name].kernel, each.kernel), name
        assert np.array_equal(read.found.convolutions[name].bias, each.bias), name


@pytest.mark.parametrize("format_name", BY_NAME)
def test_published_weights_under_firenets_names_keep_every_bit(format_name, tmp_path):
    real = published("v1.0").found.convolutions
    path = tmp_path / "weights"
    path.write_bytes(BY_NAME[format_name](real, firenet_name))
    read = weights.read(path, CAFFE)
    assert read.network.arch == "v1.0" and read.network.conv10_padding == 1  # as the authors' network has it
    for name, each in real.items():
        assert read.found.convolutions[name].kernel.tobytes() == each.kernel.astype(np.float32).tobytes(), name


@pytest.mark.parametrize(
    ("name", "pixels", "conv10_padding"),
    [(torchvision_name, "torchvision", 0), (firenet_name, None, 0), (lambda name: f"net.{name}", None, 0)],
)
def test_torchvisions_names_say_how_the_network_was_trained_in_any_archive(name, pixels, conv10_padding):
    def naming(ours: str) -> str:
        return torchvision_name(ours, "v1.0") if name is torchvision_name else name(ours)

    _, found = formats.parse(writers.npz(random_convolutions("v1.0"), naming, (".weight", ".bias")), "x")
    assert found.pixels == pixels
    assert weights.convolutions.check(found, "x").conv10_padding == conv10_padding


NET = {"net.": lambda name: f"net.{name}", "FireNet": firenet_name, "own": lambda name: f"net.{caffe_name(name)}"}


@pytest.mark.parametrize("suffixes", [(".weight", ".bias"), ("/weight", "/bias"), ("/weights", "/biases")])
@pytest.mark.parametrize("naming", NET)
def test_an_npz_that_is_not_in_caffes_layout_leaves_the_pixels_open(naming, suffixes, small, tmp_path):
    path = tmp_path / "weights.npz"
    path.write_bytes(writers.npz(small, NET[naming], suffixes))
    with pytest.raises(InputError, match="does not say which pixels .* import it with .* --input="):
        weights.read(path)
    path.write_bytes(writers.npz(small, NET[naming]))
    assert weights.read(path).card.weights["input"] == "caffe"


@pytest.mark.parametrize("format_name", ["npz of a state dict", "MXNet params", "safetensors"])
def test_only_caffes_network_pads_conv10_where_the_file_does_not_say(format_name, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(BY_NAME[format_name](random_convolutions("v1.0"), lambda name: f"net.{name}"))
    for pixels, padding in (("torchvision", 0), ("article", 0), ("raw", 0), ("caffe", 1)):
        assert weights.read(path, weights.ImportOptions(input=pixels)).network.conv10_padding == padding


def test_names_of_caffe_in_safetensors_leave_the_pixels_open(small, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(writers.safetensors(small, firenet_name))
    with pytest.raises(InputError, match="does not say which pixels"):
        weights.read(path)


def test_a_last_layer_told_by_its_shape_is_named(small, tmp_path, capsys):
    path = tmp_path / "finetuned.caffemodel"
    path.write_bytes(writers.caffemodel(small, name=NAMINGS["a new last layer"]))
    assert main([f"--source={path}", f"--out={tmp_path / 'model.keras'}"]) == 0
    printed = capsys.readouterr()
    assert "'conv10-new' is taken for conv10, by its shape" in printed.err
    assert "2 classes; read as caffemodel" in printed.out


@pytest.mark.parametrize(
    "naming",
    [lambda name: name.replace("expand", "widen"), lambda name: f"{name[5:]}.{name[:5]}" if "_" in name else name],
)
def test_fire_modules_of_unknown_names_are_listed_with_the_names_that_are_known(naming, small):
    _, found = formats.parse(writers.npz(small, naming), "x")
    message = (
        "it has no fire2_expand1x1; unknown names are '.*', ..., and those of fire modules are read as fire2/squeeze"
    )
    with pytest.raises(InputError, match=message):
        weights.convolutions.check(found, "x")


def test_numbered_modules_are_known_only_if_there_are_eight(small):
    seven = {name: each for name, each in small.items() if not name.startswith("fire9")}
    layers = names.read({listed("fires", name): each for name, each in seven.items()}, "x").ours
    assert "fires.0.expand1x1" not in layers and "fires.0.expand3x3" not in layers


def linear(classes: int, inputs: int) -> Convolution:
    return Convolution(np.zeros((classes, inputs), np.float32), np.zeros(classes, np.float32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"conv10": None, "fc": linear(5, 512)},
            r"it has no conv10; .* Of unknown names are 'fc' \(5, 512\): conv10 must have that name, or be the only "
            r"one whose kernel is \(classes, 512, 1, 1\); save the file with that layer called conv10",
        ),
        ({"conv10": None, "new": "conv10", "newer": "conv10"}, r"Of unknown names are 'new' \(2, 512, 1, 1\), 'newer'"),
        (
            {"conv10-new": "conv10"},
            "it has conv10-new, which is not part of one; of two last layers keep one in the file, and call it conv10",
        ),
        ({"conv_final": "conv10"}, "both 'conv10' and 'conv_final' would be its conv10"),
        ({"module.conv1": "conv1"}, "both 'conv1' and 'module.conv1' would be its conv1"),
        ({"fire2.conv1": "fire2_squeeze1x1"}, "it has fire2.conv1, which is not part of one"),
    ],
)
def test_a_layer_that_cannot_be_told_is_named_with_what_to_do(small, changes, message):
    layers = {**small, **{name: small[each] if isinstance(each, str) else each for name, each in changes.items()}}
    content = writers.npz({name: each for name, each in layers.items() if each is not None}, str)
    with pytest.raises(InputError, match=message):
        weights.convolutions.check(formats.parse(content, "x")[1], "x")


@pytest.mark.parametrize("last", ["net_output_conv0", "zz_conv0", "squeezenet0_conv25"])
def test_mxnet_finds_a_last_layer_with_a_number_of_its_own(small, last):
    def name(index: int) -> str:
        return last if index == 25 else f"squeezenet0_conv{index}"

    _, found = formats.parse(writers.mxnet(small, name=name), "x")
    assert found.pixels == "torchvision"
    assert all(np.array_equal(each.kernel, found.convolutions[key].kernel) for key, each in small.items())


def test_a_kernel_and_a_bias_come_once_each(small):
    arrays = {"conv1/weights": small["conv1"].kernel, "conv1.weight": small["conv1"].kernel, "conv1/bias": np.zeros(64)}
    with pytest.raises(InputError, match="'conv1/weights' and 'conv1.weight' are the same array"):
        weights.convolutions.pair(arrays, "x")


# Activations


LINEAR = {
    "caffemodel": lambda made, ends: writers.caffemodel(made, linear=ends),
    "caffemodel, connected": lambda made, ends: writers.caffemodel(made, linear=ends, connected=True),
    "FireNet, connected": lambda made, ends: writers.caffemodel(made, name=firenet_name, linear=ends, connected=True),
    "caffemodel V1": lambda made, ends: writers.caffemodel_v1(made, linear=ends),
    "caffemodel V1, connected": lambda made, ends: writers.caffemodel_v1(made, linear=ends, connected=True),
    "ONNX": lambda made, ends: writers.onnx(made, linear=ends),
}


@pytest.mark.parametrize("format_name", LINEAR)
def test_a_network_without_an_activation_after_its_squeezes_is_called_that(format_name, small):
    message = "^x: this network has no activation after the squeeze convolutions; sqznet cannot represent that$"
    for ends in (("squeeze1x1",), ("fire7_squeeze1x1",)):
        with pytest.raises(InputError, match=message):
            formats.parse(LINEAR[format_name](small, ends), "x")


@pytest.mark.parametrize("format_name", ["caffemodel, connected", "caffemodel V1, connected", "ONNX"])
@pytest.mark.parametrize("name", ["conv1", "conv10"])
def test_an_activation_missing_elsewhere_is_named_too(format_name, name, small):
    with pytest.raises(InputError, match=f"this network has no activation after {name}; sqznet cannot"):
        formats.parse(LINEAR[format_name](small, (name,)), "x")


def test_weights_without_a_graph_say_nothing_of_activations(small):
    everything = ("x1", "x3", "conv1", "conv10")
    for connected in (False, True):
        content = writers.caffemodel_v1(small, linear=everything, connected=connected)
        assert formats.parse(content, "x")[1].activation is None


def test_an_activation_may_follow_the_joined_branches_in_caffe_too(small):
    content = writers.caffemodel(small, linear=("expand1x1", "expand3x3"), connected=True)
    for fire in writers.FIRES:
        joined = writers.field(3, f"{fire}/concat".encode()) + writers.field(4, f"{fire}/concat".encode())
        relu = writers.field(1, f"{fire}/relu".encode()) + writers.field(2, b"ReLU") + joined
        content += writers.field(100, relu)
    assert formats.parse(content, "x")[1].activation == "relu"


def test_neither_long_names_nor_many_are_slow():
    one = Convolution(np.zeros((1, 1, 1, 1)), np.zeros(1))
    layers = {"_".join(["fire2", "conv1x1"] * 8000): one, **{f"layer{index}": one for index in range(5000)}}
    started = time.perf_counter()
    assert names.read(layers, "x").ours == {}
    assert time.perf_counter() - started < 5  # in practice tenths
