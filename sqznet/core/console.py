"""What the commands show: lines, tables, progress bars. Progress and notes go to stderr, results to stdout."""

from __future__ import annotations

import contextlib
import io
import math
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

WATCHED = 0.2  # seconds between two looks at how far something is
TOLD = 8.0  # seconds between two lines about it, where no bar can be drawn
_WIDEST = 100_000  # characters of a line


def _console(to_stderr: bool) -> Console:
    stream = sys.stderr if to_stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper):  # of a locale that lacks a character: `\xe9` rather than an error
        stream.reconfigure(errors="backslashreplace")
    # Tables are wider than a narrow terminal rather than cut: they are read, copied and compared. Progress bars fit
    # into it; in a log file, 80 columns would be too few for them.
    width = _WIDEST if not to_stderr else None if stream.isatty() else 160
    # Texts are names of files and classes as well: `[old]` is no style there, and `:smile:` no picture.
    return Console(stderr=to_stderr, markup=False, emoji=False, highlight=False, soft_wrap=True, width=width)


_out = _console(to_stderr=False)
_err = _console(to_stderr=True)


_log: Path | None = None
_told = time.monotonic()  # when something was last shown
_doing = "starting"  # what is being done, as far as it has been said
_telling: list[Any] = []  # the bars that tell of themselves


def log_to(path: Path) -> None:
    """From now on, lines are also added to a file, with the time."""
    global _log
    path.parent.mkdir(parents=True, exist_ok=True)
    _log = path


def say(text: str) -> None:
    """A line about what is being done."""
    _err.print(printable(text))
    _keep(printable(text))
    _tell(text)


def result(text: str) -> None:
    """A line of what the command was asked for."""
    _out.print(printable(text))
    _keep(printable(text))
    _tell(text)


def _tell(text: str) -> None:
    """Notes that something has been shown just now."""
    global _told, _doing
    _told, _doing = time.monotonic(), text.strip().partition("\n")[0][:100]


@contextlib.contextmanager
def keep_awake() -> Iterator[None]:
    """In the block, tells every few seconds that the command goes on, as long as it shows nothing else."""
    global _told
    _told = started = time.monotonic()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(WATCHED):
            if not _telling and time.monotonic() - _told >= TOLD:
                said = _doing
                _err.print(printable(f"still at work after {time.monotonic() - started:.0f} s: {said}"))
                _tell(said)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def rest() -> None:
    """The command waits for others from now on, and has nothing to tell."""
    global _told
    _told = math.inf


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
    drawn = Table()
    for index, column in enumerate(columns):
        first = rows[0][index] if rows else ""
        numeric = first.lstrip("-").replace(",", "").replace(".", "").replace(" %", "").replace("e-", "").isdigit()
        drawn.add_column(printable(str(column)), justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        drawn.add_row(*row)
    if title is not None:  # not the table's own, which would be broken to its width
        _out.print(Text(printable(title), style="table.title"))
    _out.print(drawn)
    _tell(f"after the table {title}" if title else "after a table")


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


class Bars(Progress):
    """Progress bars that also tell of themselves where nothing can be drawn: in a log, a line every few seconds."""

    def __init__(self, *columns: ProgressColumn, watch: Callable[[], None] | None = None, transient: bool = False):
        """
        Args:
            watch: called several times a second, from another thread, to move the bars.
            transient: whether the bars leave no trace at their end.
        """
        hidden = transient and not _err.is_interactive
        super().__init__(*columns, console=_err, speed_estimate_period=30, transient=transient, disable=hidden)
        self._watch = watch
        self._ended = threading.Event()
        self._teller: threading.Thread | None = None

    def start(self) -> None:
        super().start()
        self._ended.clear()
        _telling.append(self)
        self._teller = threading.Thread(target=self._follow, daemon=True)
        self._teller.start()

    def stop(self) -> None:
        if self._teller:
            self._ended.set()
            self._teller.join()
            self._teller = None
            _telling.remove(self)
            if not self.disable:  # else the silence goes on
                _tell(self.tasks[-1].description if self.tasks else "")
        super().stop()

    def _follow(self) -> None:
        began = time.monotonic()
        while not self._ended.wait(WATCHED):
            if self._watch:
                self._watch()
            now = time.monotonic()
            if not _err.is_interactive and now - _told >= TOLD:
                for task in self.tasks:
                    count = "" if task.total is None else f", {task.completed:,.0f} of {task.total:,.0f}"
                    _err.print(printable(f"{task.description}{count}; {now - began:.0f} s so far", keep=""))
                    _tell(task.description)


def progress(unit: str, watch: Callable[[], None] | None = None, transient: bool = False) -> Progress:
    """A progress bar with the speed in `unit`, the time taken and the time left; use it in a `with`.

    Args:
        watch: called several times a second, from another thread, to move the bar.
        transient: whether the bar leaves no trace at its end.
    """
    return Bars(
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
    """Says what is being done while it is, with the time it has taken: for work whose length nobody knows."""
    if not _err.is_interactive:
        _err.print(printable(what))
    _tell(what)
    columns = SpinnerColumn("line"), _Description(), TimeElapsedColumn()
    with Bars(*columns, transient=True) as bar:
        bar.add_task(what, total=None)
        yield


def percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """`1 photograph`, `1,281,167 photographs`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def command(module: str, *arguments: str) -> str:
    """A command as a user can type it: paths with blanks and the like are quoted for the shell."""
    return shlex.join(["python", "-m", module, *arguments])


def next_step(module: str, *arguments: str) -> None:
    """Says which command a user is likely to want next."""
    say(f"next: {command(module, *arguments)}")
