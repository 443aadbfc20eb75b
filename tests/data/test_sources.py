from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from sqznet.core.errors import InputError
from sqznet.data.sources import open_source, synthetic
from tests.conftest import CLASSES, COUNTS, build_set
from tests.data.conftest import WNIDS


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"content")


def keys(source, split: str) -> set[str]:
    return {photo.key for photo in source.splits[split]}


def test_a_folder_with_splits_keeps_them(photographs):
    source = open_source(f"folder:{photographs}", seed=0)
    assert source.classes == list(CLASSES)
    assert {split: len(photos) for split, photos in source.splits.items()} == {s: 3 * n for s, n in COUNTS.items()}


def test_a_folder_of_classes_is_split_by_seed(tmp_path):
    touch(tmp_path, *(f"{name}/{index}.jpg" for name in "ab" for index in range(40)))
    source = open_source(f"folder:{tmp_path}", seed=1)
    counts = {s: Counter(photo.label for photo in photos) for s, photos in source.splits.items()}
    assert counts == {"train": {0: 28, 1: 28}, "val": {0: 6, 1: 6}, "test": {0: 6, 1: 6}}
    assert not keys(source, "train") & keys(source, "test") and not keys(source, "val") & keys(source, "test")
    assert open_source(f"folder:{tmp_path}", seed=1).splits == source.splits
    assert open_source(f"folder:{tmp_path}", seed=2).splits != source.splits


def test_a_source_without_val_gets_one_from_train(tmp_path):
    touch(tmp_path, *(f"train/{name}/{index}.jpg" for name in "ab" for index in range(20)))
    touch(tmp_path, "test/a/1.jpg", "test/b/1.jpg")
    (tmp_path / "val").mkdir()
    source = open_source(f"folder:{tmp_path}", seed=0)
    assert Counter(photo.label for photo in source.splits["val"]) == {0: 3, 1: 3}
    assert Counter(photo.label for photo in source.splits["train"]) == {0: 17, 1: 17}
    assert any("no val split" in note for note in source.notes)


def test_hold_out_takes_its_test_split_from_train(tmp_path):
    touch(tmp_path, *(f"train/{name}/{index}.jpg" for name in "ab" for index in range(9)))
    touch(tmp_path, "val/a/0.jpg", "val/b/0.jpg")
    source = open_source(f"folder:{tmp_path}", seed=0, holdout_per_class=4)
    assert Counter(photo.label for photo in source.splits["test"]) == {0: 4, 1: 4}
    assert Counter(photo.label for photo in source.splits["train"]) == {0: 5, 1: 5}
    assert not keys(source, "train") & keys(source, "test")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "has no folders in it; expected train/<class>/ and val/<class>/, or <class>/"),
        (["train/a/1.jpg", "train/b/.hidden"], "class 'b' has no photographs in train"),
        (["train/a/1.jpg", "train/b/1.jpg", "val/c/1.jpg"], "val/c: no class of that name in"),
        (["train/a/1.jpg"], "has one class"),
        (["train/a/1.jpg", "train/b/1.jpg", "notes/x.txt"], "has notes beside train; is it a class"),
    ],
)
def test_an_inconsistent_folder_is_refused(files, message, tmp_path):
    touch(tmp_path, *files)
    with pytest.raises(InputError, match=message):
        open_source(f"folder:{tmp_path}", seed=0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("folder:/no/such/place", "no such folder: /no/such/place"),
        ("photos", "unknown source 'photos'; expected folder:PATH, ilsvrc:PATH, tfds:NAME, tfrecord:PATH or synthetic"),
        ("folder:", "unknown source 'folder:'"),
        ("tfds:no_such_dataset_anywhere", "tfds cannot provide 'no_such_dataset_anywhere'"),
    ],
)
def test_an_unknown_source_is_refused(spec, message):
    with pytest.raises(InputError, match=message):
        open_source(spec, seed=0)


# The CLS-LOC layout


