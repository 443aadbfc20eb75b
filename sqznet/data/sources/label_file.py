"""Reads a file of labels, which contains the name of a photograph and its class on each line.

Tabs, commas or semicolons separate the cells. In a line without separators, the name ends at a blank, and the rest of
the line is the class. A header names the columns. A file without a header has two columns. The names in it show which
column contains the photographs.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sqznet.core.errors import InputError
from sqznet.data.sources.listing import lines, normalized, one_line

# Column titles in lower case, without blanks, hyphens and underscores, in order of preference.
_PHOTOGRAPH = (
    "filename", "file", "imagename", "image", "imagefile", "imagepath", "filepath", "path", "imageid", "img", "photo",
    "picture", "id", "name",
)  # fmt: skip
_CLASS = (
    "class", "classname", "label", "labelname", "labels", "category", "categoryname", "breed", "species", "synset",
    "wnid", "target", "predictionstring", "classid", "labelid", "name",
)  # fmt: skip
_BOX = re.compile(r"(.+?)((\s+-?\d+(\.\d+)?){4})+")  # a class and bounding boxes: "n03995372 85 1 499 272"
_EXPECTED = "expected a photograph's name, then the name of its class's folder"


@dataclass(frozen=True)
class _Row:
    line: str
    cells: list[str]


def read(file: Path, photographs: list[Path], classes: Collection[str]) -> dict[str, str]:
    """Reads the class of each photograph. The file name with or without its suffix is the key.

    Args:
        classes: the allowed classes. An empty collection allows any class.

    Raises:
        InputError: a column or a class is unknown, or a photograph has two classes.
    """
    names = {each.name for each in photographs} | {each.stem for each in photographs}

    def of_photographs(rows: list[_Row]) -> list[_Row]:
        return [row for row in rows if any(_file_name(cell) in names for cell in row.cells)]

    # The right delimiter gives the largest number of rows with the name of a photograph and another cell.
    all_rows = (_rows(file, delimiter, names) for delimiter in ("\t", ",", ";", None))
    rows = max(all_rows, key=lambda rows: sum(len(row.cells) > 1 for row in of_photographs(rows)))
    named = of_photographs(rows)
    if not named:
        folder, name = photographs[0].parent, photographs[0].name
        found = repr(one_line(rows[0].line)) if rows else "nothing"
        raise InputError(f"{file} names no photograph of {folder}; expected lines such as {name},CLASS, found {found}")
    header = rows[0].cells if rows[0] not in named else []
    widest = max(rows, key=lambda row: len(row.cells))
    if 1 < len(header) < len(widest.cells):
        raise InputError(
            f"{file}: {one_line(widest.line)!r} has {len(widest.cells)} cells and the header {len(header)}; put cells "
            "that contain a delimiter between quotes"
        )
    for row in rows:
        row.cells.extend([""] * (len(widest.cells) - len(row.cells)))
    columns = _columns(header, named, names, classes)
    if columns is None:
        raise InputError(
            f"{file}: {one_line(widest.line)!r} does not show which column is the class; {_EXPECTED}, and nothing "
            "else, or a header such as filename,class"
        )
    return _class_of(file, rows[1:] if header else rows, columns, names, classes)


def _class_of(
    file: Path, rows: list[_Row], columns: tuple[int, int], names: set[str], classes: Collection[str]
) -> dict[str, str]:
    photograph_column, class_column = columns
    class_of: dict[str, str] = {}
    for row in rows:
        name = _file_name(row.cells[photograph_column])
        if name not in names:
            continue  # the folder lacks this photograph
        label = _label(row.cells[class_column])
        if not label or (classes and label not in classes):
            raise InputError(f"{file}: {one_line(row.line)!r} has class {label!r}, which train lacks; {_EXPECTED}")
        if class_of.setdefault(name, label) != label:
            raise InputError(f"{file}: {name} has two classes, {class_of[name]!r} and {label!r}; expected one")
    return class_of


def _rows(file: Path, delimiter: str | None, names: set[str]) -> list[_Row]:
    """Splits lines into cells at the delimiter.

    Without one, splits into a name (it may have blanks) and the rest of the line.
    """
    rows = []
    for line in lines(file):
        if delimiter is None:
            words = line.split()
            known = (count for count in range(len(words) - 1, 0, -1) if _file_name(" ".join(words[:count])) in names)
            count = next(known, 1)
            cells = [" ".join(words[:count]), " ".join(words[count:])]
        else:
            try:
                cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
            except csv.Error as error:
                raise InputError(f"{file}: {one_line(line[:80])!r} cannot be read: {error}") from None
        rows.append(_Row(line, [re.sub(r"^(['\"])(.*)\1$", r"\2", cell.strip()) for cell in cells]))
    return rows


def _columns(header: list[str], rows: list[_Row], names: set[str], classes: Collection[str]) -> tuple[int, int] | None:
    """Returns the indices of the columns of the photograph and its class, or None if they are ambiguous."""
    width = len(rows[0].cells)
    hits = [sum(_file_name(row.cells[column]) in names for row in rows) for column in range(width)]
    titles = [re.sub(r"[\s_-]", "", cell.lower()) for cell in header]
    titled = [titles.index(title) for title in _PHOTOGRAPH if title in titles]  # the header is as wide as the rows
    photograph_column = next((each for each in titled if hits[each]), hits.index(max(hits)))
    candidates = [titles.index(title) for title in _CLASS if title in titles]
    candidates = [each for each in candidates if each != photograph_column]
    fitting = [each for each in candidates if all(_label(row.cells[each]) in classes for row in rows)]
    if candidates:
        return photograph_column, (fitting or candidates)[0]
    box = [cell for row in rows for cell in row.cells[2:]]
    is_boxed = width > 2 and width % 4 == 2 and all(re.fullmatch(r"-?\d+(\.\d+)?", cell) for cell in box)
    if width < 2 or (width > 2 and not (is_boxed and photograph_column == 0)):
        return None
    return photograph_column, 1 - photograph_column


def _file_name(cell: str) -> str:
    return re.split(r"[/\\]", cell)[-1]


def _label(cell: str) -> str:
    boxed = _BOX.fullmatch(cell)
    return normalized(boxed[1] if boxed else cell)
