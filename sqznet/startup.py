"""Importing TensorFlow once, where it is needed, without its start-up notices."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def load_tensorflow() -> None:
    """Imports TensorFlow and starts its devices, quietly. Set TF_CPP_MIN_LOG_LEVEL=0 to see all it says."""
    if "tensorflow" in sys.modules:
        return
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
        return
    with _muted():
        import tensorflow as tf

        tf.config.list_physical_devices()
