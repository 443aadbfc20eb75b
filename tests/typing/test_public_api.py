"""The types of the public API, as `mypy --strict` of a user sees them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import sqznet
from tests import commands

USES = Path(__file__).with_name("public_api.py")
WRONG = """
import sqznet

classifier: int = sqznet.load("mine.keras")
sqznet.fit("data/mine", epochs=4).best.evaluate(split=3)
"""


def test_the_whole_public_api_passes_strict_mypy_and_a_wrong_type_does_not(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG)
    strict = ("--strict", "--follow-imports=silent", "--config-file=setup.cfg", f"--cache-dir={tmp_path / 'cache'}")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *strict, USES, wrong], cwd=commands.ROOT, capture_output=True, text=True
    )
    errors = [line for line in checked.stdout.splitlines() if ": error: " in line]
    assert len(errors) == 2, checked.stdout + checked.stderr
    assert "wrong.py:4: error: Incompatible types in assignment" in errors[0]
    assert 'wrong.py:5: error: Argument "split"' in errors[1]


def test_the_checked_file_uses_every_public_name():
    source = USES.read_text()
    assert [name for name in sqznet.__all__ if f"sqznet.{name}" not in source] == []
