"""The layouts of folders that users have. Listing does not read content, so most files here are not photographs."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from sqznet.core.errors import InputError
from sqznet.data import __main__ as data_command
from sqznet.data import manifest, records
from sqznet.data.sources import open_source
from sqznet.data.sources.listing import split_of, splits_among


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"content")


def counts(source) -> dict[str, dict[str, int]]:
    return {
        split: dict(Counter(source.classes[photo.label] for photo in photos)) for split, photos in source.splits.items()
    }


def folder(root: Path, **options):
    return open_source(f"folder:{root}", seed=0, **options)


def note(source, part: str) -> str:
    (found,) = [each for each in source.notes if part in each]
    return found


# Names of splits


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"), ("Training", "train"), ("training_set", "train"), ("TRAIN-SET", "train"),
        ("Training Data", "train"), ("trainset", "train"), ("TrainingSet", "train"), ("seg_train", "train"),
        ("train2017", "train"), ("val", "val"), ("Valid", "val"), ("validation_set", "val"), ("dev", "val"),
        ("test", "test"), ("Test_Set", "test"), ("test set", "test"), ("testing", "test"), ("test1", "test"),
        ("cat", None), ("training shoes", None), ("test tube", None), ("trainer", None), ("contest", None), ("", None),
    ],
)  # fmt: skip
def test_names_of_splits_are_recognized_in_any_spelling(name, split):
    assert split_of(name) == split


def test_training_set_and_test_set_are_splits_not_classes(tmp_path):
    touch(tmp_path, *(f"training_set/{c}/{n}.jpg" for c in ("cats", "dogs") for n in range(20)))
    touch(tmp_path, *(f"test_set/{c}/{n}.jpg" for c in ("cats", "dogs") for n in range(4)))
    source = folder(tmp_path)
    assert source.classes == ["cats", "dogs"]
    assert counts(source) == {
        "train": {"cats": 17, "dogs": 17}, "val": {"cats": 3, "dogs": 3}, "test": {"cats": 4, "dogs": 4}
    }  # fmt: skip


def test_names_of_splits_with_another_word_are_splits_where_all_folders_have_one():
    assert splits_among(["flowers_train", "flowers_val"]) == {"flowers_train": "train", "flowers_val": "val"}
    assert len(splits_among(["trainA", "trainB", "testA", "testB"])) == 4
    assert splits_among(["train_v2", "train_v3"]) == splits_among(["train_station", "cat"]) == {}
    assert splits_among(["train", "val_v2"]) == {"train": "train", "val_v2": "val"}
    assert splits_among(["train", "cat"]) == {"train": "train"}


@pytest.mark.parametrize(
    ("train", "other", "split"),
    [("flowers_train", "flowers_val", "val"), ("train_v2", "val_v2", "val"), ("train_256x256", "test_256x256", "test"),
     ("X_train", "X_test", "test"), ("FlowersTrain", "FlowersValid", "val"), ("train", "my val", "val")],
)  # fmt: skip
def test_folders_named_after_splits_and_something_else_are_splits(train, other, split, tmp_path):
    touch(tmp_path, *(f"{train}/{c}/{n}.jpg" for c in ("cat", "dog") for n in range(3)))
    touch(tmp_path, *(f"{other}/{c}/{n}.jpg" for c in ("cat", "dog") for n in range(2)))
    source = folder(tmp_path)
    assert source.classes == ["cat", "dog"]
    assert counts(source)[split] == {"cat": 2, "dog": 2}


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("fold1", "fold2"), "fold1 and fold2 both hold cat/, so they look like splits or parts, not classes"),
        (("train_v2", "train_v3"), "train_v2 and train_v3 both hold cat/"),
        (("flowers_train", "flowers_val", "more"), "flowers_train and flowers_val both hold cat/"),
        (("train/part1", "train/part2"), "train/part1 and part2 both hold cat/"),
        (("Annotation", "Images"), "Annotation and Images both hold cat/.* Of parts, read one"),
    ],
)
def test_parts_of_a_set_are_not_taken_for_classes(folders, message, tmp_path):
    for each in folders:
        touch(tmp_path, f"{each}/read me.txt", *(f"{each}/{c}/{n}" for c in ("cat", "dog") for n in range(3)))
    with pytest.raises(InputError, match=message):
        folder(tmp_path)


def test_folders_of_one_name_inside_classes_are_no_parts(tmp_path):
    touch(tmp_path / "images", *(f"{c}/images/{n}.jpg" for c in ("cat", "dog") for n in range(3)))
    touch(tmp_path / "year", *(f"{c}/2019/{n}.jpg" for c in ("cat", "dog") for n in range(3)))
    touch(tmp_path / "direct", *(f"{c}/{sub}{n}.jpg" for c in ("cat", "dog") for sub in ("", "a/", "b/") for n in "12"))
    for each in ("images", "year", "direct"):
        assert folder(tmp_path / each).classes == ["cat", "dog"]


@pytest.mark.parametrize("ending", [".txt", ".xml", ".json"])
def test_a_folder_of_annotations_is_no_class(ending, tmp_path):
    for split in ("train", "valid"):
        touch(tmp_path, *(f"{split}/images/{n}.jpg" for n in range(3)))
        touch(tmp_path, *(f"{split}/labels/{n}{ending}" for n in range(3)))
    message = rf"train/labels has 3 files \(0{ending}\) and no photographs, which images has. .* move it out of .*train"
    with pytest.raises(InputError, match=message):
        folder(tmp_path)
    with pytest.raises(InputError, match="labels has 3 files"):
        folder(tmp_path / "train" / ".." / "valid")


def test_a_class_of_photographs_without_endings_is_a_class(tmp_path):
    touch(tmp_path, *(f"{c}/{n}{e}" for c, e in (("cat", ".jpg"), ("dog", ""), ("bird", ".001")) for n in range(3)))
    assert folder(tmp_path).classes == ["bird", "cat", "dog"]


def test_a_repeated_folder_level_is_skipped_and_noted(tmp_path):
    for split, inner in (("training_set", "training_set"), ("test_set", "test_set")):
        touch(tmp_path, *(f"dataset/{split}/{inner}/{c}/{n}.jpg" for c in ("cats", "dogs") for n in range(20)))
    source = folder(tmp_path)
    assert source.classes == ["cats", "dogs"]
    assert source.splits["test"][0].key == "dataset/test_set/test_set/cats/0.jpg"
    assert f"{tmp_path / 'dataset'} was read: it is all that" in source.notes[0]
    assert note(source, "train was read from").endswith(f"is all that {tmp_path / 'dataset' / 'training_set'} holds")
    touch(tmp_path / "second", *(f"photos/photos/{c}/{n}.jpg" for c in "ab" for n in range(3)))
    assert folder(tmp_path / "second").classes == ["a", "b"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["test_set/a/1.jpg", "a/1.jpg", "b/1.jpg"], "has a, b beside test_set; is it a class"),
        (["train/a/1.jpg", "Train_Set/b/1.jpg"], "two folders for one split: Train_Set, train"),
        (
            ["trainA/1.jpg", "trainB/1.jpg", "testA/1.jpg"],
            "two folders for one split: trainA, trainB; expected one, train",
        ),
        (["train/a/1.jpg", "train/val/1.jpg"], "train/val: a folder named like a split inside train/"),
        (["train/train/a/1.jpg", "train/b/1.jpg"], "train/train: a folder named like a split inside train/"),
        (
            ["a/train/1.jpg", "a/test/1.jpg", "b/train/1.jpg"],
            r"a/test: a folder .* expected test/a/, the split outside",
        ),
        (
            ["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "val/B/1.jpg"],
            r"val/B: no class of that name in .*, which has 'b'",
        ),
        (["train/a/1.jpg", "train/b/1.jpg", "val/c/1.jpg"], "val/c: no class of that name in"),
        (
            ["train/1.jpg", "train/2.jpg"],
            "has 2 photographs .1.jpg. and no class folders; put them into train/<class>/",
        ),
        (["1.jpg", "2.png", "x.txt"], "has no folders in it, but 2 photographs; expected train/<class>/"),
    ],
)
def test_ambiguous_folders_are_refused_with_the_place(files, message, tmp_path):
    touch(tmp_path, *files)
    with pytest.raises(InputError, match=message):
        folder(tmp_path)


def test_a_class_may_be_called_train_inside_a_split(tmp_path):
    touch(tmp_path, *(f"{split}/{c}/1.jpg" for split in ("train", "val") for c in ("car", "train")))
    assert folder(tmp_path).classes == ["car", "train"]


def test_files_outside_class_folders_are_counted_with_an_example(tmp_path):
    touch(tmp_path, *(f"{c}/{n}.jpg" for c in ("cat", "dog") for n in range(9)))
    touch(tmp_path, "cat/2019/a.jpg", "cat/2019/b.jpg", "lost.jpg", "read me.txt")
    source = folder(tmp_path)
    assert sum(counts(source)[split]["cat"] for split in source.splits) == 11
    assert "files deeper than <class>/*, read as photographs of <class>: 2" in note(source, "cat/2019/a.jpg")
    assert "photographs beside the class folders, not read: 1" in note(source, "lost.jpg")
    assert "other files beside the class folders, not read: 1" in note(source, "read me.txt")


# Sets for evaluation, and splits without class folders


def test_a_set_that_is_only_val_or_test_can_be_listed(tmp_path):
    for split in ("val", "test"):
        touch(tmp_path / split, *(f"{split}/{c}/1.jpg" for c in "ab"))
        source = folder(tmp_path / split)
        assert counts(source) == {split: {"a": 1, "b": 1}}
        assert note(source, "no train split: the set can be used for evaluation, not for training")


def test_test_files_of_any_name_make_one_split_of_a_folder_of_classes(tmp_path):
    touch(tmp_path, *(f"val/{c}/{n}.jpg" for c in "ab" for n in range(10)))
    assert "--test_files='*' makes one split of it" in note(folder(tmp_path / "val"), "named like a split")
    source = folder(tmp_path / "val", test_files="*")
    assert counts(source) == {"test": {"a": 10, "b": 10}}
    assert not any("went to val" in each for each in source.notes)


def test_val_may_have_more_classes_than_train(tmp_path):
    touch(tmp_path, "train/b/1.jpg", "train/d/1.jpg", *(f"val/{c}/1.jpg" for c in "abcd"))
    source = folder(tmp_path)
    assert source.classes == ["a", "b", "c", "d"]
    assert {photo.label for photo in source.splits["train"]} == {1, 3}
    assert "2 of 4 classes have no photographs ('a', 'c'); a network trained" in note(source, "train: ")


def tiny_imagenet(root: Path) -> None:
    wnids = ("n01443537", "n01629819")
    for wnid in wnids:
        touch(root, f"train/{wnid}/{wnid}_boxes.txt", *(f"train/{wnid}/images/{wnid}_{n}.JPEG" for n in range(5)))
    touch(root, *(f"val/images/val_{n}.JPEG" for n in range(4)), *(f"test/images/test_{n}.JPEG" for n in range(3)))
    lines = [f"val_{n}.JPEG\t{wnids[n % 2]}\t0\t32\t44\t62\n" for n in range(4)]
    (root / "val/val_annotations.txt").write_text("".join(lines))
    (root / "wnids.txt").write_text("\n".join(wnids))
    (root / "words.txt").write_text("n01443537\tgoldfish, Carassius auratus\n")


def test_tiny_imagenet_is_read_as_it_is_unpacked(tmp_path):
    tiny_imagenet(tmp_path / "tiny-imagenet-200")
    source = folder(tmp_path / "tiny-imagenet-200")
    each = {"n01443537": 5, "n01629819": 5}
    assert counts(source) == {"train": each, "val": {"n01443537": 2, "n01629819": 2}}
    assert {source.classes[photo.label] for photo in source.splits["val"] if "val_1" in photo.key} == {"n01629819"}
    assert not any(photo.key.endswith(".txt") for photo in source.splits["train"])
    assert note(source, "annotation files, not read: 2")
    assert "3 photographs" in note(source, "test was left out")
    assert note(source, "val: classes are from").endswith("val_annotations.txt")
    assert note(source, "files deeper than <class>/*, read as photographs of <class>: 10")


def imagenet_as_unpacked(root: Path) -> None:
    touch(root, *(f"train/{w}/{w}_{n}.JPEG" for w in ("n01440764", "n01443537") for n in range(3)))
    touch(root, *(f"val/ILSVRC2012_val_0000000{n}.JPEG" for n in range(1, 4)))


def test_a_flat_val_folder_beside_train_is_refused_with_what_it_needs(tmp_path):
    imagenet_as_unpacked(tmp_path)
    with pytest.raises(
        InputError, match=r"val has 3 photographs .* no class folders; put them into val/<class>/, or wri"
    ):
        folder(tmp_path)
    with pytest.raises(InputError, match=r"Kaggle's LOC_val_solution.csv.* --source=ilsvrc:PATH"):
        folder(tmp_path)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("LOC_val_solution.csv", "ILSVRC2012_val_0000000{},{} 85 1 499 272 3 4 5 6"),
        ("val/labels.csv", "ILSVRC2012_val_0000000{}.JPEG,{}"),
        ("val.txt", "val/ILSVRC2012_val_0000000{}.JPEG {}"),
        ("val_labels.tsv", "ILSVRC2012_val_0000000{}.JPEG\t{}"),
    ],
)
def test_a_file_of_labels_gives_the_classes_of_a_flat_folder(file, line, tmp_path):
    imagenet_as_unpacked(tmp_path)
    wnids = ("n01440764", "n01443537", "n01443537")
    lines = [line.format(n, wnid) for n, wnid in enumerate(wnids, start=1)]
    (tmp_path / file).write_text("\r\n".join(["ImageId,PredictionString", *lines]))
    assert counts(folder(tmp_path))["val"] == {"n01440764": 1, "n01443537": 2}


def test_a_wrong_file_of_labels_is_refused_by_name(tmp_path):
    imagenet_as_unpacked(tmp_path)
    (tmp_path / "val/labels.csv").write_text("ILSVRC2012_val_00000001.JPEG,n09999999\n")
    with pytest.raises(InputError, match=r"labels.csv: .* has class 'n09999999', which train lacks"):
        folder(tmp_path)
    (tmp_path / "val/labels.csv").write_text("another.JPEG,n01440764\n")
    with pytest.raises(InputError, match=r"labels.csv names no photograph of .*val; expected lines such"):
        folder(tmp_path)
    (tmp_path / "val/labels.csv").write_text("ILSVRC2012_val_00000001,n01440764\n")
    assert "2 photographs are not in it" in note(folder(tmp_path), "val: classes are from")


@pytest.mark.parametrize(
    "lines",
    [
        ["0.jpg golden retriever", "1.jpg golden oriole"],
        ["0.jpg golden retriever 85 1 499 272", "1.jpg golden oriole 1 2 3 4 5 6 7 8"],
        ["filename,width,height,class,xmin", "0.jpg,10,20,golden retriever,3", "1.jpg,10,20,golden oriole,3"],
        [",filename,class", "0,0.jpg,golden retriever", "1,1.jpg,golden oriole"],
        ["label,image_id", "golden retriever,0", "golden oriole,1"],
        ["id,target,class_name", "0,207,golden retriever", "1,12,golden oriole"],
        ["Path;Breed", "photos/val/0.jpg;golden retriever", "photos\\val\\1.jpg;golden oriole"],
        ['"0.jpg","golden retriever"', '"1.jpg", "golden oriole"'],
        ["0.jpg;golden retriever", "1.jpg;golden oriole"],
        ["golden retriever,0.jpg", "golden oriole,1.jpg"],
        ["0.jpg\tgolden retriever\t0\t32\t44\t62", "1.jpg\tgolden oriole\t0\t32\t44\t62"],
        ["foto,soort", "0.jpg,golden retriever", "1.jpg,golden oriole", "gone.jpg,golden oriole"],
    ],
)
def test_a_file_of_labels_is_read_by_its_columns(lines, tmp_path):
    classes = {"0": "golden retriever", "1": "golden oriole"}
    touch(tmp_path, *(f"train/{c}/{n}.jpg" for c in classes.values() for n in range(3)), "val/0.jpg", "val/1.jpg")
    (tmp_path / "val/labels.csv").write_text("\n".join(lines))
    source = folder(tmp_path)
    found = {Path(photo.key).stem: source.classes[photo.label] for photo in source.splits["val"]}
    assert found == classes


@pytest.mark.parametrize(
    ("train", "test", "file"), [("train", "test", "labels.csv"), ("train_images", "test_images", "train.csv")]
)
def test_a_competition_as_unpacked_is_read_with_its_labels_of_train(train, test, file, tmp_path):
    touch(tmp_path, *(f"{train}/{n}.jpg" for n in range(20)), f"{test}/a.jpg", "sample_submission.csv")
    (tmp_path / file).write_text("id,breed\n" + "".join(f"{n},{('pug', 'boxer')[n % 2]}\n" for n in range(20)))
    source = folder(tmp_path)
    assert counts(source) == {"train": {"pug": 8, "boxer": 8}, "val": {"pug": 2, "boxer": 2}}
    assert note(source, "test was left out")


def test_a_class_in_quotes_may_have_the_delimiter_in_it(tmp_path):
    touch(tmp_path, "train/bird, big/1.jpg", "train/cat/1.jpg", "val/0.jpg", "val/IMG 1.jpg")
    for line in (
        '0.jpg,"bird, big"\nIMG 1.jpg,cat',
        "0.jpg bird, big\nIMG 1.jpg cat",
        "0.jpg;bird, big\nIMG 1.jpg;cat",
    ):
        (tmp_path / "val/labels.txt").write_text(line)
        assert counts(folder(tmp_path))["val"] == {"bird, big": 1, "cat": 1}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("0.jpg,cat,12", r"'0.jpg,cat,12' does not show which column is the class; expected .* such as filename,class"),
        ("0.jpg,bird, big", "does not show which column"),
        ("image,MEL,NV\n0.jpg,1,0", "'image,MEL,NV' does not show which column"),
        ("0.jpg", "has class '', which train lacks"),
        ("0.jpg,cat\n0.jpg,dog", "0.jpg has two classes, 'cat' and 'dog'"),
        (
            "filename,class\n0.jpg,cat, big",
            "'0.jpg,cat, big' has 3 cells and the header 2; put cells that",
        ),
        ("filename,class\n0.jpg", "has class '', which train lacks"),
        ("filename,class\n0.jpg,", "has class '', which train lacks"),
        ("0.jpg\x00,cat", "names no photograph"),
        ("", "found nothing"),
    ],
)
def test_an_ambiguous_file_of_labels_is_refused(lines, message, tmp_path):
    touch(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "val/0.jpg")
    (tmp_path / "val/labels.csv").write_text(lines)
    with pytest.raises(InputError, match=message):
        folder(tmp_path)


def test_a_flat_split_of_files_without_suffix_needs_a_file_of_labels(tmp_path):
    touch(tmp_path, "train/cat/1", "train/dog/1", "val/photo1", "val/photo2", "val/read me.md")
    with pytest.raises(
        InputError, match=r"val has 2 files \(photo1, without a known file suffix.* and no class folders"
    ):
        folder(tmp_path)
    (tmp_path / "val.csv").write_text("photo1,cat\nphoto2,dog\n")
    assert counts(folder(tmp_path))["val"] == {"cat": 1, "dog": 1}
    (tmp_path / "other/val").mkdir(parents=True)
    touch(tmp_path / "other", *(f"train/{c}/{n}.jpg" for c in "ab" for n in range(9)), "val/notes.txt")
    assert "other files beside" in note(folder(tmp_path / "other"), "val/notes.txt")


# What is not read


def test_hidden_and_system_files_are_not_read_but_counted(tmp_path):
    touch(tmp_path, *(f"{c}/{n}.jpg" for c in ("cat", "dog") for n in range(9)))
    touch(tmp_path, "cat/.ipynb_checkpoints/1-checkpoint.jpg", "cat/@eaDir/1.jpg/SYNOPHOTO_THUMB_XL.jpg")
    touch(tmp_path, "dog/.thumbnails/1.jpg", "dog/.thumbnails/2.jpg", "__MACOSX/cat/._1.jpg", "cat/._1.jpg")
    touch(tmp_path, "cat/Thumbs.db", "cat/.DS_Store", "dog/desktop.ini", ".git/config")
    source = folder(tmp_path)
    assert source.classes == ["cat", "dog"]
    assert sum(len(photos) for photos in source.splits.values()) == 18
    assert "hidden folders, not read: 3 with 4 files" in note(source, ".git")
    assert "system and thumbnail folders, not read: 2" in note(source, "__MACOSX")
    assert "hidden files, not read: 2 (cat/.DS_Store, ...)" in source.notes
    assert note(source, "system files, not read: 2 (cat/Thumbs.db, ...)")


def test_links_are_counted_and_add_no_photograph_twice(tmp_path):
    root, elsewhere = tmp_path / "set", tmp_path / "elsewhere"
    touch(root, *(f"train/{c}/{n}.jpg" for c in ("cat", "dog") for n in range(9)))
    touch(elsewhere, "birds/1.jpg", "birds/2.jpg", "3.jpg")
    train = root / "train"
    (train / "bird").symlink_to(elsewhere / "birds")  # a class that lies elsewhere
    (train / "cat/linked.jpg").symlink_to(elsewhere / "3.jpg")
    (train / "cat/gone.jpg").symlink_to(elsewhere / "gone.jpg")
    (train / "cat/more").symlink_to(elsewhere / "birds")
    (train / "dog/up").symlink_to("..")
    (train / "dog/again.jpg").symlink_to("1.jpg")
    (train / "dog/itself.jpg").symlink_to("itself.jpg")
    (train / "kitten").symlink_to("cat")
    source = folder(root, test_files="3.jpg")
    total = Counter(source.classes[photo.label] for photos in source.splits.values() for photo in photos)
    assert total == {"bird": 2, "cat": 10, "dog": 9}
    assert note(source, "links without a target: 1 (train/cat/gone.jpg)")
    assert note(source, "linked folders inside classes, not read").endswith(": 1 (train/cat/more)")
    assert note(source, "links to themselves or to a folder above them, not followed: 2")
    assert "train/dog/again.jpg" in note(source, "links to files or folders that are in the set already, not read: 2")
    assert note(source, "links out of the folder, read: 2 (train/bird")


def test_two_links_to_one_file_add_it_once(tmp_path):
    root, elsewhere = tmp_path / "set", tmp_path / "elsewhere"
    touch(root, *(f"{split}/{c}/{n}.jpg" for split in ("train", "val") for c in ("cat", "dog") for n in range(2)))
    touch(elsewhere, "3.jpg", "birds/1.jpg", "birds/2.jpg", "annex/.git/annex/4.jpg")
    for split in ("train", "val"):
        (root / split / "cat/3.jpg").symlink_to(elsewhere / "3.jpg")
        (root / split / "bird").symlink_to(elsewhere / "birds")
    (root / "train/dog/bird.jpg").symlink_to(elsewhere / "birds/1.jpg")
    (root / "train/dog/4.jpg").symlink_to(elsewhere / "annex/.git/annex/4.jpg")
    source = folder(root)
    assert counts(source) == {"train": {"cat": 3, "dog": 3, "bird": 2}, "val": {"cat": 2, "dog": 2}}
    assert "train/dog/bird.jpg" in note(source, "links to files or folders that are in the set already, not read: 3")
    assert note(source, "links out of the folder, read: 3 (train/bird")


# Names


def test_a_file_name_that_is_not_utf8_is_listed(tmp_path):
    touch(tmp_path, *(f"{c}/{n}.jpg" for c in "ab" for n in range(3)))
    (tmp_path / "a" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"content")
    (tmp_path / "a" / "two\nlines.jpg").write_bytes(b"content")
    (tmp_path / os.fsdecode(b"loose\xe9.jpg")).write_bytes(b"content")
    source = folder(tmp_path)
    assert os.fsdecode(b"a/caf\xe9.jpg") in {photo.key for photos in source.splits.values() for photo in photos}
    assert note(source, "beside the class folders").endswith(r"(loose\xe9.jpg)")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("two\nlines", r"'two\\nlines', contains a line break, a tab or another control"),
        ("a\ttab", "control character"),
        ("ring\x07", "control character"),
        ("next\x85line", "control character"),
        ("sep\u2028arated", "line break"),
        ("cat ", "begins or ends with a space"),
        (os.fsdecode(b"\xc4pfel"), "is not UTF-8"),
    ],
)
def test_a_class_name_that_no_file_of_labels_could_hold_is_refused_with_the_place(name, message, tmp_path):
    touch(tmp_path, "aa/1.jpg", f"{name}/1.jpg")
    with pytest.raises(InputError, match=message):
        folder(tmp_path)


def test_one_name_in_two_spellings_is_one_class(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    touch(tmp_path / "splits", "train/bar/1.jpg", f"train/{decomposed}/1.jpg", f"val/{composed}/1.jpg", "val/bar/1.jpg")
    source = folder(tmp_path / "splits")
    assert source.classes == ["bar", composed]
    assert counts(source)["val"] == {"bar": 1, composed: 1}
    touch(tmp_path / "twins", f"{composed}/1.jpg", f"{decomposed}/1.jpg", "bar/1.jpg")
    with pytest.raises(InputError, match="have one name in two spellings"):
        folder(tmp_path / "twins")


# The summary of a build


def test_the_summary_names_the_classes_and_the_files_that_were_not_read(photographs, tmp_path, capsys):
    root = tmp_path / "photos"
    for number in range(12):
        (root / f"class{number:02d}").mkdir(parents=True)
        for index in range(1 + (number == 7)):
            there = photographs / "train" / "ball" / f"{2 * number + index:03d}.jpg"
            (root / f"class{number:02d}" / f"{index}.jpg").symlink_to(there)
    (root / "class03" / ".hidden").write_text("")
    assert data_command.main([f"--source=folder:{root}", f"--out={tmp_path / 'set'}", "--workers=1"]) == 0
    printed = capsys.readouterr()
    assert "12 classes" in printed.out
    assert f"classes: {', '.join(f'class{number:02d}' for number in range(10))}, ... and 2 more" in printed.out
    assert "1 (class00) to 2 (class07)" in printed.out
    assert "note: hidden files, not read: 1 (class03/.hidden)" in printed.err
    assert printed.err.count("hidden files") == 1


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_names_that_are_not_utf8_survive_the_build(workers, photographs, tmp_path, capsys):
    root = tmp_path / "photos"
    for name in ("ball", "star"):
        for source in sorted((photographs / "train" / name).iterdir())[:8]:
            touch(root, f"test/{name}/{source.name}")
            (root / "test" / name / os.fsdecode(f"é{source.name}".encode("latin-1"))).write_bytes(source.read_bytes())
            (root / "test" / name / source.name).write_bytes(source.read_bytes())
    (root / "test" / "ball" / os.fsdecode(b"caf\xe9\n.jpg")).write_bytes(b"no photograph")
    out = tmp_path / "set"
    assert data_command.main(
        [f"--source=folder:{root}", f"--out={out}", f"--workers={workers}", "--shard_records=11"]
    ) == 0  # fmt: skip
    assert (out / "rejects.csv").read_text("utf-8").splitlines()[1].startswith(r"test/ball/caf\xe9\n.jpg,test,")
    built = manifest.load(out)
    names = [f["image/filename"].bytes_list.value[0] for s in built.shards for f in records.read(s.path)]
    assert b"test/ball/\xe9000.jpg" in names and len(names) == 32
    with pytest.raises(InputError, match="--strict stops"):
        data_command.main([f"--source=folder:{root}", f"--out={tmp_path / 'other'}", "--workers=1", "--strict"])


def test_a_set_without_train_has_channel_means_of_its_splits(photographs, tmp_path, capsys):
    root = tmp_path / "photos"
    root.mkdir()
    (root / "val").symlink_to(photographs / "val")
    assert data_command.main([f"--source=folder:{root}", f"--out={tmp_path / 'set'}", "--workers=1"]) == 0
    assert "channel means of val: R" in capsys.readouterr().out
    assert manifest.load(tmp_path / "set").splits == ["val"]


def test_a_manifest_with_a_class_that_no_file_of_labels_could_hold_is_refused(shard_set, tmp_path):
    for shard in shard_set.shards:
        (tmp_path / shard.path.name).symlink_to(shard.path)
    content = {**shard_set.content, "classes": ["ball", "ho\nuse", "star"]}
    (tmp_path / manifest.FILE).write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"manifest.json: the name of class 1, 'ho\\nuse', contains a line break"):
        manifest.load(tmp_path)
