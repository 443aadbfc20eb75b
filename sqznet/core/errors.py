"""Defines the errors that a user can cause, with their exit codes (docs/exit_codes.md)."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


class InputError(ValueError):
    """A path, a flag or the content of a file is wrong. The same command will fail again.

    The text names what was expected, what was found, where, and what to do. The commands print the text without a
    traceback. Any other exception is a bug and keeps its traceback.
    """

    exit_code = 2


class CheckFailed(InputError):
    """A check has failed: a check of an export, `--check`, `--verify`, or a size target."""

    exit_code = 1


class TryAgain(InputError):
    """A temporary failure: a lost worker, a locked folder, a full disk, no network.

    The same command may succeed later, so a cluster may restart it.
    """

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class Stopped(Exception):
    """A signal (SIGINT, SIGTERM) has stopped a training or a search. Its state is saved."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


@contextlib.contextmanager
def checking() -> Iterator[None]:
    """Turns InputError into CheckFailed, for a check that the user has requested."""
    try:
        yield
    except (CheckFailed, TryAgain):
        raise
    except InputError as error:
        raise CheckFailed(str(error)) from None


class Reject(Exception):
    """A photograph cannot be used. The text names the reason, and the caller adds the file name."""


class NotAnImage(Reject):
    """A file is not an image in a supported format."""
