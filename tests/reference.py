"""Writes docs/reference.md: every command and every flag, taken from the parsers.

python -m tests.reference
    run it after a flag, a help text or a command's docstring has changed; a test compares the page with the parsers
"""

from __future__ import annotations

import argparse
import inspect

from tests import commands

PAGE = commands.ROOT / "docs" / "reference.md"
HEAD = """\
# Reference

Every command and every flag. `python -m tests.reference` generates this page from the commands' own `--help`.

Flags are written `--name=value`, in full. Every command also has `--help` and `--version`.
[Exit codes](exit_codes.md) are the same for every command.
"""
COMMON = {"--help", "--version"}
ADDED = " (default: %(default)s)"  # by argparse.BooleanOptionalAction, up to Python 3.12


def page() -> str:
    """The whole page."""
    names = sorted(commands.MODULES, key=lambda name: (name.count("."), name))
    contents = "\n".join(f"- [{name}](#{name.replace('.', '')}): {first_line(name)}" for name in names)
    return "\n".join([HEAD, contents, *(section(name) for name in names)])


def first_line(command: str) -> str:
    return (commands.parser_of(command).description or "").strip().splitlines()[0]


def section(command: str) -> str:
    """One command: its heading, its docstring, and a table of its flags for each group of them."""
    parser = commands.parser_of(command)
    parts = [f"\n## {command}\n", f"```text\n{inspect.cleandoc(parser.description or '')}\n```\n"]
    for group in parser._action_groups:
        actions = [each for each in group._group_actions if not COMMON & set(each.option_strings)]
        if actions:
            known = group.title in ("options", "positional arguments")
            parts += [] if known else [f"### {command}: {group.title}\n"]
            parts += [f"{sentence(group.description)}\n"] if group.description else []
            parts += ["| flag | values | default | what it does |", "| --- | --- | --- | --- |"]
            parts += [*(row(parser, action) for action in actions), ""]
    return "\n".join(parts).rstrip("\n") + "\n"


def row(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    flags = ", ".join(f"`{each}`" for each in action.option_strings) or f"`{action.metavar or action.dest}`"
    cells = (flags, values(action), default(action), text(parser, action))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def values(action: argparse.Action) -> str:
    """The values that a flag takes, where the parser lists them."""
    listed = action.choices or str(action.metavar if isinstance(action.metavar, str) else "").split("|")
    return ", ".join(f"`{value}`" for value in listed) if len(list(listed)) > 1 else ""


def default(action: argparse.Action) -> str:
    """The default, where it is a value and the help text does not state one."""
    stated = "default" in (action.help or "").replace(ADDED, "")
    if stated or action.default is None or action.default is False or action.default == argparse.SUPPRESS:
        return ""
    return "yes" if action.default is True else f"`{action.default}`"


def text(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    return " ".join(((action.help or "").replace(ADDED, "") % {**vars(action), "prog": parser.prog}).split())


def sentence(words: str) -> str:
    """As a sentence of its own."""
    return words[0].upper() + words[1:] + ("" if words.endswith(".") else ".")


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"{PAGE.relative_to(commands.ROOT)} is written")
