"""Finds class names for shards of other builders.

The names come from a labels.txt, from the records, or are numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sqznet.core.console import counted
from sqznet.core.errors import InputError
from sqznet.data.sources.listing import normalized, one_line, text_lines

FILES = ("labels.txt", "label.labels.txt", "classes.txt")  # label.labels.txt is written by TensorFlow Datasets
# The label before the name: "0:daisy", "0 daisy", "0,daisy"
_NUMBERED = re.compile(r"(?P<label>\d+)\s*[:,;\t ]\s*(?P<name>\S.*)")
_NUMBERED_AFTER = re.compile(r"(?P<name>\S.*?)\s*[:,;\t]\s*(?P<label>\d+)")  # after it: "daisy:0"
_BACKGROUND = ("background", "unused background", "unused", "dummy")  # names of label 0 where classes start at 1


@dataclass
class InRecords:
    """Contains the names that the records contain, by label."""

    synsets: dict[int, str] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    second_texts: dict[int, str] = field(default_factory=dict)  # of labels that have two different texts


def find(folders: list[Path], in_records: InRecords, offset: int, highest: int) -> tuple[list[str], list[str]]:
    """Returns the class names in the order of the labels, and notes about them.

    Args:
        folders: folders that may contain a labels.txt.
        offset: the number that was added to the records' labels. The numbers in labels.txt may include this offset or
            not.
        highest: the highest label, after the offset was added.
    """
    files = (folder / name for name in FILES for folder in folders)
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return _from_records(in_records, highest)
    named, has_numbers = read(file)
    notes = [f"classes are from {one_line(file)}"]
    if not has_numbers and offset == -1 and len(named) > highest + 1:
        if named[0].lower().strip("_ ") in _BACKGROUND:
            notes.append(f"{named[0]!r}, the first name of {one_line(file)}, is not a class and was left out")
            named = {label - 1: name for label, name in named.items() if label}
        elif len(named) == highest + 2:
            raise InputError(
                f"{file} has {len(named)} names for labels from 1 to {highest + 1}: is its first line, {named[0]!r}, "
                "the name of label 0, or of label 1? Remove the line in the first case; in the second, the last line, "
                "or write the records' labels before the names (1:NAME)"
            )
    shifted = {label + offset: name for label, name in named.items() if label + offset >= 0}
    if has_numbers and set(range(highest + 1)) <= set(shifted):  # the file has the records' own labels
        named = shifted
    for label in range(highest + 1):
        if label not in named:
            raise InputError(
                f"{file} names {len(named)} classes and none for label {label}; the records' labels run to {highest}"
            )
    texts, synsets = in_records.texts, in_records.synsets
    differ = [label for label in texts if named[label] not in (texts[label], synsets.get(label))]
    if differ:
        label = min(differ)
        count = counted(len(differ), "class", "classes")
        notes.append(
            f"{one_line(file)} names {count} differently from the records: {label} is "
            f"{named[label]!r} there and {texts[label]!r} in the records. Are its lines in the order of the labels?"
        )
    return _unique([named[label] for label in range(max(named) + 1)]), notes


def _from_records(in_records: InRecords, highest: int) -> tuple[list[str], list[str]]:
    known = {**in_records.texts, **in_records.synsets}
    second = {label: text for label, text in in_records.second_texts.items() if label not in in_records.synsets}
    names = _unique([known.get(label, str(label)) for label in range(highest + 1)])
    if not known:
        return names, [f"no {FILES[0]} and no names in the records: the classes are named by their numbers"]
    if not second:
        return names, []
    label = min(second)
    count = counted(len(second), "class has", "classes have")
    return names, [f"{count} more than one name in the records: {label} is {known[label]!r} and {second[label]!r}"]


def read(file: Path) -> tuple[dict[int, str], bool]:
    """Reads class names by label. Also returns whether the file states the labels, as in "0:daisy".

    If the file does not state the labels, the line numbers are the labels.
    """
    lines = [normalized(line.strip()) for line in text_lines(file)]
    while lines and not lines[-1]:
        lines.pop()
    for pattern in (_NUMBERED, _NUMBERED_AFTER):
        numbered = {int(match["label"]): match["name"] for match in map(pattern.fullmatch, lines) if match}
        start = min(numbered, default=0)
        if numbered and start < 2 and sorted(numbered) == list(range(start, start + len(lines))):
            return numbered, True
    for place, line in enumerate(lines):
        if not line:
            raise InputError(f"{file}, line {place + 1}, is empty; expected the name of class {place}")
    return dict(enumerate(lines)), False


def _unique(names: list[str]) -> list[str]:
    """Makes the names unique. For example, ImageNet has two classes called crane."""
    counts = Counter(names)
    return [f"{name} ({label})" if counts[name] > 1 else name for label, name in enumerate(names)]
