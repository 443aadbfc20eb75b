"""Finds the shards of one set below a folder.

Shards are called `...-NNNNN-of-NNNNN`. The name of the shard or the name of a folder above contains the split.
"""

from __future__ import annotations

import fnmatch
import itertools
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sqznet.core.console import counted
from sqznet.core.errors import InputError
from sqznet.data.sources import walk
from sqznet.data.sources.listing import one_line, split_of
from sqznet.data.sources.walk import Walk, are_photographs

EXPECTED = "expected shards such as train-00000-of-00008 and validation-00000-of-00008"
# train-00000-of-00008, flowers_train_00000-of-00005.tfrecord, imagenette-train.tfrecord-00000-of-00016
_NAME = re.compile(r"(?P<stem>.*?)[-_.]?(?P<index>\d+)-of-(?P<count>\d+)(?P<endings>(\.\w+)*)")
_ENDINGS = {"tfrecord", "tfrecords", "tfrec", "tfr", "record", "records", "gz", "gzip", "zlib", "zz", "z"}

LINKED_FOLDER = "linked folders, not searched for shards"


Group = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class ShardFile:
    path: Path
    split: str  # train, val or test
    folders: tuple[str, ...]  # folders between root and file that are not named after a split
    words: tuple[str, ...]  # the words of the file name beside the split
    index: int
    count: int

    @property
    def group(self) -> Group:
        """Returns a value that is equal for all files of one set."""
        return self.folders, self.words


def find(root: Path, pattern: str = "*") -> tuple[dict[str, list[ShardFile]], list[str]]:
    """Finds the shards of one set below a folder.

    Returns the shards by split, in order, with notes about files that were left out.

    Args:
        pattern: pattern that the file names must match, as in `*-fft-*`.

    Raises:
        InputError: there are no shards, or shards of several sets.
    """
    reading = Walk(root)
    found, others = _search(reading, pattern)
    notes = reading.notes()
    if not found:
        raise InputError(_not_found(root, pattern, others, notes))
    groups = sorted({file.group for file in found})
    chosen = next((group for group in groups if all(_is_simpler(group, other) for other in groups)), None)
    if chosen is None:
        sets = "; ".join(f"{_example(found, group)}: {_source_flag(root, found, group)}" for group in groups)
        raise InputError(f"{root} has shards of {len(groups)} sets. Choose one. {sets}")
    for group in groups:
        if group != chosen:
            count = sum(file.group == group for file in found)
            notes.append(
                f"shards of another set, not read: {count:,} ({_example(found, group)}, ...); to read them: "
                f"{_source_flag(root, found, group)}"
            )
    shards: dict[str, list[ShardFile]] = {}
    for file in sorted((file for file in found if file.group == chosen), key=lambda file: (file.index, file.path)):
        shards.setdefault(file.split, []).append(file)
    for split, files in shards.items():
        notes += _require_one_set(split, files)
    if others:
        notes.append(walk.counted_paths("other files, not read", [str(path.relative_to(root)) for path in others]))
    return shards, notes


def _search(reading: Walk, pattern: str) -> tuple[list[ShardFile], list[Path]]:
    """Returns all shards that match the pattern, and the files that are not shards."""
    root = reading.root
    found, others = [], []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if (Path(folder) / name).is_symlink():
                reading.note(LINKED_FOLDER, Path(folder) / name)
        for name in sorted(names):
            path = Path(folder) / name
            try:
                path.stat()
            except OSError as error:  # a link of git-annex or DVC whose file has not been fetched
                reading.note_broken_link(str(path), error)
                continue
            file = _parsed(path, root)
            if file is not None:
                if fnmatch.fnmatchcase(name, pattern):
                    found.append(file)
            elif not name.startswith(".") and path.suffix not in (".txt", ".json", ".csv", ".pbtxt", ".md"):
                others.append(path)
    return found, others


