"""Writes small ICC profiles (ICC.1:2010, version 4), so that tests need no profile of others.

A pixel in the colours of a profile is made from an sRGB pixel with `from_srgb`.
"""

from __future__ import annotations

import io
import itertools
import struct

import numpy as np
from PIL import Image, ImageCms

D50 = (0.9642, 1.0, 0.8249)
D65 = (0.3127, 0.3290)
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # g, a, b, c, d of a parametric curve of type 3
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def srgb() -> bytes:
    return rgb_profile("sRGB", ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)), SRGB_CURVE)


def display_p3() -> bytes:
    return rgb_profile("Display P3", ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), SRGB_CURVE)


def adobe_rgb() -> bytes:
    return rgb_profile("Adobe RGB (1998)", ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), (563 / 256,))


def prophoto() -> bytes:
    primaries = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001))
    return rgb_profile("ProPhoto RGB", primaries, (1.8,), white=(0.3457, 0.3585))


def grey(gamma: float = 2.2) -> bytes:
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"desc": _text("grey"), b"wtpt": _xyz(D50), b"kTRC": _curve((gamma,))})


def rgb_profile(
    name: str,
    primaries: tuple[tuple[float, float], ...],
    curve: tuple[float, ...],
    white: tuple[float, float] = D65,
) -> bytes:
    """A profile of three primaries and one tone curve.

    Args:
        primaries: x and y of red, green and blue.
        curve: gamma alone, or the five numbers of a parametric curve of type 3.
        white: x and y of the white point.
    """

    def xyz(point: tuple[float, float]) -> np.ndarray:
        x, y = point
        return np.array([x / y, 1.0, (1 - x - y) / y])

    columns = np.stack([xyz(each) for each in primaries], axis=1)
    columns = columns * np.linalg.solve(columns, xyz(white))
    gain = (_BRADFORD @ np.array(D50)) / (_BRADFORD @ xyz(white))
    columns = np.linalg.inv(_BRADFORD) @ np.diag(gain) @ _BRADFORD @ columns
    tags = {b"desc": _text(name), b"wtpt": _xyz(D50)}
    for letter, column in zip(b"rgb", columns.T, strict=True):
        tags[bytes([letter]) + b"XYZ"] = _xyz(tuple(column))
        tags[bytes([letter]) + b"TRC"] = _curve(curve)
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def cmyk() -> bytes:
    """A press of inks that are darker and warmer than the plain arithmetic of 255 - ink."""
    grid = 9
    values = []
    for inks in itertools.product(np.linspace(0, 1, grid), repeat=4):  # the last ink changes fastest
        values.append(_lab_of_inks(np.array(inks)))
    table = np.array(values)
    encoded = np.stack([table[:, 0] / 100, (table[:, 1] + 128) / 255, (table[:, 2] + 128) / 255], axis=1)
    clut = np.rint(encoded.clip(0, 1) * 65280).astype(">u2").tobytes()  # Lab as version 2 encodes it in 16 bits
    matrix = struct.pack(">9i", *(65536 if at % 4 == 0 else 0 for at in range(9)))
    head = b"mft2" + bytes(4) + bytes([4, 3, grid, 0]) + matrix + struct.pack(">HH", 2, 2)
    line = struct.pack(">HH", 0, 65535)
    tags = {b"desc": _text("press"), b"wtpt": _xyz(D50), b"A2B0": head + line * 4 + clut + line * 3}
    return _profile(b"prtr", b"CMYK", b"Lab ", tags)


def _lab_of_inks(inks: np.ndarray) -> np.ndarray:
    paper = np.array([0.93, 0.92, 0.89])
    absorbed = np.array([[0.95, 0.35, 0.10], [0.20, 0.90, 0.45], [0.02, 0.12, 0.85], [0.88, 0.88, 0.88]])
    linear = paper * np.prod(1 - absorbed * inks[:, None], axis=0)
    matrix = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])  # sRGB, at D50
    x, y, z = np.cbrt((matrix @ linear) / D50).clip(0.1379)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def from_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The same colours in the numbers of a profile of RGB or grey: the picture that belongs to that profile."""
    into = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    mode = {"RGB ": "RGB", "GRAY": "L"}[into.profile.xcolor_space]
    converted = ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), into, ImageCms.Intent.RELATIVE_COLORIMETRIC, mode
    )
    assert converted is not None
    return converted


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(
        ">I4sI4s4s4s12s4s4sI4s4s8sI3i4s44s",
        start + len(body), b"\0\0\0\0", 0x04300000, kind, space, connection, bytes(12), b"acsp", bytes(4), 0,
        bytes(4), bytes(4), bytes(8), 0, *(round(each * 65536) for each in D50), bytes(4), bytes(44),
    )  # fmt: skip
    return header + table + body


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(encoded), 28) + encoded


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(each * 65536) for each in values))


def _curve(numbers: tuple[float, ...]) -> bytes:
    kind = {1: 0, 5: 3}[len(numbers)]
    return b"para" + bytes(4) + struct.pack(f">HH{len(numbers)}i", kind, 0, *(round(each * 65536) for each in numbers))
