"""Reads the config and the metrics of each epoch from run folders."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqznet import recipes
from sqznet.core import metrics
from sqznet.core.errors import InputError
from sqznet.recipes import schedule
from sqznet.runs import best, checkpoint, run_folder

METRICS = ("epoch", "train_loss", "val_loss", "val_top1", "val_top5")  # columns of metrics.csv that must exist
TIMINGS = ("epoch", "images_per_second", "seconds")


@dataclass(frozen=True)
class History:
    """Contains the config and the metrics of a run."""

    folder: Path
    config: dict[str, Any]
    metrics: list[dict[str, float]]  # one line an epoch, from metrics.csv
    timings: list[dict[str, float]]
    damage: str = ""  # why the other fields are empty

    @property
    def recipe(self) -> dict[str, Any]:
        return self.config["recipe"]

    @property
    def has_top5(self) -> bool:
        """Returns whether there are enough classes for top-5 to be meaningful."""
        return not self.damage and 5 in metrics.ranks(len(self.config["classes"]))

    @property
    def best(self) -> dict[str, float] | None:
        """Returns the line of the best epoch, or None before the first evaluation."""
        return best.of(self.metrics, self.chosen_by)

    @property
    def chosen_by(self) -> str:
        """Returns the figure of val that decides which epoch is the best."""
        return self.config.get("recipe", {}).get("best", "top1")

    @property
    def epochs(self) -> int | None:
        """Returns the number of epochs in the schedule, or None for a config that does not say it."""
        steps, records = self.config.get("total_steps"), self.config.get("train_records")
        batch = self.config.get("recipe", {}).get("global_batch_size")
        if not steps or not records or not batch:
            return None
        return schedule.epoch_of(steps - 1, batch, records) + 1

    @property
    def ended_early(self) -> str | None:
        """Returns the reason why the run ended before the last epoch of its schedule, or None if it did not."""
        patience = self.config.get("recipe", {}).get("patience", 0)
        if len(self.metrics) == self.epochs or not best.out_of_patience(self.metrics, patience, self.chosen_by):
            return None
        return best.no_better(self.chosen_by, patience)

    @property
    def state(self) -> str:
        """Returns `finished`, `ended early` or `unfinished`, or `-` if the config does not tell."""
        if self.epochs is None:
            return "-"
        if self.ended_early:
            return "ended early"
        return "finished" if len(self.metrics) >= self.epochs else "unfinished"

    @property
    def seconds(self) -> float:
        return sum(line["seconds"] for line in self.timings)

    @property
    def images_per_second(self) -> float:
        return sum(line["seconds"] * line["images_per_second"] for line in self.timings) / max(self.seconds, 1e-9)

    def changes(self) -> dict[str, tuple[Any, Any]]:
        """Returns the fields that differ from the named recipe, except `precision`.

        A field has the value of the recipe and the value of the run.
        """
        named = recipes.RECIPES.get(self.recipe["name"], recipes.ARTICLE)
        return {name: each for name, each in differences(named.to_dict(), self.recipe).items() if name != "precision"}


def differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns the keys with different values, and both values.

    A missing key has the value None. A tuple equals a list.
    """

    def plain(value: Any) -> Any:
        return [plain(each) for each in value] if isinstance(value, tuple | list) else value

    pairs = {name: (plain(one.get(name)), plain(other.get(name))) for name in {**one, **other}}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1] and name != "name"}


def read(folder: Path) -> History:
    """Reads the history of a run. The history contains no epochs if the run has just started.

    Raises:
        InputError: the folder is not a run folder, or its config or tables are damaged. The error names the file.
    """
    try:
        config = run_folder.load_config(folder)
        lines, times = _lines(folder / "metrics.csv", METRICS), _lines(folder / "timings.csv", TIMINGS)
    except OSError as error:
        raise InputError(f"{error.filename or folder} cannot be read: {error.strerror}") from None
    return History(folder, config, lines, times)


def _lines(path: Path, columns: tuple[str, ...]) -> list[dict[str, float]]:
    """Reads a table of numbers. The file is written atomically, so the last line must end with a newline.

    Args:
        columns: columns that the table must contain. An epoch that was not evaluated has no values in the columns of
            val.
    """
    if not path.exists():
        return []
    refusal = f"{path} cannot be read as a table of numbers"
    try:
        text = path.read_text()
        head, *rows = list(csv.reader(io.StringIO(text))) or [[]]
        lines = [{name: float(value) for name, value in zip(head, row, strict=True) if value} for row in rows]
    except (ValueError, csv.Error) as error:
        raise InputError(f"{refusal}: {error}") from None
    if not text.endswith("\n"):
        raise InputError(f"{refusal}: it is {'cut off' if text else 'empty'}")
    for number, line in enumerate(lines, start=2):
        missing = [name for name in columns if name not in line]
        if missing and missing != [name for name in columns if name.startswith("val_")]:
            raise InputError(f"{refusal}: line {number} has no {missing[0]}")
        for name, value in line.items():
            if name.endswith(("_top1", "_top5")) and not 0 <= value <= 1:
                raise InputError(f"{refusal}: line {number} has {name} {value:g}, which is not 0 to 1")
    return lines


def find(root: Path) -> list[History]:
    """Finds the runs in a folder. The best runs come first, then runs without an evaluated epoch, then damaged runs.

    Raises:
        InputError: there are no runs.
    """
    try:
        folders = sorted(root.iterdir()) if root.is_dir() else []
    except OSError as error:
        raise InputError(f"{root} cannot be read: {error.strerror}") from None
    found = [_read_or_damage(folder) for folder in folders if _is_run(folder)]
    if not found:
        raise InputError(f"no runs in {root}/: train one first (python -m sqznet.train), or name another --runs")
    return sorted(
        found,
        key=lambda run: (not run.damage, best.rank(run.best) if run.best else (-math.inf, 0.0)),
        reverse=True,
    )


def _is_run(folder: Path) -> bool:
    """Checks whether a folder contains a file of a training. An unreadable folder counts as a run."""
    try:
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    except OSError:
        return True
    return bool(names & {run_folder.CONFIG, "metrics.csv", checkpoint.FOLDER, run_folder.BEST})


def _read_or_damage(folder: Path) -> History:
    try:
        return read(folder)
    except InputError as error:
        return History(folder, {}, [], [], damage=str(error))
