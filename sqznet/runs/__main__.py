"""What has been trained: every run with its accuracy, its time, and what was changed in its recipe.

python -m sqznet.runs
    the runs in runs/, best first
python -m sqznet.runs --compare runs/A runs/B
    two of them: where their recipes and data differ, and how they did, epoch by epoch
"""

from __future__ import annotations

import argparse
import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqznet import recipes
from sqznet.core import cli, console, metrics
from sqznet.core.errors import InputError
from sqznet.runs import best, checkpoint, run_folder

METRICS = ("epoch", "train_loss", "val_loss", "val_top1", "val_top5")  # columns of metrics.csv that are shown
TIMINGS = ("epoch", "images_per_second", "seconds")


@dataclass(frozen=True)
class Record:
    """What a run folder says of its run."""

    folder: Path
    config: dict[str, Any]
    metrics: list[dict[str, float]]  # a line an epoch, of metrics.csv
    timings: list[dict[str, float]]
    damage: str = ""  # why nothing else is known of it

    @property
    def recipe(self) -> dict[str, Any]:
        return self.config["recipe"]

    @property
    def has_top5(self) -> bool:
        """Whether its top-5 says anything."""
        return not self.damage and 5 in metrics.ranks(len(self.config["classes"]))

    @property
    def best(self) -> dict[str, float] | None:
        """The line of the best epoch; None before the first is evaluated."""
        return best.of(self.metrics)

    @property
    def seconds(self) -> float:
        return sum(line["seconds"] for line in self.timings)

    @property
    def images_per_second(self) -> float:
        return sum(line["seconds"] * line["images_per_second"] for line in self.timings) / max(self.seconds, 1e-9)

    def changes(self) -> dict[str, tuple[Any, Any]]:
        """Fields of the recipe that are not as in the named recipe that it began with: theirs there, and here."""
        known = recipes.RECIPES.get(self.recipe["name"], recipes.ARTICLE)
        # The run has settled what the recipe leaves to the machine.
        return {name: each for name, each in differences(known.to_dict(), self.recipe).items() if name != "precision"}


def differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The keys whose values differ, with both; None where there is none. Tuples and lists are alike, as in JSON."""

    def plain(value: Any) -> Any:
        return [plain(each) for each in value] if isinstance(value, tuple | list) else value

    pairs = {name: (plain(one.get(name)), plain(other.get(name))) for name in {**one, **other}}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1] and name != "name"}


def read(folder: Path) -> Record:
    """A run folder's record; of a run that has just begun, without epochs.

    Raises:
        InputError: it is no run folder, or its config or tables are damaged; names the file.
    """
    try:
        config = run_folder.load_config(folder)
        lines, times = _lines(folder / "metrics.csv", METRICS), _lines(folder / "timings.csv", TIMINGS)
    except OSError as error:
        raise InputError(f"{error.filename or folder} cannot be read: {error.strerror}") from None
    return Record(folder, config, lines, times)


def _lines(path: Path, columns: tuple[str, ...]) -> list[dict[str, float]]:
    """The lines of a table of numbers. It was written whole, so each line has all cells and an end.

    Args:
        columns: that the table must have. Where val was not evaluated, its cells are empty, all of them.
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
        there = {name for name in columns if name in line}
        if there not in (set(columns), {name for name in columns if not name.startswith("val_")}):
            raise InputError(f"{refusal}: line {number} has no {next(name for name in columns if name not in there)}")
        for name, value in line.items():
            if name.endswith(("_top1", "_top5")) and not 0 <= value <= 1:
                raise InputError(f"{refusal}: line {number} has {name} {value:g}, which is not 0 to 1")
    return lines


def find(root: Path) -> list[Record]:
    """The runs in a folder, best first; those that are damaged last, saying why.

    Raises:
        InputError: there are none.
    """
    try:
        folders = sorted(root.iterdir()) if root.is_dir() else []
    except OSError as error:
        raise InputError(f"{root} cannot be read: {error.strerror}") from None
    found = [_found(folder) for folder in folders if _is_run(folder)]
    if not found:
        raise InputError(f"no runs in {root}/: train one first (python -m sqznet.train), or name another --runs")
    # Runs that are under way come after those with an evaluated epoch, damaged ones at the end.
    return sorted(found, key=_place, reverse=True)


