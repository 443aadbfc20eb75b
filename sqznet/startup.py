"""Importing TensorFlow once, where it is needed, without its start-up notices."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")  # the groups that this process is in, one line a hierarchy


def _allowed() -> int:
    """The cores that the operating system would run this process on; what TensorFlow counts."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores(groups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """The processor cores that this process may use: those it is let on, or its share of their time if less.

    A share is set for a control group, by a container's runtime, systemd or Slurm. The groups above limit it too.

    Args:
        groups: where the control groups are mounted, of version 1 or 2.
        membership: the file with the groups of this process.
    """
    shares = [share for group in _groups(groups, membership) if (share := _share(group)) is not None]
    return max(1, min([_allowed(), *map(math.ceil, shares)]))


def threads() -> int | None:
    """How many threads a runtime should start; None where it may decide: it counts the machine's cores."""
    count = cores()
    return count if count < (os.cpu_count() or 1) else None


def _groups(mounted: Path, membership: Path) -> Iterator[Path]:
    """The folders of this process's groups and of all groups above them."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        # Version 2 has no controllers here. Beside version 1 it is mounted as `unified`.
        names = ["", "unified"] if not controllers else [controllers, "cpu"] if "cpu" in controllers.split(",") else []
        # In a container the path may be that of the host, of which nothing but the group itself is mounted, as root.
        own = PurePosixPath("/", path.replace("/..", ""))
        for name, group in itertools.product(names, [own, *own.parents]):
            yield mounted / name / group.relative_to("/")


def _share(group: Path) -> float | None:
    """The cores' worth of time that a group has; None where it has no limit."""
    try:
        if (group / "cpu.max").is_file():  # version 2: "MICROSECONDS PERIOD" or "max PERIOD"
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{each}_us").read_text() for each in ("quota", "period"))
        share = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return share if share > 0 else None  # version 1 says -1 for no limit


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
def _muted() -> Iterator[None]:
    """Holds back what C++ code writes to stderr; shows it only if the block fails.

    TensorFlow's first lines (oneDNN is on, no CUDA found) are written before its log level applies.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
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
    with _muted():
        _import()
