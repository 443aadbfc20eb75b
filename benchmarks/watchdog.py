"""Kills the workloads of a benchmark that was killed and can no longer do so itself.

  python -m benchmarks.watchdog 4711 4712
      waits for the end of its standard input, then kills these process groups

The benchmark holds the other end of that input. Stopped workloads cannot notice that it has gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main() -> None:
    sys.stdin.buffer.read()  # the benchmark never writes to it
    for group in map(int, sys.argv[1:]):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
