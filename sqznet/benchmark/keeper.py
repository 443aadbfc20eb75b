"""Ends contestants whose race has ended without them: killed, it can no longer do so itself.

  python -m sqznet.benchmark.keeper 4711 4712
      waits for the end of its standard input, then kills these process groups

Stopped contestants cannot notice that their parent has gone; this process is never stopped.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main() -> None:
    sys.stdin.buffer.read()  # the race holds the other end, and never writes to it
    for group in map(int, sys.argv[1:]):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
