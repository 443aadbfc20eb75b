"""Reads PyTorch weights from safetensors, with the names of torchvision (`features.0.weight`) or other names."""

from __future__ import annotations

import numpy as np

from sqznet.core.errors import InputError
from sqznet.weights import names
from sqznet.weights.convolutions import Found, pair, shaped

MAX_HEADER_BYTES = 256 * 1024  # bytes; a SqueezeNet's has 5,000
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_COUNTERS = {"I64": "<i8", "I32": "<i4"}


def looks_like(content: bytes) -> bool:
    """Checks whether the file begins with a length of 8 bytes and JSON."""
    return content[8:9] == b"{"


def read(content: bytes, where: str) -> Found:
    """Reads the file. Raises InputError if it is damaged or contains tensors that no SqueezeNet has."""
    import safetensors

    length = int.from_bytes(content[:8], "little")
    if length > MAX_HEADER_BYTES:
        raise InputError(f"{where} is damaged: a header of {length:,} bytes, where a SqueezeNet's has about 5,000")
    try:
        tensors = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        raise InputError(f"{where} is damaged: {error}") from None
    arrays = {}
    for name, tensor in tensors:
        dtype = (_DTYPES | _COUNTERS).get(tensor["dtype"])
        if dtype is None:
            raise InputError(f"{where}, {name}: holds {tensor['dtype']}; expected one of {', '.join(_DTYPES)}")
        values = np.frombuffer(tensor["data"], dtype)
        if tensor["dtype"] == "BF16":  # the upper half of a float32
            values = (values.astype("<u4") << 16).view("<f4")
        arrays[name] = shaped(values, tensor["shape"] or [1], f"{where}, {name}")  # a counter may have no dimensions
    return names.read(pair(dict(sorted(arrays.items())), where), where).found()
