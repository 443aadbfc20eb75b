"""Selects the main picture of a TIFF file, which may hold previews, masks and pages as well.

Pillow reads the first picture, which is often a preview in files of cameras and scanners. Pillow also parses and
rewrites the EXIF block of a TIFF while it decodes the pixels, and fails if the block is damaged. Therefore this module
removes the block.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sqznet.core.errors import Reject
from sqznet.images import signatures

MAX_PICTURES = 1000  # that are looked at in one file
# Tags of TIFF 6.0, of the EXIF and of the DNG specification.
_SUBFILE_TYPE, _WIDTH, _HEIGHT, _PHOTOMETRIC, _ORIENTATION, _SUB_IFDS, _XMP = 254, 256, 257, 262, 274, 330, 700
_EXIF, _GPS, _INTEROPERABILITY = 34665, 34853, 40965
_REDUCED, _MASK = 1, 4  # bits of _SUBFILE_TYPE
_SENSOR_DATA = (32803, 34892)  # values of _PHOTOMETRIC: a colour filter array, linear raw
_HIDDEN = 65535  # a tag without a meaning
_INTEGER_TYPES = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # struct's letters by the type of a field


class Field(NamedTuple):
    kind: int
    values: int  # how many
    at: int  # offset of its 12 bytes (20 in BigTIFF)


@dataclass(frozen=True)
class Picture:
    offset: int  # of its directory
    next: int  # position of the offset of the next directory
    fields: dict[int, Field]


def is_tiff(content: bytes) -> bool:
    return content[:4] in signatures.TIFF_MARKS


def main_picture(content: bytes) -> tuple[bytes, int]:
    """Reduces a TIFF file to its main picture without the EXIF block.

    Also returns the orientation of the picture, 1 to 8.

    The main picture is the largest picture that is marked neither as a preview nor as a mask. If several pictures are
    equally large, it is the first of them.

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
        # Cameras note the orientation at the preview, which comes first. It also holds for the picture below the
        # preview.
        turned = next((each for each in (main, pictures[0]) if _ORIENTATION in each.fields), main)
        return file.alone(main), file.number(turned, _ORIENTATION) or 1
    except (struct.error, OverflowError):  # a directory ends beyond the file: Pillow reads it or reports the damage
        return content, 1


class _File:
    """The directories of a TIFF or BigTIFF file."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.order = "<" if content[:2] == b"II" else ">"
        big = b"+" in content[:4]
        self.first = 8 if big else 4  # position of the offset of the first directory
        self.word, self.count, self.field = ("Q", "Q", "HHQ") if big else ("I", "H", "HHI")
        self.inline = struct.calcsize(self.word)  # bytes of a value that is stored in its field
        self.head = struct.calcsize(self.order + self.field)

    def unpack(self, letters: str, at: int) -> tuple[int, ...]:
        return struct.unpack_from(self.order + letters, self.content, at)

    def pictures(self) -> Iterator[Picture]:
        """Yields all pictures of the chain of directories and of their sub-directories, each picture once."""
        waiting, seen = list(self.unpack(self.word, self.first)), set[int]()
        while waiting and len(seen) < MAX_PICTURES:
            offset = waiting.pop(0)
            if not offset or offset in seen:
                continue
            seen.add(offset)
            try:
                picture = self.directory(offset)
                following = self.unpack(self.word, picture.next)
                below = self.values(picture, _SUB_IFDS)
            except (struct.error, OverflowError):  # skip a picture that cannot be read
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
        """Returns the integers of a field, or nothing if the field is missing or of another type."""
        field = picture.fields.get(tag)
        if field is None or field.kind not in _INTEGER_TYPES or field.values > MAX_PICTURES:
            return ()
        letters = f"{field.values}{_INTEGER_TYPES[field.kind]}"
        at = field.at + self.head
        if struct.calcsize(self.order + letters) > self.inline:
            (at,) = self.unpack(self.word, at)
        return self.unpack(letters, at)

    def number(self, picture: Picture, tag: int) -> int:
        """Returns the first integer of a field, or 0."""
        return next(iter(self.values(picture, tag)), 0)

    def alone(self, picture: Picture) -> bytes:
        """Returns the file with this picture only, without the orientation and the metadata of the camera."""
        changed = bytearray(self.content)
        struct.pack_into(self.order + self.word, changed, self.first, picture.offset)
        struct.pack_into(self.order + self.word, changed, picture.next, 0)
        for tag in (_ORIENTATION, _SUB_IFDS, _XMP, _EXIF, _GPS, _INTEROPERABILITY):
            if tag in picture.fields:
                struct.pack_into(self.order + "H", changed, picture.fields[tag].at, _HIDDEN)
        return bytes(changed)
