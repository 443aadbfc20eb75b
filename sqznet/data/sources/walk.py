"""Finds the photographs below a folder.

Counts the files and links that are not read, and reports each kind with an example.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from sqznet.core.console import counted
from sqznet.data.sources.listing import one_line

# Made by file managers, network storage, archives and notebooks. Compared in lower case.
SYSTEM_FOLDERS = {
    "@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin", "__macosx", "__pycache__",
    "lost+found", "system volume information",
}  # fmt: skip
SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "icon\r"}
PHOTOGRAPHS = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm",
    ".heic", ".heif",
}  # fmt: skip
# Files that are never photographs. A file without a suffix may be one.
OTHER_ENDINGS = {
    ".txt", ".xml", ".json", ".jsonl", ".mat", ".csv", ".tsv", ".yaml", ".yml", ".md", ".html", ".pdf", ".npy", ".npz",
    ".pkl", ".h5", ".cache", ".db", ".zip", ".tar", ".gz", ".py", ".ipynb", ".sh", ".log",
}  # fmt: skip

# What a note reports.
HIDDEN_FOLDER = "hidden folders, not read"
HIDDEN_FILE = "hidden files, not read"
SYSTEM_FOLDER = "system and thumbnail folders, not read"
SYSTEM_FILE = "system files, not read"
NOWHERE = "links without a target"
LOOP = "links to themselves or to a folder above them, not followed"
TWICE = "links to files or folders that are in the set already, not read"
LINKED_FOLDER = "linked folders inside classes, not read (copy their photographs into the class folders)"
OUTSIDE = "links out of the folder, read"
SPECIAL = "devices and pipes, not read"
ANNOTATION = "annotation files, not read"
LOOSE = "photographs beside the class folders, not read"
OTHER = "other files beside the class folders, not read"
DEEPER = "files deeper than <class>/*, read as photographs of <class>"


class Walk:
    """Lists folders below a root, and collects notes about the files that are not read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._start = len(str(root)) + 1  # index of the first character below the root in a path
        self._read = {str(root.resolve()): ""}  # resolved path of what is in the set -> the link that led there
        self._noted: dict[str, dict[str, int]] = {}  # path -> files in it, if it is a folder

    def note(self, kind: str, path: str | Path, files: int = 0) -> None:
        """Records a path below the root for `notes`. For a folder, `files` is the number of files in it."""
        self._noted.setdefault(kind, {})[str(path)[self._start :]] = files

    def notes(self) -> list[str]:
        """Returns one line for each kind, such as `hidden folders, not read: 3 with 4 files (.git, ...)`."""
        return [counted_paths(kind, list(paths), sum(paths.values())) for kind, paths in self._noted.items()]

    def entries(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Lists the folders and files in a folder, sorted. Follows links to folders."""
        folders: list[Path] = []
        files: list[Path] = []
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            kind = self._kind(entry, follow=True)
            if kind is not None:
                (folders if kind == "folder" else files).append(Path(entry.path))
        return folders, files

    def files(self, folder: Path) -> list[str]:
        """Lists all files below a class folder, relative to the root. Does not follow links to folders."""
        found: list[list[str]] = []
        pending = [str(folder)]
        while pending:
            for entry in os.scandir(pending.pop()):
                kind = self._kind(entry, follow=False)
                if kind == "folder":
                    pending.append(entry.path)
                elif kind == "file":
                    found.append(entry.path[len(str(folder)) + 1 :].replace(os.sep, "/").split("/"))
        found.sort()
        start = folder.relative_to(self.root).as_posix()
        for parts in found:
            if len(parts) > 1:
                self.note(DEEPER, folder.joinpath(*parts))
        return [f"{start}/{'/'.join(parts)}" for parts in found]

    def _kind(self, entry: os.DirEntry[str], follow: bool) -> str | None:
        """Returns `folder` or `file`. For an entry that is not read, adds a note and returns None."""
        name = entry.name.lower()
        try:
            is_folder = entry.is_dir()
        except OSError as error:
            self.note_broken_link(entry.path, error)
            return None
        if name.startswith("."):
            self.note(HIDDEN_FOLDER if is_folder else HIDDEN_FILE, entry.path, _files_in(entry) if is_folder else 0)
        elif is_folder and name in SYSTEM_FOLDERS:
            self.note(SYSTEM_FOLDER, entry.path, _files_in(entry))
        # Windows records the origin of a download in NAME:Zone.Identifier.
        elif (not is_folder and name in SYSTEM_FILES) or name.endswith(":zone.identifier"):
            self.note(SYSTEM_FILE, entry.path)
        elif entry.is_symlink() and not self._is_followed(entry, is_folder, follow):
            pass
        elif is_folder:
            return "folder"
        elif entry.is_file():
            return "file"
        else:
            self.note(SPECIAL, entry.path)
        return None

    def note_broken_link(self, path: str, error: OSError | RuntimeError) -> None:
        # Before Python 3.13, Path.resolve raises RuntimeError for a loop.
        is_loop = isinstance(error, RuntimeError) or error.errno == errno.ELOOP
        self.note(LOOP if is_loop else NOWHERE, path)

    def _is_followed(self, link: os.DirEntry[str], is_folder: bool, follow: bool) -> bool:
        try:
            target = Path(link.path).resolve(strict=True)
        except (OSError, RuntimeError) as error:
            self.note_broken_link(link.path, error)
            return False
        here = Path(link.path).parent.resolve()
        if is_folder and (target == here or target in here.parents):
            self.note(LOOP, link.path)
        elif is_folder and not follow:
            self.note(LINKED_FOLDER, link.path)
        elif self._is_read_already(link, target):
            self.note(TWICE, link.path)
        else:
            self._read.setdefault(str(target), link.path)
            self.note(OUTSIDE, link.path)
            return True
        return False

    def _is_read_already(self, link: os.DirEntry[str], target: Path) -> bool:
        """Returns whether the target of a link is read already.

        The target may be in the set, or another link may lead to the target or to a folder above it.
        """
        for above in (target, *target.parents):
            if self._read.get(str(above), link.path) != link.path:
                inside = target.relative_to(above).parts
                if not any(part.startswith(".") for part in inside):  # git-annex and DVC keep the files there
                    return True
        return False


def counted_paths(kind: str, paths: list[str], files: int = 0) -> str:
    holding = f" with {counted(files, 'file')}" if files else ""
    return f"{kind}: {len(paths):,}{holding} ({one_line(min(paths))}{', ...' if len(paths) > 1 else ''})"


def are_photographs(files: list[Path]) -> list[Path]:
    """Returns the files with the suffix of a photograph. Their content is not read before the shards are written."""
    return [file for file in files if file.suffix.lower() in PHOTOGRAPHS]


def may_be_photographs(files: list[Path]) -> list[Path]:
    """Returns the files whose suffix is not one of OTHER_ENDINGS. Photographs may lack a suffix."""
    return [file for file in files if file.suffix.lower() not in OTHER_ENDINGS]


def names_in(folder: Path) -> tuple[list[str], list[Path]]:
    """Returns the sorted names of the folders in a folder, and its files. Unlike `Walk.entries`, it adds no notes."""
    folders: list[str] = []
    files: list[str] = []
    for entry in os.scandir(folder):
        name = entry.name.lower()
        if name.startswith(".") or name in SYSTEM_FOLDERS | SYSTEM_FILES:
            continue
        try:
            (folders if entry.is_dir() else files).append(entry.name)
        except OSError:  # a link in a loop
            continue
    return sorted(folders), [Path(name) for name in files]


def _files_in(folder: os.DirEntry[str]) -> int:
    return 0 if folder.is_symlink() else sum(len(files) for _, _, files in os.walk(folder.path))
