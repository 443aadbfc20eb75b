"""Contains the sources of photographs. Each source lists its photographs, then yields their encoded bytes.

`open_source("folder:PATH", ...)` opens a source. Each kind of source has its own module: folder, ilsvrc, tfds,
tfrecord, synthetic. `listing` contains the types of all sources. The other modules contain functions that the sources
use. A source stores the names of the photographs and not their content.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from sqznet.core import remote
from sqznet.core.console import counted
from sqznet.core.errors import InputError
from sqznet.data.manifest import require_class_names
from sqznet.data.sources.folder import DRAWN, open_folder
from sqznet.data.sources.ilsvrc import HOLDOUT_PER_CLASS, open_ilsvrc
from sqznet.data.sources.listing import Photo, Source, Splits, abbreviated, draw_val, move, one_line, require_unique
from sqznet.data.sources.synthetic import open_synthetic
from sqznet.data.sources.tfds import open_tfds
from sqznet.data.sources.tfrecord import open_tfrecord

__all__ = ["Photo", "Source", "Splits", "hold_out", "open_source"]


def open_source(
    spec: str,
    *,
    seed: int,
    holdout_per_class: int | None = None,
    blacklist: bool = False,
    label_offset: int | None = None,
    test_files: str | None = None,
) -> Source:
    """Lists the photographs of the source that `spec` names, and splits them.

    Args:
        spec: `folder:PATH`, `ilsvrc:PATH`, `tfds:NAME`, `tfrecord:PATH` or `synthetic`; a tfrecord's path may end in a
            pattern of file names.
        seed: decides which photographs are held out.
        holdout_per_class: photographs of each class to move from train to test; None means 50 for ilsvrc, as in the
            article, and 0 for other sources.
        blacklist: whether to leave out the validation photographs that the devkit blacklists. Only for ilsvrc.
        label_offset: a number that is added to every label. None requires labels that start at 0. Only for tfrecord.
        test_files: pattern (`*`, `?`). All photographs with a matching file name become the test split.

    Raises:
        InputError: the source is unknown, a path is missing, or the listing is inconsistent.
    """
    kind, _, where = spec.partition(":")
    openers: dict[str, Callable[[], Source]] = {
        "folder": lambda: open_folder(_existing(where, spec), seed, draw_test=test_files is None),
        "ilsvrc": lambda: open_ilsvrc(_existing(where, spec), blacklist),
        "tfds": lambda: open_tfds(where, seed, draw_test=test_files is None),
        "tfrecord": lambda: open_tfrecord(*_with_pattern(where, spec), label_offset),
        "synthetic": lambda: open_synthetic(seed),
    }
    if kind not in openers or (kind != "synthetic" and not where):
        raise InputError(
            f"unknown source {spec!r}; expected folder:PATH, ilsvrc:PATH, tfds:NAME, tfrecord:PATH or synthetic"
        )
    if blacklist and kind != "ilsvrc":
        raise InputError(f"--blacklist is for ilsvrc: sources; {spec!r} has no blacklist")
    if label_offset and kind != "tfrecord":
        raise InputError(f"--label_offset is for tfrecord: sources; labels of {spec!r} already start at 0")
    source = openers[kind]()
    source.splits = _without_empty(source.splits)
    if test_files is not None:
        source.splits = _without_empty(hold_out_files(source.splits, test_files))
        if list(source.splits) == ["test"]:  # the photographs that had been drawn for val are in test again
            source.notes = [note for note in source.notes if not note.startswith(DRAWN)]
    if holdout_per_class is None:
        holdout_per_class = HOLDOUT_PER_CLASS if kind == "ilsvrc" and test_files is None else 0
    if holdout_per_class:
        source.splits = hold_out(source.splits, source.classes, holdout_per_class, seed)
    if "val" not in source.splits and source.splits.get("train"):
        source.splits = _without_empty(draw_val(source.splits, [seed, 1]))
        source.notes.append(
            f"no val split: {counted(len(source.splits['val']), 'photograph')} of train were moved to val"
            if "val" in source.splits
            else "no val split, and the classes have too few photographs to make one: the set can be used for "
            "evaluation, not for training. Training needs two or more of each class (some dozens for good accuracy)"
        )
    _check(source, spec)
    return source


def published(spec: str) -> str:
    """Returns the name of the source in the manifest. The name does not contain the location on this machine."""
    kind, colon, where = spec.partition(":")
    return f"{kind}{colon}{remote.published(where)}" if where else spec


def with_relative_paths(note: str, spec: str) -> str:
    """Returns a note about a source, with paths relative to the parent of the source's folder."""
    where = Path(spec.partition(":")[2] or ".").expanduser()
    before = where.absolute().parent
    return note if before == before.parent else note.replace(f"{one_line(before)}/", "")


