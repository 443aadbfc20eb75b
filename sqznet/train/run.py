"""Defines one training run: its model, its epochs, and its checkpoints. `start.train` creates it."""

from __future__ import annotations

import contextlib
import math
import random
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sqznet.core import console, metrics, remote
from sqznet.core.errors import InputError, Stopped, TryAgain
from sqznet.data import corruption, pipeline
from sqznet.data.corruption import BadRecord
from sqznet.data.manifest import Manifest
from sqznet.network import architecture, keras_file, model
from sqznet.network import sparse as sparse_weights
from sqznet.network.keras_file import Card
from sqznet.predict.inference import Predictor
from sqznet.recipes import NETWORK_FIELDS, Recipe, schedule
from sqznet.runs import best, checkpoint, run_folder
from sqznet.runs.best import Line
from sqznet.train import class_weights, finetune, loop, precision
from sqznet.train import strategy as strategies
from sqznet.train.batch_norm import FusedBatchNormalization
from sqznet.train.callbacks import Callback, TensorBoard
from sqznet.train.dropout import GlobalDropout
from sqznet.train.loop import Sums
from sqznet.train.profile import Profiler
from sqznet.train.state import RunState

READ_AHEAD = 64  # global batches that the pipeline may read ahead, besides those of the current call
ADVICE = "try a lower --learning_rate or a longer --warmup_epochs"


