"""Files that are either whole or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqznet.core.errors import InputError, TryAgain

TEMPORARY_PREFIX = ".tmp-"
DAY = 24 * 60 * 60  # seconds
# What keeps a file from being written that the user can mend, and how.
REMEDIES = {
    errno.ENOSPC: "free some space there and run the same command again",
    errno.EDQUOT: "free some space there, or have the quota raised, and run the same command again",
    errno.EROFS: "make it writable, or name another folder",
    errno.EACCES: "get the rights to it, or name another folder",
    errno.EPERM: "get the rights to it, or name another folder",
    errno.EEXIST: "a file stands in its way; name another",
    errno.ENOTDIR: "a file stands in its way; name another",
    errno.EISDIR: "a folder stands in its way; name another",
    errno.ENAMETOOLONG: "give it a shorter name",
}
_OF_NAMES = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)  # that may be of reading, too


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the folder of `path`; it becomes `path` only if the block succeeds.

    Works for files and for folders; a folder replaces a folder, never a file one.

    Raises:
        OSError: it cannot be written, for one of REMEDIES' reasons; names `path`, or what was to be in it.
    """
    # The token keeps two writers of the same file apart, in whatever container or machine they run. The name's end
    # keeps its suffix, which formats go by.
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
        failed = why_not_written(error)
        if failed is None:
            raise
        where = str(failed.filename or temporary).replace(str(temporary), str(path))
        raise OSError(failed.errno, failed.strerror, where) from error
    finally:
        with contextlib.suppress(OSError):  # on a disk that is read-only, even that there is nothing to remove
            remove(temporary)


def _replace_folder(temporary: Path, path: Path) -> None:
    """Puts a folder in the place of another. The old one is under the temporary name then, or gone.

    Of two processes that do this at once the later one wins, and both folders are whole at any time.
    """
    while not (_took_the_place(temporary, path) or _exchange(temporary, path)):
        # For a moment there is no folder at `path`.
        aside = temporary.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}-{path.name}")
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            path.rename(aside)
        try:
            if _took_the_place(temporary, path):
                return
        finally:
            remove(aside)


def _took_the_place(folder: Path, path: Path) -> bool:
    """Renames a folder, which works where there is none or an empty one. False where there is another."""
    try:
        folder.rename(path)
    except OSError as error:
        # Windows says EACCES.
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) or (sys.platform == "win32" and path.is_dir()):
            return False
        raise
    return True


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two folders in one step, so that readers never miss one. False where the system or its disk cannot."""
    if sys.platform != "linux":
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # a C library without it
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def why_not_written(error: Exception) -> OSError | None:
    """What an error says of a file that could not be written, if that is one of REMEDIES; else None.

    Libraries beneath Python give the reason only in their text: "PATH; No space left on device".
    """
    if isinstance(error, InputError):
        return None  # says all there is to say
    if isinstance(error, OSError) and error.errno in REMEDIES:
        return error
    text = str(error)
    _, found, folders = text.partition("No usable temporary directory found in ")  # says tempfile where all are full
    if found:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"a temporary file in {folders}")
    for number in REMEDIES.keys() - _OF_NAMES:  # whose words are too common
        before, reason, _ = text.partition(os.strerror(number))
        if reason:
            path = before.split("}} ")[-1].removesuffix("; ") if before.endswith("; ") else None
            return OSError(number, reason, path)
    return None


def in_words(failed: OSError) -> str:
    """What `why_not_written` found, with what to do."""
    assert failed.errno is not None
    # Rights may be wanting to read, too.
    verb = "read or write" if failed.errno in (errno.EACCES, errno.EPERM, *_OF_NAMES) else "write"
    where = failed.filename or "a file"
    return f"cannot {verb} {where}: {os.strerror(failed.errno)}; {REMEDIES[failed.errno]}"


def refusal(failed: OSError, onwards: str = "") -> InputError:
    """`in_words` as an error to raise: a full disk may have room again later, rights do not come by themselves."""
    kind = TryAgain if failed.errno in (errno.ENOSPC, errno.EDQUOT) else InputError
    return kind(in_words(failed) + onwards)


def check_folder(folder: Path) -> None:
    """Refuses a folder that cannot be made or written into because of its name, before the work that is to end there.

    Raises:
        InputError: a file stands in its way, or its name is too long.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISDIR(folder.stat().st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    except OSError as error:
        failed = why_not_written(error)
        if failed is None:
            raise
        raise refusal(failed) from None


def remove_abandoned(path: Path, *, age: float = DAY) -> None:
    """Removes what killed processes left of writing `path`: what nobody has written to for `age` seconds.

    Process numbers do not tell who is alive: containers and machines that share the folder have their own. With
    age=0 it is for who holds the lock under which alone `path` is written.
    """
    _remove_temporaries(path.parent, re.escape(path.name), age)


def clear(folder: Path) -> None:
    """Removes all that killed processes left of writing files in a folder; for who holds the folder's lock."""
    _remove_temporaries(folder, ".*", age=0)


def _remove_temporaries(folder: Path, of: str, age: float) -> None:
    # The whole name has to match: that of `my-model` ends like that of `model`.
    temporary = re.compile(rf"{re.escape(TEMPORARY_PREFIX)}[0-9a-f]+-{of}", re.DOTALL)
    for each in list(folder.iterdir()) if folder.is_dir() else []:
        if temporary.fullmatch(each.name):
            with contextlib.suppress(OSError):  # gone already, or not ours to remove; nothing depends on it
                if time.time() - _last_written(each) >= age:
                    remove(each)


def _last_written(path: Path) -> float:
    """Of a file, or of a folder and all below it, in seconds since the epoch."""
    return max(each.lstat().st_mtime for each in (path, *path.rglob("*")))


def write_bytes(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def remove(path: Path) -> None:
    """Removes a file or a whole folder; does nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if path.is_dir():
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    return path.stat().st_size


def sha256_below(path: Path) -> str | dict[str, str]:
    """Of a file; of a folder, that of each file below it, by its path."""
    if path.is_file():
        return sha256_of(path)
    return {each.relative_to(path).as_posix(): sha256_of(each) for each in sorted(path.rglob("*")) if each.is_file()}


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
