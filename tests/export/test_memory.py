"""An export takes as much memory for many records as for few."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "experiments" / "export_memory.py"


@pytest.mark.slow
def test_twenty_times_the_records_take_the_same_memory():
    flags = ["--classes=10", "--records=1000,20000", "--format=onnx"]  # 20,000 images of 64 px would be 246 MB
    done = subprocess.run([sys.executable, str(SCRIPT), *flags], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
