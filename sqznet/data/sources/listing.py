"""What sources are made of: photographs, splits, and what several of them need to list them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

VAL_FRACTION = 0.15  # of each class, where a source has no val split; as much again for test in a plain folder
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


def move(splits: Splits, to: str, share: Callable[[int], int], seed: list[int]) -> Splits:
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


def subfolders(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))


def files(path: Path) -> list[Path]:
    return sorted(each for each in path.rglob("*") if each.is_file() and not each.name.startswith("."))


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.strip()]
