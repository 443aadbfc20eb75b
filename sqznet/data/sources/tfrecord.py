"""`tfrecord:PATH`: shards that another ImageNet builder wrote with the usual keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqznet.data import records
from sqznet.data.sources.listing import SPLIT_FOLDERS, Photo, Splits, files, lines
from sqznet.errors import InputError

MOST_CLASSES = 100_000  # a label beyond it is damage, and names for all below it would not fit the memory


@dataclass
class TfrecordSource:
    """Shards that another ImageNet builder wrote with the usual keys."""

    root: Path
    classes: list[str]
    splits: Splits
    notes: list[str]
    in_order: bool = True

    def read(self, photos: list[Photo]) -> Iterator[bytes]:
        assert [photo.position for photo in photos] == sorted(photo.position for photo in photos)
        by_file: dict[str, set[int]] = {}
        for photo in photos:
            by_file.setdefault(photo.key.partition("[")[0], set()).add(int(photo.key.partition("[")[2][:-1]))
        for file, wanted in by_file.items():
            for number, features in enumerate(records.read(self.root / file)):
                if number in wanted:
                    yield features["image/encoded"].bytes_list.value[0]


def open_tfrecord(root: Path, label_offset: int) -> TfrecordSource:
    splits: Splits = {}
    synsets: dict[int, str] = {}
    for path in files(root):
        split = SPLIT_FOLDERS.get(path.name.partition("-")[0])
        if split is None or path.parent != root:
            continue
        for number, features in enumerate(records.read(path)):
            if not features["image/class/label"].int64_list.value or not features["image/encoded"].bytes_list.value:
                raise InputError(f"{path}, record {number}: lacks image/encoded or image/class/label")
            label = features["image/class/label"].int64_list.value[0] + label_offset
            if not abs(label) < MOST_CLASSES:
                raise InputError(f"{path}, record {number}: its label is {label}, and {MOST_CLASSES:,} is the most")
            photos = splits.setdefault(split, [])
            photos.append(Photo(f"{path.name}[{number}]", label, len(photos)))
            if features["image/class/synset"].bytes_list.value:
                synsets[label] = features["image/class/synset"].bytes_list.value[0].decode(errors="replace")
    if not splits:
        raise InputError(f"{root} has no files named train-*, validation-*, val-* or test-*")
    labels = {photo.label for photos in splits.values() for photo in photos}
    if min(labels) != 0:
        raise InputError(
            f"{root}: labels run from {min(labels)} to {max(labels)}; sqznet's run from 0. "
            f"If they count from {min(labels)}, add --label_offset={label_offset - min(labels)}"
        )
    names = root / "labels.txt"
    known = [synsets.get(label, str(label)) for label in range(max(labels) + 1)]
    classes = lines(names) if names.is_file() else known
    if len(classes) <= max(labels):
        raise InputError(f"{names} names {len(classes)} classes; the records' labels run to {max(labels)}")
    return TfrecordSource(root, classes, splits, [])
