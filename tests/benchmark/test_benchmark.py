from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sqznet.benchmark import __main__ as benchmark
from sqznet.benchmark import infer
from sqznet.core import files
from sqznet.core.errors import InputError
from sqznet.export import onnx, saved_model, tflite
from sqznet.network import architecture, fold
from sqznet.predict import inference, latency


@pytest.fixture(scope="module")
def exported(trained_run, tmp_path_factory) -> Path:
    """A folder of model files with the manifest.json that names them, as an export leaves it."""
    out = tmp_path_factory.mktemp("benchmark") / "tiny"
    trained, card = inference.load_keras(trained_run)
    folded = fold.inference_model(trained, 32)
    out.mkdir()
    tflite.write(folded, out / "model.tflite", "none")
    onnx.write(folded, out / "model.onnx", "none")
    saved_model.write(folded, out / "savedmodel")
    names = ("model.tflite", "model.onnx", "savedmodel")
    files.write_json(out / "manifest.json", {**card.to_dict(), "files": {name: {} for name in names}})
    return out


def test_every_file_of_a_bundle_is_measured_with_each_number_of_threads(exported, tmp_path, capsys):
    out = tmp_path / "latency.json"
    assert benchmark.main(["--what=infer", f"--model={exported}", "--threads=1,2", "--runs=3", f"--out={out}"]) == 0
    written = json.loads(out.read_text())["infer"]
    rows = written["measured"]
    assert [(row["file"], row["threads"]) for row in rows] == [
        (name, threads) for name in ("model.onnx", "model.tflite", "savedmodel") for threads in (1, 2)
    ]
    for row in rows:
        assert row["bytes"] == files.size_of(exported / row["file"])
        assert 0 < row["median_ms"] <= row["p90_ms"]
        assert 0 < row["runtime_mib"] < row["peak_mib"]
    assert (written["batch"], written["warm_up"], written["runs"]) == (1, latency.WARM_UP, 3)
    shown = capsys.readouterr().out
    assert f"batch 1, 5 warm-ups, then 3 runs, on {latency.processor()}" in shown
    for row in rows:
        assert row["file"] in shown and f"{row['bytes']:,}" in shown


def test_tflite_and_onnx_are_measured_without_tensorflow(exported):
    # TensorFlow alone takes hundreds of MiB: in the same process it would drown what the file takes.
    program = (
        "import sys; from pathlib import Path; from sqznet.predict import latency; "
        "latency.measure_here(Path(sys.argv[1]), 1, 1); print('tensorflow' in sys.modules)"
    )
    for name in ("model.tflite", "model.onnx"):
        done = subprocess.run(
            [sys.executable, "-c", program, str(exported / name)], check=True, capture_output=True, text=True
        )
        assert done.stdout.strip() == "False", name


def test_the_manifest_gets_times_by_threads_and_one_peak(exported):
    measured = latency.measure(exported / "model.tflite", threads=(1, 2), runs=2)
    assert set(measured) == {"1", "2", "peak_mib"}
    assert set(measured["1"]) == set(measured["2"]) == {"median_ms", "p90_ms"}
    assert 0 < measured["peak_mib"] < 200  # this process, with TensorFlow, has more: its peak is not the child's


def test_a_run_is_measured_by_its_best_model(trained_run):
    assert infer.models_of(trained_run) == [trained_run / "best.keras"]
    assert latency.in_own_process(trained_run / "best.keras", 1, 1).median_ms > 0


def test_a_bundle_runs_on_its_golden_inputs(tmp_path):
    golden = np.arange(2 * 4 * 4 * 3, dtype=np.uint8)
    images = latency._images(golden, 4, Path("golden/inputs.bin"))
    assert images.shape == (2, 4, 4, 3) and (images.ravel() == golden).all()
    with pytest.raises(InputError, match=r"inputs.bin has 96 bytes; expected a multiple of 5 x 5 x 3"):
        latency._images(golden, 5, Path("golden/inputs.bin"))


