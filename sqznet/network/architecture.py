"""The shape of SqueezeNet (Iandola et al. 2016, arXiv 1602.07360): versions, fire modules, sizes. No TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

from sqznet.core.errors import InputError

Channels = tuple[float, float, float]  # R, G, B


@dataclass(frozen=True)
class Arch:
    """What tells the versions apart: conv1, and the fire modules after which the map is pooled."""

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

# Paper, section 6: fire modules whose input and output shapes agree. A simple bypass adds the one to the other; a
# complex bypass does so too, and leads a 1x1 convolution around each of the other fire modules.
SIMPLY_BYPASSED = frozenset({"fire3", "fire5", "fire7", "fire9"})


@dataclass(frozen=True)
class Network:
    """All that decides a network's shape; `model.build` makes it, `model.describe` reads it from a model.

    Values of `arch`, `activation` and `bypass` are those of the recipe's fields. `conv10_padding` is the width of the
    rim of zeros around conv10's input: 1 in the published v1.0, 0 elsewhere.
    """

    classes: int
    arch: str = "v1.0"
    activation: str = "relu"
    batch_norm: bool = False
    bypass: str = "none"
    conv10_padding: int = 0
    image_size: int = 227


def pool_paddings(arch: str, image_size: int) -> dict[str, str]:
    """The layers that are followed by a pool, each with the padding that makes the pool Caffe's.

    Caffe pools in ceil mode. For windows of 3 at strides of 2 that is TensorFlow's "same" on an even side and "valid"
    on an odd one.

    Raises:
        InputError: images of that size (in pixels) leave a pool less than one whole window.
    """
    return {
        after: "same" if side % 2 == 0 else "valid"
        for after, side in map_sides(arch, image_size).items()
        if after in ARCHS[arch].pooled_after
    }


def map_sides(arch: str, image_size: int) -> dict[str, int]:
    """The side of the map that conv1 and each fire module puts out, before it is pooled, in pixels.

    Raises:
        InputError: as `pool_paddings`.
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
    """Of each convolution for one image, forward. conv10's rim of zeros and the other layers are left out."""
    side, channels = 0, 3
    sides, arch = map_sides(network.arch, network.image_size), ARCHS[network.arch]
    counted = {"conv1": sides["conv1"] ** 2 * arch.conv1_kernel**2 * channels * arch.conv1_filters}
    channels = arch.conv1_filters
    for name, (squeeze, expand) in FIRES.items():
        side = sides[name]
        counted[f"{name}_squeeze1x1"] = side**2 * channels * squeeze
        counted[f"{name}_expand1x1"] = side**2 * squeeze * expand
        counted[f"{name}_expand3x3"] = side**2 * squeeze * expand * 9
        channels = 2 * expand
    return {**counted, "conv10": side**2 * channels * network.classes}
