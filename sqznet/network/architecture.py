"""Describes the architecture of SqueezeNet (Iandola et al. 2016, arXiv 1602.07360): versions, fire modules, sizes."""

from __future__ import annotations

from dataclasses import dataclass

from sqznet.core.errors import InputError

Channels = tuple[float, float, float]  # R, G, B


@dataclass(frozen=True)
class Arch:
    """Describes the differences between the versions: conv1, and the modules that a pool follows."""

    conv1_filters: int
    conv1_kernel: int
    pooled_after: frozenset[str]


ARCHS = {
    "v1.0": Arch(96, 7, frozenset({"conv1", "fire4", "fire8"})),  # paper, table 1
    "v1.1": Arch(64, 3, frozenset({"conv1", "fire3", "fire5"})),  # the authors' later release, 2.4 times less work
}

FIRES = {  # name: (squeeze filters, filters of each expand branch); paper, table 1; the same in both versions
    "fire2": (16, 64),
    "fire3": (16, 64),
    "fire4": (32, 128),
    "fire5": (32, 128),
    "fire6": (48, 192),
    "fire7": (48, 192),
    "fire8": (64, 256),
    "fire9": (64, 256),
}

MODULES = ("conv1", *FIRES, "conv10")  # the parts of the network, in order

# Paper, section 6: fire modules with the same shape of input and output. A simple bypass adds the input to the output.
# A complex bypass also adds a 1x1 convolution of the input to the output of each of the other fire modules.
SIMPLY_BYPASSED = frozenset({"fire3", "fire5", "fire7", "fire9"})


@dataclass(frozen=True)
class Network:
    """Describes the architecture of one network.

    `model.build` builds the network. `model.describe` reads the architecture from a model. `arch`, `activation` and
    `bypass` have the values of the recipe's fields. `conv10_padding` is the width of the zero padding of conv10's
    input: 1 in the published v1.0, and 0 in other networks.
    """

    classes: int
    arch: str = "v1.0"
    activation: str = "relu"
    batch_norm: bool = False
    bypass: str = "none"
    conv10_padding: int = 0
    image_size: int = 227


def pool_paddings(arch: str, image_size: int) -> dict[str, str]:
    """Returns the layers that a pool follows, each with the padding that is equal to Caffe's ceil mode.

    For windows of 3 with a stride of 2, ceil mode is TensorFlow's "same" padding if the side is even, and "valid" if it
    is odd.

    Raises:
        InputError: the images are so small that the input of a pool is smaller than a window.
    """
    return {
        after: "same" if side % 2 == 0 else "valid"
        for after, side in map_sides(arch, image_size).items()
        if after in ARCHS[arch].pooled_after
    }


def map_sides(arch: str, image_size: int) -> dict[str, int]:
    """Returns the side of the output of conv1 and of each fire module before pooling, in pixels.

    Raises:
        InputError: as for `pool_paddings`.
    """
    side = (image_size - ARCHS[arch].conv1_kernel) // 2 + 1
    sides = {}
    for after in ("conv1", *FIRES):
        sides[after] = side
        if after in ARCHS[arch].pooled_after:
            if side < 3:
                raise InputError(
                    f"SqueezeNet {arch} cannot take images of {image_size} pixels: too little is left to pool after "
                    f"{after}; use a larger --image_size"
                )
            side //= 2
    return sides


def multiply_adds(network: Network) -> dict[str, int]:
    """Counts the forward multiply-adds of each convolution for one image.

    Does not count conv10's padding and bypasses.
    """
    arch = ARCHS[network.arch]
    areas = {name: side**2 for name, side in map_sides(network.arch, network.image_size).items()}
    channels = arch.conv1_filters
    counted = {"conv1": areas["conv1"] * arch.conv1_kernel**2 * 3 * channels}
    for name, (squeeze, expand) in FIRES.items():
        counted[f"{name}_squeeze1x1"] = areas[name] * channels * squeeze
        counted[f"{name}_expand1x1"] = areas[name] * squeeze * expand
        counted[f"{name}_expand3x3"] = areas[name] * squeeze * expand * 9
        channels = 2 * expand
    return {**counted, "conv10": areas["fire9"] * channels * network.classes}
