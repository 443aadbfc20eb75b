"""Provides locks between processes on one machine, or on several machines that share a folder.

docs/concurrency.md describes what each command does if another process holds its lock.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from sqznet.core import console, files
from sqznet.core.errors import InputError, TryAgain

_POLL = 0.05  # seconds between two attempts to take a lock
_PATIENCE = 0.3  # seconds before a lock counts as held: `holder` itself takes the lock for a moment
_NAMELESS = 5.0  # seconds for a holder to write its name after it has taken the lock
_NO_NAME = "it has not written its name"


class Held(TryAgain):
    """Another process holds a lock. The text names the process."""


@contextlib.contextmanager
def locked(
    path: Path,
    doing: str = "",
    *,
    wait: bool = True,
    remedy: str = "wait for it",
    first: Callable[[], None] | None = None,
) -> Iterator[None]:
    """Holds a lock during the block.

    During the block, no other process can take the lock, on any machine that shares the folder. The lock is on an open
    file, so the system releases the lock when the process ends. The file names the holder, for the messages of other
    processes. When the lock is released, the file is removed. After a kill the file stays and has no effect.

    Args:
        path: path of the lock file.
        doing: the work of the holder, such as "builds data/mine".
        wait: whether to wait for the lock and print the name of the holder.
        remedy: what the user can do if the lock is held.
        first: function that is called as soon as the lock is held. The function may free space on a full disk.

    Raises:
        Held: another process holds the lock, and `wait` is False.
        InputError: the file system of the folder has no locks.
    """
    started, said = time.monotonic(), ""
    while (descriptor := _try_lock(path)) is None:
        waited, name = time.monotonic() - started, _recorded(path)
        if waited > (_PATIENCE if name else _NAMELESS):
            holder = f"another process {doing or f'holds {path}'}: {name or _NO_NAME}"
            if not wait:
                raise Held(f"{holder}; {remedy}")
            if holder != said:
                console.say(f"waiting: {holder}")
                said = holder
        time.sleep(_POLL)
    try:
        if first:
            first()
        _record(descriptor)
        yield
    finally:
        # This comes before the release. Otherwise another process could lock the file that is about to be removed.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)
        if sys.platform == "win32":  # Windows cannot remove a file that a process has open
            with contextlib.suppress(OSError):
                path.unlink()


def beside(path: Path) -> Path:
    """Returns the path of the lock file for a file or folder that is replaced as a whole."""
    return path.parent / f".{path.name}.lock"


def holder(path: Path) -> str | None:
    """Returns a description of the process that holds a lock, or None if no process holds it."""
    try:
        descriptor = _open(path, 0)
    except OSError:
        return None
    try:
        return None if filelock.lock_descriptor(descriptor, blocking=False) else _recorded(path) or _NO_NAME
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    """Tries to take a lock. Returns the descriptor of the lock file, or None if another process holds the lock."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        files.check_folder(path.parent)
        raise
    except FileNotFoundError:
        raise InputError(f"{path.parent} cannot be made; name another folder") from None
    try:
        descriptor = _open(path, os.O_CREAT)
    except FileNotFoundError:  # another process has removed the folder
        return None
    try:
        taken = filelock.lock_descriptor(descriptor, blocking=False) and _is_still_there(path, descriptor)
    except OSError as error:
        os.close(descriptor)
        if error.errno == errno.ESTALE:  # removed by another machine
            return None
        raise InputError(
            f"cannot lock {path}: {error.strerror}; name a folder on a file system with locks, or mount it with them"
        ) from None
    except BaseException:
        os.close(descriptor)
        raise
    if not taken:
        os.close(descriptor)
        return None
    return descriptor


def _open(path: Path, create: int) -> int:
    """Opens a lock file. A file without write permission can be locked too."""
    try:
        return os.open(path, os.O_RDWR | create, 0o666)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EROFS):
            raise
        try:
            return os.open(path, os.O_RDONLY)
        except OSError:
            raise error from None  # it names the problem of the folder


def _is_still_there(path: Path, descriptor: int) -> bool:
    """Returns whether the locked file still exists. The previous holder may have removed it."""
    status = os.fstat(descriptor)
    try:
        return status.st_nlink > 0 and os.path.samestat(status, path.stat())
    except FileNotFoundError:
        return False


def _record(descriptor: int) -> None:
    """Writes the holder's name into its lock file, after a space. Windows locks the first byte against reading."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    command = ["python", "-m", module.name.removesuffix(".__main__")] if module else [Path(sys.argv[0]).name]
    written = {
        "command": console.printable(shlex.join([*command, *sys.argv[1:]]), keep="")[:300],
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
    }
    with contextlib.suppress(OSError):  # a full disk; the lock works without
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, f" {json.dumps(written)}\n".encode())


def _recorded(path: Path) -> str | None:
    """Returns the holder that the lock file names, or None.

    The host is part of it, because containers repeat process numbers.
    """
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(1)
            found = json.loads(file.read())
        return f"{found['command']} (process {found['process']} on host {found['host']}, since {found['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return None
