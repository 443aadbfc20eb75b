"""Decodes `.sqz` files. This reference decoder needs only this file and NumPy.

docs/sqz.md specifies the format byte by byte. Use this module to port the decoder to another language. Weights are
float32 and have the same bits on every machine. The decoder verifies the checksum before it reads anything else. The
decoder never allocates more memory than the architecture needs, also for a malicious file.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

SUFFIX = ".sqz"
MAGIC = b"\x89SQZ\r\n\x1a\n"  # like PNG's: a transfer as text or with 7 bits for each byte changes it
VERSION = 1
ENVELOPE = struct.Struct("<8sII")  # magic, bytes of the file, CRC-32 of the rest
# Version, a byte for each of FIELDS, image_size, resize_to, channel means, channel deviations, number of classes, kind
# of class names, bytes of the names, bytes of the note.
HEADER = struct.Struct("<BBBBBBBBHH6fHBII")
LAYER = struct.Struct("<fhHB")  # step, lowest symbol, symbols, tables
ARCHS = ("v1.0", "v1.1")
BYPASSES = ("none", "simple", "complex")
FIELDS = {  # the values that a byte stands for: 0 is the first
    "arch": ARCHS,
    "activation": ("relu", "elu"),
    "bypass": BYPASSES,
    "conv10_padding": (0, 1),
    "resize": ("short", "squash"),
    "interpolation": ("bilinear", "bicubic", "bilinear_corner"),
    "antialias": (False, True),
}
NAMED = (None, "imagenet", "listed")  # kinds of class names
MAX_CLASSES = 16_384
MAX_SYMBOLS = 4_096
MAX_TABLES = 8
MAX_STEP = 1e33  # the largest integer times this is a finite float32
LANES = 128  # interleaved coder states, so that each step works on arrays
BITS = 14  # of a probability
STATE_FLOOR = 1 << 16  # a state has 32 bits and reads 16 more when it falls below this


class Damaged(ValueError):
    """The bytes are not a complete and valid `.sqz` file."""


@dataclass(frozen=True)
class Contents:
    """Contains the decoded contents of a file.

    `layers` contains the kernel (height, width, in, out) and the bias (out,) of each convolution, float32, in stored
    order.
    """

    arch: str
    activation: str
    bypass: str
    conv10_padding: int
    classes: int
    class_names: tuple[str, ...] | str | None  # "imagenet": its 1,000 synsets in the usual order
    image_size: int  # pixels
    resize: str
    resize_to: int
    interpolation: str
    antialias: bool
    channel_means: tuple[float, float, float]  # R, G, B, 0..255: (pixels - means) / deviations
    channel_deviations: tuple[float, float, float]
    note: str  # origin of the weights, for people
    layers: dict[str, tuple[np.ndarray, np.ndarray]]


def shapes(arch: str, bypass: str, classes: int) -> dict[str, tuple[int, int, int, int]]:
    """Returns the shape of each convolution's kernel (height, width, in, out), in the stored order."""
    filters, side = {"v1.0": (96, 7), "v1.1": (64, 3)}[arch]
    found = {"conv1": (side, side, 3, filters)}
    fires = zip(range(2, 10), (16, 16, 32, 32, 48, 48, 64, 64), strict=True)
    for number, squeeze in fires:
        name, expand = f"fire{number}", 4 * squeeze
        found[f"{name}_squeeze1x1"] = (1, 1, filters, squeeze)
        found[f"{name}_expand1x1"] = (1, 1, squeeze, expand)
        found[f"{name}_expand3x3"] = (3, 3, squeeze, expand)
        if bypass == "complex" and number % 2 == 0:
            found[f"{name}_bypass1x1"] = (1, 1, filters, 2 * expand)
        filters = 2 * expand
    return {**found, "conv10": (1, 1, filters, classes)}


def decode(data: bytes) -> Contents:
    """Decodes the bytes of a `.sqz` file.

    Raises:
        Damaged: the file is incomplete, invalid or of a later version. The message names the byte.
    """
    if len(data) < ENVELOPE.size or data[:8] != MAGIC:
        raise Damaged("it does not begin as a .sqz file does")
    _, length, checksum = ENVELOPE.unpack_from(data)
    if length != len(data):
        raise Damaged(f"it has {len(data):,} bytes, and says that it has {length:,}")
    if zlib.crc32(data[ENVELOPE.size :]) != checksum:
        raise Damaged("its checksum is wrong: it was changed or damaged")
    reader = _Reader(data, ENVELOPE.size)
    version = data[reader.place] if reader.place < len(data) else None
    if version != VERSION:
        raise Damaged(f"it is of version {version} of the format, and this decoder reads version {VERSION}")
    _, *numbers = reader.unpack(HEADER)
    stored, (image_size, resize_to) = dict(zip(FIELDS, numbers[:7], strict=True)), numbers[7:9]
    scaling, (classes, named, bytes_of_names, bytes_of_note) = numbers[9:15], numbers[15:]
    valid = 1 <= classes <= MAX_CLASSES and 1 <= image_size <= resize_to
    if not valid or stored["conv10_padding"] > 1 or stored["antialias"] > 1:
        raise Damaged(
            f"its header makes no sense: {classes} classes, images of {image_size} pixels cut from {resize_to}"
        )
    if not np.isfinite(scaling).all() or 0 in scaling[3:]:
        raise Damaged(f"its channel means and deviations are {scaling}")
    names = _names(_one_of(NAMED, named), reader.take(bytes_of_names), classes)
    note = _text(reader.take(bytes_of_note))
    fields: dict[str, Any] = {name: _one_of(choices, stored[name]) for name, choices in FIELDS.items()}
    expected = shapes(fields["arch"], fields["bypass"], classes)
    codes = [_Code(reader, shape) for shape in expected.values()]
    symbols = _symbols(reader, codes)
    layers = {
        name: (each.reshape(shape).astype(np.float32) * code.step, code.bias)
        for (name, shape), each, code in zip(expected.items(), symbols, codes, strict=True)
    }
    return Contents(
        **fields,
        classes=classes,
        class_names=names,
        image_size=image_size,
        resize_to=resize_to,
        channel_means=tuple(scaling[:3]),
        channel_deviations=tuple(scaling[3:]),
        note=note,
        layers=layers,
    )


