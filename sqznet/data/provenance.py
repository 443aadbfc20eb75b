"""Detects photographs of ImageNet in a set. Published weights were trained on these photographs."""

from __future__ import annotations

import re

from sqznet.data import records
from sqznet.data.manifest import Manifest

# ImageNet's train photographs are called n01440764_10026.JPEG (WordNet id of the class, number); the photographs of its
# validation set ILSVRC2012_val_00000001.JPEG.
_TRAIN_NAME = re.compile(rb"(^|[/\\])n\d{8}_[^/\\]*$")


def imagenet_train_photographs(manifest: Manifest, split: str) -> int:
    """Returns the number of records in a split with the file name of an ImageNet train photograph."""
    return sum(
        bool(_TRAIN_NAME.search(name))
        for shard in manifest.shards_of(split)
        for features in records.read(shard.path)
        for name in features["image/filename"].bytes_list.value
    )
