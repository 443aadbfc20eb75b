"""Records that cannot be used: finding them, naming them, and going on without them.

A shard with such records is copied into the run folder, each of them replaced by a marker. So every other record keeps
its place in the order, and a run that goes on without some records is as repeatable as one that has them all.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sqznet.core import console, files, locks
from sqznet.core.errors import InputError
from sqznet.core.remote import Remote
from sqznet.data import records
from sqznet.data.manifest import Manifest, Shard
from sqznet.images import crop

if TYPE_CHECKING:
    import tensorflow as tf

LIST = "bad_records.csv"
FOLDER = "mended"


@dataclasses.dataclass(frozen=True, order=True)
class BadRecord:
    shard: str  # file name
    record: int  # number in the shard, 0 first
    reason: str

    def in_words(self, folder: Path) -> str:
        return f"{folder / self.shard}, record {self.record} (0 first), is corrupt: {self.reason}"


def is_of_reading(error: Exception) -> bool:
    """Whether an error may come from a bad record or shard, and not from a lost worker or a want of memory."""
    import tensorflow as tf

    kinds = (
        tf.errors.DataLossError,  # a checksum
        tf.errors.InvalidArgumentError,  # an image, a label
        tf.errors.FailedPreconditionError,  # too few records
        tf.errors.NotFoundError,
        tf.errors.OutOfRangeError,
        UnicodeDecodeError,  # TensorFlow quotes what is not a tf.train.Example, and trips over it
    )
    return isinstance(error, kinds)


def unusable(record: bytes, manifest: Manifest) -> str | None:
    """Why a record as stored cannot be trained on; None if it can."""
    import tensorflow as tf

    if record == records.UNUSABLE:
        return None  # found before
    try:
        photograph, label = records.parse(tf.constant(record), manifest.decoded)
        classes = len(manifest.classes)
        if not 0 <= int(label) < classes:
            return (
                f"its label is {int(label)}, and the manifest has {classes} classes, 0 to {classes - 1}. Do the labels "
                "start at 1? Rebuild with --source=tfrecord:FOLDER and --label_offset"
            )
        crop.whole(photograph)
    except UnicodeDecodeError:
        return "it is no tf.train.Example"
    except (tf.errors.OpError, ValueError) as error:
        return first_line(error)
    return None


def slots(path: Path, count: int) -> Iterator[bytes | str]:
    """The `count` records that a shard should have: the bytes of each, or why it cannot be read."""
    import tensorflow as tf

    number, offset = 0, 0  # of the next record, in the shard
    with tempfile.TemporaryDirectory() as folder:
        rest = path
        while number < count:
            try:
                for record in tf.data.TFRecordDataset(str(rest)).as_numpy_iterator():
                    yield record
                    number, offset = number + 1, offset + 16 + len(record)
                    if number == count:
                        return
                reason, beyond = f"the file ends after {number} of {count} records", None
            except tf.errors.OpError as error:
                reason, beyond = first_line(error), _end_of_record(path, offset)
            yield reason
            number += 1
            if beyond is None:  # nothing can be read after it
                for _ in range(number, count):
                    yield f"it comes after damage in the file: {reason}"
                return
            offset = beyond
            rest = Path(folder) / "rest.tfrecord"
            with path.open("rb") as whole, rest.open("wb") as part:
                whole.seek(offset)
                shutil.copyfileobj(whole, part)


def _end_of_record(path: Path, offset: int) -> int | None:
    """Where the record after the one at `offset` begins; None if there is none, or its length is not to be had."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        file.seek(offset)
        end = offset + 16 + int.from_bytes(file.read(8), "little")  # length, its CRC, the data, their CRC
    return end if end < path.stat().st_size else None


def find(manifest: Manifest, ahead: tf.data.Dataset) -> list[BadRecord]:
    """What is wrong with records that training is about to read; empty if nothing is.

    Args:
        ahead: the elements of `pipeline.order` to look at. Where they cannot be read, all of the split is gone through.
    """
    import tensorflow as tf

    shards = manifest.shards_of("train")
    found: list[BadRecord] = []
    try:
        for _, _, shard, number, record in ahead.as_numpy_iterator():
            reason = unusable(record, manifest)
            if reason:
                found.append(BadRecord(shards[int(shard)].path.name, int(number), reason))
    except tf.errors.OpError:  # of a whole file
        found += [each for shard in _progress(shards) for each in _unreadable(shard)]
    return sorted(set(found))


