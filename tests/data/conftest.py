"""A small copy of ImageNet's CLS-LOC layout, with photographs of Imagenette."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

WNIDS = ("n01440764", "n02102040", "n02979186")
DEVKIT_IDS = {"n02979186": 1, "n01440764": 2, "n02102040": 3}  # the devkit numbers the classes differently, from 1


def make_ilsvrc(root: Path, photographs: dict[str, list[Path]], val: dict[str, list[Path]]) -> Path:
    """A CLS-LOC tree from photographs by wnid."""
    lists = root / "ImageSets" / "CLS-LOC"
    devkit = root / "devkit" / "data"
    for folder in (lists, devkit, root / "Data/CLS-LOC/val"):
        folder.mkdir(parents=True)
    train_lines = []
    for wnid, paths in photographs.items():
        (root / f"Data/CLS-LOC/train/{wnid}").mkdir(parents=True)
        for index, path in enumerate(paths):
            shutil.copy(path, root / f"Data/CLS-LOC/train/{wnid}/{wnid}_{index}.JPEG")
            train_lines.append(f"{wnid}/{wnid}_{index} {len(train_lines) + 1}")
    val_lines, truth = [], []
    for wnid, paths in val.items():
        for path in paths:
            name = f"ILSVRC2012_val_{len(val_lines) + 1:08d}"
            shutil.copy(path, root / f"Data/CLS-LOC/val/{name}.JPEG")
            val_lines.append(f"{name} {len(val_lines) + 1}")
            truth.append(str(DEVKIT_IDS[wnid]))
    (lists / "train_cls.txt").write_text("\n".join(train_lines) + "\n")
    (lists / "val.txt").write_text("\n".join(val_lines) + "\n")
    (devkit / "map_clsloc.txt").write_text("".join(f"{wnid} {n} name_{n}\n" for wnid, n in DEVKIT_IDS.items()))
    (devkit / "ILSVRC2015_clsloc_validation_ground_truth.txt").write_text("\n".join(truth) + "\n")
    (devkit / "ILSVRC2015_clsloc_validation_blacklist.txt").write_text("2\n5\n")
    return root


@pytest.fixture(scope="session")
def ilsvrc(imagenette, tmp_path_factory) -> Path:
    """Imagenette photographs in the CLS-LOC layout: 62 train and 4 val of each of three classes."""
    train = {wnid: sorted((imagenette / "train" / wnid).iterdir())[:62] for wnid in WNIDS}
    val = {wnid: sorted((imagenette / "val" / wnid).iterdir())[:4] for wnid in WNIDS}
    return make_ilsvrc(tmp_path_factory.mktemp("ilsvrc"), train, val)
