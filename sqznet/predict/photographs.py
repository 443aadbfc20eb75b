"""Finds the photographs that a user names, and reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sqznet.core import console
from sqznet.core.errors import InputError, Reject
from sqznet.data.sources import walk
from sqznet.images import decode

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://|data:")


def list_photos(given: list[str]) -> dict[Path, bool]:
    """Lists the files to read, in order, each with whether it must be a photograph (if named, or by its suffix).

    Raises:
        InputError: a name is a URL, or a folder without files.
    """
    photos: dict[Path, bool] = {}
    for each in given:
        if _URL.match(each):
            raise InputError(f"{each[:100]} is an address, and predict fetches nothing: download it, and name the file")
        path = Path(each)
        if not _is_folder(path):
            photos[path] = True
            continue
        reading = walk.Walk(path)
        below = list(_files_below(reading, path, set()))
        for note in reading.notes():
            console.say(f"{path}: {note}")
        if not below:
            raise InputError(f"{path} is a folder without files to read; name photographs, or a folder of them")
        by_suffix = set(walk.are_photographs(below))
        photos |= {file: file in by_suffix for file in below if file not in photos}
    return photos


def _files_below(reading: walk.Walk, folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Yields the files of a folder, then those of its folders.

    Reads each folder once, even if several links lead to it.
    """
    if folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    folders, photos = reading.entries(folder)
    yield from photos
    for each in folders:
        yield from _files_below(reading, each, seen)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long for the system; reading the file will report it
        return False


def read(photo: Path) -> tuple[np.ndarray, str]:
    """Reads a whole photograph, upright, uint8 RGB (height, width, 3). Also returns how its colours were converted.

    Raises:
        Reject: the photograph does not exist, or cannot be used.
    """
    try:
        content = photo.read_bytes()
    except OSError as error:
        raise Reject(f"cannot be read: {error.strerror}") from None
    return decode.decode(content)
