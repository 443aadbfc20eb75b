"""Finds corrupt records, reports them, and lets training continue without them.

A shard with corrupt records is copied into the run folder. In the copy, a marker replaces each corrupt record.
Therefore every other record keeps its place in the order. A run without the corrupt records is as reproducible as a run
with all records.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import tensorflow as tf

from sqznet.core import console, files, locks
from sqznet.core.errors import InputError
from sqznet.core.remote import Remote
from sqznet.data import records
from sqznet.data.manifest import Manifest, Shard
from sqznet.images import crop

LIST = "bad_records.csv"
FOLDER = "mended"  # copies of shards without their corrupt records, under the name that older runs use
_OVERHEAD = 16  # bytes of a record beside its data: length (8), CRC of the length (4), CRC of the data (4)


@dataclasses.dataclass(frozen=True, order=True)
class BadRecord:
    shard: str  # file name
    record: int  # number in the shard, 0 first
    reason: str

    def message(self, folder: Path) -> str:
        return f"{folder / self.shard}, record {self.record} (0 first), is corrupt: {self.reason}"


def is_read_error(error: Exception) -> bool:
    """Checks whether a corrupt record or shard can cause this error.

    A lost worker or a lack of memory causes other errors.
    """
    kinds = (
        tf.errors.DataLossError,  # a checksum
        tf.errors.InvalidArgumentError,  # an image, a label
        tf.errors.FailedPreconditionError,  # too few records
        tf.errors.NotFoundError,
        tf.errors.OutOfRangeError,
        UnicodeDecodeError,  # raised when TensorFlow quotes bytes that are not a tf.train.Example
    )
    return isinstance(error, kinds)


def why_unusable(record: bytes, manifest: Manifest) -> str | None:
    """Returns the reason why training cannot use a stored record, or None if it can.

    Returns None also for the marker of a record that was found before.
    """
    if record == records.UNUSABLE:
        return None
    try:
        photograph, label = records.parse(tf.constant(record), manifest.decoded)
        if wrong := records.wrong_label(int(label), len(manifest.classes)):
            return wrong
        crop.whole(photograph)
    except UnicodeDecodeError:
        return "it is not a tf.train.Example"
    except (tf.errors.OpError, ValueError) as error:
        return first_line(error)
    return None


def expected_records(path: Path, count: int) -> Iterator[bytes | str]:
    """Yields `count` items for a shard: the bytes of each record, or the reason why it cannot be read."""
    number, offset = 0, 0  # of the next record
    with tempfile.TemporaryDirectory() as folder:
        rest = path
        while number < count:
            try:
                for record in tf.data.TFRecordDataset(str(rest)).as_numpy_iterator():
                    yield record
                    number, offset = number + 1, offset + _OVERHEAD + len(record)
                    if number == count:
                        return
                reason, beyond = f"the file ends after {number} of {count} records", None
            except tf.errors.OpError as error:
                reason, beyond = first_line(error), _end_of_record(path, offset)
            yield reason
            number += 1
            if beyond is None:  # the rest of the file cannot be read
                yield from [f"it comes after damage in the file: {reason}"] * (count - number)
                return
            offset = beyond
            rest = Path(folder) / "rest.tfrecord"
            with path.open("rb") as whole, rest.open("wb") as part:
                whole.seek(offset)
                shutil.copyfileobj(whole, part)


def _end_of_record(path: Path, offset: int) -> int | None:
    """Returns the offset after the record at `offset`, or None if the file ends there or the length is unusable."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        file.seek(offset)
        end = offset + _OVERHEAD + int.from_bytes(file.read(8), "little")
    return end if end < path.stat().st_size else None


def find_ahead(manifest: Manifest, ahead: tf.data.Dataset) -> list[BadRecord]:
    """Finds the corrupt records among those that training reads next.

    Args:
        ahead: the next elements of `pipeline.order`. If these cannot be read, this function searches the whole split.
    """
    shards = manifest.shards_of("train")
    found: list[BadRecord] = []
    try:
        for _, _, shard, number, record in ahead.as_numpy_iterator():
            reason = why_unusable(record, manifest)
            if reason:
                found.append(BadRecord(shards[int(shard)].path.name, int(number), reason))
    except (tf.errors.OpError, UnicodeDecodeError):  # a whole file is damaged, or the order needs the label
        found += [each for shard in _progress(shards) for each in _bad_in(shard)]
    return sorted(set(found))


