"""Whether a network may have seen the photographs it is measured on."""

from __future__ import annotations

import re

from sqznet.data import records
from sqznet.data.manifest import Manifest

# ImageNet's train photographs are called n01440764_10026.JPEG, by the WordNet id of their class; those of its
# validation set ILSVRC2012_val_00000001.JPEG.
_TRAIN_NAME = re.compile(rb"(^|[/\\])n\d{8}_[^/\\]*$")


def imagenet_train_photographs(manifest: Manifest, split: str) -> int:
    """How many records of a split have the file name of an ImageNet train photograph."""
    count = 0
    for shard in manifest.shards_of(split):
        for features in records.read(shard.path):
            for name in features["image/filename"].bytes_list.value:
                count += bool(_TRAIN_NAME.search(name))
    return count
