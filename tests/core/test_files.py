from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import filelock
import pytest

from sqznet.core import files, locks
from sqznet.core.errors import InputError


def test_a_name_that_cannot_be_written_is_told_with_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    for path, words in (
        (tmp_path / "file" / "x", "a file exists where a folder is needed"),
        (tmp_path / "file" / "x" / "y", "a file exists where a folder is needed"),
        (tmp_path / ("x" * 300), "give it a shorter name"),
        (tmp_path, "a folder exists where a file is needed"),
    ):
        with pytest.raises(OSError) as raised:
            files.write_text(path, "")
        assert words in files.in_words(files.write_failure(raised.value))


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with pytest.raises(KeyError), files.replacing(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        raise KeyError
    assert list(path.parent.iterdir()) == []
    files.write_text(path, "whole")
    assert path.read_text() == "whole"


def test_a_failed_write_keeps_what_was_there(tmp_path):
    path = tmp_path / "file.txt"
    files.write_text(path, "old")
    with pytest.raises(KeyError), files.replacing(path) as temporary:
        temporary.write_text("new")
        raise KeyError
    assert path.read_text() == "old"


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "folder"
    for name in ("first", "second"):
        with files.replacing(path) as temporary:
            temporary.mkdir()
            (temporary / name).write_text(name)
    assert [each.name for each in path.iterdir()] == ["second"]
    assert files.size_of(path) == len("second")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


def test_temporary_names_of_one_file_differ_within_a_process_too(tmp_path):
    """Process numbers say nothing: in containers every process is number 1."""
    with files.replacing(tmp_path / "a") as one, files.replacing(tmp_path / "a") as other:
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "a").read_text() == "one"  # whose block ended last
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("in_one_step", [True, False])
def test_the_later_of_two_folders_wins_and_both_stay_whole(tmp_path, monkeypatch, in_one_step):
    if not in_one_step:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    path = tmp_path / "folder"
    with files.replacing(path) as one, files.replacing(path) as other:
        for each in (one, other):
            each.mkdir()
            for name in ("a", "b"):
                (each / name).write_text("one" if each is one else "other")
    assert {each.name: each.read_text() for each in path.iterdir()} == {"a": "one", "b": "one"}
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


def test_what_killed_processes_left_goes_after_a_day_or_with_the_lock(tmp_path):
    young, old = tmp_path / ".tmp-1-file.txt", tmp_path / ".tmp-2-file.txt"
    young.write_text("another process writes this now")
    old.write_text("left")
    os.utime(old, (time.time() - 25 * 3600,) * 2)
    files.write_text(tmp_path / "file.txt", "new")
    assert young.exists() and not old.exists()
    files.remove_abandoned(tmp_path / "file.txt", age=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.txt"]


HOLD = """
import sys, time
from pathlib import Path
from sqznet.core import locks
with locks.locked(Path(sys.argv[1]), "keeps it"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other_process(tmp_path):
    """A process that holds the lock `tmp_path / "lock"`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def test_who_holds_a_lock_is_named_and_a_kill_frees_it(tmp_path, other_process, capfd):
    lock = tmp_path / "lock"
    named = re.escape(f"(process {other_process.pid} on host {socket.gethostname()}, since ")
    refused = pytest.raises(locks.Held, match=rf"^another process keeps it: -c {re.escape(str(lock))} {named}")
    with refused, locks.locked(lock, "keeps it", wait=False):
        pass
    assert re.search(named, str(locks.holder(lock)))
    threading.Timer(1.0, other_process.kill).start()
    with locks.locked(lock, "keeps it"):
        assert re.search(f"waiting: another process keeps it: .*{named}", capfd.readouterr().err)
        assert locks.holder(lock) is not None
    assert locks.holder(lock) is None
    assert list(tmp_path.iterdir()) == []


def test_a_lock_whose_file_was_removed_meanwhile_is_not_held(tmp_path, monkeypatch):
    """Who removes the file has the lock; who opened it before that must not believe to have it, too."""
    lock, real = tmp_path / "lock", filelock.lock_descriptor
    opened = []

    def lock_after_removal(descriptor, **options):
        if not opened:
            lock.unlink()
        opened.append(descriptor)
        return real(descriptor, **options)

    monkeypatch.setattr(filelock, "lock_descriptor", lock_after_removal)
    with locks.locked(lock):
        assert lock.is_file()
    assert len(opened) == 2


def test_what_another_name_left_is_not_taken_for_ones_own(tmp_path):
    """`.tmp-TOKEN-my-model` ends in `-model`."""
    with files.replacing(tmp_path / "my-model") as other:
        other.mkdir()
        left = tmp_path / ".tmp-0123456789abcdef-model"
        left.mkdir()
        files.remove_abandoned(tmp_path / "model", age=0)
        assert other.is_dir() and not left.exists()


def test_a_lock_file_that_may_not_be_written_is_seen_as_held(tmp_path, monkeypatch):
    """Of another user, or on a read-only mount; tests run as root, who may write everything."""
    real = os.open

    def refuse(path, flags, *args, **more):
        if flags & os.O_RDWR and str(path).endswith("other.lock"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, flags, *args, **more)

    path = tmp_path / "other.lock"
    with locks.locked(path, "builds x"):
        monkeypatch.setattr(os, "open", refuse)
        assert f"process {os.getpid()} on host" in locks.holder(path)
        named = pytest.raises(locks.Held, match=f"another process builds x: .*process {os.getpid()} on host")
        with named, locks.locked(path, "builds x", wait=False):
            pass
    path.touch()  # left by a killed process of that user
    with locks.locked(path, "builds x", wait=False):
        assert path.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder in which none can be made")
def test_a_lock_that_cannot_be_made_is_not_waited_for():
    with pytest.raises(InputError, match="cannot be made; name another folder"), locks.locked(Path("/proc/x/y/lock")):
        pass
