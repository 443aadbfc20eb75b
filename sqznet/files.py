"""Files that are either whole or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqznet.errors import InputError, TryAgain

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

TEMPORARY_PREFIX = ".tmp-"
# What keeps a file from being written that the user can mend, and how.
REMEDIES = {
    errno.ENOSPC: "free some space there and run the same command again",
    errno.EDQUOT: "free some space there, or have the quota raised, and run the same command again",
    errno.EROFS: "make it writable, or name another folder",
    errno.EACCES: "get the rights to it, or name another folder",
    errno.EPERM: "get the rights to it, or name another folder",
}


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the folder of `path`; it becomes `path` only if the block succeeds.

    Works for files and for folders; a folder replaces a folder, never a file one.

    Raises:
        OSError: it cannot be written, for one of REMEDIES' reasons; names `path`, or what was to be in it.
    """
    # The process id keeps two writers of the same file apart; the name's end keeps its suffix, which formats go by.
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(temporary)
        yield temporary
        if temporary.is_file():
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        if temporary.is_dir() and path.is_dir():
            remove(path)
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
    for number in REMEDIES:
        before, reason, _ = text.partition(os.strerror(number))
        if reason:
            path = before.split("}} ")[-1].removesuffix("; ") if before.endswith("; ") else None
            return OSError(number, reason, path)
    return None


def in_words(failed: OSError) -> str:
    """What `why_not_written` found, with what to do."""
    assert failed.errno is not None
    # Rights may be wanting to read, too.
    verb = "read or write" if failed.errno in (errno.EACCES, errno.EPERM) else "write"
    where = failed.filename or "a file"
    return f"cannot {verb} {where}: {os.strerror(failed.errno)}; {REMEDIES[failed.errno]}"


def refusal(failed: OSError, onwards: str = "") -> InputError:
    """`in_words` as an error to raise: a full disk may have room again later, rights do not come by themselves."""
    kind = TryAgain if failed.errno in (errno.ENOSPC, errno.EDQUOT) else InputError
    return kind(in_words(failed) + onwards)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """One process at a time in the block. The lock is an open file, so it goes with the process, however that ends.

    Raises:
        BlockingIOError: another process holds it, and `wait` is False.
    """
    if fcntl is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def remove_abandoned(path: Path) -> None:
    """Removes what killed processes of this machine left of writing `path`."""
    for left in path.parent.glob(f"{TEMPORARY_PREFIX}*-{path.name}"):
        number = left.name.removeprefix(TEMPORARY_PREFIX).removesuffix(f"-{path.name}")
        if number.isdigit() and not _is_running(int(number)):
            remove(left)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_bytes(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def parse_json(text: str, where: str) -> dict[str, Any]:
    """The object of a JSON text that a user may have written or changed.

    Raises:
        InputError: it is no JSON, or no object, has a name twice, or a number that is none (NaN, Infinity).
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        for name, _ in pairs if len(made) < len(pairs) else []:
            if sum(name == other for other, _ in pairs) > 1:
                raise InputError(f"{where}: {name!r} stands there twice, and only one can be meant; remove the other")
        return made

    def refuse(constant: str) -> None:
        raise InputError(f"{where}: {constant} is not a number of JSON; give a finite one")

    try:
        # Some editors put a mark before the text.
        content = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=once, parse_constant=refuse)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        what = "is empty" if not text.strip() else f"cannot be read as JSON: {error}"
        raise InputError(f"{where} {what}") from None
    if not isinstance(content, dict):
        raise InputError(f"{where} holds {shortened(content)}; expected a JSON object, {{...}}")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """`parse_json` of a file.

    Raises:
        InputError: also where it cannot be read.
    """
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text in UTF-8; expected a JSON file") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    return parse_json(text, str(path))


def shortened(value: Any) -> str:
    """A value of JSON as it is written there, cut to what a message has room for."""
    if isinstance(value, float):
        return repr(value)
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


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
