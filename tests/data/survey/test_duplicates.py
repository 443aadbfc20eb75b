from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from sqznet.data import sources
from sqznet.data.survey import duplicates, measures, photographs
from tests.data.survey.conftest import PER_CLASS, jpeg


def pairs(folder) -> list[tuple[str, str, str]]:
    """Finds the duplicates of a folder: kept file, other file and kind."""
    survey = measures.survey(photographs.Listed("folder", sources.open_source(f"folder:{folder}", seed=0)))
    return [
        (survey.names[pair.kept].file, survey.names[pair.other].file, pair.kind) for pair in duplicates.find(survey)
    ]


def change(content: bytes, how: str) -> bytes:
    image = Image.open(io.BytesIO(content)).convert("RGB")
    width, height = image.size
    return {
        "recompressed": lambda: jpeg(image, 30),
        "resized": lambda: jpeg(image.resize((round(0.8 * width), round(0.8 * height)))),
        "cropped at a corner": lambda: jpeg(image.crop((0, 0, round(0.95 * width), round(0.95 * height)))),
        "cropped at one side": lambda: jpeg(image.crop((0, 0, width, round(0.95 * height)))),
        "cropped at all sides": lambda: jpeg(
            image.crop((round(0.05 * width), round(0.05 * height), round(0.95 * width), round(0.95 * height)))
        ),
        "mirrored": lambda: jpeg(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        "brighter": lambda: jpeg(image.point(lambda value: min(255, round(1.2 * value)))),
        "grey": lambda: jpeg(image.convert("L")),
    }[how]()


def test_different_photographs_are_no_duplicates(folder):
    assert pairs(folder) == []


@pytest.mark.parametrize(
    "how",
    [
        *("recompressed", "resized", "cropped at a corner", "cropped at one side", "cropped at all sides"),
        *("mirrored", "brighter", "grey"),
    ],
)
def test_a_changed_copy_is_a_near_duplicate(folder, how):
    (folder / "val/ball/copy.jpg").write_bytes(change((folder / "train/ball/3.jpg").read_bytes(), how))
    assert pairs(folder) == [("val/ball/copy.jpg", "train/ball/3.jpg", "near")]


def test_of_three_copies_the_one_of_val_is_kept(folder):
    shutil.copy(folder / "train/ball/1.jpg", folder / "val/ball/copy.jpg")
    shutil.copy(folder / "train/ball/1.jpg", folder / "train/house/copy.jpg")
    assert sorted(pairs(folder)) == [
        ("val/ball/copy.jpg", "train/ball/1.jpg", "exact"),
        ("val/ball/copy.jpg", "train/house/copy.jpg", "exact"),
    ]


def test_a_copy_of_a_changed_copy_is_found_too(folder):
    (folder / "val/ball/copy.jpg").write_bytes(change((folder / "train/ball/3.jpg").read_bytes(), "resized"))
    shutil.copy(folder / "val/ball/copy.jpg", folder / "val/house/copy.jpg")
    assert sorted(pairs(folder)) == [
        ("val/ball/copy.jpg", "train/ball/3.jpg", "near"),
        ("val/ball/copy.jpg", "val/house/copy.jpg", "exact"),
    ]


def test_a_copy_of_val_in_two_classes_of_train_is_two_leaks(folder):
    original = (folder / "train/ball/1.jpg").read_bytes()
    (folder / "train/house/copy.jpg").write_bytes(original)
    (folder / "val/ball/copy.jpg").write_bytes(change(original, "resized"))
    assert sorted(pairs(folder)) == [
        ("val/ball/copy.jpg", "train/ball/1.jpg", "near"),
        ("val/ball/copy.jpg", "train/house/copy.jpg", "near"),
    ]


def test_a_leak_into_a_photograph_of_unknown_class_is_found(folder, monkeypatch):
    survey = measures.survey(photographs.Listed("folder", sources.open_source(f"folder:{folder}", seed=0)))
    rows = {name.file: row for row, name in enumerate(survey.names)}
    order = [*range(PER_CLASS["train"] * 2, len(rows)), *range(PER_CLASS["train"] * 2)]  # val before train
    ball, house, train = (order.index(rows[each]) for each in ("val/ball/0.jpg", "val/house/0.jpg", "train/ball/0.jpg"))
    monkeypatch.setattr(duplicates, "_near", lambda *_: [(ball, house, 0.9), (house, train, 0.9)])
    found = {(survey.names[pair.kept].file, survey.names[pair.other].file) for pair in duplicates.find(survey)}
    assert found == {("val/ball/0.jpg", "val/house/0.jpg"), ("val/house/0.jpg", "train/ball/0.jpg")}


def test_the_most_similar_of_too_many_pairs_are_kept(monkeypatch):
    monkeypatch.setattr(duplicates, "MOST_CANDIDATES", 50)
    hashes = np.full((100, 2), 7, np.uint64)
    hashes[2:] ^= np.uint64(1) << np.arange(98, dtype=np.uint64)[:, None] % 64
    found = duplicates.candidate_pairs(hashes)
    assert len(found) == 50 and found[0].tolist() == [0, 1]


def test_even_surfaces_are_no_near_duplicates(folder):
    for number, grey in enumerate((60, 120, 180)):
        (folder / f"train/ball/even{number}.jpg").write_bytes(jpeg(Image.new("RGB", (80, 60), (grey, grey, grey))))
    assert pairs(folder) == []


def test_all_pairs_of_close_hashes_are_candidates():
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, (500, 2), dtype=np.uint64)
    near = duplicates.BANDS - 1  # with fewer changed bits than bands, one band is equal
    for place in range(100):
        bits = random.choice(64, near, replace=False)
        hashes[400 + place, 0] = hashes[place, place % 2] ^ np.bitwise_or.reduce(np.uint64(1) << bits.astype(np.uint64))
    found = {tuple(pair) for pair in duplicates.candidate_pairs(hashes).tolist()}
    assert {(place, 400 + place) for place in range(100)} <= found
    assert len(found) < 110  # hardly any pair of random hashes is close
