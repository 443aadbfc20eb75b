"""A shard is the unit of work: `plan` says which photograph goes into which, `write` makes one, whole or not at all."""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sqznet.core import files
from sqznet.core.errors import InputError, Reject
from sqznet.data import records
from sqznet.data.sources import Photo, Source
from sqznet.images import decode

if TYPE_CHECKING:
    import tensorflow as tf

SHARD_RECORDS = 1024  # about 110 MB of full-size ImageNet, 1,200 shards for its training split
_BLOCK = 64  # photographs that are decoded in one call


@dataclass(frozen=True)
class Shard:
    """What one shard is to hold."""

    file: str
    split: str
    photos: tuple[Photo, ...]


@dataclass(frozen=True)
class Options:
    """What is done to each photograph."""

    max_pixels: int = decode.MAX_PIXELS
    short_side: int | None = None
    decoded: bool = False
    strict: bool = False


def plan(source: Source, *, seed: int, shard_records: int | None = None, tag: str = "") -> list[Shard]:
    """All shards of a set; a pure function of the listing, the seed and the shard size.

    Photographs are shuffled over the shards of their split, so that each shard is a fair sample.

    Args:
        shard_records: photographs in a shard, about; None chooses 16 shards of 64 or more in small sets and
            SHARD_RECORDS a shard in large ones.
        tag: stands in the files' names, after the split.
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
            shards.append(Shard(name, split, tuple(photos[i] for i in chosen)))
    return shards


def write(source: Source, shard: Shard, folder: Path, options: Options) -> dict[str, Any]:
    """Writes one shard, by rename.

    Returns:
        What the manifest needs to know of it: file, split, records, bytes, sha256, per_class (records by label),
        sum_of_means (R, G, B: each image's channel means, summed), colours (records by what was done to their colours)
        and rejects ([key, reason] pairs).

    Raises:
        InputError: an image was rejected and options.strict is set.
    """
    import tensorflow as tf

    per_class: Counter[int] = Counter()
    colours: Counter[str] = Counter()
    rejects: list[tuple[str, str]] = []
    sum_of_means = np.zeros(3)
    with files.replacing(folder / shard.file) as path:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for photo, stored in _stored(source, shard, options):
                if isinstance(stored, Reject):
                    if options.strict:
                        raise InputError(f"{photo.key}: {stored} (--strict stops at the first such file)")
                    rejects.append((photo.key, str(stored)))
                    continue
                photograph, means = stored
                writer.write(
                    records.encode(
                        photograph.content,
                        label=photo.label,
                        synset=source.classes[photo.label],
                        filename=photo.filename,
                        height=photograph.height,
                        width=photograph.width,
                        decoded=options.decoded,
                    )
                )
                per_class[photo.label] += 1
                colours[photograph.colours] += 1
                sum_of_means += means
        description = {
            "file": shard.file,
            "split": shard.split,
            "records": per_class.total(),
            "bytes": path.stat().st_size,
            "sha256": files.sha256_of(path),
            "per_class": {str(label): count for label, count in sorted(per_class.items())},
            "sum_of_means": sum_of_means.tolist(),
            "colours": dict(sorted(colours.items())),
            "rejects": rejects,
        }
        # The description goes first: where the shard stands, its description does too.
        files.write_json(description_path(folder, shard), description)
    return description


def _stored(
    source: Source, shard: Shard, options: Options
) -> Iterator[tuple[Photo, tuple[decode.Encoded, np.ndarray] | Reject]]:
    """For each photograph what its record is to hold, and its channel means; or why it cannot be used."""
    pairs = _read(source, shard)
    while block := list(itertools.islice(pairs, _BLOCK)):
        checked = [_checked(content, options) for _, content in block]
        good = [each for each in checked if isinstance(each, decode.Encoded)]
        means = iter(_means_of_pixels(good) if options.decoded else channel_means([each.content for each in good]))
        for (photo, _), each in zip(block, checked, strict=True):
            if isinstance(each, Reject):
                yield photo, each
            else:
                found = next(means)
                yield photo, found if isinstance(found, Reject) else (each, found)


def _read(source: Source, shard: Shard) -> Iterator[tuple[Photo, bytes | OSError]]:
    contents = iter(source.read(list(shard.photos)))
    for count, photo in enumerate(shard.photos):
        content = next(contents, None)
        if content is None:
            raise InputError(
                f"{count:,} of {len(shard.photos):,} photographs of {shard.file} could be read: what the source had "
                "listed has been changed; build again"
            )
        yield photo, content


def _checked(content: bytes | OSError, options: Options) -> decode.Encoded | Reject:
    try:
        if isinstance(content, OSError):
            raise Reject(content.strerror or str(content))
        if not options.decoded:
            return decode.to_jpeg(content, max_pixels=options.max_pixels, short_side=options.short_side)
        pixels, colours = decode.decode(content, max_pixels=options.max_pixels, short_side=options.short_side)
        height, width, _ = pixels.shape
        return decode.Encoded(pixels.tobytes(), height, width, colours)
    except Reject as reason:
        return reason


def _means_of_pixels(photographs: list[decode.Encoded]) -> list[np.ndarray]:
    return [np.frombuffer(each.content, np.uint8).reshape(-1, 3).mean(axis=0, dtype=np.float64) for each in photographs]


def channel_means(jpegs: list[bytes]) -> list[np.ndarray | Reject]:
    """Means of R, G, B in 0..255, float32 (3,), of each JPEG that training can decode, to about a level; or why not.

    TensorFlow decodes them, because that refuses some damaged ones that Pillow makes do with; at an eighth of their
    size, for which the decoder reads every bit but computes only the mean of each block of 8 x 8 pixels.
    """
    import tensorflow as tf

    try:
        return list(_decoded_means()(tf.constant(jpegs, tf.string, [len(jpegs)])).numpy())
    except tf.errors.InvalidArgumentError:
        if len(jpegs) == 1:
            return [Reject("broken: TensorFlow cannot decode it (cut short or damaged)")]
        return [means for jpeg in jpegs for means in channel_means([jpeg])]


@functools.cache
def _decoded_means() -> Callable[[tf.Tensor], tf.Tensor]:
    import tensorflow as tf

    def means(jpeg: tf.Tensor) -> tf.Tensor:
        pixels = tf.cast(tf.io.decode_jpeg(jpeg, channels=3, ratio=8), tf.float32)
        height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(jpeg))
        # The last block of a row or column may stick out of the photograph.
        rows, columns = (
            tf.cast(tf.minimum(8, length - tf.range(0, length, 8)), tf.float32) for length in (height, width)
        )
        return tf.einsum("h,w,hwc->c", rows, columns, pixels) / tf.cast(height * width, tf.float32)

    # One call for many: calling an operation from Python takes as long as decoding does.
    return tf.function(
        lambda jpegs: tf.map_fn(means, jpegs, fn_output_signature=tf.float32),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )


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
