from __future__ import annotations

import csv
import dataclasses
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sqznet.core import startup
from sqznet.core.errors import InputError
from sqznet.data import __main__ as command
from sqznet.data import manifest, predictions
from sqznet.data.survey import measures
from sqznet.data.survey import report as reports
from sqznet.data.survey.photographs import Stored
from tests.data.survey.conftest import CLASSES, PER_CLASS, jpeg

COPY = "val/ball/copy.jpg"


@pytest.fixture
def with_leak(folder) -> Path:
    shutil.copy(folder / "train/ball/1.jpg", folder / COPY)
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def report(*flags: str) -> str:
    assert command.main(["--report", *flags]) == 0
    out = next(flag.removeprefix("--out=") for flag in flags if flag.startswith("--out="))
    return (Path(out) / "dataset.html").read_text()


def predicted(folder: Path, split: str = "val", held_out: bool = True, wrong: str = "") -> predictions.Predictions:
    files = sorted(path.relative_to(folder).as_posix() for path in (folder / split).glob("*/*"))
    labels = np.array([CLASSES.index(file.split("/")[1]) for file in files])
    likely = np.where([file == wrong for file in files], 1 - labels, labels)
    return predictions.Predictions(
        split, held_out, CLASSES, files, labels, np.where(np.arange(2) == likely[:, None], 0.9, 0.1)
    )


def test_a_leak_is_reported_with_both_pictures(with_leak, tmp_path, capfd):
    content = report(f"--source=folder:{with_leak}", f"--out={tmp_path / 'report'}")
    assert rows(tmp_path / "report" / "duplicates.csv") == [
        {
            "file": "train/ball/1.jpg", "exclude": "yes", "split": "train", "class": "ball", "kind": "exact",
            "similarity": "1.0000", "duplicate_of": COPY, "split_of": "val", "class_of": "ball",
        }
    ]  # fmt: skip
    assert "Leaks between splits (1)" in content and "Conflicting labels (0)" in content
    section = content[content.index("Leaks between splits (1)") : content.index("Conflicting labels (0)")]
    assert section.count('<img src="data:image/jpeg;base64,/9j/') == 2
    assert "train/ball/1.jpg" in section and COPY in section
    assert "leaks: the same photograph in two splits" in capfd.readouterr().out


def test_a_built_set_has_the_same_findings_as_its_source(with_leak, tmp_path):
    assert command.main([f"--source=folder:{with_leak}", f"--out={tmp_path / 'set'}", "--workers=1"]) == 0
    report(f"--source=folder:{with_leak}", f"--out={tmp_path / 'report'}")
    report(f"--out={tmp_path / 'set'}")
    assert (tmp_path / "set" / "duplicates.csv").read_text() == (tmp_path / "report" / "duplicates.csv").read_text()
    assert command.main(["--verify", f"--out={tmp_path / 'set'}"]) == 0


def test_conflicting_labels_are_left_to_the_user(folder, tmp_path):
    shutil.copy(folder / "train/ball/1.jpg", folder / "train/house/copy.jpg")
    content = report(f"--source=folder:{folder}", f"--out={tmp_path}")
    assert "Conflicting labels (1)" in content
    (row,) = rows(tmp_path / "duplicates.csv")
    assert (row["exclude"], row["class"], row["class_of"]) == ("no", "house", "ball")


def test_the_report_fetches_and_runs_nothing(with_leak, tmp_path):
    content = report(f"--source=folder:{with_leak}", f"--out={tmp_path}")
    assert "<script" not in content and "http" not in content.replace("http-equiv", "")


def test_names_are_escaped(folder, tmp_path):
    shutil.copy(folder / "train/ball/1.jpg", folder / "train/ball/<img src=x onerror=alert(1)>.jpg")
    assert "<img src=x" not in report(f"--source=folder:{folder}", f"--out={tmp_path}")


def test_a_damaged_photograph_is_listed(folder, tmp_path):
    (folder / "train/ball/damaged.jpg").write_bytes((folder / "train/ball/1.jpg").read_bytes()[:500])
    content = report(f"--source=folder:{folder}", f"--out={tmp_path}")
    assert "Photographs that cannot be read (1)" in content and "train/ball/damaged.jpg" in content


def test_a_name_that_is_not_utf_8_keeps_its_bytes(folder, tmp_path):
    shutil.copy(folder / "train/ball/1.jpg", folder / "train/ball/caf\udce9.jpg")
    report(f"--source=folder:{folder}", f"--out={tmp_path / 'report'}")
    assert b"train/ball/caf\xe9.jpg,yes" in (tmp_path / "report" / "duplicates.csv").read_bytes()
    assert command.main([
        f"--source=folder:{folder}", f"--out={tmp_path / 'set'}", f"--exclude={tmp_path / 'report' / 'duplicates.csv'}",
        "--workers=1",
    ]) == 0  # fmt: skip
    assert manifest.load(tmp_path / "set").records("train") == 2 * PER_CLASS["train"]


