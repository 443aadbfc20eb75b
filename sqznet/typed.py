"""Whether a value that was read from a file is of the type that it should be, exactly.

`"false"` is no false, true is no 1, 1.5 and "3" are no whole numbers, and NaN is no number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from sqznet import files
from sqznet.errors import InputError

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", dict: "an object, {...}"}
LARGEST = 2**53  # up to which every reader of JSON has the same whole numbers


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type: bool, int, float, str, dict, None, list[X], tuple[X, ...], tuple[X, Y], or X | Y.

    Lists and tuples are alike, as in JSON. A whole number is a float, too.
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
        # Not `isfinite` first: a whole number may be too large for it.
        return isinstance(value, int | float) and abs(value) < 1e300 and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and abs(value) <= LARGEST
    return isinstance(value, kind)


def in_words(kind: Any) -> str:
    """What `fits` takes, for messages."""
    of = get_args(kind)
    if get_origin(kind) in (list, tuple):
        if get_origin(kind) is list or of[-1] is ...:
            return f"a list of which each is {in_words(of[0])}"
        return f"a list of {len(of)}, each {in_words(of[0])}"
    if of:
        return " or ".join("null" if each is type(None) else in_words(each) for each in of)
    return _WORDS[kind]


def require(content: Mapping[str, Any], kinds: Mapping[str, Any], where: str) -> None:
    """Refuses an object that lacks one of these fields, or has another type in it.

    Raises:
        InputError: names the first, what was expected and what is there.
    """
    for name, kind in kinds.items():
        if name not in content:
            raise InputError(f"{where}: {name} is missing; expected {in_words(kind)}")
        if not fits(content[name], kind):
            raise InputError(f"{where}: {name} is {files.shortened(content[name])}; expected {in_words(kind)}")
