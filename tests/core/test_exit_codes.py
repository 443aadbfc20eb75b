"""docs/exit_codes.md, at the command line."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sqznet.core import cli, files
from sqznet.core.errors import CheckFailed, InputError, TryAgain
from sqznet.data import __main__ as data_command
from sqznet.export import __main__ as export_command
from sqznet.predict import __main__ as predict
from sqznet.runs import run_folder
from tests import ci

ROOT = Path(__file__).parents[2]


def code_of(main) -> int:
    with pytest.raises(SystemExit) as end:
        cli.run(main)
    return end.value.code


def failing(error: BaseException):
    def main() -> int:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("no such folder"), 2),
        (CheckFailed("too large"), 1),
        (TryAgain("worker 1 is lost"), 75),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs"), 75),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "runs"), 75),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "runs"), 2),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "runs"), 2),
        (NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), "file/x"), 2),
        (FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), "file"), 2),
        (IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), "folder"), 2),
        (OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), "long"), 2),
        (MemoryError(), 75),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
    ],
)
def test_each_error_has_its_code(error, code, capfd):
    kept = os.dup(1)  # which a closed pipe replaces
    assert code_of(failing(error)) == code
    os.dup2(kept, 1)
    os.close(kept)
    assert "Traceback" not in capfd.readouterr().err


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        cli.run(lambda: 1 // 0)


def test_a_tensor_that_does_not_fit_into_memory_may_pass(capsys):
    import tensorflow as tf

    assert code_of(failing(tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"))) == 75
    assert "out of memory (OOM when allocating)" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--learning_rate=nan", "--save_minutes=inf", "--epochs=1.5", "--no_such_flag"])
def test_a_flag_that_is_no_number_is_wrong_usage(flag, tmp_path):
    command = [sys.executable, "-m", "sqznet.train", flag]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and flag.split("=")[0] in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_another_process_holds_may_be_free_later(tmp_path):
    with run_folder.claimed(tmp_path / "run"), pytest.raises(TryAgain, match="trains in"):
        code = (
            "import sys; from pathlib import Path; from sqznet.core import cli; from sqznet.runs import run_folder\n"
            f"cli.run(lambda: run_folder.claimed(Path({str(tmp_path / 'run')!r})).__enter__())"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 75, done.stderr
        raise TryAgain(done.stderr)


def test_damage_that_verify_finds_is_code_1_and_a_set_that_is_not_there_is_code_2(shard_set, tmp_path):
    copy = tmp_path / "set"
    copy.mkdir()
    for path in shard_set.folder.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    shard = shard_set.shards[0].path.name
    content = bytearray((copy / shard).read_bytes())
    content[500] ^= 1
    (copy / shard).write_bytes(content)
    assert code_of(lambda: data_command.main(["--verify", f"--out={copy}"])) == 1
    (copy / shard).unlink()
    assert code_of(lambda: data_command.main(["--verify", f"--out={copy}"])) == 1
    assert code_of(lambda: data_command.main(["--verify", f"--out={tmp_path / 'nowhere'}"])) == 2


def test_damage_that_a_check_of_a_bundle_finds_is_code_1(tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(ROOT / predict.SAMPLE.parent, bundle)
    (model,) = bundle.glob("*.tflite")
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    assert code_of(lambda: export_command.main([f"--check={bundle}"])) == 1
    model.unlink()
    assert code_of(lambda: export_command.main([f"--check={bundle}"])) == 1
    assert code_of(lambda: export_command.main([f"--check={tmp_path}"])) == 2


@pytest.mark.parametrize(
    ("ends_with", "restarts", "queued_again"),
    [
        ("0", "0", 0),
        ("1", "0", 0),
        ("2", "0", 0),
        ("75", "0", 1),
        ("143", "3", 1),
        ("75", "50", 0),
        ("130", "0", 1),
        ("137", "0", 1),
        ("134", "0", 0),
        ("139", "0", 0),
    ],
)
def test_slurm_queues_again_only_what_may_pass(ends_with, restarts, queued_again, tmp_path):
    for name, script in (("srun", f"exit {ends_with}"), ("scontrol", 'echo "$@" >> "$HOME/calls"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "SLURM_JOB_ID": "7",
        "SLURM_RESTART_COUNT": restarts,
    }  # fmt: skip
    done = subprocess.run(["bash", str(ROOT / "deploy" / "slurm.sh")], env=environment, capture_output=True, text=True)
    assert done.returncode == int(ends_with), done.stderr
    calls = (tmp_path / "calls").read_text() if (tmp_path / "calls").exists() else ""
    assert calls == "requeue 7\n" * queued_again


def test_the_help_of_a_command_names_the_codes():
    assert "75" in cli.parser("sqznet.train", "").format_help()
    page = (ROOT / "docs" / "exit_codes.md").read_text()
    for kind in (InputError, CheckFailed, TryAgain):
        assert f"| {kind.exit_code} |" in page


def test_a_full_disk_says_so_and_may_pass():
    failed = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/x")
    assert isinstance(files.refusal(failed), TryAgain)
    assert "free some space" in str(files.refusal(failed, "; go on"))


def test_as_process_1_of_a_container_a_command_ends_by_sigterm():
    """The kernel drops a signal that process 1 has no handler for, so `docker stop` would end in SIGKILL."""
    code = "import time; from sqznet.core import cli; cli.run(lambda: print('ready', flush=True) or time.sleep(60))"
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as outer:
        if outer.stdout.readline() != "ready\n":
            ci.cannot_have(f"no PID namespaces: {outer.stderr.read().strip()}")
        (inner,) = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        os.kill(int(inner), signal.SIGTERM)
        assert outer.wait(30) == 143
        assert outer.stderr.read() == "ended by SIGTERM\n"
