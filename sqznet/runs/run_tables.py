"""Prints the list of runs, and the comparison of two runs."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import Any

from sqznet.core import console
from sqznet.runs import history
from sqznet.runs.history import History


def print_runs(root: Path) -> None:
    """Prints the runs of a folder, best first, then the damaged runs.

    Raises:
        InputError: there are no runs.
    """
    runs = history.find(root)
    readable = [run for run in runs if not run.damage]
    columns = ["run", "val top-1", "top-5", "best epoch", "of", "state", "minutes", "images/s", "data", "recipe"]
    table = [columns, *map(_row, readable)]
    if not any(run.has_top5 for run in readable):
        table = [row[:2] + row[3:] for row in table]
    if readable:
        console.table(table[0], table[1:], title=str(root))
    for run in readable:
        changes = run.changes()
        if changes:
            changed = ", ".join(f"{name}={_text(here)}" for name, (_, here) in changes.items())
            console.result(f"{run.folder.name}: {run.recipe['name']} with {changed}")
        if run.ended_early:
            console.result(
                f"{run.folder.name}: ended early, after epoch {len(run.metrics)} of {run.epochs}: {run.ended_early}"
            )
    if readable and readable[0].best:
        console.next_step("sqznet.evaluate", f"--model={readable[0].folder}")
    for run in runs:
        if run.damage:
            console.result(f"{run.folder.name}: damaged: {run.damage}")


def _row(run: History) -> list[Any]:
    about = [Path(run.config["data"]).name, run.recipe["name"]]
    if run.best is None:
        return [run.folder.name, *4 * "-", run.state, *2 * "-", *about]
    return [
        run.folder.name,
        console.percent(run.best["val_top1"]),
        console.percent(run.best["val_top5"]) if run.has_top5 else "-",
        f"{run.best['epoch']:.0f}",
        len(run.metrics),
        run.state,
        f"{run.seconds / 60:.1f}",
        f"{run.images_per_second:,.0f}",
        *about,
    ]


def print_comparison(first: History, second: History) -> None:
    """Prints the settings that differ, then the metrics of both runs by epoch."""
    around = ("data", "replicas", "init_weights", "teacher", "versions", "sqznet")
    settings = history.differences(first.recipe, second.recipe)
    settings |= history.differences(
        *(_flat({name: run.config.get(name) for name in around}) for run in (first, second))
    )
    console.table(
        ["setting", "first", "second"],
        [[name, _text(a), _text(b)] for name, (a, b) in settings.items()] or [["(none differs)", "", ""]],
    )
    shown = ("train_loss", "val_loss", "val_top1")
    no_line: dict[str, float] = {}
    console.table(
        ["epoch", *(f"{column}, {side}" for column in shown for side in ("first", "second"))],
        [
            [epoch, *(_metric(column, line) for column in shown for line in lines)]
            for epoch, lines in enumerate(zip_longest(first.metrics, second.metrics, fillvalue=no_line), start=1)
        ],
    )
    for which, run in (("first", first), ("second", second)):
        if run.best:
            console.result(
                f"{which}, {run.folder}: best epoch {run.best['epoch']:.0f}, val top-1 "
                f"{console.percent(run.best['val_top1'])}, {run.seconds / 60:.1f} minutes"
            )


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the values of nested objects with their full names, such as versions.tensorflow."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _metric(column: str, line: dict[str, float]) -> str:
    if column not in line:
        return ""
    return console.percent(line[column]) if column == "val_top1" else f"{line[column]:.4f}"


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
