"""Reads a split with one folder of photographs and one file of labels, as in ImageNet and Tiny-ImageNet."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from sqznet.core.console import counted
from sqznet.core.errors import InputError
from sqznet.data.sources import label_file, walk
from sqznet.data.sources.listing import normalized, one_line, split_of
from sqznet.data.sources.walk import Walk

PICTURE_FOLDERS = ("images", "image", "imgs", "img", "photos", "pictures", "jpeg", "jpegimages")
UNKNOWN = ("unknown", "unlabelled", "unlabeled")


def folder_of(
    reading: Walk, folder: Path, inside: list[Path], loose: list[Path], classes: Collection[str]
) -> Path | None:
    """Returns the folder that contains the photographs of a split, or None if there are class folders."""
    if not inside:
        return folder
    only = inside[0]
    is_no_class = only.name.lower() in PICTURE_FOLDERS + UNKNOWN or split_of(only.name)
    if len(inside) > 1 or not is_no_class or normalized(only.name) in classes:
        return None
    return None if walk.are_photographs(loose) or reading.entries(only)[0] else only


def read(
    reading: Walk, folder: Path, split_folder: Path, split: str, classes: Collection[str]
) -> tuple[dict[str, list[str]], str | None]:
    """Returns the photographs in `folder` by class, and a note.

    Args:
        split_folder: the folder named after the split. The file of labels is in this folder or beside it.
        classes: the classes of train.

    Raises:
        InputError: there are photographs but no file of labels. A test split without this file is left out instead.
    """
    _, files = reading.entries(folder)
    photographs = walk.are_photographs(files) or walk.may_be_photographs(files)
    labels_file = _find_labels(split_folder, split)
    for file in set(files) - {*photographs, labels_file}:
        reading.note(walk.OTHER, file)
    if not photographs:
        return {}, None
    if labels_file is None:
        if split == "test":  # competitions publish test photographs without labels
            what = f"{counted(len(photographs), 'photograph')} in {one_line(folder)}"
            return {}, f"test was left out: {what} have neither class folders nor a file of labels"
        raise InputError(_missing_labels(folder, split_folder, photographs))
    class_of = label_file.read(labels_file, photographs, classes)
    by_class: dict[str, list[str]] = {}
    unlabelled = []
    for file in photographs:
        name = class_of.get(file.name) or class_of.get(file.stem)
        if name is None:
            unlabelled.append(file)
        else:
            by_class.setdefault(name, []).append(file.relative_to(reading.root).as_posix())
    note = f"{split}: classes are from {one_line(labels_file)}"
    if unlabelled:
        missing = counted(len(unlabelled), "photograph")
        note += f"; {missing} are not in it and were not read (the first is {one_line(unlabelled[0])})"
    return by_class, note


def _find_labels(split_folder: Path, split: str) -> Path | None:
    """Finds the file of labels in the folder of a split or beside it.

    For a test split, the file must be named after the split. In competitions, a labels.csv without a split in its name
    covers train only.
    """
    of_split = ("{}_annotations", "{}_labels", "{}_solution", "LOC_{}_solution", "{}")
    stems = [each.format(split_folder.name) for each in of_split]
    if split != "test":
        stems += [each.format(split) for each in of_split] + ["labels"]
    candidates = (
        folder / f"{stem}{ending}"
        for folder, names in ((split_folder, [*stems, "labels"]), (split_folder.parent, stems))
        for stem in names
        for ending in (".csv", ".txt", ".tsv")
    )
    return next((file for file in candidates if file.is_file()), None)


def _missing_labels(folder: Path, split_folder: Path, photographs: list[Path]) -> str:
    name = photographs[0].name
    if walk.are_photographs(photographs):
        found = f"{counted(len(photographs), 'photograph')} ({one_line(name)})"
    else:
        found = f"{counted(len(photographs), 'file')} ({one_line(name)}, without a known file suffix)"
    message = f"{folder} has {found} and no class folders; put them into {split_folder.name}/<class>/, or write "
    message += f"{split_folder / 'labels.csv'} with lines such as {name},CLASS"
    if name.startswith("ILSVRC2012"):
        message += (
            ". This is ImageNet: for val, put Kaggle's LOC_val_solution.csv beside it; with the devkit or Kaggle's "
            "files, --source=ilsvrc:PATH reads all of it"
        )
    return message
