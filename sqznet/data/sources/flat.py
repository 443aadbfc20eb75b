"""A split whose photographs lie in one folder, with a file beside them that says their classes.

ImageNet's val/ is unpacked like that, and Tiny-ImageNet's.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from sqznet.core.console import counted
from sqznet.core.errors import InputError
from sqznet.data.sources import label_file, walk
from sqznet.data.sources.listing import same_name, shown, split_of
from sqznet.data.sources.walk import Walk

PICTURE_FOLDERS = ("images", "image", "imgs", "img", "photos", "pictures", "jpeg", "jpegimages")
UNKNOWN = ("unknown", "unlabelled", "unlabeled")


def folder_of(
    reading: Walk, folder: Path, inside: list[Path], loose: list[Path], classes: Collection[str]
) -> Path | None:
    """The folder in which the photographs of a split without class folders lie; None if it has class folders."""
    if not inside:
        return folder
    only = inside[0]
    speaks_of_no_class = only.name.lower() in PICTURE_FOLDERS + UNKNOWN or split_of(only.name)
    if len(inside) > 1 or not speaks_of_no_class or same_name(only.name) in classes:
        return None
    return None if walk.are_photographs(loose) or reading.entries(only)[0] else only


def read(
    reading: Walk, folder: Path, split_folder: Path, split: str, classes: Collection[str]
) -> tuple[dict[str, list[str]], str | None]:
    """The photographs in `folder` by class, and a note.

    Args:
        split_folder: the folder that is named after the split; the file of labels is in it or beside it.
        classes: those of train.

    Raises:
        InputError: there are photographs, and no file of labels, except in a test split, which is then left out.
    """
    _, files = reading.entries(folder)
    photographs = walk.are_photographs(files) or walk.may_be_photographs(files)
    labels_file = _find_labels(split_folder, split)
    for file in set(files) - {*photographs, labels_file}:
        reading.tell(walk.OTHER, file)
    if not photographs:
        return {}, None
    if labels_file is None:
        if split == "test":  # as competitions hand it out
            what = f"{counted(len(photographs), 'photograph')} in {shown(folder)}"
            return {}, f"test was left out: {what} have neither class folders nor a file of labels"
        raise InputError(_what_it_needs(folder, split_folder, photographs))
    class_of = label_file.read(labels_file, photographs, classes)
    by_class: dict[str, list[str]] = {}
    unlabelled = []
    for file in photographs:
        name = class_of.get(file.name) or class_of.get(file.stem)
        if name is None:
            unlabelled.append(file)
            continue
        by_class.setdefault(name, []).append(file.relative_to(reading.root).as_posix())
    note = f"{split}: classes are from {shown(labels_file)}"
    if unlabelled:
        note += (
            f"; {counted(len(unlabelled), 'photograph')} are not in it and were not read, {shown(unlabelled[0])} first"
        )
    return by_class, note


def _find_labels(split_folder: Path, split: str) -> Path | None:
    """The file of labels in the folder of a split or beside it, where a test split's is named after it: competitions
    have labels.csv there for train alone.
    """
    of_split = ("{}_annotations", "{}_labels", "{}_solution", "LOC_{}_solution", "{}")
    stems = [each.format(split_folder.name) for each in of_split]
    if split != "test":
        stems += [each.format(split) for each in of_split] + ["labels"]
    for folder, names in ((split_folder, [*stems, "labels"]), (split_folder.parent, stems)):
        for stem in names:
            for ending in (".csv", ".txt", ".tsv"):
                if (folder / f"{stem}{ending}").is_file():
                    return folder / f"{stem}{ending}"
    return None


def _what_it_needs(folder: Path, split_folder: Path, photographs: list[Path]) -> str:
    are = bool(walk.are_photographs(photographs))
    what = counted(len(photographs), "photograph" if are else "file")
    found = f"{folder} has {what} ({shown(photographs[0].name)}{'' if are else ', without an ending that is known'})"
    found += " and no class folders"
    needs = f"put them into {split_folder.name}/<class>/, or write {split_folder / 'labels.csv'} with lines as "
    needs += f"{photographs[0].name},CLASS"
    if photographs[0].name.startswith("ILSVRC2012"):
        needs += (
            ". This is ImageNet: Kaggle's LOC_val_solution.csv, put beside it, will do for val; with the devkit or "
            "Kaggle's files, --source=ilsvrc:PATH reads all of it"
        )
    return f"{found}; {needs}"
