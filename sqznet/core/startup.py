"""Importing TensorFlow once, where it is needed, without its start-up notices."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import math
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TextIO

from sqznet.core import console

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
    """What the processor is used with. Imports TensorFlow."""
    using = "oneDNN"
    if not has_onednn():
        using = "no oneDNN"
        if "avx2" in processor_features():  # where a step takes about half as long with it
            using += " (TensorFlow was imported without it: set TF_ENABLE_ONEDNN_OPTS=1 before the start)"
    count = cores()
    return f"{count} processor {'core' if count == 1 else 'cores'}, {using}"


@functools.cache
def has_onednn() -> bool:
    """Whether TensorFlow computes with oneDNN: what it makes of a convolution.

    The variable TF_ENABLE_ONEDNN_OPTS does not tell. TensorFlow reads it once, perhaps before it was set, and decides
    by the processor where it is not set.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    options, ran = v1.RunOptions(output_partition_graphs=True), v1.RunMetadata()
    with tf.Graph().as_default():
        image = v1.placeholder(tf.float32, [1, 8, 8, 4])
        convolved = tf.nn.conv2d(image, tf.ones([3, 3, 4, 4]), 1, "SAME")
        with v1.Session(config=v1.ConfigProto(device_count={"GPU": 0})) as session:
            session.run(convolved, {image: [[[[0.0] * 4] * 8] * 8]}, options=options, run_metadata=ran)
    return any("Mkl" in node.op for graph in ran.partition_graphs for node in graph.node)


# Lines of the runtimes' C++ code that tell a user nothing: information, warnings, and absl's heading of them.
_NOTICE = re.compile(
    rb"\s*$|INFO: |WARNING: All log messages before absl|[IW]\d{4} \d\d:\d\d|\d{4}-\d\d-\d\d \S+ ?\S*: [IW] "
)


@contextlib.contextmanager
def quiet(*, everything: bool = False) -> Iterator[None]:
    """Holds back notices that C++ code writes to file descriptor 2; anything else it writes there is shown at the end.

    LiteRT has no log level in Python, and TensorFlow's first lines come before its own applies. What Python writes to
    sys.stderr in the block, such as a progress bar, is shown at once. With TF_CPP_MIN_LOG_LEVEL=0 all is shown.

    Args:
        everything: hold back errors too, if the block succeeds: TensorFlow starts with some about missing GPUs.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    kept, python, logging_off = os.dup(2), sys.stderr, logging.root.manager.disable
    with _scratch() as held:
        lines = []
        try:
            if _is_descriptor_2(python):
                python.flush()
                sys.stderr = _beside(python)
            os.dup2(held.fileno(), 2)
            logging.disable(max(logging_off, logging.WARNING))  # of TensorFlow's Python code
            yield
            held.seek(0)
            lines = [] if everything else [line for line in held if not _NOTICE.match(line)]
        except BaseException:
            held.seek(0)
            lines = list(held)
            raise
        finally:
            logging.disable(logging_off)
            os.dup2(kept, 2)
            os.close(kept)
            if sys.stderr is not python:
                sys.stderr.flush()
                sys.stderr = python
            os.write(2, b"".join(lines))


_stream: TextIO | None = None


def _beside(stderr: TextIO) -> TextIO:
    """A stream to where descriptor 2 leads now, whatever that is led to next.

    There is one in a process and it is never closed: what is imported in a quiet block may keep sys.stderr, as the
    handlers of loggers do.
    """
    global _stream
    if _stream is None:
        _stream = os.fdopen(os.dup(2), "w", 1, stderr.encoding, stderr.errors)
    else:
        os.dup2(2, _stream.fileno(), inheritable=False)
    return _stream


def _scratch() -> BinaryIO:
    """A file for a moment; in memory where the system has that, so that it needs no room on a disk."""
    return os.fdopen(os.memfd_create("stderr"), "w+b") if sys.platform == "linux" else tempfile.TemporaryFile()


def _is_descriptor_2(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.fileno() == 2
    except (OSError, ValueError):  # a notebook's, or a test's
        return False


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
    with quiet(everything=True), console.doing("importing TensorFlow"):
        _import()
