from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sqznet.core import processor, startup
from sqznet.data import __main__ as data

V1 = "4:memory:/elsewhere\n3:cpu,cpuacct:{}\n"
V2 = "0::{}\n"


def cores_of(root: Path, membership: str, limits: dict[str, str]) -> int:
    """`startup.cores` under a tree of control groups with these files."""
    for name, content in limits.items():
        (root / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "groups" / name).write_text(content + "\n")
    (root / "membership").write_text(membership)
    return startup.cores(root / "groups", root / "membership")


@pytest.mark.parametrize(
    ("membership", "limits", "expected"),
    [
        (V2.format("/"), {"cpu.max": "150000 100000"}, 2),
        (V2.format("/"), {"cpu.max": "50000 100000"}, 1),
        (V2.format("/"), {"cpu.max": "max 100000"}, 64),
        (V2.format("/a/b"), {"a/b/cpu.max": "300000 100000"}, 3),
        (V2.format("/a/b"), {"a/b/cpu.max": "max 100000", "a/cpu.max": "400000 100000"}, 4),  # the group above
        (V2.format("/a/b"), {"a/b/cpu.max": "800000 100000", "a/cpu.max": "400000 100000"}, 4),
        (V2.format("/host/path"), {"cpu.max": "200000 100000"}, 2),  # mounted as root in the container
        (V2.format("/../../a"), {"cpu.max": "200000 100000"}, 2),  # a namespace of groups, entered from outside
        (V2.format("/a"), {"unified/a/cpu.max": "200000 100000"}, 2),
        (V1.format("/"), {"cpu,cpuacct/cpu.cfs_quota_us": "150000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 2),
        (V1.format("/d/c"), {"cpu/d/c/cpu.cfs_quota_us": "50000", "cpu/d/c/cpu.cfs_period_us": "10000"}, 5),
        (V1.format("/"), {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        (V2.format("/"), {"cpu.max": "nonsense"}, 64),
        (V2.format("/"), {}, 64),
    ],
)
def test_cores_are_those_of_the_control_groups(tmp_path, monkeypatch, membership, limits, expected):
    monkeypatch.setattr(startup, "_allowed", lambda: 64)
    assert cores_of(tmp_path, membership, limits) == expected


def test_without_control_groups_cores_are_those_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(startup, "_allowed", lambda: 64)
    assert startup.cores(tmp_path / "none", tmp_path / "none either") == 64


def test_data_starts_as_many_processes_as_the_container_has_cores(monkeypatch):
    monkeypatch.setattr(startup, "cores", lambda: 3)
    assert data.make_parser().parse_args(["--out=x"]).workers == 3


def test_runtimes_are_given_their_threads_only_where_they_would_count_wrongly(monkeypatch):
    monkeypatch.setattr(startup.os, "cpu_count", lambda: 8)
    for cores, expected in ((2, 2), (8, None)):
        monkeypatch.setattr(startup, "cores", lambda count=cores: count)
        assert startup.threads() == expected


def in_python(program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own, with these variables, and without those that the tests have set."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    environment |= {"CUDA_VISIBLE_DEVICES": "-1", **variables}
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)


ONEDNN = "import {}\nfrom sqznet.core import startup\nstartup.load_tensorflow()\nprint(startup.described())"


def test_the_banner_asks_tensorflow_whether_onednn_is_on():
    """Not the variable: here it is set only after TensorFlow has been imported."""
    program = ONEDNN.format("os, tensorflow; os.environ['TF_ENABLE_ONEDNN_OPTS'] = '1'")
    assert "no oneDNN" in in_python(program, TF_ENABLE_ONEDNN_OPTS="0").stdout


@pytest.mark.skipif("avx2" not in processor.features(), reason="needs a processor that oneDNN is turned on for")
def test_the_banner_says_onednn_where_it_is_on():
    assert in_python(ONEDNN.format("os")).stdout.strip().endswith("cores, oneDNN")


WRITES = """
import os, sys
from sqznet.core import processor, startup
with startup.quiet():
    os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\\n")
    os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\\n")
    os.write(2, b"I0000 00:00:1795738936.8 26180 cudart_stub.cc:31] no GPU\\nW0000 00:00:1795738936.8 1 a.cc:1] x\\n")
    os.write(2, b"ERROR: a tensor is missing\\n")
    print("a progress bar", file=sys.stderr)
print("after", file=sys.stderr)
{}
"""


def test_notices_are_held_back_and_errors_are_not():
    assert in_python(WRITES.format("")).stderr.splitlines() == ["a progress bar", "ERROR: a tensor is missing", "after"]


def test_all_is_shown_where_the_block_fails_or_the_user_asks_for_it():
    failing = WRITES.replace('print("a progress bar", file=sys.stderr)', "raise SystemExit(3)").format("")
    assert "XNNPACK" in in_python(failing).stderr
    assert "XNNPACK" in in_python(WRITES.format(""), TF_CPP_MIN_LOG_LEVEL="0").stderr


LOGGERS = """
import logging
from sqznet.core import processor, startup
startup.load_tensorflow()
with startup.quiet():
    late = logging.StreamHandler()
with startup.quiet():
    pass
import absl.logging
import tensorflow as tf
tf.get_logger().warning("of TensorFlow")
absl.logging.warning("of absl")
late.emit(logging.makeLogRecord({"msg": "of another"}))
"""


@pytest.mark.slow
def test_loggers_made_in_a_quiet_block_can_write_after_it():
    said = in_python(LOGGERS).stderr
    assert "Logging error" not in said
    assert all(each in said for each in ("of TensorFlow", "of absl", "of another")), said


NOTEBOOK = """
import os
import numpy as np
from pathlib import Path
from sqznet.predict import inference
for name in ("model_int8.tflite", "model_float16.tflite", "model.onnx"):
    predictor = inference.load(Path(os.environ["BUNDLE"]) / name)
    predictor.predict(np.zeros((2, 32, 32, 3), np.uint8))
"""


def test_loading_exported_files_writes_nothing_to_standard_error(bundle):
    done = in_python(NOTEBOOK, BUNDLE=str(bundle))
    assert (done.returncode, done.stderr) == (0, "")
