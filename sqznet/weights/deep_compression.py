"""Reads the file of the Deep Compression release (Han et al. 2015, arXiv 1510.00149): SqueezeNet in 660 KiB.

The file is little-endian and has no magic number. The file begins with the number n of stored codes of each of the 26
convolutions, uint32. The data of each convolution follow: a codebook of 256 float32, the biases as float32, n codes as
uint8, and n relative positions of 4 bits, the low half of a byte first. A code is `position + 1` places after the
previous code in the flattened (out, in, height, width) kernel. The weights between two codes are the codebook's entry
0.
"""

from __future__ import annotations

import math

import numpy as np

from sqznet.core.errors import InputError
from sqznet.network.architecture import ARCHS, Network
from sqznet.weights.convolutions import Convolution, Found, names, shapes

CLASSES = 1000  # not in the file
CODEBOOK = 256  # entries
_HEAD = 4 * len(names())


def looks_like(content: bytes) -> bool:
    """Checks whether the counts at the beginning could be those of a SqueezeNet. The format has no magic number."""
    if len(content) < _HEAD:
        return False
    counts = np.frombuffer(content, "<u4", len(names()))
    return any(
        all(0 < count <= math.prod(shape) for count, shape in zip(counts.tolist(), _kernels(arch), strict=True))
        for arch in ARCHS
    )


def read(content: bytes, where: str) -> Found:
    """Reads the file. Raises InputError if it is cut short or too long, or a position runs past its layer."""
    if len(content) < _HEAD:
        raise InputError(f"{where} is damaged: its head has {_HEAD} bytes, and the file {len(content)}")
    counts = np.frombuffer(content, "<u4", len(names())).tolist()
    sizes = {arch: _size(arch, counts) for arch in ARCHS}
    arch = next((arch for arch, size in sizes.items() if size == len(content)), None)
    if arch is None:
        expected = " or ".join(f"{size:,} bytes ({arch})" for arch, size in sizes.items())
        raise InputError(
            f"{where} is damaged: by the counts at its head a Deep Compression file of {expected} is expected, and it "
            f"has {len(content):,}"
        )
    convolutions, offset = {}, _HEAD

    def take(dtype: str, count: int) -> np.ndarray:
        nonlocal offset
        array = np.frombuffer(content, dtype, count, offset)
        offset += array.nbytes
        return array

    for name, count, shape in zip(names(), counts, _kernels(arch), strict=True):
        codebook, bias = take("<f4", CODEBOOK), take("<f4", shape[0])
        codes, packed = take("u1", count), take("u1", (count + 1) // 2)
        positions = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)[:count]
        places = np.cumsum(positions.astype(np.int64) + 1) - 1
        size = math.prod(shape)
        if count and places[-1] >= size:
            raise InputError(
                f"{where} is damaged: the positions of {name} run to place {places[-1]}, and it has {size} weights"
            )
        kernel = np.full(size, codebook[0], np.float32)
        kernel[places] = codebook[codes]
        convolutions[name] = Convolution(kernel.reshape(shape), bias.astype(np.float32))
    return Found(convolutions, pixels="caffe")


def _kernels(arch: str) -> list[tuple[int, int, int, int]]:
    return list(shapes(Network(CLASSES, arch)).values())


def _size(arch: str, counts: list[int]) -> int:
    layers = zip(counts, _kernels(arch), strict=True)
    return _HEAD + sum(4 * CODEBOOK + 4 * shape[0] + count + (count + 1) // 2 for count, shape in layers)
