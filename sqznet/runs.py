"""What has been trained: every run with its accuracy, its time, and what was changed in its recipe.

python -m sqznet.runs
    the runs in runs/, best first
python -m sqznet.runs --compare runs/A runs/B
    two of them: where their recipes and data differ, and how they did, epoch by epoch
"""

from __future__ import annotations

import argparse
import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqznet import cli, console, recipes
from sqznet.errors import InputError
from sqznet.training import best, run_folder


@dataclass(frozen=True)
class Record:
    """What a run folder says of its run."""

    folder: Path
    config: dict[str, Any]
    metrics: list[dict[str, float]]  # a line an epoch, of metrics.csv
    timings: list[dict[str, float]]

    @property
    def recipe(self) -> dict[str, Any]:
        return self.config["recipe"]

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
        InputError: it is no run folder, or its tables are damaged.
    """
    return Record(
        folder, run_folder.load_config(folder), _lines(folder / "metrics.csv"), _lines(folder / "timings.csv")
    )


def _lines(path: Path) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    try:
        with path.open(newline="") as file:
            # Epochs after which val was not evaluated have no values there.
            return [{name: float(value) for name, value in line.items() if value} for line in csv.DictReader(file)]
    except (ValueError, TypeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a table of numbers: {error}") from None


def find(root: Path) -> list[Record]:
    """The runs in a folder, best first.

    Raises:
        InputError: there are none.
    """
    found = [read(config.parent) for config in sorted(root.glob(f"*/{run_folder.CONFIG}"))]
    if not found:
        raise InputError(f"no runs in {root}/: train one first (python -m sqznet.train), or name another --runs")
    # Runs without an evaluated epoch come first: they are under way.
    return sorted(found, key=lambda record: best.rank(record.best) if record.best else (math.inf, 0.0), reverse=True)


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
    console.table(
        ["run", "val top-1", "top-5", "best epoch", "of", "minutes", "images/s", "data", "recipe"],
        [_row(record) for record in records],
        title=str(root),
    )
    for record in records:
        changes = record.changes()
        if changes:
            changed = ", ".join(f"{name}={_text(here)}" for name, (_, here) in changes.items())
            console.result(f"{record.folder.name}: {record.recipe['name']} with {changed}")


def _row(record: Record) -> list[Any]:
    recipe, data = record.recipe["name"], Path(record.config["data"]).name
    if record.best is None:
        return [record.folder.name, "-", "-", "-", "-", "-", "-", data, recipe]
    return [
        record.folder.name,
        console.percent(record.best["val_top1"]),
        console.percent(record.best["val_top5"]),
        f"{record.best['epoch']:.0f}",
        len(record.metrics),
        f"{record.seconds / 60:.1f}",
        f"{record.images_per_second:,.0f}",
        data,
        recipe,
    ]


def compare(one: Record, other: Record) -> None:
    """Prints where two runs differ, then both, epoch by epoch."""
    settings = {
        **differences(one.recipe, other.recipe),
        **{
            name: (one.config.get(name), other.config.get(name))
            for name in ("data", "replicas", "init_weights", "teacher", "versions", "sqznet")
            if one.config.get(name) != other.config.get(name)
        },
    }
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