def _place(record: Record) -> tuple[bool, tuple[float, float]]:
    return not record.damage, best.rank(record.best) if record.best else (-math.inf, 0.0)


def _is_run(folder: Path) -> bool:
    """Whether a folder is a run's, be it damaged: one that has lost its config has what a training leaves beside it."""
    try:
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    except OSError:
        return True  # nobody can tell; it is better named than passed over
    return bool(there & {run_folder.CONFIG, "metrics.csv", checkpoint.FOLDER, run_folder.BEST})


def _found(folder: Path) -> Record:
    try:
        return read(folder)
    except InputError as error:
        return Record(folder, {}, [], [], damage=str(error))


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.runs", __doc__)
    parser.add_argument("--runs", type=Path, default=run_folder.RUNS, help="the folder that runs are in")
    parser.add_argument("--compare", type=Path, nargs=2, metavar="RUN", help="two run folders")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    if args.compare:
        compare(*(read(folder) for folder in args.compare))
    else:
        list_all(args.runs)
    return 0


def list_all(root: Path) -> None:
    records = find(root)
    whole = [record for record in records if not record.damage]
    columns = ["run", "val top-1", "top-5", "best epoch", "of", "minutes", "images/s", "data", "recipe"]
    table = [columns, *(_row(record) for record in whole)]
    if not any(record.has_top5 for record in whole):
        table = [row[:2] + row[3:] for row in table]
    if whole:
        console.table(table[0], table[1:], title=str(root))
    for record in whole:
        changes = record.changes()
        if changes:
            changed = ", ".join(f"{name}={_text(here)}" for name, (_, here) in changes.items())
            console.result(f"{record.folder.name}: {record.recipe['name']} with {changed}")
    finished = next((record for record in records if not record.damage and record.best), None)
    if finished:
        console.next_step("sqznet.evaluate", f"--model={finished.folder}")
    for record in records:
        if record.damage:
            console.result(f"{record.folder.name}: damaged: {record.damage}")


def _row(record: Record) -> list[Any]:
    recipe, data = record.recipe["name"], Path(record.config["data"]).name
    if record.best is None:
        return [record.folder.name, "-", "-", "-", "-", "-", "-", data, recipe]
    return [
        record.folder.name,
        console.percent(record.best["val_top1"]),
        console.percent(record.best["val_top5"]) if record.has_top5 else "-",
        f"{record.best['epoch']:.0f}",
        len(record.metrics),
        f"{record.seconds / 60:.1f}",
        f"{record.images_per_second:,.0f}",
        data,
        recipe,
    ]


def compare(one: Record, other: Record) -> None:
    """Prints where two runs differ, then both, epoch by epoch."""
    around = ("data", "replicas", "init_weights", "teacher", "versions", "sqznet")
    settings = differences(one.recipe, other.recipe)
    settings |= differences(*(_flat({name: each.config.get(name) for name in around}) for each in (one, other)))
    console.table(
        ["setting", "first", "second"],
        [[name, _text(a), _text(b)] for name, (a, b) in settings.items()] or [["(none differs)", "", ""]],
    )
    shown = ("train_loss", "val_loss", "val_top1")
    epochs = max(len(one.metrics), len(other.metrics))
    console.table(
        ["epoch", *(f"{column}, {side}" for column in shown for side in ("first", "second"))],
        [
            [
                epoch + 1,
                *(
                    _shown(column, line)
                    for column in shown
                    for line in (_at(one.metrics, epoch), _at(other.metrics, epoch))
                ),
            ]
            for epoch in range(epochs)
        ],
    )
    for which, record in (("first", one), ("second", other)):
        if record.best:
            console.result(
                f"{which}, {record.folder}: best epoch {record.best['epoch']:.0f}, val top-1 "
                f"{console.percent(record.best['val_top1'])}, {record.seconds / 60:.1f} minutes"
            )


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of objects within objects, as versions.tensorflow and the like: whole objects fit into no table."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _at(lines: list[dict[str, float]], index: int) -> dict[str, float]:
    return lines[index] if index < len(lines) else {}


def _shown(column: str, line: dict[str, float]) -> str:
    if column not in line:
        return ""
    return console.percent(line[column]) if column == "val_top1" else f"{line[column]:.4f}"


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    cli.run(main)
