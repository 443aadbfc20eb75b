"""Maps the names of layers in a file to the convolutions of a SqueezeNet. All importers that use names call `read`.

This module knows the names of Caffe's release (`fire2/squeeze1x1`). This module knows the names of other files of the
same authors (FireNet: `fire2/conv1x1_1`, `fire2/conv1x1_2`, `fire2/conv3x3_2`, `conv_final`). This module also knows
the names of torchvision (`features.3.squeeze`), and MXNet's automatic names, which are numbered. Prefixes (`module.`,
`backbone.model.`) and separators are ignored. This module accepts modules that are only numbered (`net.3.squeeze`,
`fires.0.squeeze1x1`) if there are exactly eight of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqznet.core.errors import InputError
from sqznet.network.architecture import ARCHS, FIRES, Network
from sqznet.weights.convolutions import Convolution, Found, shapes
from sqznet.weights.convolutions import names as all_names

OURS = all_names()
_SHAPES = [shapes(Network(1, arch)) for arch in ARCHS]
_LAST_SHAPE = _SHAPES[0]["conv10"][1:]  # of conv10's kernel, for any number of classes

# Parts of names that PyTorch adds when a model, or a part of it, is wrapped.
_WRAPPED = re.compile(r"(^|\.)(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)")
_BEFORE = r"(?:.*_)?"
_AFTER = r"(?:_conv|_conv2d|_0)?"
_FIRST = re.compile(f"{_BEFORE}conv_?1{_AFTER}|{_BEFORE}features_0")
_LAST = re.compile(f"{_BEFORE}conv_?(?:10|final){_AFTER}|{_BEFORE}classifier_1")
_PARTS = {
    "squeeze1x1": "squeeze|squeeze_?1x1|s_?1x1|conv_?1x1_?1",
    "expand1x1": "expand_?1(?:x1)?|e_?1x1|conv_?1x1_?2",
    "expand3x3": "expand_?3(?:x3)?|e_?3x3|conv_?3x3_?2",
    "bypass1x1": "bypass_?1x1",
}
_PART = "(?:" + "|".join(f"(?P<{part}>{spellings})" for part, spellings in _PARTS.items()) + f"){_AFTER}"
_FIRE = re.compile(rf"{_BEFORE}(?:fire_?|features_)([0-9]{{1,3}})_{_PART}")
# In a model in a Sequential or a list, only a number precedes the part.
_NUMBERED = re.compile(rf"(?:.*[a-z_])?([0-9]{{1,3}})_{_PART}")

_TORCHVISION = re.compile(r"features_\d+_")
_INSIDE = re.compile(r"fire_?\d|features_\d+_")  # in a fire module, where a name such as conv1 means another layer


@dataclass(frozen=True)
class Named:
    """Contains the convolutions of a file by sqznet's names. Unknown layers keep their own names."""

    convolutions: dict[str, Convolution]
    ours: dict[str, str]  # by the file's name
    by_shape: dict[str, str]  # those of `ours` that were identified by shape
    torchvision: bool  # whether the names are torchvision's

    def found(self, pixels: str | None = None, **fields: Any) -> Found:
        """Returns the result of an importer. Networks with torchvision's names were trained on torchvision's pixels."""
        if self.torchvision:
            pixels, fields = "torchvision", {"conv10_padding": 0, **fields}
        return Found(self.convolutions, pixels=pixels, by_shape=self.by_shape, **fields)


def read(layers: Mapping[str, Convolution], where: str) -> Named:
    """Maps the layers of a file to convolutions. Raises InputError if two names map to the same convolution."""
    plain = {name: _plain(name) for name in layers}
    pattern = _FIRE if any(map(_FIRE.fullmatch, plain.values())) else _NUMBERED
    matches = {name: pattern.fullmatch(each) for name, each in plain.items()}
    fires = _fires({int(match[1]) for match in matches.values() if match}, only_eight=pattern is _NUMBERED)
    ours: dict[str, str] = {}
    for name in layers:
        found = _ours(plain[name], matches[name], fires)
        if found is not None:
            first = next((other for other, taken in ours.items() if taken == found), None)
            if first is not None:
                raise InputError(f"{where} is not one SqueezeNet: both {first!r} and {name!r} would be its {found}")
            ours[name] = found
    by_shape = _by_shape({name: each for name, each in layers.items() if name not in ours}, set(ours.values()))
    ours |= by_shape
    convolutions = {ours.get(name, name): each for name, each in layers.items()}
    torchvision = any(_TORCHVISION.search(each) for each in plain.values())
    return Named(convolutions, ours, by_shape, torchvision)


def numbered(layers: Mapping[str, Convolution], where: str) -> Named:
    """Maps the layers as `read` does. Names that differ only in numbers are mapped in the network's order."""
    named = read(layers, where)
    by_name = set(named.ours.values()) - set(named.by_shape.values())
    if by_name - {"conv1", "conv10"} or len(layers) != len(OURS):  # these two could also be numbers
        return named

    def by_number(name: str) -> list[tuple[str, int]]:
        return [(letters, int(digits or 0)) for letters, digits in re.findall(r"(\D+)(\d{0,9})", name)]

    order = sorted(layers, key=by_number)
    if layers[order[0]].kernel.shape[1:2] != (3,):  # a renamed last layer, which sorts first
        order.append(order.pop(0))
    ours = dict(zip(order, OURS, strict=True))
    return Named({ours[name]: layers[name] for name in order}, ours, {}, False)


def _plain(name: str) -> str:
    """Returns the name without wrappers, in lower case, with one kind of separator."""
    return re.sub(r"[^a-z0-9]+", "_", _WRAPPED.sub(r"\1", name).lower()).strip("_")


def _fires(numbers: Iterable[int], only_eight: bool) -> dict[int, str]:
    """Maps the numbers in the names to fire modules.

    The smallest of eight numbers is fire2, the next is fire3, and so on.
    """
    ordered = sorted(numbers)
    if len(ordered) == len(FIRES):
        return dict(zip(ordered, FIRES, strict=True))
    return {} if only_eight else {int(fire.removeprefix("fire")): fire for fire in FIRES}


def _ours(plain: str, match: re.Match[str] | None, fires: dict[int, str]) -> str | None:
    if match:
        fire = fires.get(int(match[1]))
        return f"{fire}_{match.lastgroup}" if fire else None
    if _INSIDE.search(plain):
        return None
    if _FIRST.fullmatch(plain):
        return "conv1"
    return "conv10" if _LAST.fullmatch(plain) else None


def _by_shape(left: Mapping[str, Convolution], taken: set[str]) -> dict[str, str]:
    """Finds missing convolutions whose shape only one of the remaining layers has.

    In most cases it is a new last layer.
    """
    found = {}
    for missing in OURS:
        if missing not in taken:
            fitting = [name for name, each in left.items() if name not in found and _fits(each, missing)]
            if len(fitting) == 1:
                found[fitting[0]] = missing
    return found


def _fits(convolution: Convolution, name: str) -> bool:
    shape = convolution.kernel.shape
    if convolution.bias.shape != shape[:1]:
        return False
    return shape[1:] == _LAST_SHAPE if name == "conv10" else shape in (each[name] for each in _SHAPES)
