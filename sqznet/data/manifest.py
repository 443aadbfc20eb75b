"""Reads manifest.json, which describes the classes, shards and counts of a built set. `build` writes this file."""

from __future__ import annotations

import contextlib
import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqznet.core import locks, typed
from sqznet.core.errors import InputError

FILE = "manifest.json"
LOCK = ".lock"  # held while a set is built; inside the folder, because containers may share nothing else
REPORTS = ("dataset.html", "duplicates.csv", "suspects.csv")  # files of `survey.report` that a set may contain
FORMAT = 1
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Shard:
    path: Path
    split: str
    records: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Describes a built set. Classes are in the order of their labels."""

    folder: Path
    classes: tuple[str, ...]
    channel_means: tuple[float, float, float]  # R, G, B, 0..255; of train, or of all splits if there is no train
    shards: tuple[Shard, ...]
    content: dict[str, Any]  # the whole file

    @property
    def decoded(self) -> bool:
        """Whether the records contain pixels instead of JPEGs."""
        return bool(self.content.get("options", {}).get("decoded"))

    @property
    def splits(self) -> list[str]:
        return [split for split in SPLITS if any(shard.split == split for shard in self.shards)]

    def shards_of(self, split: str) -> list[Shard]:
        """Returns the shards of a split, in order.

        Raises:
            InputError: the set has no such split.
        """
        shards = [shard for shard in self.shards if shard.split == split]
        if not shards:
            raise InputError(f"{self.folder} has no {split!r} split; it has {', '.join(self.splits)}")
        return shards

    def records(self, split: str) -> int:
        return sum(shard.records for shard in self.shards_of(split))

    def records_sha256(self, split: str) -> str:
        """Identifies the records of a split by their content."""
        return hashlib.sha256("".join(shard.sha256 for shard in self.shards_of(split)).encode()).hexdigest()

    def classes_without(self, split: str) -> list[str]:
        """Returns the classes that have no records in a split."""
        counts = self.content["splits"][split]["per_class"]
        return [name for name, count in zip(self.classes, counts, strict=True) if not count]


def load(folder: Path, *, whole: bool = True) -> Manifest:
    """Reads and checks the manifest of a built set.

    Args:
        folder: a local path, or a `remote.Remote`.
        whole: whether every shard must exist.

    Raises:
        InputError: the folder, the manifest or a shard is missing, or the manifest has another format, labels that do
            not start at 0, or class names that a file of labels cannot contain.
    """
    path = folder / FILE
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder} (expected shards; `python -m sqznet.data --help` builds them)")
    if not path.is_file():
        unfinished = (folder / ".build").is_dir()
        builder = locks.holder(folder / LOCK) if isinstance(folder, Path) else None
        if builder:
            remedy = f"another process builds it now: {builder}; wait for its end, then run this command again"
        elif unfinished:
            remedy = "its build is unfinished; run the same `python -m sqznet.data` command again"
        else:
            remedy = f"build it first: python -m sqznet.data --source=folder:PHOTOGRAPHS --out={folder} "
            remedy += "(shards made by another tool: --source=tfrecord:FOLDER)"
        raise InputError(f"{folder} has no {FILE}: {remedy}")
    with _naming(path):
        content = typed.parse_json(path.read_text(), str(path))
        typed.require(content, {"format": int, "label_base": int}, str(path))
    if content["format"] != FORMAT:
        raise InputError(f"{path} has format {content['format']}; this version reads format {FORMAT}: build again")
    if content["label_base"] != 0:
        raise InputError(
            f"{path}: labels run from {content['label_base']}, and sqznet's run from 0. Rebuild the set: "
            f"python -m sqznet.data --source=tfrecord:{folder} --label_offset=-{content['label_base']} --out=NEW"
        )
    with _naming(path):
        _check_form(content, str(path))
    red, green, blue = content["channel_means"]
    shards = tuple(
        Shard(folder / shard["file"], shard["split"], shard["records"], shard["bytes"], shard["sha256"])
        for shard in content["shards"]
    )
    classes = tuple(content["classes"])
    require_class_names(classes, str(path))
    for shard in shards:
        if whole and not shard.path.is_file():
            raise InputError(f"{shard.path} is missing; remove {path} and run the build command again")
    return Manifest(folder, classes, (red, green, blue), shards, content)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Adds the path and the remedy to errors that reading a manifest raises."""
    try:
        yield
    except (InputError, OSError, UnicodeDecodeError) as error:
        reason = str(error).removeprefix(f"{path}: ").removeprefix(f"{path} ")
        raise InputError(f"{path} cannot be read as a manifest: {reason}; build again") from None


def _check_form(content: dict[str, Any], where: str) -> None:
    """Checks the types of a manifest's values, and that its counts agree.

    Raises:
        InputError: a type or a count is wrong. The error names the first wrong value, with the expected type or both
            numbers.
    """
    kinds = {"classes": list[str], "channel_means": tuple[float, float, float], "splits": dict, "shards": list[dict]}
    typed.require(content, kinds, where)
    for number, shard in enumerate(content["shards"]):
        place = f"{where}: shard {number}"
        typed.require(shard, {"file": str, "split": str, "records": int, "bytes": int, "sha256": str}, place)
        if Path(shard["file"]).name != shard["file"]:
            raise InputError(f"{place} is {shard['file']!r}, outside its folder; expected a file name")
        if shard["records"] < 0 or shard["split"] not in SPLITS:
            raise InputError(f"{place} has {shard['records']} records of {shard['split']!r}; expected {SPLITS}")
    for split, counts in content["splits"].items():
        place = f"{where}: {split}"
        typed.require({split: counts}, {split: dict}, where)
        typed.require(counts, {"records": int, "per_class": list[int]}, place)
        in_shards = sum(shard["records"] for shard in content["shards"] if shard["split"] == split)
        for what, count in (("its shards", in_shards), ("its classes", sum(counts["per_class"]))):
            if count != counts["records"]:
                raise InputError(f"{place} has {counts['records']:,} records, and {what} have {count:,}")
        if len(counts["per_class"]) != len(content["classes"]):
            raise InputError(
                f"{place} counts {len(counts['per_class'])} classes, and there are {len(content['classes'])}"
            )


def require_class_names(classes: Sequence[str], where: str) -> None:
    """Refuses names that would change in a file of labels.

    A file of labels has one name on each line and is part of a bundle.

    Raises:
        InputError: a name would change. The error names the first class with such a name, and the fault of the name.
    """
    for label, name in enumerate(classes):
        kinds = {unicodedata.category(each) for each in name}
        wrong = {
            "is empty": not name.strip(),
            "is not UTF-8 (an archive from another system may have been unpacked in the wrong encoding)": "Cs" in kinds,
            "contains a line break, a tab or another control character": kinds & {"Cc", "Zl", "Zp"},
            "begins or ends with a space": name != name.strip(),
        }
        for fault in (each for each, found in wrong.items() if found):
            raise InputError(f"{where}: the name of class {label}, {name!r}, {fault}; rename the class and build again")
