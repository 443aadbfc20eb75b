"""What the classes of shards are called: by labels.txt beside them, else by the records, else by their numbers."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sqznet.data.sources.listing import number, same_name, shown, text_lines
from sqznet.errors import InputError

FILE = "labels.txt"
# "0:daisy", "0 daisy", "0,daisy": the number of a class before its name
_NUMBERED = re.compile(r"\s*(\d+)\s*[:,;\t ]\s*(\S.*)")


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
    file = next((folder / FILE for folder in folders if (folder / FILE).is_file()), None)
    if file is None:
        return _from_records(in_records, highest)
    named, has_numbers = _read(file)
    shifted = {label + offset: name for label, name in named.items() if label + offset >= 0}
    if has_numbers and set(range(highest + 1)) <= set(shifted):  # the file numbers its classes as the records do
        named = shifted
    lacking = next((label for label in range(highest + 1) if label not in named), None)
    if lacking is not None:
        raise InputError(
            f"{file} names {len(named)} classes and none for label {lacking}; the records' labels run to {highest}"
        )
    notes = [f"classes are from {shown(file)}"]
    texts, synsets = in_records.texts, in_records.synsets
    differ = [label for label in texts if named[label] not in (texts[label], synsets.get(label))]
    if differ:
        label = min(differ)
        notes.append(
            f"{shown(file)} names {number(len(differ), 'class', 'classes')} otherwise than the records do: {label} is "
            f"{named[label]!r} there and {texts[label]!r} here. Are its lines in the order of the labels?"
        )
    return _told_apart([named[label] for label in range(max(named) + 1)]), notes


def _from_records(in_records: InRecords, highest: int) -> tuple[list[str], list[str]]:
    known = in_records.synsets or in_records.texts
    names = _told_apart([known.get(label, str(label)) for label in range(highest + 1)])
    if not known:
        return names, [f"no {FILE} and no names in the records: the classes are called by their numbers"]
    if in_records.synsets or not in_records.twofold:
        return names, []
    label = min(in_records.twofold)
    count = number(len(in_records.twofold), "class has", "classes have")
    return names, [
        f"{count} more than one name in the records: {label} is {known[label]!r} and {in_records.twofold[label]!r}"
    ]


def _read(file: Path) -> tuple[dict[int, str], bool]:
    """Class names by label, and whether the file has the labels in it ("0:daisy") or they are the lines' places."""
    lines = [same_name(line.strip()) for line in text_lines(file)]
    while lines and not lines[-1]:
        lines.pop()
    numbered = [match for match in map(_NUMBERED.fullmatch, lines) if match]
    labels = [int(match[1]) for match in numbered]
    start = min(labels, default=0)
    if len(numbered) == len(lines) and start < 2 and sorted(labels) == list(range(start, start + len(labels))):
        return {int(match[1]): match[2] for match in numbered}, True
    for place, line in enumerate(lines):
        if not line:
            raise InputError(f"{file}, line {place + 1}, is empty; expected the name of class {place}")
    return dict(enumerate(lines)), False


def _told_apart(names: list[str]) -> list[str]:
    """Each name once: ImageNet has two classes called crane."""
    counts = Counter(names)
    return [f"{name} ({label})" if counts[name] > 1 else name for label, name in enumerate(names)]
