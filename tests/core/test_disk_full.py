"""When nothing more can be written: one line that says so, and everything that was finished stays whole.

The disks are real: small tmpfs, each mounted in a namespace of its own, which a ballast file fills up at times.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from sqznet.core import cli, files, locks
from sqznet.core.errors import InputError
from sqznet.data import __main__ as data_command
from sqznet.data import corruption, manifest, shards
from sqznet.export import __main__ as export_command
from sqznet.network import architecture, keras_file, model
from sqznet.network.keras_file import Card
from sqznet.runs import checkpoint, run_folder
from sqznet.train import __main__ as train
from sqznet.train import callbacks, start, strategy
from sqznet.train.run import Run
from tests import ci
from tests.conftest import CLASSES, TINY
from tests.data.test_build import flip_a_bit, tree

ROOT = Path(__file__).parents[2]
NO_SPACE = "No space left on device; free some space there and run the same command again"
READ_ONLY = "Read-only file system; make it writable, or name another folder"


class Disk:
    """A small filesystem that can be filled up."""

    def __init__(self, path: Path) -> None:
        self.path, self.ballast = path, path / "ballast"

    def fill(self, leaving: int = 0) -> None:
        room = os.statvfs(self.path)
        with self.ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, room.f_bavail * room.f_frsize - leaving))

    def free(self) -> None:
        self.ballast.unlink(missing_ok=True)

    @contextlib.contextmanager
    def filling_up(self, pattern: str, count: int = 1, leaving: int = 0) -> Iterator[None]:
        """Fills up just before a file of that name is written for the count-th time in the block."""
        real, seen = files.replacing, 0

        @contextlib.contextmanager
        def replacing(path: Path) -> Iterator[Path]:
            nonlocal seen
            if path.match(pattern):
                seen += 1
                if seen == count:
                    self.fill(leaving)
            with real(path) as temporary:
                yield temporary

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "replacing", replacing)
            yield
        assert seen >= count, f"{pattern} was written {seen} times"


class Mounted(Disk):
    """A tmpfs in a mount namespace that only a waiting process is in; others reach its files by /proc."""

    def __init__(self, mount_point: Path, size: str) -> None:
        mount_point.mkdir()
        script = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && echo mounted && exec cat'
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", size, str(mount_point)]
        self.mount_point = mount_point
        self.holder = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.holder.stdout is not None and self.holder.stderr is not None
        if self.holder.stdout.readline() != "mounted\n":
            ci.cannot_have(f"mounts are not permitted here: {self.holder.stderr.read().strip()}")
        super().__init__(Path(f"/proc/{self.holder.pid}/root{mount_point}"))

    def within(self, *command: str) -> None:
        """Runs a command in the namespace, where the disk is at its mount point."""
        enter = ["nsenter", f"--target={self.holder.pid}", "--user", "--mount", "--wd=."]
        done = subprocess.run([*enter, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout

    def close(self) -> None:
        self.holder.communicate()  # `cat` ends, and the filesystem with it


def remount(disk: Mounted, option: str) -> None:
    disk.within("mount", "-o", f"remount,{option}", str(disk.mount_point))


@pytest.fixture
def new_disk(tmp_path: Path) -> Iterator[Callable[[str], Mounted]]:
    if not shutil.which("unshare") or not shutil.which("nsenter"):
        ci.cannot_have("needs unshare and nsenter, of Linux")
    with contextlib.ExitStack() as stack:

        def make(size: str) -> Mounted:
            disk = Mounted(tmp_path / f"disk-{size}", size)
            stack.callback(disk.close)
            return disk

        yield make


def only_error(code: int | None, printed: str) -> str:
    """The one line of error that a command must have ended with."""
    assert code in (2, 75) and "Traceback" not in printed, printed  # wrong rights, a full disk
    lines = [line for line in printed.splitlines() if line.strip()]
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], printed
    return lines[-1]


def error_of(main: Callable[[], Any], *, before_work: bool = False) -> str:
    """The line with which a command ends that is run in this process, and that it says before any work, if asked."""
    with contextlib.redirect_stderr(io.StringIO()) as said, pytest.raises(SystemExit) as end:
        cli.run(main)
    assert not before_work or not re.search("importing|writing|tracing|epoch", said.getvalue()), said.getvalue()
    return only_error(end.value.code, said.getvalue())


def half_written(folder: Path) -> list[Path]:
    return list(folder.rglob(f"{files.TEMPORARY_PREFIX}*"))


# Building a set.


def data_flags(photographs: Path, out: Path, workers: int = 1) -> list[str]:
    return [f"--source=folder:{photographs}", f"--out={out}", "--shard_records=16", f"--workers={workers}"]


def check_shards(out: Path) -> list[str]:
    """Every shard that stands is whole, and as its description says; returns their names."""
    standing = sorted(path.name for path in out.glob("*.tfrecord"))
    for name in standing:
        described = json.loads((out / ".build" / f"{name}.json").read_text())
        assert files.sha256_of(out / name) == described["sha256"]
        assert shards.check(out / name, len(CLASSES)) == described["records"]
    return standing


@pytest.mark.slow
def test_a_build_on_a_full_disk_keeps_its_finished_shards_and_goes_on(photographs, shard_set, new_disk):
    disk = new_disk("300k")  # of about 500 that are needed
    out = disk.path / "set"
    command = [sys.executable, "-m", "sqznet.data", *data_flags(photographs, out, workers=2)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert f"error: cannot write {out}/" in only_error(done.returncode, done.stderr)
    assert NO_SPACE in done.stderr
    standing = check_shards(out)
    assert 0 < len(standing) < len(shard_set.shards)
    assert not half_written(out) and not (out / manifest.FILE).exists()
    before = {name: (out / name).stat().st_mtime_ns for name in standing}
    remount(disk, "size=2m")
    assert data_command.main(data_flags(photographs, out)) == 0
    assert {name: (out / name).stat().st_mtime_ns for name in standing} == before
    wanted, built = tree(shard_set.folder), tree(out)
    assert {name: built.get(name) for name in wanted if name != manifest.FILE} == {
        name: wanted[name] for name in wanted if name != manifest.FILE
    }
    assert not (out / ".build").exists()


def test_a_disk_may_fill_up_before_any_file_of_a_build(photographs, shard_set, new_disk):
    disk = new_disk("2m")
    out = disk.path / "set"
    sites = (
        ("build.json", 0),
        ("test-00000-*.tfrecord", 0),
        ("train-00002-*.tfrecord", 16 << 10),
        ("val-00001-*.json", 0),
        ("rejects.csv", 0),
        (manifest.FILE, 0),
    )
    standing: list[str] = []
    for pattern, leaving in sites:
        with disk.filling_up(pattern, leaving=leaving):
            message = error_of(lambda: data_command.main(data_flags(photographs, out)))
        path = message.removeprefix("error: cannot write ").removesuffix(f": {NO_SPACE}")
        assert Path(path).parent in (out, out / ".build") and Path(path).match(pattern), message
        assert not half_written(out) and not (out / manifest.FILE).exists()
        assert set(standing) <= set(standing := check_shards(out))
        disk.free()
    assert data_command.main(data_flags(photographs, out)) == 0
    assert [shard.sha256 for shard in manifest.load(out).shards] == [shard.sha256 for shard in shard_set.shards]


# Training.


def check_run(run_dir: Path) -> int:
    """All that a run has finished can be read; returns the step of its last checkpoint, -1 where there is none."""
    assert not half_written(run_dir)
    kept = checkpoint.steps(run_dir)
    for step in kept:
        _, progress = checkpoint.load(checkpoint.path_of(run_dir, step))
        assert progress["step"] == step
    for name in ("metrics.csv", "timings.csv"):
        if (run_dir / name).exists():
            with (run_dir / name).open(newline="") as file:
                assert all(float(value) >= 0 for line in csv.DictReader(file) for value in line.values())
    if (run_dir / run_folder.BEST).exists():
        assert keras_file.load(run_dir / run_folder.BEST)[1].classes == CLASSES
    return kept[-1] if kept else -1


@pytest.mark.slow
def test_a_run_may_meet_a_full_disk_at_every_file_and_ends_as_if_it_had_not(shard_set, tmp_path, new_disk):
    disk = new_disk("40m")
    run_dir = disk.path / "run"
    shutil.copytree(shard_set.folder, tmp_path / "set")
    flawed = manifest.load(tmp_path / "set")
    bad = flawed.shards_of("train")[2].path
    flip_a_bit(bad, record=3)
    recipe = TINY.replace(epochs=2, batch_norm=False, bypass="none")  # less to compile
    run_dir.mkdir()
    made = Run(flawed, recipe, strategy.create("one"), run_dir, save_minutes=0, max_bad_records=1)

    def go_on() -> None:  # as a new process would, less the compiling
        with run_folder.claimed(run_dir):
            made._use(corruption.load(run_dir))
            if checkpoint.steps(run_dir):
                made.resume()
            made.train()

    def refused(pattern: str) -> None:
        nonlocal reached
        message = error_of(go_on)
        path = message.removeprefix("error: cannot write ").split(": ")[0]
        assert Path(path).is_relative_to(run_dir) and Path(path).match(pattern) and NO_SPACE in message, message
        step = check_run(run_dir)
        assert step >= reached
        assert message.endswith(f"; with --resume --run_dir={run_dir} it continues from step {step}") or step < 0
        reached = step
        disk.free()

    reached = -1
    disk.fill()
    refused("events/events.out.tfevents.*")  # the lock needs no room
    some = 100_000  # bytes of a file that find room before it cannot be written on
    for pattern, leaving in (("step-00000000.npz", some), ("metrics.csv", 0)):
        with disk.filling_up(pattern, leaving=leaving):
            refused(pattern)
    whole = tmp_path / "whole"
    shutil.copytree(run_dir / checkpoint.FOLDER, whole / checkpoint.FOLDER)
    for pattern, count, leaving in (
        (corruption.LIST, 1, 0),
        (bad.name, 1, 8192),  # mended
        ("step-00000004.npz", 1, some),
        ("step-00000015.npz", 1, some),  # after the epoch
        (run_folder.BEST, 1, some),
        (run_folder.BEST, 1, 0),
        ("step-00000015.npz", 1, some),  # after its evaluation
        ("metrics.csv", 2, 0),  # once when the run starts
        ("timings.csv", 2, 0),
    ):
        with disk.filling_up(pattern, count, leaving):
            refused(pattern)
    assert reached == 30
    go_on()
    with disk.filling_up("curve.png"):
        assert NO_SPACE in error_of(lambda: start._conclude(made))
    disk.free()
    start._conclude(made)

    made.run_dir = whole  # the same again, without a full disk
    made.resume()
    made.train()
    for name in ("metrics.csv",):
        assert (run_dir / name).read_text() == (whole / name).read_text()
    wanted = checkpoint.load(checkpoint.path_of(whole, 30))[0]
    for name, array in checkpoint.load(checkpoint.path_of(run_dir, 30))[0].items():
        np.testing.assert_array_equal(array, wanted[name], err_msg=name)

    # What TensorBoard reads is written by TensorFlow, in pages of 4 KB: many epochs' lines until one does not fit.
    events = callbacks.TensorBoard(disk.path / "events")
    events.on_train_begin(made)
    line = made.state.history[0]
    events.on_epoch_end(made, line)
    (path,) = (disk.path / "events").iterdir()
    disk.fill()
    assert f"error: cannot write {path}: {NO_SPACE}" == error_of(
        lambda: [events.on_epoch_end(made, line) for _ in range(20)]
    )
    readable = []
    with contextlib.suppress(tf.errors.DataLossError):  # of the last, which is cut
        readable.extend(tf.compat.v1.train.summary_iterator(str(path)))
    assert len(readable) > 9


def tell(process: subprocess.Popen[str], wanted: str) -> None:
    """Reads what a process says until a line begins so, and stops the process there."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith(wanted):
            process.send_signal(signal.SIGSTOP)
            return
    raise AssertionError("".join(said))


