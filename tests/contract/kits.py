"""Compiles and runs the Kotlin and Swift kits with substitutes for Android's and Apple's classes.

What decodes a photograph is the phone's own, and is not here: jobs begin with straight RGBA pixels in sRGB.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sqznet.export import constants

HERE = Path(__file__).parent
EXPORT = HERE.parents[1] / "sqznet" / "export" / "kits"
KOTLIN_COMPILER = "kotlin-compiler@2.4.20"  # of npm
SWIFT_MODULES = ("CoreGraphics", "CryptoKit", "ImageIO", "TensorFlowLite", "UIKit")
# All but MediaPipe's, which has no arithmetic of its own.
KOTLIN_SOURCES = ("Backends.kt", "ClassMap.kt", "Classifier.kt", "Resize.kt", "ResizeCheck.kt", "SelfTest.kt")


class MissingError(Exception):
    """A program is missing on this machine; the text names it."""


class CannotHaveError(MissingError):
    """No package registry has it."""


class Kit:
    """A compiled kit.

    Args:
        command: runs it; the path of the jobs is put behind.
        folder: for its files.
    """

    def __init__(self, command: list[str], folder: Path):
        self.command, self.folder = command, folder

    def run(self, jobs: list[list[Any]]) -> None:
        """Runs jobs; see tests/contract/kotlin/Run.kt for their fields."""
        lines = "".join("\t".join(map(str, job)) + "\n" for job in jobs)
        (self.folder / "jobs.txt").write_text(lines)
        done = subprocess.run([*self.command, self.folder / "jobs.txt"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def network_pixels(self, photographs: list[np.ndarray], size: int, *more: str) -> list[np.ndarray]:
        """The network's input for straight RGBA pixels, uint8 (height, width, 4): uint8 (size, size, 3) each."""
        jobs = []
        for number, rgba in enumerate(photographs):
            before, after = self.folder / f"{number}.rgba", self.folder / f"{number}.rgb"
            rgba.tofile(before)
            jobs.append(["photo", before, after, rgba.shape[1], rgba.shape[0], *more])
        self.run(jobs)
        return [np.fromfile(job[2], np.uint8).reshape(size, size, 3) for job in jobs]


def kotlin(manifest: dict[str, Any], folder: Path) -> Kit:
    """The Android kit with the contract of a manifest.

    Raises:
        MissingError: no Java, and no compiler that npm can get.
    """
    if not shutil.which("java"):
        raise MissingError("needs java")
    (folder / "ModelContract.kt").write_text(constants.kotlin(manifest))
    sources = [EXPORT / "android" / name for name in KOTLIN_SOURCES]
    program = folder / "kit.jar"
    _run(
        [_kotlinc(folder), *sources, folder / "ModelContract.kt", *sorted(HERE.glob("kotlin/*.kt"))],
        ["-Werror", "-include-runtime", "-d", program],
    )
    return Kit(["java", "-cp", str(program), "sqznet.check.RunKt"], folder)


def swift(manifest: dict[str, Any], folder: Path) -> Kit:
    """The iOS kit with the contract of a manifest.

    Raises:
        CannotHaveError: no Swift compiler.
    """
    if not shutil.which("swiftc"):
        raise CannotHaveError("needs swiftc")
    (folder / "ModelContract.swift").write_text(constants.swift(manifest))
    for module in SWIFT_MODULES:
        options = [
            "-emit-module",
            "-emit-library",
            "-static",
            "-parse-as-library",
            "-module-name",
            module,
            "-I",
            folder,
        ]
        where = ["-emit-module-path", folder / f"{module}.swiftmodule", "-o", folder / f"lib{module}.a"]
        _run(["swiftc", HERE / "swift" / f"{module}.swift"], [*options, *where])
    sources = [*sorted(EXPORT.glob("ios/*.swift")), folder / "ModelContract.swift", HERE / "swift" / "main.swift"]
    libraries = [f"-l{module}" for module in SWIFT_MODULES]
    _run(
        ["swiftc", *sources],
        ["-O", "-warnings-as-errors", "-I", folder, "-L", folder, *libraries, "-o", folder / "kit"],
    )
    return Kit([str(folder / "kit")], folder)


KITS: dict[str, Callable[[dict[str, Any], Path], Kit]] = {"kotlin": kotlin, "swift": swift}


def _kotlinc(folder: Path) -> str:
    found = shutil.which("kotlinc")
    if found:
        return found
    if not shutil.which("npm"):
        raise MissingError(f"needs kotlinc, or npm, which gets {KOTLIN_COMPILER}")
    command = ["npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "--ignore-scripts", KOTLIN_COMPILER]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise MissingError(f"npm does not get {KOTLIN_COMPILER}: {done.stderr.strip()[-300:]}")
    (compiler,) = folder.glob("node_modules/kotlin-compiler/bin/kotlinc")
    compiler.chmod(0o755)
    return str(compiler)


def _run(command: list[Any], options: list[Any]) -> None:
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    assert done.returncode == 0, f"{command[0]} refuses the kit:\n{done.stdout}{done.stderr}"
