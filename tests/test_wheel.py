"""The wheel in empty environments, in an empty folder outside of the repository. `make test-wheel` runs these tests."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from sqznet.data.sources import synthetic
from tests import commands, notebooks
from tests.conftest import SHARED, draw_photographs

pytestmark = pytest.mark.wheel
ROOT = commands.ROOT
CONSTRAINTS = ROOT / "constraints.txt"
PUBLISHED = SHARED / "weights" / "squeezenet_v1.1_caffe_fp16.npz"
MINIMAL = re.compile(r"^(pip install .*ai-edge-litert.*)\n(pip install --no-deps .*)$", re.MULTILINE)
TINY = ("--recipe=demo", "--image_size=64", "--resize_to=64", "--epochs=1", "--warmup_epochs=0")


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and the empty folder in which its programs run."""

    folder: Path
    work: Path

    def start(self, *words: str) -> subprocess.Popen:
        programs = self.folder / "bin"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        environment = kept | {"PATH": os.pathsep.join([str(programs), "/usr/bin", "/bin"])}
        return subprocess.Popen(
            [programs / words[0], *words[1:]],
            cwd=self.work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *words: str, code: int = 0) -> str:
        """Runs a program to its end. Returns what it printed."""
        process = self.start(*words)
        out, err = process.communicate()
        assert process.returncode == code, f"{' '.join(words)}\n{out}\n{err}"
        return out + err


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """The files of the repository, without what commands and builds have left in the checkout."""
    folder = tmp_path_factory.mktemp("sources")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def build(sources: Path, out: Path, *flags: str) -> Path:
    """Builds a wheel and whatever else the flags ask for. Returns the wheel."""
    made = subprocess.run(
        [sys.executable, "-m", "build", *flags, f"--outdir={out}", sources], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert "Deprecat" not in made.stdout + made.stderr
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(sources, tmp_path_factory) -> Path:
    """The wheel that is built from the source distribution, as `python -m build` does."""
    return build(sources, tmp_path_factory.mktemp("dist"))


def environment(folder: Path) -> Environment:
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    (folder / "work").mkdir()
    return Environment(folder / "venv", folder / "work")


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Environment:
    made = environment(tmp_path_factory.mktemp("full"))
    made.run("pip", "install", "--quiet", f"--constraint={CONSTRAINTS}", str(wheel))
    (made.work / "photo.jpg").write_bytes(synthetic.draw("photo", 0, seed=0))
    draw_photographs(made.work / "photos")
    return made


@pytest.fixture(scope="module")
def shards(installed) -> str:
    # Two workers: `multiprocessing` must find the command's module again.
    said = installed.run("sqznet", "data", "--source=folder:photos", "--out=data/mine", "--workers=2")
    assert "next: sqznet train --data=data/mine" in said
    return "data/mine"


@pytest.fixture(scope="module")
def run(installed, shards) -> str:
    said = installed.run("sqznet", "train", f"--data={shards}", *TINY, "--run_dir=runs/mine")
    assert "next: sqznet evaluate --model=runs/mine" in said
    return "runs/mine"


@pytest.fixture(scope="module")
def bundle(installed, run, shards) -> str:
    out = "export/artifacts/mine"
    flags = ("--format=all", "--max_drop=100", f"--out={out}")
    installed.run("sqznet", "export", f"--model={run}", f"--data={shards}", *flags)
    return out


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def test_the_wheel_has_every_file_of_the_package_and_the_licence(wheel, sources):
    inside = contents(wheel)
    files = {path.relative_to(sources).as_posix() for path in (sources / "sqznet").rglob("*") if path.is_file()}
    assert files - set(inside) == set()
    assert any(name.endswith("licenses/LICENSE") for name in inside)


def test_the_source_distribution_makes_the_same_wheel_as_the_repository(wheel, sources, tmp_path):
    assert contents(build(sources, tmp_path, "--wheel")) == contents(wheel)


def test_pip_check_is_clean_and_the_package_is_not_that_of_the_repository(installed):
    assert "No broken requirements" in installed.run("pip", "check")
    place = installed.run("python", "-c", "import sqznet; print(sqznet.__file__)")
    assert place.startswith(str(installed.folder))


def test_the_sample_network_classifies_a_photograph(installed):
    said = installed.run("sqznet", "predict", "photo.jpg")
    assert "using the sample" in said and "chain saw" in said


def test_shards_are_verified(installed, shards):
    assert "every byte and record is as the manifest says" in installed.run(
        "sqznet", "data", "--verify", f"--out={shards}"
    )


def test_a_run_is_listed_evaluated_and_used(installed, run):
    assert "mine" in installed.run("sqznet", "runs")
    assert "rank-1" in installed.run("sqznet", "evaluate", "--split=test")
    assert "photos/val/ball/000.jpg" in installed.run("sqznet", "predict", "photos/val")


def test_several_processes_train(installed, shards):
    said = installed.run("sqznet", "launch", "--workers=2", "--", f"--data={shards}", *TINY, "--run_dir=runs/two")
    assert "2 replicas" in said


def test_settings_are_searched(installed, run, shards):
    flags = (f"--recipe={run}/config.json", "--epochs=1", "--trials=1", "--no-compare", "--out=tuning/mine")
    installed.run("sqznet", "tune", f"--data={shards}", *flags)
    assert (installed.work / "tuning/mine/best.json").is_file()


def test_a_bundle_is_checked_and_its_files_classify_and_are_timed(installed, bundle):
    installed.run("sqznet", "export", f"--check={bundle}")
    for name in ("model.tflite", "model.onnx", "savedmodel"):
        assert "photo.jpg" in installed.run("sqznet", "predict", f"--model={bundle}/{name}", "photo.jpg")
    assert "model.tflite" in installed.run(
        "sqznet", "benchmark", f"--model={bundle}/model.tflite", "--runs=3", "--threads=1"
    )


def test_a_bundle_carries_the_code_for_apps(installed, bundle):
    written = {path.suffix for path in (installed.work / bundle).rglob("*")}
    assert {".kt", ".swift", ".html", ".md"} <= written


def test_a_network_is_compressed(installed, run, shards):
    installed.run(
        "sqznet", "compress", f"--model={run}", f"--data={shards}", "--target=400kB", "--out=mine.sqz",
    )  # fmt: skip
    assert "photo.jpg" in installed.run("sqznet", "predict", "--model=mine.sqz", "photo.jpg")


def test_published_weights_are_listed_and_converted(installed):
    assert "squeezenet-v1.1" in installed.run("sqznet", "weights", "--list")
    if not PUBLISHED.is_file():
        pytest.skip(f"needs {PUBLISHED}, which is not part of the project")
    installed.run("sqznet", "weights", f"--source={PUBLISHED}", "--out=models/v1.1.keras")
    assert "photo.jpg" in installed.run("sqznet", "predict", "--model=models/v1.1.keras", "photo.jpg")


def test_the_section_in_python_of_the_readme_runs(installed, run):
    section = re.search(r"^## In Python\n.*?^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    assert section, "README.md has no program in its section In Python"
    weights = str(PUBLISHED if PUBLISHED.is_file() else installed.work / run)  # tests download nothing
    program = section[1]
    for original, small in (
        ('"squeezenet-v1.1"', f"{weights!r}, image_size=64, resize_to=64, epochs=1"),
        ('formats="tflite"', 'formats="tflite", max_drop=1, latency_runs=0, calibration_records=16'),
    ):
        assert program.count(original) == 1
        program = program.replace(original, small)
    alone = Environment(installed.folder, installed.work / "readme")
    alone.work.mkdir()
    for name in ("photos", "photo.jpg"):
        (alone.work / name).symlink_to(installed.work / name)
    (alone.work / "program.py").write_text(program)
    assert "rank-1 (top-1)" in alone.run("python", "program.py")
    assert (alone.work / "export/artifacts/mine/model_int8.tflite").is_file()


@pytest.mark.slow
def test_the_notebook_runs_to_the_exported_file(installed, monkeypatch):
    installed.run("pip", "install", "--quiet", f"--constraint={CONSTRAINTS}", "ipykernel")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    folder = installed.work / "notebook"
    executed = notebooks.execute(folder, str(installed.folder / "bin" / "python"))
    assert notebooks.errors_of(executed) == []
    *_, (_, best) = re.findall(r"kept epoch (\d+) of 14: val top-1 \(rank-1\) ([\d.]+) %", notebooks.text_of(executed))
    assert float(best) > 80
    assert (folder / "export/artifacts/notebook/model_int8.tflite").is_file()


def test_the_web_page_is_served(installed, bundle):
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    said = installed.run("sqznet", "serve", f"--model={bundle}", "--port=0", code=2)
    folder = said.strip().rpartition("run npm ci in ")[2].partition(",")[0]
    assert folder.startswith(str(installed.folder))
    subprocess.run(["npm", "ci", "--silent"], cwd=folder, check=True)
    process = installed.start("sqznet", "serve", f"--model={bundle}", "--port=0")
    assert process.stdout is not None
    try:
        page = urllib.request.urlopen(process.stdout.readline().strip()).read().decode()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert "<html" in page


def test_a_minimal_install_predicts_without_tensorflow(wheel, tmp_path):
    found = MINIMAL.search((ROOT / "docs/install.md").read_text())
    assert found, "docs/install.md shows no minimal install"
    minimal = environment(tmp_path)
    for line in found.groups():
        words = [str(wheel) if "*" in word else word for word in line.split()]
        minimal.run(*[str(CONSTRAINTS) if word == "constraints.txt" else word for word in words])
    assert "tensorflow" not in minimal.run("pip", "list").lower()
    (minimal.work / "photo.jpg").write_bytes(synthetic.draw("photo", 0, seed=0))
    assert "chain saw" in minimal.run("sqznet", "predict", "photo.jpg")
    said = minimal.run("sqznet", "evaluate", "--model=squeezenet-v1.1", "--data=data", code=2)
    assert "error:" in said and "Traceback" not in said
