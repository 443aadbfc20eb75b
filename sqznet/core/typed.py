"""Reads JSON files that users write, and checks the type of each value strictly.

This module refuses values of another type, such as "false" for false, true for 1, or 1.5 for a whole number. This
module also refuses NaN, and a name that occurs twice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from sqznet.core.errors import InputError

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", dict: "an object, {...}"}
_MANY = {int: "whole numbers", float: "numbers", str: "strings", dict: "objects"}
LARGEST = 2**53  # the largest whole number that all JSON readers parse exactly


def fits(value: Any, kind: Any) -> bool:
    """Checks the type of a value: bool, int, float, str, dict, None, list[X], tuple[X, ...], tuple[X, Y], or X | Y.

    A list is accepted for a tuple, because JSON has no tuples. A whole number is accepted for a float.
    """
    of = get_args(kind)
    if get_origin(kind) in (list, tuple):
        if not isinstance(value, list | tuple):
            return False
        if get_origin(kind) is list or of[-1] is ...:
            return all(fits(each, of[0]) for each in value)
        return len(value) == len(of) and all(fits(*pair) for pair in zip(value, of, strict=True))
    if of:
        return any(fits(value, each) for each in of)
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if kind is float:
        # `isfinite` would raise on a whole number that is too large.
        return isinstance(value, int | float) and abs(value) < 1e300 and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and abs(value) <= LARGEST
    return isinstance(value, kind)


def in_words(kind: Any) -> str:
    """Describes a type in words, for messages."""
    of = get_args(kind)
    if get_origin(kind) in (list, tuple):
        if get_origin(kind) is list or of[-1] is ...:
            return f"a list of {_MANY.get(of[0]) or f'items, each {in_words(of[0])}'}"
        return f"a list of {len(of)}, each {in_words(of[0])}"
    if of:
        return " or ".join("null" if each is type(None) else in_words(each) for each in of)
    return _WORDS[kind]


def require(content: Mapping[str, Any], kinds: Mapping[str, Any], where: str) -> None:
    """Checks that an object has the fields of `kinds`, with values of their types.

    Raises:
        InputError: a field is missing or has another type. The error names the first wrong field, the expected type and
            the value.
    """
    for name, kind in kinds.items():
        if name not in content:
            raise InputError(f"{where}: {name} is missing; expected {in_words(kind)}")
        if not fits(content[name], kind):
            raise InputError(f"{where}: {name} is {shortened(content[name])}; expected {in_words(kind)}")


def parse_json(text: str, where: str) -> dict[str, Any]:
    """Parses a JSON text that contains an object.

    Raises:
        InputError: the text is not a JSON object, contains a name twice, or contains NaN or Infinity.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        for name, _ in pairs if len(made) < len(pairs) else []:
            if sum(name == other for other, _ in pairs) > 1:
                raise InputError(f"{where}: {name!r} is given twice; remove one")
        return made

    def refuse(constant: str) -> None:
        raise InputError(f"{where}: {constant} is not a number of JSON; give a finite one")

    try:
        # Some editors write a byte-order mark first.
        content = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=once, parse_constant=refuse)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        what = "is empty" if not text.strip() else f"cannot be read as JSON: {error}"
        raise InputError(f"{where} {what}") from None
    if not isinstance(content, dict):
        raise InputError(f"{where} holds {shortened(content)}; expected a JSON object, {{...}}")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """Reads a file with `parse_json`. Raises InputError also if the file cannot be read."""
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text in UTF-8; expected a JSON file") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    return parse_json(text, str(path))


def shortened(value: Any) -> str:
    """Formats a value as JSON for messages, and cuts the text to 60 characters."""
    if isinstance(value, float):
        return repr(value)
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