def test_extremes_are_shown(folder, tmp_path):
    (folder / "train/ball/dark.jpg").write_bytes(jpeg(Image.new("RGB", (40, 30))))
    content = report(f"--source=folder:{folder}", f"--out={tmp_path}")
    darkest = content[content.index("<h3>Darkest") : content.index("<h3>Brightest")]
    assert "mean 0 of 255" in darkest and "train/ball/dark.jpg" in darkest
    smallest = content[content.index("<h3>Smallest") :]
    assert smallest.index("40 x 30 pixels") < smallest.index("train/ball/dark.jpg")


def test_likely_label_errors_come_from_predictions(folder, tmp_path):
    predictions.save(predicted(folder, wrong="val/house/1.jpg"), tmp_path / "val.npz")
    content = report(f"--source=folder:{folder}", f"--out={tmp_path}", f"--predictions={tmp_path / 'val.npz'}")
    (row,) = rows(tmp_path / "suspects.csv")
    assert (row["file"], row["exclude"], row["class"], row["likely_class"]) == (
        "val/house/1.jpg",
        "no",
        "house",
        "ball",
    )
    assert "Likely label errors (1)" in content and "likely ball, margin -0.80" in content


def test_predictions_for_records_of_the_training_are_not_used(folder, tmp_path):
    found = predicted(folder, "train", held_out=False, wrong="train/house/1.jpg")
    predictions.save(found, tmp_path / "train.npz")
    content = report(f"--source=folder:{folder}", f"--out={tmp_path}", f"--predictions={tmp_path / 'train.npz'}")
    assert rows(tmp_path / "suspects.csv") == [] and "The model was trained on the records of train" in content


def test_predictions_of_another_set_are_refused(folder, tmp_path):
    found = predicted(folder)
    others = predictions.Predictions("val", True, ("cat", "dog"), found.files, found.labels, found.probabilities)
    predictions.save(others, tmp_path / "val.npz")
    with pytest.raises(InputError, match=r"are for 2 classes \(cat, dog, ...\), and .* has 2 \(ball, house"):
        report(f"--source=folder:{folder}", f"--out={tmp_path}", f"--predictions={tmp_path / 'val.npz'}")


def array_file() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"\x80\x04pickle", array_file()], ids=["empty", "cut", "pickle", "array"]
)
def test_another_file_is_no_predictions(folder, tmp_path, content):
    (tmp_path / "val.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"val.npz cannot be read as predictions"):
        report(f"--source=folder:{folder}", f"--out={tmp_path}", f"--predictions={tmp_path / 'val.npz'}")


@pytest.mark.parametrize("flags", [[], ["--decoded"]], ids=["JPEGs", "pixels"])
def test_shards_as_a_source_have_the_same_findings_too(with_leak, tmp_path, flags):
    assert command.main([f"--source=folder:{with_leak}", f"--out={tmp_path / 'set'}", "--workers=1", *flags]) == 0
    report(f"--out={tmp_path / 'set'}")
    of_set = (tmp_path / "set" / "duplicates.csv").read_text()
    assert of_set.count("exact") == 1
    if not flags:
        report(f"--source=tfrecord:{tmp_path / 'set'}", f"--out={tmp_path / 'report'}")
        assert (tmp_path / "report" / "duplicates.csv").read_text() == of_set


def test_photographs_over_max_pixels_are_not_read(folder, tmp_path):
    (folder / "train/ball/small.jpg").write_bytes(jpeg(Image.effect_noise((40, 30), 90)))
    content = report(f"--source=folder:{folder}", f"--out={tmp_path}", "--max_pixels=2000")
    assert "Photographs that cannot be read" in content


def test_processes_find_the_same(with_leak, tmp_path, monkeypatch):
    report(f"--source=folder:{with_leak}", f"--out={tmp_path / 'one'}")
    monkeypatch.setattr(measures, "_LEAST_OF_A_WORKER", 1)
    monkeypatch.setattr(startup, "cores", lambda: 2)
    (tmp_path / "two").mkdir()
    report(f"--source=folder:{with_leak}", f"--out={tmp_path / 'two'}")
    for name in manifest.REPORTS:
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_a_name_of_two_records_of_a_split_shows_no_picture_of_a_suspect(with_leak, tmp_path):
    assert command.main([f"--source=folder:{with_leak}", f"--out={tmp_path / 'set'}", "--workers=1"]) == 0
    survey = measures.survey(Stored(manifest.load(tmp_path / "set")))
    twice = dataclasses.replace(survey, names=[*survey.names[:-1], survey.names[0]])
    assert (survey.names[0].split, survey.names[0].file) not in reports.rows_by_name(twice)
    assert len(reports.rows_by_name(survey)) == len(survey.names)
