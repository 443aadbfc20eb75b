"""Reads `folder:PATH`: folders <split>/<class>/* or <class>/*. For <class>/*, the seed determines the splits."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqznet.core.console import counted
from sqznet.core.errors import InputError
from sqznet.data.manifest import SPLITS
from sqznet.data.sources import flat, listing, walk
from sqznet.data.sources.listing import Photo, Source, Splits, normalized, one_line, split_of
from sqznet.data.sources.walk import Walk

EXPECTED = "expected train/<class>/ and val/<class>/, or <class>/"
DRAWN = "no train/ and val/ folders"  # the beginning of the note about a split by seed


@dataclass
class FolderSource(Source):
    root: Path

    def read(self, photos: list[Photo]) -> Iterator[bytes | OSError]:
        if not self.root.is_dir():  # otherwise each photograph would be rejected, and the set incomplete
            raise InputError(f"no such folder on {socket.gethostname()}: {self.root}; every worker has to see it")
        for photo in photos:
            try:
                yield (self.root / photo.key).read_bytes()
            except OSError as error:
                yield error


def open_folder(root: Path, seed: int, draw_test: bool = True) -> FolderSource:
    """Lists a folder of photographs.

    If the folder has no splits, draws a val split, and with `draw_test` a test split.
    """
    reading = Walk(root)
    base = _skip_repeated_levels(reading, root)
    top, loose = reading.entries(base)
    if not top:
        photographs = walk.are_photographs(loose)
        but = f", but {counted(len(photographs), 'photograph')}" if photographs else ""
        raise InputError(f"{base} has no folders in it{but}; {EXPECTED}")
    splits_of = listing.splits_among([folder.name for folder in top])
    others = [folder.name for folder in top if folder.name not in splits_of]
    if not splits_of:
        source = _open_class_folders(reading, base, top, seed, draw_test)
    elif others:
        named = next(folder.name for folder in top if folder.name in splits_of)
        raise InputError(
            f"{base} has {', '.join(others)} beside {named}; is it a class? Move it out, or into {named}/. "
            f"(Is {named!r} a class? Then make the splits: train/{named}/, train/{others[0]}/, ...)"
        )
    else:
        source = _open_split_folders(reading, base, top, splits_of)
    _note_loose(reading, loose)
    notes = [] if base == root else [f"{one_line(base)} was read: it is all that {one_line(root)} holds"]
    source.notes = notes + source.notes + reading.notes()
    return source


def _open_class_folders(reading: Walk, base: Path, folders: list[Path], seed: int, draw_test: bool) -> FolderSource:
    by_name = _by_name(folders)
    for folder in folders:
        for inner in listing.splits_among(walk.names_in(folder)[0]):
            raise InputError(
                f"{folder / inner}: a folder named like a split inside a class; expected {inner}/{folder.name}/, the "
                "split outside. Swap the two levels, or rename the folder if it is not a split"
            )
    keys = _photographs_by_class(reading, by_name)
    photos = [Photo(key, label) for label, name in enumerate(by_name) for key in keys[name]]
    _require_photographs(reading.root, list(by_name), {"train": photos})
    splits = listing.draw_val({"train": photos}, [seed, 1])
    share = f" ({100 * listing.VAL_FRACTION:.0f} % of each class)" if len(splits["val"]) > len(by_name) else ""
    note = f"{DRAWN}: {counted(len(splits['val']), 'photograph')}{share} went to val"
    if draw_test:  # as many as val has, of the photographs that remain
        splits = listing.move(
            splits, "test", lambda count: round(count * listing.VAL_FRACTION / (1 - listing.VAL_FRACTION)), [seed, 2]
        )
        note += f", {counted(len(splits['test']), 'photograph')} to test"
        if split_of(base.name):
            note += f". {one_line(base)} is named like a split: --test_files='*' makes one split of it"
    return FolderSource(list(by_name), splits, [note] if splits["val"] else [], reading.root)


def _open_split_folders(reading: Walk, base: Path, folders: list[Path], splits_of: dict[str, str]) -> FolderSource:
    named: dict[str, Path] = {}
    for folder in folders:
        split = splits_of[folder.name]
        if split in named:
            raise InputError(
                f"{base} has two folders for one split: {named[split].name}, {folder.name}; expected one, {split}/, "
                "with a folder for each class in it"
            )
        named[split] = folder
    notes: list[str] = []
    keys: dict[str, dict[str, list[str]]] = {}  # split -> class -> keys
    for split in (each for each in SPLITS if each in named):
        classes = keys.get("train", {})
        folder = _skip_repeated_levels(reading, named[split], split, classes)
        if folder != named[split]:
            notes.append(f"{split} was read from {one_line(folder)}: it is all that {one_line(named[split])} holds")
        inside, loose = reading.entries(folder)
        flat_folder = flat.folder_of(reading, folder, inside, loose, classes)
        if flat_folder is not None:
            keys[split], note = flat.read(reading, flat_folder, named[split], split, classes)
            notes += [note] if note else []
            continue
        by_name = _by_name(inside)
        _require_no_splits(folder, by_name, split)
        _require_classes_of_train(folder, by_name, classes, named.get("train"))
        keys[split] = _photographs_by_class(reading, by_name)
        _note_loose(reading, loose)
    names = sorted({name for by_class in keys.values() for name in by_class})
    splits = {
        split: [Photo(key, label) for label, name in enumerate(names) for key in by_class.get(name, [])]
        for split, by_class in keys.items()
    }
    _require_photographs(reading.root, names, splits)
    return FolderSource(names, splits, notes, reading.root)


def _skip_repeated_levels(reading: Walk, folder: Path, split: str | None = None, classes: Collection[str] = ()) -> Path:
    """Skips levels that contain one folder and nothing else, as in photos/photos/cat or training_set/training_set/cats.

    Args:
        split: the split that the folder is named after. Folders of other splits in this folder are not entered.
        classes: names of class folders. Class folders are not entered.
    """
    while True:
        inside, loose = reading.entries(folder)
        if len(inside) != 1 or walk.are_photographs(loose) or normalized(inside[0].name) in classes:
            return folder
        deeper, files = reading.entries(inside[0])
        if not deeper or walk.are_photographs(files) or split_of(inside[0].name) not in (None, split):
            return folder
        folder = inside[0]


def _by_name(folders: list[Path]) -> dict[str, Path]:
    """Sorts class folders by class name."""
    by_name: dict[str, Path] = {}
    for folder in folders:
        other = by_name.setdefault(normalized(folder.name), folder)
        if other != folder:
            raise InputError(
                f"{other} and {folder} have one name in two spellings (its accents as one character or as two): put "
                "their photographs into one of them"
            )
    return dict(sorted(by_name.items()))


def _photographs_by_class(reading: Walk, by_name: dict[str, Path]) -> dict[str, list[str]]:
    """Lists the photographs of each class.

    Raises:
        InputError: the folders look like splits or parts instead of classes, or a folder contains annotations.
    """
    _require_no_parts(list(by_name.values()))
    keys = {name: _photographs_of_class(reading, folder) for name, folder in by_name.items()}
    files = {name: [Path(key) for key in keys[name]] for name in keys}
    with_photographs = next((name for name in keys if walk.are_photographs(files[name])), None)
    for name, folder in by_name.items():
        if with_photographs and files[name] and not walk.may_be_photographs(files[name]):
            raise InputError(
                f"{folder} has {counted(len(files[name]), 'file')} ({files[name][0].name}) and no photographs, "
                f"which {by_name[with_photographs].name} has. It looks like annotations, not a class: move it out of "
                f"{folder.parent}; {EXPECTED}"
            )
    return keys


def _require_no_parts(folders: list[Path]) -> None:
    """Refuses fold1/{cat,dog} and fold2/{cat,dog}. Such folders look like splits or parts of one set."""
    holders: dict[str, Path] = {}  # name of a folder inside -> the folder that holds it
    twice = None
    for folder in folders:
        inside, files = walk.names_in(folder)
        if walk.may_be_photographs(files):
            continue
        for name in inside:
            if name.lower() not in flat.PICTURE_FOLDERS and holders.setdefault(name, folder) != folder:
                twice = twice or (holders[name], folder, name)
    if twice and len(holders) > 1:  # cat/2019 and dog/2019 alone are not splits: each split would have a single class
        first, second, name = twice
        part = next((each for each in (first, second) if walk.are_photographs(list(each.glob("*/*")))), first)
        raise InputError(
            f"{first} and {second.name} both hold {name}/, so they look like splits or parts, not classes. Name splits "
            f"train/, val/ and test/. Of parts, read one (--source=folder:{part}), or put all photographs of a class "
            "into one folder"
        )


def _photographs_of_class(reading: Walk, folder: Path) -> list[str]:
    keys = reading.files(folder)
    boxes = [key for key in keys if key.endswith(f"/{folder.name}_boxes.txt")]  # of Tiny-ImageNet
    for key in boxes:
        reading.note(walk.ANNOTATION, reading.root / key)
    return [key for key in keys if key not in boxes]


def _require_no_splits(folder: Path, by_name: dict[str, Path], split: str) -> None:
    for name, each in by_name.items():
        is_railway = name.lower() == "train" and len(by_name) > 1 and any(file.is_file() for file in each.iterdir())
        if split_of(name) and not is_railway:
            raise InputError(
                f"{each}: a folder named like a split inside {folder.name}/, which is {split}; expected classes "
                f"there. Move it out, or rename it if it is a class"
            )


def _require_classes_of_train(
    folder: Path, by_name: dict[str, Path], classes: Collection[str], train: Path | None
) -> None:
    """Refuses classes whose names differ from the names in train.

    A split may have more classes than train, for example ImageNet's val with Imagenette's train. If the split has a
    class that train lacks, and train has a class that the split lacks, a name is probably misspelled.
    """
    unknown = [name for name in by_name if name not in classes]
    missing = [name for name in classes if name not in by_name]
    alike = {name.casefold() for name in missing}
    misspelled = next((name for name in unknown if name.casefold() in alike), None)
    if train is None or not unknown or (misspelled is None and len(unknown) > len(missing)):
        return
    raise InputError(
        f"{folder / by_name[misspelled or unknown[0]].name}: no class of that name in {train}, which has "
        f"{', '.join(map(repr, missing[:3]))} that {folder.name} has not; rename one of them, or move it out"
    )


def _require_photographs(root: Path, classes: list[str], splits: Splits) -> None:
    labels = {photo.label for photos in splits.values() for photo in photos}
    empty = [name for label, name in enumerate(classes) if label not in labels]
    if empty:
        raise InputError(
            f"folder:{root}: class {empty[0]!r} has no photographs in {', '.join(splits)}"
            + (f" (nor have {len(empty) - 1} other classes)" if len(empty) > 1 else "")
            + "; add some, or remove its folder"
        )


def _note_loose(reading: Walk, loose: list[Path]) -> None:
    photographs = set(walk.are_photographs(loose))
    for file in loose:
        reading.note(walk.LOOSE if file in photographs else walk.OTHER, file)
