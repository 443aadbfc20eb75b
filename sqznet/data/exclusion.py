"""Takes photographs out of a source before its build: those that a CSV file of `data --report` marks."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
from collections import Counter
from pathlib import Path

from sqznet.core.errors import InputError
from sqznet.data.sources import Source

SPLIT, FILE, EXCLUDE = "split", "file", "exclude"  # columns
YES, NO = "yes", "no"
Names = set[tuple[str, str]]  # split and file of each photograph


def read(path: Path) -> Names:
    """Returns split and file of the rows whose column `exclude` is yes. The other columns are not used.

    Raises:
        InputError: there is no such file, it lacks a column, or a value of `exclude` is neither yes nor no.
    """
    excluded = set()
    try:
        # Spreadsheets write a mark (BOM) at the beginning.
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = csv.DictReader(file)
            missing = [column for column in (SPLIT, FILE, EXCLUDE) if column not in (rows.fieldnames or ())]
            if missing:
                raise InputError(
                    f"{path} has no column {missing[0]!r}; expected {SPLIT}, {FILE} and {EXCLUDE}, as in the "
                    "duplicates.csv of python -m sqznet.data --report"
                )
            for row in rows:
                if row[EXCLUDE] not in (YES, NO) or not row[SPLIT] or not row[FILE]:
                    raise InputError(
                        f"{path}, line {rows.line_num}: {EXCLUDE} is {row[EXCLUDE]!r}, {SPLIT} is {row[SPLIT]!r} and "
                        f"{FILE} is {row[FILE]!r}; expected {YES} or {NO}, and the names of a split and of a file"
                    )
                if row[EXCLUDE] == YES:
                    excluded.add((row[SPLIT], row[FILE]))
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except (OSError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from None
    return excluded


def sha256(excluded: Names) -> str:
    """Identifies a set of photographs."""
    lines = (f"{split}\0{file}\n" for split, file in sorted(excluded))
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def without(source: Source, excluded: Names, path: Path) -> Source:
    """Returns the source without the photographs in `excluded`.

    Args:
        path: of the CSV file, for messages.

    Raises:
        InputError: a file is not in its split, several photographs of the split have this name, or a class of train
            loses all photographs.
    """
    known = Counter((split, photo.filename) for split, photos in source.splits.items() for photo in photos)
    unknown = sorted(excluded - known.keys())
    if unknown:
        split, file = unknown[0]
        raise InputError(
            f"{path}: {len(unknown):,} of {len(excluded):,} photographs are not in the source, first {file!r} of "
            f"{split}; expected the names that python -m sqznet.data --report writes for this source"
        )
    for split, file in sorted(excluded):
        if known[split, file] > 1:
            raise InputError(
                f"{path}: {known[split, file]:,} photographs of {split} have the name {file!r}; expected a name of one "
                f"photograph: mark it with {EXCLUDE}={NO}"
            )
    splits = {
        split: kept
        for split, photos in source.splits.items()
        if (kept := [photo for photo in photos if (split, photo.filename) not in excluded])
    }
    left = {photo.label for photo in splits.get("train", [])}
    for photo in source.splits.get("train", []):
        if photo.label not in left:
            raise InputError(
                f"{path} excludes all photographs of class {source.classes[photo.label]!r} in train: mark some with "
                f"{EXCLUDE}={NO}"
            )
    return dataclasses.replace(source, splits=splits)
