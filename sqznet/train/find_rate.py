"""Runs the learning rate range test (Smith 2015, arXiv 1506.01186): trains with a rising rate, and suggests a rate."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from sqznet.core import console, files, plots
from sqznet.core.errors import InputError
from sqznet.data import pipeline
from sqznet.data.manifest import Manifest
from sqznet.recipes import Recipe, fitting
from sqznet.runs import run_folder
from sqznet.train import finetune, start
from sqznet.train import strategy as strategies
from sqznet.train.run import Run

LOWEST, HIGHEST = 1e-5, 10.0
STEPS = 200
SMOOTHING = 0.9  # of the loss, as an exponential average
DIVERGED = 2.0  # times the lowest smoothed loss: the test ends
PLOT, TABLE = "find_lr.png", "find_lr.csv"


def find_in(folder: Path, manifest: Manifest, recipe: Recipe, *, replicas: int | None, **options: Any) -> float:
    """Runs `find` in a run folder, with the recipe fitted to the data. Prints the suggested rate."""
    recipe = fitting.fit(recipe, manifest.records("train"), replicas or 1, options["chosen"])
    with run_folder.claimed(folder):
        suggested = find(manifest, recipe, replicas=replicas, folder=folder, **options)
    console.result(f"suggested: --learning_rate={suggested:.2g} (recipe {recipe.name} has {recipe.learning_rate:g})")
    console.result(f"plot: {folder / PLOT}; table: {folder / TABLE}")
    return suggested


def flags_with(given: list[str], rate: float) -> list[str]:
    """Changes the flags of the test into the flags of the training that follows it."""
    kept: list[str] = []
    flags = iter(given)
    for flag in flags:
        if flag == "--learning_rate":
            next(flags, None)  # its value
        elif flag != "--find_lr" and not flag.startswith("--learning_rate="):
            kept.append(flag)
    return [*kept, f"--learning_rate={rate:.2g}"]


def find(
    manifest: Manifest,
    recipe: Recipe,
    *,
    strategy_name: str,
    replicas: int | None,
    folder: Path,
    init_weights: Path | None = None,
    chosen: Container[str] = (),
) -> float:
    """Trains for up to STEPS steps while the rate rises geometrically from LOWEST to HIGHEST, and suggests a rate.

    Writes the loss at each rate to `folder`, as a plot and as a table. No weights are kept.

    Args:
        init_weights: the initial weights. `init_weights` and `chosen` have the same meaning as in `start.train`. A
            recipe that freezes layers needs initial weights, because random layers need another rate than trained
            layers.

    Raises:
        InputError: the loss does not fall at any learning rate, or the recipe needs initial weights and has none.
    """
    start.require_weights(recipe, init_weights)
    strategy = strategies.create(strategy_name, replicas)  # before a model is loaded
    origin = finetune.load(init_weights) if init_weights else None
    if origin:
        recipe = origin.adapt(recipe, chosen)
    recipe = recipe.replace(total_steps=STEPS, warmup_epochs=0.0, ema=0.0, sparsity=0.0, sparse_epochs=())
    run = Run(manifest, recipe, strategy, folder, origin=origin.to_dict() if origin else None)
    if origin:
        start.load_initial_weights(origin, run)
    batches = run.strategy.distribute_datasets_from_function(
        lambda context: pipeline.training_batches(
            manifest, run.schedule, replicas=run.strategy.num_replicas_in_sync, worker=context.input_pipeline_id
        )
    )
    iterator, rates = iter(batches), np.geomspace(LOWEST, HIGHEST, STEPS)
    losses: list[float] = []
    with pipeline.naming_bad_records(manifest, "train"), console.progress("steps/s") as bar:
        for rate in bar.track(rates, description="raising the learning rate"):
            loss, *_, count = run.train_steps(iterator, tf.constant([rate], tf.float32)).numpy()[0].tolist()
            if not math.isfinite(loss):
                break
            losses.append(loss / max(count, 1.0))
            means = smoothed(losses)
            if means[-1] > DIVERGED * means.min():
                break
    rates = rates[: len(losses)]
    rows = "".join(f"{rate:.6g},{loss:.6g}\n" for rate, loss in zip(rates, losses, strict=True))
    files.write_text(folder / TABLE, f"learning_rate,loss\n{rows}")
    suggested = suggest(rates, losses)
    plots.rates(rates, losses, smoothed(losses), suggested, folder / PLOT)
    return suggested


def smoothed(losses: Sequence[float]) -> np.ndarray:
    """Computes the bias-corrected exponential moving average."""
    means, mean = [], 0.0
    for number, loss in enumerate(losses, start=1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        means.append(mean / (1 - SMOOTHING**number))
    return np.array(means)


def suggest(rates: np.ndarray, losses: Sequence[float]) -> float:
    """Returns the rate at which the smoothed loss falls fastest over the logarithm of the rate, before its minimum.

    Raises:
        InputError: the loss does not fall.
    """
    means = smoothed(losses)
    lowest = int(means.argmin()) if len(means) else 0
    if lowest < 2 or means[lowest] > 0.98 * means[0]:
        raise InputError(
            f"the loss fell at no learning rate from {LOWEST:g} to {HIGHEST:g}: there is nothing to suggest; look at "
            "the data and the recipe first"
        )
    first = min(10, lowest // 2)  # the average of fewer is too noisy
    slopes = np.gradient(means[first : lowest + 1], np.log(rates[first : lowest + 1]))
    return float(rates[first + int(slopes.argmin())])
