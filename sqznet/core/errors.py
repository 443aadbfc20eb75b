"""The errors that what a user gives to sqznet can cause, and the exit code of each (docs/exit_codes.md)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class InputError(ValueError):
    """Something given to sqznet is wrong: a path, a flag, a file's content. The same command fails again.

    Its text says what was expected, what came, where, and what to do. The commands print it without a traceback;
    any other exception is a bug of ours and keeps its traceback.
    """

    exit_code = 2


class CheckFailed(InputError):
    """A check has said no: a gate of an export, `--check`, `--verify`, a search for a size."""

    exit_code = 1


class TryAgain(InputError):
    """It may pass: a lost worker, a folder that another process holds, a full disk, a network that is down.

    The same command may succeed later, so a cluster may start it again.
    """

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


@contextlib.contextmanager
def checking() -> Iterator[None]:
    """Around a check that the user has asked for: whatever is found wrong is its answer, `CheckFailed`."""
    try:
        yield
    except (CheckFailed, TryAgain):
        raise
    except InputError as error:
        raise CheckFailed(str(error)) from None


class Reject(Exception):
    """A photograph cannot be used; the text says why. The name of its file is for who catches this to add."""


class NotAnImage(Reject):
    """It is no photograph of any format that is read."""
