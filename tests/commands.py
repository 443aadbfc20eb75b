"""The commands of the package, found in its files, so that a new one is tested without being listed."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def _find() -> dict[str, str]:
    found = {}
    for path in sorted((ROOT / "sqznet").rglob("*.py")):
        if "def make_parser(" in path.read_text():
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[module.removesuffix(".__main__")] = module
    return found


MODULES = _find()  # of each command, by what follows `python -m`


def parser_of(command: str) -> argparse.ArgumentParser:
    return importlib.import_module(MODULES[command]).make_parser()
