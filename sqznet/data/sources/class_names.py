"""What the classes of shards are called: by labels.txt or its like beside them, else by the records or by number."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sqznet.core.console import counted
from sqznet.core.errors import InputError
from sqznet.data.sources.listing import same_name, shown, text_lines

FILES = ("labels.txt", "label.labels.txt", "classes.txt")  # the second is of TensorFlow Datasets
# "0:daisy", "0 daisy", "0,daisy": the number of a class before its name
_NUMBERED = re.compile(r"(?P<label>\d+)\s*[:,;\t ]\s*(?P<name>\S.*)")
_NUMBERED_AFTER = re.compile(r"(?P<name>\S.*?)\s*[:,;\t]\s*(?P<label>\d+)")  # "daisy:0"
_BACKGROUND = ("background", "unused background", "unused", "dummy")  # what label 0 is called where classes begin at 1


@dataclass(frozen=True)
class InRecords:
    """Names by label, as the records have them."""

    synsets: dict[int, str]
    texts: dict[int, str]
    twofold: dict[int, str]  # another text of a label that has one


def find(folders: list[Path], in_records: InRecords, offset: int, highest: int) -> tuple[list[str], list[str]]:
    """The names of the classes in the order of their labels, and notes about them.

    Args:
        folders: where labels.txt may be.
        offset: what was added to the records' labels; a labels.txt with numbers may have it in them, or not.
        highest: label.
    """
    files = (folder / name for name in FILES for folder in folders)
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return _from_records(in_records, highest)
    named, has_numbers = read(file)
    notes = [f"classes are from {shown(file)}"]
    if not has_numbers and offset == -1 and len(named) > highest + 1:
        if named[0].lower().strip("_ ") in _BACKGROUND:
            notes.append(f"{named[0]!r}, the first name of {shown(file)}, is of no class and was left out")
            named = {label - 1: name for label, name in named.items() if label}
        elif len(named) == highest + 2:
            raise InputError(
                f"{file} has {len(named)} names for labels from 1 to {highest + 1}: is its first line, {named[0]!r}, "
                "the name of label 0, or of label 1? Remove the line in the first case; in the second, the last line, "
                "or write the records' labels before the names (1:NAME)"
            )
    shifted = {label + offset: name for label, name in named.items() if label + offset >= 0}
    if has_numbers and set(range(highest + 1)) <= set(shifted):  # the file numbers its classes as the records do
        named = shifted
    lacking = next((label for label in range(highest + 1) if label not in named), None)
    if lacking is not None:
        raise InputError(
            f"{file} names {len(named)} classes and none for label {lacking}; the records' labels run to {highest}"
        )
    texts, synsets = in_records.texts, in_records.synsets
    differ = [label for label in texts if named[label] not in (texts[label], synsets.get(label))]
    if differ:
        label = min(differ)
        notes.append(
            f"{shown(file)} names {counted(len(differ), 'class', 'classes')} otherwise than the records do: {label} is "
            f"{named[label]!r} there and {texts[label]!r} here. Are its lines in the order of the labels?"
        )
    return _told_apart([named[label] for label in range(max(named) + 1)]), notes


def _from_records(in_records: InRecords, highest: int) -> tuple[list[str], list[str]]:
    known = {**in_records.texts, **in_records.synsets}
    twofold = {label: text for label, text in in_records.twofold.items() if label not in in_records.synsets}
    names = _told_apart([known.get(label, str(label)) for label in range(highest + 1)])
    if not known:
        return names, [f"no {FILES[0]} and no names in the records: the classes are called by their numbers"]
    if not twofold:
        return names, []
    label = min(twofold)
    count = counted(len(twofold), "class has", "classes have")
    return names, [f"{count} more than one name in the records: {label} is {known[label]!r} and {twofold[label]!r}"]


def read(file: Path) -> tuple[dict[int, str], bool]:
    """Class names by label, and whether the file has the labels in it ("0:daisy") or they are the lines' places."""
    lines = [same_name(line.strip()) for line in text_lines(file)]
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


def _told_apart(names: list[str]) -> list[str]:
    """Each name once: ImageNet has two classes called crane."""
    counts = Counter(names)
    return [f"{name} ({label})" if counts[name] > 1 else name for label, name in enumerate(names)]
