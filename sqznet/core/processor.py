"""Reads the features of the processor, and chooses oneDNN before TensorFlow is imported. Standard library only."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path


@functools.cache
def features() -> frozenset[str]:
    """Returns Linux's names of the instruction sets of an x86 processor. The set is empty on other systems."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            # Only the first processor is read: the kernel takes a while to list all processors of a large machine.
            return frozenset(next((line for line in lines if line.startswith("flags")), "").split())
    except OSError:
        return frozenset()


def prefer_onednn() -> None:
    """Makes TensorFlow compute with oneDNN if the processor has AVX2 and the user has not chosen otherwise.

    TensorFlow uses oneDNN by default on the newest processors only, but oneDNN makes a training step up to twice as
    fast on all with AVX2. TensorFlow reads the variable once, when it is imported, so a later call has no effect.
    """
    if "tensorflow" not in sys.modules and "avx2" in features():
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
