"""Imports TensorFlow without its start-up messages, and limits its threads to the cores of this process."""

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

from sqznet.core import console, processor

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")  # the control groups of this process, one line for each hierarchy


def _allowed() -> int:
    """Returns the number of cores in the CPU affinity of this process. TensorFlow starts a thread for each core."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores(groups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Returns the number of cores that this process may use: its CPU affinity, or its CPU quota if that is lower.

    A container runtime, systemd or Slurm sets a quota for a control group. The parent groups limit it too.

    Args:
        groups: mount point of the control groups, version 1 or 2.
        membership: the file that lists the groups of this process.
    """
    shares = [share for group in _groups(groups, membership) if (share := _share(group)) is not None]
    return max(1, min([_allowed(), *map(math.ceil, shares)]))


def threads() -> int | None:
    """Returns the number of threads for a runtime. None means the runtime's default: all cores of the machine."""
    count = cores()
    return count if count < (os.cpu_count() or 1) else None


def _groups(mounted: Path, membership: Path) -> Iterator[Path]:
    """Yields the folders of the control groups of this process and of all parent groups."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        # Version 2 names no controllers here. If version 1 is there too, version 2 is mounted as `unified`.
        names = ["", "unified"] if not controllers else [controllers, "cpu"] if "cpu" in controllers.split(",") else []
        # In a container the path may be the host's path, while only the group itself is mounted, as the root.
        own = PurePosixPath("/", path.replace("/..", ""))
        for name, group in itertools.product(names, [own, *own.parents]):
            yield mounted / name / group.relative_to("/")


def _share(group: Path) -> float | None:
    """Returns the CPU quota of a group, in cores, or None if the group has no quota."""
    try:
        if (group / "cpu.max").is_file():  # version 2: "MICROSECONDS PERIOD" or "max PERIOD"
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{each}_us").read_text() for each in ("quota", "period"))
        share = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return share if share > 0 else None  # version 1 has -1 for no limit


def described() -> str:
    """Describes the processor: cores, and whether TensorFlow uses oneDNN. Imports TensorFlow."""
    using = "oneDNN"
    if not has_onednn():
        using = "no oneDNN"
        if "avx2" in processor.features():  # with oneDNN a step takes about half as long there
            using += (
                " (TensorFlow was imported without it: import sqznet before tensorflow, or set TF_ENABLE_ONEDNN_OPTS=1)"
            )
    count = cores()
    return f"{count} processor {'core' if count == 1 else 'cores'}, {using}"


@functools.cache
def has_onednn() -> bool:
    """Runs a convolution to find out whether TensorFlow computes convolutions with oneDNN.

    The variable TF_ENABLE_ONEDNN_OPTS is not enough: TensorFlow reads it once, at the import, and has a default that
    depends on the processor.
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


# Log lines of the runtimes' C++ code that are no errors.
_NOTICE = re.compile(
    rb"\s*$|INFO: |WARNING: All log messages before absl|[IW]\d{4} \d\d:\d\d|\d{4}-\d\d-\d\d \S+ ?\S*: [IW] "
)


@contextlib.contextmanager
def quiet(*, everything: bool = False) -> Iterator[None]:
    """Filters information and warnings that C++ code writes to file descriptor 2. Prints its errors after the block.

    LiteRT has no log level in Python, and TensorFlow's first lines come before its log level applies. What Python
    writes to sys.stderr, such as a progress bar, is printed at once. TF_CPP_MIN_LOG_LEVEL=0 turns the filter off.

    Args:
        everything: filter errors too, unless the block fails. TensorFlow prints errors about missing GPUs when it
            starts.
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
    """Returns a stream to the target that descriptor 2 has before it is redirected.

    A process has one such stream, which is never closed: modules imported in a quiet block may keep sys.stderr, as
    loggers do.
    """
    global _stream
    if _stream is None:
        _stream = os.fdopen(os.dup(2), "w", 1, stderr.encoding, stderr.errors)
    else:
        os.dup2(2, _stream.fileno(), inheritable=False)
    return _stream


def _scratch() -> BinaryIO:
    """Opens a temporary file. On Linux it is in memory, so that it works on a full disk."""
    return os.fdopen(os.memfd_create("stderr"), "w+b") if sys.platform == "linux" else tempfile.TemporaryFile()


def _is_descriptor_2(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.fileno() == 2
    except (OSError, ValueError):  # the stream of a notebook or of a test
        return False


def _import() -> None:
    import tensorflow as tf

    if tf.get_logger().level == logging.INFO:  # TensorFlow sets it in a notebook, where it prints every strategy
        tf.get_logger().setLevel(logging.WARNING)
    if cores() < _allowed():  # else a container would start a thread for each core of the machine
        tf.config.threading.set_intra_op_parallelism_threads(cores())
        tf.config.threading.set_inter_op_parallelism_threads(cores())
    tf.config.list_physical_devices()


def load_tensorflow() -> None:
    """Imports TensorFlow and initialises its devices without messages. TF_CPP_MIN_LOG_LEVEL=0 shows the messages."""
    if "tensorflow" in sys.modules:
        return
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
        return _import()
    with quiet(everything=True), console.doing("importing TensorFlow"):
        _import()
