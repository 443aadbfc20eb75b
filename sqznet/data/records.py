"""The TFRecord schema: the keys that ImageNet builders have used since TF-Slim, labels 0-based."""

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


UNUSABLE = b"sqznet: this record cannot be used"  # in its place; no tf.train.Example


def encode(
    photograph: bytes, *, label: int, synset: str, filename: str, height: int, width: int, decoded: bool
) -> bytes:
    """One record: a serialized tf.train.Example.

    Args:
        photograph: its JPEG, RGB or greyscale; or, `decoded`, its pixels, RGB, a byte each, row by row.
        label: 0-based.
        synset: the class's name in the manifest (for ImageNet its WordNet id).
        filename: where the photograph came from, relative to its source.
        height: in pixels, of the decoded photograph; `width` likewise.
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
    # Protobuf maps may be serialized in any order; the same photograph must give the same bytes.
    return example.SerializeToString(deterministic=True)


def parse(serialized: tf.Tensor, decoded: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """A serialized record to (photograph, label as int64).

    The photograph is a JPEG, a scalar string; or, of a `decoded` set, uint8 (height, width, 3).
    """
    import tensorflow as tf

    def scalar(kind: tf.DType) -> tf.io.FixedLenFeature:
        return tf.io.FixedLenFeature([], kind)

    names = {"image/encoded": scalar(tf.string), "image/class/label": scalar(tf.int64)}
    if not decoded:
        features = tf.io.parse_single_example(serialized, names)
        return features["image/encoded"], features["image/class/label"]
    sides = {"image/height": scalar(tf.int64), "image/width": scalar(tf.int64)}
    features = tf.io.parse_single_example(serialized, {**names, **sides})
    shape = [features["image/height"], features["image/width"], 3]
    pixels = tf.reshape(tf.io.decode_raw(features["image/encoded"], tf.uint8), shape)
    return pixels, features["image/class/label"]


def read(path: Path) -> Iterator[Any]:
    """The features of every record of a file, in order: a protobuf map from key to tf.train.Feature.

    The file may be compressed, with gzip or zlib, whatever its name.

    Raises:
        InputError: a record's checksum is wrong, it is cut short, or it is no tf.train.Example; names it.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    if isinstance(path, Remote):  # of a set of ours, which is never compressed; opening it here would fetch all of it
        stream = iter(tf.data.TFRecordDataset(str(path)))
    else:  # bytes, because TensorFlow takes no text that is not UTF-8
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
    """What TensorFlow calls a file's compression: GZIP, ZLIB, or nothing."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    try:
        start = zlib.decompressobj(wbits=47).decompress(head, 12)  # 47: gzip or zlib, as its head says
    except zlib.error:
        return ""
    # A record's length that looks like the head of such a file is followed by no data that can be decompressed.
    if len(start) < 12:
        return ""
    return "GZIP" if head.startswith(b"\x1f\x8b") else "ZLIB"
