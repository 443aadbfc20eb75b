"""Writes `.sqz` files: entropy coding (rANS) of the integers of each kernel."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from sqznet.core.errors import InputError
from sqznet.network.sqz import decoder
from sqznet.network.sqz.decoder import BITS, LANES, STATE_FLOOR, Contents

TABLES = 4  # frequency tables of a kernel, at most; each input channel uses one of them
ROUNDS = 8  # of the clustering of channels
TABLE_BITS = 60  # rough size of a table apart from one byte a symbol: frequent symbols take two


@dataclass(frozen=True)
class Integers:
    """Contains a kernel as integers, (height, width, in, out), in units of `step`."""

    values: np.ndarray
    step: np.float32

    @property
    def kernel(self) -> np.ndarray:
        return self.values.astype(np.float32) * self.step


def encode(network: Contents, integers: dict[str, Integers]) -> bytes:
    """Returns the bytes of a `.sqz` file.

    Args:
        network: everything except the kernels. Biases are stored as float16.
        integers: the kernel of each convolution.

    Raises:
        InputError: a bias is too large for float16, or a kernel has more than `decoder.MAX_SYMBOLS` steps.
    """
    parts, codes = [_header(network)], []
    for name in decoder.shapes(network.arch, network.bypass, network.classes):
        bias = network.layers[name][1].astype("<f2")
        if not np.isfinite(bias).all():
            raise InputError(f"a bias of {name} is {np.abs(network.layers[name][1]).max():g}, too large for float16")
        code = _Code(name, integers[name])
        codes.append(code)
        parts += [code.header, bias.tobytes()]
    body = b"".join([*parts, _symbols(codes)])
    length = decoder.ENVELOPE.size + len(body)
    return decoder.ENVELOPE.pack(decoder.MAGIC, length, zlib.crc32(body)) + body


def _header(network: Contents) -> bytes:
    names = network.class_names
    listed = "\n".join(names).encode() if isinstance(names, tuple) else b""
    note = network.note.encode()
    header = decoder.HEADER.pack(
        decoder.VERSION,
        *(choices.index(getattr(network, name)) for name, choices in decoder.FIELDS.items()),
        network.image_size,
        network.resize_to,
        *network.channel_means,
        *network.channel_deviations,
        network.classes,
        decoder.NAMED.index("listed" if isinstance(names, tuple) else names),
        len(listed),
        len(note),
    )
    return header + listed + note


class _Code:
    """Contains the symbols of one kernel, and the tables that encode the symbols."""

    def __init__(self, name: str, integers: Integers) -> None:
        values = integers.values
        lowest, count = int(values.min()), int(values.max() - values.min()) + 1
        if count > decoder.MAX_SYMBOLS or lowest < -(1 << 15) or lowest + count > 1 << 15:
            raise InputError(f"{name} has weights of {count:,} steps of {integers.step:g}; take coarser ones")
        symbols = values - lowest
        of_channels, counts = _tables(symbols, count)
        frequencies = np.stack([_frequencies(each) for each in counts])
        self.header = decoder.LAYER.pack(integers.step, lowest, count, len(frequencies))
        if len(frequencies) > 1:
            self.header += of_channels.astype(np.uint8).tobytes()
        self.header += b"".join(_number(each) for each in frequencies.ravel())
        table = np.broadcast_to(of_channels[:, None], values.shape).ravel()
        starts = frequencies.cumsum(axis=1) - frequencies
        self.frequency = frequencies[table, symbols.ravel()].astype(np.uint64)
        self.start = starts[table, symbols.ravel()].astype(np.uint64)


def _tables(symbols: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Clusters the input channels into the cheapest number of tables.

    Returns the table of each channel, and the counts of each table.
    """
    channels = symbols.shape[2]
    place = np.arange(channels)[:, None] * count + np.moveaxis(symbols, 2, 0).reshape(channels, -1)
    histogram = np.bincount(place.ravel(), minlength=channels * count).reshape(channels, count).astype(np.float64)
    best = np.zeros(channels, np.intp), histogram.sum(axis=0, keepdims=True)
    least = _bits(*best, histogram)
    order = np.argsort(histogram.max(axis=1), kind="stable")  # from the least to the most predictable channel
    for tables in range(2, min(TABLES, channels) + 1):
        of_channels = np.empty(channels, np.intp)
        of_channels[order] = np.arange(channels) * tables // channels
        for _ in range(ROUNDS):
            counts = np.stack([histogram[of_channels == each].sum(axis=0) for each in range(tables)])
            lengths = -np.log2((counts + 0.1) / (counts + 0.1).sum(axis=1, keepdims=True))
            of_channels = (histogram @ lengths.T).argmin(axis=1)
        kept, of_channels = np.unique(of_channels, return_inverse=True)
        counts = np.stack([histogram[of_channels == each].sum(axis=0) for each in range(len(kept))])
        if (bits := _bits(of_channels, counts, histogram)) < least:
            best, least = (of_channels, counts), bits
    return best


def _bits(of_channels: np.ndarray, counts: np.ndarray, histogram: np.ndarray) -> float:
    """Estimates the number of bits of the symbols with these tables, and of the tables."""
    shares = counts / counts.sum(axis=1, keepdims=True)
    lengths = -np.log2(np.where(shares > 0, shares, 1.0))
    cost = float((histogram * lengths[of_channels]).sum())
    if len(counts) > 1:
        cost += 8 * len(of_channels)
    return cost + TABLE_BITS * len(counts) + 8 * counts.size


def _frequencies(counts: np.ndarray) -> np.ndarray:
    """Returns integers that are nearly proportional to the counts.

    Their sum is 2**BITS. A symbol that occurs has at least 1.
    """
    total = 1 << BITS
    frequencies = np.where(counts > 0, np.maximum(1, np.floor(counts / counts.sum() * total)), 0).astype(np.int64)
    while (missing := total - int(frequencies.sum())) != 0:
        # The symbol for which a count higher by one saves most bits, or a count lower by one costs least.
        step = 1 if missing > 0 else -1
        able = frequencies > (1 if step < 0 else 0)
        gain = np.where(able, counts * np.log2(np.maximum(frequencies + step, 1) / np.maximum(frequencies, 1)), -np.inf)
        frequencies[int(gain.argmax())] += step
    return frequencies


def _number(value: int) -> bytes:
    """Encodes a number with seven bits in each byte, the lowest first (LEB128)."""
    found = bytearray()
    while value > 127:
        found.append(int(value) & 127 | 128)
        value >>= 7
    return bytes([*found, int(value)])


def _symbols(codes: list[_Code]) -> bytes:
    """Encodes the symbols as the states and words of the lanes. The rANS coder encodes the last symbol first."""
    states = np.full(LANES, STATE_FLOOR, np.uint64)
    words: list[np.ndarray] = []
    for code in reversed(codes):
        count = len(code.frequency)
        for start in reversed(range(0, count, LANES)):
            frequency, begins = code.frequency[start : start + LANES], code.start[start : start + LANES]
            lanes = states[: len(frequency)]
            full = lanes >= frequency << np.uint64(32 - BITS)
            words.append(lanes[full] & np.uint64(0xFFFF))
            lanes[full] >>= np.uint64(16)
            lanes[:] = (lanes // frequency << np.uint64(BITS)) + lanes % frequency + begins
    found = np.concatenate([*reversed(words), np.empty(0, np.uint64)])
    return states.astype("<u4").tobytes() + found.astype("<u2").tobytes()