class _Reader:
    """Reads bytes in order. If the bytes end too early, reports the place."""

    def __init__(self, data: bytes, place: int) -> None:
        self.data, self.place = data, place

    def take(self, count: int) -> bytes:
        if self.place + count > len(self.data):
            raise Damaged(f"{count} bytes are due at byte {self.place:,}, and it ends at {len(self.data):,}")
        self.place += count
        return self.data[self.place - count : self.place]

    def unpack(self, layout: struct.Struct) -> tuple:
        return layout.unpack(self.take(layout.size))

    def number(self) -> int:
        """Reads a number with seven bits in each byte, the lowest bits first. The last byte is below 128."""
        value = 0
        for shift in (0, 7, 14):
            (byte,) = self.take(1)
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise Damaged(f"a number has more than three bytes at byte {self.place:,}")


class _Code:
    """Contains the bias of one kernel, and the tables that decode its symbols."""

    def __init__(self, reader: _Reader, shape: tuple[int, int, int, int]) -> None:
        self.count, self.channels, self.filters = int(np.prod(shape)), shape[2], shape[3]
        step, self.lowest, symbols, tables = reader.unpack(LAYER)
        self.step = np.float32(step)
        valid = 0 < step <= MAX_STEP and 1 <= symbols <= MAX_SYMBOLS and 1 <= tables <= MAX_TABLES
        if not valid or self.lowest + symbols > 1 << 15:
            raise Damaged(f"a layer has a step of {step}, {symbols} symbols and {tables} tables, at {reader.place:,}")
        # The table of each input channel.
        of_channels = np.frombuffer(reader.take(self.channels if tables > 1 else 0), np.uint8)
        self.of_channels = of_channels if tables > 1 else np.zeros(self.channels, np.uint8)
        if self.of_channels.max() >= tables:
            raise Damaged(f"an input channel has a table that there is not, before byte {reader.place:,}")
        frequencies = np.array([[reader.number() for _ in range(symbols)] for _ in range(tables)], np.uint32)
        if (frequencies.sum(axis=1) != 1 << BITS).any():
            raise Damaged(f"frequencies do not add up to {1 << BITS:,}, before byte {reader.place:,}")
        ends = frequencies.cumsum(axis=1, dtype=np.uint32)
        # By table and by the low bits of a state: the symbol, its frequency, and the offset in its range.
        self.symbol = np.stack([np.repeat(np.arange(symbols, dtype=np.int16), each) for each in frequencies])
        self.frequency = np.take_along_axis(frequencies, self.symbol.astype(np.intp), axis=1)
        starts = np.take_along_axis(ends - frequencies, self.symbol.astype(np.intp), axis=1)
        self.offset = np.arange(1 << BITS, dtype=np.uint32) - starts
        self.bias = np.frombuffer(reader.take(2 * self.filters), "<f2").astype(np.float32)
        if not np.isfinite(self.bias).all():
            raise Damaged(f"a bias is no number, before byte {reader.place:,}")


def _symbols(reader: _Reader, codes: list[_Code]) -> list[np.ndarray]:
    """Decodes the symbols of each kernel, int16, by rANS (range asymmetric numeral systems, arXiv 1311.2540).

    Symbol i of a kernel, in the order of (height, width, in, out), comes from lane i modulo LANES.
    """
    states = np.frombuffer(reader.take(4 * LANES), "<u4").astype(np.uint32)
    if len(reader.data) % 2 != reader.place % 2:
        raise Damaged("an odd byte is left at its end")
    words = np.frombuffer(reader.data, "<u2", offset=reader.place).astype(np.uint32)
    if (states < STATE_FLOOR).any():
        raise Damaged("a lane begins below its floor")
    used, found = 0, []
    for code in codes:
        values = np.empty(code.count, np.int16)
        for start in range(0, code.count, LANES):
            index = np.arange(start, min(start + LANES, code.count))
            lanes = states[: len(index)]
            table = code.of_channels[index // code.filters % code.channels]
            low = lanes & ((1 << BITS) - 1)
            values[start : start + LANES] = code.symbol[table, low]
            lanes[:] = code.frequency[table, low] * (lanes >> BITS) + code.offset[table, low]
            short = np.flatnonzero(lanes < STATE_FLOOR)
            if used + len(short) > len(words):
                raise Damaged("its symbols end too early")
            lanes[short] = lanes[short] << 16 | words[used : used + len(short)]
            used += len(short)
        found.append(values + np.int16(code.lowest))
    if used != len(words) or (states != STATE_FLOOR).any():
        raise Damaged("its symbols do not end where it ends")
    return found


def _names(named: str | None, text: bytes, classes: int) -> tuple[str, ...] | str | None:
    names = tuple(_text(text).split("\n")) if named == "listed" else named
    count = len(names) if isinstance(names, tuple) else 1_000 if named == "imagenet" else classes
    if count != classes:
        raise Damaged(f"its class names are not those of {classes} classes")
    if text and named != "listed":
        raise Damaged("it lists class names, and says that it does not")
    return names


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Damaged("a text in it is not UTF-8") from None


def _one_of(choices: tuple, index: int):
    if index >= len(choices):
        raise Damaged(f"choice {index} of {choices} is none")
    return choices[index]
