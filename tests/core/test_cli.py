from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from sqznet.core import cli
from sqznet.core.errors import InputError
from sqznet.data import __main__ as data_command
from sqznet.export import __main__ as export_command
from sqznet.launch import __main__ as launch
from sqznet.predict import __main__ as predict
from sqznet.train import __main__ as train
from tests import commands


def command(*args: str, cwd=None) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", *args], capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize("module", commands.MODULES)
def test_help_answers_without_tensorflow(module):
    code = (
        "import runpy, sys; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module({module!r}, run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    )
    times = []
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        times.append(time.perf_counter() - started)
        assert done.returncode == 0, done.stderr
    assert f"python -m {module}" in done.stdout
    assert "usage:" in done.stdout and "--" in done.stdout
    assert not re.search(r"\(default: (None|False)\)", done.stdout)
    for flag in done.stdout.split("\n  -"):
        assert len(re.findall("default", flag)) < 2, flag


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["sqznet.data", "--source=folder:nowhere", "--out=x"], "error: no such folder: nowhere"),
        (["sqznet.data", "--out=x"], "error: give --source=folder:PATH"),
        (["sqznet.train", "--data=nowhere"], "error: no such folder: nowhere"),
        (["sqznet.train", "--recipe=artcle"], "error: no recipe 'artcle'; there are article, paper"),
        (["sqznet.train", "--resume"], "error: no run with checkpoints/*.npz in runs/"),
        (["sqznet.evaluate"], "error: no run with best.keras in runs/"),
        (
            ["sqznet.export", "--budget=big"],
            "error: argument --budget: 'big' is not a size; expected a number and a unit",
        ),
        (["sqznet.export", "--format=tflight"], "error: no format 'tflight'; there are savedmodel, tflite, onnx"),
        (["sqznet.predict", "--model=nowhere", "x.jpg"], "error: no such model: nowhere"),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(args, message, tmp_path):
    done = command(*args, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--lerning_rate=1", "unknown flag --lerning_rate; did you mean --learning_rate? (see "),
        ("--learning=1", "unknown flag --learning; did you mean --learning_rate?"),  # no abbreviations
        ("--colour=1", "unknown flag --colour (see "),
    ],
)
def test_an_unknown_flag_gets_the_nearest_one(flag, message):
    with pytest.raises(InputError, match=re.escape(message)):
        train.make_parser().parse_args([flag])


