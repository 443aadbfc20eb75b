"""Defines the types that all sources share (Photo, Splits, Source), and functions for listing photographs."""

from __future__ import annotations

import itertools
import re
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from sqznet.core import console
from sqznet.core.errors import InputError

VAL_FRACTION = (
    0.15  # share of each class for val, if a source has no val split, and for test in a folder without splits
)
SPLIT_WORDS = {
    word: split
    for split, words in {
        "train": ("train", "training"),
        "val": ("val", "valid", "validation", "dev", "eval", "evaluation"),
        "test": ("test", "testing"),
    }.items()
    for word in words
}
# Ignored beside the name of a split: training_set, Test Images, seg_train, val2017.
_FILLERS = {"", "set", "data", "dataset", "images", "image", "imgs", "img", "photos", "pictures", "split", "seg"}
_JOINED = re.compile(rf"^({'|'.join(SPLIT_WORDS)})(set|data|dataset|images|imgs)$")


@dataclass(frozen=True, order=True, slots=True)
class Photo:
    """Describes one labelled photograph that is not read yet."""

    key: str  # its path in the source; written to rejects.csv
    label: int  # 0-based
    position: int = 0  # its number in a source that is read in order
    name: str = ""  # the file name that a record holds

    @property
    def filename(self) -> str:
        """Returns the value for the key image/filename."""
        return self.name or self.key


Splits = dict[str, list[Photo]]


@dataclass
class Source(ABC):
    """Describes a data set whose photographs are listed. Each kind of source implements `read`."""

    in_order: ClassVar[bool] = False  # reading is fastest in the listed order, so shards are cut without shuffling
    classes: list[str]
    splits: Splits
    notes: list[str]  # remarks about the listing, for the user

    @abstractmethod
    def read(self, photos: list[Photo]) -> Iterator[bytes | OSError]:
        """Yields the encoded bytes of each photograph in the given order.

        A reason replaces a photograph that cannot be read.
        """


def split_of(name: str) -> str | None:
    """Returns the split that a folder or a set of shards is named after. `Training_Set` is train, and `cat` is None."""
    left = [word for word in _words(name) if word not in _FILLERS]
    return SPLIT_WORDS.get(left[0]) if len(left) == 1 else None


def splits_among(names: list[str]) -> dict[str, str]:
    """Returns the folder names that name a split, each with its split.

    A name may contain another word, as in `flowers_train` and `flowers_val`. Such names are splits only if every name
    contains a split and there are two splits or more. The reason is that a class may be called `train_station`.
    """
    loosely = {}
    for name in names:
        words = [word for word in _words(name) if word in SPLIT_WORDS]
        if len(words) == 1:
            loosely[name] = SPLIT_WORDS[words[0]]
    if len(loosely) == len(names) and len(set(loosely.values())) > 1:
        return loosely
    return {name: split for name in names if (split := split_of(name))}


def _words(name: str) -> list[str]:
    words = re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    return [_JOINED.sub(r"\1", word) for word in words]


def move(splits: Splits, to: str, share: Callable[[int], int], seed: list[int]) -> Splits:
    """Moves `share(n)` of the n photographs of each class from train to another split. Both splits keep the order."""
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


def draw_val(splits: Splits, seed: list[int]) -> Splits:
    """Moves VAL_FRACTION of each class of train to val.

    If VAL_FRACTION is less than one photograph in every class, moves one photograph of each class. val stays empty if a
    class has a single photograph.
    """
    drawn = move(splits, "val", lambda count: round(count * VAL_FRACTION), seed)
    can_spare = min(Counter(photo.label for photo in splits["train"]).values(), default=0) > 1
    return move(splits, "val", lambda count: 1, seed) if can_spare and not drawn["val"] else drawn


def abbreviated(names: list[str], most: int = 10) -> str:
    """Lists names for a message, at most `most` of them: `'cat', 'dog' and 3 more`."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def one_line(name: str | Path) -> str:
    """Formats a file name for a message, with control characters and line breaks escaped."""
    return console.printable(str(name), keep="")


def normalized(name: str) -> str:
    """Converts a class name to Unicode's NFC form.

    The manifest stores this form. macOS writes `é` as two characters, and other systems write one character.
    """
    return unicodedata.normalize("NFC", name)


def lines(path: Path) -> list[str]:
    """Returns the lines of a text file that are not blank.

    Raises:
        InputError: the file is not UTF-8. The error names the line.
    """
    return [line for line in text_lines(path) if line.strip()]


def text_lines(path: Path) -> list[str]:
    """Returns all lines of a text file.

    A form feed, a NEL or a U+2028 does not end a line, unlike in `str.splitlines`.
    """
    content = path.read_bytes()
    try:
        return [line.rstrip("\r") for line in content.decode("utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        number = content[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {number}, is not UTF-8; save it as UTF-8") from None


def require_ascending(positions: list[int]) -> None:
    """Raises an error if photographs are requested in another order than the source reads.

    The source would mix them up.
    """
    for before, after in itertools.pairwise(positions):
        if after <= before:
            raise RuntimeError(f"a source that reads in order was asked for record {after} after record {before}")


def require_unique(classes: list[str], where: str) -> None:
    """Raises InputError if two classes have the same name."""
    repeated = [name for name, count in Counter(classes).items() if count > 1]
    if repeated:
        raise InputError(f"{where} has two classes called {repeated[0]!r}")
