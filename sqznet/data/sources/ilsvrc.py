"""Reads `ilsvrc:PATH`: ImageNet in its original layout, CLS-LOC. The SqueezeNet article used this layout.

The labels of val come from the devkit, or from the files of Kaggle's competition.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqznet.core.errors import InputError
from sqznet.data.sources.folder import FolderSource
from sqznet.data.sources.listing import Photo, lines
from sqznet.data.sources.walk import Walk

HOLDOUT_PER_CLASS = 50  # the article's own test split
KAGGLE_CLASSES = "LOC_synset_mapping.txt"
KAGGLE_VAL = "LOC_val_solution.csv"
DEVKIT_CLASSES = "map_clsloc.txt"


@dataclass(frozen=True)
class _Labels:
    """Contains the content of the devkit's or Kaggle's files."""

    classes: list[str]  # WordNet ids, sorted, as is usual for ImageNet; the devkit numbers its classes differently
    val: list[tuple[str, str]]  # (ILSVRC2012_val_00000001, WordNet id), sorted by name
    file: str  # the file with the names of the classes


def open_ilsvrc(root: Path, blacklist: bool) -> FolderSource:
    base = root if (root / "Data").is_dir() or not (root / "ILSVRC").is_dir() else root / "ILSVRC"
    labels = _from_kaggle(root, base) or _from_devkit(root, base)
    label_of = {wnid: label for label, wnid in enumerate(labels.classes)}

    train_list = base / "ImageSets" / "CLS-LOC" / "train_cls.txt"
    train = []
    for line in lines(_required(train_list)):  # "n01440764/n01440764_10026 1"
        name = line.split()[0]
        wnid = name.partition("/")[0]
        if ".." in name.split("/"):
            raise InputError(f"{train_list}: {line!r} leads out of the folder")
        if wnid not in label_of:
            raise InputError(f"{train_list}: {line!r} names a class that {labels.file} does not have")
        train.append(Photo(f"Data/CLS-LOC/train/{name}.JPEG", label_of[wnid]))

    excluded: set[int] = set()
    notes = []
    if blacklist:
        file = _find(root, "ILSVRC2015_clsloc_validation_blacklist.txt")
        excluded = {int(line) for line in lines(file)} & set(range(1, len(labels.val) + 1))
        notes.append(f"val: {len(excluded)} blacklisted photographs excluded ({file.name})")
    val = [
        Photo(f"Data/CLS-LOC/val/{name}.JPEG", label_of[wnid])
        for number, (name, wnid) in enumerate(labels.val, start=1)
        if number not in excluded
    ]
    return FolderSource(labels.classes, {"train": train, "val": val}, notes, base)


def _from_devkit(root: Path, base: Path) -> _Labels:
    classes_file = _find(root, DEVKIT_CLASSES)
    classes_by_id = {}
    for line in lines(classes_file):  # "n02119789 1 kit_fox"
        fields = line.split()
        if len(fields) < 2 or not fields[1].isdigit():
            raise InputError(f"{classes_file}: expected 'WNID ID NAME', found {line!r}")
        classes_by_id[int(fields[1])] = fields[0]
    ids_file = _find(root, "ILSVRC2015_clsloc_validation_ground_truth.txt")
    ids = [int(line) for line in lines(ids_file)]
    list_file = _required(base / "ImageSets" / "CLS-LOC" / "val.txt")
    names = [line.split()[0] for line in lines(list_file)]  # "ILSVRC2012_val_00000001 1"
    _require_bare(list_file, names)
    if len(names) != len(ids):
        raise InputError(f"{list_file} lists {len(names)} photographs, {ids_file} has {len(ids)} labels")
    for number, class_id in enumerate(ids, start=1):
        if class_id not in classes_by_id:
            raise InputError(f"{ids_file}, line {number}: class {class_id} is not in {DEVKIT_CLASSES}")
    val = [(name, classes_by_id[class_id]) for name, class_id in zip(names, ids, strict=True)]
    return _Labels(sorted(classes_by_id.values()), val, DEVKIT_CLASSES)


def _from_kaggle(root: Path, base: Path) -> _Labels | None:
    """Reads labels from the files of Kaggle's competition beside ILSVRC/. Returns None if there are no such files."""
    folder = next((each for each in (root, base.parent) if (each / KAGGLE_CLASSES).is_file()), None)
    if folder is None:
        return None
    classes = sorted(line.split()[0] for line in lines(folder / KAGGLE_CLASSES))  # "n01440764 tench, Tinca tinca"
    file = folder / KAGGLE_VAL
    if not file.is_file():
        raise InputError(f"{file} is missing: expected Kaggle's labels of val beside its {KAGGLE_CLASSES}")
    val = []
    for number, line in enumerate(lines(file), start=1):  # "ILSVRC2012_val_00048981,n03995372 85 1 499 272"
        name, _, rest = line.partition(",")
        if number == 1 and name == "ImageId":
            continue
        wnid = rest.split()[0] if rest.split() else ""
        if wnid not in classes:
            raise InputError(f"{file}, line {number}: class {wnid!r} is not in {KAGGLE_CLASSES}")
        val.append((name, wnid))
    _require_bare(file, [name for name, _ in val])
    return _Labels(classes, sorted(val), KAGGLE_CLASSES)


def _require_bare(file: Path, names: list[str]) -> None:
    if any("/" in name for name in names):
        raise InputError(f"{file}: expected bare names such as ILSVRC2012_val_00000001")


def _required(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path} is missing: expected the ILSVRC CLS-LOC layout")
    return path


def _find(root: Path, name: str) -> Path:
    """Finds a file of the devkit in any folder below the root, except Data/."""
    for folder in (root, *(each for each in Walk(root).entries(root)[0] if each.name != "Data")):
        for found in [folder / name, *sorted(folder.glob(f"*/{name}")), *sorted(folder.glob(f"*/*/{name}"))]:
            if found.is_file():
                return found
    raise InputError(
        f"{name} was not found below {root}: put the ILSVRC devkit there, or Kaggle's {KAGGLE_CLASSES} and {KAGGLE_VAL}"
    )
