"""Trains a recipe on a built data set: checks the settings, creates the `Run`, and writes and prints its results."""

from __future__ import annotations

import contextlib
import platform
import random
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import config as tf_config  # TensorFlow does not export `disable_op_determinism`

from sqznet.core import console, files, plots, startup
from sqznet.core.errors import InputError, TryAgain
from sqznet.core.version import __version__
from sqznet.data import build, corruption, sampling, summary
from sqznet.data import manifest as manifests
from sqznet.data.manifest import Manifest
from sqznet.data.sources import listing
from sqznet.predict import inference
from sqznet.recipes import Recipe, fitting
from sqznet.runs import best, checkpoint, run_folder
from sqznet.train import cluster, finetune, settings
from sqznet.train import strategy as strategies
from sqznet.train.cluster import Cluster
from sqznet.train.finetune import Origin
from sqznet.train.run import Run
from sqznet.train.settings import Settings


def config(run: Run, strategy_name: str, origin: Origin | None, command: Sequence[str]) -> dict[str, Any]:
    """Returns the content of config.json. `command` is the command line that started the run, () for a Python call."""
    return {
        "sqznet": __version__,
        "recipe": run.recipe.to_dict(),
        "data": str(run.manifest.folder),
        "classes": list(run.manifest.classes),
        "channel_means": list(run.channel_means),
        "data_channel_means": list(run.manifest.channel_means),
        "train_records": run.manifest.records("train"),
        "init_weights": origin.to_dict() if origin else None,
        "teacher": str(run.teacher.path) if run.teacher else None,
        "total_steps": run.schedule.total_steps,
        **_by_class(run),
        "strategy": strategy_name,
        "replicas": run.strategy.num_replicas_in_sync,
        "command": list(command),
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
    }


def _by_class(run: Run) -> dict[str, Any]:
    """Returns the fields of config.json about the weights of the classes and the sampling, if the recipe uses them."""
    fields: dict[str, Any] = {}
    if run.class_weights is not None:
        fields["weight_of_class"] = dict(zip(run.manifest.classes, map(float, run.class_weights), strict=True))
    if run.recipe.sampling == "balanced":
        per_class = run.manifest.per_class("train")
        ranges = sampling.range_of_counts(per_class)
        fields["seen_per_epoch"] = {
            name: {"records": count, "least": least, "most": most}
            for name, count, (least, most) in zip(run.manifest.classes, per_class, ranges, strict=True)
        }
    return fields


def load_data(job: Settings, *, whole: bool = True) -> Manifest:
    """Reads the manifest of a job's data. Builds the demo set first if the job needs it.

    Args:
        whole: whether every shard must exist.
    """
    if job.data == settings.DEMO and not (settings.DEMO / manifests.FILE).is_file():
        build.build_demo(settings.DEMO)
    return manifests.load(job.data, whole=whole)


def train_job(
    job: Settings, *, strategy_name: str = "mirrored", machines: Cluster | None = None, **options: Any
) -> Run:
    """Trains what `settings.settle` has found. Builds the demo set first if the job needs it.

    Args:
        options: of `train`.

    Raises:
        InputError, Stopped: as `train`.
    """
    manifest = load_data(job, whole=not options.get("max_bad_records"))
    if strategy_name == "multiworker" and machines is None:
        machines = cluster.find(None, None)
    return train(
        manifest,
        job.recipe,
        strategy_name=strategy_name,
        machines=machines,
        run_dir=job.run_dir,
        resume=job.resume,
        init_weights=job.init_weights,
        chosen=job.chosen,
        teacher=job.teacher,
        **options,
    )


