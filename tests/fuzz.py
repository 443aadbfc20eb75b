"""Fuzzes the readers of photographs and shards with random damage.

  python -m tests.fuzz --mutations=10000
  python -m tests.fuzz --mutations=6000 --target=exif --target=profile --target=tiff

The targets are the readers of files from outside: `data` (photographs; shards of other builders), `train`'s reader, and
`predict`. Each mutation must be accepted, with the result of an independent reader, or refused with a message that
names the place. No mutation may make a reader hang or crash.
"""

from __future__ import annotations

import argparse
import functools
import io
import multiprocessing
import os
import random
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

HANG = 5.0  # seconds for one mutation; targets that build a TensorFlow pipeline have five times that
Check = Callable[[random.Random, Path], str]


class Defect(AssertionError):
    """A reader did something wrong."""


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Changes, removes, repeats or moves some bytes, one to three times."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at, length = rng.randrange(len(changed) + 1), rng.choice([1, 2, 4, 16, 100, 1000])
        piece = changed[at : at + length]
        match rng.randrange(8):
            case 0 if piece:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at : at + length] = rng.randbytes(len(piece))
            case 2:
                del changed[at:]
            case 3:
                del changed[at : at + length]
            case 4:
                changed[at:at] = piece
            case 5:
                changed[at : at + length] = bytes([rng.choice([0, 0xFF, 0x7F])]) * len(piece)
            case 6:  # most length fields are near the beginning
                near = rng.randrange(min(len(changed), 700) + 1)
                changed[near : near + 4] = struct.pack(
                    rng.choice(["<I", ">I"]), rng.choice([0, 1, 2**16, 2**31, 2**32 - 1])
                )
            case 7 if piece:  # markers of JPEG
                changed[at : at + 2] = bytes([0xFF, rng.choice([0xC0, 0xC2, 0xC4, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD, 0xE1])])
    return bytes(changed)


def photograph(rng: random.Random) -> bytes:
    """A photograph in a random format."""
    from PIL import Image

    from sqznet.data.sources import synthetic

    jpeg = synthetic.draw(f"fuzz/{rng.randrange(50)}", rng.randrange(10), seed=0)
    form = rng.choice(["JPEG"] * 6 + ["PNG", "GIF", "BMP", "WEBP", "TIFF", "progressive", "grey"])
    if form == "JPEG":
        return jpeg
    image, buffer = Image.open(io.BytesIO(jpeg)), io.BytesIO()
    if form == "grey":
        image = image.convert("L")
    image.save(
        buffer,
        "JPEG" if form in ("progressive", "grey") else form,
        **({"progressive": True} if form == "progressive" else {}),
    )
    return buffer.getvalue()


def data_photograph(rng: random.Random, _folder: Path) -> str:
    """`data --source=folder:`: Pillow and TensorFlow decode an accepted photograph to the same pixels."""
    import tensorflow as tf
    from PIL import Image

    from sqznet.core.errors import Reject
    from sqznet.data import shards
    from sqznet.images import decode

    try:
        jpeg = decode.to_jpeg(mutate(photograph(rng), rng), max_pixels=4_000_000)
        (means,) = shards.channel_means([jpeg.content])
        if isinstance(means, Reject):
            raise means
    except Reject as reason:
        return _refused(str(reason))
    pixels = tf.image.decode_jpeg(jpeg.content, channels=3).numpy().astype(int)
    other = np.asarray(Image.open(io.BytesIO(jpeg.content)).convert("RGB")).astype(int)
    if pixels.shape != (jpeg.height, jpeg.width, 3) or other.shape != pixels.shape:
        raise Defect(f"accepted as {jpeg.height}x{jpeg.width}, decoded as {pixels.shape} and {other.shape}")
    if np.abs(pixels - other).mean() > 6:  # their inverse DCTs and chroma upsampling differ a little
        return "accepted, damaged pixels that the two decoders conceal differently"
    return "accepted, pixels agree"


def predict_photograph(rng: random.Random, folder: Path) -> str:
    """`predict`: the photograph is refused with a reason, or decoded."""
    from sqznet.core.errors import Reject
    from sqznet.images import resize
    from sqznet.images.preprocessing import Preprocessing
    from sqznet.predict import photographs

    path = folder / "photo.jpg"
    path.write_bytes(mutate(photograph(rng), rng))
    try:
        pixels, _ = photographs.read(path)
    except Reject as reason:
        return _refused(str(reason))
    image = resize.prepare(pixels, Preprocessing(64, 72))
    if image.shape != (64, 64, 3) or image.dtype != np.uint8:
        raise Defect(f"pixels are {image.shape} {image.dtype}")
    return "accepted, pixels of the right shape"


