"""Examines the older bundle in the folder of an export: which files are kept, and its state if the export fails.

An export of some files into a bundle keeps the other files if they belong to the same model and were compared on the
same records. If another file cannot be kept, the export is refused, unless --replace removes the older bundle.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqznet.core import console, files
from sqznet.core.errors import InputError
from sqznet.export import card, check, golden, readme
from sqznet.export.variants import VARIANTS

OTHERS = ("report.html", card.FILE, check.LABELS, check.MANIFEST)
OTHERS_WITH_PROGRAMS = (readme.FILE, readme.LICENCE)  # earlier versions wrote neither these nor programs
OF_EARLIER_VERSIONS = ("kotlin/ModelContract.kt", "swift/ModelContract.swift")  # which their manifests do not list
COMPILED = re.compile(r"(python/)__pycache__/([\w-]+)\.[\w.-]+\.pyc")  # Python writes them when a program runs
# `evaluate` writes them.
REPORT = re.compile(r"(evaluation|foreign)-.+\.json|(confusion|reliability|mistakes|foreign)-.+\.png")
SAME = {  # entries of the manifest that all files of a bundle share, and the words for another value
    "sqznet": "another version of sqznet",
    "model_sha256": "other weights",
    "classes": "other classes",
    "preprocessing": "another preprocessing",
    "threshold": "another --min_precision",
}
SAME_RECORDS = ("split", "n", "records_sha256")  # entries about the records that a file was compared on


@dataclass(frozen=True)
class OlderBundle:
    folder: Path
    manifest: dict[str, Any] | None  # None: there is no bundle

    @property
    def models(self) -> dict[str, dict[str, Any]]:
        """Returns the model files that exist, with their entries of the manifest."""
        listed = self.manifest["files"] if self.manifest else {}
        return {name: entry for name, entry in listed.items() if (self.folder / name).exists()}

    def __str__(self) -> str:
        """Describes the state of the folder, for the message of an export that has failed."""
        if self.manifest is None:
            missing = (
                f"there is no bundle in {self.folder}" if self.folder.is_dir() else f"{self.folder} does not exist"
            )
            return f"nothing was written, and {missing}"
        return f"nothing was written; the bundle of {self._written_at()} in {self.folder} is unchanged"

    def _written_at(self) -> str:
        written = (self.folder / check.MANIFEST).stat().st_mtime
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(written))

    def kept(
        self, new: set[str], model: dict[str, Any], compared_on: dict[str, Any], budget: int, max_drop: float
    ) -> dict[str, dict[str, Any]]:
        """Returns the model files that are kept beside the new files, with their entries of the manifest.

        Args:
            new: the names of the files that are exported now.
            model: the entries of the new manifest about the model.
            compared_on: the new manifest's entries named in SAME_RECORDS.

        Raises:
            InputError: a file cannot be kept, and no new file replaces it.
        """
        others = {name: entry for name, entry in self.models.items() if name not in new}
        wrong = {name: why for name, entry in others.items() if (why := self._why_not(name, entry, model, compared_on))}
        for name, entry in others.items():
            if name not in wrong and (entry["bytes"] > budget or entry["proof"]["drop"] > max_drop + 1e-9):
                wrong[name] = "it is over --budget or --max_drop"
        if wrong:
            first, why = next(iter(wrong.items()))
            raise InputError(
                f"{self.folder} holds files that this export neither writes nor can keep: {', '.join(wrong)} ({first}: "
                f"{why}). Give --replace to remove them with the rest of that bundle, or another folder with --out, or "
                "export them again as well"
            )
        return others

    def _why_not(
        self, name: str, entry: dict[str, Any], model: dict[str, Any], compared_on: dict[str, Any]
    ) -> str | None:
        """Returns the reason why a file cannot be in the same bundle as the files of this export, or None if it can."""
        assert self.manifest is not None
        for key, called in SAME.items():
            if self.manifest.get(key) != model.get(key):
                return f"it was exported with {called}"
        result = entry.get("proof", {})
        if any(result.get(key) != compared_on[key] for key in SAME_RECORDS):
            return f"it was compared on other records: {result.get('n')} of {result.get('split')}"
        if "ece" not in result:
            return "it was exported with an earlier version of sqznet, which did not measure its calibration error"
        if entry["quantize"] == "int8" and model["calibration"] not in (None, self.manifest["calibration"]):
            return "it was calibrated on other records"
        if files.sha256_below(self.folder / name) != entry["sha256"]:
            return "it was changed or damaged"
        return None

    def copy(self, kept: dict[str, dict[str, Any]], folder: Path) -> list[str]:
        """Copies kept files, and the reports of `evaluate` on them, to a new bundle.

        Returns:
            The names of the reports of `evaluate` that are removed.
        """
        for name in kept:
            path = self.folder / name
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, folder / name)
        removed = []
        reports = [path for path in self.folder.glob("*") if REPORT.fullmatch(path.name)] if self.manifest else []
        for path in sorted(reports):
            if any(
                f"-{name}" in path.name for name in kept
            ):  # evaluation-SPLIT-FILE.json, or with more words after FILE
                shutil.copy2(path, folder / path.name)
            else:
                removed.append(path.name)
        return removed

    def outcome(self, kept: dict[str, Any], new: set[str], reports: list[str]) -> str | None:
        """Describes which files of this bundle were kept, replaced and removed. Returns None if there was no bundle."""
        if self.manifest is None:
            return None
        replaced = [name for name in self.models if name in new]
        removed = [name for name in self.models if name not in new and name not in kept] + reports
        parts = [("kept", list(kept)), ("replaced", replaced), ("removed", removed)]
        told = "; ".join(f"{what}: {', '.join(names)}" for what, names in parts if names)
        return f"of the bundle of {self._written_at()}, {told}"


@contextlib.contextmanager
def state_on_failure(state: Callable[[], str]) -> Iterator[None]:
    """Adds to an error in the block the text of `state`, a sentence about the content of the folder."""
    try:
        yield
    except InputError as error:
        text = state()
        raise type(error)(f"{str(error).rstrip('.')}. {text[:1].upper()}{text[1:]}") from None
    except BaseException:  # a full disk, Ctrl-C
        console.say(state())
        raise


def find(out: Path) -> OlderBundle:
    """Reads the bundle at `out`.

    Raises:
        InputError: `out` contains something that no export wrote.
    """
    if not out.exists() and not out.is_symlink():
        return OlderBundle(out, None)
    manifest, foreign = None, [out]
    if out.is_dir():
        below = [path for path in sorted(out.rglob("*")) if path.is_symlink() or not path.is_dir()]
        try:
            manifest = check.load(out)
        except InputError:
            foreign = below  # the folder is no bundle
        else:
            foreign = [path for path in below if not _is_ours(path, out, manifest)]
    if foreign:
        names = ", ".join(path.name if path == out else str(path.relative_to(out)) for path in foreign[:5])
        programs = check.programs_of(manifest) if manifest else {}
        is_changed = any(path.relative_to(out).as_posix() in programs for path in foreign[:5])
        changed = ", or that were changed after it" if is_changed else ""
        raise InputError(
            f"{out} would be replaced as a whole, and it holds files that no export wrote{changed}: {names}. Move "
            "them away, or give another folder with --out"
        )
    return OlderBundle(out, manifest)


def _is_ours(file: Path, folder: Path, manifest: dict[str, Any]) -> bool:
    """Checks whether an export, or `evaluate`, wrote a file of the bundle in `folder`.

    A program that was changed after the export counts as a file of the user.
    """
    path, listed, programs = file.relative_to(folder), manifest["files"], check.programs_of(manifest)
    compiled = COMPILED.fullmatch(path.as_posix())
    if compiled:
        return f"{compiled[1]}{compiled[2]}.py" in programs
    if path.as_posix() in programs:
        return not file.is_symlink() and files.sha256_of(file) == programs[path.as_posix()]
    names = {each.file_name for each in VARIANTS} & listed.keys()
    top, below = path.parts[0], "/".join(path.parts[1:])
    if not below:
        is_folder = top in names and isinstance(listed[top]["sha256"], dict)
        others = (*OTHERS, *OTHERS_WITH_PROGRAMS) if programs else OTHERS
        is_known = top in names or top in others or REPORT.fullmatch(top) is not None
        return (is_known and not is_folder) or top.startswith(files.TEMPORARY_PREFIX)
    if top == golden.FOLDER:
        return below in golden.names(names)
    if top in names:
        hashes = listed[top]["sha256"]
        return isinstance(hashes, dict) and below in hashes
    return path.as_posix() in OF_EARLIER_VERSIONS and not programs
