"""Contestants in processes of their own, taking turns, so that a noisy machine is noisy to all of them alike.

While one has its turn the others are stopped: an input pipeline would use the time to read ahead. A stopped process
does not notice that its parent has gone, so `keeper` does that for all.
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
    """A contestant of `contestants` by name, and what it is told."""

    name: str
    settings: dict[str, Any]
    label: str


@dataclass(frozen=True)
class Result:
    """What one contestant did, round by round."""

    entry: Entry
    rounds: list[dict[str, float]]

    def median(self, key: str) -> float:
        return statistics.median(each[key] for each in self.rounds)

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
            "contestant": self.entry.name,
            "settings": self.entry.settings,
            "images_per_second": self.images_per_second,
            "images_per_core_second": self.images_per_core_second,
            "spread": self.spread,
            "peak_mib": self.peak_mib,
            "rounds": self.rounds,
        }


def run(entries: list[Entry], rounds: int, label: str) -> list[Result]:
    """All entries, `rounds` rounds each, one round of each in turn.

    Each has run once, to warm up, before the first round that counts.

    Raises:
        InputError: a contestant failed; with the last thing it said.
    """
    runners: list[_Runner] = []
    keeper = None
    try:
        runners += map(_Runner, entries)
        keeper = _keep([runner.process for runner in runners])
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
        if keeper:
            keeper.kill()  # before its standard input closes: the numbers may be those of others by then
            keeper.communicate()
    return [Result(entry, mine) for entry, mine in zip(entries, taken, strict=True)]


def _keep(processes: list[subprocess.Popen]) -> subprocess.Popen:
    """A process that kills these, and all of their groups, when this process is gone, however it ends."""
    command = [sys.executable, "-m", "sqznet.benchmark.keeper", *(str(each.pid) for each in processes)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0)


class _Runner:
    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        command = [sys.executable, "-m", "sqznet.benchmark.contestants", entry.name, json.dumps(entry.settings)]
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
            said = self.process.stderr.read().strip().splitlines() or ["without a word"]
            raise InputError(f"{self.entry.label} failed: {said[-1].removeprefix('error: ')}")
        measured: dict[str, float] = json.loads(line)
        return measured

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has failed; that is said elsewhere
            os.killpg(self.process.pid, number)

    def end(self) -> None:
        self._signal(signal.SIGKILL)
        self.process.communicate()
