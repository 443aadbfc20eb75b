"""An older Python is refused before anything is downloaded."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_setup_refuses_an_older_python():
    code = f"import sys; sys.version_info = (3, 10, 13); exec(open({str(ROOT / 'setup.py')!r}).read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "sqznet needs Python 3.11 or newer, and this is Python 3.10" in done.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_install_refuses_an_older_python(tmp_path):
    old = tmp_path / "python3.10"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 10, 13); $2"\n')
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "install", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert f"sqznet needs Python 3.11 or newer, and {old} is 3.10" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_nothing_tells_to_install_sqznet_by_name():
    """It is not published: extras are those of a checkout, `pip install -e '.[beam]'`."""
    texts = [path for path in ROOT.rglob("*") if path.suffix in (".md", ".py") and ".venv" not in path.parts]
    assert [path for path in texts if re.search(r"pip install [^\n]*\bsqznet\[", path.read_text())] == []
