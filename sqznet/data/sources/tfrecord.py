"""Reads `tfrecord:PATH`: shards that another builder wrote, with the usual keys."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from sqznet.core.console import counted
from sqznet.core.errors import InputError
from sqznet.data import records
from sqznet.data.sources import class_names, examples, shard_files
from sqznet.data.sources.listing import Photo, Source, Splits, require_ascending

MOST_CLASSES = 100_000  # higher labels come from damage; names for all classes below them would exhaust the memory


@dataclass
class TfrecordSource(Source):
    in_order: ClassVar[bool] = True
    root: Path

    def read(self, photos: list[Photo]) -> Iterator[bytes]:
        require_ascending([photo.position for photo in photos])
        by_file: dict[str, set[int]] = {}
        for photo in photos:
            file, _, place = photo.key.rpartition("[")  # NAME[NUMBER]
            by_file.setdefault(file, set()).add(int(place[:-1]))
        for name, wanted in by_file.items():
            last = max(wanted)
            for number, features in enumerate(records.read(self.root / name)):
                if number in wanted:
                    yield examples.photograph(features)
                if number == last:
                    break


@dataclass
class _Listed(class_names.InRecords):
    """Describes the content of the records."""

    splits: Splits = field(default_factory=dict)
    unlabelled: Counter[str] = field(default_factory=Counter)
    named: dict[str, int] = field(default_factory=dict)  # classes with a name and no number, in order of appearance
    count: int = 0

    def relabel(self, new: Callable[[int], int]) -> None:
        for photos in self.splits.values():
            photos[:] = [dataclasses.replace(photo, label=new(photo.label)) for photo in photos]
        for names in (self.synsets, self.texts, self.second_texts):
            items = [(new(label), name) for label, name in names.items()]
            names.clear()
            names.update(items)

    @property
    def labels(self) -> set[int]:
        return {photo.label for photos in self.splits.values() for photo in photos}


def open_tfrecord(root: Path, pattern: str, label_offset: int | None) -> TfrecordSource:
    """Opens the set whose shards lie in a folder.

    Args:
        pattern: pattern that the file names must match.
        label_offset: a number that is added to every label. None requires labels that start at 0.
    """
    shards, notes = shard_files.find(root, pattern)
    listed = _Listed()
    for split, files in shards.items():
        for file in files:
            _list(file.path, root, split, listed)
    notes += [
        f"{split}: {counted(count, 'record has no label', 'records have no label')} and were left out"
        for split, count in listed.unlabelled.items()
    ]
    if not listed.splits:
        raise InputError(f"{root}: the shards have no records with a label")
    if listed.named:  # such classes are numbered in the order of their names
        names = sorted(listed.named)
        numbers = {listed.named[name]: label for label, name in enumerate(names)}
        listed.relabel(numbers.__getitem__)
        listed.texts, listed.synsets = dict(enumerate(names)), {}
    offset = _offset(root, listed.labels, label_offset)
    if offset:
        listed.relabel(lambda label: label + offset)
    folders = {file.path.parent for files in shards.values() for file in files}
    classes, class_notes = class_names.find([root, *sorted(folders)], listed, offset, max(listed.labels))
    return TfrecordSource(classes, listed.splits, notes + class_notes, root)


def _list(path: Path, root: Path, split: str, listed: _Listed) -> None:
    file = path.relative_to(root).as_posix()
    for number, features in enumerate(records.read(path)):
        where = f"{path}, record {number} (0 first)"
        if examples.photograph_key(features) is None:
            raise InputError(f"{where}: {examples.keys_in_words(features)}")
        label = examples.label(features, where)
        if split != "train" and (label is None or (isinstance(label, int) and label < 0)):  # as in ImageNet's test
            listed.unlabelled[split] += 1
            continue
        if label is None:
            raise InputError(f"{where}: {examples.keys_in_words(features)}")
        if bool(listed.named) != isinstance(label, str) and listed.count:
            before = "name" if listed.named else "number"
            raise InputError(f"{where}: its label is {label!r}; the label of each record before it is a {before}")
        if isinstance(label, str):
            label = listed.named.setdefault(label, len(listed.named))
        elif not abs(label) < MOST_CLASSES:
            raise InputError(f"{where}: its label is {label}; the maximum is {MOST_CLASSES:,}")
        name = examples.text(features, examples.FILENAME).decode(errors="surrogateescape")
        # Positions continue from split to split, so that photographs of several splits can form one split.
        listed.splits.setdefault(split, []).append(Photo(f"{file}[{number}]", label, listed.count, name))
        listed.count += 1
        if label not in listed.synsets and (synset := examples.text(features, examples.SYNSET)):
            listed.synsets[label] = examples.as_name(synset)
        text = examples.as_name(examples.text(features, examples.TEXT))
        if text and listed.texts.setdefault(label, text) != text:
            listed.second_texts[label] = text


def _offset(root: Path, labels: set[int], given: int | None) -> int:
    """Returns the number to add to every label: the given number, or 0 if the labels start at 0."""
    low, high, offset = min(labels), max(labels), given or 0
    if low + offset < 0:
        advice = "--label_offset=0" if low == 0 else f"--label_offset={-low}" if low < 0 else "--label_offset=-1"
        raise InputError(
            f"{root}: labels run from {low} to {high}, and with --label_offset={offset} from {low + offset}; sqznet's "
            f"run from 0: {advice}"
        )
    if given is None and low > 0:
        raise InputError(
            f"{root}: labels run from {low} to {high}; sqznet's run from 0. If these labels count from 1, as is usual "
            "for those that do not count from 0, add --label_offset=-1; if they count from 0 and these shards have no "
            "photograph of class 0, add --label_offset=0"
        )
    return offset
