"""TIFF files hold several pictures: previews, masks, pages. This finds the main one and hands only that to Pillow.

Pillow reads the first, which in files of cameras and scanners often is a preview. It also parses and rewrites the EXIF
block of a TIFF while it decodes the pixels, and fails on damaged blocks, so the block is hidden from it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sqznet.core.errors import Reject
from sqznet.images import signatures

MOST_PICTURES = 1000  # in a file that is read: more than a book has pages
# Tags of TIFF 6.0, of the EXIF and of the DNG specification.
_SUBFILE_TYPE, _WIDTH, _HEIGHT, _PHOTOMETRIC, _ORIENTATION, _SUB_IFDS, _XMP = 254, 256, 257, 262, 274, 330, 700
_EXIF, _GPS, _INTEROPERABILITY = 34665, 34853, 40965
_REDUCED, _MASK = 1, 4  # bits of _SUBFILE_TYPE
_SENSOR_DATA = (32803, 34892)  # values of _PHOTOMETRIC: a colour filter array, linear raw
_HIDDEN = 65535  # a tag that means nothing
_WHOLE_NUMBERS = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # struct's letters, by the type of a field


class Field(NamedTuple):
    kind: int
    values: int  # how many
    at: int  # where its 12 bytes (20 in BigTIFF) start


@dataclass(frozen=True)
class Picture:
    offset: int  # of its directory
    next: int  # where the offset of the following directory stands
    fields: dict[int, Field]


def is_tiff(content: bytes) -> bool:
    return content[:4] in signatures.TIFF_MARKS


def main_picture(content: bytes) -> tuple[bytes, int]:
    """A TIFF file with its main picture alone, without EXIF block; and that picture's orientation, 1 to 8.

    The main picture is the largest that is marked neither as a preview nor as a mask; of equals the first.

    Raises:
        Reject: the main picture is a camera's sensor data.
    """
    file = _File(content)
    try:
        pictures = list(file.pictures())
        if not pictures:
            return content, 1
        whole = [each for each in pictures if not file.number(each, _SUBFILE_TYPE) & (_REDUCED | _MASK)]
        main = max(whole or pictures, key=lambda each: file.number(each, _WIDTH) * file.number(each, _HEIGHT))
        if file.number(main, _PHOTOMETRIC) in _SENSOR_DATA:
            raise Reject("a raw photograph: convert it to JPEG or TIFF with the camera's or a raw converter's program")
        # Cameras turn the preview that comes first, and mean the picture below it as well.
        turned = next((each for each in (main, pictures[0]) if _ORIENTATION in each.fields), main)
        return file.alone(main), file.number(turned, _ORIENTATION) or 1
    except (
        struct.error,
        OverflowError,
    ):  # a directory ends beyond the file: Pillow may still read it, or says what is wrong
        return content, 1


class _File:
    """The directories of a TIFF or BigTIFF file."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.order = "<" if content[:2] == b"II" else ">"
        big = b"+" in content[:4]
        self.first = 8 if big else 4  # where the offset of the first directory stands
        self.word, self.count, self.field = ("Q", "Q", "HHQ") if big else ("I", "H", "HHI")
        self.inline = struct.calcsize(self.word)  # bytes of a value that stands in its field
        self.head = struct.calcsize(self.order + self.field)

    def unpack(self, letters: str, at: int) -> tuple[int, ...]:
        return struct.unpack_from(self.order + letters, self.content, at)

    def pictures(self) -> Iterator[Picture]:
        """All of the chain of directories and below them, each once."""
        waiting, seen = list(self.unpack(self.word, self.first)), set[int]()
        while waiting and len(seen) < MOST_PICTURES:
            offset = waiting.pop(0)
            if not offset or offset in seen:
                continue
            seen.add(offset)
            try:
                picture = self.directory(offset)
                following = self.unpack(self.word, picture.next)
                below = self.values(picture, _SUB_IFDS)
            except (struct.error, OverflowError):  # of the pictures, those that can be read
                continue
            waiting += [*following, *below]
            yield picture

    def directory(self, offset: int) -> Picture:
        (count,) = self.unpack(self.count, offset)
        start, size = offset + struct.calcsize(self.order + self.count), self.head + self.inline
        fields = {}
        for at in range(start, start + count * size, size):
            tag, kind, number = self.unpack(self.field, at)
            fields[tag] = Field(kind, number, at)
        return Picture(offset, start + count * size, fields)

    def values(self, picture: Picture, tag: int) -> tuple[int, ...]:
        """The whole numbers of a field; none where it is missing or of another type."""
        field = picture.fields.get(tag)
        if field is None or field.kind not in _WHOLE_NUMBERS or field.values > MOST_PICTURES:
            return ()
        letters = f"{field.values}{_WHOLE_NUMBERS[field.kind]}"
        at = field.at + self.head
        if struct.calcsize(self.order + letters) > self.inline:
            (at,) = self.unpack(self.word, at)
        return self.unpack(letters, at)

    def number(self, picture: Picture, tag: int) -> int:
        """The first whole number of a field, or 0."""
        return next(iter(self.values(picture, tag)), 0)

    def alone(self, picture: Picture) -> bytes:
        """The file with that picture as its first and last one, upright as it lies, and without metadata of cameras."""
        changed = bytearray(self.content)
        struct.pack_into(self.order + self.word, changed, self.first, picture.offset)
        struct.pack_into(self.order + self.word, changed, picture.next, 0)
        for tag in (_ORIENTATION, _SUB_IFDS, _XMP, _EXIF, _GPS, _INTEROPERABILITY):
            if tag in picture.fields:
                struct.pack_into(self.order + "H", changed, picture.fields[tag].at, _HIDDEN)
        return bytes(changed)