def test_the_warm_up_does_not_count():
    seen = []
    images = np.arange(2, dtype=np.uint8).reshape(2, 1, 1, 1)
    taken = latency._time(lambda image: seen.append(int(image[0, 0, 0, 0])) or image, images, runs=3)
    assert len(taken) == 3 and seen == [0, 1] * 4


def test_the_complete_bundle_is_measured(bundle, tmp_path):
    out = tmp_path / "latency.json"
    assert benchmark.main([f"--model={bundle}", "--threads=1", "--runs=2", f"--out={out}"]) == 0
    named = json.loads((bundle / "manifest.json").read_text())["files"]
    assert [row["file"] for row in json.loads(out.read_text())["infer"]["measured"]] == sorted(named)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model=nowhere"], "no such file or folder: nowhere"),
        (
            ["--model=.", "--threads=two"],
            "argument --threads: 'two' is not a list of different whole numbers of 1 or more",
        ),
        (["--model=.", "--threads=0,1"], "argument --threads: '0,1' is not"),
        (["--model=.", "--threads=2,2"], "argument --threads: '2,2' is not"),
        (["--model=.", "--threads="], "argument --threads: '' is not"),
        (["--model=.", "--runs=0"], "argument --runs: '0' is not a whole number of 1 or more"),
        (["--model=.", "--out=."], "--out=. is a folder; name a file, such as figures.json"),
    ],
)
def test_a_wrong_flag_says_what_was_expected(arguments, message):
    with pytest.raises(InputError) as raised:
        benchmark.main(["--what=infer", *arguments])
    assert message in str(raised.value)


def test_a_file_that_does_not_load_is_named_with_the_reason(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"not a flatbuffer")
    with pytest.raises(InputError, match=r"cannot measure .*model.tflite with threads 1: .* is not a TFLite file"):
        benchmark.main(["--what=infer", f"--model={tmp_path / 'model.tflite'}", "--threads=1", "--runs=1"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"manifest.json is not that of an export"),
        ('{"splits": {}}', r"manifest.json is not that of an export \(KeyError: 'files'\)"),
        ('{"files": {"model.tflite": {}}}', r"lists 'model.tflite', and .* has no such file: export again"),
        ('{"files": {"../manifest.json": {}}}', r"lists '../manifest.json', and"),
        ('{"files": {}}', r"lists no model files"),
    ],
)
def test_a_manifest_that_is_not_an_exports_is_refused(tmp_path, content, message):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=message):
        infer.models_of(tmp_path)


def test_the_command_ends_with_one_line_of_error(tmp_path):
    command = [sys.executable, "-m", "sqznet.benchmark", "--what=infer", f"--model={tmp_path}", "--runs=1"]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "is neither a run folder nor a SavedModel folder" in done.stderr


def test_multiply_adds_are_those_of_the_paper():
    """Table 1, and the 1.72 GFLOP an image that its authors give, where conv10 has a rim of zeros."""
    counted = architecture.multiply_adds(architecture.Network(1000))
    assert counted["conv1"] == 111 * 111 * 7 * 7 * 3 * 96
    assert counted["fire2_expand3x3"] == 55 * 55 * 9 * 16 * 64
    assert counted["conv10"] == 13 * 13 * 512 * 1000
    rim = (15 * 15 - 13 * 13) * 512 * 1000
    assert 2 * (sum(counted.values()) + rim) == pytest.approx(1.72e9, rel=0.005)
    assert architecture.multiply_adds(architecture.Network(1000, arch="v1.1"))["conv10"] == 14 * 14 * 512 * 1000


@pytest.mark.parametrize("what", ["train", "input", "export", "startup", "all"])
def test_what_the_repository_measures_is_named_with_its_command(what):
    message = f"{what} is measured in the project's repository: python -m benchmarks.speed --what={what}"
    with pytest.raises(InputError, match=message):
        benchmark.main([f"--what={what}", "--compare", "--model=."])
