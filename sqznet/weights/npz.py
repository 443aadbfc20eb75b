"""Reads weights from a NumPy archive. The archive has a kernel (out, in, height, width) and a bias for each layer.

Names such as `<layer>/weights` and `<layer>/bias` mean a network of Caffe. This module also knows the names of
torchvision. Other names do not show which pixels the network was trained on.

`numpy.load` is not used, because it trusts the sizes in a header.
"""

from __future__ import annotations

import io
import math
import zipfile

import numpy as np
from numpy.lib import format as npy

from sqznet.core.errors import InputError
from sqznet.weights import names
from sqznet.weights.convolutions import Found, is_counter, pair

MAX_UNPACKED_BYTES = 48 * 2**20  # of all arrays together: ten times a SqueezeNet
_MAX_DIRECTORY_BYTES = 64 * 1024  # bytes; a SqueezeNet's has 4,000


def read(content: bytes, where: str) -> Found:
    """Reads the archive.

    Raises InputError if it is damaged or contains objects or layers that Caffe's SqueezeNet lacks.
    """
    arrays, left = {}, MAX_UNPACKED_BYTES
    _check_directory(content, where)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    unpacked = file.read(left + 1)  # the size stated in the archive may be wrong
                left -= len(unpacked)
                if left < 0:
                    raise InputError(
                        f"{where} unpacks to more than {MAX_UNPACKED_BYTES:,} bytes, which no SqueezeNet has"
                    )
                name = member.filename.removesuffix(".npy")
                arrays[name] = _array(unpacked, f"{where}, {name}")
    except InputError:
        raise
    except Exception as error:  # a damaged file causes errors of many classes
        raise InputError(f"{where} is damaged: {error}") from None
    is_caffe = all(name.endswith(("/weights", "/bias")) or is_counter(name, each) for name, each in arrays.items())
    return names.read(pair(arrays, where), where).found("caffe" if is_caffe else None)


def _check_directory(content: bytes, where: str) -> None:
    """Refuses a list of members that is too long, before `zipfile` creates objects for it.

    The last 22 bytes of an archive without a comment state the length of the list. If a record of 20 bytes is before
    them, the numbers are elsewhere (PKWARE's APPNOTE, 4.3.15 and 4.3.16). NumPy writes neither a comment nor this
    record.
    """
    size = int.from_bytes(content[-10:-6], "little")
    plain = content[-22:-18] == b"PK\x05\x06" and content[-2:] == b"\0\0" and content[-42:-38] != b"PK\x06\x07"
    if not plain or size > _MAX_DIRECTORY_BYTES:
        raise InputError(
            f"{where} is damaged, or an archive that NumPy has not written; save the weights with numpy.savez, or as "
            ".safetensors"
        )


def _array(content: bytes, what: str) -> np.ndarray:
    file = io.BytesIO(content)
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise InputError(f"{what} is of NumPy's format {version}; expected (1, 0) or (2, 0)")
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran_order, dtype = read_header(file)
    if dtype.hasobject:
        raise InputError(f"{what} holds Python objects, which are not loaded: they can run code")
    if min(shape, default=1) < 0 or math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise InputError(
            f"{what} has {len(content) - file.tell():,} bytes of data, which {dtype} {shape} does not fill"
        )
    array = np.frombuffer(content, dtype, offset=file.tell())
    return array.reshape(shape, order="F" if fortran_order else "C")
