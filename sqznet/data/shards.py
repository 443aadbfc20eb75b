"""Writes and checks single shards. The write is atomic, so a shard is complete or absent."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from sqznet.core import files
from sqznet.core.errors import InputError, Reject
from sqznet.data import records
from sqznet.data.shard_plan import BuildOptions, PlannedShard
from sqznet.data.sources import Photo, Source
from sqznet.images import decode

_BLOCK = 64  # photographs that are decoded in one call


def write(source: Source, shard: PlannedShard, folder: Path, options: BuildOptions) -> dict[str, Any]:
    """Writes one shard.

    Returns:
        The description for the manifest: file, split, records, bytes, sha256, per_class (records by label),
        sum_of_means (R, G, B: sum of the images' channel means), colours (records by colour conversion), digests (of
        the photographs, to find duplicates) and rejects ([key, reason] pairs).

    Raises:
        InputError: an image was rejected and options.strict is set.
    """
    per_class: Counter[int] = Counter()
    colours: Counter[str] = Counter()
    rejects: list[tuple[str, str]] = []
    digests: list[str] = []
    sum_of_means = np.zeros(3)
    with files.replacing(folder / shard.file) as path:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for photo, photograph, means in _processed(source, shard, options):
                rejected = next((each for each in (photograph, means) if isinstance(each, Reject)), None)
                if rejected is not None:
                    if options.strict:
                        raise InputError(f"{photo.key}: {rejected} (--strict stops at the first such file)")
                    rejects.append((photo.key, str(rejected)))
                    continue
                record = records.encode(
                    photograph.content,
                    label=photo.label,
                    synset=source.classes[photo.label],
                    filename=photo.filename,
                    height=photograph.height,
                    width=photograph.width,
                    decoded=options.decoded,
                )
                writer.write(record)
                per_class[photo.label] += 1
                colours[photograph.colours] += 1
                digests.append(hashlib.blake2b(photograph.content, digest_size=8).hexdigest())
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
            "digests": digests,
            "rejects": rejects,
        }
        # The description is written before the shard itself, so that each complete shard has a description.
        files.write_json(shard.description_path(folder), description)
    return description


def _processed(source: Source, shard: PlannedShard, options: BuildOptions) -> Iterator[tuple[Photo, Any, Any]]:
    """Yields each photograph with its decode.Encoded and its channel means.

    A Reject replaces a result that is missing.
    """
    pairs = _read(source, shard)
    while block := list(itertools.islice(pairs, _BLOCK)):
        encoded = [_encoded(content, options) for _, content in block]
        usable = [each for each in encoded if isinstance(each, decode.Encoded)]
        means = iter(_means_of_pixels(usable) if options.decoded else channel_means([each.content for each in usable]))
        for (photo, _), each in zip(block, encoded, strict=True):
            yield photo, each, None if isinstance(each, Reject) else next(means)


def _read(source: Source, shard: PlannedShard) -> Iterator[tuple[Photo, bytes | OSError]]:
    contents = iter(source.read(list(shard.photos)))
    for count, photo in enumerate(shard.photos):
        content = next(contents, None)
        if content is None:
            raise InputError(
                f"{count:,} of {len(shard.photos):,} photographs of {shard.file} could be read: the source has changed "
                "since it was listed; build again"
            )
        yield photo, content


def _encoded(content: bytes | OSError, options: BuildOptions) -> decode.Encoded | Reject:
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
    """Returns means of R, G, B in 0..255, float32 (3,), to about one level.

    If TensorFlow refuses a JPEG, its result is a Reject. TensorFlow refuses some damaged JPEGs that Pillow decodes.
    TensorFlow decodes at an eighth of the size. This reads every bit, but computes only the mean of each block of 8 x 8
    pixels.
    """
    try:
        return list(_decoded_means()(tf.constant(jpegs, tf.string, [len(jpegs)])).numpy())
    except tf.errors.InvalidArgumentError:
        if len(jpegs) == 1:
            return [Reject("broken: TensorFlow cannot decode it (cut short or damaged)")]
        return [means for jpeg in jpegs for means in channel_means([jpeg])]


@functools.cache
def _decoded_means() -> Callable[[tf.Tensor], tf.Tensor]:
    def means(jpeg: tf.Tensor) -> tf.Tensor:
        pixels = tf.cast(tf.io.decode_jpeg(jpeg, channels=3, ratio=8), tf.float32)
        height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(jpeg))
        # The last block of a row or column may extend beyond the photograph.
        rows, columns = (
            tf.cast(tf.minimum(8, length - tf.range(0, length, 8)), tf.float32) for length in (height, width)
        )
        return tf.einsum("h,w,hwc->c", rows, columns, pixels) / tf.cast(height * width, tf.float32)

    # One call for many photographs: calling an operation from Python takes as long as decoding.
    return tf.function(
        lambda jpegs: tf.map_fn(means, jpegs, fn_output_signature=tf.float32),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )


def check(path: Path, classes: int) -> int:
    """Reads every record of a shard. Returns their number.

    Raises:
        InputError: a record is corrupt, cannot be parsed, or has a label outside 0..classes-1. The error names the
            record.
    """
    number = 0
    for features in records.read(path):
        labels = features["image/class/label"].int64_list.value
        if not labels or not features["image/encoded"].bytes_list.value:
            raise InputError(f"{path}, record {number} (0 first), lacks image/encoded or image/class/label")
        if wrong := records.wrong_label(labels[0], classes):
            raise InputError(f"{path}, record {number} (0 first): {wrong}")
        number += 1
    return number
