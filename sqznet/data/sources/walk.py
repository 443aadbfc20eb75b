"""What of a folder is photographs. The rest, such as thumbnails of a file manager and links that lead nowhere, is not
read, but counted, and told of with an example.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from sqznet.core.console import counted
from sqznet.data.sources.listing import shown

# Of file managers, network storage, archives and notebooks; compared in lower case, as are files.
SYSTEM_FOLDERS = {
    "@eadir",
    "@recycle",
    "@recently-snapshot",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "__macosx",
    "__pycache__",
    "lost+found",
    "system volume information",
}
SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "icon\r"}
PHOTOGRAPHS = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm",
    ".heic", ".heif",
}  # fmt: skip

# Files that hold no photograph, whatever is in them. A file without an ending may be one.
OTHER_ENDINGS = {
    ".txt", ".xml", ".json", ".jsonl", ".mat", ".csv", ".tsv", ".yaml", ".yml", ".md", ".html", ".pdf", ".npy", ".npz",
    ".pkl", ".h5", ".cache", ".db", ".zip", ".tar", ".gz", ".py", ".ipynb", ".sh", ".log",
}  # fmt: skip

# Kinds of what is told of: singular, plural.
HIDDEN_FOLDER = ("hidden folder was not read", "hidden folders were not read")
HIDDEN_FILE = ("hidden file was not read", "hidden files were not read")
SYSTEM_FOLDER = (
    "folder of thumbnails or of the system was not read",
    "folders of thumbnails or of the system were not read",
)
SYSTEM_FILE = ("file of the system was not read", "files of the system were not read")
NOWHERE = ("link leads nowhere", "links lead nowhere")
LOOP = (
    "link leads back to a folder above it or to itself, and was not followed",
    "links lead back to folders above them or to themselves, and were not followed",
)
TWICE = (
    "link leads to what the set has already and was not read, or a photograph would be there twice",
    "links lead to what the set has already and were not read, or photographs would be there twice",
)
LINKED_FOLDER = (
    "linked folder inside a class was not read (put its photographs there themselves)",
    "linked folders inside classes were not read (put their photographs there themselves)",
)
OUTSIDE = ("link leads out of the folder and was read", "links lead out of the folder and were read")
SPECIAL = ("device or pipe was not read", "devices or pipes were not read")
ANNOTATION = ("file of annotations was not read", "files of annotations were not read")
LOOSE = (
    "photograph lies beside the class folders and was not read",
    "photographs lie beside the class folders and were not read",
)
OTHER = ("other file lies beside the class folders", "other files lie beside the class folders")
DEEPER = (
    "file lies deeper than <class>/*; it is of the class whose folder it is in",
    "files lie deeper than <class>/*; they are of the class whose folder they are in",
)

Kind = tuple[str, str]


class Walk:
    """Reads folders below a root, and keeps what is to be told of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._start = len(str(root)) + 1  # of what a path has below the root
        self._read = {str(root.resolve()): ""}  # what is in the set, without links; by which link it came
        self._told: dict[Kind, dict[str, int]] = {}  # path to the files in it, where it is a folder

    def tell(self, kind: Kind, path: str | Path, files: int = 0) -> None:
        """Notes a path below the root, once; of a folder, with the number of files in it."""
        self._told.setdefault(kind, {})[str(path)[self._start :]] = files

    def notes(self) -> list[str]:
        """A line for each kind: how many, and the first."""
        notes = []
        for kind, paths in self._told.items():
            inside = sum(paths.values())
            holding = f", with {counted(inside, 'file')}" if inside else ""
            notes.append(f"{counted(len(paths), *kind)}{holding}, {_first(paths)}")
        return notes

    def entries(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Folders and files in a folder, sorted; links to folders are followed."""
        folders: list[Path] = []
        files: list[Path] = []
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            kind = self._kind(entry, follow=True)
            if kind is not None:
                (folders if kind == "folder" else files).append(Path(entry.path))
        return folders, files

    def files(self, folder: Path) -> list[str]:
        """All files below a class's folder, relative to the root; links to folders are not followed."""
        found: list[list[str]] = []
        above = [str(folder)]
        while above:
            for entry in os.scandir(above.pop()):
                kind = self._kind(entry, follow=False)
                if kind == "folder":
                    above.append(entry.path)
                elif kind == "file":
                    found.append(entry.path[len(str(folder)) + 1 :].replace(os.sep, "/").split("/"))
        found.sort()
        start = folder.relative_to(self.root).as_posix()
        for parts in found:
            if len(parts) > 1:
                self.tell(DEEPER, folder.joinpath(*parts))
        return [f"{start}/{'/'.join(parts)}" for parts in found]

    def _kind(self, entry: os.DirEntry[str], follow: bool) -> str | None:
        """`folder` or `file`; None, and told of, for what is not read."""
        name = entry.name.lower()
        try:
            is_folder = entry.is_dir()
        except OSError as error:  # of a loop
            self.tell(LOOP if error.errno == errno.ELOOP else NOWHERE, entry.path)
            return None
        if name.startswith(".") or name in (SYSTEM_FOLDERS if is_folder else SYSTEM_FILES):
            hidden = name.startswith(".")
            if is_folder:
                self.tell(HIDDEN_FOLDER if hidden else SYSTEM_FOLDER, entry.path, _files_in(entry))
            else:
                self.tell(HIDDEN_FILE if hidden else SYSTEM_FILE, entry.path)
            return None
        if name.endswith(":zone.identifier"):  # Windows notes where a file was downloaded from
            self.tell(SYSTEM_FILE, entry.path)
            return None
        if entry.is_symlink() and not self._is_followed(entry, is_folder, follow):
            return None
        if is_folder:
            return "folder"
        if not entry.is_file():
            self.tell(SPECIAL, entry.path)
            return None
        return "file"

    def _is_followed(self, link: os.DirEntry[str], is_folder: bool, follow: bool) -> bool:
        try:
            target = Path(link.path).resolve(strict=True)
        except RuntimeError:  # of a loop, before Python 3.13
            self.tell(LOOP, link.path)
            return False
        except OSError as error:
            self.tell(LOOP if error.errno == errno.ELOOP else NOWHERE, link.path)
            return False
        here = Path(link.path).parent.resolve()
        if is_folder and (target == here or target in here.parents):
            self.tell(LOOP, link.path)
            return False
        if is_folder and not follow:
            self.tell(LINKED_FOLDER, link.path)
            return False
        if self._is_read_already(link, target):
            self.tell(TWICE, link.path)
            return False
        self._read.setdefault(str(target), link.path)
        self.tell(OUTSIDE, link.path)
        return True

    def _is_read_already(self, link: os.DirEntry[str], target: Path) -> bool:
        """Whether the target is in the set by itself, or by another link to it or to a folder above it."""
        for above in (target, *target.parents):
            if self._read.get(str(above), link.path) != link.path:
                inside = target.relative_to(above).parts
                if not any(
                    part.startswith(".") for part in inside
                ):  # git-annex and DVC keep the files themselves there
                    return True
        return False


def are_photographs(files: list[Path]) -> list[Path]:
    """Those that are photographs by their ending; a file's content is not looked at before it is packed."""
    return [file for file in files if file.suffix.lower() in PHOTOGRAPHS]


def may_be_photographs(files: list[Path]) -> list[Path]:
    """Those that no ending speaks against: photographs need no ending at all."""
    return [file for file in files if file.suffix.lower() not in OTHER_ENDINGS]


def names_in(folder: Path) -> tuple[list[str], list[Path]]:
    """The names of the folders in a folder, sorted, and its files, for a look that tells of nothing."""
    folders: list[str] = []
    files: list[Path] = []
    for entry in os.scandir(folder):
        try:
            is_folder = entry.is_dir()
        except OSError:  # of a loop
            continue
        name = entry.name.lower()
        if name.startswith(".") or name in SYSTEM_FOLDERS or name in SYSTEM_FILES:
            continue
        if is_folder:
            folders.append(entry.name)
        else:
            files.append(Path(entry.name))
    return sorted(folders), files


def _first(paths: dict[str, int]) -> str:
    first = min(paths)
    return ("namely " if len(paths) == 1 else "the first of them ") + shown(first)


def _files_in(folder: os.DirEntry[str]) -> int:
    if folder.is_symlink():
        return 0
    return sum(len(files) for _, _, files in os.walk(folder.path))
