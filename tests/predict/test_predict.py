from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from sqznet.core import metrics, plots
from sqznet.core.errors import InputError, Reject
from sqznet.images import decode, signatures
from sqznet.images.preprocessing import Preprocessing
from sqznet.network.keras_file import Card
from sqznet.predict import __main__ as predict
from sqznet.predict.answers import answer
from sqznet.predict.inference import Predictor
from tests import icc


@pytest.fixture
def holiday(photographs: Path, tmp_path: Path) -> Path:
    """A folder of three photographs, as people have them."""
    folder = tmp_path / "holiday"
    (folder / "day 2").mkdir(parents=True)
    (folder / ".thumbnails").mkdir()
    for index, name in enumerate(("a.jpg", "b.jpg", "day 2/c.jpg", ".thumbnails/a.jpg")):
        shutil.copy(photographs / "val" / "ball" / f"{index:03d}.jpg", folder / name)
    return folder


def test_of_equal_probabilities_the_first_class_ranks_first():
    assert metrics.ranking(np.array([0.1, 0.4, 0.4, 0.1], np.float32)).tolist() == [1, 2, 0, 3]
    assert metrics.ranking(np.array([3, 200, 200], np.uint8)).tolist() == [1, 2, 0]


def test_predict_ranks_ties_as_evaluation_does(holiday):
    class Tied:
        batch, image_size, classes = None, 8, 4

        def __call__(self, images: np.ndarray) -> np.ndarray:
            return np.tile(np.array([0.1, 0.4, 0.4, 0.1], np.float32), (len(images), 1))

    predictor = Predictor(Path("tied"), Tied(), Card(("a", "b", "c", "d"), Preprocessing(8, 8)))
    (tied,), _ = answer({holiday / "a.jpg": True}, predictor, top=3)
    assert [each.index for each in tied.predictions] == [1, 2, 0]
    assert metrics.score(Tied()(tied.predictions.pixels[None]), np.array([1])).top1 == 1


def test_only_the_photographs_of_the_sheet_are_kept_in_memory(holiday, monkeypatch):
    class Sure:
        batch, image_size, classes = None, 8, 2

        def __call__(self, images: np.ndarray) -> np.ndarray:
            return np.tile(np.array([0.9, 0.1], np.float32), (len(images), 1))

    monkeypatch.setattr(plots, "SHEET", 2)
    predictor = Predictor(Path("sure"), Sure(), Card(("a", "b"), Preprocessing(8, 8)))
    photos = {holiday / name: True for name in ("a.jpg", "b.jpg", "day 2/c.jpg")}
    answers, _ = answer(photos, predictor, top=1)
    assert [each.predictions.pixels is not None for each in answers] == [True, True, False]


def test_a_bad_photograph_is_named_and_the_others_are_answered(bundle, holiday, capsys):
    (holiday / "bad.jpg").write_bytes((holiday / "a.jpg").read_bytes()[:300])
    (holiday / "text.jpg").write_text("no photograph")
    names = ["a.jpg", "bad.jpg", "text.jpg", "missing.jpg", "b.jpg"]
    assert predict.main([f"--model={bundle / 'model.tflite'}", *(str(holiday / name) for name in names)]) == 1
    printed = capsys.readouterr()
    answered = [name for name in names if str(holiday / name) in printed.out]
    assert answered == ["a.jpg", "b.jpg"]
    assert f"error: {holiday / 'bad.jpg'}: broken: " in printed.err
    assert f"error: {holiday / 'text.jpg'}: not an image: no format that is read" in printed.err
    assert f"error: {holiday / 'missing.jpg'}: cannot be read: No such file" in printed.err


def test_a_folder_is_read_with_what_is_below_it_and_without_hidden_files(bundle, holiday, capsys):
    (holiday / "notes.txt").write_text("no photograph")
    assert predict.main([f"--model={bundle / 'model.tflite'}", "--top=1", "--csv", str(holiday)]) == 0
    printed = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(printed.out)))
    assert [row["photograph"] for row in rows] == [str(holiday / name) for name in ("a.jpg", "b.jpg", "day 2/c.jpg")]
    assert all(row["name"] in ("ball", "house", "star") and 0 < float(row["probability"]) <= 1 for row in rows)
    assert f"1 file is no photograph and was left out, such as {holiday / 'notes.txt'}" in printed.err


def test_of_a_folder_what_should_be_a_photograph_is_named_and_links_are_told_of(bundle, holiday, capsys):
    (holiday / "page.jpg").write_text("<!DOCTYPE html><title>404</title>")
    (holiday / "gone.jpg").symlink_to(holiday / "nowhere.jpg")
    (holiday / "again").symlink_to(holiday)
    assert predict.main([f"--model={bundle / 'model.tflite'}", "--json", str(holiday)]) == 1
    printed = capsys.readouterr()
    content = json.loads(printed.out)
    assert len(content["photographs"]) == 3
    assert list(content["errors"]) == [str(holiday / "page.jpg")]
    assert "links without a target: 1 (gone.jpg)" in printed.err
    assert "hidden folders, not read" in printed.err


