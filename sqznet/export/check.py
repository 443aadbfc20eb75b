"""Checks a bundle against its manifest: bytes, checksums, labels, programs, operators, and the golden self-tests."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from sqznet.core import console, files
from sqznet.core.errors import CheckFailed, InputError, checking
from sqznet.export import audit, golden
from sqznet.network import labels, metadata
from sqznet.network.exported import BUNDLE_MANIFEST as MANIFEST

LABELS = "labels.txt"


def load(folder: Path) -> dict[str, Any]:
    """Reads manifest.json of a bundle.

    Raises:
        InputError: there is no manifest.json, or it is not from this version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"{folder} is not an exported bundle: it has no {MANIFEST}")
    try:
        content = json.loads(path.read_text())
        _check_form(content)
        return content
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}: {error}); export again") from None


def _check_form(content: dict[str, Any]) -> None:
    """Raises one of the errors that `load` catches if a value that is used later has another type."""
    if not content["files"]:
        raise ValueError("no model files")
    for name, entry in content["files"].items():
        if Path(name).name != name or name in ("", ".", ".."):
            raise ValueError(f"a file outside the folder: {name!r}")
        if entry["quantize"] not in golden.SELF_TEST_TOLERANCES or not isinstance(entry["bytes"], int):
            raise ValueError(f"{name}: quantize {entry['quantize']!r}, bytes {entry['bytes']!r}")
        if not isinstance(entry["sha256"], str | dict) or not 0 < entry["output"]["scale"] <= 1:
            raise ValueError(f"{name}: no sha256, or the output's scale is {entry['output']['scale']!r}")
    if not all(isinstance(name, str) for name in content["classes"]) or not isinstance(content["classes"], list):
        raise ValueError("classes are not names")
    if not isinstance(content["labels"]["sha256"], str):
        raise ValueError("labels have no sha256")
    for name, sha256 in programs_of(content).items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not isinstance(sha256, str):
            raise ValueError(f"a program outside the folder, or without sha256: {name!r}")


def programs_of(manifest: dict[str, Any]) -> dict[str, str]:
    """Returns the sha256 of each program by its path in the bundle. Bundles of earlier versions list no programs."""
    return manifest.get("programs", {})


def check(folder: Path) -> list[tuple[str, int, float]]:
    """Checks a whole bundle.

    Returns:
        (file, bytes, largest difference from its golden vectors) of each model file.

    Raises:
        InputError: the folder is no bundle.
        CheckFailed: a file is missing, was changed, or gives other outputs than at the export.
    """
    content = load(folder)
    results = []
    with checking(), console.progress("files/s") as bar:
        names = _check_labels(folder, content)
        for name, sha256 in programs_of(content).items():
            if not (folder / name).is_file():
                raise CheckFailed(f"{folder / name} is missing")
            _check_sha256(folder / name, files.sha256_of(folder / name), sha256)
        for name, entry in bar.track(content["files"].items(), description="checking the files"):
            path = folder / name
            if not path.exists():
                raise CheckFailed(f"{path} is missing")
            size = files.size_of(path)
            if size != entry["bytes"]:
                raise CheckFailed(f"{path} has {size:,} bytes, and {MANIFEST} says {entry['bytes']:,}")
            _check_sha256(path, files.sha256_below(path), entry["sha256"])
            audit.check(path, entry["quantize"])
            if path.suffix == ".tflite" and metadata.labels_of(path) != names:
                raise CheckFailed(f"the labels inside {path} are not those of {LABELS}")
            results.append((name, size, golden.check(folder, name, entry)))
    return results


def print_results(folder: Path) -> None:
    """Checks a bundle and prints its files as a table."""
    rows = [[name, f"{size:,}", f"{difference:.1e}"] for name, size, difference in check(folder)]
    console.table(["file", "bytes", "golden difference"], rows, title=str(folder))
    console.result(f"{folder} is verified: it is the same as at its export")


def _check_labels(folder: Path, content: dict[str, Any]) -> tuple[str, ...]:
    """Returns the lines of labels.txt. Checks that they are the manifest's classes in the same order."""
    path = folder / LABELS
    names = tuple(path.read_bytes().decode(errors="replace").split("\n")[:-1]) if path.is_file() else ()
    expected = labels.readable(content["classes"])
    if len(names) != len(expected):
        raise CheckFailed(f"{path} has {len(names)} lines, and {MANIFEST} has {len(expected)} classes")
    for index, (found, wanted) in enumerate(zip(names, expected, strict=True)):
        if found != wanted:
            raise CheckFailed(f"{path}, line {index + 1}: {found!r}, and class {index} of {MANIFEST} is {wanted!r}")
    _check_sha256(path, files.sha256_of(path), content["labels"]["sha256"])
    return names


def _check_sha256(path: Path, found: str | dict[str, str], wanted: str | dict[str, str]) -> None:
    if found != wanted:
        raise CheckFailed(f"{path} does not have the sha256 of {MANIFEST}: it was changed or damaged")
