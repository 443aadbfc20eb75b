"""Shards of other builders, with their own keys, names, numbers and compression."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from sqznet.core.errors import InputError
from sqznet.data import provenance, records
from sqznet.data.sources import open_source
from sqznet.images import decode
from tests.conftest import build_set

FLOWERS = ("daisy", "dandelion", "rose")


def jpeg(label: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 60 * label, np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def write(path: Path, rows: list[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in rows:
            example = tf.train.Example()
            for key, value in row.items():
                values = value if isinstance(value, list) else [value]
                feature = example.features.feature[key]
                kind = {bytes: feature.bytes_list, int: feature.int64_list, float: feature.float_list}[type(values[0])]
                kind.value.extend(values)
            writer.write(example.SerializeToString())


def slim(labels: list[int], **more: object) -> list[Mapping[str, object]]:
    """Records as TF-Slim's builders write them."""
    return [{"image/encoded": jpeg(label % 4), "image/class/label": label, **more} for label in labels]


def listed(root: Path | str, **options):
    return open_source(f"tfrecord:{root}", seed=0, **options)


def labels(source, split: str = "train") -> list[int]:
    return [photo.label for photo in source.splits[split]]


def note(source, part: str) -> str:
    (found,) = [each for each in source.notes if part in each]
    return found


# Names of classes


def test_class_names_come_from_the_records(tmp_path):
    rows = [{**row, "image/class/text": FLOWERS[n].encode()} for n in (2, 0, 1, 1) for row in slim([n])]
    write(tmp_path / "train-00000-of-00001", rows)
    write(tmp_path / "validation-00000-of-00001", rows)
    assert listed(tmp_path).classes == list(FLOWERS)


@pytest.mark.parametrize(
    "lines",
    ["daisy\ndandelion\nrose\n", "0:daisy\n1:dandelion\n2:rose", "0 daisy\r\n1 dandelion\r\n2 rose\r\n",
     "\ufeff2: rose\n0: daisy\n1: dandelion\n\n", "0,daisy\n1,dandelion\n2,rose\n"],
)  # fmt: skip
def test_labels_txt_names_the_classes_with_and_without_numbers(lines, tmp_path):
    write(tmp_path / "train-00000-of-00001", slim([0, 1, 2]))
    (tmp_path / "labels.txt").write_text(lines)
    source = listed(tmp_path)
    assert source.classes == list(FLOWERS)
    assert note(source, "classes are from").endswith("labels.txt")


def test_labels_txt_may_start_at_1_if_the_records_do(tmp_path):
    write(tmp_path / "train-00000-of-00001", slim([1, 2, 3]))
    for text in (
        "1:daisy\n2:dandelion\n3:rose\n",
        "0:background\n1:daisy\n2:dandelion\n3:rose\n",
        "0:daisy\n1:dandelion\n2:rose\n",
    ):
        (tmp_path / "labels.txt").write_text(text)
        assert listed(tmp_path, label_offset=-1).classes == list(FLOWERS)


def test_labels_txt_that_contradicts_the_records_is_refused_or_noted(tmp_path):
    write(
        tmp_path / "train-00000-of-00001",
        [row for n in range(3) for row in slim([n], **{"image/class/text": FLOWERS[n].encode()})],
    )
    (tmp_path / "labels.txt").write_text("rose\ndandelion\ndaisy\n")
    message = "names 2 classes differently from the records: 0 is 'rose' there and 'daisy' in the records"
    assert message in note(listed(tmp_path), "differently")
    (tmp_path / "labels.txt").write_text("daisy\n\nrose\n")
    with pytest.raises(InputError, match=r"labels.txt, line 2, is empty; expected the name of class 1"):
        listed(tmp_path)
    (tmp_path / "labels.txt").write_text("daisy\nrose\n")
    with pytest.raises(InputError, match=r"labels.txt names 2 classes and none for label 2"):
        listed(tmp_path)
    (tmp_path / "labels.txt").write_bytes(b"daisy\nros\xe9\ntulip\n")
    with pytest.raises(InputError, match=r"labels.txt, line 2, is not UTF-8"):
        listed(tmp_path)


def test_classes_with_equal_names_get_their_labels_added(tmp_path):
    write(tmp_path / "train-00000-of-00001", slim([0, 1, 2]))
    (tmp_path / "labels.txt").write_text("crane\ncrane\nheron\n")
    assert listed(tmp_path).classes == ["crane (0)", "crane (1)", "heron"]


