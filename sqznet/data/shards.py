"""A shard is the unit of work: `plan` says which photograph goes into which, `write` makes one, whole or not at all."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sqznet import files
from sqznet.data import images, records
from sqznet.data.sources import Photo, Source
from sqznet.errors import InputError

SHARD_RECORDS = 1024  # about 110 MB of full-size ImageNet, 1,200 shards for its training split


@dataclass(frozen=True)
class Shard:
    """What one shard is to hold."""

    file: str
    split: str
    photos: tuple[Photo, ...]


@dataclass(frozen=True)
class Options:
    """What is done to each photograph."""

    max_pixels: int = images.MAX_PIXELS
    short_side: int | None = None
    decoded: bool = False
    strict: bool = False


def plan(source: Source, *, seed: int, shard_records: int | None = None) -> list[Shard]:
    """All shards of a set; a pure function of the listing, the seed and the shard size.

    Photographs are shuffled over the shards of their split, so that each shard is a fair sample.

    Args:
        shard_records: photographs in a shard, about; None chooses 16 shards of 64 or more in small sets and
            SHARD_RECORDS a shard in large ones.
    """
    shards = []
    for number, (split, photos) in enumerate(sorted(source.splits.items())):
        size = shard_records or min(SHARD_RECORDS, max(64, math.ceil(len(photos) / 16)))
        count = math.ceil(len(photos) / size)
        order = np.arange(len(photos))
        if not source.in_order:
            np.random.default_rng([seed, number]).shuffle(order)
        for index, chosen in enumerate(np.array_split(order, count)):
            name = f"{split}-{index:05d}-of-{count:05d}.tfrecord"
            shards.append(Shard(name, split, tuple(photos[i] for i in chosen)))
    return shards


def write(source: Source, shard: Shard, folder: Path, options: Options) -> dict[str, Any]:
    """Writes one shard, by rename.

    Returns:
        What the manifest needs to know of it: file, split, records, bytes, sha256, per_class (records by label),
        sum_of_means (R, G, B: each image's channel means, summed) and rejects ([key, reason] pairs).

    Raises:
        InputError: an image was rejected and options.strict is set.
    """
    import tensorflow as tf

    per_class: Counter[int] = Counter()
    rejects: list[tuple[str, str]] = []
    sum_of_means = np.zeros(3)
    with files.replacing(folder / shard.file) as path:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for photo, content in zip(shard.photos, source.read(list(shard.photos)), strict=True):
                try:
                    if isinstance(content, OSError):
                        raise images.Reject(content.strerror or str(content))
                    photograph, means = _stored(content, options)
                except images.Reject as reason:
                    if options.strict:
                        raise InputError(f"{photo.key}: {reason} (--strict stops at the first such file)") from None
                    rejects.append((photo.key, str(reason)))
                    continue
                writer.write(
                    records.encode(
                        photograph.content,
                        label=photo.label,
                        synset=source.classes[photo.label],
                        filename=photo.key,
                        height=photograph.height,
                        width=photograph.width,
                        decoded=options.decoded,
                    )
                )
                per_class[photo.label] += 1
                sum_of_means += means
        description = {
            "file": shard.file,
            "split": shard.split,
            "records": per_class.total(),
            "bytes": path.stat().st_size,
            "sha256": files.sha256_of(path),
            "per_class": {str(label): count for label, count in sorted(per_class.items())},
            "sum_of_means": sum_of_means.tolist(),
            "rejects": rejects,
        }
        # The description goes first: where the shard stands, its description does too.
        files.write_json(description_path(folder, shard), description)
    return description


def _stored(content: bytes, options: Options) -> tuple[images.Encoded, np.ndarray]:
    """What a record is to hold of an encoded photograph, and its channel means.

    Raises:
        Reject: it cannot be used.
    """
    if options.decoded:
        pixels = images.to_pixels(content, max_pixels=options.max_pixels, short_side=options.short_side)
        stored = images.Encoded(pixels.tobytes(), *pixels.shape[:2])
        return stored, pixels.mean(axis=(0, 1), dtype=np.float64)
    jpeg = images.to_jpeg(content, max_pixels=options.max_pixels, short_side=options.short_side)
    return jpeg, channel_means(jpeg)


def channel_means(jpeg: images.Encoded) -> np.ndarray:
    """Means of R, G, B in 0..255, float64 (3,), to about a level, of a JPEG that training can decode.

    TensorFlow decodes it, because that refuses some damaged ones that Pillow makes do with; at an eighth of its size,
    for which the decoder reads every bit but computes only the mean of each block of 8 x 8 pixels.

    Raises:
        Reject: it cannot be decoded.
    """
    import tensorflow as tf

    try:
        pixels = tf.io.decode_jpeg(jpeg.content, channels=3, ratio=8).numpy()
    except tf.errors.InvalidArgumentError:
        raise images.Reject("broken: TensorFlow cannot decode it (cut short or damaged)") from None
    rows, columns = (
        np.minimum(8.0, length - 8 * np.arange(blocks))  # the last block may stick out of the photograph
        for length, blocks in zip((jpeg.height, jpeg.width), pixels.shape, strict=False)
    )
    return np.einsum("h,w,hwc->c", rows, columns, pixels) / (jpeg.height * jpeg.width)


def description_path(folder: Path, shard: Shard) -> Path:
    return folder / ".build" / f"{shard.file}.json"


def check(path: Path, classes: int) -> int:
    """Reads every record of a shard.

    Returns:
        The number of records.

    Raises:
        InputError: a record is corrupt, cannot be parsed, or has a label outside 0..classes-1; names it.
    """
    number = 0
    for features in records.read(path):
        labels = features["image/class/label"].int64_list.value
        if not labels or not features["image/encoded"].bytes_list.value:
            raise InputError(f"{path}, record {number} (0 first), lacks image/encoded or image/class/label")
        if not 0 <= labels[0] < classes:
            raise InputError(
                f"{path}, record {number} (0 first), has label {labels[0]}; the manifest has {classes} classes, 0 to "
                f"{classes - 1}. Do the labels start at 1? Rebuild with --source=tfrecord:FOLDER and --label_offset"
            )
        number += 1
    return number