def test_names_that_are_not_text_or_too_long_take_no_answers_along(bundle, holiday, capsysbinary):
    odd = holiday / os.fsdecode(b"caf\xe9.jpg")
    shutil.copy(holiday / "a.jpg", odd)
    flags = [f"--model={bundle / 'model.tflite'}", "--csv", f"--picture={holiday.parent / 'sheet.png'}"]
    assert predict.main([*flags, str(odd), "a" * 300, str(holiday / "a.jpg")]) == 1
    printed = capsysbinary.readouterr()
    assert b"caf\\xe9.jpg,1," in printed.out and b"a.jpg,1," in printed.out
    assert b"cannot be read: File name too long" in printed.err


def test_json_has_answers_and_errors(bundle, holiday, capsys):
    photos = [str(holiday / "a.jpg"), str(holiday / "missing.jpg")]
    assert predict.main([f"--model={bundle / 'model.tflite'}", "--top=2", "--json", *photos]) == 1
    content = json.loads(capsys.readouterr().out)
    (answer,) = content["photographs"]
    assert answer["photograph"] == photos[0]
    assert [each["rank"] for each in answer["predictions"]] == [1, 2]
    assert content["errors"] == {photos[1]: "cannot be read: No such file or directory"}
    assert content["preprocessing"]["image_size"] == 32 and content["geometry_override"] is None


def test_ten_photographs_have_a_progress_bar(bundle, holiday, capsys):
    for index in range(7):
        shutil.copy(holiday / "a.jpg", holiday / f"more {index}.jpg")
    assert predict.main([f"--model={bundle / 'model.tflite'}", str(holiday)]) == 0
    assert "predicting" in capsys.readouterr().err


def test_what_cannot_be_photographs_is_refused_by_name(holiday, tmp_path):
    for address in ("https://example.com/a.jpg", "s3://bucket/a.jpg", "data:image/png;base64,iVBORw0KGgo="):
        with pytest.raises(InputError, match=f"{address} is an address, and predict fetches nothing"):
            predict.main([address])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty is a folder without files to read"):
        predict.main([str(tmp_path / "empty")])


def test_a_folder_without_photographs_is_an_error(bundle, tmp_path):
    (tmp_path / "notes.txt").write_text("no photograph")
    with pytest.raises(InputError, match="is no photograph"):
        predict.main([f"--model={bundle / 'model.tflite'}", str(tmp_path)])


@pytest.fixture
def heic(holiday) -> Path:
    with Image.open(holiday / "a.jpg") as image:
        pillow_heif.from_pillow(image).save(holiday / "phone.heic", quality=95)
    return holiday / "phone.heic"


def test_heic_is_read_where_its_package_is(heic):
    pixels, _ = decode.decode(heic.read_bytes())
    with Image.open(heic.with_name("a.jpg")) as image:
        assert np.abs(pixels.astype(int) - np.asarray(image)).mean() < 4


def test_heic_names_its_package_where_that_is_missing(heic, monkeypatch):
    monkeypatch.setattr(signatures, "reads_heif", lambda: False)
    with pytest.raises(Reject, match="HEIC .* which pillow-heif reads: pip install pillow-heif"):
        decode.decode(heic.read_bytes())


def test_photographs_in_other_colours_are_answered_alike(bundle, holiday, capsys):
    with Image.open(holiday / "a.jpg") as image:
        for name, profile in (("p3.png", icc.display_p3()), ("srgb.png", icc.srgb())):
            icc.from_srgb(image.convert("RGB"), profile).save(holiday / name, icc_profile=profile)
    Image.open(holiday / "srgb.png").save(holiday / "broken.png", icc_profile=b"no profile")
    photos = [str(holiday / name) for name in ("p3.png", "srgb.png", "broken.png")]
    assert predict.main([f"--model={bundle / 'model.tflite'}", "--json", *photos]) == 0
    printed = capsys.readouterr()
    p3, srgb, broken = (
        {each["class"]: each["probability"] for each in answer["predictions"]}
        for answer in json.loads(printed.out)["photographs"]
    )
    assert srgb == broken
    assert all(abs(p3[name] - srgb[name]) < 0.02 for name in srgb)
    assert "1 photograph has a broken colour profile and was taken as sRGB" in printed.err


@pytest.mark.parametrize(("name", "offered"), [("float32.tflite", False), ("float32.onnx", False), ("m.keras", True)])
def test_only_a_model_that_can_be_trained_further_is_offered_for_it(
    bundle, trained_run, tmp_path, capsys, name, offered
):
    model = shutil.copy(next(iter(bundle.glob(f"*{Path(name).suffix}")), trained_run / "best.keras"), tmp_path / name)
    predict._print_next_step(model)
    assert ("--init_weights=" in capsys.readouterr().err) == offered
