"""What every command does alike: flags in the absl manner, errors without tracebacks, quiet TensorFlow."""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from sqznet import __version__, console, files
from sqznet.errors import InputError, TryAgain
from sqznet.preprocessing import INTERPOLATIONS, RESIZES, Preprocessing

GEOMETRY = ("resize", "resize_to", "interpolation", "antialias")  # fields of Preprocessing that are flags

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


def add_geometry(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say how photographs are made to fit, where the model's own way is wrong for them."""
    group = parser.add_argument_group(
        "how photographs are scaled and cut",
        "each overrides what the model asks for; pictures that are cropped already are not cropped again with "
        "--resize=squash and --resize_to=SIDE of the model's input, such as 227",
    )
    group.add_argument(
        "--resize", choices=RESIZES, help="scale the short side to resize_to, or squash both sides to it"
    )
    group.add_argument("--resize_to", type=int, help="side to scale to before the central square is cut out, in pixels")
    group.add_argument("--interpolation", choices=INTERPOLATIONS, help="how photographs are scaled")
    group.add_argument(
        "--antialias", action=argparse.BooleanOptionalAction, help="average pixels that fall together in scaling down"
    )


def geometry(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of Preprocessing that flags of `add_geometry` have set."""
    given = {name: getattr(args, name) for name in GEOMETRY}
    return {name: value for name, value in given.items() if value is not None}


def fitted(preprocessing: Preprocessing, given: dict[str, Any]) -> Preprocessing:
    """A model's preprocessing with the fields that `geometry` has found.

    Raises:
        InputError: they do not go together.
    """
    resize_to, size = given.get("resize_to"), preprocessing.image_size
    if resize_to is not None and resize_to < size:
        raise InputError(
            f"--resize_to={resize_to} is too small: the model sees {size} x {size} pixels, cut out of the scaled "
            f"photograph; give --resize_to={size} or more"
        )
    return dataclasses.replace(preprocessing, **given)


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
