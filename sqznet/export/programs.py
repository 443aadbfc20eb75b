"""Copies the programs of a bundle: they prepare a photograph, run a model file, and test themselves on the device.

The sources are the kits of this package for Android, iOS and Python (`kits/`), and the JavaScript of the web page that
its self-test imports. `constants.py` writes the manifest as constants beside them.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

from sqznet.core import files
from sqznet.export import constants

KITS = {"kotlin": "android", "swift": "ios", "python": "python"}  # folder of a bundle: folder in kits/
JAVASCRIPT = "javascript"
# The self-test, which imports the decoding, the resize and the runtimes, and the drawing of class maps.
_FIRST_MODULES = ("golden.js", "class_map.js")
_PACKAGES = "package.json"  # the versions of the runtimes
_IMPORT = re.compile(r"""["']\./([\w-]+\.js)["']""")
_OUTER_LINK = re.compile(r"\[([^\]]+)\]\(\.\.[^)]*\)")  # to a file of sqznet that a bundle does not contain


def write(folder: Path, manifest: dict[str, Any], golden: dict[str, Any]) -> dict[str, str]:
    """Writes the programs below `folder`. The same package and manifest give the same bytes.

    Args:
        manifest: the content of manifest.json.
        golden: the content of golden.json.

    Returns:
        The sha256 of each file, by its path below the folder, with slashes.
    """
    contents = sources()
    contents["kotlin/ModelContract.kt"] = constants.kotlin(manifest, golden).encode()
    contents["swift/ModelContract.swift"] = constants.swift(manifest, golden).encode()
    for name, content in contents.items():
        files.write_bytes(folder / name, content)
    return {name: files.sha256_of(folder / name) for name in sorted(contents)}


def sources() -> dict[str, bytes]:
    """Returns the files that are the same in every bundle, by their paths in it."""
    found = {}
    for folder, kit in KITS.items():
        for source in resources.files("sqznet").joinpath(f"export/kits/{kit}").iterdir():
            if source.is_file():
                found[f"{folder}/{source.name}"] = source.read_bytes()
    for name in (_PACKAGES, *_modules()):
        found[f"{JAVASCRIPT}/{name}"] = _of_page(name)
    readable = {name: content.decode() for name, content in found.items() if name.endswith(".md")}
    return found | {name: _OUTER_LINK.sub(r"\1", text).encode() for name, text in readable.items()}


def _modules() -> list[str]:
    """Returns the first modules and all modules that they import."""
    found = [*_FIRST_MODULES]
    for name in found:  # grows
        found += [each for each in _IMPORT.findall(_of_page(name).decode()) if each not in found]
    return found


def _of_page(name: str) -> bytes:
    return resources.files("sqznet").joinpath(f"serve/web/{name}").read_bytes()