class Run:
    """The objects of one run, and the steps that use them."""

    def __init__(
        self,
        manifest: Manifest,
        recipe: Recipe,
        strategy: tf.distribute.Strategy,
        run_dir: Path,
        *,
        origin: dict[str, Any] | None = None,
        teacher: Predictor | None = None,
        keep: int = 2,
        save_minutes: float = 5.0,
        max_bad_records: int = 0,
        data_service: str | None = None,
        profile: int = 0,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        """
        Args:
            origin: the origin of the initial weights (`finetune.Origin.to_dict`); None for random weights. The channel
                means of the origin stay. Random weights get the means of the training split.
            teacher: a model to learn from, in addition to the labels.
            keep: number of checkpoints that are kept.
            save_minutes: time between checkpoints within an epoch. Each epoch ends with a checkpoint.
            max_bad_records: corrupt records of the training split that may be left out.
            data_service: grpc://host:port of the data service that decodes. None means that this machine decodes.
            profile: number of steps that the chief records for TensorBoard.
            callbacks: callbacks of the chief, in addition to the callback for TensorBoard.
        """
        _require_trainable(manifest, recipe, strategy.num_replicas_in_sync)
        if max_bad_records and recipe.sampling != "natural":
            raise InputError(
                f"--sampling={recipe.sampling} needs every record, and --max_bad_records={max_bad_records} may leave "
                "some out: build the set again without the corrupt records, or leave one of the flags out"
            )
        recipe = recipe.replace(precision=precision.choose(recipe.precision))
        self.manifest, self.recipe, self.strategy, self.run_dir = manifest, recipe, strategy, run_dir
        self.teacher, self.keep, self.save_minutes, self.max_bad_records = teacher, keep, save_minutes, max_bad_records
        self.data_service = data_service
        origin = origin or {"channel_means": manifest.channel_means, "channel_deviations": (1.0, 1.0, 1.0)}
        self.channel_means = tuple(origin["channel_means"])
        self.channel_deviations = tuple(origin["channel_deviations"])
        self.card = Card(
            classes=manifest.classes,
            preprocessing=recipe.preprocessing,
            data=remote.published(manifest.folder),
            # A student has indirectly seen the data of its teacher.
            pretrained_on=origin.get("pretrained_on") or (teacher.card.pretrained_on if teacher else None),
            weights=origin.get("weights"),
        )
        self.schedule = schedule.plan(recipe, manifest.records("train"))
        per_class = manifest.per_class("train")
        seen = per_class if recipe.sampling == "natural" else [float(count > 0) for count in per_class]
        self.class_weights = class_weights.of(recipe.class_weights, per_class, seen)
        self.network = architecture.Network(
            classes=len(manifest.classes),
            image_size=recipe.image_size,
            **{name: getattr(recipe, name) for name in NETWORK_FIELDS},
        )
        self.workers = strategies.workers(strategy)
        self.is_chief = strategies.is_chief(strategy)
        self.state = RunState()
        self._saved_at = time.monotonic()
        self._use(corruption.load(run_dir))
        self._leave_out(corruption.in_shards_of_wrong_size(manifest))
        if teacher:
            teacher.outputs_of(manifest.classes, manifest.folder)  # raises InputError for other classes
        for _, size in recipe.train_sizes:
            architecture.pool_paddings(recipe.arch, size)  # raises InputError for a size that is too small
        keras.utils.set_random_seed(recipe.seed)
        # TensorFlow's global seed is not needed (Keras passes its seeds on). While it is set, tf.data does not accept
        # a tensor as the seed of a shuffle.
        tf.random.set_seed(None)
        with strategy.scope():
            self.model = self._build_model(for_training=True)
            finetune.freeze(self.model, recipe)
            self.optimizer = loop.make_optimizer(recipe)
            self.optimizer.build(self.model.trainable_variables)
            self.averaged = self._build_model(for_training=True) if recipe.ema else None
        self.evaluated_model = self.averaged or self.model  # also the one that best.keras holds
        self.variables = checkpoint.variables(self.model, self.optimizer)
        if self.averaged:
            self.variables |= checkpoint.model_variables(self.averaged, "averaged")
        with tf.device("CPU:0"):
            self.counter = tf.Variable(0, dtype=tf.int64)  # of updates, for the progress bar
        self.train_steps = loop.make_train_steps(
            self.model, self.optimizer, recipe, strategy, self.averaged, self.counter, self.class_weights
        )
        self.eval_step = loop.make_eval_step(self.evaluated_model, strategy)
        self.total = loop.make_total(strategy)
        self._preparing = "tracing the training step, reading ahead"  # shown until the first update
        self.profiler = Profiler(profile if self.is_chief else 0, run_dir / run_folder.EVENTS)
        events = TensorBoard(run_dir / run_folder.EVENTS)
        self.callbacks: list[Callback] = [events, *callbacks] if self.is_chief else []
        self._signal: int | None = None

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.run_dir

    @property
    def history(self) -> list[Line]:
        """The lines of the finished epochs."""
        return self.state.history

    @property
    def stopped_early(self) -> bool:
        """Whether the recipe's patience has ended the run."""
        history = self.state.history
        is_last = len(history) >= self.schedule.epochs
        return not is_last and best.out_of_patience(history, self.recipe.patience, self.recipe.best)

    def stop(self) -> None:
        """Saves the state and ends the training after the current steps, as SIGINT does. For callbacks."""
        self._signal = signal.SIGINT

    def _build_model(self, for_training: bool = False) -> keras.Model:
        one_replica = self.strategy.num_replicas_in_sync == 1
        return model.build(
            self.network,
            channel_means=self.channel_means,
            channel_deviations=self.channel_deviations,
            dropout=self.recipe.dropout,
            seed=self.recipe.seed,
            dropout_layer=GlobalDropout if for_training else None,
            batch_norm_layer=FusedBatchNormalization if for_training and one_replica else None,
        )

    # Checkpoints.

    def resume(self) -> None:
        """Restores the last checkpoint.

        Raises:
            InputError: there is no checkpoint, or the workers found different checkpoints.
        """
        path, arrays, state = checkpoint.load_last(self.run_dir)
        checkpoint.restore(self.variables, arrays, path)
        self.state = RunState.from_json(state)
        step, replicas = self.state.step, self.strategy.num_replicas_in_sync
        if self.workers > 1 and float(self.total(tf.constant(float(step)))) != step * replicas:
            raise InputError(
                f"the workers would resume from different steps (this one from {step}): --run_dir={self.run_dir} must "
                "be the same folder for all of them"
            )

    def save(self) -> None:
        arrays = checkpoint.read(self.variables)  # on all workers: reading averages some of the variables
        for name, array in arrays.items():
            # The loss does not show NaN in the weights: ReLU turns NaN into 0, and the loss stays at chance level.
            if not np.isfinite(array).all():
                raise InputError(f"{name} is no longer finite by step {self.state.step}: {self._advice()}")
        if self.is_chief:
            checkpoint.save(self.run_dir, self.state.step, arrays, self.state.to_json(), keep=self.keep)
        self._saved_at = time.monotonic()

    def _advice(self) -> str:
        kept = checkpoint.steps(self.run_dir)
        return ADVICE + (f"; the state of step {kept[-1]} is kept" if kept else "")

    def save_best(self) -> None:
        arrays = checkpoint.read(checkpoint.model_variables(self.evaluated_model))
        if self.is_chief:
            host = self._build_model()  # outside the strategy: a file must not contain distributed variables
            for name, variable in checkpoint.model_variables(host).items():
                variable.assign(arrays[name])
            keras_file.save(host, self.card, self.run_dir / run_folder.BEST)

    # Training.

    def train(self) -> None:
        """Trains to the end of the schedule, or until the recipe's patience ends the run.

        Raises:
            Stopped: after a signal, with the state saved.
            InputError: the loss is no longer finite, or there are more corrupt records than may be left out.
        """
        with self._catching_signals(), self._calling_back():
            if not self.state.step:
                self.save()  # a checkpoint to go back to
            self._write_history()  # a kill may have come before it was written
            while True:
                try:
                    self._train_epochs()
                    return
                except (tf.errors.OpError, UnicodeDecodeError) as error:
                    said = pipeline.teacher_error(error) if self.teacher else None
                    if said:
                        raise InputError(f"--teacher: {said}") from None
                    if not corruption.is_read_error(error):
                        raise
                    self._leave_out_bad_records(error)

    def _train_epochs(self) -> None:
        job = self._name_job() if self.data_service and self.workers > 1 else None
        with console.doing("preparing the reading of photographs"):
            batches = self.strategy.distribute_datasets_from_function(
                lambda context: pipeline.training_batches(
                    self.readable,
                    self.schedule,
                    replicas=self.strategy.num_replicas_in_sync,
                    start_step=self.state.step,
                    worker=context.input_pipeline_id,
                    workers=context.num_input_pipelines,
                    teacher=self.teacher,
                    service=self.data_service,
                    job=job,
                )
            )
            iterator = iter(batches)
        # An epoch that was stopped after its last update is not in the history yet: it is only evaluated.
        for epoch in range(len(self.state.history), self.schedule.epochs):
            if self.stopped_early:
                return
            self._train_epoch(epoch, iterator)
            self._end_epoch(epoch)

    def _name_job(self) -> str:
        """Returns a name for the workers' common job at the data service, different at each start of this run."""
        mine = random.SystemRandom().randrange(2**16) if self.is_chief else 0
        return f"{self.run_dir.name}-{self.state.step}-{float(self.total(tf.constant(float(mine)))):.0f}"

    def _use(self, bad: Iterable[BadRecord]) -> None:
        self.bad = sorted(bad)
        self.readable = corruption.without_bad_records(self.manifest, self.bad, self.run_dir / corruption.FOLDER)

    def _leave_out_bad_records(self, error: Exception) -> None:
        """Finds the corrupt record that caused `error`, and restores the last checkpoint to continue without it.

        The failed call has done an unknown number of its steps, so the run cannot simply continue.

        Raises:
            InputError: there are too many bad records, or the other workers have to be started again too.
            Exception: `error`, if no record is corrupt.
        """
        console.say(f"reading failed ({type(error).__name__}); looking for the record in {self.manifest.folder}")
        if self.data_service:  # the shard that was being read is unknown
            bad_one = corruption.find_first(self.manifest, "train")
            raise InputError(bad_one.message(self.manifest.folder)) if bad_one else error
        ahead = pipeline.order(self.readable, self.schedule, self.state.step)
        batches = self.recipe.steps_per_call + READ_AHEAD
        # Shuffling and other threads may have read further than these records. Then the whole split is searched.
        found = corruption.find_ahead(
            self.readable, ahead.take(batches * self.recipe.global_batch_size)
        ) or corruption.find_all(self.readable, "train")
        if not found:
            raise error
        self._leave_out(found)
        if self.workers > 1:
            raise TryAgain(
                f"{found[0].message(self.manifest.folder)}. It is listed in {self.run_dir / corruption.LIST} now: "
                "start all workers again with --resume to go on without it"
            )
        self.resume()

    def _leave_out(self, found: Sequence[BadRecord]) -> None:
        bad = {*self.bad, *found}
        if len(bad) > self.max_bad_records and found:
            raise InputError(
                f"{found[0].message(self.manifest.folder)}. Bad records: {len(bad)} so far, and "
                f"--max_bad_records={self.max_bad_records} may be left out. Build the set again, or go on with more of "
                "them and --resume"
            )
        for each in sorted(bad - set(self.bad)):
            console.say(f"left out: {each.message(self.manifest.folder)}")
        if bad != set(self.bad):
            corruption.save(self.run_dir, bad)
            self._use(bad)

    def _train_epoch(self, epoch: int, iterator: Any) -> None:
        start, end = self.schedule.epoch_start(epoch), self.schedule.epoch_end(epoch)
        size, batch = self.schedule.image_size(epoch), self.recipe.global_batch_size
        label = f"epoch {epoch + 1}/{self.schedule.epochs}, {size} px"

        def watch() -> None:
            bar.update(task, completed=(int(self.counter.numpy()) - start) * batch)

        self.counter.assign(self.state.step)
        bar = console.progress("images/s", watch)
        task = bar.add_task(f"{label}: {self._preparing}", total=(end - start) * batch)
        with bar:
            while self.state.step < end:
                steps = range(self.state.step, min(self.state.step + self.recipe.steps_per_call, end))
                self.profiler.before_call(steps.start)
                self._train_call(iterator, steps)
                means = self.state.sums.means()
                top1 = console.percent(means["top1"])
                bar.update(task, description=f"{label}, loss {means['loss']:.3f}, top-1 {top1}")
                self._save_or_stop()
            watch()
        self._preparing = "reading ahead"
        self.profiler.finish()  # what follows is evaluation

    def _save_or_stop(self) -> None:
        """Saves when a checkpoint is due, and stops when a signal has come to any worker. All workers must call it."""
        due = self.is_chief and time.monotonic() - self._saved_at > 60 * self.save_minutes
        asked = [float(self._signal is not None), float(due)]
        if self.workers > 1:
            asked = self.total(tf.constant(asked)).numpy().tolist()
        if any(asked):
            self.save()
        if asked[0]:
            raise Stopped(self._signal or signal.SIGTERM)

    def _train_call(self, iterator: Any, steps: range) -> None:
        started = time.perf_counter()
        rates = [self.schedule.learning_rate(step) for step in steps]
        sparse = [self.schedule.is_sparse(step) for step in steps]
        if self.recipe.sparsity and steps.start == self.schedule.epoch_start(self.recipe.sparse_epochs[0]):
            sparse_weights.prune(self.model, self.recipe.sparsity)
        sums = self.train_steps(iterator, tf.constant(rates, tf.float32), tf.constant(sparse)).numpy().tolist()
        for step, rate, each in zip(steps, rates, sums, strict=True):
            if not math.isfinite(each[0]):
                raise InputError(f"the loss became {each[0]} in step {step} (learning rate {rate:g}): {self._advice()}")
            self.state.sums += Sums(*each)
        self.state.step = steps.stop
        self.state.seconds += time.perf_counter() - started

    def _end_epoch(self, epoch: int) -> None:
        state = self.state
        self.save()  # a kill during the evaluation must not lose the epoch
        due = (epoch + 1) % self.recipe.evaluate_every == 0 or epoch + 1 == self.schedule.epochs
        train, val = state.sums.means(), self.evaluate("val") if due else {}
        line = {
            "epoch": epoch + 1,
            "image_size": self.schedule.image_size(epoch),
            "learning_rate": self.schedule.learning_rate(state.step - 1),
            "train_loss": train["loss"],
            "train_top1": train["top1"],
            **{f"val_{name}": value for name, value in val.items()},
            "images_per_second": state.sums.count / state.seconds,
            "seconds": state.seconds,
        }
        state.history.append(line)
        by = self.recipe.best
        is_best = due and (state.kept is None or best.rank(line, by) > best.rank(state.kept, by))
        if is_best:
            state.kept_epoch = epoch + 1
        state.sums, state.seconds = Sums(), 0.0
        if is_best:
            self.save_best()
        self.save()
        self._write_history()
        if self.is_chief:
            self._report(line, is_best)

    def _write_history(self) -> None:
        if self.is_chief:
            self.state.write_history(self.run_dir)

    def _report(self, line: Line, is_best: bool) -> None:
        val = ""
        if "val_top1" in line:
            top5 = f", top-5 {console.percent(line['val_top5'])}" if 5 in metrics.ranks(self.network.classes) else ""
            val = f"val loss {line['val_loss']:.3f}, top-1 {console.percent(line['val_top1'])}{top5}"
            if self.recipe.best in ("balanced_accuracy", "macro_f1"):
                val += f", {best.NAMES[self.recipe.best]} {console.percent(line[f'val_{self.recipe.best}'])}"
            val += " (best so far); " if is_best else "; "
        console.say(
            f"epoch {line['epoch']}: train loss {line['train_loss']:.3f}, top-1 {console.percent(line['train_top1'])}; "
            f"{val}{line['images_per_second']:,.0f} images/s"
        )
        for each in self.callbacks:
            each.on_epoch_end(self, dict(line))

    def evaluate(self, split: str) -> dict[str, float]:
        """Returns the loss, top-1, top-5, balanced accuracy and macro F1 of a split. Each record is counted once."""
        replicas = self.strategy.num_replicas_in_sync
        batches = self.strategy.distribute_datasets_from_function(
            lambda context: pipeline.evaluation_batches(
                self.manifest,
                split,
                self.recipe.preprocessing,
                batch_size=self.recipe.global_batch_size // replicas,
                multiple_of=replicas,
                worker=context.input_pipeline_id,
                workers=context.num_input_pipelines,
            )
        )
        total, by_class = tf.zeros([4], tf.float64), tf.zeros([3, self.network.classes], tf.float64)
        expected = self.manifest.records(split)
        bar = console.progress("images/s", transient=True)
        task = bar.add_task(f"evaluating on {split}", total=expected)
        with pipeline.naming_bad_records(self.manifest, split), bar:
            for batch in batches:
                self._save_or_stop()
                sums, counts = self.eval_step(batch)
                total, by_class = total + tf.cast(sums, tf.float64), by_class + tf.cast(counts, tf.float64)
                bar.update(task, completed=float(total[3]))
        sums = Sums(*total.numpy().tolist())
        if sums.count != expected:
            raise InputError(f"{sums.count:,.0f} of {expected:,} records of {split} were scored; {pipeline.VERIFY}")
        macro = metrics.ByClass.of_counts(*by_class.numpy()).macro()
        return {**sums.means(), **{name: macro[name] for name in ("balanced_accuracy", "macro_f1")}}

    @contextlib.contextmanager
    def _calling_back(self) -> Iterator[None]:
        with contextlib.ExitStack() as begun:
            for each in self.callbacks:
                each.on_train_begin(self)
                begun.callback(each.on_train_end, self)
            yield

    @contextlib.contextmanager
    def _catching_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():  # Python handles signals in the main thread only
            yield
            return

        def note(signal_number: int, _frame: Any) -> None:
            if self._signal is not None:  # the second signal ends the process at once
                raise KeyboardInterrupt
            console.say(f"{signal.Signals(signal_number).name}: finishing this call of steps, then saving")
            self._signal = signal_number

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _require_trainable(manifest: Manifest, recipe: Recipe, replicas: int) -> None:
    """Checks that the replicas can share a batch and that there is a val split. Raises InputError if not."""
    if recipe.global_batch_size % replicas:
        raise InputError(
            f"a global batch of {recipe.global_batch_size} cannot be divided among {replicas} replicas: "
            f"choose a --global_batch_size that is a multiple of {replicas}"
        )
    if "val" not in manifest.splits:
        raise InputError(
            f"{manifest.folder} has no val split, which picks the best model; build it with one "
            "(each class needs two photographs or more)"
        )
