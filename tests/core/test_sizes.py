from __future__ import annotations

import argparse

import pytest

from sqznet.core import sizes


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5MiB", 5_242_880), ("5MB", 5_000_000), ("5 mb", 5_000_000), ("480kB", 480_000), ("1.5KiB", 1536), ("77", 77)],
)
def test_sizes_are_understood(text, expected):
    assert sizes.parse(text) == expected


@pytest.mark.parametrize("text", ["", "five", "5 parsecs", "-5MB", "0", "5MiB or so", "1e6"])
def test_what_is_not_a_size_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a size; expected a number and a unit, as 5MiB"):
        sizes.parse(text)


def test_both_units_are_printed():
    assert sizes.describe(5_013_044) == "5,013,044 bytes (5.013 MB, 4.781 MiB)"
