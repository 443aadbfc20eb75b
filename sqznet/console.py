"""What the commands show: lines, tables, progress bars. Progress and notes go to stderr, results to stdout."""

from __future__ import annotations

import contextlib
import sys
import time
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text


def _console(to_stderr: bool) -> Console:
    # Tables and bars cut to the 80 columns assumed of a log file would lose what they are for.
    terminal = (sys.stderr if to_stderr else sys.stdout).isatty()
    return Console(stderr=to_stderr, highlight=False, soft_wrap=True, width=None if terminal else 160)


_out = _console(to_stderr=False)
_err = _console(to_stderr=True)


_log: Path | None = None


def log_to(path: Path) -> None:
    """From now on, lines are also added to a file, with the time."""
    global _log
    path.parent.mkdir(parents=True, exist_ok=True)
    _log = path


def say(text: str) -> None:
    """A line about what is being done."""
    _err.print(printable(text), markup=False)
    _keep(printable(text))


def result(text: str) -> None:
    """A line of what the command was asked for."""
    _out.print(printable(text), markup=False)
    _keep(printable(text))


def printable(text: str, keep: str = "\n\t") -> str:
    """A text that every terminal and file takes: file names may hold bytes that are not UTF-8, and control characters.

    Such a byte becomes `\\xe9`, as Python writes it; the control characters of `keep` stay.
    """
    return "".join(each if each in keep else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # what `os.fsdecode` makes of a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    if unicodedata.category(character) in ("Cc", "Cs"):
        return character.encode("unicode_escape").decode()
    return character


def _keep(text: str) -> None:
    if _log is not None:
        # A log that cannot be written (a full disk) must not end what it tells of.
        with contextlib.suppress(OSError), _log.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """A table; numbers to the right, words to the left, as their first row decides."""
    rows = [[printable(str(cell)) for cell in row] for row in rows]
    drawn = Table(title=None if title is None else printable(title), title_justify="left")
    for index, column in enumerate(columns):
        first = rows[0][index] if rows else ""
        numeric = first.lstrip("-").replace(",", "").replace(".", "").replace(" %", "").replace("e-", "").isdigit()
        drawn.add_column(column, justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    # Wider than a narrow terminal rather than cut: a table is read, copied and compared.
    _out.print(drawn, width=max(_out.width, 160))


class _Speed(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {self.unit}", style="progress.data.speed")


def progress(unit: str) -> Progress:
    """A progress bar with the speed in `unit`, the time taken and the time left; use it in a `with`."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        _Speed(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=_err,
        speed_estimate_period=30,
    )


def percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"
