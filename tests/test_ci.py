from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SKIPPING = """
import pytest
from tests import ci

def test_of_what_can_be_had():
    pytest.skip("needs a browser")

def test_of_what_cannot():
    ci.cannot_have("needs another processor")

@pytest.mark.xfail(strict=True)
def test_that_fails_as_expected():
    assert False

def test_that_passes():
    assert True
"""
SKIPPING_WHOLE = 'import pytest\npytest.importorskip("no_such_module")\ndef test_x(): pass\n'


def run(folder: Path, content: str, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """pytest with the hooks of tests/ci.py, on one file."""
    (folder / "test_inner.py").write_text(content)
    command = [sys.executable, "-m", "pytest", "-p", "tests.ci", "-p", "no:cacheprovider", "-v", f"--rootdir={folder}"]
    inherited = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST")}
    return subprocess.run(
        [*command, "-c", os.devnull, *flags, str(folder / "test_inner.py")],
        cwd=ROOT,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
    )


def test_in_ci_a_skip_for_a_thing_that_can_be_had_is_a_failure(tmp_path):
    done = run(tmp_path, SKIPPING, CI="true")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed, 1 skipped, 1 xfailed" in done.stdout
    assert "CI=true allows no skip for what can be had: needs a browser" in done.stdout


def test_elsewhere_a_skip_is_a_skip(tmp_path):
    done = run(tmp_path, SKIPPING)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 2 skipped, 1 xfailed" in done.stdout


def test_in_ci_a_file_that_is_skipped_whole_is_a_failure(tmp_path):
    done = run(tmp_path, SKIPPING_WHOLE, CI="true")
    assert done.returncode != 0
    assert "no_such_module" in done.stdout


@pytest.mark.parametrize(("part", "names"), [("0/2", ["test_a[1]", "test_a[2]", "test_c"]), ("1/2", ["test_b"])])
def test_a_part_takes_every_nth_test_with_all_of_its_cases(part, names, tmp_path):
    content = (
        "import pytest\n"
        "@pytest.mark.parametrize('x', [1, 2])\n"
        "def test_a(x): pass\n"
        "def test_b(): pass\n"
        "def test_c(): pass\n"
    )
    done = run(tmp_path, content, f"--part={part}")
    ran = [line.split("::")[1].split(" ")[0] for line in done.stdout.splitlines() if "PASSED" in line]
    assert ran == names


@pytest.mark.parametrize("part", ["2/2", "a/2", "1", "0/0", "-1/2"])
def test_a_part_that_does_not_exist_is_refused(part, tmp_path):
    done = run(tmp_path, "def test_a(): pass\n", f"--part={part}")
    assert done.returncode == 4
    assert f"--part={part} must be K/N" in done.stderr