def shard_of(rng: random.Random, count: int = 6) -> list[bytes]:
    from sqznet.data import records
    from sqznet.data.sources import synthetic

    names = [f"fuzz/{rng.randrange(50)}" for _ in range(count)]
    labels = [rng.randrange(3) for _ in names]
    labels[:3] = [0, 1, 2]
    return [
        records.encode(
            synthetic.draw(name, label, seed=0),
            label=label,
            synset=f"n{label}",
            filename=f"{name}.jpg",
            height=96,
            width=96,
            decoded=False,
        )
        for name, label in zip(names, labels, strict=True)
    ]


def framed(stored: list[bytes], path: Path) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in stored:
            writer.write(record)


def damaged_shard(rng: random.Random, path: Path) -> list[bytes]:
    """Writes a shard with random damage, or with a bad record and correct checksums; returns the original records."""
    stored = shard_of(rng)
    if rng.random() < 0.5:
        framed(stored, path)
        path.write_bytes(mutate(path.read_bytes(), rng))
    else:
        changed = list(stored)
        which = rng.randrange(len(changed))
        changed[which] = rng.choice(
            [b"", mutate(changed[which], rng), mutate(changed[which], rng), _relabelled(changed[which], rng)]
        )
        framed(changed, path)
    return stored


def _relabelled(record: bytes, rng: random.Random) -> bytes:
    import tensorflow as tf

    example = tf.train.Example.FromString(record)
    feature = example.features.feature["image/class/label"]
    if rng.random() < 0.3:
        feature.bytes_list.value.append(b"no number")
    else:
        feature.int64_list.value[0] = rng.choice([-1, 3, 1000, 2**31, 2**62, -(2**62)])
    return example.SerializeToString()


def train_reader(rng: random.Random, folder: Path) -> str:
    """`train`: each record of a damaged shard is read as it was written, or reported with a reason."""
    import tensorflow as tf

    from sqznet.data import corruption, manifest, pipeline, records
    from sqznet.recipes import IMAGENETTE, schedule

    path = folder / "train-0.tfrecord"
    framed(original := damaged_shard(rng, path), folder / "whole.tfrecord")
    shard = manifest.Shard(path, "train", len(original), (folder / "whole.tfrecord").stat().st_size, "")
    made = manifest.Manifest(folder, ("a", "b", "c"), (0.0, 0.0, 0.0), (shard,), {})
    recipe = IMAGENETTE.replace(image_size=32, resize_to=32, train_sizes=(), global_batch_size=3, epochs=1)
    plan = schedule.plan(recipe, len(original))
    try:
        batches = list(pipeline.training_batches(made, plan, replicas=1).as_numpy_iterator())
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        if not corruption.is_read_error(error):
            raise
        bad = {*corruption.in_shards_of_wrong_size(made), *corruption.find_ahead(made, pipeline.order(made, plan))}
        if not bad:
            raise Defect(f"reading fails ({type(error).__name__}) and no bad record is found") from None
        for each in bad:
            if not each.reason or path.name not in each.message(folder):
                raise Defect(f"not named: {each}") from None
        copied = corruption.without_bad_records(made, bad, folder / "copied")
        wrong = {each.record for each in bad}
        read = list(tf.data.TFRecordDataset(str(copied.shards[0].path)).as_numpy_iterator())
        if [number for number, record in enumerate(read) if record == records.UNUSABLE] != sorted(wrong):
            raise Defect(f"{wrong} are bad, and others are left out") from None
        changed = [n for n, record in enumerate(read) if n not in wrong and record != original[n]]
        if len(changed) > 1:  # one may be a replacement with a correct checksum
            raise Defect(f"records {changed} are read differently from how they were written") from None
        batches = list(pipeline.training_batches(copied, plan, replicas=1).as_numpy_iterator())
        if sum((labels == -1).sum() for _, labels in batches) != len(wrong):
            raise Defect("the number of records without a label is wrong") from None
        return "refused, with shard and record"
    labels = sorted(int(label) for _, some in batches for label in some)
    if len(labels) != len(original) or not set(labels) <= {0, 1, 2}:
        raise Defect(f"read as {labels}")
    return "accepted, all records read"


