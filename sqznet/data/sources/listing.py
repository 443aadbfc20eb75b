"""What sources are made of: photographs, splits, and what several of them need to list them."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from sqznet.core import console
from sqznet.core.errors import InputError

VAL_FRACTION = 0.15  # of each class, where a source has no val split; as much again for test in a plain folder
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "eval": "val",
    "evaluation": "val",
    "test": "test",
    "testing": "test",
}
# Words that say nothing beside a split's: training_set, Test Images, seg_train, val2017.
_FILLERS = {"", "set", "data", "dataset", "images", "image", "imgs", "img", "photos", "pictures", "split", "seg"}
_JOINED = re.compile(rf"^({'|'.join(SPLIT_WORDS)})(set|data|dataset|images|imgs)$")


@dataclass(frozen=True, order=True, slots=True)
class Photo:
    """One labelled photograph, not yet read."""

    key: str  # where it is, relative to its source: what rejects.csv says
    label: int  # 0-based
    position: int = 0  # its place in a source that is read in order
    name: str = ""  # its file name where it was packed, if the source is of records that have it

    @property
    def filename(self) -> str:
        """What image/filename says."""
        return self.name or self.key


Splits = dict[str, list[Photo]]


class Source(Protocol):
    classes: list[str]
    splits: Splits
    in_order: bool  # photographs are read fastest in the order listed: shards are cut from it without shuffling
    notes: list[str]  # what the user should know about how the listing came about

    def read(self, photos: list[Photo]) -> Iterator[bytes | OSError]:
        """The encoded bytes of each photograph, or why it could not be read, in the order asked for."""
        ...


def split_of(name: str) -> str | None:
    """The split that a folder or a set of shards is named after: `Training_Set` is train, `cat` is None."""
    left = [word for word in _words(name) if word not in _FILLERS]
    return SPLIT_WORDS.get(left[0]) if len(left) == 1 else None


def splits_among(names: list[str]) -> dict[str, str]:
    """Those of several folders that are named after splits, each with its split.

    Names that have another word too, as `flowers_train` and `flowers_val`, are of splits where every folder has such a
    name and they speak of several splits. Else `train_station` may be a class.
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
    words = []
    for word in re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()):
        joined = _JOINED.match(word)
        words.append(joined[1] if joined else word)
    return words


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


def draw_val(splits: Splits, seed: list[int]) -> Splits:
    """Moves VAL_FRACTION of each class of train to val; where that is none, one photograph of each class.

    val stays empty where a class has a single photograph, too: it could not tell how well that class is known.
    """
    drawn = move(splits, "val", lambda count: round(count * VAL_FRACTION), seed)
    can_spare = min(Counter(photo.label for photo in splits["train"]).values(), default=0) > 1
    return move(splits, "val", lambda count: 1, seed) if can_spare and not drawn["val"] else drawn


def listed(names: list[str], most: int = 10) -> str:
    """`'cat', 'dog' and 3 more`: names for a message, those of some hundreds not all."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def shown(name: str | Path) -> str:
    """A file's name for a note: on one line, whatever its bytes are."""
    return console.printable(str(name), keep="")


def same_name(name: str) -> str:
    """A class's name as it is stored: macOS unpacks `é` as two characters, other systems as one."""
    return unicodedata.normalize("NFC", name)


def lines(path: Path) -> list[str]:
    """The lines of a text file that say something.

    Raises:
        InputError: it is not UTF-8; names the line.
    """
    return [line for line in text_lines(path) if line.strip()]


def text_lines(path: Path) -> list[str]:
    """All lines of a text file. A form feed, a NEL or a U+2028 ends none, as `str.splitlines` would have it."""
    content = path.read_bytes()
    try:
        return [line.rstrip("\r") for line in content.decode("utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        where = content[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {where}, is not UTF-8; save it as UTF-8") from None


def require_rising(positions: list[int]) -> None:
    """Raises where photographs are asked for in another order than a source reads them: they would change places."""
    for before, after in itertools.pairwise(positions):
        if after <= before:
            raise RuntimeError(f"a source that reads in order was asked for record {after} after record {before}")


def require_unique(classes: Iterable[str], where: str) -> None:
    """Raises an InputError where two classes have one name: a class is known by it."""
    seen: set[str] = set()
    for name in classes:
        if name in seen:
            raise InputError(f"{where} has two classes called {name!r}")
        seen.add(name)
