"""How far implementations of the input contract are apart on one set of pictures.

  python -m tests.contract.compare
      prints the table of docs/resize.md; about three minutes with the compilers

Each picture is seen through the whole of an implementation, and what comes out, the network's square of 64 pixels, is
compared with the square of the expected pixels. Differences are in levels of 255.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import numpy as np

from sqznet.images import resize
from tests.contract import kits, pictures, readers
from tests.contract.pictures import Picture

LIMIT = 2.0  # levels of 255, on average over a picture


def difference(picture: Picture, square: np.ndarray) -> tuple[float, int]:
    """Mean and largest."""
    expected = resize.prepare(picture.expected, readers.CONTRACT)
    levels = np.abs(square.astype(int) - expected)
    return float(levels.mean()), int(levels.max())


def kind(name: str) -> str:
    """Pictures of one kind share a row of the table."""
    return re.sub(r"-\d\.", "-N.", name)


def measure(reader: str, drawn: list[Picture]) -> dict[str, tuple[float, int] | str]:
    """Difference, or why there is none, by the picture's name."""
    with tempfile.TemporaryDirectory() as folder:
        squares = readers.READERS[reader](drawn, Path(folder))
    return {
        picture.name: square if isinstance(square := squares[picture.name], str) else difference(picture, square)
        for picture in drawn
    }


def table(measured: dict[str, dict[str, tuple[float, int] | str]]) -> str:
    """Markdown: a row for each kind of picture, its worst mean and largest difference for each implementation."""
    names = list(dict.fromkeys(name for found in measured.values() for name in found))
    rows = [f"| picture | {' | '.join(measured)} |", f"| --- |{' --- |' * len(measured)}"]
    for each in dict.fromkeys(map(kind, names)):
        cells = [_cell([found[name] for name in names if kind(name) == each]) for found in measured.values()]
        rows.append(f"| `{each}` | {' | '.join(cells)} |")
    return "\n".join(rows)


def _cell(found: list[tuple[float, int] | str]) -> str:
    if any(isinstance(each, str) for each in found):
        return "refused"
    means, largest = zip(*found, strict=True)
    return f"{max(means):.2f} / {max(largest)}"


def main() -> None:
    drawn, measured = pictures.draw(), {}
    for reader in sys.argv[1:] or readers.READERS:
        try:
            measured[reader] = measure(reader, drawn)
        except kits.MissingError as reason:
            print(f"{reader} is left out: {reason}")
    print(table(measured))


if __name__ == "__main__":
    main()
