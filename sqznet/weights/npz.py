"""Weights as a NumPy archive: a kernel (out, in, height, width) and a bias of each layer.

Arrays that are all called `<layer>/weights` and `<layer>/bias` are a dump of Caffe's. Torchvision's names are known
too. Others do not say what the network was trained on.

The archive is read here rather than by `numpy.load`, which trusts the sizes that a header claims.
"""

from __future__ import annotations

import io
import math
import zipfile

import numpy as np
from numpy.lib import format as npy

from sqznet.core.errors import InputError
from sqznet.weights import names
from sqznet.weights.convolutions import Found, as_float32, is_counter, pair

_CAFFE_ENDS = ("/weights", "/bias")
LARGEST = 48 * 2**20  # bytes of all arrays together, unpacked: ten times those of a SqueezeNet
_LARGEST_DIRECTORY = 64 * 1024  # bytes; a SqueezeNet's has 4,000


def read(content: bytes, where: str) -> Found:
    """Raises InputError for a damaged archive, arrays of objects, or layers that Caffe's SqueezeNet does not have."""
    arrays, left = {}, LARGEST
    _check_directory(content, where)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    unpacked = file.read(left + 1)  # not the size that the archive claims
                left -= len(unpacked)
                if left < 0:
                    raise InputError(f"{where} unpacks to more than {LARGEST:,} bytes, which no SqueezeNet has")
                name = member.filename.removesuffix(".npy")
                array = _array(unpacked, f"{where}, {name}")
                if not (array.dtype.kind in "iu" and is_counter(name, array.size)):
                    arrays[name] = as_float32(array, f"{where}, {name}")
    except InputError:
        raise
    except Exception as error:  # zipfile raises what its damaged file makes it stumble over, struct.error among it
        raise InputError(f"{where} is damaged: {error}") from None
    named = names.read(pair(arrays, where), where)
    if named.torchvision:
        return Found(named.convolutions, pixels="torchvision", conv10_padding=0, by_shape=named.by_shape)
    is_caffe = all(name.endswith(_CAFFE_ENDS) for name in arrays)
    return Found(named.convolutions, pixels="caffe" if is_caffe else None, by_shape=named.by_shape)


def _check_directory(content: bytes, where: str) -> None:
    """Refuses, before `zipfile` makes objects of it, a list of members that no SqueezeNet has.

    The last 22 bytes of an archive without a comment say how long the list is; a record of 20 bytes before them says
    that the numbers are elsewhere (PKWARE's APPNOTE, 4.3.15 and 4.3.16). NumPy writes neither comment nor record.
    """
    size = int.from_bytes(content[-10:-6], "little")
    plain = content[-22:-18] == b"PK\x05\x06" and content[-2:] == b"\0\0" and content[-42:-38] != b"PK\x06\x07"
    if not plain or size > _LARGEST_DIRECTORY:
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