def at_first_sight(manifest: Manifest) -> list[BadRecord]:
    """The records of the training split that shards of another size than the manifest's lack."""
    if isinstance(manifest.folder, Remote):  # a thousand questions to a server take long
        return []
    return [
        each
        for shard in manifest.shards_of("train")
        if not shard.path.is_file() or shard.path.stat().st_size != shard.bytes
        for each in _unreadable(shard)
    ]


def first(manifest: Manifest, split: str) -> BadRecord | None:
    """The first record of a split that cannot be used."""
    return next(_bad(manifest, split), None)


def all_of(manifest: Manifest, split: str) -> list[BadRecord]:
    """Every record of a split that cannot be used."""
    return list(_bad(manifest, split))


def _bad(manifest: Manifest, split: str) -> Iterator[BadRecord]:
    for shard in _progress(manifest.shards_of(split)):
        for number, slot in enumerate(slots(shard.path, shard.records)):
            reason = slot if isinstance(slot, str) else unusable(slot, manifest)
            if reason:
                yield BadRecord(shard.path.name, number, reason)
        yield from _surplus(shard)


def _progress(shards: list[Shard]) -> Iterator[Shard]:
    with console.progress("shards/s") as bar:
        yield from bar.track(shards, description="looking for bad records")


def _unreadable(shard: Shard) -> Iterator[BadRecord]:
    for number, slot in enumerate(slots(shard.path, shard.records)):
        if isinstance(slot, str):
            yield BadRecord(shard.path.name, number, slot)
    yield from _surplus(shard)


def _surplus(shard: Shard) -> Iterator[BadRecord]:
    """What stands in a shard after the records that it should have; a mended copy does without."""
    offset: int | None = 0
    for _ in range(shard.records):
        offset = None if offset is None else _end_of_record(shard.path, offset)
    if offset is not None:
        yield BadRecord(shard.path.name, shard.records, f"the manifest has {shard.records} records of this shard only")


def mended(manifest: Manifest, bad: Iterable[BadRecord], folder: Path) -> Manifest:
    """The set with every shard that has bad records replaced by a copy in `folder`, in which markers stand for them."""
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
    """A copy of a shard without some records. One worker of a run writes it; the others wait, and then read the same.

    It is not written a second time: another machine that is reading it would lose it.
    """
    import tensorflow as tf

    path = folder / shard.path.name
    written = path.with_name(f"{path.name}.json")  # the records that the copy lacks
    with locks.locked(locks.beside(path), f"writes {path}"):
        if path.is_file() and written.is_file() and json.loads(written.read_text()) == sorted(bad):
            return path
        files.remove(written)
        files.remove_abandoned(path, age=0)
        with files.replacing(path) as temporary, tf.io.TFRecordWriter(str(temporary)) as writer:
            for number, slot in enumerate(slots(shard.path, shard.records)):
                usable = isinstance(slot, bytes) and number not in bad
                writer.write(slot if usable else records.UNUSABLE)
        files.write_json(written, sorted(bad))
    return path


def load(run_dir: Path) -> list[BadRecord]:
    """The bad records that a run has met; none if it has no list."""
    path = run_dir / LIST
    if not path.is_file():
        return []
    try:
        with path.open(newline="") as file:
            return [BadRecord(line["shard"], int(line["record"]), line["reason"]) for line in csv.DictReader(file)]
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error}); remove it, and it is found again") from None


def save(run_dir: Path, bad: Iterable[BadRecord]) -> None:
    """Adds to a run's list of bad records. Two workers may each find one at the same time."""
    path = run_dir / LIST
    with locks.locked(locks.beside(path), f"writes {path}"):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([field.name for field in dataclasses.fields(BadRecord)])
        writer.writerows(dataclasses.astuple(each) for each in sorted({*load(run_dir), *bad}))
        files.write_text(path, text.getvalue())


def first_line(error: Exception) -> str:
    """What an error of TensorFlow says, without the names of its operations."""
    text = str(getattr(error, "message", error)).splitlines()[0]
    return text.split("}} ")[-1].split(" [Op:")[0]