def train(
    manifest: Manifest,
    recipe: Recipe,
    *,
    strategy_name: str,
    replicas: int | None = None,
    machines: Cluster | None = None,
    run_dir: Path,
    resume: bool,
    init_weights: Path | None = None,
    chosen: Container[str] = (),
    teacher: Path | None = None,
    deterministic: bool | None = None,
    command: Sequence[str] = (),
    **options: Any,
) -> Run:
    """Trains `recipe` on `manifest` and writes the run folder `run_dir`.

    Args:
        init_weights: the trained network that a fresh run starts from, or None for random weights. The network of the
            recipe becomes that of the weights, except for the `chosen` fields.
        chosen: fields of the recipe that the user has set. The other fields are fitted to the data (`fitting.fit`) and
            to the weights.
        teacher: a model to learn from, in addition to the labels.
        deterministic: whether every operation must give the same bits each time. None means only without GPUs, where
            this costs nothing.
        command: the command line, for config.json.
        options: `keep`, `save_minutes`, `max_bad_records`, `data_service`, `profile` and `callbacks` of `Run`.

    Returns:
        The finished run.

    Raises:
        InputError: the arguments do not fit together. The message says what to change.
        Stopped: a signal ended the run. Its state is saved.
    """
    stored = run_folder.load_config(run_dir) if resume else {}
    if resume:
        _check_same_data(manifest, stored, run_dir)
    else:
        require_weights(recipe, init_weights)
    is_chief = machines is None or machines.index == 0
    # The chief clears the folder before it connects to the other workers, which may write to the folder right after
    # that.
    with contextlib.ExitStack() as stack:
        stack.enter_context(_random_states_kept())
        if is_chief:
            stack.enter_context(run_folder.claimed(run_dir))
        # This comes before any model is loaded: TensorFlow's devices cannot be configured once they have been used.
        with machines.waiting_for_all() if machines else contextlib.nullcontext():
            strategy = strategies.create(strategy_name, replicas, machines)
        if deterministic or (deterministic is None and not tf.config.list_physical_devices("GPU")):
            stack.enter_context(_deterministic())
        if not resume and is_chief and checkpoint.steps(run_dir):
            raise InputError(
                f"{run_dir} holds a run already: add --resume to go on with it, or choose another --run_dir"
            )
        log = run_dir / run_folder.LOGS / f"worker-{strategies.worker(strategy)}.log"
        stack.enter_context(console.logging_to(log))
        origin = finetune.load(init_weights) if init_weights and not resume else None
        if origin:
            recipe = origin.adapt(recipe, chosen)
        if not resume:
            recipe = fitting.fit(recipe, manifest.records("train"), strategy.num_replicas_in_sync, chosen)
        origin_fields = origin.to_dict() if origin else stored.get("init_weights")
        teaching = inference.load(teacher) if teacher else None
        try:
            with console.doing("building the network"):
                run = Run(manifest, recipe, strategy, run_dir, origin=origin_fields, teacher=teaching, **options)
            if resume:
                run.resume()
                console.say(f"resuming {run_dir} at step {run.state.step:,} of {run.schedule.total_steps:,}")
            else:
                if origin:
                    load_initial_weights(origin, run)
                if run.is_chief:
                    files.write_json(run_dir / run_folder.CONFIG, config(run, strategy_name, origin, command))
            _print_settings(run, strategy_name)
            run.train()
        except tf.errors.OpError as error:
            lost = _lost_peer(error, machines, options.get("data_service"), run_dir)
            if lost is None:
                raise
            raise TryAgain(lost) from None
        if run.is_chief:
            _conclude(run)
    return run


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    """Makes operations deterministic in the block: each gives the same bits each time.

    This ends with the block, because operations of the caller that have no seed would fail.
    """
    was_enabled = tf_config.is_op_determinism_enabled()
    tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        if not was_enabled:
            tf_config.disable_op_determinism()


