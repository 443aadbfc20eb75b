"""Defines the result of every importer: the convolutions of a network. Checks that they form a SqueezeNet.

Kernels are float32 (out, in, height, width), and biases are float32 (out,), as in the published files.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sqznet.core.errors import InputError
from sqznet.network.architecture import ARCHS, FIRES, Network

FLOATS = ("float16", "float32", "float64")
_ARRAY = re.compile("(.+)[/._](weights?|bias(?:es)?)", re.DOTALL)  # layer, array
_COUNTER = re.compile("(?:.*[/._])?(?:n_averaged|num_batches_tracked)", re.DOTALL)


@dataclass(frozen=True)
class Convolution:
    kernel: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class Found:
    """Contains the content of a file of weights. None means that the file does not state this property."""

    convolutions: dict[str, Convolution]  # by our names, such as fire2_expand3x3
    pixels: str | None = None  # key of CONVENTIONS
    activation: str | None = None  # as stated in the file
    usual_activation: str = "relu"  # of networks in this format
    bypass: str = "none"
    conv10_padding: int | None = None  # None: as usual for these pixels
    image_size: int | None = None
    by_shape: Mapping[str, str] = field(default_factory=dict)  # layers identified by shape: the file's name to ours


def names() -> list[str]:
    """Lists the names of the 26 convolutions of every SqueezeNet, in the order of the network."""
    return list(shapes(Network(1)))


def shapes(network: Network) -> dict[str, tuple[int, int, int, int]]:
    """Returns the kernel shape of each convolution of a network."""
    arch = ARCHS[network.arch]
    expected = {"conv1": (arch.conv1_filters, 3, arch.conv1_kernel, arch.conv1_kernel)}
    channels = arch.conv1_filters
    for fire, (squeeze, expand) in FIRES.items():
        expected[f"{fire}_squeeze1x1"] = (squeeze, channels, 1, 1)
        expected[f"{fire}_expand1x1"] = (expand, squeeze, 1, 1)
        expected[f"{fire}_expand3x3"] = (expand, squeeze, 3, 3)
        if network.bypass == "complex" and channels != 2 * expand:
            expected[f"{fire}_bypass1x1"] = (2 * expand, channels, 1, 1)
        channels = 2 * expand
    expected["conv10"] = (network.classes, channels, 1, 1)
    return expected


def shaped(values: np.ndarray, shape: Sequence[int], what: str) -> np.ndarray:
    """Raises InputError if the shape is not that of a kernel or a bias, or the values do not fill the shape."""
    if not 1 <= len(shape) <= 4 or min(shape) < 1 or math.prod(shape) != values.size:
        raise InputError(
            f"{what} is damaged: {values.size:,} values do not make up an array of {_some(map(str, shape))}"
        )
    return values.reshape(shape)


def as_float32(array: np.ndarray, what: str) -> np.ndarray:
    """Converts an array to float32. Raises InputError if it contains no floating-point numbers."""
    if array.dtype.name not in FLOATS:
        raise InputError(f"{what} holds {array.dtype.name}; expected one of {', '.join(FLOATS)}")
    with np.errstate(over="ignore"):  # values that are too large become infinite, and `check` refuses these
        return array.astype(np.float32)


def is_counter(name: str, array: np.ndarray) -> bool:
    """Checks whether an array is one of PyTorch's counters, `num_batches_tracked` or `n_averaged`, and not a weight."""
    return array.size == 1 and array.dtype.kind in "iu" and _COUNTER.fullmatch(name) is not None


def pair(arrays: dict[str, np.ndarray], where: str) -> dict[str, Convolution]:
    """Groups arrays with names such as `LAYER/weights` and `LAYER/bias` into convolutions by layer. Ignores counters.

    Raises:
        InputError: a kernel has no bias, a bias has no kernel, an array has another name, or an array has no
            floating-point numbers.
    """
    kernels: dict[str, tuple[str, np.ndarray]] = {}  # by layer: the name of the array, and the array
    biases: dict[str, tuple[str, np.ndarray]] = {}
    floats = {name: as_float32(each, f"{where}, {name}") for name, each in arrays.items() if not is_counter(name, each)}
    for name, array in floats.items():
        match = _ARRAY.fullmatch(name)
        if match is None:
            raise InputError(f"{where} is not a SqueezeNet: it has {name!r}, which belongs to no convolution of one")
        arrays_of = kernels if match[2].startswith("weight") else biases
        if match[1] in arrays_of:
            raise InputError(f"{where} is damaged: {arrays_of[match[1]][0]!r} and {name!r} are the same array")
        arrays_of[match[1]] = (name, array)
    for layer, (name, _) in biases.items():
        if layer not in kernels:
            raise InputError(f"{where} is not a SqueezeNet: it has {name!r}, which belongs to no convolution of one")
    for layer, (name, _) in kernels.items():
        if layer not in biases:
            raise InputError(f"{where} is not a SqueezeNet: {name!r} has no bias")
    return {layer: Convolution(kernel, biases[layer][1]) for layer, (_, kernel) in kernels.items()}


