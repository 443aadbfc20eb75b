"""torchvision's SqueezeNet as safetensors: `features.0.weight`, `features.3.squeeze.weight` to `classifier.1.bias`."""

from __future__ import annotations

import re

import numpy as np

from sqznet.errors import InputError
from sqznet.model import FIRES
from sqznet.weights.convolutions import Found, as_float32, pair, shaped

LARGEST_HEADER = 256 * 1024  # bytes; a SqueezeNet's has 5,000
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_FIRE_PART = re.compile(r"features\.(\d{1,3})\.(squeeze|expand1x1|expand3x3)")


def looks_like(content: bytes) -> bool:
    """A length of 8 bytes, then JSON."""
    return content[8:9] == b"{"


def read(content: bytes, where: str) -> Found:
    """Raises InputError for a damaged file or tensors that torchvision's SqueezeNet does not have."""
    import safetensors

    length = int.from_bytes(content[:8], "little")
    if length > LARGEST_HEADER:
        raise InputError(f"{where} is damaged: a header of {length:,} bytes, where a SqueezeNet's has about 5,000")
    try:
        tensors = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        raise InputError(f"{where} is damaged: {error}") from None
    arrays = {}
    for name, tensor in tensors:
        if tensor["dtype"] not in _DTYPES:
            raise InputError(f"{where}, {name}: holds {tensor['dtype']}; expected one of {', '.join(_DTYPES)}")
        values = np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]])
        if tensor["dtype"] == "BF16":  # the upper half of a float32
            values = (values.astype("<u4") << 16).view("<f4")
        arrays[name] = as_float32(shaped(values, tensor["shape"], f"{where}, {name}"), f"{where}, {name}")
    layers = pair(dict(sorted(arrays.items())), (".weight", ".bias"), where)
    indices = sorted({int(match[1]) for name in layers if (match := _FIRE_PART.fullmatch(name))})
    fires = dict(zip(indices, FIRES, strict=False))  # features.3 is fire2, and so on
    return Found(
        {_our_name(name, fires): each for name, each in layers.items()},
        pixels="torchvision",
        conv10_padding=0,
    )


def _our_name(name: str, fires: dict[int, str]) -> str:
    if name == "features.0":
        return "conv1"
    if name == "classifier.1":
        return "conv10"
    match = _FIRE_PART.fullmatch(name)
    if match and int(match[1]) in fires:
        part = "squeeze1x1" if match[2] == "squeeze" else match[2]
        return f"{fires[int(match[1])]}_{part}"
    return name  # which the check will name