def in_shards_of_wrong_size(manifest: Manifest) -> list[BadRecord]:
    """Returns the unreadable records in shards of train whose size differs from the size in the manifest."""
    if isinstance(manifest.folder, Remote):  # a request for each of a thousand shards takes long
        return []
    return [
        each
        for shard in manifest.shards_of("train")
        if not shard.path.is_file() or shard.path.stat().st_size != shard.bytes
        for each in _bad_in(shard)
    ]


def find_first(manifest: Manifest, split: str) -> BadRecord | None:
    return next(_all_bad(manifest, split), None)


def find_all(manifest: Manifest, split: str) -> list[BadRecord]:
    return list(_all_bad(manifest, split))


def _all_bad(manifest: Manifest, split: str) -> Iterator[BadRecord]:
    for shard in _progress(manifest.shards_of(split)):
        yield from _bad_in(shard, manifest)


def _progress(shards: list[Shard]) -> Iterator[Shard]:
    with console.progress("shards/s") as bar:
        yield from bar.track(shards, description="looking for bad records")


def _bad_in(shard: Shard, manifest: Manifest | None = None) -> Iterator[BadRecord]:
    """Yields the unreadable records of a shard. With a manifest, also yields readable records that are unusable."""
    for number, record in enumerate(expected_records(shard.path, shard.records)):
        reason = record if isinstance(record, str) else why_unusable(record, manifest) if manifest else None
        if reason:
            yield BadRecord(shard.path.name, number, reason)
    # Data after the last record that the manifest lists; the copy leaves it out.
    offset: int | None = 0
    for _ in range(shard.records):
        offset = None if offset is None else _end_of_record(shard.path, offset)
    if offset is not None:
        yield BadRecord(shard.path.name, shard.records, f"the manifest has {shard.records} records of this shard only")


def without_bad_records(manifest: Manifest, bad: Iterable[BadRecord], folder: Path) -> Manifest:
    """Copies each shard with bad records to `folder`, with markers in place of these records.

    Returns the set with the copies.
    """
    numbers: dict[str, set[int]] = {}
    for each in bad:
        numbers.setdefault(each.shard, set()).add(each.record)
    shards = tuple(
        dataclasses.replace(shard, path=_copy(shard, numbers[shard.path.name], folder))
        if shard.path.name in numbers
        else shard
        for shard in manifest.shards
    )
    return dataclasses.replace(manifest, shards=shards)


def _copy(shard: Shard, bad: set[int], folder: Path) -> Path:
    """Copies a shard without some records.

    One worker of a run writes the copy. The other workers wait and read the copy.

    If there is a complete copy for the same bad records, it is not written again, because another machine may be
    reading it.
    """
    path = folder / shard.path.name
    missing = path.with_name(f"{path.name}.json")  # the records that the copy lacks
    with locks.locked(locks.beside(path), f"writes {path}"):
        if path.is_file() and missing.is_file() and json.loads(missing.read_text()) == sorted(bad):
            return path
        files.remove(missing)
        files.remove_abandoned(path, age=0)
        with files.replacing(path) as temporary, tf.io.TFRecordWriter(str(temporary)) as writer:
            for number, record in enumerate(expected_records(shard.path, shard.records)):
                usable = isinstance(record, bytes) and number not in bad
                writer.write(record if usable else records.UNUSABLE)
        files.write_json(missing, sorted(bad))
    return path


def load(run_dir: Path) -> list[BadRecord]:
    """Reads the list of bad records that a run has found. The result is empty if the run has no list."""
    path = run_dir / LIST
    if not path.is_file():
        return []
    try:
        with path.open(newline="") as file:
            return [BadRecord(line["shard"], int(line["record"]), line["reason"]) for line in csv.DictReader(file)]
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error}); remove it, and training finds the records again") from None


def save(run_dir: Path, bad: Iterable[BadRecord]) -> None:
    """Adds to a run's list of bad records.

    Holds a lock, because several workers may write the list at the same time.
    """
    path = run_dir / LIST
    with locks.locked(locks.beside(path), f"writes {path}"):
        columns = [field.name for field in dataclasses.fields(BadRecord)]
        files.write_csv(path, columns, map(dataclasses.astuple, sorted({*load(run_dir), *bad})))


def first_line(error: Exception) -> str:
    """Returns the message of a TensorFlow error without the names of operations."""
    text = str(getattr(error, "message", error)).splitlines()[0]
    return text.split("}} ")[-1].split(" [Op:")[0]
