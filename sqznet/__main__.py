"""The console command: `sqznet train ...` is `python -m sqznet.train ...`.

Imports only what it uses: `sqznet --help` prints in less than 0.2 s.
"""

from __future__ import annotations

import difflib
import importlib
import os
import runpy
import sys
from pathlib import Path
from typing import Any

from sqznet import __version__

# In the order of the work.
COMMANDS = {
    "data": "convert photographs to the shards that all commands read",
    "weights": "download and convert published weights",
    "train": "train a network, from random or from published weights",
    "tune": "search for the settings of a recipe",
    "launch": "train with several processes on this machine",
    "runs": "list and compare training runs",
    "evaluate": "measure the accuracy of a model",
    "predict": "classify photographs",
    "export": "write verified files for phones and browsers",
    "compress": "write a .sqz file of a given size or accuracy",
    "benchmark": "measure the speed of an exported file",
    "serve": "classify photographs on a web page",
}

HELP = """\
usage: sqznet COMMAND [FLAGS]

sqznet trains SqueezeNet and exports it for phones. `sqznet COMMAND --help` lists the flags of a command.

{commands}

flags:
  --help     print this list
  --version  print the version
"""


def main() -> int:
    """Runs the command that the first word names, or lists the commands. Returns the exit code."""
    if "_ARGCOMPLETE" in os.environ:
        _complete()
    word, flags = (sys.argv[1:2] or ["--help"])[0], sys.argv[2:]
    if word in COMMANDS:
        return _run(word, flags)
    if word in ("--help", "-h"):
        listed = "\n".join(f"  {name:11}{line}" for name, line in COMMANDS.items())
        print(HELP.format(commands=listed), end="")
        return 0
    if word == "--version":
        print(f"sqznet {__version__}")
        return 0
    return _refuse(word)


def _run(name: str, flags: list[str]) -> int:
    """Runs a command as `python -m` does. It ends with `sys.exit`."""
    if Path(sys.argv[0]).stem == "sqznet":  # not for `python -m sqznet train`: `sqznet` may not be on the PATH
        from sqznet.core import console

        console.name_commands_short()
    sys.argv[1:] = flags
    # As `__main__`, so that processes which the command starts with `multiprocessing` import the command's module.
    runpy.run_module(f"sqznet.{name}", run_name="__main__", alter_sys=True)
    return 0


def _complete() -> None:
    """Answers the shell, which asks for completions through argcomplete. Ends the process."""
    import argparse

    import argcomplete

    parser = argparse.ArgumentParser(prog="sqznet")
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers()
    typed = os.environ.get("COMP_LINE", "").split()[1:2]
    for name, line in COMMANDS.items():
        # The flags of one command only: the import of all commands takes seconds.
        parents = [importlib.import_module(f"sqznet.{name}.__main__").make_parser()] if [name] == typed else []
        subparser = subparsers.add_parser(name, help=line, parents=parents, add_help=not parents)
        for action in subparser._actions:
            if isinstance(action.metavar, str) and "|" in action.metavar:  # of a recipe's fields: `v1.0|v1.1`
                choices: Any = action.metavar.split("|")
                setattr(action, "completer", argcomplete.ChoicesCompleter(choices))  # noqa: B010
    argcomplete.autocomplete(parser)


def _refuse(word: str) -> int:
    near = difflib.get_close_matches(word, COMMANDS, n=1)
    remedy = f"; did you mean {near[0]}?" if near else ""
    print(f"error: there is no command {word!r}{remedy} (see sqznet --help)", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