def _without_empty(splits: Splits) -> Splits:
    return {split: photos for split, photos in splits.items() if photos}


def hold_out_files(splits: Splits, pattern: str) -> Splits:
    """Moves all photographs whose file name matches a pattern to the test split."""

    def matches(photo: Photo) -> bool:
        return fnmatch.fnmatchcase(PurePosixPath(photo.filename).name, pattern)

    if "test" in splits:
        raise InputError("the source has a test split of its own: leave out --test_files")
    test = [photo for photos in splits.values() for photo in photos if matches(photo)]
    if not test:
        raise InputError(f"--test_files={pattern} matches no photograph's file name")
    kept = {split: [photo for photo in photos if not matches(photo)] for split, photos in splits.items()}
    return {**kept, "test": test}


def hold_out(splits: Splits, classes: list[str], per_class: int, seed: int) -> Splits:
    """Moves `per_class` photographs of each class from train to test, chosen by the seed (SqueezeNet article)."""
    if "test" in splits:
        raise InputError("the source has a test split of its own: leave out --holdout_per_class")
    if "train" not in splits:
        raise InputError("the source has no train split to hold any out of: leave out --holdout_per_class")
    counts = Counter(photo.label for photo in splits["train"])
    for label, name in enumerate(classes):
        if 0 < counts[label] <= per_class:
            raise InputError(
                f"class {name!r} has {counts[label]} training photographs; holding out {per_class} of each class "
                "would leave none to train on: lower --holdout_per_class"
            )
    return move(splits, "test", lambda count: per_class, [seed])


def _check(source: Source, spec: str) -> None:
    require_class_names(source.classes, spec)
    require_unique(source.classes, spec)
    if not source.splits:
        raise InputError(f"{spec} has no photographs with a class")
    if "train" not in source.splits:
        source.notes.append("no train split: the set can be used for evaluation, not for training")
    elif len(source.classes) < 2:
        raise InputError(f"{spec} has one class ({source.classes[0]!r}); a classifier needs two or more")
    for split, photos in source.splits.items():
        labels = {photo.label for photo in photos}
        empty = [name for label, name in enumerate(source.classes) if label not in labels]
        if empty:
            verb = "has" if len(empty) == 1 else "have"
            note = f"{split}: {len(empty):,} of {len(source.classes):,} classes {verb} no photographs"
            consequence = "; a network trained on this set does not learn them" if split == "train" else ""
            source.notes.append(f"{note} ({abbreviated(empty)}){consequence}")


def _existing(where: str, spec: str) -> Path:
    path = Path(where).expanduser()
    if not path.is_dir():
        raise InputError(f"no such folder: {path} (from --source={spec})")
    return path.absolute()  # workers on other machines have another working directory


def _with_pattern(where: str, spec: str) -> tuple[Path, str]:
    """Splits `FOLDER` or `FOLDER/*-fft-*` into a folder and a pattern of file names."""
    path = Path(where)
    if any(each in path.name for each in "*?[") and not path.expanduser().is_dir():
        return _existing(str(path.parent), spec), path.name
    return _existing(where, spec), "*"
