"""Takes photographs out of a source before its build: those that a CSV file of `data --report` marks."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
from pathlib import Path

from sqznet.core.errors import InputError
from sqznet.data.sources import Source

FILE, EXCLUDE = "file", "exclude"  # columns
YES, NO = "yes", "no"


def read(path: Path) -> set[str]:
    """Returns the files whose column `exclude` is yes. The other columns are not used.

    Raises:
        InputError: there is no such file, it lacks a column, or a value of `exclude` is neither yes nor no.
    """
    excluded = set()
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = csv.DictReader(file)
            missing = [column for column in (FILE, EXCLUDE) if column not in (rows.fieldnames or ())]
            if missing:
                raise InputError(
                    f"{path} has no column {missing[0]!r}; expected {FILE} and {EXCLUDE}, as in the duplicates.csv of "
                    "python -m sqznet.data --report"
                )
            for row in rows:
                if row[EXCLUDE] not in (YES, NO):
                    raise InputError(
                        f"{path}, line {rows.line_num}: {EXCLUDE} is {row[EXCLUDE]!r}; expected {YES} or {NO}"
                    )
                if row[EXCLUDE] == YES:
                    excluded.add(row[FILE])
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except (OSError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from None
    return excluded


def sha256(files: set[str]) -> str:
    """Identifies a set of files."""
    return hashlib.sha256("\n".join(sorted(files)).encode(errors="surrogateescape")).hexdigest()


def without(source: Source, excluded: set[str], path: Path) -> Source:
    """Returns the source without the photographs in `excluded`.

    Args:
        path: of the CSV file, for messages.

    Raises:
        InputError: a file is not in the source, or a class of train loses all photographs.
    """
    known = {photo.filename for photos in source.splits.values() for photo in photos}
    if unknown := sorted(excluded - known):
        raise InputError(
            f"{path}: {len(unknown):,} of {len(excluded):,} files are not in the source, first {unknown[0]!r}; "
            "expected the names that python -m sqznet.data --report writes for this source"
        )
    splits = {
        split: kept
        for split, photos in source.splits.items()
        if (kept := [photo for photo in photos if photo.filename not in excluded])
    }
    left = {photo.label for photo in splits.get("train", [])}
    for photo in source.splits.get("train", []):
        if photo.label not in left:
            raise InputError(
                f"{path} excludes all photographs of class {source.classes[photo.label]!r} in train: mark some with "
                f"{EXCLUDE}={NO}"
            )
    return dataclasses.replace(source, splits=splits)
