from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PARENT = """
import sys
from sqznet.core import child
processes = []
with child.forwarding_signals(processes) as asked:
    processes.append(child.start("noting", [sys.argv[1]]))
    code = processes[0].wait()
print(code, asked)
"""
# Writes down each SIGTERM, and ends a moment after the first, as a training that saves its state.
CHILD = """
import signal, sys, time
from pathlib import Path
noted = []
signal.signal(signal.SIGTERM, lambda number, frame: noted.append(number))
signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
print("up", flush=True)
while not noted:
    time.sleep(0.01)
time.sleep(0.3)
Path(sys.argv[1]).write_text(str(noted))
raise SystemExit(143)
"""


@pytest.fixture
def parent(tmp_path, monkeypatch):
    """A process with a child that writes to `tmp_path / "noted"`; the leader of its group, as under a terminal."""
    (tmp_path / "noting.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-c", PARENT, str(tmp_path / "noted")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    yield process
    process.kill()
    process.communicate()


def test_ctrl_c_reaches_a_child_once_and_its_parent_waits(parent, tmp_path):
    os.killpg(parent.pid, signal.SIGINT)
    said, _ = parent.communicate(timeout=60)
    assert (tmp_path / "noted").read_text() == f"[{signal.SIGTERM}]"
    assert said == f"143 [{signal.SIGINT}]\n"


def test_a_child_saves_and_ends_when_its_parent_is_killed(parent, tmp_path):
    parent.kill()
    deadline = time.monotonic() + 60
    while not (tmp_path / "noted").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert Path(tmp_path / "noted").read_text() == f"[{signal.SIGTERM}]"
