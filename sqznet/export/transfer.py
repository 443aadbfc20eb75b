"""Computes download sizes: the bytes of a file after the compression of app stores and web servers."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import brotli
import zstandard

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {  # each at its highest level
    "gzip": lambda content: gzip.compress(content, 9, mtime=0),
    "brotli": lambda content: brotli.compress(content, quality=11, lgwin=24),
    "zstd": lambda content: zstandard.ZstdCompressor(level=22).compress(content),
}


def compressed_sizes(path: Path) -> dict[str, int]:
    """Returns the compressed bytes of a file, or of all files of a folder, each file compressed separately."""
    parts = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    contents = [each.read_bytes() for each in parts]
    return {name: sum(len(compress(each)) for each in contents) for name, compress in COMPRESSORS.items()}
