"""Where photographs come from. Each source lists its photographs, then hands out their bytes, undecoded.

`open_source("folder:PATH", ...)` is the way in. A source holds names only, no photographs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from sqznet.data import records, synthetic
from sqznet.errors import InputError

VAL_FRACTION = 0.15  # of each class, where a source has no val split; as much again for test in a plain folder
ILSVRC_HOLDOUT_PER_CLASS = 50  # the article's own test split
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


@dataclass(frozen=True, order=True, slots=True)
class Photo:
    """One labelled photograph, not yet read."""

    key: str  # where it is, relative to its source: what rejects.csv and image/filename say
    label: int  # 0-based
    position: int = 0  # its place in a source that is read in order


Splits = dict[str, list[Photo]]


class Source(Protocol):
    classes: list[str]
    splits: Splits
    in_order: bool  # photographs are read fastest in the order listed: shards are cut from it without shuffling
    notes: list[str]  # what the user should know about how the listing came about

    def read(self, photos: list[Photo]) -> Iterator[bytes | OSError]:
        """The encoded bytes of each photograph, or why it could not be read, in the order asked for."""
        ...


@dataclass
class FolderSource:
    """Files below a folder. Splits and labels are known; the content is not."""

    root: Path
    classes: list[str]
    splits: Splits
    notes: list[str]
    in_order: bool = False

    def read(self, photos: list[Photo]) -> Iterator[bytes | OSError]:
        for photo in photos:
            try:
                yield (self.root / photo.key).read_bytes()
            except OSError as error:
                yield error


@dataclass
class SyntheticSource:
    """The built-in demo set: drawn when read."""

    seed: int
    classes: list[str]
    splits: Splits
    notes: list[str]
    in_order: bool = False

    def read(self, photos: list[Photo]) -> Iterator[bytes]:
        for photo in photos:
            yield synthetic.draw(photo.key, photo.label, self.seed)


@dataclass
class TfdsSource:
    """A prepared TensorFlow Datasets set, its images left encoded."""

    folder: Path
    classes: list[str]
    splits: Splits
    tfds_split: dict[str, str]  # ours to theirs
    notes: list[str]
    in_order: bool = True  # TFDS shuffles when it prepares a set

    def read(self, photos: list[Photo]) -> Iterator[bytes]:
        split = photos[0].key.partition("[")[0]
        first, last = photos[0].position, photos[-1].position
        assert [photo.position for photo in photos] == sorted(photo.position for photo in photos)
        wanted = {photo.position for photo in photos}
        stream = _tfds_examples(self.folder, f"{split}[{first}:{last + 1}]")
        for position, example in enumerate(stream, start=first):
            if position in wanted:
                yield example["image"]


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


def open_source(
    spec: str,
    *,
    seed: int,
    holdout_per_class: int | None = None,
    blacklist: bool = False,
    label_offset: int = 0,
) -> Source:
    """The source that `spec` names, listed and split.

    Args:
        spec: `folder:PATH`, `ilsvrc:PATH`, `tfds:NAME`, `tfrecord:PATH` or `synthetic`.
        seed: decides which photographs are held out.
        holdout_per_class: photographs of each class moved from train into a test split; None means 50 for
            ilsvrc, as in the article, and 0 elsewhere.
        blacklist: ilsvrc only: leave out the validation photographs that the devkit blacklists.
        label_offset: tfrecord only: added to every label.

    Raises:
        InputError: an unknown source, a missing path, or a listing that does not hold together.
    """
    kind, _, where = spec.partition(":")
    openers = {
        "folder": lambda: _open_folder(_existing(where, spec), seed),
        "ilsvrc": lambda: _open_ilsvrc(_existing(where, spec), blacklist),
        "tfds": lambda: _open_tfds(where, seed),
        "tfrecord": lambda: _open_tfrecord(_existing(where, spec), label_offset),
        "synthetic": lambda: _open_synthetic(seed),
    }
    if kind not in openers or (kind != "synthetic" and not where):
        raise InputError(
            f"unknown source {spec!r}; expected folder:PATH, ilsvrc:PATH, tfds:NAME, tfrecord:PATH or synthetic"
        )
    if blacklist and kind != "ilsvrc":
        raise InputError(f"--blacklist is about ILSVRC's validation set; {spec!r} has none")
    if label_offset and kind != "tfrecord":
        raise InputError(f"--label_offset is for tfrecord: sources; labels of {spec!r} already start at 0")
    source = openers[kind]()
    if holdout_per_class is None:
        holdout_per_class = ILSVRC_HOLDOUT_PER_CLASS if kind == "ilsvrc" else 0
    source.splits = {split: photos for split, photos in source.splits.items() if photos}
    if holdout_per_class:
        source.splits = hold_out(source.splits, source.classes, holdout_per_class, seed)
    if "val" not in source.splits and source.splits.get("train"):
        source.splits = _move(source.splits, "val", lambda count: round(count * VAL_FRACTION), [seed, 1])
        source.notes.append(f"no val split: {VAL_FRACTION:.0%} of each class of train took its place")
    _check(source, spec)
    return source


def hold_out(splits: Splits, classes: list[str], per_class: int, seed: int) -> Splits:
    """Moves `per_class` photographs of each class from train to test, chosen by seed (the article, REFERENCE)."""
    if "test" in splits:
        raise InputError("the source has a test split of its own: leave out --holdout_per_class")
    counts = Counter(photo.label for photo in splits.get("train", []))
    for label, name in enumerate(classes):
        if counts[label] <= per_class:
            raise InputError(
                f"class {name!r} has {counts[label]} training photographs; holding out {per_class} of each class "
                "would leave none to train on: lower --holdout_per_class"
            )
    return _move(splits, "test", lambda count: per_class, [seed])


def _move(splits: Splits, to: str, share: Callable[[int], int], seed: list[int]) -> Splits:
    """Moves `share(n)` of the n photographs of each class from train to another split; both keep their order."""
    by_label: dict[int, list[Photo]] = {}
    for photo in splits["train"]:
        by_label.setdefault(photo.label, []).append(photo)
    moved: set[Photo] = set()
    for label, photos in sorted(by_label.items()):
        rng = np.random.default_rng([*seed, label])
        moved.update(photos[index] for index in rng.choice(len(photos), size=share(len(photos)), replace=False))
    return {
        **splits,
        "train": [photo for photo in splits["train"] if photo not in moved],
        to: [photo for photo in splits["train"] if photo in moved],
    }


def _check(source: Source, spec: str) -> None:
    if not source.splits.get("train"):
        raise InputError(f"{spec} has no training photographs")
    for split, photos in source.splits.items():
        counts = Counter(photo.label for photo in photos)
        empty = [name for label, name in enumerate(source.classes) if not counts[label]]
        if split == "train" and empty:
            raise InputError(
                f"{spec}: class {empty[0]!r} has no photographs in train"
                + (f" (nor have {len(empty) - 1} other classes)" if len(empty) > 1 else "")
                + "; add some, or remove its folder"
            )
        if empty:
            source.notes.append(f"{split}: {len(empty)} of {len(source.classes)} classes have no photographs")
    if len(source.classes) < 2:
        raise InputError(f"{spec} has one class ({source.classes[0]!r}); a classifier needs two or more")


def _existing(where: str, spec: str) -> Path:
    path = Path(where).expanduser()
    if not path.is_dir():
        raise InputError(f"no such folder: {path} (from --source={spec})")
    return path


# folder: <split>/<class>/* or <class>/*


def _subfolders(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))


def _files(path: Path) -> list[Path]:
    return sorted(each for each in path.rglob("*") if each.is_file() and not each.name.startswith("."))


def _open_folder(root: Path, seed: int) -> FolderSource:
    top = _subfolders(root)
    if not top:
        raise InputError(f"{root} has no folders in it; expected train/<class>/ and val/<class>/, or <class>/")
    if all(each.name.lower() in SPLIT_FOLDERS for each in top):
        return _open_split_folder(root, top)
    if any(each.name.lower() in ("train", "training") for each in top):
        strangers = [each.name for each in top if each.name.lower() not in SPLIT_FOLDERS]
        raise InputError(f"{root} has {', '.join(strangers)} beside train; is it a class? Move it out, or into train/")
    photos = [
        Photo(file.relative_to(root).as_posix(), label) for label, folder in enumerate(top) for file in _files(folder)
    ]
    # As many for test as for val, of what is left after val has been taken.
    splits = _move({"train": photos}, "val", lambda count: round(count * VAL_FRACTION), [seed, 1])
    splits = _move(splits, "test", lambda count: round(count * VAL_FRACTION / (1 - VAL_FRACTION)), [seed, 2])
    note = f"no train/ and val/ folders: {VAL_FRACTION:.0%} of each class went to val, as many to test"
    return FolderSource(root, [each.name for each in top], splits, [note])


def _open_split_folder(root: Path, split_folders: list[Path]) -> FolderSource:
    named = {SPLIT_FOLDERS[each.name.lower()]: each for each in split_folders}
    if len(named) < len(split_folders):
        raise InputError(f"{root} has two folders for one split: {', '.join(each.name for each in split_folders)}")
    if "train" not in named:
        raise InputError(f"{root} has no train/ folder beside {', '.join(each.name for each in split_folders)}")
    classes = [each.name for each in _subfolders(named["train"])]
    splits: Splits = {}
    for split, folder in named.items():
        names = [each.name for each in _subfolders(folder)]
        strangers = sorted(set(names) - set(classes))
        if strangers:
            raise InputError(f"{folder / strangers[0]}: no class of that name in {named['train']}")
        splits[split] = [
            Photo(file.relative_to(root).as_posix(), label)
            for label, name in enumerate(classes)
            if name in names
            for file in _files(folder / name)
        ]
    return FolderSource(root, classes, splits, [])


# ilsvrc: the CLS-LOC layout


def _open_ilsvrc(root: Path, blacklist: bool) -> FolderSource:
    devkit = _find(root, "map_clsloc.txt").parent
    classes_by_id, wnids = {}, []
    for line in _lines(devkit / "map_clsloc.txt"):  # "n02119789 1 kit_fox"
        fields = line.split()
        if len(fields) < 2 or not fields[1].isdigit():
            raise InputError(f"{devkit / 'map_clsloc.txt'}: expected 'WNID ID NAME', found {line!r}")
        classes_by_id[int(fields[1])] = fields[0]
        wnids.append(fields[0])
    classes = sorted(wnids)  # the usual order of ImageNet's 1,000 classes; the devkit's own ids run differently
    label_of = {wnid: label for label, wnid in enumerate(classes)}

    lists = root / "ImageSets" / "CLS-LOC"
    train = []
    for line in _lines(_required(lists / "train_cls.txt")):  # "n01440764/n01440764_10026 1"
        name = line.split()[0]
        wnid = name.partition("/")[0]
        if ".." in name.split("/"):
            raise InputError(f"{lists / 'train_cls.txt'}: {line!r} leads out of the folder")
        if wnid not in label_of:
            raise InputError(f"{lists / 'train_cls.txt'}: {line!r} names a class that map_clsloc.txt does not have")
        train.append(Photo(f"Data/CLS-LOC/train/{name}.JPEG", label_of[wnid]))

    truth_file = _find(root, "ILSVRC2015_clsloc_validation_ground_truth.txt")
    truth = [int(line) for line in _lines(truth_file)]
    names = [line.split()[0] for line in _lines(_required(lists / "val.txt"))]  # "ILSVRC2012_val_00000001 1"
    if any("/" in name for name in names):
        raise InputError(f"{lists / 'val.txt'}: expected bare names such as ILSVRC2012_val_00000001")
    if len(names) != len(truth):
        raise InputError(f"{lists / 'val.txt'} lists {len(names)} photographs, {truth_file} has {len(truth)} labels")
    excluded: set[int] = set()
    notes = []
    if blacklist:
        file = _find(root, "ILSVRC2015_clsloc_validation_blacklist.txt")
        excluded = {int(line) for line in _lines(file)}
    val = []
    for number, (name, class_id) in enumerate(zip(names, truth, strict=True), start=1):
        if class_id not in classes_by_id:
            raise InputError(f"{truth_file}, line {number}: class {class_id} is not in map_clsloc.txt")
        if number not in excluded:
            val.append(Photo(f"Data/CLS-LOC/val/{name}.JPEG", label_of[classes_by_id[class_id]]))
    if blacklist:
        notes.append(f"val: {len(names) - len(val)} blacklisted photographs excluded ({file.name})")
    return FolderSource(root, classes, {"train": train, "val": val}, notes)


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.strip()]


def _required(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path} is missing: expected the ILSVRC CLS-LOC layout")
    return path


def _find(root: Path, name: str) -> Path:
    """The devkit is unpacked in different places; its files have unmistakable names."""
    for folder in (root, *(each for each in _subfolders(root) if each.name != "Data")):
        for found in [folder / name, *sorted(folder.glob(f"*/{name}")), *sorted(folder.glob(f"*/*/{name}"))]:
            if found.is_file():
                return found
    raise InputError(f"{name} is nowhere below {root}: put the ILSVRC devkit there")


# tfds: a prepared TensorFlow Datasets set


def _tfds_examples(folder: Path, split: str) -> Iterator[dict]:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    in_order = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    dataset = builder.as_dataset(
        split=split, decoders={"image": tfds.decode.SkipDecoding()}, shuffle_files=False, read_config=in_order
    )
    yield from dataset.as_numpy_iterator()


def _open_tfds(name: str, seed: int) -> Source:
    import tensorflow_datasets as tfds

    path = Path(name).expanduser()
    if path.is_dir() and not (path / "dataset_info.json").is_file():
        # tfds.ImageFolder: <split>/<class>/*, nothing prepared; its files can be read as they lie.
        return _open_folder(path, seed)
    try:
        builder = tfds.builder_from_directory(path) if path.is_dir() else tfds.builder(name)
        builder.download_and_prepare()
    except (tfds.core.DatasetNotFoundError, AssertionError, ValueError, OSError) as error:
        raise InputError(f"tfds cannot provide {name!r}: {type(error).__name__}: {error}") from error
    features = builder.info.features
    if not {"image", "label"} <= set(features) or not hasattr(features["label"], "names"):
        raise InputError(f"tfds {name!r} is no image-classification set: its features are {', '.join(features)}")
    ours = {SPLIT_FOLDERS[split]: split for split in builder.info.splits if split in SPLIT_FOLDERS}
    splits: Splits = {}
    notes = []
    for split, theirs in ours.items():
        labels = [int(example["label"]) for example in _tfds_examples(Path(builder.data_dir), theirs)]
        if min(labels) < 0:
            notes.append(f"{theirs}: not labelled, left out")
            continue
        splits[split] = [Photo(f"{theirs}[{index}]", label, index) for index, label in enumerate(labels)]
    return TfdsSource(Path(builder.data_dir), list(features["label"].names), splits, ours, notes)


# tfrecord: shards of other builders


def _open_tfrecord(root: Path, label_offset: int) -> TfrecordSource:
    splits: Splits = {}
    synsets: dict[int, str] = {}
    for path in _files(root):
        split = SPLIT_FOLDERS.get(path.name.partition("-")[0])
        if split is None or path.parent != root:
            continue
        for number, features in enumerate(records.read(path)):
            if not features["image/class/label"].int64_list.value or not features["image/encoded"].bytes_list.value:
                raise InputError(f"{path}, record {number}: lacks image/encoded or image/class/label")
            label = features["image/class/label"].int64_list.value[0] + label_offset
            photos = splits.setdefault(split, [])
            photos.append(Photo(f"{path.name}[{number}]", label, len(photos)))
            if features["image/class/synset"].bytes_list.value:
                synsets[label] = features["image/class/synset"].bytes_list.value[0].decode()
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
    classes = _lines(names) if names.is_file() else known
    if len(classes) <= max(labels):
        raise InputError(f"{names} names {len(classes)} classes; the records' labels run to {max(labels)}")
    return TfrecordSource(root, classes, splits, [])


# synthetic: the demo set


def _open_synthetic(seed: int) -> SyntheticSource:
    splits = {
        split: [
            Photo(f"{split}/{name}/{index:05d}", label)
            for label, name in enumerate(synthetic.CLASSES)
            for index in range(count)
        ]
        for split, count in synthetic.PER_CLASS.items()
    }
    return SyntheticSource(seed, list(synthetic.CLASSES), splits, [])
