"""`folder:PATH`: <split>/<class>/*, or <class>/* alone, which is split by seed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqznet.data.sources.listing import SPLIT_FOLDERS, VAL_FRACTION, Photo, Splits, files, move, subfolders
from sqznet.errors import InputError


@dataclass
class FolderSource:
    """Files below a folder. Splits and labels are known; the content is not."""

    root: Path
    classes: list[str]
    splits: Splits
    notes: list[str]
    in_order: bool = False

    def read(self, photos: list[Photo]) -> Iterator[bytes | OSError]:
        if not self.root.is_dir():  # or each photograph would be rejected, and the set smaller than it should be
            raise InputError(f"no such folder on {socket.gethostname()}: {self.root}; every worker has to see it")
        for photo in photos:
            try:
                yield (self.root / photo.key).read_bytes()
            except OSError as error:
                yield error


def open_folder(root: Path, seed: int, invent_test: bool = True) -> FolderSource:
    """A folder of photographs; where it has no splits, a val split is drawn, and a test split if it is wanted."""
    top = subfolders(root)
    if not top:
        raise InputError(f"{root} has no folders in it; expected train/<class>/ and val/<class>/, or <class>/")
    if all(each.name.lower() in SPLIT_FOLDERS for each in top):
        return _open_split_folder(root, top)
    if any(each.name.lower() in ("train", "training") for each in top):
        strangers = [each.name for each in top if each.name.lower() not in SPLIT_FOLDERS]
        raise InputError(f"{root} has {', '.join(strangers)} beside train; is it a class? Move it out, or into train/")
    photos = [
        Photo(file.relative_to(root).as_posix(), label) for label, folder in enumerate(top) for file in files(folder)
    ]
    splits = move({"train": photos}, "val", lambda count: round(count * VAL_FRACTION), [seed, 1])
    note = f"no train/ and val/ folders: {VAL_FRACTION:.0%} of each class went to val"
    if invent_test:  # as many as for val, of what is left after val has been taken
        splits = move(splits, "test", lambda count: round(count * VAL_FRACTION / (1 - VAL_FRACTION)), [seed, 2])
        note += ", as many to test"
    return FolderSource(root, [each.name for each in top], splits, [note] if splits["val"] else [])


def _open_split_folder(root: Path, split_folders: list[Path]) -> FolderSource:
    named = {SPLIT_FOLDERS[each.name.lower()]: each for each in split_folders}
    if len(named) < len(split_folders):
        raise InputError(f"{root} has two folders for one split: {', '.join(each.name for each in split_folders)}")
    if "train" not in named:
        raise InputError(f"{root} has no train/ folder beside {', '.join(each.name for each in split_folders)}")
    classes = [each.name for each in subfolders(named["train"])]
    splits: Splits = {}
    for split, folder in named.items():
        names = [each.name for each in subfolders(folder)]
        strangers = sorted(set(names) - set(classes))
        if strangers:
            raise InputError(f"{folder / strangers[0]}: no class of that name in {named['train']}")
        splits[split] = [
            Photo(file.relative_to(root).as_posix(), label)
            for label, name in enumerate(classes)
            if name in names
            for file in files(folder / name)
        ]
    return FolderSource(root, classes, splits, [])