@pytest.mark.slow
def test_two_runs_in_one_folder_and_then_a_full_disk(shard_set, new_disk):
    disk = new_disk("40m")
    run_dir = disk.path / "run"
    flags = [
        f"--data={shard_set.folder}", "--recipe=imagenette", "--image_size=32", "--global_batch_size=40",
        "--no-batch_norm", "--bypass=none", "--epochs=3", "--strategy=one", "--save_minutes=0", f"--run_dir={run_dir}",
    ]  # fmt: skip
    command = [sys.executable, "-m", "sqznet.train", *flags]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        tell(first, "epoch 1:")
        before = tree(run_dir)
        for more in ([], ["--resume"]):
            message = error_of(lambda more=more: train.main([*flags, *more]))
            assert f"another process trains in {run_dir}: python -m sqznet.train --data=" in message
            assert f"(process {first.pid} on host " in message
            assert message.endswith("; wait for it, or name another --run_dir")
        assert tree(run_dir) == before
        first.send_signal(signal.SIGCONT)
        tell(first, "epoch 2:")  # it goes on
        disk.fill(1 << 20)
        first.send_signal(signal.SIGCONT)
        _, said = first.communicate()
    finally:
        first.kill()
        first.wait()
    message = only_error(first.returncode, said)
    assert NO_SPACE in message
    assert check_run(run_dir) >= 6  # of 3 in an epoch
    disk.free()
    assert train.main(["--resume", f"--run_dir={run_dir}"]) == 0
    assert check_run(run_dir) == 9
    assert len((run_dir / "metrics.csv").read_text().splitlines()) == 1 + 3