def test_ilsvrc_holds_out_50_of_each_class(ilsvrc):
    source = open_source(f"ilsvrc:{ilsvrc}", seed=0)
    counts = {s: Counter(photo.label for photo in photos) for s, photos in source.splits.items()}
    assert counts["train"] == {0: 12, 1: 12, 2: 12}
    assert counts["test"] == {0: 50, 1: 50, 2: 50}
    assert counts["val"] == {0: 4, 1: 4, 2: 4}
    assert not keys(source, "train") & keys(source, "test")
    assert open_source(f"ilsvrc:{ilsvrc}", seed=0).splits == source.splits
    assert keys(open_source(f"ilsvrc:{ilsvrc}", seed=1), "test") != keys(source, "test")


def test_ilsvrc_labels_are_the_sorted_wnids(ilsvrc):
    source = open_source(f"ilsvrc:{ilsvrc}", seed=0)
    assert source.classes == sorted(WNIDS)
    for split in ("train", "test"):
        assert all(f"/train/{source.classes[photo.label]}/" in photo.key for photo in source.splits[split])
    # Val photographs 1 to 4 are of the first wnid, by way of the devkit's own ids.
    assert {p.label for p in source.splits["val"] if p.key.endswith(("01.JPEG", "04.JPEG"))} == {0}


def test_ilsvrc_blacklist_is_left_out_on_request_and_counted(ilsvrc):
    source = open_source(f"ilsvrc:{ilsvrc}", seed=0, blacklist=True)
    assert len(source.splits["val"]) == 10
    assert not any(photo.key.endswith(("_00000002.JPEG", "_00000005.JPEG")) for photo in source.splits["val"])
    assert any("2 blacklisted photographs excluded" in note for note in source.notes)


def test_ilsvrc_refuses_a_hold_out_of_all_photographs(ilsvrc):
    with pytest.raises(InputError, match="has 62 training photographs; holding out 62 of each class"):
        open_source(f"ilsvrc:{ilsvrc}", seed=0, holdout_per_class=62)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("ImageSets/CLS-LOC/val.txt", None, "val.txt is missing: expected the ILSVRC CLS-LOC layout"),
        ("ImageSets/CLS-LOC/val.txt", "ILSVRC2012_val_00000001 1\n", "lists 1 photographs, .* has 12 labels"),
        ("ImageSets/CLS-LOC/train_cls.txt", "n09999999/x 1\n", "names a class that map_clsloc.txt does not have"),
        ("ImageSets/CLS-LOC/train_cls.txt", "n01440764/../../../secret 1\n", "leads out of the folder"),
        ("devkit/data/map_clsloc.txt", None, "map_clsloc.txt was not found below"),
    ],
)
def test_ilsvrc_names_the_wrong_file(ilsvrc, tmp_path, file, content, message):
    copy = tmp_path / "copy"
    shutil.copytree(ilsvrc, copy)
    if content is None:
        (copy / file).unlink()
    else:
        (copy / file).write_text(content)
    with pytest.raises(InputError, match=message):
        open_source(f"ilsvrc:{copy}", seed=0)


def as_from_kaggle(ilsvrc: Path, root: Path) -> Path:
    """The same photographs in the layout of Kaggle's competition: no devkit, val's labels in another order."""
    shutil.copytree(ilsvrc, root / "ILSVRC", ignore=shutil.ignore_patterns("devkit"))
    (root / "LOC_synset_mapping.txt").write_text("".join(f"{wnid} a name, another name\n" for wnid in WNIDS))
    val = [f"ILSVRC2012_val_{n:08d},{WNIDS[(n - 1) // 4]} 85 1 499 272 " for n in range(1, 13)]
    (root / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *reversed(val)]) + "\n")
    return root


