"""Prints the output of the commands: lines, tables, progress bars.

Progress and notes go to stderr, results to stdout.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import shlex
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from sqznet.core import notebook

POLL_SECONDS = 0.2  # seconds between two updates of a progress bar
HEARTBEAT_SECONDS = 8.0  # seconds between two progress lines if no bar can be drawn
_WIDEST = 100_000  # characters of a line


def _console(to_stderr: bool) -> Console:
    stream = sys.stderr if to_stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper):  # `\xe9` for a character that the locale lacks, not an error
        stream.reconfigure(errors="backslashreplace")
    # Tables are not cut to the terminal's width. Progress bars are cut, in a log file to 160 columns.
    width = _WIDEST if not to_stderr else None if stream.isatty() else 160
    # Names of files and classes may contain `[old]` or `:smile:`, which are not markup. Jupyter marks lines on stderr
    # as errors, so notes go to stdout in a notebook, as plain text.
    return Console(
        stderr=to_stderr and not notebook.is_running(), force_jupyter=False, width=width,
        markup=False, emoji=False, highlight=False, soft_wrap=True,
    )  # fmt: skip


_out = _console(to_stderr=False)
_err = _console(to_stderr=True)


_verbose = True
_log: Path | None = None
_last_output = time.monotonic()  # time of the last line or table
_activity = "starting"  # the last line, for the heartbeat
_short = False  # whether the user types `sqznet train`, not `python -m sqznet.train`
_bars: list[Any] = []  # visible progress bars, which print their own progress lines


@contextlib.contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Appends all lines of the block, with the time, to a file as well."""
    global _log
    path.parent.mkdir(parents=True, exist_ok=True)
    before, _log = _log, path
    try:
        yield
    finally:
        _log = before


def set_verbose(verbose: bool) -> None:
    """Turns the lines and bars of progress on or off. Results and the log file of a run are always written."""
    global _verbose
    _verbose = verbose


def say(text: str) -> None:
    """Prints a line of progress or a note to stderr, in a notebook to stdout."""
    if _verbose:
        _err.print(printable(text))
    _log_line(printable(text))
    _note_output(text)


def result(text: str) -> None:
    """Prints a line of results to stdout."""
    _out.print(printable(text))
    _log_line(printable(text))
    _note_output(text)


def _note_output(text: str) -> None:
    """Restarts the time to the next heartbeat line."""
    global _last_output, _activity
    _last_output, _activity = time.monotonic(), text.strip().partition("\n")[0][:100]


@contextlib.contextmanager
def heartbeat() -> Iterator[None]:
    """Prints a line if the command prints nothing for HEARTBEAT_SECONDS during the block."""
    global _last_output
    _last_output = started = time.monotonic()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(POLL_SECONDS):
            if not _bars and time.monotonic() - _last_output >= HEARTBEAT_SECONDS:
                said = _activity
                _err.print(printable(f"still at work after {time.monotonic() - started:.0f} s: {said}"))
                _note_output(said)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def stop_heartbeat() -> None:
    """Stops the heartbeat lines, because the command waits for other processes."""
    global _last_output
    _last_output = math.inf


