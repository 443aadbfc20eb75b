"""`tfrecord:PATH`: shards that another builder wrote, with the usual keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqznet.core.console import counted
from sqznet.core.errors import InputError
from sqznet.data import records
from sqznet.data.sources import class_names, examples, shard_files
from sqznet.data.sources.listing import Photo, Splits, require_rising

MOST_CLASSES = 100_000  # a label beyond it is damage, and names for all below it would not fit the memory


@dataclass
class TfrecordSource:
    """Shards that another builder wrote."""

    root: Path
    classes: list[str]
    splits: Splits
    notes: list[str]
    in_order: bool = True

    def read(self, photos: list[Photo]) -> Iterator[bytes]:
        require_rising([photo.position for photo in photos])
        by_file: dict[str, set[int]] = {}
        for photo in photos:
            file, _, number = photo.key.rpartition("[")
            by_file.setdefault(file, set()).add(int(number[:-1]))
        for name, wanted in by_file.items():
            last = max(wanted)
            for place, features in enumerate(records.read(self.root / name)):
                if place in wanted:
                    yield examples.photograph(features)
                if place == last:
                    break


@dataclass
class _Listed:
    """What the records say, before the labels are shifted."""

    splits: Splits = field(default_factory=dict)
    synsets: dict[int, str] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    twofold: dict[int, str] = field(default_factory=dict)  # another text of a label that has one
    unlabelled: Counter[str] = field(default_factory=Counter)
    named: dict[str, int] = field(default_factory=dict)  # classes that have names and no numbers, as they came
    count: int = 0


def open_tfrecord(root: Path, pattern: str, label_offset: int | None) -> TfrecordSource:
    """The set whose shards lie in a folder.

    Args:
        pattern: of the file names that are meant.
        label_offset: added to every label; None where the labels have to start at 0.
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
    if listed.named:
        _number_by_name(listed)
    offset = _offset(root, listed, label_offset)
    splits = {
        split: [Photo(photo.key, photo.label + offset, photo.position, photo.name) for photo in photos]
        for split, photos in listed.splits.items()
    }
    labels = {photo.label for photos in splits.values() for photo in photos}
    folders = {file.path.parent for files in shards.values() for file in files}
    in_records = class_names.InRecords(
        *(
            {label + offset: name for label, name in names.items()}
            for names in (listed.synsets, listed.texts, listed.twofold)
        )
    )
    classes, said = class_names.find([root, *sorted(folders)], in_records, offset, max(labels))
    return TfrecordSource(root, classes, splits, notes + said)


def _list(path: Path, root: Path, split: str, listed: _Listed) -> None:
    file = path.relative_to(root).as_posix()
    for place, features in enumerate(records.read(path)):
        where = f"{path}, record {place} (0 first)"
        if examples.photograph_key(features) is None:
            raise InputError(f"{where}: {examples.what_is_there(features)}")
        label = examples.label(features, where)
        if split != "train" and (label is None or (isinstance(label, int) and label < 0)):  # ImageNet's test, say
            listed.unlabelled[split] += 1
            continue
        if label is None:
            raise InputError(f"{where}: {examples.what_is_there(features)}")
        if bool(listed.named) != isinstance(label, str) and listed.count:
            raise InputError(
                f"{where}: its label is {label!r}; in those before it, a {'name' if listed.named else 'number'}"
            )
        if isinstance(label, str):
            label = listed.named.setdefault(label, len(listed.named))
        elif not abs(label) < MOST_CLASSES:
            raise InputError(f"{where}: its label is {label}, and {MOST_CLASSES:,} is the most")
        name = examples.text(features, examples.FILENAME).decode(errors="surrogateescape")
        # Positions run over all splits, so that photographs of several can make up one.
        listed.splits.setdefault(split, []).append(Photo(f"{file}[{place}]", label, listed.count, name))
        listed.count += 1
        if label not in listed.synsets and (synset := examples.text(features, examples.SYNSET)):
            listed.synsets[label] = examples.as_name(synset)
        text = examples.as_name(examples.text(features, examples.TEXT))
        if text and listed.texts.setdefault(label, text) != text:
            listed.twofold[label] = text


def _number_by_name(listed: _Listed) -> None:
    """Gives classes that have only names their labels, in the order of the names."""
    numbers = {listed.named[name]: label for label, name in enumerate(sorted(listed.named))}
    listed.splits = {
        split: [Photo(photo.key, numbers[photo.label], photo.position, photo.name) for photo in photos]
        for split, photos in listed.splits.items()
    }
    listed.texts, listed.synsets = dict(enumerate(sorted(listed.named))), {}


def _offset(root: Path, listed: _Listed, given: int | None) -> int:
    """What is added to every label: what was given, or 0 where they start there."""
    labels = {photo.label for photos in listed.splits.values() for photo in photos}
    low, high = min(labels), max(labels)
    if low + (given or 0) < 0:
        advice = "--label_offset=0" if low == 0 else f"--label_offset={-low}" if low < 0 else "--label_offset=-1"
        raise InputError(
            f"{root}: labels run from {low} to {high}, and with --label_offset={given or 0} from {low + (given or 0)}; "
            f"sqznet's run from 0: {advice}"
        )
    if given is None and low > 0:
        raise InputError(
            f"{root}: labels run from {low} to {high}; sqznet's run from 0. If they count from 1, as those of most "
            "builders do that do not count from 0, add --label_offset=-1; if they count from 0, and these shards have "
            f"no photograph of class 0, add --label_offset=0"
        )
    return given or 0
