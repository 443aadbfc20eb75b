from __future__ import annotations

import pytest

from sqznet.export import readme
from sqznet.images.preprocessing import DECODING, Preprocessing
from sqznet.weights.catalogue import CATALOGUE
from tests.export.test_report import LABELS, MANIFEST, PUBLISHED, changed

WANTED = Preprocessing(8, 10, "squash", "bicubic", False)


def written(tmp_path, **changes) -> tuple[str, str]:
    """README.md and the licence."""
    preprocessing = {**MANIFEST["preprocessing"], **WANTED.to_dict(), **DECODING, "rule": WANTED.rule}
    folder = tmp_path / "tiny"
    folder.mkdir(exist_ok=True)
    readme.write(folder, changed(preprocessing=preprocessing, **changes), LABELS)
    return (folder / "README.md").read_text(), (folder / "LICENSE_WEIGHTS.txt").read_text()


def test_the_readme_has_every_file_its_use_the_commands_and_the_rule(tmp_path):
    content, _ = written(tmp_path)
    assert content.startswith("# tiny\n")
    for shown in (
        "| `model.tflite` | Android, iOS, the web and Python, with LiteRT | 2,900,000 |",
        "| `model_nchw.onnx` | ONNX Runtime on servers, desktops and the web; channels first, (n, 3, size, size) |",
        "pip install ai-edge-litert # runs .tflite files\n",
        "pip install onnxruntime    # runs .onnx files\n",
        "python python/predict.py --model=model.tflite photo.jpg\n",
        "python python/check.py\n",
        "f = 8 / 10 in float32; the sides round(f * height) and round(f * width)",
        "w = 1 (not antialiased)",
        "Keys, a = -0.5",
        "Licence of the weights: not stated; the weights were trained from scratch",
        "Apache License 2.0",
    ):
        assert shown in " ".join(content.split(" ")) or shown in " ".join(content.split()), shown


def test_the_readme_names_only_files_of_the_bundle(tmp_path):
    content, _ = written(tmp_path, files={"model_nchw.onnx": MANIFEST["files"]["model_nchw.onnx"]})
    assert "ai-edge-litert" not in content and "--model=model_nchw.onnx" in content and "`model.tflite`" not in content


@pytest.mark.parametrize(
    ("weights", "shown"),
    [
        (None, "Choose a licence before you publish the model files"),
        ({**PUBLISHED, "licence": "none stated"}, "the authors of the published weights state none"),
        (PUBLISHED, "not known; the published weights were given as a file, so ask where that file came from"),
        ({"file": "net.caffemodel", **CATALOGUE["squeezenet-v1.1"].to_dict()}, "Published file: net.caffemodel\n"),
        ({"file": "net.caffemodel", **CATALOGUE["squeezenet-v1.1"].to_dict()}, "Published url: https://"),
    ],
)
def test_the_licence_of_the_weights_is_a_file(tmp_path, weights, shown):
    _, licence = written(tmp_path, weights=weights)
    assert shown in licence
    is_known = weights is not None and weights.get("licence") == "BSD-2-Clause"
    assert ("Redistribution and use in source and binary forms" in licence) == is_known


def test_every_licence_of_the_catalogue_has_its_text_or_none_is_stated(tmp_path):
    for entry in CATALOGUE.values():
        _, licence = written(tmp_path, weights=entry.to_dict())
        assert "Redistribution" in licence or entry.licence == "none stated"
