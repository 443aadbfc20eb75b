"""Parses and prints file sizes. One MB is 1,000,000 bytes, and one MiB is 1,048,576 bytes."""

from __future__ import annotations

import argparse
import re

UNITS = {"": 1, "B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3}


def parse(text: str) -> int:
    """Parses the value of a flag that takes a size.

    `5MiB` is 5242880, `5MB` is 5000000, `480 kB` is 480000, and `5000000` is 5000000.

    Raises:
        argparse.ArgumentTypeError: the text is not a size, or the size is 0 or less.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    unit = UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None or not 0 < float(match[1]) < 2**63:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size; expected a number and a unit, as 5MiB, 5MB, 480kB or 5000000"
        )
    return int(float(match[1]) * unit)


def describe(size: int) -> str:
    return f"{size:,} bytes ({size / 1000**2:.3f} MB, {size / 1024**2:.3f} MiB)"
