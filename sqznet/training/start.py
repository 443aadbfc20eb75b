"""From a built set and a recipe to a finished run folder: checks, settings, `Run`, and what is left at its end."""

from __future__ import annotations

import contextlib
import platform
import sys
from collections.abc import Container
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sqznet import __version__, console, files, inference, plots, startup
from sqznet.data import mend
from sqznet.data.manifest import Manifest
from sqznet.errors import InputError, TryAgain
from sqznet.recipes import Recipe
from sqznet.training import checkpoint, finetune, run_folder
from sqznet.training import strategy as strategies
from sqznet.training.cluster import Cluster
from sqznet.training.finetune import Origin
from sqznet.training.run import Run


def config(run: Run, strategy_name: str, origin: Origin | None) -> dict[str, Any]:
    """What config.json holds."""
    return {
        "sqznet": __version__,
        "recipe": run.recipe.to_dict(),
        "data": str(run.manifest.folder),
        "classes": list(run.manifest.classes),
        "channel_means": list(run.channel_means),
        "data_channel_means": list(run.manifest.channel_means),
        "train_records": run.manifest.records("train"),
        "init_weights": origin.stored() if origin else None,
        "teacher": str(run.teacher.path) if run.teacher else None,
        "total_steps": run.schedule.total_steps,
        "strategy": strategy_name,
        "replicas": run.strategy.num_replicas_in_sync,
        "command": ["python", "-m", "sqznet.train", *sys.argv[1:]],
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
    }


def train(
    manifest: Manifest,
    recipe: Recipe,
    *,
    strategy_name: str,
    replicas: int | None,
    machines: Cluster | None = None,
    run_dir: Path,
    resume: bool,
    init_weights: Path | None = None,
    chosen: Container[str] = (),
    teacher: Path | None = None,
    deterministic: bool | None = None,
    **saving: Any,
) -> None:
    """Trains `recipe` on `manifest` and leaves everything in `run_dir`.

    Args:
        init_weights: the trained network that a fresh run starts from; None for random weights. The recipe's network
            follows it, but for the fields that the user has `chosen`.
        teacher: a model to learn from besides the labels.
        deterministic: whether every operation must give the same bits each time; None: where there is no GPU, where
            it costs nothing.
        saving: `keep`, `save_minutes`, `max_bad_records`, `data_service` and `profile` of `Run`.

    Raises:
        InputError: what was given does not fit together; each message says what to change.
        Stopped: a signal ended the run; its state is saved.
    """
    stored = run_folder.load_config(run_dir) if resume else {}
    if resume:
        _check_same_data(manifest, stored, run_dir)
    elif recipe.freeze and init_weights is None:
        raise InputError(
            f"freeze={recipe.freeze} keeps weights as they were loaded: say which, with "
            "--init_weights=squeezenet-v1.1, a run folder or a file"
        )
    is_chief = machines is None or machines.index == 0
    # The chief clears the folder before it meets the other workers, which may write there as soon as they have met.
    with run_folder.claimed(run_dir) if is_chief else contextlib.nullcontext():
        # Before any model is loaded: TensorFlow's devices cannot be set up once they have been used.
        with machines.awaited() if machines else contextlib.nullcontext():
            strategy = strategies.create(strategy_name, replicas, machines)
        if deterministic or (deterministic is None and not tf.config.list_physical_devices("GPU")):
            tf.config.experimental.enable_op_determinism()
        if not resume and is_chief:
            _check_free(run_dir)
        console.log_to(run_dir / run_folder.LOGS / f"worker-{strategies.worker(strategy)}.log")
        origin = finetune.load(init_weights) if init_weights and not resume else None
        if origin:
            recipe = origin.adapt(recipe, chosen)
        stems_from = origin.stored() if origin else stored.get("init_weights")
        learns_from = inference.load(teacher) if teacher else None
        try:
            run = Run(manifest, recipe, strategy, run_dir, stems_from=stems_from, teacher=learns_from, **saving)
            if resume:
                run.resume()
                console.say(f"resuming {run_dir} at step {run.progressed.step:,} of {run.schedule.total_steps:,}")
            else:
                if origin:
                    _take_over(origin, run)
                if run.writes:
                    files.write_json(run_dir / run_folder.CONFIG, config(run, strategy_name, origin))
            _print_settings(run, strategy_name)
            run.train()
        except tf.errors.OpError as error:
            lost = machines.lost_worker(error) if machines else None
            if machines is None or lost is None:
                raise
            raise TryAgain(
                f"worker {lost} ({machines.workers[lost]}) is lost: it no longer answers. What it said last is in "
                f"{run_dir / run_folder.LOGS / f'worker-{lost}.log'}. Start all workers again with --resume "
                f"--run_dir={run_dir} to go on from the last checkpoint"
            ) from None
        if run.writes:
            _conclude(run)


