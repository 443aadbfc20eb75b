from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sqznet
from sqznet.core.errors import InputError
from sqznet.images import resize
from sqznet.images.preprocessing import Preprocessing
from sqznet.network import class_map
from sqznet.network.class_map import Grid
from sqznet.network.sqz import encoder
from sqznet.predict import __main__ as predict
from sqznet.predict import class_maps, inference
from sqznet.predict.class_maps import ClassMap
from sqznet.predict.prediction import Prediction, Ranking
from tests.conftest import MAP_FILES
from tests.network.test_sqz import network as random_network

GREY = np.full((60, 120, 3), 100, np.uint8)


@pytest.fixture
def photo(photographs: Path) -> Path:
    return photographs / "val" / "star" / "000.jpg"


@pytest.mark.parametrize("name", MAP_FILES)
def test_every_kind_of_file_gives_the_class_map_of_keras(map_model, map_bundle, photo, name):
    check_file(map_bundle / name, map_model, photo)


def check_file(path: Path, keras_file: Path, photo: Path) -> None:
    """The file gives the class map of the Keras model, which gives the probabilities of the file."""
    expected, found = (sqznet.load(each).class_map(photo) for each in (keras_file, path))
    name = path.name
    assert found.values.dtype == np.float32 and found.values.shape == expected.values.shape == (5, 5, 3)
    assert found.grid == expected.grid == Grid(5, 16, 15.5)
    error = np.sqrt(np.square(found.values - expected.values).mean() / np.square(expected.values).mean())
    assert error < (0.3 if "int8" in name or "dynamic" in name else 5e-3)
    (shares,) = class_map.probabilities(found.values[None])
    for each in found.ranking:
        assert shares[each.index] == pytest.approx(each.probability, abs=0.1 if name == "model_int8.tflite" else 2e-3)


def test_a_batch_gives_the_maps_of_its_images(map_bundle, photographs):
    paths = sorted((photographs / "val").glob("*/*.jpg"))[:3]
    predictor = inference.load(map_bundle / "model.tflite")
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
    probabilities, maps = predictor.predict_with_class_map(pixels)
    np.testing.assert_array_equal(probabilities, predictor.predict(pixels))
    for image, own in zip(pixels, maps, strict=True):
        np.testing.assert_array_equal(predictor.predict_with_class_map(image[None])[1][0], own)


def test_a_sqz_file_gives_class_maps(tmp_path, photo):
    (tmp_path / "random.sqz").write_bytes(encoder.encode(*random_network(names=None)))
    found = sqznet.load(tmp_path / "random.sqz").class_map(photo)
    (shares,) = class_map.probabilities(found.values[None])
    assert shares[found.ranking[0].index] == pytest.approx(found.ranking[0].probability, abs=1e-5)


def test_a_file_without_class_maps_says_how_to_export_them(bundle, photo):
    message = r"model.tflite has no class_map, only probabilities: .* --outputs=probabilities,class_map"
    with pytest.raises(InputError, match=message):
        sqznet.load(bundle / "model.tflite").class_map(photo)


def drawn(photograph: np.ndarray, values: np.ndarray, grid: Grid, preprocessing: Preprocessing) -> np.ndarray:
    ranking = Ranking([Prediction("a", 1.0, 0, "a")], resize.prepare(photograph, preprocessing))
    return np.asarray(ClassMap(values, ranking, photograph, grid, preprocessing).picture())


def test_the_map_is_drawn_where_the_network_sees_it():
    """Of a photograph of 60 x 120 pixels the network sees 30 x 30 in the middle, as 32 x 32."""
    values = np.zeros((2, 2, 1), np.float32)
    values[0, 1] = 5
    picture = drawn(GREY, values, Grid(2, 16, 8), Preprocessing(32, 64)).astype(int)
    redness = picture[..., 0] - picture[..., 1]
    # The cell's centre is at (8, 24) of 32, which is (15 + 8 / 32 * 30, 45 + 24 / 32 * 30) in the photograph.
    row, column = np.argwhere(redness == redness.max()).mean(axis=0) + 0.5
    assert abs(row - 22.5) < 4 and abs(column - 67.5) < 4
    unseen = np.ones((60, 120), bool)
    unseen[15:45, 45:75] = False
    assert (picture[unseen] == 50).all() and (redness[unseen] == 0).all()
    assert (picture[39:45, 45:75] == 100).all()  # below the centre of the lower cells, whose scores are 0


