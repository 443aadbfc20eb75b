"""Writes shards in several processes.

This module does not import TensorFlow, because each process configures TensorFlow.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from sqznet.core import console, startup
from sqznet.core.errors import TryAgain
from sqznet.data.shard_plan import BuildOptions, PlannedShard
from sqznet.data.sources import Source


def write(
    source: Source,
    planned: list[PlannedShard],
    folder: Path,
    options: BuildOptions,
    workers: int,
    done: Callable[[PlannedShard], None],
) -> None:
    """Writes the shards in `workers` processes. One worker means this process. Calls `done` after each shard."""
    if workers <= 1 or len(planned) <= 1:
        for shard in planned:
            write_shard(source, folder, options, shard)
            done(shard)
        return
    with processes(min(workers, len(planned))) as pool:
        with _main_hidden():
            futures = {pool.submit(write_shard, source, folder, options, shard): shard for shard in planned}
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
                done(futures[future])
        except BrokenProcessPool:
            raise TryAgain(
                "a worker process was killed, perhaps because the memory was full; the finished shards stay: run the "
                f"same command again, after a lack of memory with fewer --workers than {workers}"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def processes(workers: int) -> concurrent.futures.ProcessPoolExecutor:
    """Starts processes that print nothing and end with this process."""
    context = multiprocessing.get_context("spawn")  # forking a process that runs TensorFlow may hang
    return concurrent.futures.ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)


@contextlib.contextmanager
def _main_hidden() -> Iterator[None]:
    """Keeps the processes that start in the block from importing the main module.

    They would run the user's script again if it calls `sqznet.build_shards` without `if __name__ == "__main__"`.
    """
    main = vars(sys.modules["__main__"])
    hidden: dict[str, Any] = {name: main[name] for name in ("__spec__", "__file__") if name in main}
    main["__spec__"], _ = None, main.pop("__file__", None)
    try:
        yield
    finally:
        main.update(hidden)


def write_shard(source: Source, folder: Path, options: BuildOptions, shard: PlannedShard) -> None:
    startup.load_tensorflow()  # before `shards` imports it
    from sqznet.data import shards

    shards.write(source, shard, folder, options)


def _start_worker() -> None:
    """Starts a thread that ends the worker when its parent process has ended. The parent alone shows progress."""
    console.set_verbose(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
