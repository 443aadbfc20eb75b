"""Importing TensorFlow once, where it is needed, without its start-up notices."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from sqznet import console

_CGROUP = Path("/sys/fs/cgroup/cpu.max")  # version 2, as seen from within a container


def _allowed() -> int:
    """The cores that the operating system would run this process on; what TensorFlow counts."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores(limit: Path = _CGROUP) -> int:
    """The processor cores that this process may use: those it is let on, or a container's share of time if less.

    Args:
        limit: the file with the share, "MICROSECONDS PERIOD" or "max PERIOD".
    """
    try:
        share, period = limit.read_text().split()
        return max(1, min(_allowed(), math.ceil(int(share) / int(period))))
    except (OSError, ValueError):  # no such limit
        return _allowed()


@functools.cache
def processor_features() -> frozenset[str]:
    """Names of the instruction sets of an x86 processor, as Linux calls them; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())


def described() -> str:
    """What the processor is used with."""
    using = "oneDNN" if os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") != "0" else "no oneDNN (TF_ENABLE_ONEDNN_OPTS=0)"
    return f"{cores()} processor cores, {using}"


@contextlib.contextmanager
def _muted() -> Iterator[IO[str]]:
    """Holds back what C++ code writes to stderr; shows it only if the block fails. Yields a way round it.

    TensorFlow's first lines (oneDNN is on, no CUDA found) are written before its log level applies.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            with open(kept, "w", closefd=False) as stream:
                yield stream
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _import() -> None:
    # TensorFlow itself turns oneDNN on for the newest processors only; from AVX2 on it makes a step several times
    # faster. It reads this once, when it is imported.
    if "avx2" in processor_features():
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    import tensorflow as tf

    if cores() < _allowed():  # a container with a share of a large machine would start a thread for each of its cores
        tf.config.threading.set_intra_op_parallelism_threads(cores())
        tf.config.threading.set_inter_op_parallelism_threads(cores())
    tf.config.list_physical_devices()


def load_tensorflow() -> None:
    """Imports TensorFlow and starts its devices, quietly. Set TF_CPP_MIN_LOG_LEVEL=0 to see all it says."""
    if "tensorflow" in sys.modules:
        return
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
        return _import()
    with _muted() as stream, console.writing_to(stream), console.doing("importing TensorFlow"):
        _import()
