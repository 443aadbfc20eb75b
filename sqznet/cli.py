"""What every command does alike: flags in the absl manner, errors without tracebacks, quiet TensorFlow."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from sqznet import __version__, console, files
from sqznet.errors import InputError


def parser(module: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser whose --help is the module's docstring, then the flags with their defaults.

    Flags are `--name=value`, in full (no abbreviations: a later flag would change what they mean).
    """

    class Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
        pass

    made = argparse.ArgumentParser(
        prog=f"python -m {module}", description=doc, formatter_class=Help, allow_abbrev=False
    )
    made.add_argument("--version", action="version", version=f"sqznet {__version__}")
    return made


def run(main: Callable[[], int | None]) -> NoReturn:
    """Runs a command's `main` and exits: 0, or 1 with one line of error, or 130 when interrupted."""
    try:
        sys.exit(main())
    except InputError as error:
        console.say(f"error: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        console.say("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away (`| head`); not worth a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        failed = files.why_not_written(error)
        if failed is None:
            raise
        console.say(f"error: {files.in_words(failed)}")
        sys.exit(1)
