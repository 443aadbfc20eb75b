"""What a search leaves: trials.csv, a plot, the best settings as a recipe; and the table that ends it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from sqznet.core import console, files, locks, plots, typed
from sqznet.core.errors import InputError
from sqznet.data.manifest import Manifest
from sqznet.recipes import Recipe
from sqznet.runs import best
from sqznet.train.finetune import Origin
from sqznet.tune import search
from sqznet.tune.search import Trial

IDENTITY, TABLE, PLOT, BEST = "search.json", "trials.csv", "trials.png", "best.json"


def claim(out: Path, identity: dict[str, Any]) -> None:
    """Marks a folder as this search's, or finds that it is.

    Raises:
        InputError: it is another search's.
    """
    path, identity = out / IDENTITY, json.loads(json.dumps(identity))
    with locks.locked(locks.beside(path), f"begins a search in {out}"):  # workers begin at the same time
        if not path.is_file():
            files.write_json(path, identity)
            return
        found = typed.read_json(path)
    other = next((name for name in identity if found.get(name) != identity[name]), None)
    if other:
        raise InputError(f"{out} holds a search with another {other}: choose another --out, or the flags it began with")


def conclude(
    out: Path,
    recipe: Recipe,
    fields: list[str],
    compared_by: list[str] | None,
    *,
    data: Manifest,
    origin: Origin | None = None,
) -> None:
    """Writes and prints what was found.

    Args:
        compared_by: flags for `sqznet.train`, to train both the recipe as it was and the best settings to their end
            and to say which is better; None to leave that out.
        data: what was trained on.
        origin: what every trial started from, which decides the network.

    Raises:
        InputError: no trial was finished, or a training to compare failed.
    """
    trials = search.finished(out)
    _write_table(out / TABLE, trials, fields)
    completed = [(trial.top1, trial) for trial in trials if trial.top1 is not None]
    console.table(
        ["trial", "val top-1", "epochs", *fields],
        [
            [trial.name, "failed" if trial.top1 is None else console.percent(trial.top1), trial.epochs]
            + [_text(trial.values.get(field)) for field in fields]
            for trial in trials
        ],
        title=str(out),
    )
    if not completed:
        reasons = "; ".join(sorted({trial.reason for trial in trials})[:3])
        raise InputError(f"none of the {len(trials)} trials of {out} was finished: {reasons}")
    rows = [[trial.values.get(field) for field in fields] + [100 * top1] for top1, trial in completed]
    plots.parallel_coordinates([*fields, "val top-1, %"], rows, out / PLOT)
    top1, first = completed[0]
    found = search.recipe_of(recipe, first.values).replace(name=f"{recipe.name}-tuned")
    if origin:
        found = origin.adapt(found, ())
    from_where = {"data": str(data.folder), "init_weights": origin.to_dict() if origin else None, "teacher": None}
    files.write_json(out / BEST, {"recipe": found.to_dict(), **from_where})  # as a run's config.json has it
    console.result(
        f"best: trial {first.name}, val top-1 {console.percent(top1)} after "
        f"{console.counted(first.epochs, 'epoch')}: "
        f"{search.described(first.values)}"
    )
    if compared_by is not None:
        _compare(out, recipe, found, compared_by, data.records("val"))
    console.result(f"train with it: {console.command('sqznet.train', f'--recipe={out / BEST}')}; plot: {out / PLOT}")


def _compare(out: Path, recipe: Recipe, found: Recipe, flags: list[str], records: int) -> None:
    """A short trial's accuracy says little of the whole recipe's: trains both to the end.

    Args:
        records: of the val split.
    """
    epochs = {}
    for name, each in (("unchanged", recipe), ("best", found)):
        console.say(f"training the {name} settings for {console.counted(each.epochs, 'epoch')}, to compare")
        try:
            epochs[name] = search.train(each, out / name, flags)
        except search.TrainingFailed as failed:
            raise InputError(f"the {name} settings could not be trained to the end: {failed}") from None
    top1 = {name: line["val_top1"] for name, line in epochs.items()}
    points = 100 * (top1["best"] - top1["unchanged"])
    is_better = best.rank(epochs["best"]) > best.rank(epochs["unchanged"])
    verdict = "better" if is_better else "NOT better: keep the recipe as it is"
    if points == 0 and is_better:
        verdict += ", by its val loss"
    console.result(
        f"trained to the end, {console.counted(recipe.epochs, 'epoch')}: best settings "
        f"{console.percent(top1['best'])}, recipe {recipe.name} unchanged {console.percent(top1['unchanged'])} val "
        f"top-1 (n = {records:,}; {points:+.2f} points): {verdict}"
    )
    coarse = best.coarseness(records)
    if coarse:
        console.result(f"note: {coarse}")


def _write_table(path: Path, trials: list[Trial], fields: list[str]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "val_top1", "epochs", *fields, "failed"])
    for trial in trials:
        top1 = "" if trial.top1 is None else trial.top1
        writer.writerow([trial.name, top1, trial.epochs, *(trial.values.get(field) for field in fields), trial.reason])
    files.write_text(path, text.getvalue())


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
