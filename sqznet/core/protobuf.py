"""Checks a protobuf before the protobuf library parses it.

An empty message has two bytes, but its Python object has hundreds. Therefore a small hostile file could fill the
memory. This module refuses a file with more parts than any SqueezeNet has, before the file is parsed.
"""

from __future__ import annotations

from typing import Any

from sqznet.core.errors import InputError

# Field number to the schema of its messages; None for text, bytes and packed floats, which need no extra memory.
Schema = dict[int, Any]

MOST_FIELDS = 20_000  # a SqueezeNet's ONNX file has about 2,000
MOST_OTHER = 64 * 1024  # bytes in fields that are not in the schema


def check(content: bytes, schema: Schema, where: str) -> None:
    """Raises InputError if the message is damaged, or has more parts than a SqueezeNet."""
    pending: list[tuple[int, int, Schema]] = [(0, len(content), schema)]
    fields = other = 0
    while pending:
        offset, end, known = pending.pop()
        while offset < end:
            key, offset = _varint(content, offset, end, where)
            number, wire = key >> 3, key & 7
            start, offset = _value(content, offset, end, wire, where)
            fields += 1
            if wire == 2:
                inner = known.get(number)
                if number not in known:
                    other += offset - start
                elif inner is not None:
                    pending.append((start, offset, inner))
            if fields > MOST_FIELDS or other > MOST_OTHER:
                raise InputError(f"{where} has more parts than the file of any SqueezeNet; nothing of it was read")


def outline(content: bytes, start: int = 0, end: int | None = None) -> list[tuple[int, int, int, int]]:
    """Returns the first 100 fields of a message: (number, wire type, start, end). The last field may be truncated."""
    fields: list[tuple[int, int, int, int]] = []
    offset, end = start, len(content) if end is None else end
    while offset < end and len(fields) < 100:
        kind = 0
        try:
            key, begin = _varint(content, offset, end, "")
            number, kind, offset = key >> 3, key & 7, begin
            begin, offset = _value(content, begin, end, kind, "")
        except InputError:
            if kind == 2:
                fields.append((number, kind, begin, end))
            break
        fields.append((number, kind, begin, offset))
    return fields


def _varint(content: bytes, offset: int, end: int, where: str) -> tuple[int, int]:
    number = 0
    for index in range(10):
        if offset + index >= end:
            break
        byte = content[offset + index]
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number, offset + index + 1
    raise InputError(f"{where} is damaged: no number ends at byte {offset:,}")


def _value(content: bytes, offset: int, end: int, wire: int, where: str) -> tuple[int, int]:
    """Returns the start and the end of a field's content."""
    if wire == 0:
        return offset, _varint(content, offset, end, where)[1]
    if wire == 2:
        size, offset = _varint(content, offset, end, where)
    else:
        size = {1: 8, 5: 4}.get(wire, -1)
    if size < 0 or offset + size > end:
        raise InputError(f"{where} is damaged: a field of kind {wire} does not fit at byte {offset:,}")
    return offset, offset + size
