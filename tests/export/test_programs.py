"""The programs of a bundle that was copied alone, in an environment with one runtime, NumPy and Pillow."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata as packages
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest

from sqznet.core.errors import CheckFailed, InputError
from sqznet.export import check, previous, programs
from sqznet.images import resize
from sqznet.images.preprocessing import Preprocessing
from sqznet.network import metadata
from sqznet.network.keras_file import card_from_dict
from sqznet.predict import inference
from sqznet.predict import photographs as reading
from tests.network.test_exported import SAMPLE

PYTHON = Path(programs.__file__).parent / "kits" / "python"
LITERT, ORT = "ai-edge-litert", "onnxruntime"
ANSWER = re.compile(r"^(?P<photo>.+), with (?P<file>.+)\n  (?P<probability>\d\.\d{4}) (?P<label>.+)$", re.M)


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Callable[..., Path]:
    """Makes a folder with links to some installed packages. `run` imports from this folder only."""

    def make(*names: str) -> Path:
        folder = tmp_path_factory.mktemp("packages")
        for name in names:
            installed = packages.distribution(name)
            for top in {file.parts[0] for file in installed.files or () if file.parts[0] != ".."}:
                (folder / top).symlink_to(installed.locate_file(top))
        return folder

    return make


@pytest.fixture(scope="module")
def litert(environment) -> Path:
    return environment(LITERT, "numpy", "pillow")


@pytest.fixture(scope="module")
def ort(environment) -> Path:
    return environment(ORT, "numpy", "pillow")


def run(installed: Path, program: Path, *arguments: object) -> subprocess.CompletedProcess:
    """Runs a program as in an environment that contains the packages of `installed` only."""
    start = (
        "import runpy, sys; sys.dont_write_bytecode = True; installed, program, folder, *rest = sys.argv[1:]; "
        "sys.path += [folder, installed]; sys.argv = [program, *rest]; runpy.run_path(program, run_name='__main__')"
    )
    command = [sys.executable, "-I", "-S", "-c", start, installed, program, program.parent, *arguments]
    return subprocess.run([str(each) for each in command], cwd=program.parent, capture_output=True, text=True)


@pytest.fixture
def alone(bundle, tmp_path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "empty" / "alone"))


def load_photograph() -> ModuleType:
    spec = importlib.util.spec_from_file_location("photograph", PYTHON / "photograph.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_environments_hold_nothing_else(litert, tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import numpy, PIL, ai_edge_litert\nimport sqznet\n")
    assert "No module named 'sqznet'" in run(litert, program).stderr


@pytest.mark.parametrize(("name", "suffix"), [("litert", ".tflite"), ("ort", ".onnx")])
def test_check_runs_every_file_that_the_runtime_can_run(alone, request, name, suffix):
    done = run(request.getfixturevalue(name), alone / "python" / "check.py")
    assert done.returncode == 0, done.stdout + done.stderr
    for file in check.load(alone)["files"]:
        (line,) = (line for line in done.stdout.splitlines() if line.split()[1] == file)
        assert line.startswith("ok ") and ("golden outputs differ" in line) == file.endswith(suffix)
    assert re.search(r"^ok +photo_turned.jpg pixels differ by [01]\.", done.stdout, re.M)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def other_outputs(path: Path) -> None:
    path.write_bytes((1 - np.fromfile(path, "<f4")).tobytes())


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("model.tflite", flip, "WRONG model.tflite is missing or was changed"),
        ("model.onnx", Path.unlink, "WRONG model.onnx is missing or was changed"),
        ("savedmodel/saved_model.pb", flip, "WRONG savedmodel is missing or was changed"),
        ("python/predict.py", flip, "WRONG python/predict.py is missing or was changed"),
        ("kotlin/ModelContract.kt", Path.unlink, "WRONG kotlin/ModelContract.kt is missing or was changed"),
        ("labels.txt", flip, "WRONG labels.txt is missing or was changed"),
        ("golden/expected/model.tflite.bin", other_outputs, "WRONG model.tflite has its sha256; golden outputs differ"),
    ],
)
def test_check_finds_damage(alone, litert, name, change, said):
    change(alone / name)
    done = run(litert, alone / "python" / "check.py")
    assert done.returncode == 1 and said in done.stdout, done.stdout + done.stderr


def test_check_finds_a_decoder_that_ignores_the_orientation(alone, litert):
    path = alone / "python" / "photograph.py"
    path.write_text(path.read_text().replace("turn is None", "True"))
    done = run(litert, alone / "python" / "check.py")
    assert "WRONG photo_turned.jpg pixels differ by" in done.stdout
    assert re.search(r"^ok +photo.jpg", done.stdout, re.M)


def test_check_without_a_runtime_does_not_pass(alone, environment):
    done = run(environment("numpy"), alone / "python" / "check.py")
    assert done.returncode == 1 and "no model file was run: pip install" in done.stdout
    assert "photo.jpg was not prepared, because Pillow is not installed" in done.stdout


def prepared(photo: Path, predictor: inference.Predictor) -> np.ndarray:
    return resize.prepare(reading.read(photo)[0], predictor.card.preprocessing)


def expected(path: Path, photo: Path) -> tuple[str, float]:
    """What `python -m sqznet.predict` answers."""
    predictor = inference.load(path)
    (probabilities,) = predictor.predict(prepared(photo, predictor)[None])
    assert predictor.card.classes
    return predictor.card.classes[probabilities.argmax()], float(probabilities.max())


@pytest.mark.parametrize(("name", "file"), [("litert", "model.tflite"), ("ort", "model.onnx")])
def test_predict_takes_the_file_nearest_to_the_trained_model(alone, photographs, request, name, file):
    photo = photographs / "val" / "star" / "000.jpg"
    done = run(request.getfixturevalue(name), alone / "python" / "predict.py", photo)
    assert done.returncode == 0, done.stderr
    (found,) = ANSWER.finditer(done.stdout)
    label, probability = expected(alone / file, photo)
    assert (found["photo"], found["file"], found["label"]) == (str(photo), file, label)
    assert float(found["probability"]) == pytest.approx(probability, abs=0.01)


@pytest.mark.parametrize(
    ("environment_of", "file", "renamed"),
    [
        ("litert", "model_int8.tflite", "network.bin"),
        ("litert", "model_dynamic.tflite", "model_dynamic.tflite"),
        ("ort", "model_nchw_int8.onnx", "network"),
    ],
)
def test_a_file_alone_in_another_folder_is_enough(
    bundle, alone, photographs, tmp_path, request, environment_of, file, renamed
):
    path, photo = tmp_path / renamed, photographs / "val" / "ball" / "001.jpg"
    shutil.copy(bundle / file, path)
    done = run(request.getfixturevalue(environment_of), alone / "python" / "predict.py", f"--model={path}", photo)
    assert done.returncode == 0, done.stderr
    (found,) = ANSWER.finditer(done.stdout)
    label, probability = expected(bundle / file, photo)
    assert (found["file"], found["label"]) == (renamed, label)
    assert float(found["probability"]) == pytest.approx(probability, abs=0.01)


def test_a_file_without_its_contract_is_refused(bundle, alone, photographs, litert, ort, tmp_path):
    model = onnx.load(bundle / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    cut = (bundle / "model.tflite").read_bytes()
    (tmp_path / "bare.tflite").write_bytes(cut[: cut.index(b"PK\x03\x04")])
    for installed, name in ((ort, "bare.onnx"), (litert, "bare.tflite")):
        arguments = f"--model={tmp_path / name}", photographs / "val" / "star" / "000.jpg"
        done = run(installed, alone / "python" / "predict.py", *arguments)
        assert done.returncode == 1 and "has no sqznet.json, so its crop and classes are unknown" in done.stderr


def test_the_program_of_the_document_answers_as_predict_does(alone, photographs, litert):
    page = Path(__file__).parents[2] / "docs" / "app.md"
    (alone / "mine.py").write_text(page.read_text().split("```python\n")[1].split("```")[0])
    shutil.copy(photographs / "val" / "star" / "000.jpg", alone / "photo.jpg")
    done = run(litert, alone / "mine.py")
    assert done.returncode == 0, done.stderr
    name, given = done.stdout.split()
    label, probability = expected(alone / "model.tflite", alone / "photo.jpg")
    assert name == label and float(given) == pytest.approx(probability, abs=0.01)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("geometry", [("short", 7, 9), ("squash", 24, 24), ("short", 227, 256)])
def test_photograph_computes_the_pixels_of_predict(interpolation, antialias, geometry):
    way, size, resize_to = geometry
    preprocessing = Preprocessing(size, resize_to, way, interpolation, antialias)
    program = load_photograph()
    for seed, sides in enumerate([(1, 40), (37, 53), (300, 211), (5, 4)]):
        pixels = np.random.default_rng(seed).integers(0, 256, (*sides, 3), np.uint8)
        got = program.prepare(pixels, preprocessing.to_dict()).astype(int)
        difference = np.abs(got - resize.prepare(pixels, preprocessing))
        assert difference.max() <= 1 and (difference > 0).mean() < 1e-3  # the last bit of a float may decide


def test_the_modules_of_the_web_page_are_complete(bundle):
    found = {path.name: path.read_text() for path in (bundle / "javascript").glob("*.js")}
    imported = {name for text in found.values() for name in re.findall(r'from "\./(.+?)"', text)}
    assert {"golden.js", "photo.js", "resize.js", "runtimes.js"} <= set(found) and imported <= set(found)


def test_the_readmes_of_the_kits_have_no_links_out_of_the_bundle(bundle):
    for name in ("kotlin", "swift"):
        assert "](.." not in (bundle / name / "README.md").read_text()


def test_programs_are_small_and_listed_with_their_sha256(bundle):
    below = [path for name in (*programs.KITS, programs.JAVASCRIPT) for path in (bundle / name).rglob("*")]
    listed = check.load(bundle)["programs"]
    assert set(listed) == {path.relative_to(bundle).as_posix() for path in below}
    assert sum(path.stat().st_size for path in below) < 200_000


def test_the_export_checks_the_programs(alone):
    flip(alone / "swift" / "Resize.swift")
    with pytest.raises(CheckFailed, match=r"Resize.swift does not have the sha256 of manifest.json"):
        check.check(alone)
    (alone / "swift" / "Resize.swift").unlink()
    with pytest.raises(CheckFailed, match=r"Resize.swift is missing"):
        check.check(alone)


@pytest.mark.parametrize("name", ["../Resize.kt", "/tmp/Resize.kt"])
def test_a_manifest_with_a_program_outside_the_folder_is_refused(alone, name):
    content = json.loads((alone / "manifest.json").read_text())
    content["programs"] = {name: "0" * 64}
    (alone / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="a program outside the folder"):
        check.load(alone)


def test_a_changed_program_is_not_replaced(alone):
    assert previous.find(alone).models
    path = alone / "python" / "predict.py"
    path.write_text(path.read_text() + "# mine\n")
    with pytest.raises(InputError, match=r"no export wrote, or that were changed after it: python/predict.py. Move"):
        previous.find(alone)


def test_what_python_leaves_beside_its_programs_is_replaced(alone):
    compiled = alone / "python" / "__pycache__" / "photograph.cpython-311.pyc"
    compiled.parent.mkdir()
    compiled.touch()
    assert previous.find(alone).models
    (compiled.parent / "mine.cpython-311.pyc").touch()
    with pytest.raises(InputError, match="holds files that no export wrote: python/__pycache__/mine"):
        previous.find(alone)


def test_a_bundle_of_an_earlier_version_is_recognized_without_programs(alone):
    """It had neither these files nor a list of them, so a README.md in it is the user's."""
    content = json.loads((alone / "manifest.json").read_text())
    del content["programs"]
    (alone / "manifest.json").write_text(json.dumps(content))
    for name in ("README.md", "LICENSE_WEIGHTS.txt"):
        (alone / name).unlink()
    for path in [path for name in (*programs.KITS, programs.JAVASCRIPT) for path in (alone / name).iterdir()]:
        if not path.name.startswith("ModelContract"):
            path.unlink()
    assert previous.find(alone).models and check.check(alone)
    (alone / "README.md").touch()
    with pytest.raises(InputError, match="holds files that no export wrote: README.md"):
        previous.find(alone)