@pytest.mark.parametrize("first", ["background", "Background", "unused background", "dummy", "__background__"])
def test_a_background_class_without_records_is_left_out(first, tmp_path):
    write(tmp_path / "train-00000-of-00001", slim([1, 2, 3]))
    (tmp_path / "labels.txt").write_text(f"{first}\ndaisy\ndandelion\nrose\n")
    source = listed(tmp_path, label_offset=-1)
    assert source.classes == list(FLOWERS)
    assert note(source, "is not a class and was left out").startswith(f"'{first}', the first name of")


def test_names_that_may_count_from_0_or_from_1_are_refused(tmp_path):
    write(tmp_path / "train-00000-of-00001", slim([1, 2, 3]))
    (tmp_path / "labels.txt").write_text("tulip\ndaisy\ndandelion\nrose\n")
    message = r"labels.txt has 4 names for labels from 1 to 3: is its first line, 'tulip', the name of label 0, or of"
    with pytest.raises(InputError, match=message):
        listed(tmp_path, label_offset=-1)
    (tmp_path / "labels.txt").write_text("daisy\ndandelion\nrose\n")
    assert listed(tmp_path, label_offset=-1).classes == list(FLOWERS)


@pytest.mark.parametrize("file", ["label.labels.txt", "classes.txt"])
def test_other_files_of_names_are_read_as_labels_txt_is(file, tmp_path):
    write(tmp_path / "train-00000-of-00001", slim([0, 1, 2]))
    (tmp_path / file).write_text("daisy\ndandelion\nrose\n")
    source = listed(tmp_path)
    assert source.classes == list(FLOWERS)
    assert note(source, "classes are from").endswith(file)


def test_a_number_after_a_name_is_its_label_where_all_lines_have_one(tmp_path):
    write(tmp_path / "train-00000-of-00001", slim([0, 1, 2]))
    (tmp_path / "labels.txt").write_text("rose:2\ndaisy: 0\ndandelion:1\n")
    assert listed(tmp_path).classes == list(FLOWERS)
    (tmp_path / "labels.txt").write_text("boeing:737\nairbus:320\ncessna:172\n")
    assert listed(tmp_path).classes == ["boeing:737", "airbus:320", "cessna:172"]


def test_classes_without_a_synset_are_called_by_their_text(tmp_path):
    names = [("image/class/synset", b"n01"), ("image/class/text", b"dandelion"), ("image/class/synset", b"n03")]
    rows = [row for n, (key, name) in enumerate(names) for row in slim([n], **{key: name})]
    write(tmp_path / "train-00000-of-00001", rows)
    assert listed(tmp_path).classes == ["n01", "dandelion", "n03"]


# Which files are shards


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_compressed_shards_are_read_under_any_name(compress, tmp_path):
    write(tmp_path / "plain", slim([0, 1, 2, 1]))
    (tmp_path / "train-00000-of-00001").write_bytes(compress((tmp_path / "plain").read_bytes()))
    source = listed(tmp_path)
    assert labels(source) == [0, 1, 2, 1]
    assert list(source.read(source.splits["train"][2:])) == [jpeg(2), jpeg(1)]


@pytest.mark.parametrize(
    "name",
    ["train-{}", "train-{}.tfrecord", "flowers_train_{}.tfrecord", "imagenette-train.tfrecord-{}", "Training_Set-{}",
     "train/part-{}", "tfrecords/train-{}", "flowers/training/{}.tfrec", "train-{}.gz"],
)  # fmt: skip
def test_shards_have_a_split_in_their_name_or_their_folder(name, tmp_path):
    for index in range(2):
        write(tmp_path / name.format(f"{index:05d}-of-00002"), slim([2 * index, 2 * index + 1]))
    source = listed(tmp_path)
    assert labels(source) == [0, 1, 2, 3]
    assert list(source.read(source.splits["train"][1:3])) == [jpeg(1), jpeg(2)]


def test_index_files_beside_shards_are_skipped_and_counted(tmp_path):
    write(tmp_path / "train-00000-of-00001", slim([0, 1]))
    (tmp_path / "train-00000-of-00001.idx").write_text("0 100\n100 100\n")
    (tmp_path / "train-00000-of-00001.index").write_text("0 100\n")
    source = listed(tmp_path)
    assert labels(source) == [0, 1]
    assert note(source, "other files") == "other files, not read: 2 (train-00000-of-00001.idx, ...)"


