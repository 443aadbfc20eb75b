"""Defines the TFRecord schema. The keys are those that ImageNet builders use since TF-Slim. Labels start at 0."""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqznet.core.errors import InputError
from sqznet.core.remote import Remote

if TYPE_CHECKING:
    import tensorflow as tf

UNUSABLE = b"sqznet: this record cannot be used"  # replaces a bad record; not a tf.train.Example


def encode(
    photograph: bytes, *, label: int, synset: str, filename: str, height: int, width: int, decoded: bool
) -> bytes:
    """Encodes one record: a serialized tf.train.Example.

    Args:
        photograph: an RGB or greyscale JPEG. If `decoded`, RGB pixels row by row, one byte for each channel.
        label: from 0.
        synset: the class name in the manifest (for ImageNet the WordNet id).
        filename: path of the photograph, relative to its source.
        height: height of the decoded photograph in pixels, like `width`.
    """
    import tensorflow as tf

    example = tf.train.Example()
    feature = example.features.feature
    for name, content in (
        ("image/encoded", photograph),
        ("image/format", b"RAW" if decoded else b"JPEG"),
        ("image/class/synset", synset.encode()),
        ("image/filename", filename.encode(errors="surrogateescape")),
    ):
        feature[name].bytes_list.value.append(content)
    for name, number in (("image/class/label", label), ("image/height", height), ("image/width", width)):
        feature[name].int64_list.value.append(number)
    # By default the order of a Protobuf map may vary. But the same photograph must give the same bytes.
    return example.SerializeToString(deterministic=True)


def parse(serialized: tf.Tensor, decoded: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """Parses a serialized record into (photograph, label as int64).

    The photograph is a JPEG, a scalar string. In a `decoded` set it is uint8 (height, width, 3).
    """
    import tensorflow as tf

    integers = ["image/class/label", *(["image/height", "image/width"] if decoded else [])]
    kinds = {"image/encoded": tf.string, **dict.fromkeys(integers, tf.int64)}
    features = tf.io.parse_single_example(
        serialized, {name: tf.io.FixedLenFeature([], kind) for name, kind in kinds.items()}
    )
    photograph = features["image/encoded"]
    if decoded:
        shape = [features["image/height"], features["image/width"], 3]
        photograph = tf.reshape(tf.io.decode_raw(photograph, tf.uint8), shape)
    return photograph, features["image/class/label"]


def parse_labels(serialized: tf.Tensor) -> tf.Tensor:
    """Parses the labels of serialized records (n,), int64 (n,). No photograph is decoded."""
    import tensorflow as tf

    key = "image/class/label"
    return tf.io.parse_example(serialized, {key: tf.io.FixedLenFeature([], tf.int64)})[key]


def wrong_label(label: int, classes: int) -> str | None:
    """Returns the error message for a label outside 0..classes-1."""
    if 0 <= label < classes:
        return None
    return (
        f"its label is {label}; the manifest has {classes} classes, 0 to {classes - 1}. Do the labels start at 1? "
        "Rebuild with --source=tfrecord:FOLDER and --label_offset"
    )


def read(path: Path) -> Iterator[Any]:
    """Yields the features of every record of a file, in order: a protobuf map from key to tf.train.Feature.

    The file may be compressed with gzip or zlib. Its name does not matter.

    Raises:
        InputError: a record has a wrong checksum, is truncated, or is not a tf.train.Example. The error names the
            record.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    if isinstance(path, Remote):  # sqznet's own set, never compressed; `_compression` would fetch the whole file
        stream = iter(tf.data.TFRecordDataset(str(path)))
    else:  # bytes, because the path may not be UTF-8
        stream = iter(tf.data.TFRecordDataset(os.fsencode(path), compression_type=_compression(path)))
    for number in itertools.count():
        try:
            yield tf.train.Example.FromString(next(stream).numpy()).features.feature
        except StopIteration:
            return
        except (tf.errors.OpError, DecodeError) as error:
            reason = str(getattr(error, "message", error)).splitlines()[0]
            raise InputError(f"{path}, record {number} (0 first), is corrupt: {reason}") from None


def _compression(path: Path) -> str:
    """Returns TensorFlow's name for the compression of a file: GZIP, ZLIB, or an empty string."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    try:
        start = zlib.decompressobj(wbits=47).decompress(head, 12)  # 47: gzip or zlib, by the header
    except zlib.error:
        return ""
    # The length field of a record may look like such a header, but the data after it cannot be decompressed.
    if len(start) < 12:
        return ""
    return "GZIP" if head.startswith(b"\x1f\x8b") else "ZLIB"
