"""The parser and the types of flags that all commands share. Errors are printed without tracebacks."""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import itertools
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from sqznet.core import console, files
from sqznet.core.errors import InputError, TryAgain
from sqznet.core.version import __version__

EXIT_CODES = """\
exit codes: 0 done; 1 a check failed, or a bug in sqznet; 2 wrong usage or input; 75 temporary
failure: try again later; 128 + N ended by signal N (130 is Ctrl-C). See docs/exit_codes.md."""


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        """Returns the help text of a flag. Adds the default if it is a value and the text does not name it."""
        text = action.help or ""
        hidden = action.default is None or action.default is False or "default" in text
        return text if hidden else super()._get_help_string(action)


class _Parser(argparse.ArgumentParser):
    _given: Sequence[str] = ()

    def parse_args(self, args=None, namespace=None):
        self._given = sys.argv[1:] if args is None else list(args)
        return super().parse_args(args, namespace)

    def _unknown_flag(self) -> str | None:
        """Describes the first unknown flag, with the nearest existing flag. Returns None if all flags exist."""
        for word in itertools.takewhile(lambda word: word != "--", self._given):
            flag = word.partition("=")[0]
            if re.fullmatch(r"--\w+", flag) and flag not in self._option_string_actions:
                near = difflib.get_close_matches(flag, self._option_string_actions, n=1)
                return f"unknown flag {flag}" + (f"; did you mean {near[0]}?" if near else "")
        return None

    def format_help(self) -> str:
        return console.as_typed(super().format_help())

    def error(self, message: str) -> NoReturn:
        """Raises InputError, so that a wrong flag prints one line.

        By default, argparse prints the usage of all flags. An unknown flag is named before a missing flag, because it
        is often a misspelling of the missing flag.
        """
        if message.startswith(("the following arguments are required", "unrecognized arguments")):
            message = self._unknown_flag() or message
        raise InputError(f"{message} (see {self.prog} --help)") from None


def parser(module: str, doc: str | None) -> argparse.ArgumentParser:
    """Returns a parser. Its --help prints the module's docstring, then the flags with their defaults.

    Flags must be given in full: a prefix that is unique today could be ambiguous after a flag is added.
    `parse_args` raises InputError for a wrong flag or value.
    """
    made = _Parser(
        prog=console.command(module), description=doc, epilog=EXIT_CODES, formatter_class=_Help, allow_abbrev=False
    )
    made.add_argument("--version", action="version", version=f"sqznet {__version__}")
    return made


def _number(kind: type, expected: str, fits: Callable[[Any], bool]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (abs(value) < math.inf and fits(value)):
            raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")
        return value

    return parse


# Types of flags, for `add_argument(type=...)`. NaN and infinity, which `float` takes, are refused.
integer = _number(int, "a whole number", lambda _: True)
whole = _number(int, "a whole number of 0 or more", lambda value: value >= 0)
positive = _number(int, "a whole number of 1 or more", lambda value: value >= 1)
finite = _number(float, "a finite number", lambda _: True)
share = _number(float, "a number of at least 0 and below 1", lambda value: 0 <= value < 1)
non_negative = _number(float, "a number of 0 or more", lambda value: value >= 0)


def within(low: float, high: float, kind: type = float) -> Callable[[str], Any]:
    """Returns the type of a flag that takes a number from `low` to `high`, both included."""
    return _number(kind, f"a {'whole ' if kind is int else ''}number from {low} to {high}", lambda x: low <= x <= high)


def positives(text: str) -> tuple[int, ...]:
    """Parses the value of a flag that takes different whole numbers of 1 or more: `1,2,4` is (1, 2, 4)."""
    numbers = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
    if min(numbers) < 1 or len(set(numbers)) != len(numbers):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of different whole numbers of 1 or more, such as 1 or 1,2,4"
        )
    return tuple(numbers)


def address(text: str) -> tuple[str, int]:
    """Parses the value of a flag that takes `host:port`."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not host:port, such as 127.0.0.1:8123")
    return host, int(port)


def run(main: Callable[[], int | None]) -> NoReturn:
    """Runs a command's `main` and exits with its result. For an error, prints one line and exits with its code."""
    if os.getpid() == 1:  # in a container: the kernel drops signals without a handler for process 1
        signal.signal(signal.SIGTERM, _end)
    try:
        with console.heartbeat():
            sys.exit(main())
    except KeyboardInterrupt:
        console.say("interrupted")
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        # The reader of the output has ended (`| head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + 13)  # SIGPIPE, which does not exist on Windows
    except Exception as error:
        explained = _explained(error)
        if explained is None:
            raise
        console.say(f"error: {console.as_typed(str(explained))}")
        sys.exit(explained.exit_code)


def _end(number: int, _frame: object) -> NoReturn:
    console.say(f"ended by {signal.Signals(number).name}")
    sys.exit(128 + number)


def _explained(error: Exception) -> InputError | None:
    """Returns an InputError for an error that the user or the machine has caused, or None for a bug."""
    if isinstance(error, InputError):
        return error
    if isinstance(error, ModuleNotFoundError):
        return _missing_package(error)
    failed = files.write_failure(error)
    if failed is not None:
        return files.refusal(failed)
    # By name: TensorFlow may not be imported.
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        said = f" ({str(error).splitlines()[0][:200]})" if str(error) else ""
        return TryAgain(
            f"out of memory{said}; end other programs, or give a smaller --global_batch_size or --image_size where the "
            "command has them"
        )
    return None


def _missing_package(error: ModuleNotFoundError) -> InputError | None:
    name = (error.name or "").partition(".")[0]
    if not name or name == "sqznet" or importlib.util.find_spec(name):
        return None
    return InputError(
        f"this command needs the package {name}, which a minimal install lacks: pip install sqznet-{__version__}-*.whl"
    )
