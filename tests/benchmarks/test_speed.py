"""How fast the machine trains, reads, exports and starts: `python -m benchmarks.speed`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from benchmarks import speed, turns, workloads
from sqznet.core.errors import InputError


@pytest.mark.slow
def test_ours_and_keras_train_in_turns(shard_set, tmp_path, capsys):
    out = tmp_path / "figures.json"
    flags = ["--what=train", "--compare", "--archs=v1.1", "--sizes=64", "--batch=2", "--rounds=1"]
    assert speed.main([*flags, f"--data={shard_set.folder}", f"--out={out}"]) == 0
    (written,) = json.loads(out.read_text())["train"]
    names = [each["workload"] for each in written["results"]]
    precisions = [each["settings"]["precision"] for each in written["results"] if "data" not in each["settings"]
                  and each["workload"] == "train-sqznet"]  # fmt: skip
    assert precisions in (["float32"], ["bfloat16", "float32"])
    assert names[: len(precisions) + 2] == ["train-sqznet"] * (len(precisions) + 1) + ["train-keras"]
    for each in written["results"]:
        (round_,) = each["rounds"]
        assert round_["images"] == workloads.STEPS * 2
        assert each["images_per_second"] == pytest.approx(round_["images"] / round_["seconds"])
        assert each["peak_mib"] > 100
    assert written["limit_gflops"] > 0
    shown = capsys.readouterr().out
    assert "Keras fit" in shown and "V100 (article)" in shown


@pytest.mark.slow
def test_ours_and_the_plain_pipeline_read_in_turns(shard_set, tmp_path, capsys):
    out = tmp_path / "figures.json"
    flags = ["--what=input", "--compare", "--sizes=32", "--batch=8", "--rounds=1"]
    assert speed.main([*flags, f"--data={shard_set.folder}", f"--out={out}"]) == 0
    results = json.loads(out.read_text())["input"]["results"]
    assert [each["workload"] for each in results][:2] == ["input-sqznet", "input-decode-jpeg"]
    assert all(each["rounds"][0]["images"] == workloads.IMAGES for each in results)
    assert "images per core-second" in capsys.readouterr().out


def test_a_workload_that_fails_is_named_with_its_reason(tmp_path):
    entry = turns.Entry("input-sqznet", {"data": str(tmp_path), "image_size": 32, "batch": 8}, "sqznet")
    with pytest.raises(InputError, match=r"^sqznet failed: .* has no manifest.json"):
        turns.run([entry], 1, "reading")


KILLED = """
import subprocess, sys, time
from benchmarks import turns

class Runner:  # it is stopped, and ignores SIGHUP, which Linux sends to stopped orphans
    def __init__(self, entry):
        command = ["sh", "-c", "trap '' HUP; kill -STOP $$; sleep 600"]
        self.process = subprocess.Popen(command, process_group=0)

    def round(self):
        print("running", flush=True)
        time.sleep(600)

    def end(self):
        self.process.kill()
        self.process.wait()

turns._Runner = Runner
turns.run([turns.Entry("none", {}, "none")] * 2, 1, "running")
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_workload_outlives_its_benchmark(number):
    benchmark = subprocess.Popen(
        [sys.executable, "-c", KILLED], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert benchmark.stdout is not None and benchmark.stdout.readline() == "running\n"
        benchmark.send_signal(number)
        benchmark.communicate(timeout=60)  # until none of them holds the other end of its standard output
    finally:
        benchmark.kill()


def test_the_seconds_of_a_command_are_those_of_its_help(capsys):
    seconds = speed.start(1)
    assert set(seconds) == {f"{name} --help" for name in speed.COMMANDS}
    assert all(each > 0 for each in seconds.values())
    assert "serve --help" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--what=input"], "--what=input needs --data"),
        (["--what=export", "--data=data"], "--what=export needs --model"),
        (["--what=startup", "--out=."], "--out=. is a folder; name a file, such as figures.json"),
        (["--what=train", "--archs=v2"], "no SqueezeNet 'v2'; there are v1.0, v1.1"),
        (["--what=train", "--sizes=big"], "argument --sizes: 'big' is not a list of different whole numbers"),
        (["--what=train", "--rounds=0"], "argument --rounds: '0' is not a whole number of 1 or more"),
    ],
)
def test_a_wrong_flag_of_the_benchmark_says_what_was_expected(flags, message):
    with pytest.raises(InputError, match=message):
        speed.main(flags)


@pytest.mark.slow
def test_exports_are_timed_format_by_format(trained_run, shard_set, tmp_path, capsys):
    out = tmp_path / "figures.json"
    flags = [f"--model={trained_run}", f"--data={shard_set.folder}", "--rounds=1", f"--out={out}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "EXPORTS", {"tflite": ["--format=tflite"]})  # the others take as long
        assert speed.main(["--what=export", *flags]) == 0
        assert 1 < json.loads(out.read_text())["export"]["tflite"] < 120
        with pytest.raises(InputError, match=r"--format=tflite .* failed: .*no such"):
            speed.export(trained_run, tmp_path / "nowhere", 1)
    assert "tflite" in capsys.readouterr().out
