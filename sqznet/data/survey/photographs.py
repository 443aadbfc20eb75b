"""Reads the photographs of a source or of a built set, with their names, one after the other."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from sqznet.core.errors import InputError
from sqznet.data import records
from sqznet.data.manifest import SPLITS, Manifest
from sqznet.data.sources import Photo, Source

Content = bytes | np.ndarray | OSError  # encoded, or pixels of a `decoded` set, or the reason why it cannot be read


@dataclass(frozen=True, slots=True)
class Named:
    """Names one photograph."""

    split: str
    label: int  # from 0
    file: str  # path in the source, as in image/filename of a record


class Photographs(ABC):
    """All photographs of a source or of a built set, in a fixed order."""

    where: str  # for messages
    classes: tuple[str, ...]
    total: int

    @abstractmethod
    def read(self, chosen: Collection[int] | None = None) -> Iterator[tuple[int, Named, Content]]:
        """Yields number, name and content of each photograph, in order, or of the `chosen` numbers only."""


class Listed(Photographs):
    """The photographs of a source."""

    def __init__(self, spec: str, source: Source) -> None:
        self.where, self.classes, self._source = spec, tuple(source.classes), source
        self._photos = [(split, photo) for split in SPLITS for photo in source.splits.get(split, [])]
        self.total = len(self._photos)

    def read(self, chosen: Collection[int] | None = None) -> Iterator[tuple[int, Named, Content]]:
        numbers = range(self.total) if chosen is None else sorted(chosen)
        # One call for each split, because some sources read in ascending positions only.
        for split, some in itertools.groupby(numbers, lambda number: self._photos[number][0]):
            mine = list(some)
            contents = iter(self._source.read([self._photos[number][1] for number in mine]))
            for number in mine:
                content = next(contents, None)
                if content is None:
                    raise InputError(f"{self.where} has changed since it was listed: run the command again")
                yield number, _named(split, self._photos[number][1]), content


class Stored(Photographs):
    """The records of a built set."""

    def __init__(self, manifest: Manifest) -> None:
        self.where, self.classes, self._manifest = str(manifest.folder), manifest.classes, manifest
        self.total = sum(shard.records for shard in manifest.shards)

    def read(self, chosen: Collection[int] | None = None) -> Iterator[tuple[int, Named, Content]]:
        wanted = None if chosen is None else set(chosen)
        number = -1
        for shard in (each for split in self._manifest.splits for each in self._manifest.shards_of(split)):
            if wanted is not None and wanted.isdisjoint(range(number + 1, number + 1 + shard.records)):
                number += shard.records
                continue
            for features in records.read(shard.path):
                number += 1
                if wanted is None or number in wanted:
                    yield number, *_of_record(shard.split, features, self._manifest.decoded)

    def names(self, split: str) -> list[Named]:
        """Returns the names of all records of a split, in order."""
        return [
            _of_record(split, features, self._manifest.decoded)[0]
            for shard in self._manifest.shards_of(split)
            for features in records.read(shard.path)
        ]


def _named(split: str, photo: Photo) -> Named:
    return Named(split, photo.label, photo.filename)


def _of_record(split: str, features, decoded: bool) -> tuple[Named, bytes | np.ndarray]:
    def first(name: str, kind: str):
        return getattr(features[name], kind).value[0]

    content = first("image/encoded", "bytes_list")
    # Shards of other builders may have no file name.
    names = features["image/filename"].bytes_list.value
    file = names[0].decode(errors="surrogateescape") if names else ""
    named = Named(split, first("image/class/label", "int64_list"), file)
    if not decoded:
        return named, content
    height, width = (first(f"image/{side}", "int64_list") for side in ("height", "width"))
    return named, np.frombuffer(content, np.uint8).reshape(height, width, 3)