def test_what_a_killed_run_was_writing_makes_room_for_the_next(new_disk):
    disk = new_disk("1m")
    (disk.path / "checkpoints").mkdir()
    disk.fill()
    disk.ballast.rename(disk.path / "checkpoints" / f"{files.TEMPORARY_PREFIX}1-step-00000015.npz")
    with run_folder.claimed(disk.path):
        assert f"(process {os.getpid()} on host " in str(locks.holder(disk.path / run_folder.LOCK))
    assert not half_written(disk.path)


# Export, and what all commands share.


@pytest.fixture(scope="module")
def untrained(shard_set, tmp_path_factory) -> Path:
    """A .keras file of a small network."""
    path = tmp_path_factory.mktemp("untrained") / "small.keras"
    made = model.build(
        architecture.Network(classes=3, arch="v1.1", image_size=32), channel_means=shard_set.channel_means, dropout=0.5
    )
    keras_file.save(made, Card(classes=CLASSES, preprocessing=TINY.preprocessing, data=str(shard_set.folder)), path)
    return path


def exports(untrained: Path, disk: Disk) -> None:
    """Run in the namespace: an export goes by the resolved path of its folder, and /proc does not show that one."""
    out = disk.path / "bundle"
    flags = [f"--model={untrained}", "--format=tflite", "--records=8", f"--out={out}"]

    def refused(pattern: str, leaving: int, *others: str) -> None:
        """The disk fills up, and the older bundle stands as it was, if there is one."""
        before = tree(out) if out.exists() else None
        with disk.filling_up(pattern, leaving=leaving):
            message = error_of(lambda: export_command.main([*flags, *others]))
        assert message.startswith(f"error: cannot write {out}") and message.endswith(NO_SPACE), message
        assert files.TEMPORARY_PREFIX not in message
        assert {path.name for path in disk.path.iterdir()} == {"ballast", *(["bundle"] if before else [])}
        assert (tree(out) if out.exists() else None) == before
        disk.free()

    refused(manifest.FILE, 0)  # which is written last but for the reports
    assert export_command.main(flags) == 0
    assert export_command.main([f"--check={out}"]) == 0
    refused(out.name, 1 << 20)  # the model itself
    refused(out.name, 1 << 20, "--format=savedmodel")
    assert export_command.main(flags) == 0
    before = tree(disk.path)
    subprocess.run(["mount", "-o", "remount,ro", str(disk.path)], check=True)
    for path in (out, disk.path / "new"):
        message = error_of(lambda path=path: export_command.main([*flags, f"--out={path}"]), before_work=True)
        assert message.startswith("error: cannot write ") and READ_ONLY in message, message
        assert str(path.parent) in message
    assert tree(disk.path) == before