def test_ilsvrc_as_from_kaggle_is_the_same_without_the_devkit(ilsvrc, tmp_path):
    root = as_from_kaggle(ilsvrc, tmp_path)
    from_devkit = open_source(f"ilsvrc:{ilsvrc}", seed=0)
    for where in (root, root / "ILSVRC"):
        source = open_source(f"ilsvrc:{where}", seed=0)
        assert (source.classes, source.splits) == (from_devkit.classes, from_devkit.splits)
        assert len(next(source.read(source.splits["val"][:1]))) > 1000
    with pytest.raises(InputError, match=r"blacklist.txt was not found below .*: put the ILSVRC devkit there"):
        open_source(f"ilsvrc:{root}", seed=0, blacklist=True)
    (root / "LOC_val_solution.csv").write_text("ILSVRC2012_val_00000001,n09999999 1 2 3 4\n")
    with pytest.raises(InputError, match=r"LOC_val_solution.csv, line 1: class 'n09999999' is not in LOC_synset"):
        open_source(f"ilsvrc:{root}", seed=0)
    (root / "LOC_val_solution.csv").unlink()
    with pytest.raises(InputError, match=r"LOC_val_solution.csv is missing: expected Kaggle's labels of val"):
        open_source(f"ilsvrc:{root}", seed=0)


# TensorFlow Datasets


def test_tfds_reads_the_encoded_bytes_undecoded(photographs, tmp_path):
    import tensorflow_datasets as tfds

    class Drawings(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict(
                {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=list(CLASSES))}
            )
            return self.dataset_info_from_configs(features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples("train"), "validation": self._generate_examples("val")}

        def _generate_examples(self, split):
            for path in sorted((photographs / split).rglob("*.jpg")):
                yield str(path), {"image": str(path), "label": path.parent.name}

    builder = Drawings(data_dir=tmp_path)
    builder.download_and_prepare()
    source = open_source(f"tfds:{builder.data_dir}", seed=0)
    assert source.classes == list(CLASSES)
    assert {split: len(photos) for split, photos in source.splits.items()} == {"train": 120, "val": 33}
    originals = {path.read_bytes(): path.parent.name for path in (photographs / "train").rglob("*.jpg")}
    some = source.splits["train"][30:90:7]
    contents = list(source.read(some))
    assert [originals[content] for content in contents] == [CLASSES[photo.label] for photo in some]


