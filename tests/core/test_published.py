"""Nothing that is handed on says where it lay on the machine that made it."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from sqznet.core import remote
from sqznet.core.errors import InputError
from sqznet.data import manifest as manifests
from sqznet.data import sources
from sqznet.evaluate import accuracy_report, scoring
from sqznet.images.preprocessing import Preprocessing
from sqznet.network.keras_file import Card
from sqznet.predict import inference
from sqznet.runs import run_folder
from tests.conftest import build_set


def holding(word: bytes, name: str, content: bytes) -> list[str]:
    """The files with a word in them, also within archives."""
    found = [name] if word in content else []
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                found += holding(word, f"{name}, {member}", archive.read(member))
    return found


def places(path: Path, below: Path) -> list[str]:
    every = [path] if path.is_file() else [each for each in sorted(path.rglob("*")) if each.is_file()]
    return [name for each in every for name in holding(str(below).encode(), each.name, each.read_bytes())]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/home/me/secret/flowers", "flowers"),
        ("data/flowers", "data/flowers"),
        ("../secret/flowers", "flowers"),
        ("data/../../secret/flowers", "flowers"),
        ("gs://bucket/secret/flowers", "flowers"),
        ("gs://bucket/secret/flowers/", "flowers"),
        ("/home/me/secret/flowers/", "flowers"),
    ],
)
def test_a_published_name_tells_no_place(path, name):
    assert remote.published(Path(path) if "://" not in path else path) == name


def test_a_set_tells_no_place(photographs, tmp_path):
    built = build_set(f"folder:{photographs}", tmp_path / "set")
    assert built.content["source"] == "folder:photographs"
    assert places(tmp_path / "set", photographs.parent) == []
    assert build_set(f"folder:{photographs}", tmp_path / "set").content == built.content  # it is known again


def test_a_set_of_an_earlier_version_is_known_again(photographs, tmp_path):
    build_set(f"folder:{photographs}", tmp_path / "set")
    path = tmp_path / "set" / "manifest.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "source": f"folder:{photographs}"}))
    again = build_set(f"folder:{photographs}", tmp_path / "set")
    assert again.content["shards"] == content["shards"]


def test_notes_begin_at_the_source():
    note = "classes are from /home/me/shards/labels.txt"
    assert sources.with_relative_paths(note, "tfrecord:/home/me/shards") == "classes are from shards/labels.txt"
    assert sources.with_relative_paths(note, "tfrecord:/home/me/shards/*-fft") == "classes are from labels.txt"


def test_a_trained_model_and_its_report_tell_no_place(trained_run, shard_set, tmp_path):
    assert places(trained_run / "best.keras", trained_run.parent.parent) == []
    predictor = inference.load(trained_run)
    accuracy_report.report(scoring.evaluate(predictor, shard_set, "test"), predictor, shard_set, "test", tmp_path)
    assert places(tmp_path, trained_run.parent.parent) == []
    content = json.loads((tmp_path / "evaluation-test.json").read_text())
    assert (content["model"], content["data"]) == (trained_run.name, shard_set.folder.name)
    assert content["listing_sha256"] == shard_set.content["listing_sha256"]


def test_a_bundle_tells_no_place(bundle, shard_set):
    """Nor does what TensorFlow, tf2onnx and Keras put into their files: no path of a Python file."""
    assert places(bundle, shard_set.folder.parent) == []
    assert places(bundle, Path(__file__).parents[2]) == []


def test_a_run_finds_its_data_and_a_copied_model_asks_for_it(trained_run, shard_set, tmp_path):
    for path in (trained_run, trained_run / "best.keras"):
        assert run_folder.trained_on(inference.load(path).card, path) == shard_set.folder
    copy = tmp_path / "copy.keras"
    copy.write_bytes((trained_run / "best.keras").read_bytes())
    with pytest.raises(InputError, match=f"was trained on '{shard_set.folder.name}', .* give --data=FOLDER"):
        run_folder.trained_on(inference.load(copy).card, copy)


def test_a_folder_by_its_relative_name_is_found(shard_set, tmp_path, monkeypatch):
    monkeypatch.chdir(shard_set.folder.parent)
    card = Card(None, Preprocessing(32, 32), data=shard_set.folder.name)
    assert manifests.load(run_folder.trained_on(card, tmp_path / "x.keras")).classes == shard_set.classes
