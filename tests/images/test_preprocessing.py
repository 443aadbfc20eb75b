from __future__ import annotations

import json
import zipfile

import pytest

from sqznet import recipes
from sqznet.core.errors import InputError
from sqznet.evaluate import __main__ as evaluate
from sqznet.images import preprocessing
from sqznet.images.preprocessing import CORNER, RUNTIME_RESIZES, Preprocessing
from sqznet.network import keras_file
from sqznet.train import __main__ as train


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "scale the short side to 256 pixels (bilinear, antialiased), cut out the central square of 227"),
        ({"antialias": False}, "(bilinear, not antialiased)"),
        ({"resize": "squash", "interpolation": "bicubic"}, "scale both sides, whatever the shape, to 256 pixels (bicu"),
    ],
)
def test_steps_describe_the_preprocessing(changes, words):
    assert words in Preprocessing(227, 256, **changes).steps


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"antialias": 1}, "antialias is 1; it must be true or false"),
        ({"interpolation": CORNER}, "bilinear_corner, which is never antialiased; antialias must be false"),
        ({"interpolation": "cubic"}, "interpolation is 'cubic'; it must be one of bilinear, bicubic"),
        ({"resize_to": 100}, "a crop of 227 pixels does not fit"),
    ],
)
def test_contradicting_settings_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Preprocessing(**{"image_size": 227, "resize_to": 256, **changes})


def test_a_recipe_passes_on_its_antialias():
    assert recipes.ARTICLE.preprocessing.antialias
    assert not recipes.ARTICLE.replace(antialias=False).preprocessing.antialias
    assert train.make_parser().parse_args(["--no-antialias"]).antialias is False


def test_a_recipe_refuses_the_interpolation_of_other_runtimes():
    with pytest.raises(InputError, match="it must be one of bilinear, bicubic"):
        recipes.ARTICLE.replace(interpolation=CORNER, antialias=False)


def test_a_recipe_file_without_antialias_is_antialiased(tmp_path):
    fields = recipes.ARTICLE.to_dict()
    del fields["antialias"]
    (tmp_path / "config.json").write_text(json.dumps({"recipe": fields}))
    assert recipes.load(str(tmp_path / "config.json")) == recipes.ARTICLE


def test_a_model_file_without_antialias_is_antialiased(trained_run, tmp_path):
    path = tmp_path / "old.keras"
    with zipfile.ZipFile(trained_run / "best.keras") as new, zipfile.ZipFile(path, "w") as old:
        for name in new.namelist():
            content = new.read(name)
            if name == keras_file.MEMBER:
                card = json.loads(content)
                assert card["preprocessing"].pop("antialias") is True
                content = json.dumps(card).encode()
            old.writestr(name, content)
    _, card = keras_file.load(path)
    assert card == keras_file.load(trained_run / "best.keras")[1]


def test_a_card_keeps_antialias_false():
    card = keras_file.Card(("a", "b"), Preprocessing(32, 32, antialias=False))
    assert keras_file.card_from_dict(card.to_dict(), where="here") == card


def test_a_card_without_interpolation_is_refused():
    content = keras_file.Card(("a", "b"), Preprocessing(32, 32)).to_dict()
    del content["preprocessing"]["interpolation"]
    with pytest.raises(InputError, match="here cannot be read .*interpolation"):
        keras_file.card_from_dict(content, where="here")


@pytest.mark.parametrize("name", RUNTIME_RESIZES)
def test_a_runtime_fills_the_whole_input(name):
    made = RUNTIME_RESIZES[name].at(224)
    assert (made.image_size, made.resize_to) == (224, 224)
    assert made == Preprocessing(**made.to_dict())


def test_an_unknown_runtime_lists_the_known_ones():
    with pytest.raises(InputError) as refused:
        evaluate.make_parser().parse_args(["--resize_as=fridge"])
    assert all(name in str(refused.value) for name in preprocessing.RUNTIME_RESIZES)


def test_evaluating_as_a_runtime_writes_a_report_of_its_own(trained_run, tmp_path, capsys):
    flags = [f"--model={trained_run}", "--split=val", f"--out={tmp_path}"]
    assert evaluate.main(flags) == 0
    assert evaluate.main([*flags, "--resize_as=mediapipe"]) == 0
    assert "resized as mediapipe does" in " ".join(capsys.readouterr().out.split())
    reports = [json.loads((tmp_path / f"evaluation-val{each}.json").read_text()) for each in ("", "-as-mediapipe")]
    assert [report["resize_as"] for report in reports] == [None, "mediapipe"]
    assert reports[1]["preprocessing"] == RUNTIME_RESIZES["mediapipe"].at(32).to_dict()
    assert reports[0]["n"] == reports[1]["n"] == 33
    assert (tmp_path / "confusion-val-as-mediapipe.png").is_file()


def test_a_card_may_have_equal_class_names_but_not_none():
    """ImageNet has two classes whose readable name is "crane"."""
    content = {"preprocessing": {"image_size": 32, "resize_to": 32, "resize": "short", "interpolation": "bilinear"}}
    assert keras_file.card_from_dict({**content, "classes": ["crane", "crane"]}, "x").classes == ("crane", "crane")
    with pytest.raises(InputError, match="classes is empty"):
        keras_file.card_from_dict({**content, "classes": []}, "x")