@pytest.mark.slow
def test_an_export_onto_a_full_or_a_read_only_disk_leaves_nothing_half_written(untrained, new_disk):
    disk = new_disk("12m")
    code = "import sys; from tests.core.test_disk_full import *; exports(Path(sys.argv[1]), Disk(Path(sys.argv[2])))"
    disk.within(sys.executable, "-c", code, str(untrained), str(disk.mount_point))


def test_a_read_only_folder_is_found_before_any_work(photographs, shard_set, new_disk):
    disk = new_disk("1m")
    remount(disk, "ro")
    out, run_dir = disk.path / "set", disk.path / "run"
    message = error_of(lambda: data_command.main(data_flags(photographs, out)), before_work=True)
    assert message == f"error: cannot write {out}: {READ_ONLY}"
    flags = [f"--data={shard_set.folder}", "--strategy=one", f"--run_dir={run_dir}"]
    assert error_of(lambda: train.main(flags), before_work=True) == f"error: cannot write {run_dir}: {READ_ONLY}"
    assert not list(disk.path.iterdir())


def test_a_full_disk_for_temporary_files_is_named(new_disk, monkeypatch):
    disk = new_disk("1m")
    disk.fill()
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(disk.path)])

    def write() -> None:
        with tempfile.TemporaryFile():
            pass

    assert error_of(write) == f"error: cannot write a temporary file in ['{disk.path}']: {NO_SPACE}"


def test_other_reasons_are_told_alike_and_other_errors_are_not_touched():
    rights = "cannot read or write a: Permission denied; get the rights to it, or name another folder"
    quota = "cannot write a: Disk quota exceeded; free some space there, or have the quota raised, and run the same"
    within = "{{function_node __wrapped__FlushSummaryWriter}} a; Permission denied\n\tCould not flush events file."
    hdf5 = "Unable to write (file write failed: errno = 28, error message = 'No space left on device', buf = 0x0)"
    for error, wanted in (
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "a"), quota),
        (PermissionError(errno.EACCES, "Permission denied", "a"), rights),
        (tf.errors.PermissionDeniedError(None, None, within), rights),
        (OSError(hdf5), f"cannot write a file: {NO_SPACE}"),
    ):
        failed = files.write_failure(error)
        assert failed and files.in_words(failed).startswith(wanted)
    for other in (FileNotFoundError(errno.ENOENT, "No such file", "a"), ValueError("x"), InputError(quota)):
        assert files.write_failure(other) is None
