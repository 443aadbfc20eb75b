"""Runs workloads in processes of their own, which take turns, so that other programs disturb all of them alike.

While one runs, the others are stopped: an input pipeline would use the time to read ahead. A stopped process does not
notice that its parent has gone; `watchdog` kills it then.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from sqznet.core import console
from sqznet.core.errors import InputError


@dataclass(frozen=True)
class Entry:
    """A workload of `workloads` by name, its settings, and its label in the table."""

    name: str
    settings: dict[str, Any]
    label: str


@dataclass(frozen=True)
class Result:
    """The figures of one workload, round by round."""

    entry: Entry
    rounds: list[dict[str, float]]

    @property
    def images_per_second(self) -> float:
        return statistics.median(each["images"] / each["seconds"] for each in self.rounds)

    @property
    def images_per_core_second(self) -> float:
        return statistics.median(each["images"] / each["core_seconds"] for each in self.rounds)

    @property
    def spread(self) -> float:
        """(slowest - fastest) / median of the rounds' images per second."""
        rates = [each["images"] / each["seconds"] for each in self.rounds]
        return (max(rates) - min(rates)) / statistics.median(rates)

    @property
    def peak_mib(self) -> float:
        return max(each["peak_mib"] for each in self.rounds)

    def to_dict(self) -> dict[str, Any]:
        return {
            "workload": self.entry.name,
            "settings": self.entry.settings,
            "images_per_second": self.images_per_second,
            "images_per_core_second": self.images_per_core_second,
            "spread": self.spread,
            "peak_mib": self.peak_mib,
            "rounds": self.rounds,
        }


def run(entries: list[Entry], rounds: int, label: str) -> list[Result]:
    """Runs all entries, `rounds` rounds each, one round of each in turn.

    Each runs one round to warm up before the rounds that count.

    Raises:
        InputError: a workload failed; with the last line of its output.
    """
    runners: list[_Runner] = []
    watchdog = None
    try:
        runners += map(_Runner, entries)
        watchdog = _watch([runner.process for runner in runners])
        with console.progress("rounds") as bar:
            task = bar.add_task(label, total=(rounds + 1) * len(runners))
            taken: list[list[dict[str, float]]] = [[] for _ in runners]
            for number in range(rounds + 1):
                for runner, mine in zip(runners, taken, strict=True):
                    measured = runner.round()
                    if number:
                        mine.append(measured)
                    bar.advance(task)
    finally:
        for runner in runners:
            runner.end()
        if watchdog:
            watchdog.kill()  # before its standard input closes: other processes may have these numbers by then
            watchdog.communicate()
    return [Result(entry, mine) for entry, mine in zip(entries, taken, strict=True)]


def _watch(processes: list[subprocess.Popen]) -> subprocess.Popen:
    """Starts the process that kills these and their process groups when this process has ended in any way."""
    command = [sys.executable, "-m", "benchmarks.watchdog", *(str(each.pid) for each in processes)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0)


class _Runner:
    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        command = [sys.executable, "-m", "benchmarks.workloads", entry.name, json.dumps(entry.settings)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,  # with its own workers, so that all of them are stopped together
        )

    def round(self) -> dict[str, float]:
        assert self.process.stdin and self.process.stdout and self.process.stderr
        try:
            self._signal(signal.SIGCONT)
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
            if line:
                self._signal(signal.SIGSTOP)
        except BrokenPipeError:
            line = ""
        if not line:
            said = self.process.stderr.read().strip().splitlines() or ["no output"]
            raise InputError(f"{self.entry.label} failed: {said[-1].removeprefix('error: ')}")
        measured: dict[str, float] = json.loads(line)
        return measured

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has failed; `round` reports that
            os.killpg(self.process.pid, number)

    def end(self) -> None:
        self._signal(signal.SIGKILL)
        self.process.communicate()