def data_shard(rng: random.Random, folder: Path) -> str:
    """`data --source=tfrecord:`: a set that verifies, or an error that names the shard."""
    from sqznet.core.errors import InputError
    from sqznet.data import build, records
    from sqznet.data.shard_plan import BuildOptions

    there, out = folder / "there", folder / "out"
    there.mkdir()
    path = there / "train-00000-of-00001"
    damaged_shard(rng, path)
    try:
        made = build.build(f"tfrecord:{there}", out, options=BuildOptions(max_pixels=4_000_000))
    except InputError as error:
        return _named(error, str(there), str(out))
    build.verify(out)
    kept = [features for shard in made.shards for features in records.read(shard.path)]
    if len(kept) + made.content["rejected"] != sum(1 for _ in records.read(path)):
        raise Defect("records are missing without a message")
    return "accepted, the built set verifies"


def metadata(kind: str, rng: random.Random, _folder: Path) -> str:
    """`data` and `predict` agree on a photograph with a damaged EXIF block, colour profile or TIFF directory."""
    from tests import fuzz_metadata

    return fuzz_metadata.outcome(kind, rng)


TARGETS: dict[str, tuple[Check, int, float]] = {  # check, relative number of mutations, time limit in seconds
    "data, photographs": (data_photograph, 5, HANG),
    "predict": (predict_photograph, 3, HANG),
    "exif": (functools.partial(metadata, "exif"), 1, HANG),
    "profile": (functools.partial(metadata, "profile"), 1, HANG),
    "tiff": (functools.partial(metadata, "tiff"), 1, HANG),
    "train's reader": (train_reader, 1, 5 * HANG),
    "data, shards": (data_shard, 1, 5 * HANG),
}


def _refused(reason: str) -> str:
    if not reason.strip():
        raise Defect("refused without a reason")
    return "refused, with the reason"


def _named(error: Exception, *places: str) -> str:
    if not any(place in str(error) for place in places):
        raise Defect(f"the message does not name the place: {error}")
    return "refused, with the place"


def _work(target: str, seeds: list[int], pipe: Connection) -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    from sqznet.core import startup

    startup.load_tensorflow()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # hides progress bars and libjpeg's warnings
    check = TARGETS[target][0]
    pipe.send("ready")
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcome = check(random.Random(seed), Path(folder))
            except Defect as defect:
                outcome = f"DEFECT: {defect}"
            except Exception as error:
                outcome = f"DEFECT: {type(error).__name__}: {str(error)[:300]}"
        pipe.send(outcome)


def outcomes(target: str, seeds: list[int]) -> Iterator[tuple[int, str]]:
    """Yields each seed with its outcome. The checks run in another process, which may crash or hang."""
    context, rest = multiprocessing.get_context("spawn"), list(seeds)
    while rest:
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(target, rest, there), daemon=True)
        process.start()
        there.close()
        try:
            assert here.poll(120) and here.recv() == "ready"
            while rest:
                if not here.poll(TARGETS[target][2]):
                    yield rest.pop(0), f"DEFECT: no end within {TARGETS[target][2]:g} s"
                    break
                outcome = here.recv()  # before the next seed is taken: the process may crash while it checks that seed
                yield rest.pop(0), outcome
        except (EOFError, ConnectionResetError):
            process.join()
            yield rest.pop(0), f"DEFECT: the process ended with {process.exitcode}"
        finally:
            process.kill()
            process.join()


def fuzz(
    mutations: int, seed: int, targets: Sequence[str] = tuple(TARGETS)
) -> tuple[Counter[tuple[str, str]], list[str]]:
    """The number of each outcome by target, and the defects."""
    from sqznet.core import console

    counts, defects = Counter[tuple[str, str]](), []
    shares = sum(TARGETS[target][1] for target in targets)
    with console.progress("mutations/s") as bar:
        for target in targets:
            number = mutations * TARGETS[target][1] // shares
            seeds = [seed * 1_000_000 + index for index in range(number)]
            for each, outcome in bar.track(outcomes(target, seeds), total=number, description=target):
                if outcome.startswith("DEFECT"):
                    defects.append(f"{target}, seed {each}: {outcome}")
                    outcome = "DEFECT"
                counts[target, outcome] += 1
    return counts, defects


def main() -> int:
    from sqznet.core import console

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__, allow_abbrev=False)
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--target", "--door", choices=TARGETS, action="append", help="only this target; may be repeated"
    )
    args = parser.parse_args()
    counts, defects = fuzz(args.mutations, args.seed, args.target or tuple(TARGETS))
    console.table(["target", "outcome", "mutations"], [(*key, count) for key, count in sorted(counts.items())])
    for defect in defects:
        console.result(defect)
    return 1 if defects else 0


if __name__ == "__main__":
    sys.exit(main())
