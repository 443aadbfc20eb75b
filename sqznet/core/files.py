"""Writes files and folders atomically: under a temporary name, which is then renamed."""

from __future__ import annotations

import contextlib
import csv
import ctypes
import errno
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sqznet.core.errors import InputError, TryAgain

TEMPORARY_PREFIX = ".tmp-"
DAY = 24 * 60 * 60  # seconds
# Reasons why a file cannot be written, with what the user can do.
REMEDIES = {
    errno.ENOSPC: "free some space there and run the same command again",
    errno.EDQUOT: "free some space there, or have the quota raised, and run the same command again",
    errno.EROFS: "make it writable, or name another folder",
    errno.EACCES: "get the rights to it, or name another folder",
    errno.EPERM: "get the rights to it, or name another folder",
    errno.EEXIST: "a file exists where a folder is needed; name another",
    errno.ENOTDIR: "a file exists where a folder is needed; name another",
    errno.EISDIR: "a folder exists where a file is needed; name another",
    errno.ENAMETOOLONG: "give it a shorter name",
}
# Errors of names, which may come from reading too.
_OF_NAMES = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the folder of `path`. Renames it to `path` if the block succeeds.

    `path` may be a file or a folder. A folder replaces a folder, but not a file.

    Raises:
        OSError: `path` cannot be written, for a reason in REMEDIES. The error names `path` or a file below it.
    """
    # The random token separates two writers of one file, also on different machines. The suffix stays, because it
    # decides the format.
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path)
        yield temporary
        if temporary.is_file():
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        if temporary.is_dir():
            _replace_folder(temporary, path)
        else:
            temporary.replace(path)
    except Exception as error:
        failed = write_failure(error)
        if failed is None:
            raise
        where = str(failed.filename or temporary).replace(str(temporary), str(path))
        raise OSError(failed.errno, failed.strerror, where) from error
    finally:
        with contextlib.suppress(OSError):  # a read-only disk refuses even the removal of a missing file
            remove(temporary)


def _replace_folder(temporary: Path, path: Path) -> None:
    """Replaces a folder by another. After that, the old folder has the temporary name, or is removed.

    If two processes replace the folder at the same time, the later replacement wins. Readers see complete folders only.
    """
    while not (_renamed_into_place(temporary, path) or _exchange(temporary, path)):
        # Until the next rename there is no folder at `path`.
        aside = temporary.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}-{path.name}")
        with contextlib.suppress(FileNotFoundError):  # another process has moved it
            path.rename(aside)
        try:
            if _renamed_into_place(temporary, path):
                return
        finally:
            remove(aside)


def _renamed_into_place(folder: Path, path: Path) -> bool:
    """Renames a folder to `path`. Returns False if `path` is a folder that is not empty."""
    try:
        folder.rename(path)
    except OSError as error:
        # Windows gives EACCES.
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) or (sys.platform == "win32" and path.is_dir()):
            return False
        raise
    return True


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two folders atomically. Returns False if the system or the file system does not support this."""
    if sys.platform != "linux":
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # a C library without it
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def write_failure(error: Exception) -> OSError | None:
    """Returns the OSError behind an error if a file could not be written for a reason in REMEDIES, or else None.

    Some libraries give the reason only in the text of the error: "PATH; No space left on device".
    """
    if isinstance(error, InputError):
        return None  # has its own text
    if isinstance(error, OSError) and error.errno in REMEDIES:
        return error
    text = str(error)
    _, found, folders = text.partition("No usable temporary directory found in ")  # tempfile's message on full disks
    if found:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"a temporary file in {folders}")
    for number in REMEDIES.keys() - _OF_NAMES:  # their texts are too common
        before, reason, _ = text.partition(os.strerror(number))
        if reason:
            path = before.split("}} ")[-1].removesuffix("; ") if before.endswith("; ") else None
            return OSError(number, reason, path)
    return None


def in_words(failed: OSError) -> str:
    """Returns the message for a result of `write_failure`. The message tells the user what to do."""
    assert failed.errno is not None
    # Reading may have failed for these reasons, too.
    verb = "read or write" if failed.errno in (errno.EACCES, errno.EPERM, *_OF_NAMES) else "write"
    where = failed.filename or "a file"
    return f"cannot {verb} {where}: {os.strerror(failed.errno)}; {REMEDIES[failed.errno]}"


def refusal(failed: OSError, onwards: str = "") -> InputError:
    """Returns an error to raise, with the text of `in_words`: TryAgain for a full disk, else InputError."""
    kind = TryAgain if failed.errno in (errno.ENOSPC, errno.EDQUOT) else InputError
    return kind(in_words(failed) + onwards)


def check_folder(folder: Path) -> None:
    """Checks that a folder exists or can be made. Call this function before long work.

    Raises:
        InputError: a file has this name, or the name is too long.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISDIR(folder.stat().st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    except OSError as error:
        failed = write_failure(error)
        if failed is None:
            raise
        raise refusal(failed) from None


def remove_abandoned(path: Path, *, age: float = DAY) -> None:
    """Removes temporary files for `path` that nobody has written to for `age` seconds.

    The processes that created these files are assumed to have been killed. A process number would not show whether the
    process is alive, since several machines may share the folder. Use age=0 only while holding the lock for writing
    `path`.
    """
    _remove_old_temporaries(path.parent, re.escape(path.name), age)


def remove_temporaries(folder: Path) -> None:
    """Removes all temporary files in a folder. Call it only while holding the lock of the folder."""
    _remove_old_temporaries(folder, ".*", age=0)


def _remove_old_temporaries(folder: Path, of: str, age: float) -> None:
    # The full name must match: `my-model` ends with `model`.
    temporary = re.compile(rf"{re.escape(TEMPORARY_PREFIX)}[0-9a-f]+-{of}", re.DOTALL)
    for each in list(folder.iterdir()) if folder.is_dir() else []:
        if temporary.fullmatch(each.name):
            with contextlib.suppress(OSError):  # already removed, or no permission: nothing depends on the file
                if time.time() - _last_written(each) >= age:
                    remove(each)


def _last_written(path: Path) -> float:
    """Returns the time of the last write to a file, or to a folder and all files below it."""
    return max(each.lstat().st_mtime for each in (path, *path.rglob("*")))


def write_bytes(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Writes a CSV file. File names that are not UTF-8 keep their bytes."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([list(columns), *rows])
    write_bytes(path, text.getvalue().encode(errors="surrogateescape"))


def remove(path: Path) -> None:
    """Removes a file or a folder with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Returns the size in bytes of a file, or of all files below a folder."""
    if path.is_dir():
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    return path.stat().st_size


def sha256_below(path: Path) -> str | dict[str, str]:
    """Returns the SHA-256 of a file. For a folder, returns the SHA-256 of each file below it, by path."""
    if path.is_file():
        return sha256_of(path)
    return {each.relative_to(path).as_posix(): sha256_of(each) for each in sorted(path.rglob("*")) if each.is_file()}


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
