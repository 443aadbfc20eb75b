"""The examples run, and docs/api.md is current. tests/test_wheel.py runs README's section and the notebook."""

from __future__ import annotations

import ast
import json
import random
import re
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import sqznet
from tests import api_page, commands
from tests.conftest import SHARED

ROOT = commands.ROOT
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOK = ROOT / "docs" / "notebooks" / "photographs_to_phone.ipynb"
PUBLISHED = SHARED / "weights" / "squeezenet_v1.1_caffe_fp16.npz"


@pytest.fixture(scope="module")
def folder(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos/ and photo.jpg. The programs share it, so only the first one builds data/mine."""
    made = tmp_path_factory.mktemp("programs")
    (made / "photos").symlink_to(photographs)
    (made / "photo.jpg").write_bytes((photographs / "test" / "star" / "000.jpg").read_bytes())
    return made


@pytest.fixture
def workplace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a program runs."""
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def weights(trained_run: Path) -> str:
    """Published weights as a file, because tests download nothing. Without the file, other weights."""
    return str(PUBLISHED if PUBLISHED.is_file() else trained_run)


@pytest.fixture
def run_example(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def run(name: str, *words: str) -> None:
        monkeypatch.setattr("sys.argv", [name, *words])
        random.seed(0)  # Keras draws the seeds of the initial weights and of the dropout from it
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")

    return run


@pytest.mark.slow
def test_keras_fit_trains_evaluates_and_saves(run_example, weights, capsys):
    run_example("keras_fit.py", "--size=64", "--epochs=1", f"--weights={weights if PUBLISHED.is_file() else ''}")
    assert "rank-1 (top-1)" in capsys.readouterr().out
    assert sqznet.load("mine.keras").classes == ("ball", "house", "star")


@pytest.mark.slow
def test_a_custom_loop_lowers_the_loss(run_example, weights, capsys):
    run_example("custom_loop.py", "--size=64", f"--weights={weights if PUBLISHED.is_file() else ''}")
    said = capsys.readouterr().out
    losses = [float(loss) for loss in re.findall(r"mean loss ([\d.]+)", said)]
    assert len(losses) == 4 and min(losses[1:]) < losses[0], losses
    assert "rank-1 (top-1)" in said


def test_predict_names_the_classes_of_each_photograph(run_example, trained_run, workplace, capsys):
    (workplace / "new").mkdir()
    shutil.copy("photo.jpg", "new")
    (workplace / "new" / "broken.jpg").write_bytes(b"\xff\xd8\xff and nothing more")
    run_example("predict.py", str(trained_run), "new")
    said = capsys.readouterr().out
    assert re.search(r"new/photo\.jpg: \w+ [\d.]+%, \w+ [\d.]+%, \w+ [\d.]+%", said)
    assert "broken.jpg: " in said


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_has_at_most_thirty_lines(path):
    assert len(path.read_text().splitlines()) <= 30


def test_the_api_page_is_current():
    assert api_page.page() == api_page.PAGE.read_text(), "run python -m tests.api_page"


def test_the_api_page_has_every_public_name():
    assert sorted(name for names in api_page.GROUPS.values() for name in names) == sorted(
        {*sqznet.__all__} - {"__version__"}
    )


def test_the_five_calls_of_the_api_page_are_calls_of_public_names():
    (program,) = re.findall(r"^```python\n(import sqznet\n.*?)^```", api_page.HEAD, re.MULTILINE | re.DOTALL)
    calls = [node.func for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Call)]
    methods = {call.attr for call in calls if isinstance(call, ast.Attribute)}
    assert methods == {"build_shards", "fit", "evaluate", "predict", "export"}
    assert all(hasattr(sqznet, name) or hasattr(sqznet.Classifier, name) for name in methods)


def test_the_notebook_is_committed_without_outputs():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
