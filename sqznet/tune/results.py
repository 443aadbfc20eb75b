"""Writes the results of a search: trials.csv, a plot, and the best settings as a recipe. Prints a table."""

from __future__ import annotations

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

IDENTITY, TABLE, PLOT, BEST_RECIPE = "search.json", "trials.csv", "trials.png", "best.json"


def check_identity(out: Path, identity: dict[str, Any]) -> None:
    """Writes the identity of a search into its folder, or compares it with the identity that is there.

    Raises:
        InputError: the folder belongs to another search.
    """
    path, identity = out / IDENTITY, json.loads(json.dumps(identity))
    with locks.locked(locks.beside(path), f"begins a search in {out}"):  # workers may start at the same time
        if not path.is_file():
            files.write_json(path, identity)
            return
        found = typed.read_json(path)
    other = next((name for name in identity if found.get(name) != identity[name]), None)
    if other:
        raise InputError(
            f"{out} holds a search with another {other}: choose another --out, or the flags that it was started with"
        )


def conclude(
    out: Path,
    recipe: Recipe,
    fields: list[str],
    compared_by: list[str] | None,
    *,
    data: Manifest,
    origin: Origin | None = None,
) -> None:
    """Writes and prints the results.

    Args:
        compared_by: flags of `sqznet.train` for the comparison. The comparison trains the recipe and the best settings
            in full. None skips the comparison.
        data: the set that the trials were trained on.
        origin: the weights that every trial started from. These weights decide the network.

    Raises:
        InputError: no trial was finished, or a training of the comparison failed.
    """
    trials = search.finished(out)
    _write_table(out / TABLE, trials, fields)
    completed = [(trial.top1, trial) for trial in trials if trial.top1 is not None]
    console.table(
        ["trial", "val top-1", "epochs", *fields],
        [
            [trial.name, "failed" if trial.top1 is None else console.percent(trial.top1), trial.epochs]
            + [search.shown(trial.values.get(field)) for field in fields]
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
    files.write_json(out / BEST_RECIPE, {"recipe": found.to_dict(), **from_where})  # the form of a run's config.json
    console.result(
        f"best: trial {first.name}, val top-1 {console.percent(top1)} after "
        f"{console.counted(first.epochs, 'epoch')}: "
        f"{search.described(first.values)}"
    )
    if compared_by is not None:
        _compare(out, recipe, found, compared_by, data.records("val"))
    console.result(
        f"train with it: {console.command('sqznet.train', f'--recipe={out / BEST_RECIPE}')}; plot: {out / PLOT}"
    )


def _compare(out: Path, recipe: Recipe, found: Recipe, flags: list[str], records: int) -> None:
    """Trains both recipes in full, and prints which is better. Trials are too short for this comparison.

    Args:
        records: size of the val split.
    """
    epochs = {}
    for name, each in (("unchanged", recipe), ("best", found)):
        console.say(f"training the {name} settings for {console.counted(each.epochs, 'epoch')}, for the comparison")
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
    coarse = best.small_split_warning(records)
    if coarse:
        console.result(f"note: {coarse}")


def _write_table(path: Path, trials: list[Trial], fields: list[str]) -> None:
    rows = [
        [trial.name, trial.top1, trial.epochs, *(trial.values.get(field) for field in fields), trial.reason]
        for trial in trials
    ]
    files.write_csv(path, ["trial", "val_top1", "epochs", *fields, "failed"], rows)