def sample_with_its_contract(folder: Path) -> Path:
    """The sample network, whose file is of an earlier version, with the metadata of this version."""
    from ai_edge_litert import schema_py_generated as schema

    from sqznet.network import tflite_metadata

    content = (SAMPLE / "model_int8.tflite").read_bytes()
    model = schema.ModelT.InitFromPackedBuf(content)
    model.metadata = [each for each in model.metadata if each.name != metadata.ENTRY]
    builder = tflite_metadata.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path = folder / "model_int8.tflite"
    path.write_bytes(bytes(builder.Output()))
    card = card_from_dict(json.loads((SAMPLE / "manifest.json").read_text()), "manifest.json")
    metadata.add_card(path, "tflite", card, "sample")
    return path


def answers(installed: Path, folder: Path, model: Path, photos: list[Path]) -> list[re.Match]:
    done = run(installed, folder / "python" / "predict.py", f"--model={model}", *photos)
    assert done.returncode == 0, done.stderr
    return list(ANSWER.finditer(done.stdout))


@pytest.fixture(scope="module")
def two_hundred(imagenette) -> list[Path]:
    found = [sorted(each.iterdir())[:20] for each in sorted((imagenette / "val").iterdir())]
    return [path for photos in found for path in photos]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lone .tflite", "bundle, LiteRT", "bundle, ONNX Runtime"])
def test_two_hundred_photographs_get_the_answers_of_predict(alone, two_hundred, litert, ort, tmp_path, kind):
    if kind == "lone .tflite":
        (tmp_path / "other").mkdir()
        path = model = sample_with_its_contract(tmp_path / "other")
    else:
        path, model = alone / ("model.tflite" if "LiteRT" in kind else "model.onnx"), alone
    assert len(two_hundred) == 200
    found = answers(ort if "ONNX" in kind else litert, alone, model, two_hundred)
    predictor = inference.load(path)
    pixels = np.stack([prepared(photo, predictor) for photo in two_hundred])
    probabilities = predictor.predict(pixels)
    names = metadata.labels_of(path) if path.suffix == ".tflite" else predictor.card.classes
    assert names
    assert [each["label"] for each in found] == [names[index] for index in probabilities.argmax(axis=1)]
    given = np.array([float(each["probability"]) for each in found])
    assert np.abs(given - probabilities.max(axis=1)).max() < 0.01