def _parsed(path: Path, root: Path) -> ShardFile | None:
    match = _NAME.fullmatch(path.name)
    if match is None or any(each not in _ENDINGS for each in match["endings"].lower().split(".")[1:]):
        return None
    words = [word for word in re.split(r"[-_.]+", match["stem"]) if word and word.lower() not in _ENDINGS]
    split, rest = _split_in(words)
    folders = path.parent.relative_to(root).parts
    if split is None:
        split = next((split_of(name) for name in reversed(folders) if split_of(name)), None)
        rest = []  # part-00000-of-00004 in train/: the rest of the name has no meaning
    if split is None:
        return None
    outer = tuple(name for name in folders if split_of(name) is None)
    return ShardFile(path, split, outer, tuple(rest), int(match["index"]), int(match["count"]))


def _split_in(words: list[str]) -> tuple[str | None, list[str]]:
    """Returns the split among the words of a name, and the other words.

    The split is None unless there is exactly one.
    """
    if split_of(" ".join(words)):
        return split_of(" ".join(words)), []
    splits = [word for word in words if split_of(word)]
    if len(splits) != 1:
        return None, words
    return split_of(splits[0]), [word for word in words if word != splits[0]]


def _require_one_set(split: str, files: list[ShardFile]) -> list[str]:
    """Raises InputError if shards of one split do not belong together. Returns a note if some shards are missing."""
    first = files[0]
    other = next((file for file in files if file.count != first.count), None)
    if other is not None:
        raise InputError(
            f"{split} has shards of two sets, {one_line(first.path)} and {one_line(other.path)}: move one set away, or "
            f"choose by a pattern, as in --source='tfrecord:{one_line(first.path.parent)}/*-of-*{first.count}*'"
        )
    for before, after in itertools.pairwise(files):
        if before.index == after.index:
            raise InputError(
                f"{one_line(before.path)} and {one_line(after.path)} are the same shard twice: move one away"
            )
    start = int(files[-1].index == first.count)  # some count shards from 1
    missing = sorted(set(range(start, first.count + start)) - {file.index for file in files})
    if not missing:
        return []
    return [
        f"{split} IS INCOMPLETE: {len(files):,} of its {first.count:,} shards are there (number {missing[0]:05d} is "
        "the first that is missing); the set has the photographs of these only"
    ]


def _is_simpler(group: Group, other: Group) -> bool:
    """Checks whether one set is `train-*` and the other set is `train-fft-*` or lies in a folder below."""
    (folders, words), (other_folders, other_words) = group, other
    return folders == other_folders[: len(folders)] and set(words) <= set(other_words)


def _example(files: Iterable[ShardFile], group: Group) -> str:
    return one_line(next(file.path.name for file in files if file.group == group))


def _source_flag(root: Path, files: Iterable[ShardFile], group: Group) -> str:
    """Returns the flag that selects this set."""
    where = root.joinpath(*group[0])
    if not group[1]:
        return f"--source='tfrecord:{one_line(where)}'"
    name = next(file.path.name for file in files if file.group == group)
    pattern = re.sub(r"\d+-of-.*", "*-of-*", name)
    for word in re.findall(r"[A-Za-z]+", name):
        if split_of(word):
            pattern = pattern.replace(word, "*", 1)
    return f"--source='tfrecord:{one_line(where)}/{pattern}'"


def _not_found(root: Path, pattern: str, others: list[Path], notes: list[str]) -> str:
    what = f"{root} has no shards" + (f" called {pattern}" if pattern != "*" else "")
    if (root / "dataset_info.json").is_file():
        return f"{what} that this source reads: it is a set of TensorFlow Datasets, --source=tfds:{root}"
    if notes:
        return (
            f"{what} that can be read; {'; '.join(notes)}. Fetch the targets of the links (git annex get, dvc pull), "
            "or give a linked folder itself as the source"
        )
    if not others:
        return f"{what}; {EXPECTED}"
    found = f"found {counted(len(others), 'file')} such as {one_line(others[0].relative_to(root))}"
    if are_photographs(others):
        return f"{what}; {EXPECTED}, {found}. Photographs are read by --source=folder:{root}"
    return f"{what}; {EXPECTED}, {found}. Rename them: a set in one file is train-00000-of-00001"
