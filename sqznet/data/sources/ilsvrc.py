"""`ilsvrc:PATH`: ImageNet as it is unpacked, the CLS-LOC layout that the article used."""

from __future__ import annotations

from pathlib import Path

from sqznet.data.sources.folder import FolderSource
from sqznet.data.sources.listing import Photo, lines, subfolders
from sqznet.errors import InputError

HOLDOUT_PER_CLASS = 50  # the article's own test split


def open_ilsvrc(root: Path, blacklist: bool) -> FolderSource:
    devkit = _find(root, "map_clsloc.txt").parent
    classes_by_id, wnids = {}, []
    for line in lines(devkit / "map_clsloc.txt"):  # "n02119789 1 kit_fox"
        fields = line.split()
        if len(fields) < 2 or not fields[1].isdigit():
            raise InputError(f"{devkit / 'map_clsloc.txt'}: expected 'WNID ID NAME', found {line!r}")
        classes_by_id[int(fields[1])] = fields[0]
        wnids.append(fields[0])
    classes = sorted(wnids)  # the usual order of ImageNet's 1,000 classes; the devkit's own ids run differently
    label_of = {wnid: label for label, wnid in enumerate(classes)}

    lists = root / "ImageSets" / "CLS-LOC"
    train = []
    for line in lines(_required(lists / "train_cls.txt")):  # "n01440764/n01440764_10026 1"
        name = line.split()[0]
        wnid = name.partition("/")[0]
        if ".." in name.split("/"):
            raise InputError(f"{lists / 'train_cls.txt'}: {line!r} leads out of the folder")
        if wnid not in label_of:
            raise InputError(f"{lists / 'train_cls.txt'}: {line!r} names a class that map_clsloc.txt does not have")
        train.append(Photo(f"Data/CLS-LOC/train/{name}.JPEG", label_of[wnid]))

    truth_file = _find(root, "ILSVRC2015_clsloc_validation_ground_truth.txt")
    truth = [int(line) for line in lines(truth_file)]
    names = [line.split()[0] for line in lines(_required(lists / "val.txt"))]  # "ILSVRC2012_val_00000001 1"
    if any("/" in name for name in names):
        raise InputError(f"{lists / 'val.txt'}: expected bare names such as ILSVRC2012_val_00000001")
    if len(names) != len(truth):
        raise InputError(f"{lists / 'val.txt'} lists {len(names)} photographs, {truth_file} has {len(truth)} labels")
    excluded: set[int] = set()
    notes = []
    if blacklist:
        file = _find(root, "ILSVRC2015_clsloc_validation_blacklist.txt")
        excluded = {int(line) for line in lines(file)}
    val = []
    for number, (name, class_id) in enumerate(zip(names, truth, strict=True), start=1):
        if class_id not in classes_by_id:
            raise InputError(f"{truth_file}, line {number}: class {class_id} is not in map_clsloc.txt")
        if number not in excluded:
            val.append(Photo(f"Data/CLS-LOC/val/{name}.JPEG", label_of[classes_by_id[class_id]]))
    if blacklist:
        notes.append(f"val: {len(names) - len(val)} blacklisted photographs excluded ({file.name})")
    return FolderSource(root, classes, {"train": train, "val": val}, notes)


def _required(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path} is missing: expected the ILSVRC CLS-LOC layout")
    return path


def _find(root: Path, name: str) -> Path:
    """The devkit is unpacked in different places; its files have unmistakable names."""
    for folder in (root, *(each for each in subfolders(root) if each.name != "Data")):
        for found in [folder / name, *sorted(folder.glob(f"*/{name}")), *sorted(folder.glob(f"*/*/{name}"))]:
            if found.is_file():
                return found
    raise InputError(f"{name} is nowhere below {root}: put the ILSVRC devkit there")
