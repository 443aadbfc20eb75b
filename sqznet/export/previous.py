"""The bundle that is in a folder before an export: what of it stays, and what stands there if the export fails.

An export of some files into the bundle of others keeps the others, if they are of the same model and were proved on the
same records. If another file cannot be kept, the export is refused, unless it was told to remove the old bundle.
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
from sqznet.export import check, golden
from sqznet.export.variants import VARIANTS

OTHERS = ("report.html", "MODEL_CARD.md", check.LABELS, check.MANIFEST)
OTHERS_BELOW = ("kotlin/ModelContract.kt", "swift/ModelContract.swift")
REPORT = re.compile(r"evaluation-.+\.json|confusion-.+\.png")  # what `evaluate` leaves beside a model
SAME = {  # of the manifest, what files of one bundle have in common, and what it is called
    "sqznet": "another version of sqznet",
    "model_sha256": "other weights",
    "classes": "other classes",
    "preprocessing": "another preprocessing",
}
SAME_RECORDS = ("split", "n", "records_sha256")  # of a file's proof


@dataclass(frozen=True)
class Standing:
    """A bundle that is there, or the lack of one."""

    folder: Path
    manifest: dict[str, Any] | None  # None: there is no bundle

    @property
    def models(self) -> dict[str, dict[str, Any]]:
        """The model files that are there, with what the manifest says of each."""
        listed = self.manifest["files"] if self.manifest else {}
        return {name: entry for name, entry in listed.items() if (self.folder / name).exists()}

    def __str__(self) -> str:
        """What is there, for the message of an export that has failed."""
        if self.manifest is None:
            missing = (
                f"there is no bundle in {self.folder}" if self.folder.is_dir() else f"{self.folder} does not exist"
            )
            return f"nothing was written, and {missing}"
        return f"nothing was written; the bundle of {self._written_at()} in {self.folder} stands as it was"

    def _written_at(self) -> str:
        written = (self.folder / check.MANIFEST).stat().st_mtime
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(written))

    def kept(self, new: set[str], wanted: dict[str, Any], budget: int, max_drop: float) -> dict[str, dict[str, Any]]:
        """The model files that stay beside the new ones, with their entries of the manifest.

        Args:
            new: the names of the files that are exported now.
            wanted: the new manifest, as far as it is known before the export, and under "proof" what SAME_RECORDS
                names.

        Raises:
            InputError: a file can neither be kept nor is it replaced by a new one of its name.
        """
        others = {name: entry for name, entry in self.models.items() if name not in new}
        wrong = {name: why for name, entry in others.items() if (why := self._why_not(name, entry, wanted))}
        for name, entry in others.items():
            if name not in wrong and (entry["bytes"] > budget or entry["proof"]["drop"] > max_drop + 1e-9):
                wrong[name] = "it does not hold to --budget and --max_drop"
        if wrong:
            first, why = next(iter(wrong.items()))
            raise InputError(
                f"{self.folder} holds files that this export neither writes nor can keep: {', '.join(wrong)} ({first}: "
                f"{why}). Give --replace to remove them with the rest of that bundle, or another folder with --out, or "
                "export them again as well"
            )
        return others

    def _why_not(self, name: str, entry: dict[str, Any], wanted: dict[str, Any]) -> str | None:
        """Why a file cannot be in the same bundle as those of this export."""
        assert self.manifest is not None
        for key, called in SAME.items():
            if self.manifest.get(key) != wanted[key]:
                return f"it was exported with {called}"
        proof = entry.get("proof", {})
        if any(proof.get(key) != wanted["proof"][key] for key in SAME_RECORDS) or "changed_answers" not in proof:
            return f"it was compared on other records: {proof.get('n')} of {proof.get('split')}"
        if entry["quantize"] == "int8" and wanted["calibration"] not in (None, self.manifest["calibration"]):
            return "its steps were found on other records"
        if files.sha256_below(self.folder / name) != entry["sha256"]:
            return "it was changed or damaged"
        return None

    def copy(self, kept: dict[str, dict[str, Any]], folder: Path) -> list[str]:
        """Copies kept files, and what `evaluate` has said of them, to a new bundle.

        Returns:
            Names of all else that goes: model files and reports of `evaluate`.
        """
        for name in kept:
            path = self.folder / name
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, folder / name)
        gone = []
        reports = [path for path in self.folder.glob("*") if REPORT.fullmatch(path.name)] if self.manifest else []
        for path in sorted(reports):
            # evaluation-SPLIT-FILE.json, and more words after FILE
            if any(f"-{name}" in path.name for name in kept):
                shutil.copy2(path, folder / path.name)
            else:
                gone.append(path.name)
        return gone

    def outcome(self, kept: dict[str, Any], new: set[str], gone: list[str]) -> str | None:
        """What became of this bundle in an export, in words; None where there was none."""
        if self.manifest is None:
            return None
        replaced = [name for name in self.models if name in new]
        removed = [name for name in self.models if name not in new and name not in kept] + gone
        parts = [("kept", list(kept)), ("replaced", replaced), ("removed", removed)]
        told = "; ".join(f"{what}: {', '.join(names)}" for what, names in parts if names)
        return f"of the bundle of {self._written_at()}, {told}"


@contextlib.contextmanager
def said_on_failure(stands: Callable[[], str]) -> Iterator[None]:
    """An error in the block also says what `stands` then."""
    try:
        yield
    except InputError as error:
        said = stands()
        raise type(error)(f"{str(error).rstrip('.')}. {said[:1].upper()}{said[1:]}") from None
    except BaseException:  # a full disk, Ctrl-C
        console.say(stands())
        raise


def find(out: Path) -> Standing:
    """What is at `out`.

    Raises:
        InputError: something there was not written by an export.
    """
    if not out.exists() and not out.is_symlink():
        return Standing(out, None)
    manifest, strangers = None, [out]
    if out.is_dir():
        below = [path for path in sorted(out.rglob("*")) if path.is_symlink() or not path.is_dir()]
        try:
            manifest = check.load(out)
        except InputError:
            strangers = below  # of a folder that is no bundle, everything
        else:
            strangers = [path for path in below if not _is_ours(path.relative_to(out), manifest["files"])]
    if strangers:
        names = ", ".join(path.name if path == out else str(path.relative_to(out)) for path in strangers[:5])
        raise InputError(
            f"{out} would be replaced as a whole, and it holds what no export wrote: {names}. Move that away, or give "
            "another folder with --out"
        )
    return Standing(out, manifest)


def _is_ours(path: Path, listed: dict[str, dict[str, Any]]) -> bool:
    """Whether a file of a bundle is an export's, or `evaluate`'s report on one.

    Args:
        path: within the bundle.
        listed: what the manifest says of its model files.
    """
    names = {each.file_name for each in VARIANTS} & listed.keys()
    top, below = path.parts[0], "/".join(path.parts[1:])
    if not below:
        is_folder = top in names and isinstance(listed[top]["sha256"], dict)
        is_known = top in names or top in OTHERS or REPORT.fullmatch(top) is not None
        return (is_known and not is_folder) or top.startswith(files.TEMPORARY_PREFIX)
    if top == golden.FOLDER:
        return below in golden.names(names)
    if top in names:
        hashes = listed[top]["sha256"]
        return isinstance(hashes, dict) and below in hashes
    return path.as_posix() in OTHERS_BELOW
