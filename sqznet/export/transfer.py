"""What a store or a web server sends: the size of a file once it is packed for the way."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

PACKERS = ("gzip", "brotli", "zstd")


def sizes(path: Path) -> dict[str, int]:
    """Bytes of a file, or of all files of a folder, each packed by itself at the packer's highest level."""
    parts = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    contents = [each.read_bytes() for each in parts]
    return {name: sum(len(pack(each)) for each in contents) for name, pack in _packers().items()}


def _packers() -> dict[str, Callable[[bytes], bytes]]:
    import brotli
    import zstandard

    return {
        "gzip": lambda content: gzip.compress(content, 9, mtime=0),
        "brotli": lambda content: brotli.compress(content, quality=11, lgwin=24),
        "zstd": zstandard.ZstdCompressor(level=22).compress,
    }


def in_words(packed: dict[str, int]) -> str:
    return ", ".join(f"{packed[name]:,} {name}" for name in PACKERS)
