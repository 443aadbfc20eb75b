"""Photographs whose EXIF block, colour profile or TIFF structure is damaged, for `python -m tests.fuzz`.

Only the block is damaged; the pixels are intact.
"""

from __future__ import annotations

import functools
import io
import random
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from sqznet.core.errors import Reject
from sqznet.data.sources import synthetic
from sqznet.images import decode
from tests import icc, tiff

JPEG = synthetic.draw("fuzz/0", 3, seed=0)
PICTURE = Image.open(io.BytesIO(JPEG)).convert("RGB")


def exif_block() -> bytes:
    """An EXIF block as phones write it: strings, fractions, lists, GPS, a maker's note and nested directories."""
    exif = Image.Exif()
    exif.update({271: "Maker", 272: "Phone 7", 282: 72.0, 283: 72.0, 296: 2, 305: "1.2.3", 306: "2024:05:06 07:08:09"})
    exif[decode.EXIF_ORIENTATION] = 6
    exif.get_ifd(34665).update(
        {
            33434: 0.01,
            34855: 200,
            36864: b"0232",
            37121: b"\1\2\3\0",
            37500: bytes(range(200)),
            40961: 65535,
            42034: (1.5, 2.0),
        }
    )
    exif.get_ifd(34853).update({1: "N", 2: (48.0, 8.0, 7.5), 3: "E", 4: (11.0, 34.0, 1.0), 29: "2024:05:06"})
    return exif.tobytes()


def damage(block: bytes, rng: random.Random) -> bytes:
    """Changes some bytes, and keeps the length: single bits, a type, a count, an offset."""
    changed = bytearray(block)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        at = rng.randrange(len(changed))
        match rng.randrange(4):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at] = rng.randrange(256)
            case 2:
                number = rng.choice([0, 1, 7, 255, 65535, 2**31, 2**32 - 1, rng.randrange(len(changed))])
                changed[at : at + 4] = struct.pack(rng.choice("<>") + "I", number)[: len(changed) - at]
            case 3:
                length = min(rng.choice([2, 8, 30]), len(changed) - at)
                changed[at : at + length] = rng.randbytes(length)
    return bytes(changed)


def _saved(image: Image.Image, format_name: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def _replaced(content: bytes, block: bytes, changed: bytes) -> bytes:
    if block not in content:
        raise AssertionError("the file does not contain the block unchanged")
    content = content.replace(block, changed)
    return with_checksums(content) if content.startswith(b"\x89PNG") else content


def with_checksums(png: bytes) -> bytes:
    """A PNG file with the checksums of its chunks recomputed."""
    fixed, at = bytearray(png[:8]), 8
    while at < len(png):
        end = at + 8 + int.from_bytes(png[at : at + 4], "big")
        fixed += png[at:end] + zlib.crc32(png[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(fixed)


def damaged_exif(rng: random.Random) -> bytes:
    block = exif_block()
    content = _saved(PICTURE, rng.choice(["JPEG", "PNG", "WEBP"]), exif=block)
    body = block[block.index(b"MM\0*") :]
    return _replaced(content, body, damage(body, rng))


def damaged_profile(rng: random.Random) -> bytes:
    mode, profile = rng.choice(_profiles())
    # PNG compresses the profile; JPEG, WebP and TIFF store it as it is.
    formats = ["JPEG", "TIFF", "PNG"] if mode == "CMYK" else ["JPEG", "WEBP", "TIFF", "PNG"]
    name = rng.choice(formats)
    if name == "PNG":
        return _saved(PICTURE.convert("L" if mode == "L" else "RGB"), name, icc_profile=damage(profile, rng))
    return _saved(PICTURE.convert(mode), name, icc_profile=damage(profile, rng))


@functools.cache
def _profiles() -> list[tuple[str, bytes]]:
    return [
        *(("RGB", profile()) for profile in (icc.display_p3, icc.prophoto, icc.srgb)),
        ("L", icc.grey()),
        ("CMYK", icc.cmyk()),
    ]


def damaged_tiff(rng: random.Random) -> bytes:
    pixels = np.asarray(PICTURE)
    pages = rng.choice(
        [
            [tiff.Page(pixels[::4, ::4], {254: 1}), tiff.Page(pixels, {274: 6})],
            [tiff.Page(pixels[::4, ::4], {254: 1}, below=[tiff.Page(pixels[..., 0].astype(np.uint16) * 16)])],
            [tiff.Page(pixels[..., 0].astype(np.float32) / 255)],
        ]
    )
    if rng.random() < 0.3:  # compressed files are read by another library; Pillow writes no EXIF block into them
        compression = rng.choice([None, "tiff_lzw", "jpeg", "tiff_adobe_deflate"])
        options = {"compression": compression} if compression else {"exif": exif_block()}
        return damage(_saved(PICTURE, "TIFF", **options), rng)
    content = tiff.write(pages, rng.choice("<>"))
    # Only the directories at the beginning or the end: most bytes of these files are pixels.
    at = rng.choice([0, len(content) - 200])
    return content[:at] + damage(content[at : at + 200], rng) + content[at + 200 :]


DAMAGED: dict[str, Callable[[random.Random], bytes]] = {
    "exif": damaged_exif,
    "profile": damaged_profile,
    "tiff": damaged_tiff,
}


def outcome(kind: str, rng: random.Random) -> str:
    """Checks that `to_jpeg` (used by `data`) and `to_pixels` (used by `predict`) agree, or both refuse the file."""
    content = DAMAGED[kind](rng)
    results: list[np.ndarray | str] = []
    for read in (decode.to_pixels, decode.to_jpeg):
        try:
            made = read(content, max_pixels=4_000_000)
        except Reject as reason:
            results.append(str(reason))
        else:
            is_jpeg = isinstance(made, decode.Encoded)
            results.append(np.asarray(Image.open(io.BytesIO(made.content)).convert("RGB")) if is_jpeg else made)
    pixels, stored = results
    if isinstance(pixels, str) or isinstance(stored, str):
        if type(pixels) is not type(stored):
            raise AssertionError(f"predict says {pixels!r:.80}, data {stored!r:.80}")
        return "refused, with the reason"
    if pixels.shape != stored.shape or np.abs(pixels.astype(int) - stored).mean() > 6:
        raise AssertionError(f"predict sees {pixels.shape}, data stores {stored.shape}")
    if kind == "exif" and pixels.shape[2] != 3:
        raise AssertionError(f"pixels are {pixels.shape}")
    return "accepted, both decode the same pixels"