@contextlib.contextmanager
def _random_states_kept() -> Iterator[None]:
    """Restores the random generators of Python and NumPy after the block. A run seeds them."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _lost_peer(error: tf.errors.OpError, machines: Cluster | None, service: str | None, run_dir: Path) -> str | None:
    """Names the worker or data service that no longer answers, and the remedy. Returns None for other causes."""
    if machines is None:
        gone = tf.errors.UnavailableError | tf.errors.DeadlineExceededError | tf.errors.CancelledError
        if not service or not isinstance(error, gone):
            return None
        return (
            f"--data_service={service} no longer answers; start it again, and go on with --resume --run_dir={run_dir}"
        )
    lost = machines.lost_worker(error)
    if lost is None:
        return None
    return (
        f"worker {lost} ({machines.workers[lost]}) is lost: it no longer answers. Its last messages are in "
        f"{run_dir / run_folder.LOGS / f'worker-{lost}.log'}. Start all workers again with --resume "
        f"--run_dir={run_dir} to go on from the last checkpoint"
    )


def require_weights(recipe: Recipe, init_weights: Path | None) -> None:
    """Raises InputError if a recipe needs trained weights and there are none."""
    remedy = "this recipe needs trained weights: give --init_weights=squeezenet-v1.1, a run folder or a file"
    if init_weights is None and recipe.freeze:
        raise InputError(f"freeze={recipe.freeze}: {remedy}")
    if init_weights is None and recipe.sparse_epochs and recipe.sparse_epochs[0] == 0:
        raise InputError(f"sparse_epochs begin at 0: {remedy}")


def _conclude(run: Run) -> None:
    history, kept, records = run.state.history, run.state.kept, run.manifest.records("val")
    assert kept is not None  # the last epoch is always evaluated
    if run.stopped_early:
        why = best.no_better(run.recipe.best, run.recipe.patience)
        console.result(f"ended early, after epoch {len(history)} of {run.schedule.epochs}: {why}")
    with console.doing("drawing the curve"):
        plots.training_curve(
            history, run.run_dir / "curve.png", run.run_dir.name, kept=kept, classes=run.network.classes
        )
    console.result(
        f"{best.explained(kept, history, records, run.network.classes, run.recipe.best)}, on {run.manifest.folder}"
    )
    coarse = best.small_split_warning(records)
    if coarse:
        console.result(f"note: {coarse}")
    if run.bad:
        left_out = console.counted(len(run.bad), "bad record was", "bad records were")
        console.result(f"{left_out} left out: {run.run_dir / corruption.LIST}")
    console.result(f"run folder: {run.run_dir}")


def load_initial_weights(origin: Origin, run: Run) -> None:
    """Sets the weights of a fresh run, and prints how many of its classes they cover."""
    with run.strategy.scope():
        known = origin.put_into(run.model, run.manifest.classes)
    random = run.network.classes - known
    _, how = origin.known_outputs(run.manifest.classes)
    console.say(
        f"weights of {origin.path}: conv10 covers {known} of {run.network.classes} classes; {random} start from random "
        "weights" + (f" ({how})" if how else "")
    )
    hints = finetune.hints(run.manifest.classes, origin.card.classes or ()) if random and known else []
    if hints:
        console.say(f"note: {'; '.join(hints[: finetune.MAX_LISTED])}")


def _check_same_data(manifest: Manifest, stored: dict[str, Any], run_dir: Path) -> None:
    """Raises InputError if a resumed run has other data than at its start. Means and steps depend on the data."""
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


def _print_classes(run: Run) -> None:
    """Prints the weight of each class, and how often an epoch has its records. Of many classes, prints the extremes."""
    classes, per_class = run.manifest.classes, run.manifest.per_class("train")
    seen = sampling.range_of_counts(per_class) if run.recipe.sampling == "balanced" else [(1, 1)] * len(classes)
    order = sorted(range(len(classes)), key=lambda label: (per_class[label], label))
    is_long = len(classes) > summary.MOST_ROWS
    if is_long:
        half = summary.MOST_ROWS // 2
        order = order[:half] + order[-half:]
    rows = [
        [
            classes[label],
            f"{per_class[label]:,}",
            _times(*seen[label]) if per_class[label] else "-",
            f"{1.0 if run.class_weights is None else run.class_weights[label]:.3f}",
        ]
        for label in order
    ]
    title = f"class_weights={run.recipe.class_weights}, sampling={run.recipe.sampling}"
    if is_long:
        title += f"; the {half} smallest and the {half} largest of {len(classes):,} classes"
    console.table(["class", "training records", "each seen in an epoch", "weight in the loss"], rows, title=title)
    if run.class_weights is not None and run.recipe.sampling == "balanced":
        console.say(
            "note: class_weights and sampling=balanced both raise the small classes; small classes now count more than "
            "large ones"
        )


def _times(least: int, most: int) -> str:
    return console.counted(most, "time") if least == most else f"{least:,} to {most:,} times"


def _print_settings(run: Run, strategy_name: str) -> None:
    recipe = run.recipe
    norm = ", batch norm" if recipe.batch_norm else ""
    bypass = f", {recipe.bypass} bypass" if recipe.bypass != "none" else ""
    console.say(
        f"SqueezeNet {recipe.arch}, {recipe.activation}{norm}{bypass}, {run.network.classes} classes, "
        f"{recipe.image_size} px, recipe {recipe.name}; "
        f"{console.counted(run.schedule.total_steps, 'step')} of "
        f"{console.counted(recipe.global_batch_size, 'image')} in {console.counted(run.schedule.epochs, 'epoch')}; "
        f"strategy {strategy_name}, "
        f"{console.counted(run.strategy.num_replicas_in_sync, 'replica')}; "
        f"{console.counted(run.manifest.records('train'), 'training record')}"
    )
    without = run.manifest.classes_without("train")
    if without:
        console.say(
            f"note: {len(without):,} of {console.counted(run.network.classes, 'class', 'classes')} without training "
            f"photographs will not be learned: {listing.abbreviated(without)}"
        )
    if run.class_weights is not None or recipe.sampling == "balanced":
        _print_classes(run)
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
