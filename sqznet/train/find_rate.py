"""The learning rate that a network and its data bear: a training at ever higher ones (Smith 2015, arXiv 1506.01186)."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from sqznet.core import console, files, plots
from sqznet.core.errors import InputError
from sqznet.data import pipeline
from sqznet.data.manifest import Manifest
from sqznet.recipes import Recipe
from sqznet.train import finetune, start
from sqznet.train import strategy as strategies
from sqznet.train.run import Run

LOWEST, HIGHEST = 1e-5, 10.0
STEPS = 200
SMOOTHING = 0.9  # of the loss, as an exponential average
DIVERGED = 2.0  # times the lowest smoothed loss: there is no use in going on
PLOT, TABLE = "find_lr.png", "find_lr.csv"


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
    """Trains a network for up to STEPS steps, the rate rising from LOWEST to HIGHEST in even factors.

    Writes the loss at each rate to `folder`, as a picture and as a table, and returns the suggested rate. No weights
    are kept.

    Args:
        init_weights: what the network starts from, as in `start.train`; `chosen` likewise. A recipe that freezes layers
            needs it: the rate for a head on random layers says nothing of that on trained ones.

    Raises:
        InputError: the loss fell nowhere, so there is nothing to suggest; or the recipe needs weights.
    """
    start.require_weights(recipe, init_weights)
    strategy = strategies.create(strategy_name, replicas)  # before a model is loaded
    origin = finetune.load(init_weights) if init_weights else None
    if origin:
        recipe = origin.adapt(recipe, chosen)
    recipe = recipe.replace(total_steps=STEPS, warmup_epochs=0.0, ema=0.0, sparsity=0.0, sparse_epochs=())
    run = Run(manifest, recipe, strategy, folder, stems_from=origin.stored() if origin else None)
    if origin:
        start.take_over(origin, run)
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
    """An exponential average, freed of the bias of its beginning."""
    means, mean = [], 0.0
    for number, loss in enumerate(losses, start=1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        means.append(mean / (1 - SMOOTHING**number))
    return np.array(means)


def suggest(rates: np.ndarray, losses: Sequence[float]) -> float:
    """Where the smoothed loss falls fastest over the logarithm of the rate, before its lowest point.

    Raises:
        InputError: it does not fall.
    """
    means = smoothed(losses)
    lowest = int(means.argmin()) if len(means) else 0
    if lowest < 2 or means[lowest] > 0.98 * means[0]:
        raise InputError(
            f"the loss fell at no learning rate from {LOWEST:g} to {HIGHEST:g}: there is nothing to suggest; look at "
            "the data and the recipe first"
        )
    first = min(10, lowest // 2)  # the average of fewer is as noisy as a batch
    slopes = np.gradient(means[first : lowest + 1], np.log(rates[first : lowest + 1]))
    return float(rates[first + int(slopes.argmin())])