def test_tfds_keeps_file_names_and_notes_the_splits_that_it_leaves_out(photographs, tmp_path):
    import tensorflow_datasets as tfds

    paths = sorted((photographs / "val").rglob("*.jpg"))

    class Named(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            label = tfds.features.ClassLabel(names=list(CLASSES))
            features = {"image": tfds.features.Image(), "label": label, "file_name": tfds.features.Text()}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {name: self._generate_examples(name) for name in ("train", "validation", "test", "extra")}

        def _generate_examples(self, split):
            for number, path in enumerate(paths):
                label = -1 if split == "test" else path.parent.name
                yield number, {"image": str(path), "label": label, "file_name": f"{split}_{number}.jpg"}

    builder = Named(data_dir=tmp_path)
    builder.download_and_prepare()
    source = open_source(f"tfds:{builder.data_dir}", seed=0)
    assert {split: len(photos) for split, photos in source.splits.items()} == {"train": 33, "val": 33}
    assert "test: 33 photographs not labelled, left out" in source.notes
    assert "extra, with 33 photographs, was left out: it is not a train, validation or test split" in source.notes
    chosen = open_source(f"tfds:{builder.data_dir}", seed=0, test_files="*_1?.jpg").splits["test"]
    assert {photo.name for photo in chosen} == {f"{s}_{n}.jpg" for s in ("train", "validation") for n in range(10, 20)}
    originals = {path.read_bytes(): path.parent.name for path in paths}
    assert [originals[content] for content in source.read(chosen)] == [CLASSES[photo.label] for photo in chosen]


def test_files_of_an_image_folder_can_be_chosen_for_testing(photographs):
    """With --test_files, no other test split is drawn from a folder without splits."""
    source = open_source(f"tfds:{photographs / 'train'}", seed=0, test_files="00?.jpg")
    assert len(source.splits["test"]) == 10 * len(CLASSES)
    assert {Path(photo.filename).name for photo in source.splits["test"]} == {f"00{number}.jpg" for number in range(10)}


def test_tfds_takes_an_image_folder(photographs):
    source = open_source(f"tfds:{photographs}", seed=0)
    assert {split: len(photos) for split, photos in source.splits.items()} == {s: 3 * n for s, n in COUNTS.items()}


# Shards of other builders


def write_foreign(path: Path, labels: list[int], content: bytes = b"jpeg") -> None:
    import tensorflow as tf

    from sqznet.data import records

    with tf.io.TFRecordWriter(str(path)) as writer:
        for label in labels:
            writer.write(
                records.encode(content, label=label, synset=f"n{label}", filename="x", height=1, width=1, decoded=False)
            )


def test_foreign_shards_with_labels_from_1_are_refused_or_shifted(tmp_path):
    write_foreign(tmp_path / "train-00000-of-00001", [1, 2, 3, 1])
    write_foreign(tmp_path / "validation-00000-of-00001", [2])
    with pytest.raises(InputError, match=r"labels run from 1 to 3; .* add --label_offset=-1"):
        open_source(f"tfrecord:{tmp_path}", seed=0)
    source = open_source(f"tfrecord:{tmp_path}", seed=0, label_offset=-1)
    assert source.classes == ["n1", "n2", "n3"]
    assert [photo.label for photo in source.splits["train"]] == [0, 1, 2, 0]
    assert list(source.read(source.splits["train"][1:3])) == [b"jpeg", b"jpeg"]


def test_a_corrupt_foreign_shard_is_named_with_its_record(tmp_path):
    path = tmp_path / "train-00000-of-00001"
    write_foreign(path, [0, 1, 0, 1])
    content = bytearray(path.read_bytes())
    content[len(content) // 4 * 2 + 40] ^= 0xFF  # within the third record
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"train-00000-of-00001, record 2 \(0 first\), is corrupt"):
        open_source(f"tfrecord:{tmp_path}", seed=0)


def test_the_demo_set_has_the_counts_it_says():
    source = open_source("synthetic", seed=0)
    assert len(source.classes) == 10
    assert {split: len(photos) for split, photos in source.splits.items()} == {
        split: 10 * count for split, count in synthetic.PER_CLASS.items()
    }


# Files chosen by name


def test_test_files_are_refused_if_the_source_has_a_test_split(photographs):
    with pytest.raises(InputError, match="the source has a test split of its own: leave out --test_files"):
        open_source(f"folder:{photographs}", seed=0, test_files="00*")


def test_test_files_are_taken_from_every_split(photographs, tmp_path):
    shutil.copytree(photographs, tmp_path / "copy", ignore=shutil.ignore_patterns("test"))
    source = open_source(f"folder:{tmp_path / 'copy'}", seed=0, test_files="003.*")
    assert keys(source, "test") == {f"{s}/{c}/003.jpg" for s in ("train", "val") for c in source.classes}
    assert not any(key.endswith("/003.jpg") for split in ("train", "val") for key in keys(source, split))
    with pytest.raises(InputError, match=r"--test_files=\*.png matches no photograph's file name"):
        open_source(f"folder:{tmp_path / 'copy'}", seed=0, test_files="*.png")


@pytest.mark.parametrize(("count", "expected"), [(2, (1, 1, 0)), (3, (2, 1, 0)), (4, (2, 1, 1)), (60, (42, 9, 9))])
def test_two_photographs_a_class_are_enough_to_train_on(tmp_path, count, expected):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(count):
            (tmp_path / name / f"{number}.jpg").touch()
    source = open_source(f"folder:{tmp_path}", seed=0)
    assert tuple(len(source.splits.get(split, ())) for split in ("train", "val", "test")) == tuple(
        2 * each for each in expected
    )


def test_one_photograph_a_class_is_enough_to_evaluate_on(photographs, tmp_path):
    for name in CLASSES:
        (tmp_path / name).mkdir()
        shutil.copy(photographs / "train" / name / "000.jpg", tmp_path / name)
    source = open_source(f"folder:{tmp_path}", seed=0)
    assert set(source.splits) == {"train"}
    assert source.notes == [
        "no val split, and the classes have too few photographs to make one: the set can be used for evaluation, not "
        "for training. Training needs two or more of each class (some dozens for good accuracy)"
    ]
    built = build_set(f"folder:{tmp_path}", tmp_path / "set")
    assert built.splits == ["train"] and built.records("train") == 3