def check(found: Found, where: str) -> Network:
    """Returns the network of these convolutions.

    Raises:
        InputError: the convolutions do not form a SqueezeNet. The error names the first convolution that is missing,
            unknown, of another shape, or not finite.
    """
    convolutions = found.convolutions
    for name in ("conv1", "conv10"):
        if name not in convolutions:
            hint = _hint(name, convolutions)
            raise InputError(f"{where} is not a SqueezeNet: it has no {name}; it has {_some(convolutions)}{hint}")
    first = convolutions["conv1"].kernel.shape
    arch = next((arch for arch in ARCHS if shapes(Network(1, arch))["conv1"] == first), None)
    if arch is None:
        known = " and ".join(f"{shapes(Network(1, arch))['conv1']} in {arch}" for arch in ARCHS)
        raise InputError(f"{where} is not a SqueezeNet: conv1 is {first}, where it is {known}")
    network = Network(
        classes=len(convolutions["conv10"].kernel),
        arch=arch,
        activation=found.activation or found.usual_activation,
        bypass=found.bypass,
        conv10_padding=_usual_padding(arch, found.pixels) if found.conv10_padding is None else found.conv10_padding,
    )
    expected = shapes(network)
    for name, shape in expected.items():
        if name not in convolutions:
            raise InputError(
                f"{where} is not a SqueezeNet {arch}: it has no {name}{_spellings(convolutions, expected)}"
            )
        kernel, bias = convolutions[name].kernel, convolutions[name].bias
        if kernel.shape != shape or bias.shape != shape[:1]:
            raise InputError(
                f"{where} is not a SqueezeNet {arch}: {name} has a kernel of {kernel.shape} and a bias of "
                f"{bias.shape}, where {shape} and {shape[:1]} are expected"
            )
        if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
            raise InputError(f"{where}: {name} has values that are not finite; the file is damaged")
    for name in convolutions:
        if name not in expected:
            second = convolutions[name].kernel.shape[1:] == expected["conv10"][1:]
            hint = "; of two last layers keep one in the file, and call it conv10" if second else ""
            raise InputError(f"{where} is not a SqueezeNet {arch}: it has {name}, which is not part of one{hint}")
    return network


def _usual_padding(arch: str, pixels: str | None) -> int:
    """Returns conv10's usual padding. Only v1.0 of Caffe pads the input of conv10 with zeros."""
    return 1 if arch == "v1.0" and pixels == "caffe" else 0


def _hint(missing: str, convolutions: Mapping[str, Convolution]) -> str:
    """Returns a hint about a first or last layer that has another name and cannot be identified by its shape."""
    known = shapes(Network(1, bypass="complex"))
    strangers = [f"{name!r} {each.kernel.shape}" for name, each in convolutions.items() if name not in known]
    if not strangers:
        return ""
    side = {"conv1": "(64, 3, 3, 3) or (96, 3, 7, 7)", "conv10": "(classes, 512, 1, 1)"}[missing]
    return (
        f". Of unknown names are {_some(strangers)}: {missing} must have that name, or be the only one whose kernel is "
        f"{side}; save the file with that layer called {missing}"
    )


def _spellings(convolutions: Mapping[str, Convolution], expected: Mapping[str, object]) -> str:
    """Returns the names that this package knows for a missing layer, if the file has layers with unknown names."""
    strangers = [repr(name) for name in convolutions if name not in expected]
    if not strangers:
        return ""
    known = "fire2/squeeze1x1, fire2.expand3x3, fire2/conv1x1_1 (FireNet), features.3.squeeze (torchvision)"
    return f"; unknown names are {_some(strangers)}, and those of fire modules are read as {known}"


def _some(parts: Iterable[str]) -> str:
    first = list(itertools.islice(parts, 6))
    return ", ".join(first[:5]) + (", ..." if len(first) > 5 else "") or "nothing"
