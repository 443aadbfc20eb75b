from __future__ import annotations

import concurrent.futures
import csv
import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from sqznet.core import locks
from sqznet.core.errors import InputError
from sqznet.data import build, corruption, manifest, pipeline, records, summary
from sqznet.images.preprocessing import Preprocessing
from sqznet.recipes import schedule
from tests import icc
from tests.conftest import CLASSES, COUNTS, TINY, build_set


def tree(folder: Path) -> dict[str, str]:
    """The checksum of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_manifest_has_the_counts_of_the_shards(shard_set):
    assert shard_set.classes == CLASSES
    for split, per_class in COUNTS.items():
        counts = shard_set.content["splits"][split]
        assert counts["per_class"] == [per_class] * 3
        assert counts["records"] == shard_set.records(split) == 3 * per_class
    for shard in shard_set.shards:
        assert shard.path.stat().st_size == shard.bytes
        assert hashlib.sha256(shard.path.read_bytes()).hexdigest() == shard.sha256
    assert all(60 < mean < 160 for mean in shard_set.channel_means)
    assert not (shard_set.folder / ".build").exists()


def test_a_built_set_verifies(shard_set):
    assert build.verify(shard_set.folder).shards == shard_set.shards


def test_the_number_of_workers_changes_no_byte(photographs, shard_set, tmp_path):
    build_set(f"folder:{photographs}", tmp_path / "set", workers=2)
    assert tree(tmp_path / "set") == tree(shard_set.folder)


def test_another_seed_gives_another_order(photographs, shard_set, tmp_path):
    build_set(f"folder:{photographs}", tmp_path / "set", seed=1)
    assert tree(tmp_path / "set") != tree(shard_set.folder)


@pytest.mark.slow
def test_a_build_killed_ten_times_ends_byte_identical(photographs, tmp_path):
    whole = build_set(f"folder:{photographs}", tmp_path / "whole", shard_records=6)
    out = tmp_path / "set"
    # The same build, each photograph slowed down, so that it is hit midway.
    script = (
        "import sys, time; from pathlib import Path; from tests.conftest import build_set\n"
        "from sqznet.data import shards\n"
        "from sqznet.images import decode\n"
        "real = decode.to_jpeg\n"
        "decode.to_jpeg = lambda *args, **kwargs: (time.sleep(0.03), real(*args, **kwargs))[1]\n"
        "print('ready', flush=True)\n"
        "build_set(sys.argv[1], Path(sys.argv[2]), shard_records=6)\n"
    )
    command = [sys.executable, "-c", script, f"folder:{photographs}", str(out)]
    rng, kills = random.Random(0), 0
    while kills < 10:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0.05, 0.7))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        assert not (out / manifest.FILE).exists(), "the build finished before it could be killed ten times"
    assert 0 < len(list(out.glob("*.tfrecord"))) < len(whole.shards), "no kill fell within the build"
    subprocess.run(command, check=True, capture_output=True)
    assert tree(out) == tree(whole.folder)


def test_a_killed_build_leaves_no_workers_behind(photographs, tmp_path):
    script = "import sys; from pathlib import Path; from tests.conftest import build_set\n"
    script += "if __name__ == '__main__': build_set(sys.argv[1], Path(sys.argv[2]), shard_records=1, workers=2)\n"
    (tmp_path / "build_it.py").write_text(script)
    out = tmp_path / "set"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(tmp_path / "build_it.py"), f"folder:{photographs}", str(out)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while not list(out.glob("*.tfrecord")):
        assert process.poll() is None, "the build ended before its first shard"
        time.sleep(0.01)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(workers) >= 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "workers outlived their parent"
        time.sleep(0.05)


def test_a_finished_build_is_not_repeated(photographs, shard_set, tmp_path):
    shutil.copytree(shard_set.folder, tmp_path / "set")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").iterdir()}
    build_set(f"folder:{photographs}", tmp_path / "set")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "set").iterdir()} == before


def test_a_folder_that_holds_another_set_is_refused(photographs, shard_set):
    with pytest.raises(InputError, match="was built from seed 0, not 1; choose another --out"):
        build_set(f"folder:{photographs}", shard_set.folder, seed=1)


def test_a_folder_that_holds_something_else_is_refused(photographs, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="is not empty and not an unfinished build"):
        build_set(f"folder:{photographs}", tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


@pytest.fixture
def flawed(photographs, tmp_path) -> Path:
    """The photographs, one of them truncated and one a text file."""
    root = tmp_path / "flawed"
    shutil.copytree(photographs, root)
    cut = root / "train" / "ball" / "003.jpg"
    cut.write_bytes(cut.read_bytes()[:-500])
    (root / "val" / "star" / "notes.txt").write_text("not a photograph")
    return root


def test_files_that_cannot_be_used_are_listed_and_left_out(flawed, tmp_path):
    built = build_set(f"folder:{flawed}", tmp_path / "set")
    header, *rows = csv.reader((tmp_path / "set" / "rejects.csv").open())
    assert header == ["file", "split", "reason"]
    assert [row[:2] for row in rows] == [["train/ball/003.jpg", "train"], ["val/star/notes.txt", "val"]]
    assert rows[0][2].startswith("broken: ")
    assert rows[1][2].startswith("not an image: ")
    assert built.content["splits"]["train"]["per_class"] == [39, 40, 40]


def test_photographs_in_other_colours_are_converted_and_counted(photographs, tmp_path, capsys):
    root = tmp_path / "mixed"
    shutil.copytree(photographs, root)
    with Image.open(root / "train" / "ball" / "003.jpg") as image:
        picture = image.convert("RGB")
    profile = icc.display_p3()
    icc.from_srgb(picture, profile).save(root / "train" / "ball" / "003.jpg", icc_profile=profile, quality=95)
    picture.save(root / "val" / "star" / "002.jpg", icc_profile=b"no profile", quality=95)
    built = build_set(f"folder:{root}", tmp_path / "set")
    assert built.content["colours"] == {"broken profile": 1, "converted": 1, "srgb": 178}
    summary.print_counts(built)
    printed = capsys.readouterr().out
    assert "1 photograph was converted from another colour profile to sRGB" in printed
    assert "1 photograph has a broken colour profile and was taken as sRGB" in printed
    again = build_set(f"folder:{root}", tmp_path / "pixels", decoded=True)
    assert again.content["colours"] == built.content["colours"]


def test_strict_stops_at_the_first(flawed, tmp_path):
    with pytest.raises(InputError, match=r"train/ball/003.jpg: broken: .*--strict"):
        build_set(f"folder:{flawed}", tmp_path / "set", strict=True)


def test_strict_refuses_a_set_that_was_built_without_some_files(flawed, tmp_path):
    build_set(f"folder:{flawed}", tmp_path / "set")
    with pytest.raises(InputError, match="was built without 2 files: see .*rejects.csv"):
        build_set(f"folder:{flawed}", tmp_path / "set", strict=True)


def test_a_class_without_any_usable_photograph_is_refused(photographs, tmp_path):
    root = tmp_path / "flawed"
    shutil.copytree(photographs, root)
    for path in (root / "train" / "ball").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match="class 'ball' has no usable photograph in train; rejected for: empty file"):
        build_set(f"folder:{root}", tmp_path / "set")


def test_short_side_makes_smaller_shards(photographs, shard_set, tmp_path):
    small = build_set(f"folder:{photographs}", tmp_path / "set", short_side=48)
    assert sum(shard.bytes for shard in small.shards) < 0.8 * sum(shard.bytes for shard in shard_set.shards)


def flip_a_bit(path: Path, record: int) -> None:
    """Flips one within the data of a record (TFRecord: 8 bytes length, 4 CRC, data, 4 CRC)."""
    content = bytearray(path.read_bytes())
    offset = 0
    for _ in range(record):
        offset += 16 + int.from_bytes(content[offset : offset + 8], "little")
    content[offset + 12 + 100] ^= 1
    path.write_bytes(content)


@pytest.fixture
def copied(shard_set, tmp_path) -> manifest.Manifest:
    shutil.copytree(shard_set.folder, tmp_path / "copied")
    return manifest.load(tmp_path / "copied")


def test_verify_names_a_corrupt_record(copied):
    shard = copied.shards[1].path
    flip_a_bit(shard, record=5)
    with pytest.raises(InputError, match=rf"{shard.name}, record 5 \(0 first\), is corrupt"):
        build.verify(copied.folder)


def test_verify_names_a_shard_cut_short(copied):
    shard = copied.shards[0].path
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(InputError, match=rf"{shard.name} has \d+ bytes; the manifest says {copied.shards[0].bytes}"):
        build.verify(copied.folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_base": 1}, "labels run from 1, and sqznet's run from 0"),
        ({"format": 99}, "has format 99; this version reads format 1"),
        (
            {"shards": [{"file": "../x", "split": "train", "records": 1, "bytes": 1, "sha256": ""}]},
            "outside its folder",
        ),
        ({"channel_means": None}, "cannot be read as a manifest"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(copied, change, message):
    path = copied.folder / manifest.FILE
    path.write_text(json.dumps({**copied.content, **change}))
    with pytest.raises(InputError, match=message):
        manifest.load(copied.folder)


def test_a_missing_shard_is_named(copied):
    copied.shards[0].path.unlink()
    with pytest.raises(InputError, match=f"{copied.shards[0].path.name} is missing"):
        manifest.load(copied.folder)


def test_a_folder_without_manifest_says_how_to_build_one(tmp_path):
    with pytest.raises(InputError, match=r"has no manifest.json: build it first: python -m sqznet.data"):
        manifest.load(tmp_path)
    (tmp_path / ".build").mkdir()
    with pytest.raises(InputError, match="its build is unfinished; run the same"):
        manifest.load(tmp_path)


def test_ilsvrc_builds_into_disjoint_splits_with_the_counts_it_must_have(ilsvrc, tmp_path):
    built = build_set(f"ilsvrc:{ilsvrc}", tmp_path / "set")
    counts = {split: built.content["splits"][split]["per_class"] for split in built.splits}
    assert counts == {"train": [12] * 3, "val": [4] * 3, "test": [50] * 3}
    names = {
        split: {
            features["image/filename"].bytes_list.value[0].decode()
            for shard in built.shards_of(split)
            for features in records.read(shard.path)
        }
        for split in built.splits
    }
    assert [len(names[split]) for split in ("train", "val", "test")] == [36, 12, 150]
    assert not names["train"] & names["test"]
    again = build_set(f"ilsvrc:{ilsvrc}", tmp_path / "again")
    assert tree(again.folder) == tree(built.folder)


def labels_by_content(built: manifest.Manifest) -> dict[bytes, int]:
    return {
        features["image/encoded"].bytes_list.value[0]: features["image/class/label"].int64_list.value[0]
        for shard in built.shards
        for features in records.read(shard.path)
    }


def test_a_hold_out_from_shards_of_another_builder_keeps_each_photographs_label(shard_set, tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for shard in shard_set.shards:
        if shard.split != "test":
            shutil.copy(shard.path, foreign)
    rebuilt = build_set(f"tfrecord:{foreign}", tmp_path / "set", holdout_per_class=10)
    assert rebuilt.content["splits"]["test"]["per_class"] == [10] * 3
    assert rebuilt.content["splits"]["train"]["per_class"] == [30] * 3
    expected = labels_by_content(shard_set)
    found = labels_by_content(rebuilt)
    assert len(found) == 3 * (40 + 11)
    assert all(expected[content] == label for content, label in found.items())


def test_a_decoded_set_gives_the_pixels_of_its_jpegs(photographs, tmp_path):
    made = {
        decoded: build_set(f"folder:{photographs}", tmp_path / str(decoded), decoded=decoded, short_side=80)
        for decoded in (False, True)
    }
    assert made[True].decoded and not made[False].decoded
    assert made[True].channel_means == pytest.approx(made[False].channel_means, abs=1)
    assert made[True].shards[0].bytes > 3 * made[False].shards[0].bytes
    kind = Preprocessing(48, 64)
    for (pixels, labels), (other_pixels, other_labels) in zip(
        *(pipeline.examples(each, "val", kind, None, 33) for each in made.values()), strict=True
    ):
        assert labels.tolist() == other_labels.tolist()
        difference = np.abs(pixels.astype(int) - other_pixels)
        assert difference.mean() < 4  # what JPEG loses
    plan = schedule.plan(TINY, made[True].records("train"))
    for size in (16, 32):  # halved, and not
        grown = dataclasses.replace(plan, recipe=TINY.replace(image_size=size, resize_to=size))
        sides = [next(pipeline.training_batches(each, grown, replicas=1).as_numpy_iterator()) for each in made.values()]
        assert (sides[0][1] == sides[1][1]).all()
        assert np.abs(sides[0][0].astype(int) - sides[1][0]).mean() < 6
    assert corruption.find_first(made[True], "train") is None


def test_a_decoded_record_of_another_size_is_named(photographs, tmp_path):
    made = build_set(f"folder:{photographs}", tmp_path / "set", decoded=True, short_side=32)
    shard = made.shards_of("train")[0]
    rows = list(records.read(shard.path))
    with tf.io.TFRecordWriter(str(shard.path)) as writer:
        for number, features in enumerate(rows):
            if number == 3:
                features["image/height"].int64_list.value[0] += 1
            writer.write(tf.train.Example(features=tf.train.Features(feature=dict(features))).SerializeToString())
    bad = corruption.find_first(made, "train")
    assert bad is not None and (bad.shard, bad.record) == (shard.path.name, 3)


def test_of_two_builds_at_once_the_second_waits_and_finds_the_set(photographs, tmp_path):
    """In two threads; `python -m tests.races` does it with two processes."""
    with concurrent.futures.ThreadPoolExecutor() as threads:
        both = [threads.submit(build_set, f"folder:{photographs}", tmp_path / "set") for _ in range(2)]
        one, other = (each.result() for each in both)
    assert one.content == other.content == build.verify(tmp_path / "set").content
    names = {shard.path.name for shard in one.shards}
    assert {path.name for path in (tmp_path / "set").iterdir()} == {*names, "manifest.json", "rejects.csv"}


def test_the_error_about_an_unfinished_set_names_the_process_that_builds_it(tmp_path):
    told = pytest.raises(InputError, match=rf"another process builds it now: .*\(process {os.getpid()} on host ")
    with locks.locked(tmp_path / "set" / manifest.LOCK), told:
        manifest.load(tmp_path / "set")