def test_an_unknown_flag_is_named_before_a_missing_one():
    with pytest.raises(InputError, match="unknown flag --ot; did you mean --out"):
        data_command.make_parser().parse_args(["--ot=data/demo"])


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [
        ("tensorflow", "this command needs the package tensorflow, which a minimal install lacks: pip install sqznet-"),
        ("keras.models", "this command needs the package keras, which a minimal install lacks: pip install sqznet-"),
    ],
)
def test_a_package_that_is_not_installed_gets_the_command_that_installs_it(missing, remedy, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    def main() -> int:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    with pytest.raises(SystemExit) as end:
        cli.run(main)
    assert end.value.code == 2
    assert f"error: {remedy}" in capsys.readouterr().err


def test_flags_for_another_command_are_passed_on():
    assert launch.make_parser().parse_args(["--workers=2", "--", "--lerning_rate=1"]).train_flags == [
        "--lerning_rate=1"
    ]


@pytest.mark.parametrize(
    ("kind", "taken", "refused", "expected"),
    [
        (cli.integer, {"-3": -3}, ["1.5", "x", ""], "a whole number"),
        (cli.whole, {"0": 0, "7": 7}, ["-1", "1.5", "nan"], "a whole number of 0 or more"),
        (cli.positive, {"1": 1}, ["0", "-1", "1e3"], "a whole number of 1 or more"),
        (cli.finite, {"-1e3": -1000.0}, ["nan", "inf", "-inf", "x"], "a finite number"),
        (cli.share, {"0": 0.0, "0.99": 0.99}, ["1", "-0.1", "nan"], "a number of at least 0 and below 1"),
        (cli.non_negative, {"0": 0.0, "1e9": 1e9}, ["-0.1", "inf"], "a number of 0 or more"),
        (cli.within(0, 100), {"0": 0.0, "100": 100.0}, ["101", "-1", "nan"], "a number from 0 to 100"),
        (cli.within(0, 9, int), {"9": 9}, ["10", "1.5"], "a whole number from 0 to 9"),
        (cli.positives, {"2,1": (2, 1), "1": (1,)}, ["1,1", "0", "", "a"], "a list of different whole numbers"),
        (cli.address, {"a:80": ("a", 80), "::1:80": ("::1", 80)}, ["a", ":80", "a:b"], "host:port"),
    ],
)
def test_a_type_of_flag_names_the_flag_the_value_and_what_is_expected(kind, taken, refused, expected):
    parser = cli.parser("sqznet.test", None)
    parser.add_argument("--flag", type=kind)
    for text, value in taken.items():
        assert parser.parse_args([f"--flag={text}"]).flag == value
    for text in refused:
        with pytest.raises(InputError, match=f"^argument --flag: {text!r} is not {expected}.* --help"):
            parser.parse_args([f"--flag={text}"])


def test_a_build_prints_its_counts(photographs, tmp_path, capsys):
    code = data_command.main([f"--source=folder:{photographs}", f"--out={tmp_path / 'set'}", "--workers=1"])
    printed = capsys.readouterr().out
    assert code == 0
    assert "train" in printed and "120" in printed and "channel means of train" in printed
    assert data_command.main(["--verify", f"--out={tmp_path / 'set'}"]) == 0
    assert "every byte and record is as the manifest says" in capsys.readouterr().out


def test_predict_names_the_likeliest_classes(trained_run, photographs, tmp_path, capsys):
    Image.open(photographs / "val" / "ball" / "000.jpg").save(tmp_path / "ball.png")
    picture = tmp_path / "sheet.png"
    flags = [f"--model={trained_run}", f"--picture={picture}", "--top=2"]
    assert predict.main([*flags, str(tmp_path / "ball.png"), str(photographs / "val" / "star" / "001.jpg")]) == 0
    printed = capsys.readouterr().out
    assert printed.count(" % ") >= 4
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if " % " in line]
    assert [rank for _, rank, _, _ in rows] == ["1", "2", "1", "2"]
    assert all(name in ("ball", "house", "star") for _, _, name, _ in rows)
    assert float(rows[0][3].removesuffix(" %")) >= float(rows[1][3].removesuffix(" %"))
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx"])
def test_predict_runs_an_exported_file_without_tensorflow(bundle, photographs, name):
    photo = photographs / "val" / "ball" / "000.jpg"
    code = (
        "import sys; from sqznet.predict import __main__ as predict\n"
        f"predict.main(['--model={bundle / name}', '{photo}'])\n"
        "assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "ball" in done.stdout and " % " in done.stdout


def test_predict_without_a_model_takes_the_newest_run_or_else_the_sample_and_says_so(
    trained_run, photographs, tmp_path, monkeypatch, capsys
):
    photo = str(photographs / "val" / "ball" / "000.jpg")
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as without_sample:
        without_sample.setattr(predict, "SAMPLE", tmp_path / "model_int8.tflite")
        with pytest.raises(InputError, match="train one first"):
            predict.main([photo])
    assert predict.main([photo, "--top=10"]) == 0
    printed = capsys.readouterr()
    assert "no --model and no run" in printed.err and "for demonstration" in printed.err
    assert str(predict.SAMPLE) in printed.out and "parachute" in printed.out
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(trained_run)
    assert predict.main([photo]) == 0
    printed = capsys.readouterr()
    assert "sample" not in printed.err and "parachute" not in printed.out


def test_the_sample_is_small_and_passes_its_check(capsys):
    folder = Path(__file__).parents[2] / predict.SAMPLE.parent
    assert (folder / predict.SAMPLE.name).stat().st_size < 2_000_000
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 3_000_000
    assert export_command.main([f"--check={folder}"]) == 0


def test_export_prints_the_table_of_the_document(trained_run, shard_set, tmp_path, capsys):
    flags = [f"--model={trained_run}", "--format=tflite", "--budget=5MB", f"--out={tmp_path / 'out'}"]
    assert export_command.main(flags) == 0
    printed = capsys.readouterr().out
    # Of three classes top-5 says nothing.
    expected = [column for column in columns((commands.ROOT / "docs" / "export.md").read_text()) if column != "top-5"]
    assert columns(printed) == expected
    assert "27 records" in printed and "Keras model" in printed


def columns(text: str) -> list[str]:
    """The heads of the table of an export."""
    (line,) = [line for line in text.splitlines() if line.startswith("┃ file")]
    return [cell.strip() for cell in line.strip("┃").split("┃")]