def test_two_sets_in_one_folder_are_not_merged(tmp_path):
    for index in range(2):
        write(tmp_path / f"train-{index:05d}-of-00002", slim([2 * index, 2 * index + 1]))
        write(tmp_path / f"train-fft-{index:05d}-of-00002", slim([1, 1, 0]))
    source = listed(tmp_path)
    assert labels(source) == [0, 1, 2, 3]
    assert "shards of another set, not read: 2 (train-fft-00000-of-00002, ...)" in note(source, "another set")
    assert f"--source='tfrecord:{tmp_path}/*-fft-*-of-*'" in note(source, "another set")
    other = listed(f"{tmp_path}/*-fft-*-of-*")
    assert {photo.key.partition("[")[0] for photos in other.splits.values() for photo in photos} == {
        "train-fft-00000-of-00002",
        "train-fft-00001-of-00002",
    }


def test_several_sets_of_equal_rank_are_refused_with_the_choices(tmp_path):
    for name in ("first", "second"):
        write(tmp_path / name / "train-00000-of-00001", slim([0, 1]))
    with pytest.raises(InputError, match=rf"shards of 2 sets. Choose one. .*--source='tfrecord:{tmp_path}/second'"):
        listed(tmp_path)
    assert labels(listed(tmp_path / "second")) == [0, 1]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["train-00000-of-00002", "train-00001-of-00002", "train-00000-of-00004"], "train has shards of two sets"),
        (["train-00000-of-00001", "train-00000-of-00001.gz"], "are the same shard twice"),
        (["train.tfrecords"], "has no shards; expected shards such as train-00000-of-00008 .* such as train.tfrecords"),
        ([], "has no shards; expected shards such as train-00000-of-00008"),
    ],
)
def test_files_that_are_not_one_set_of_shards_are_refused_by_name(files, message, tmp_path):
    for name in files:
        write(tmp_path / name, slim([0, 1]))
    with pytest.raises(InputError, match=message):
        listed(tmp_path)


def test_an_incomplete_set_is_built_and_noted(tmp_path):
    for index in (1, 4):
        write(tmp_path / "in" / f"train-{index:05d}-of-00008", slim([3, 0, 3, 5] * 4))
    built = build_set(f"tfrecord:{tmp_path / 'in'}", tmp_path / "out")
    assert len(built.classes) == 6
    assert built.classes_without("train") == ["1", "2", "4"]
    assert any(each.startswith("train IS INCOMPLETE: 2 of its 8 shards") for each in built.content["notes"])


def test_broken_links_to_shards_are_counted_and_the_set_is_incomplete(tmp_path):
    root = tmp_path / "set"
    write(root / "train-00000-of-00003", slim([0, 1]))
    (root / "train-00001-of-00003").symlink_to(tmp_path / ".git/annex/objects/gone")
    (root / "train-00002-of-00003").symlink_to("train-00002-of-00003")
    source = listed(root)
    assert labels(source) == [0, 1]
    assert note(source, "links without a target: 1 (train-00001-of-00003)")
    assert "to themselves" in note(source, "1 (train-00002-of-00003)")
    assert note(source, "train IS INCOMPLETE: 1 of its 3 shards are there")
    (root / "train-00000-of-00003").unlink()
    with pytest.raises(InputError, match=r"no shards that can be read; links without a target: 1 .* \(git annex get"):
        listed(root)


def test_a_linked_folder_of_shards_is_named(tmp_path):
    write(tmp_path / "elsewhere" / "train-00000-of-00001", slim([0, 1]))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"linked folders, not searched for shards: 1 \(train\)"):
        listed(tmp_path / "set")


def test_a_shard_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(InputError, match="train-00000-of-00001 cannot be read: No such file"):
        next(records.read(tmp_path / "train-00000-of-00001"))


# Keys and labels


@pytest.mark.parametrize(
    ("photograph", "label"),
    [("image_raw", "label"), ("image", "label"), ("image/encoded", "label"), ("image", "class"), ("jpeg", "target")],
)
def test_other_usual_keys_are_read(photograph, label, tmp_path):
    write(tmp_path / "train-00000-of-00001", [{photograph: jpeg(n), label: n} for n in (0, 2, 1)])
    source = listed(tmp_path)
    assert labels(source) == [0, 2, 1]
    assert list(source.read(source.splits["train"])) == [jpeg(0), jpeg(2), jpeg(1)]


def test_keys_that_are_not_known_are_listed_beside_those_expected(tmp_path):
    write(tmp_path / "train-00000-of-00001", [{"x": jpeg(0), "boxes": [0.5, 0.5], "kind": 1}])
    message = r"record 0 .*expected a photograph in image/encoded .* found boxes \(float\), kind \(int64\), x \(bytes\)"
    with pytest.raises(InputError, match=message):
        listed(tmp_path)


