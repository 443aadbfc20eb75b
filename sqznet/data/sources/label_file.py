"""A file that says the class of each photograph of a folder: a photograph's name and its class on each line.

Cells are parted by a tab, a comma or a semicolon, or the name by a blank from the class, which is the rest of the line.
Columns are found by the headline, or by which of two cells names a photograph.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sqznet.core.errors import InputError
from sqznet.data.sources.listing import lines, same_name, shown

# What columns are called, in lower case and without blanks and underlines; the first that is there is meant.
_PHOTOGRAPH = (
    "filename", "file", "imagename", "image", "imagefile", "imagepath", "filepath", "path", "imageid", "img", "photo",
    "picture", "id", "name",
)  # fmt: skip
_CLASS = (
    "class", "classname", "label", "labelname", "labels", "category", "categoryname", "breed", "species", "synset",
    "wnid", "target", "predictionstring", "classid", "labelid", "name",
)  # fmt: skip
_BOX = re.compile(r"(.+?)((\s+-?\d+(\.\d+)?){4})+")  # "n03995372 85 1 499 272": where in the photograph it is
_EXPECTED = "expected a photograph's name, then the name of its class's folder"


@dataclass(frozen=True)
class _Row:
    line: str
    cells: list[str]


def read(file: Path, photographs: list[Path], classes: Collection[str]) -> dict[str, str]:
    """Class by file name, with or without its ending.

    Args:
        classes: those there may be; empty if any may be.

    Raises:
        InputError: the columns are not known, a class is not, or a photograph has two.
    """
    names = {each.name for each in photographs} | {each.stem for each in photographs}

    def of_photographs(rows: list[_Row]) -> list[_Row]:
        return [row for row in rows if any(_bare(cell) in names for cell in row.cells)]

    # The delimiter is the one that leaves the names of photographs and something beside them.
    all_rows = (_rows(file, delimiter, names) for delimiter in ("\t", ",", ";", None))
    rows = max(all_rows, key=lambda rows: sum(len(row.cells) > 1 for row in of_photographs(rows)))
    named = of_photographs(rows)
    if not named:
        found = repr(shown(rows[0].line)) if rows else "nothing"
        raise InputError(
            f"{file} names no photograph of {photographs[0].parent}; expected lines as {photographs[0].name},CLASS, "
            f"found {found}"
        )
    headline = rows[0].cells if rows[0] not in named else []
    widest = max(rows, key=lambda row: len(row.cells))
    if 1 < len(headline) < len(widest.cells):
        raise InputError(
            f"{file}: {shown(widest.line)!r} has {len(widest.cells)} cells and the headline {len(headline)}; put what "
            "has a delimiter in it between quotes"
        )
    for row in rows:
        row.cells.extend([""] * (len(widest.cells) - len(row.cells)))
    columns = _columns(headline, named, names, classes)
    if columns is None:
        raise InputError(
            f"{file}: {shown(widest.line)!r} does not say which column is the class; {_EXPECTED}, and nothing else, "
            "or a headline such as filename,class"
        )
    return _class_of(file, rows[1:] if headline else rows, columns, names, classes)


def _class_of(
    file: Path, rows: list[_Row], columns: tuple[int, int], names: set[str], classes: Collection[str]
) -> dict[str, str]:
    of_photograph, of_class = columns
    class_of: dict[str, str] = {}
    for row in rows:
        name = _bare(row.cells[of_photograph])
        if name not in names:
            continue  # a photograph that is not there
        label = _label(row.cells[of_class])
        if not label or (classes and label not in classes):
            raise InputError(f"{file}: {shown(row.line)!r} has class {label!r}, which train has not; {_EXPECTED}")
        if class_of.setdefault(name, label) != label:
            raise InputError(f"{file}: {name} has two classes, {class_of[name]!r} and {label!r}; expected one")
    return class_of


def _rows(file: Path, delimiter: str | None, names: set[str]) -> list[_Row]:
    """The lines of a file in cells; without a delimiter, a name that may have blanks in it and the rest."""
    rows = []
    for line in lines(file):
        if delimiter is None:
            words = line.split()
            known = (count for count in range(len(words) - 1, 0, -1) if _bare(" ".join(words[:count])) in names)
            count = next(known, 1)
            cells = [" ".join(words[:count]), " ".join(words[count:])]
        else:
            try:
                cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
            except csv.Error as error:
                raise InputError(f"{file}: {shown(line[:80])!r} cannot be read: {error}") from None
        rows.append(_Row(line, [re.sub(r"^(['\"])(.*)\1$", r"\2", cell.strip()) for cell in cells]))
    return rows


def _columns(
    headline: list[str], rows: list[_Row], names: set[str], classes: Collection[str]
) -> tuple[int, int] | None:
    """Where the photograph and its class are; None if that is not clear."""
    width = len(rows[0].cells)
    hits = [sum(_bare(row.cells[column]) in names for row in rows) for column in range(width)]
    titles = [re.sub(r"[\s_-]", "", cell.lower()) for cell in headline]
    titled = [titles.index(title) for title in _PHOTOGRAPH if title in titles]  # the headline is as wide as the rows
    of_photograph = next((each for each in titled if hits[each]), hits.index(max(hits)))
    candidates = [titles.index(title) for title in _CLASS if title in titles]
    candidates = [each for each in candidates if each != of_photograph]
    fitting = [each for each in candidates if all(_label(row.cells[each]) in classes for row in rows)]
    if candidates:
        return of_photograph, (fitting or candidates)[0]
    box = [cell for row in rows for cell in row.cells[2:]]
    is_boxed = width > 2 and width % 4 == 2 and all(re.fullmatch(r"-?\d+(\.\d+)?", cell) for cell in box)
    if width < 2 or (width > 2 and not (is_boxed and of_photograph == 0)):
        return None
    return of_photograph, 1 - of_photograph


def _bare(cell: str) -> str:
    """The file's name of a path."""
    return re.split(r"[/\\]", cell)[-1]


def _label(cell: str) -> str:
    boxed = _BOX.fullmatch(cell)
    return same_name(boxed[1] if boxed else cell)
