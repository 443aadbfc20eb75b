"""What every command does alike: flags in the absl manner, errors without tracebacks, quiet TensorFlow."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from sqznet import __version__
from sqznet.core import console, files
from sqznet.core.errors import InputError, TryAgain

EXIT_CODES = """\
exit codes: 0 done; 1 a check said no, or a fault of sqznet; 2 wrong usage or input; 75 temporary
failure: try again later; 128 + N ended by signal N (130 is Ctrl-C). docs/exit_codes.md has them all."""


def parser(module: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser whose --help is the module's docstring, then the flags with their defaults.

    Flags are `--name=value`, in full (no abbreviations: a later flag would change what they mean).
    """

    class Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
        def _get_help_string(self, action: argparse.Action) -> str | None:
            # Only a default that is a value says something, and only once.
            text = action.help or ""
            says_nothing = action.default is None or action.default is False or "default" in text
            return text if says_nothing else super()._get_help_string(action)

    made = argparse.ArgumentParser(
        prog=f"python -m {module}", description=doc, epilog=EXIT_CODES, formatter_class=Help, allow_abbrev=False
    )
    made.add_argument("--version", action="version", version=f"sqznet {__version__}")
    return made


def finite(text: str) -> float:
    """The type of a flag that takes a number: `float` takes "nan" and "inf" as well, which no range keeps out."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return value


def run(main: Callable[[], int | None]) -> NoReturn:
    """Runs a command's `main` and exits with what it returns, or with one line of error and the error's own code."""
    if os.getpid() == 1:  # of a container: the kernel drops a signal that process 1 has no handler for
        signal.signal(signal.SIGTERM, _end)
    try:
        with console.keep_awake():
            sys.exit(main())
    except KeyboardInterrupt:
        console.say("interrupted")
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        # The reader of our output went away (`| head`); not worth a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + 13)  # SIGPIPE, which Windows does not name
    except Exception as error:
        explained = _explained(error)
        if explained is None:
            raise
        console.say(f"error: {explained}")
        sys.exit(explained.exit_code)


def _end(number: int, _frame: object) -> NoReturn:
    console.say(f"ended by {signal.Signals(number).name}")
    sys.exit(128 + number)


def _explained(error: Exception) -> InputError | None:
    """What an error says that the user or the machine caused; None of a bug of ours."""
    if isinstance(error, InputError):
        return error
    failed = files.why_not_written(error)
    if failed is not None:
        return files.refusal(failed)
    # By name, because TensorFlow may not have been imported.
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        said = f" ({str(error).splitlines()[0][:200]})" if str(error) else ""
        return TryAgain(
            f"out of memory{said}; end other programs, or give a smaller --global_batch_size or --image_size where the "
            "command has them"
        )
    return None
