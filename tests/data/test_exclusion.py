from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sqznet.core.errors import InputError
from sqznet.data import __main__ as command
from sqznet.data import exclusion, manifest
from sqznet.data.sources import Photo, synthetic
from sqznet.data.sources.synthetic import SyntheticSource


@pytest.fixture
def folder(tmp_path) -> Path:
    root = tmp_path / "photos"
    for split, count in {"train": 4, "val": 2}.items():
        for label, name in enumerate(("ball", "house")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                key = f"{split}/{name}/{number}.jpg"
                (root / key).write_bytes(synthetic.draw(key, label, seed=0))
    return root


def build(folder: Path, out: Path, *flags: str) -> manifest.Manifest:
    assert command.main([f"--source=folder:{folder}", f"--out={out}", "--workers=1", *flags]) == 0
    return manifest.load(out)


def marked(path: Path, *files: str, exclude: str = "yes") -> Path:
    rows = (f"ball,{file.partition('/')[0]},{file},{exclude}\n" for file in files)
    path.write_text("class,split,file,exclude\n" + "".join(rows))
    return path


def test_marked_photographs_are_left_out(folder, tmp_path):
    made = build(folder, tmp_path / "set", f"--exclude={marked(tmp_path / 'out.csv', 'train/ball/1.jpg')}")
    assert (made.records("train"), made.records("val")) == (7, 4)
    assert made.content["options"]["excluded"]["photographs"] == 1
    assert "1 photograph left out, as out.csv says" in made.content["notes"]


def test_unmarked_photographs_stay(folder, tmp_path):
    csv = marked(tmp_path / "out.csv", "train/ball/1.jpg", exclude="no")
    assert build(folder, tmp_path / "set", f"--exclude={csv}").records("train") == 8


def test_a_set_without_exclusion_has_no_entry_about_it(folder, tmp_path):
    assert "excluded" not in build(folder, tmp_path / "set").content["options"]


def test_another_exclusion_is_another_set(folder, tmp_path):
    csv = marked(tmp_path / "out.csv", "train/ball/1.jpg")
    build(folder, tmp_path / "set")
    with pytest.raises(InputError, match="add --update to rebuild it"):
        build(folder, tmp_path / "set", f"--exclude={csv}")
    assert build(folder, tmp_path / "set", f"--exclude={csv}", "--update").records("train") == 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("split,name,exclude\ntrain,a,yes\n", "has no column 'file'"),
        ("split,file,exclude\ntrain,train/ball/1.jpg,perhaps\n", "line 2: exclude is 'perhaps', .* expected yes or no"),
        ("exclude,split,file\nyes\n", "line 2: exclude is 'yes', split is None and file is None"),
        (
            "split,file,exclude\ntrain,train/ball/9.jpg,yes\n",
            "1 of 1 photographs are not in the source, first 'train/ball/9.jpg' of train",
        ),
        (
            "split,file,exclude\n" + "".join(f"train,train/ball/{number}.jpg,yes\n" for number in range(4)),
            "excludes all photographs of class 'ball' in train",
        ),
    ],
)
def test_a_wrong_file_is_refused(folder, tmp_path, content, message):
    (tmp_path / "out.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        build(folder, tmp_path / "set", f"--exclude={tmp_path / 'out.csv'}")
    assert not (tmp_path / "set").exists()


def test_a_build_says_that_photographs_are_in_two_splits(folder, tmp_path, capfd):
    shutil.copy(folder / "train/ball/1.jpg", folder / "val/ball/copy.jpg")
    build(folder, tmp_path / "set")
    said = "note: 1 photograph of train is in val too, with the same bytes: python -m sqznet.data --report lists them"
    assert said in " ".join(capfd.readouterr().err.split())


def test_a_file_that_a_spreadsheet_has_written_is_read(folder, tmp_path):
    csv = marked(tmp_path / "out.csv", "train/ball/1.jpg")
    csv.write_text(csv.read_text(), encoding="utf-8-sig")
    assert build(folder, tmp_path / "set", f"--exclude={csv}").records("train") == 7


def named(split: str, name: str) -> Photo:
    return Photo(f"{split}[{name}]", 0, name=name)


def test_only_the_photograph_of_the_named_split_is_left_out(tmp_path):
    splits = {split: [named(split, "1.jpg"), named(split, "2.jpg")] for split in ("train", "test")}
    source = SyntheticSource(["ball"], splits, [], 0)
    left = exclusion.without(source, {("train", "1.jpg")}, tmp_path / "out.csv")
    assert {split: [photo.filename for photo in photos] for split, photos in left.splits.items()} == {
        "train": ["2.jpg"],
        "test": ["1.jpg", "2.jpg"],
    }


def test_a_name_of_two_photographs_of_a_split_is_refused(tmp_path):
    source = SyntheticSource(["ball"], {"train": [named("train", "1.jpg"), named("train", "1.jpg")]}, [], 0)
    with pytest.raises(InputError, match="2 photographs of train have the name '1.jpg'"):
        exclusion.without(source, {("train", "1.jpg")}, tmp_path / "out.csv")