def _conclude(run: Run) -> None:
    history = run.progressed.history
    plots.training_curve(history, run.run_dir / "curve.png", title=run.run_dir.name)
    best = max((line for line in history if "val_top1" in line), key=lambda line: line["val_top1"])
    console.result(
        f"best: epoch {best['epoch']}, val top-1 (rank-1) {console.percent(best['val_top1'])}, top-5 (rank-5) "
        f"{console.percent(best['val_top5'])}, n = {run.manifest.records('val')}, on {run.manifest.folder}"
    )
    if run.bad:
        console.result(f"{len(run.bad)} bad records were left out: {run.run_dir / mend.LIST}")
    console.result(f"run folder: {run.run_dir}")


def _take_over(origin: Origin, run: Run) -> None:
    with run.strategy.scope():
        known = origin.put_into(run.model, run.manifest.classes)
    anew = run.network.classes - known
    _, how = origin.known_outputs(run.manifest.classes)
    console.say(
        f"weights of {origin.path}: conv10 knows {known} of {run.network.classes} classes; {anew} start anew"
        + (f" ({how})" if how else "")
    )


def _check_free(run_dir: Path) -> None:
    if checkpoint.steps(run_dir):
        raise InputError(f"{run_dir} holds a run already: add --resume to go on with it, or choose another --run_dir")


def _check_same_data(manifest: Manifest, stored: dict[str, Any], run_dir: Path) -> None:
    """A resumed run must see what it began with: the means are in its first layer, the records in its steps."""
    here = {
        "classes": list(manifest.classes),
        "data_channel_means": list(manifest.channel_means),
        "train_records": manifest.records("train"),
    }
    for name, value in here.items():
        if stored.get(name) != value:
            raise InputError(
                f"{run_dir} was trained on other data than {manifest.folder}: {name} was {stored.get(name)} and is "
                f"{value}; name the same set with --data, or start another run"
            )


def _print_settings(run: Run, strategy_name: str) -> None:
    recipe = run.recipe
    norm = ", batch norm" if recipe.batch_norm else ""
    bypass = f", {recipe.bypass} bypass" if recipe.bypass != "none" else ""
    console.say(
        f"SqueezeNet {recipe.arch}, {recipe.activation}{norm}{bypass}, {run.network.classes} classes, "
        f"{recipe.image_size} px, recipe {recipe.name}; {run.schedule.total_steps:,} steps of "
        f"{recipe.global_batch_size} images in {run.schedule.epochs} epochs; strategy {strategy_name}, "
        f"{run.strategy.num_replicas_in_sync} replica(s); {run.manifest.records('train'):,} training records"
    )
    without = run.manifest.classes_without("train")
    if without:
        console.say(
            f"note: {len(without):,} of {run.network.classes:,} classes have no training photographs ({without[0]!r} "
            "first) and will not be learned"
        )
    console.say(f"a step computes in {recipe.precision}; {startup.described()}")
    if recipe.freeze:
        moving = sum(int(np.prod(each.shape)) for each in run.model.trainable_variables)
        console.say(
            f"frozen until {recipe.freeze[6:]}: {moving:,} of {run.model.count_params():,} parameters are trained"
        )
    if run.teacher:
        console.say(
            f"teacher {run.teacher.path}, {run.teacher.runtime.image_size} px: weight {recipe.distill_weight:g}, "
            f"temperature {recipe.distill_temperature:g}"
        )