def printable(text: str, keep: str = "\n\t") -> str:
    """Returns a text without control characters and without bytes that are not UTF-8. File names may contain both.

    These become escapes such as `\\xe9`. The control characters in `keep` stay.
    """
    return "".join(each if each in keep else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # from `os.fsdecode`, for a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    if unicodedata.category(character) in ("Cc", "Cs"):
        return character.encode("unicode_escape").decode()
    return character


def _log_line(text: str) -> None:
    if _log is not None:
        # A log that cannot be written, as on a full disk, must not end the command.
        with contextlib.suppress(OSError), _log.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """Prints a table. A column is aligned right if its first cell is a number."""
    _print_table(_out, columns, rows, title)
    _note_output(f"after the table {title}" if title else "after a table")


def table_text(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> str:
    """Returns the text that `table` prints."""
    text = io.StringIO()
    _print_table(
        Console(file=text, force_jupyter=False, markup=False, emoji=False, highlight=False, width=_WIDEST),
        columns,
        rows,
        title,
    )
    return text.getvalue().rstrip()


def _print_table(out: Console, columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None) -> None:
    rows = [[printable(str(cell)) for cell in row] for row in rows]
    drawn = Table()
    for index, column in enumerate(columns):
        first = rows[0][index] if rows else ""
        numeric = first.lstrip("-").replace(",", "").replace(".", "").replace(" %", "").replace("e-", "").isdigit()
        drawn.add_column(printable(str(column)), justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        drawn.add_row(*row)
    if title is not None:  # rich would wrap a table's own title to its width
        out.print(Text(printable(title), style="table.title"))
    out.print(drawn)


class _Speed(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {self.unit}", style="progress.data.speed")


class _Description(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(printable(task.description, keep=""))


class ProgressBars(Progress):
    """Progress bars. A notebook shows one line, which is replaced; a log file gets a line every HEARTBEAT_SECONDS."""

    def __init__(self, *columns: ProgressColumn, watch: Callable[[], None] | None = None, transient: bool = False):
        """
        Args:
            watch: called several times a second in another thread, to update the bars.
            transient: whether the bars disappear at the end.
        """
        self._in_notebook = _verbose and notebook.is_running()
        self._keeps_line = not transient
        self._line: notebook.Line | None = None
        hidden = self._in_notebook or not _verbose or (transient and not _err.is_interactive)
        # Without a bar, `track` counts only if there is no automatic refresh.
        super().__init__(
            *columns, console=_err, speed_estimate_period=30, transient=transient, disable=hidden,
            auto_refresh=not self._in_notebook,
        )  # fmt: skip
        self._watch = watch
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        super().start()
        self._ended.clear()
        _bars.append(self)
        if self._in_notebook:
            self._line = notebook.Line()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread:
            self._ended.set()
            self._thread.join()
            self._thread = None
            _bars.remove(self)
            if self._line:
                self._line.show(self._summary() if self._keeps_line else "")
            if not self.disable:  # else nothing was printed
                _note_output(self.tasks[-1].description if self.tasks else "")
        super().stop()

    def _follow(self) -> None:
        began = time.monotonic()
        while not self._ended.wait(POLL_SECONDS):
            if self._watch:
                self._watch()
            now = time.monotonic()
            if self._line:
                self._line.show(self._summary())
            elif _verbose and not _err.is_interactive and now - _last_output >= HEARTBEAT_SECONDS:
                for task in self.tasks:
                    count = "" if task.total is None else f", {task.completed:,.0f} of {task.total:,.0f}"
                    _err.print(printable(f"{task.description}{count}; {now - began:.0f} s so far", keep=""))
                    _note_output(task.description)

    def _summary(self) -> str:
        """Returns the newest task as a line: what is done, how much, and how long it has taken."""
        if not self.tasks:
            return ""
        task = self.tasks[-1]
        count = "" if task.total is None else f" {task.completed:,.0f} of {task.total:,.0f};"
        return printable(f"{task.description}:{count} {task.elapsed or 0:.0f} s", keep="")


def progress(unit: str, watch: Callable[[], None] | None = None, transient: bool = False) -> Progress:
    """Returns a progress bar with the speed in `unit`, the elapsed and the remaining time. Use it in a `with`.

    The arguments are those of `ProgressBars`.
    """
    return ProgressBars(
        _Description(),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        _Speed(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        watch=watch,
        transient=transient,
    )


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """Prints what the block does, with the elapsed time. Use it for work of unknown length."""
    if _verbose and not _err.is_interactive and not notebook.is_running():
        _err.print(printable(what))
    _note_output(what)
    columns = SpinnerColumn("line"), _Description(), TimeElapsedColumn()
    with ProgressBars(*columns, transient=True) as bar:
        bar.add_task(what, total=None)
        yield


def percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """Returns a number with its noun: `1 photograph`, `1,281,167 photographs`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def command(module: str, *arguments: str) -> str:
    """Returns a command line for the user to copy, quoted for the shell."""
    return as_typed(shlex.join(["python", "-m", module, *arguments]))


def name_commands_short() -> None:
    """Makes `as_typed` write `sqznet train`, because the user has started this command so."""
    global _short
    _short = True


def as_typed(text: str) -> str:
    """Returns a text with the commands in the form that the user types: `python -m sqznet.train` or `sqznet train`."""
    return re.sub(r"\bpython -m sqznet\.(\w+)\b(?!\.\w)", r"sqznet \1", text) if _short else text


def next_step(module: str, *arguments: str) -> None:
    """Prints the command that a user is likely to need next."""
    say(f"next: {command(module, *arguments)}")
