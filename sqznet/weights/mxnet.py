"""Reads MXNet's `.params` files: a list of arrays, then the names of the arrays (apache/mxnet, src/ndarray/ndarray.cc).

Little-endian: uint64 0x112, uint64 0, uint64 count, the arrays, uint64 count, the names (uint64 length, bytes). Each
array is, by its first uint32:

  0xF993FACA, 0xF993FAC9   int32 storage type (0: dense), shape
  0xF993FAC8               shape
  anything else            that number is the number of dimensions, each of which follows as uint32

and then int32 device type, int32 device number, int32 type of the values, the values. A shape is a uint32 number of
dimensions and an int64 for each.
"""

from __future__ import annotations

import math
import re
import struct

import numpy as np

from sqznet.core.errors import InputError
from sqznet.weights import names
from sqznet.weights.convolutions import Found, pair, shaped

MAGIC = struct.pack("<Q", 0x112)
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_DTYPES = {0: "<f4", 1: "<f8", 2: "<f2", 4: "<i4", 6: "<i8"}  # mshadow's type flags
_MOST_ARRAYS = 1000

# The names tell the program: Gluon's model zoo numbers its blocks, MXNet its unnamed layers.
_GLUON = re.compile(r"(squeezenet\d+_)?conv0$|features\.0$")
_UNNAMED = re.compile(r"convolution\d+$")


class _Reader:
    """Reads from the bytes of a file, and checks that enough bytes are left."""

    def __init__(self, content: bytes, where: str) -> None:
        self._content, self._where, self._offset = content, where, 0

    def take(self, count: int) -> bytes:
        part = self._content[self._offset : self._offset + count]
        if len(part) < count:
            raise InputError(
                f"{self._where} is cut short: {count:,} bytes are expected at {self._offset:,}, and there are "
                f"{len(part):,}"
            )
        self._offset += count
        return part

    def number(self, kind: str) -> int:
        return struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))[0]

    def expect_end(self) -> None:
        if self._offset < len(self._content):
            raise InputError(f"{self._where} is damaged: {len(self._content) - self._offset:,} bytes follow its end")


def read(content: bytes, where: str) -> Found:
    """Reads the file. Raises InputError if it is damaged or contains arrays that no SqueezeNet has."""
    reader = _Reader(content, where)
    reader.take(len(MAGIC) + 8)
    count = reader.number("Q")
    if count > _MOST_ARRAYS:
        raise InputError(
            f"{where} is not a SqueezeNet: it has {count:,} arrays, where {2 * len(names.OURS)} are expected"
        )
    listed = [_array(reader, f"{where}, array {index}") for index in range(count)]
    if reader.number("Q") != count:
        raise InputError(f"{where} is damaged: it holds {count} arrays and another number of names")
    labels = [reader.take(reader.number("Q")).decode("utf-8", "replace") for _ in range(count)]
    reader.expect_end()
    arrays = {label.removeprefix("arg:"): array for label, array in zip(labels, listed, strict=True)}
    if len(arrays) < count:
        raise InputError(f"{where} is damaged: two arrays share a name")
    layers = pair(arrays, where)
    named = names.numbered(layers, where)
    if any(_GLUON.match(name) for name in layers):
        return named.found("torchvision", conv10_padding=0)
    if all(_UNNAMED.match(name) for name in layers):
        return named.found("article", usual_activation="elu", conv10_padding=0)
    return named.found()


def _array(reader: _Reader, what: str) -> np.ndarray:
    first = reader.number("I")
    if first in (_V2, _V3) and reader.number("i") != 0:
        raise InputError(f"{what} is sparse; weights of a SqueezeNet are dense")
    dimensions, kind = (reader.number("I"), "q") if first in (_V1, _V2, _V3) else (first, "I")
    if not 1 <= dimensions <= 4:
        raise InputError(f"{what} has {dimensions} dimensions; the file is damaged, or not MXNet's")
    shape = tuple(reader.number(kind) for _ in range(dimensions))
    reader.take(8)  # the device
    flag = reader.number("i")
    if flag not in _DTYPES:
        raise InputError(f"{what} holds values of type {flag}; expected one of {', '.join(map(str, _DTYPES))}")
    dtype = np.dtype(_DTYPES[flag])
    values = np.frombuffer(reader.take(max(0, math.prod(shape)) * dtype.itemsize), dtype)
    return shaped(values, shape, what)
