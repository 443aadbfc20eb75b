"""Runs commands in child processes. A child ends when its parent process ends, even if the parent is killed.

`start` runs this module, and this module runs the command. The parent holds the write end of the child's standard input
and never writes to this pipe. The system closes the pipe when the parent ends, also after a SIGKILL. Then the child
sends itself SIGTERM. After SIGTERM, a training saves its state and ends.

A child has its own process group, so Ctrl-C reaches only the parent. The parent forwards Ctrl-C once. A training that
gets a second signal ends at once, without saving.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any


def start(module: str, flags: list[str], **options: Any) -> subprocess.Popen:
    """Starts `python -m MODULE FLAGS` as a child. `options` are the options of Popen."""
    if os.name == "posix":
        if sys.version_info >= (3, 11):  # on Python 3.10, the child makes the group itself
            options["process_group"] = 0
    else:
        options["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP  # type: ignore[attr-defined]
    command = [sys.executable, "-m", "sqznet.core.child", module, *flags]
    return subprocess.Popen(command, stdin=subprocess.PIPE, **options)


@contextlib.contextmanager
def forwarding_signals(processes: list[subprocess.Popen]) -> Iterator[list[int]]:
    """Forwards SIGINT and SIGTERM as SIGTERM to the running processes of the list. The block may add processes.

    Yields:
        The received signals. Check this list after you start a process, because a signal may have come just before.
    """
    asked: list[int] = []

    def pass_on(number: int, _frame: object) -> None:
        asked.append(number)
        for process in processes:
            if process.poll() is None:
                process.terminate()

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_with_parent() -> None:
    while os.read(0, 1024):  # b"" when the other end is closed
        pass
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):
        if stat.S_ISFIFO(os.fstat(output).st_mode):  # a pipe to the parent: writing to it would end the process
            os.dup2(nowhere, output)
    if os.name == "posix":
        main_thread = threading.main_thread().ident
        assert main_thread is not None
        signal.pthread_kill(main_thread, signal.SIGTERM)  # a signal to this thread would not interrupt the main thread
    else:
        signal.raise_signal(signal.SIGTERM)


def main() -> None:
    if os.name == "posix" and sys.version_info < (3, 11):
        os.setpgid(0, 0)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    module = sys.argv[1]
    sys.argv = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
