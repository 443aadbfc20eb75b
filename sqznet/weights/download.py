"""Downloads a file of the catalogue once. Resumes an interrupted download, and checks the file's hash.

The environment variable SQZNET_CACHE names the cache folder. The default is ~/.cache/sqznet. You can copy a file into
this folder by hand, under the file name of the address in the catalogue.
"""

from __future__ import annotations

import errno
import os
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

from sqznet.core import console, files, locks
from sqznet.core.errors import InputError, TryAgain
from sqznet.weights.catalogue import Publication

ATTEMPTS = 3
TIMEOUT = 30  # seconds without a byte
_RETRIED = (408, 416, 429)  # HTTP status codes after which a request is repeated
_CHUNK = 64 * 1024  # bytes


def cache_folder() -> Path:
    return Path(os.environ.get("SQZNET_CACHE") or Path.home() / ".cache" / "sqznet")


def fetch(name: str, entry: Publication, cache: Path) -> Path:
    """Returns the path of the cached file. Downloads the file if it is not in the cache yet.

    Raises:
        InputError: the file cannot be downloaded, or its hash is wrong. The cache then contains no file of that name.
            The cache may contain the received part (`.part`), and the next call continues from this part.
    """
    path = cache / entry.file_name
    try:
        if path.is_file() and files.sha256_of(path) == entry.sha256:  # also in a read-only cache
            return path
        # Without the lock, two processes could write the same partial file, or one could remove the other's file.
        with locks.locked(locks.beside(path), f"fetches {path}"):
            if path.is_file():
                _check(path, name, entry)
            else:
                partial = cache / f"{entry.file_name}.{entry.sha256[:12]}.part"
                console.say(f"{name}: fetching {entry.bytes:,} bytes from {entry.url} (licence: {entry.licence})")
                _download(name, entry, partial, path)
                _check(partial, name, entry)
                partial.replace(path)
    except OSError as error:
        kind = TryAgain if error.errno in (errno.ENOSPC, errno.EDQUOT) else InputError
        raise kind(
            f"cannot keep {name} in {cache}: {error.strerror or error}; name another folder in SQZNET_CACHE"
        ) from None
    return path


def _check(path: Path, name: str, entry: Publication) -> None:
    size = path.stat().st_size
    found = files.sha256_of(path)
    if found != entry.sha256:
        files.remove(path)
        raise InputError(
            f"{path} is not {name}: {entry.bytes:,} bytes with sha256 {entry.sha256} are expected, and it had {size:,} "
            f"with {found}; it was removed"
        )


def _download(name: str, entry: Publication, partial: Path, path: Path) -> None:
    """Downloads the rest of a file to `partial`, which may already contain the beginning."""
    reason = ""
    kind: type[InputError] = TryAgain
    for attempt in range(ATTEMPTS):
        if attempt:
            console.say(f"{name}: {reason}; trying again")
            time.sleep(attempt)
        try:
            _download_rest(name, entry, partial)
        except (urllib.error.URLError, TimeoutError, ConnectionError, HTTPException) as error:
            reason = str(error)
            if isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500 and error.code not in _RETRIED:
                kind = InputError
                break
        else:
            if _size(partial) >= entry.bytes:
                return
            reason = f"the connection ended after {_size(partial):,} of {entry.bytes:,} bytes"
    raise kind(
        f"cannot fetch {name} from {entry.url}: {reason}. Run the command again to go on, or fetch the file in "
        f"another way and put it at {path}"
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _download_rest(name: str, entry: Publication, partial: Path) -> None:
    have = _size(partial)
    if have >= entry.bytes:
        return
    request = urllib.request.Request(entry.url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response, console.progress("bytes/s") as bar:
        if response.status != 206:  # the server ignores Range and sends the whole file
            have = 0
        task = bar.add_task(f"fetching {name}", total=entry.bytes, completed=have)
        with partial.open("ab" if have else "wb") as file:
            while have <= entry.bytes and (chunk := response.read(_CHUNK)):  # one byte too many is enough to detect
                file.write(chunk)
                have += len(chunk)
                bar.update(task, completed=have)
