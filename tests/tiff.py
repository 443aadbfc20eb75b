"""Writes TIFF files of several pictures, with any tags: what cameras and scanners write and Pillow does not."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

SHORT, LONG = 3, 4
SUBFILE_TYPE, ORIENTATION, SUB_IFDS = 254, 274, 330
REDUCED, MASK = 1, 4


@dataclass
class Page:
    """A picture, uncompressed: (height, width) or (height, width, 3), of any type of numbers."""

    pixels: np.ndarray
    tags: dict[int, int] = field(default_factory=dict)  # in place of those that the pixels give
    below: list[Page] = field(default_factory=list)  # pictures that it points to


def write(pages: list[Page], order: str = "<") -> bytes:
    """A TIFF file of a chain of pictures, in Intel's ("<") or Motorola's (">") order of bytes."""
    content = bytearray({"<": b"II*\0", ">": b"MM\0*"}[order] + bytes(4))
    link = 4
    for page in pages:
        offset = _append(content, page, order)
        struct.pack_into(order + "I", content, link, offset)
        link = len(content) - 4
    return bytes(content)


def _append(content: bytearray, page: Page, order: str) -> int:
    """Adds a picture and those below it; gives the offset of its directory, which is the last thing added."""
    below = [_append(content, each, order) for each in page.below]
    pixels = page.pixels.astype(page.pixels.dtype.newbyteorder(order))
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    tags = {
        256: pixels.shape[1],
        257: pixels.shape[0],
        258: 8 * pixels.itemsize,
        259: 1,
        262: 2 if samples == 3 else 1,
        273: len(content),
        277: samples,
        278: pixels.shape[0],
        279: pixels.nbytes,
        339: {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind],
        **page.tags,
    }
    content += pixels.tobytes()
    lists = {258: [tags[258]] * samples, 339: [tags[339]] * samples, SUB_IFDS: below}
    entries = []
    for tag in sorted({*tags, *([SUB_IFDS] if below else [])}):
        values = lists.get(tag) or [tags[tag]]
        kind, letter = (SHORT, "H") if tag in (258, 339, ORIENTATION) else (LONG, "I")
        packed = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(packed) > 4:
            packed, at = struct.pack(order + "I", len(content)), packed
            content += at
        entries.append(struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0"))
    content += bytes(len(content) % 2)
    offset = len(content)
    content += struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    return offset
