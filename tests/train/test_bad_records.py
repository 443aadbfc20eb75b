"""What cannot be read is named, counted, left out up to the number allowed, and never passed over in silence."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from sqznet.core import remote
from sqznet.core.errors import InputError
from sqznet.data import corruption, pipeline, records
from sqznet.data import manifest as manifests
from sqznet.data.manifest import Manifest
from sqznet.recipes import schedule
from sqznet.runs import checkpoint
from sqznet.train import find_rate, strategy
from sqznet.train import run as run_module
from sqznet.train.run import Run
from tests.conftest import TINY
from tests.data.test_build import flip_a_bit

RECIPE = TINY.replace(epochs=1, warmup_epochs=0.0)


@pytest.fixture
def copied(shard_set, tmp_path) -> Manifest:
    shutil.copytree(shard_set.folder, tmp_path / "copied")
    return manifests.load(tmp_path / "copied")


def rewrite(shard: manifests.Shard, number: int, change) -> None:
    """Replaces one record of a shard, with right checksums."""
    stored = list(tf.data.TFRecordDataset(str(shard.path)).as_numpy_iterator())
    stored[number] = change(stored[number])
    with tf.io.TFRecordWriter(str(shard.path)) as writer:
        for record in stored:
            writer.write(record)


def with_feature(name: str, value: bytes | int):
    def change(record: bytes) -> bytes:
        example = tf.train.Example.FromString(record)
        feature = example.features.feature[name]
        if isinstance(value, bytes):
            feature.bytes_list.value[0] = value
        else:
            feature.int64_list.value[0] = value
        return example.SerializeToString()

    return change


def cut_off(shard: manifests.Shard, bytes_less: int) -> None:
    with shard.path.open("r+b") as file:
        file.truncate(shard.bytes - bytes_less)


def run(manifest: Manifest, folder, **options) -> Run:
    folder.mkdir(exist_ok=True)
    return Run(manifest, RECIPE, strategy.create("one"), folder, **options)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (with_feature("image/encoded", b"GIF89a no photograph"), "is corrupt: "),
        (with_feature("image/class/label", 3), r"is corrupt: its label is 3; the manifest has 3 classes, 0 to 2"),
        (with_feature("image/class/label", -1), "is corrupt: its label is -1"),
        (lambda record: b"", "is corrupt: .*image/class/label"),
        (lambda record: record[:40], "is corrupt: "),
    ],
    ids=["no-jpeg", "label-too-high", "label-too-low", "empty", "cut"],
)
def test_a_record_that_cannot_be_used_is_named(copied, change, reason):
    shard = copied.shards_of("train")[3]
    rewrite(shard, 5, change)
    plan = schedule.plan(RECIPE, copied.records("train"))
    with pytest.raises((tf.errors.InvalidArgumentError, UnicodeDecodeError)) as raised:
        list(pipeline.training_batches(copied, plan, replicas=1))
    assert corruption.is_read_error(raised.value)
    (found,) = corruption.find_ahead(copied, pipeline.order(copied, plan))
    assert re.fullmatch(rf".*{shard.path.name}, record 5 \(0 first\), {reason}.*", found.message(copied.folder))


def test_it_stops_the_run_unless_it_may_be_left_out(copied, tmp_path):
    shard = copied.shards_of("train")[3]
    rewrite(shard, 5, lambda record: record[:40])
    with pytest.raises(InputError, match=rf"{shard.path.name}, record 5 .* --max_bad_records=0 may be left out"):
        run(copied, tmp_path / "run").train()


@pytest.mark.slow
def test_bad_records_are_left_out_up_to_the_number_allowed(copied, tmp_path, capfd):
    """Of every kind at once; all others are trained on once."""
    first, second, third = copied.shards_of("train")[:3]
    flip_a_bit(first.path, record=3)
    rewrite(second, 5, with_feature("image/encoded", b"no photograph"))
    cut_off(third, 10)
    with pytest.raises(
        InputError, match=rf"{third.path.name}, record 14 .*Bad records: 1 so far, and --max_bad_records=0"
    ):
        run(copied, tmp_path / "strict")
    made = run(copied, tmp_path / "run", max_bad_records=3)
    made.train()
    expected = [(first.path.name, 3), (second.path.name, 5), (third.path.name, 14)]
    assert [(each.shard, each.record) for each in corruption.load(tmp_path / "run")] == expected
    assert made.state.sums.count == 0 and made.state.history[0]["epoch"] == 1
    assert capfd.readouterr().err.count("left out:") == 3

    stream = pipeline.order(made.readable, made.schedule)
    used = [(int(shard), int(number)) for _, _, shard, number, record in stream.as_numpy_iterator()
            if record != records.UNUSABLE]  # fmt: skip
    assert len(used) == len(set(used)) == 117
    assert not {(0, 3), (1, 5), (2, 14)} & set(used)
    again = run(copied, tmp_path / "again", max_bad_records=3)
    again.train()
    for name, array in checkpoint.read(again.variables).items():
        np.testing.assert_array_equal(array, made.variables[name].value.numpy(), err_msg=name)

    with pytest.raises(InputError, match="Bad records: 2 so far, and --max_bad_records=1 may be left out"):
        run(copied, tmp_path / "fewer", max_bad_records=1).train()


def test_a_missing_shard_counts_with_all_its_records(copied, tmp_path):
    lost = copied.shards_of("train")[0]
    lost.path.unlink()
    with pytest.raises(InputError, match=r"train-00000-of-.*.tfrecord is missing"):
        manifests.load(copied.folder)
    partly = manifests.load(copied.folder, whole=False)
    with pytest.raises(InputError, match=rf"{lost.path.name}, record 0 .*Bad records: {lost.records} so far"):
        run(partly, tmp_path / "run", max_bad_records=lost.records - 1)
    assert len(run(partly, tmp_path / "run", max_bad_records=lost.records).bad) == lost.records


def test_a_shard_that_ends_early_between_records_is_noticed(copied, tmp_path):
    """TensorFlow takes it for whole."""
    shard = copied.shards_of("train")[1]
    stored = list(tf.data.TFRecordDataset(str(shard.path)).as_numpy_iterator())
    cut_off(shard, 16 + len(stored[-1]))
    with pytest.raises(InputError, match=rf"record {len(stored) - 1} .*the file ends after {len(stored) - 1} of"):
        run(copied, tmp_path / "run")
    plan = schedule.plan(RECIPE, copied.records("train"))
    with pytest.raises(tf.errors.FailedPreconditionError):
        list(pipeline.order(copied, plan))


def test_a_record_left_out_counts_for_nothing(shard_set, tmp_path):
    """Its label is -1: no loss, no hit, no count, no part in the gradient."""
    bad = [corruption.BadRecord(shard.path.name, 0, "test") for shard in shard_set.shards_of("train")]
    without = corruption.without_bad_records(shard_set, bad, tmp_path / "mended")
    plan = schedule.plan(RECIPE, shard_set.records("train"))
    batches = list(pipeline.training_batches(without, plan, replicas=1).as_numpy_iterator())
    labels = np.concatenate([labels for _, labels in batches])
    images = np.concatenate([images for images, _ in batches])
    assert (labels == -1).sum() == len(bad)
    assert not images[labels == -1].any()
    complete = np.concatenate(
        [each for _, each in pipeline.training_batches(shard_set, plan, replicas=1).as_numpy_iterator()]
    )
    assert (complete[labels >= 0] == labels[labels >= 0]).all()  # the others are where they were
    made = run(without, tmp_path / "run")
    sums = made.train_steps(iter(pipeline.training_batches(without, plan, replicas=1)), tf.zeros([15])).numpy()
    assert sums[:, 3].sum() == 120 - len(bad)
    assert np.isfinite(sums).all()


def test_workers_that_mend_the_same_shard_share_one_copy(shard_set, tmp_path):
    bad = [corruption.BadRecord(shard.path.name, 0, "test") for shard in shard_set.shards_of("train")]

    def mended() -> list[int]:
        made = corruption.without_bad_records(shard_set, bad, tmp_path / corruption.FOLDER)
        return [shard.path.stat().st_ino for shard in made.shards_of("train")]

    with concurrent.futures.ThreadPoolExecutor() as workers:
        inodes = [each.result() for each in [workers.submit(mended) for _ in range(3)]]
    assert inodes[0] == inodes[1] == inodes[2] == mended(), "a copy was replaced while another worker may read it"
    assert not [path for path in (tmp_path / corruption.FOLDER).iterdir() if path.name.startswith(".")]


def test_workers_that_find_other_bad_records_lose_none(tmp_path):
    one, other = corruption.BadRecord("a", 1, "broken"), corruption.BadRecord("b", 2, "broken")
    for each in (one, other):  # neither worker has seen the other's list
        corruption.save(tmp_path, [each])
    assert corruption.load(tmp_path) == [one, other]


def test_shards_are_read_from_any_file_system_of_tensorflow(shard_set):
    """`ram` stands for `gs`: the same layer."""
    for path in shard_set.folder.iterdir():
        tf.io.gfile.copy(str(path), f"ram://bucket/set/{path.name}", overwrite=True)
    there = manifests.load(remote.folder("ram://bucket/set"))
    plan = schedule.plan(RECIPE, there.records("train"))
    for (images, labels), (other_images, other_labels) in zip(
        pipeline.training_batches(there, plan, replicas=1).as_numpy_iterator(),
        pipeline.training_batches(shard_set, plan, replicas=1).as_numpy_iterator(),
        strict=True,
    ):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)
    with pytest.raises(InputError, match="no such folder: ram://bucket/other"):
        manifests.load(remote.folder("ram://bucket/other"))
    with pytest.raises(InputError, match=r"hdfs://host/set/?\S* cannot be read: .*TensorFlow reads .*gs://"):
        manifests.load(remote.folder("hdfs://host/set"))
    assert dataclasses.astuple(there.shards[0])[1:] == dataclasses.astuple(shard_set.shards[0])[1:]


def shorten(shard: manifests.Shard, records: int) -> None:
    """Cuts a shard at the end of a record, which TensorFlow takes for its end; or repeats its last record."""
    stored = list(tf.data.TFRecordDataset(str(shard.path)).as_numpy_iterator())
    with tf.io.TFRecordWriter(str(shard.path)) as writer:
        for record in (stored + stored[-1:])[: shard.records + records]:
            writer.write(record)


def test_a_bad_record_is_found_however_far_ahead_a_call_reads(copied, tmp_path, monkeypatch):
    recipe = RECIPE.replace(steps_per_call=100)
    plan = schedule.plan(recipe, copied.records("train"))
    *_, (_, _, shard, number, _) = pipeline.order(copied, plan).take(copied.records("train")).as_numpy_iterator()
    last = copied.shards_of("train")[shard]
    rewrite(last, number, with_feature("image/encoded", b"no photograph"))
    monkeypatch.setattr(
        run_module, "READ_AHEAD", 1 - recipe.steps_per_call
    )  # one batch only: the split has to be searched
    made = Run(copied, recipe, strategy.create("one"), tmp_path)
    with pytest.raises(InputError, match=rf"{last.path.name}, record {number} .* is corrupt"):
        made.train()


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize(
    ("by", "reason"), [(-1, "the file ends after 1. of 1. records"), (1, "has 1. records of this")]
)
def test_a_score_of_fewer_or_more_records_than_the_manifest_has_is_refused(copied, split, by, reason):
    shard = copied.shards_of(split)[-1]
    shorten(shard, by)
    with pytest.raises(InputError, match=rf"{shard.path.name}, record 1. \(0 first\), is corrupt: .*{reason}"):
        for _ in pipeline.examples(copied, split, RECIPE.preprocessing, None, 8):
            pass


def test_one_record_too_many_is_named_in_training_and_can_be_left_out(copied, tmp_path):
    shard = copied.shards_of("train")[2]
    shorten(shard, 1)
    with pytest.raises(InputError, match=rf"{shard.path.name}, record 15 .* the manifest has 15 records of this shard"):
        run(copied, tmp_path / "strict")
    made = run(copied, tmp_path / "run", max_bad_records=1)
    assert sum(1 for _ in pipeline.order(made.readable, made.schedule).as_numpy_iterator()) >= 120


def test_looking_for_a_learning_rate_names_a_bad_record(copied, tmp_path):
    shard = copied.shards_of("train")[0]
    flip_a_bit(shard.path, record=3)
    with pytest.raises(InputError, match=rf"{shard.path.name}, record 3 \(0 first\), is corrupt"):
        find_rate.find(copied, RECIPE, strategy_name="one", replicas=None, folder=tmp_path)


@pytest.mark.slow
def test_a_score_is_refused_without_assertions_too(copied, trained_run, tmp_path):
    shorten(copied.shards_of("test")[-1], -1)
    flags = [f"--model={trained_run}", f"--data={copied.folder}", f"--out={tmp_path}"]
    done = subprocess.run([sys.executable, "-O", "-m", "sqznet.evaluate", *flags], capture_output=True, text=True)
    assert done.returncode == 2 and "the file ends after" in done.stderr and "Traceback" not in done.stderr
