"""Plans the shards of a set.

This module does not import TensorFlow, because its classes are sent to other processes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sqznet.data.sources import Photo, Source
from sqznet.images import decode

SHARD_RECORDS = 1024  # about 110 MB of full-size ImageNet; 1,200 shards for its training split


@dataclass(frozen=True)
class PlannedShard:
    """Describes a shard that is to be written."""

    file: str
    split: str
    photos: tuple[Photo, ...]

    def description_path(self, folder: Path) -> Path:
        """Returns the path of the file that describes the shard, while the set in `folder` is being built."""
        return folder / ".build" / f"{self.file}.json"


@dataclass(frozen=True)
class BuildOptions:
    """States how photographs are processed."""

    max_pixels: int = decode.MAX_PIXELS
    short_side: int | None = None  # pixels
    decoded: bool = False
    strict: bool = False


def plan_shards(source: Source, *, seed: int, shard_records: int | None = None, tag: str = "") -> list[PlannedShard]:
    """Returns all shards of a set. The result depends only on the arguments.

    Photographs are shuffled over the shards of their split, so each shard is a random sample.

    Args:
        shard_records: approximate number of photographs in a shard. None means 16 shards with 64 photographs or more
            for small sets, and SHARD_RECORDS photographs in each shard for large sets.
        tag: part of the file names, after the split.
    """
    shards = []
    for number, (split, photos) in enumerate(sorted(source.splits.items())):
        size = shard_records or min(SHARD_RECORDS, max(64, math.ceil(len(photos) / 16)))
        count = math.ceil(len(photos) / size)
        order = np.arange(len(photos))
        if not source.in_order:
            np.random.default_rng([seed, number]).shuffle(order)
        for index, chosen in enumerate(np.array_split(order, count)):
            name = f"{split}{tag}-{index:05d}-of-{count:05d}.tfrecord"
            shards.append(PlannedShard(name, split, tuple(photos[i] for i in chosen)))
    return shards
