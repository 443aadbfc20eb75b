from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sqznet.benchmark import __main__ as benchmark
from sqznet.benchmark import contestants, infer, race, speed
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
    assert benchmark.main(["--what=infer", f"--model={bundle}", "--threads=1", "--runs=2", f"--out={out}"]) == 0
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


@pytest.mark.slow
def test_ours_and_keras_train_in_turns(shard_set, tmp_path, capsys):
    out = tmp_path / "figures.json"
    flags = ["--what=train", "--compare", "--archs=v1.1", "--sizes=64", "--batch=2", "--rounds=1"]
    assert benchmark.main([*flags, f"--data={shard_set.folder}", f"--out={out}"]) == 0
    (written,) = json.loads(out.read_text())["train"]
    names = [each["contestant"] for each in written["results"]]
    precisions = [each["settings"]["precision"] for each in written["results"] if "data" not in each["settings"]
                  and each["contestant"] == "train-sqznet"]  # fmt: skip
    assert precisions in (["float32"], ["bfloat16", "float32"])
    assert names[: len(precisions) + 2] == ["train-sqznet"] * (len(precisions) + 1) + ["train-keras"]
    for each in written["results"]:
        (round_,) = each["rounds"]
        assert round_["images"] == contestants.STEPS * 2
        assert each["images_per_second"] == pytest.approx(round_["images"] / round_["seconds"])
        assert each["peak_mib"] > 100
    assert written["limit_gflops"] > 0
    shown = capsys.readouterr().out
    assert "Keras fit" in shown and "V100 (article)" in shown


@pytest.mark.slow
def test_ours_and_the_plain_pipeline_read_in_turns(shard_set, tmp_path, capsys):
    out = tmp_path / "figures.json"
    flags = ["--what=input", "--compare", "--sizes=32", "--batch=8", "--rounds=1"]
    assert benchmark.main([*flags, f"--data={shard_set.folder}", f"--out={out}"]) == 0
    results = json.loads(out.read_text())["input"]["results"]
    assert [each["contestant"] for each in results][:2] == ["input-sqznet", "input-decode-jpeg"]
    assert all(each["rounds"][0]["images"] == contestants.IMAGES for each in results)
    assert "images per core-second" in capsys.readouterr().out


def test_a_contestant_that_fails_is_named_with_its_reason(tmp_path):
    entry = race.Entry("input-sqznet", {"data": str(tmp_path), "image_size": 32, "batch": 8}, "sqznet")
    with pytest.raises(InputError, match=r"^sqznet failed: .* has no manifest.json"):
        race.run([entry], 1, "reading")


RACE = """
import subprocess, sys, time
from sqznet.benchmark import race

class Runner:  # one that is stopped, and deaf to SIGHUP, which Linux sends to stopped orphans
    def __init__(self, entry):
        command = ["sh", "-c", "trap '' HUP; kill -STOP $$; sleep 600"]
        self.process = subprocess.Popen(command, process_group=0)

    def round(self):
        print("racing", flush=True)
        time.sleep(600)

    def end(self):
        self.process.kill()
        self.process.wait()

race._Runner = Runner
race.run([race.Entry("none", {}, "none")] * 2, 1, "racing")
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_contestant_outlives_its_race(number):
    race_itself = subprocess.Popen(
        [sys.executable, "-c", RACE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert race_itself.stdout is not None and race_itself.stdout.readline() == "racing\n"
        race_itself.send_signal(number)
        race_itself.communicate(timeout=60)  # until none of them holds the other end of its standard output
    finally:
        race_itself.kill()


def test_the_seconds_of_a_command_are_those_of_its_help(capsys):
    seconds = speed.start(1)
    assert set(seconds) == {f"{name} --help" for name in speed.COMMANDS}
    assert all(0 < each < 10 for each in seconds.values())
    assert "serve --help" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--what=input"], "--what=input needs --data"),
        (["--what=infer"], "--what=infer needs --model"),
        (["--what=train", "--archs=v2"], "no SqueezeNet 'v2'; there are v1.0, v1.1"),
        (["--what=train", "--sizes=big"], "argument --sizes: 'big' is not a list of different whole numbers"),
        (["--what=train", "--rounds=0"], "argument --rounds: '0' is not a whole number of 1 or more"),
    ],
)
def test_flags_of_races_that_make_no_sense_are_refused(flags, message):
    with pytest.raises(InputError, match=message):
        benchmark.main(flags)


@pytest.mark.slow
def test_exports_are_timed_format_by_format(trained_run, shard_set, tmp_path, capsys):
    out = tmp_path / "figures.json"
    flags = [f"--model={trained_run}", f"--data={shard_set.folder}", "--rounds=1", f"--out={out}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "EXPORTS", {"tflite": ["--format=tflite"]})  # the others take as long
        assert benchmark.main(["--what=export", *flags]) == 0
        assert 1 < json.loads(out.read_text())["export"]["tflite"] < 120
        with pytest.raises(InputError, match=r"--format=tflite .* failed: .*no such"):
            speed.export(trained_run, tmp_path / "nowhere", 1)
    assert "tflite" in capsys.readouterr().out