def test_pixels_without_an_encoding_are_read_by_their_size(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    row = {"image_raw": pixels.tobytes(), "height": 6, "width": 5, "depth": 3}
    write(tmp_path / "train-00000-of-00001", [{**row, "label": 0}, {**row, "label": 1}])
    source = listed(tmp_path)
    for content in source.read(source.splits["train"]):
        assert (decode.to_pixels(content) == pixels).all()


def test_a_decoded_set_can_be_a_source(photographs, tmp_path):
    built = build_set(f"folder:{photographs}", tmp_path / "decoded", decoded=True, short_side=32)
    source = listed(built.folder)
    (content,) = source.read(source.splits["val"][:1])
    first = next(iter(records.read(built.shards_of("val")[0].path)))
    assert decode.to_pixels(content).tobytes() == first["image/encoded"].bytes_list.value[0]


def test_class_names_as_labels_are_numbered_alphabetically(tmp_path):
    write(tmp_path / "train-00000-of-00001", [{"image": jpeg(n), "label": FLOWERS[n].encode()} for n in (2, 0, 1)])
    source = listed(tmp_path)
    assert (source.classes, labels(source)) == (list(FLOWERS), [2, 0, 1])


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ([0, 1, 0], "label has 3 values; expected one"),
        (0.5, "label is 0.5; expected a whole number"),
        (float("nan"), "label is nan; expected a whole number"),
        (float("-inf"), "label is -inf; expected a whole number"),
    ],
)
def test_a_label_that_is_not_a_whole_number_is_refused(label, message, tmp_path):
    write(tmp_path / "train-00000-of-00001", [{"image": jpeg(0), "label": label}])
    with pytest.raises(InputError, match=message):
        listed(tmp_path)


def test_labels_from_1_without_class_1_get_the_right_advice_and_are_shifted(tmp_path):
    write(tmp_path / "train-00000-of-00008", slim([2, 7, 3, 7]))
    with pytest.raises(InputError, match=r"labels run from 2 to 7; .* from 1, .* add --label_offset=-1; .*=0"):
        listed(tmp_path)
    assert labels(listed(tmp_path, label_offset=-1)) == [1, 6, 2, 6]
    assert labels(listed(tmp_path, label_offset=0)) == [2, 7, 3, 7]
    with pytest.raises(InputError, match=r"with --label_offset=-3 from -1; sqznet's run from 0: --label_offset=-1"):
        listed(tmp_path, label_offset=-3)


def test_a_test_split_without_labels_is_left_out_and_counted(tmp_path):
    write(tmp_path / "train-00000-of-00001", slim([0, 1]))
    write(
        tmp_path / "test-00000-of-00001",
        [{"image/encoded": jpeg(0)}, {"image/encoded": jpeg(0), "image/class/label": -1}],
    )
    source = listed(tmp_path)
    assert "test" not in source.splits
    assert note(source, "test: 2 records have no label and were left out")


# File names


def test_records_keep_their_file_names(tmp_path):
    names = [
        b"n01440764_1.JPEG",
        b"/data/train/n01440764/n01440764_2.JPEG",
        b"ILSVRC2012_val_00000001.JPEG",
        b"caf\xe9.jpg",
    ]
    rows = [row for n, name in enumerate(names) for row in slim([n % 2], **{"image/filename": name})]
    write(tmp_path / "in" / "test-00000-of-00001", rows)
    built = build_set(f"tfrecord:{tmp_path / 'in'}", tmp_path / "out")
    found = [f["image/filename"].bytes_list.value[0] for s in built.shards for f in records.read(s.path)]
    assert found == names
    assert provenance.imagenet_train_photographs(built, "test") == 2


def test_test_files_are_chosen_by_the_names_in_the_records(tmp_path):
    for split in ("train", "validation"):
        rows = [
            row
            for n in range(8)
            for row in slim([n % 2], **{"image/filename": f"{'a' if n < 4 else 'b'}{n}.jpg".encode()})
        ]
        write(tmp_path / f"{split}-00000-of-00001", rows)
    source = listed(tmp_path, test_files="b*")
    assert [photo.name for photo in source.splits["test"]] == ["b4.jpg", "b5.jpg", "b6.jpg", "b7.jpg"] * 2
    assert len(list(source.read(source.splits["test"]))) == 8


def test_shards_below_a_path_that_is_not_utf8_are_read(tmp_path):
    write(tmp_path / "train-00000-of-00001", slim([0, 1]))
    there = tmp_path / os.fsdecode(b"caf\xe9")
    there.mkdir()
    shutil.move(tmp_path / "train-00000-of-00001", there)
    assert labels(listed(there)) == [0, 1]