def test_a_class_without_a_positive_score_has_no_colour():
    picture = drawn(GREY, np.full((2, 2, 1), -1, np.float32), Grid(2, 16, 8), Preprocessing(32, 32))
    assert np.ptp(picture, axis=2).max() == 0


def test_between_cells_scores_are_interpolated_and_beyond_them_they_stay():
    scores = np.array([[0.0, 1.0], [0.0, 1.0]])
    places = np.array([0, 8, 16, 24, 32])
    picture = class_maps.draw(np.zeros((5, 5, 3), np.uint8), scores, Grid(2, 16, 8), places, places, 32)
    reds = picture[0, :, 0].astype(int)
    assert reds[0] == reds[1] == 0 and reds[3] == reds[4] == 178 and reds[2] == 89


def test_large_photographs_are_scaled_down_and_other_outputs_can_be_drawn():
    values = np.zeros((2, 2, 2), np.float32)
    values[..., 1] = 1
    large = np.zeros((1500, 3000, 3), np.uint8)
    ranking = Ranking([Prediction("a", 1.0, 0, "a")], np.zeros((32, 32, 3), np.uint8))
    found = ClassMap(values, ranking, large, Grid(2, 16, 8), Preprocessing(32, 32))
    assert found.picture().size == (1024, 512)
    assert np.asarray(found.picture()).max() == 0 and np.asarray(found.picture(1)).max() > 0
    with pytest.raises(InputError, match="the network has no output 2; it has 0 to 1"):
        found.picture(2)


def test_predict_writes_a_picture_of_each_class_map(map_bundle, photographs, tmp_path, capsys):
    photos = [photographs / "val" / kind / "000.jpg" for kind in ("star", "ball")]
    arguments = ["--model", str(map_bundle / "model.onnx"), *map(str, photos), "--json"]
    maps, sheet = tmp_path / "maps", tmp_path / "sheet.png"
    assert predict.main([*arguments, f"--picture={sheet}"]) == 0
    plain, without = sheet.read_bytes(), json.loads(capsys.readouterr().out)
    assert predict.main([*arguments, f"--class_map={maps}", f"--picture={sheet}"]) == 0
    output = capsys.readouterr()
    answers = json.loads(output.out)["photographs"]
    assert [each.pop("class_map") for each in answers] == [
        str(maps / "000.class_map.png"),
        str(maps / "000-2.class_map.png"),
    ]
    assert answers == without["photographs"]
    assert sorted(path.name for path in maps.iterdir()) == ["000-2.class_map.png", "000.class_map.png"]
    assert Image.open(maps / "000.class_map.png").size == (96, 96)
    assert f"2 class maps in {maps}, such as {maps / '000.class_map.png'}" in output.err
    assert sheet.read_bytes() != plain


def test_predict_refuses_a_file_without_class_maps_before_it_reads_photographs(bundle, photo, tmp_path):
    with pytest.raises(InputError, match="has no class_map"):
        predict.main(["--model", str(bundle / "model.onnx"), str(photo), f"--class_map={tmp_path / 'maps'}"])
    assert not (tmp_path / "maps").exists()


def test_a_folder_for_class_maps_that_is_a_file_is_refused(bundle, photo, tmp_path):
    (tmp_path / "maps.png").write_bytes(b"")
    with pytest.raises(InputError, match="maps.png is a file; name a folder for the pictures"):
        predict.main([str(photo), f"--class_map={tmp_path / 'maps.png'}"])


def test_a_published_network_with_padding_gives_class_maps(tmp_path, photo):
    """conv10 of the published v1.0 pads its input by one cell."""
    (tmp_path / "padded.sqz").write_bytes(encoder.encode(*random_network("v1.0", padding=1, names=None)))
    found = sqznet.load(tmp_path / "padded.sqz").class_map(photo)
    assert found.values.shape == (5, 5, 3) and found.grid == Grid(5, 16, 1.5)
