"""One training run: its objects, its epochs, its state on disk. `start.train` is the way in."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import random
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sqznet.core import console, files, metrics, remote
from sqznet.core.errors import InputError, TryAgain
from sqznet.data import corruption, pipeline
from sqznet.data.corruption import BadRecord
from sqznet.data.manifest import Manifest
from sqznet.network import architecture, keras_file, model
from sqznet.network import sparse as sparse_weights
from sqznet.network.keras_file import Card
from sqznet.predict.inference import Predictor
from sqznet.recipes import Recipe, schedule
from sqznet.runs import best, checkpoint, run_folder
from sqznet.runs.best import Line
from sqznet.train import finetune, loop, precision
from sqznet.train import strategy as strategies
from sqznet.train.batch_norm import FusedBatchNormalization
from sqznet.train.dropout import GlobalDropout
from sqznet.train.loop import Sums
from sqznet.train.profile import Profiler

COLUMNS = (
    "epoch", "image_size", "learning_rate", "train_loss", "train_top1", "val_loss", "val_top1", "val_top5",
)  # fmt: skip
TIMES = ("epoch", "images_per_second", "seconds")  # apart: the others are the same each time that a run is repeated
AHEAD = 64  # global batches that may be read before they are needed, besides those of the call itself

ADVICE = "try a lower --learning_rate or a longer --warmup_epochs"


class Stopped(Exception):
    """The run was asked to end (SIGINT, SIGTERM) and has saved its state."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


@dataclass
class Progressed:
    """Where a run stands; what the checkpoint holds besides the variables."""

    step: int = 0  # updates done
    sums: Sums = field(default_factory=Sums)  # of the epoch under way
    seconds: float = 0.0  # spent in the epoch under way
    kept_epoch: int = 0  # the epoch that best.keras is of; 0 before the first evaluation
    history: list[Line] = field(default_factory=list)  # the lines of metrics.csv and timings.csv

    @property
    def kept(self) -> Line | None:
        """The line of the epoch that best.keras is of."""
        return self.history[self.kept_epoch - 1] if self.kept_epoch else None

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "sums": vars(self.sums)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Progressed:
        fields = {**content, "sums": Sums(**content["sums"])}
        if "best_top1" in fields:  # Version 0.2 kept the first epoch with the highest top-1.
            top1 = fields.pop("best_top1")
            fields["kept_epoch"] = next(
                (line["epoch"] for line in fields["history"] if line.get("val_top1") == top1), 0
            )
        return cls(**fields)


class Run:
    """The objects of one run, made once, and the steps that use them."""

    def __init__(
        self,
        manifest: Manifest,
        recipe: Recipe,
        strategy: tf.distribute.Strategy,
        run_dir: Path,
        *,
        stems_from: dict[str, Any] | None = None,
        teacher: Predictor | None = None,
        keep: int = 2,
        save_minutes: float = 5.0,
        max_bad_records: int = 0,
        data_service: str | None = None,
        profile: int = 0,
    ) -> None:
        """
        Args:
            stems_from: what is known of the weights that the run starts from (`finetune.Origin.stored`); None for
                random ones. What they subtract from the pixels stays; random weights get the training split's means.
            teacher: a model to learn from besides the labels.
            keep: how many checkpoints stay.
            save_minutes: time between them; there is one at each end of an epoch, too.
            max_bad_records: of the training split, that the run may go on without.
            data_service: grpc://host:port of the dispatcher of other machines that decode; None: this one does.
            profile: how many steps to record for TensorBoard; the chief's.
        """
        replicas = strategy.num_replicas_in_sync
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
        recipe = recipe.replace(precision=precision.choose(recipe.precision))
        self.manifest, self.recipe, self.strategy, self.run_dir = manifest, recipe, strategy, run_dir
        self.teacher, self.keep, self.save_minutes, self.max_bad_records = teacher, keep, save_minutes, max_bad_records
        self.data_service = data_service
        self.channel_means = tuple(stems_from["channel_means"]) if stems_from else manifest.channel_means
        self.channel_deviations = tuple(stems_from["channel_deviations"]) if stems_from else (1.0, 1.0, 1.0)
        self.card = self._make_card(stems_from or {})
        self.schedule = schedule.plan(recipe, manifest.records("train"))
        self.network = architecture.Network(
            classes=len(manifest.classes),
            arch=recipe.arch,
            activation=recipe.activation,
            batch_norm=recipe.batch_norm,
            bypass=recipe.bypass,
            conv10_padding=recipe.conv10_padding,
            image_size=recipe.image_size,
        )
        self.workers = strategies.workers(strategy)
        self.writes = strategies.is_chief(strategy)
        self.progressed = Progressed()
        self._saved_at = time.monotonic()
        self._use(corruption.load(run_dir))
        self._leave_out(corruption.at_first_sight(manifest))
        if teacher:
            teacher.outputs_of(manifest.classes, manifest.folder)  # raises where it knows other classes
        for _, size in recipe.train_sizes:
            architecture.pool_paddings(recipe.arch, size)  # raises where it is too small
        keras.utils.set_random_seed(recipe.seed)
        # TensorFlow's own global seed is not needed (Keras passes its seeds on), and tf.data takes no tensor as the
        # seed of a shuffle while it is set.
        tf.random.set_seed(None)
        with strategy.scope():
            self.model = self._build_model(for_training=True)
            finetune.freeze(self.model, recipe)
            self.optimizer = loop.make_optimizer(recipe)
            self.optimizer.build(self.model.trainable_variables)
            self.averaged = self._build_model(for_training=True) if recipe.ema else None
        # What is evaluated and kept.
        self.shown = self.averaged or self.model
        self.variables = checkpoint.variables(self.model, self.optimizer)
        if self.averaged:
            self.variables |= checkpoint.model_variables(self.averaged, "averaged")
        with tf.device("CPU:0"):
            self.counter = tf.Variable(0, dtype=tf.int64)  # of updates, for the progress bar
        self.train_steps = loop.make_train_steps(
            self.model, self.optimizer, recipe, strategy, self.averaged, self.counter
        )
        self.eval_step = loop.make_eval_step(self.shown, strategy)
        self.total = loop.make_total(strategy)
        self._preparing = "tracing the training step, reading ahead"  # what happens before the first update
        self.profiler = Profiler(profile if self.writes else 0, run_dir / run_folder.EVENTS)
        self._signal: int | None = None

    def _make_card(self, stems_from: dict[str, Any]) -> Card:
        taught_by = self.teacher.card.pretrained_on if self.teacher else None
        return Card(
            classes=self.manifest.classes,
            preprocessing=self.recipe.preprocessing,
            data=remote.published(self.manifest.folder),
            # A student has learnt from what its teacher has seen, too.
            pretrained_on=stems_from.get("pretrained_on") or taught_by,
            weights=stems_from.get("weights"),
        )

    def _build_model(self, for_training: bool = False) -> keras.Model:
        alone = self.strategy.num_replicas_in_sync == 1
        return model.build(
            self.network,
            channel_means=self.channel_means,
            channel_deviations=self.channel_deviations,
            dropout=self.recipe.dropout,
            seed=self.recipe.seed,
            dropout_layer=GlobalDropout if for_training else None,
            batch_norm_layer=FusedBatchNormalization if for_training and alone else None,
        )

    # State on disk.

    def resume(self) -> None:
        """Goes back to the last checkpoint.

        Raises:
            InputError: there is none, or not the same one for all workers.
        """
        path, arrays, progress = checkpoint.load_last(self.run_dir)
        checkpoint.restore(self.variables, arrays, path)
        self.progressed = Progressed.from_json(progress)
        step, replicas = self.progressed.step, self.strategy.num_replicas_in_sync
        if self.workers > 1 and float(self.total(tf.constant(float(step)))) != step * replicas:
            raise InputError(
                f"the workers would resume from different steps (this one from {step}): --run_dir={self.run_dir} must "
                "be the same folder for all of them"
            )

    def save(self) -> None:
        arrays = checkpoint.read(self.variables)  # on all workers: some variables are averaged when read
        for name, array in arrays.items():
            # Not left to the loss: a ReLU makes 0 of what is not a number, and the loss stays that of chance.
            if not np.isfinite(array).all():
                raise InputError(f"{name} is no longer finite by step {self.progressed.step}: {self._advice()}")
        if self.writes:
            progressed = self.progressed
            checkpoint.save(self.run_dir, progressed.step, arrays, progressed.to_json(), keep=self.keep)
        self._saved_at = time.monotonic()

    def _advice(self) -> str:
        kept = checkpoint.steps(self.run_dir)
        return ADVICE + (f"; the state of step {kept[-1]} is kept" if kept else "")

    def save_best(self) -> None:
        arrays = checkpoint.read(checkpoint.model_variables(self.shown))
        if self.writes:
            host = self._build_model()  # without the strategy, whose variables do not belong in a file
            for name, variable in checkpoint.model_variables(host).items():
                variable.assign(arrays[name])
            keras_file.save(host, self.card, self.run_dir / run_folder.BEST)

    # Training.

    def train(self) -> None:
        """Trains to the end of the schedule.

        Raises:
            Stopped: after a signal, with the state saved.
            InputError: the loss is no longer finite, or more records cannot be read than may be left out.
        """
        events = tf.summary.create_file_writer(str(self.run_dir / run_folder.EVENTS)) if self.writes else None
        with self._catching_signals():
            if not self.progressed.step:
                self.save()  # something to go back to
            self._write_metrics()  # which a kill may have kept from being written
            while True:
                try:
                    self._train_epochs(events)
                    return
                except (tf.errors.OpError, UnicodeDecodeError) as error:
                    said = pipeline.said_by_teacher(error) if self.teacher else None
                    if said:
                        raise InputError(f"--teacher: {said}") from None
                    if not corruption.is_of_reading(error):
                        raise
                    self._leave_out_bad_records(error)

    def _train_epochs(self, events: Any) -> None:
        job = self._name_job() if self.data_service and self.workers > 1 else None
        with console.doing("preparing the reading of photographs"):
            batches = self.strategy.distribute_datasets_from_function(
                lambda context: pipeline.training_batches(
                    self.readable,
                    self.schedule,
                    replicas=self.strategy.num_replicas_in_sync,
                    start_step=self.progressed.step,
                    worker=context.input_pipeline_id,
                    workers=context.num_input_pipelines,
                    teacher=self.teacher,
                    service=self.data_service,
                    job=job,
                )
            )
            iterator = iter(batches)
        # An epoch is over when its line stands in the history; stopped before that, it is only evaluated.
        for epoch in range(len(self.progressed.history), self.schedule.epochs):
            self._train_epoch(epoch, iterator)
            self._end_epoch(epoch, events)

    def _name_job(self) -> str:
        """A name for the workers' common job at the data service that no earlier start of this run has used."""
        mine = random.SystemRandom().randrange(2**16) if self.writes else 0
        return f"{self.run_dir.name}-{self.progressed.step}-{float(self.total(tf.constant(float(mine)))):.0f}"

    def _use(self, bad: Iterable[BadRecord]) -> None:
        self.bad = sorted(bad)
        self.readable = corruption.mended(self.manifest, self.bad, self.run_dir / corruption.FOLDER)

    def _leave_out_bad_records(self, error: Exception) -> None:
        """Finds what made reading fail, and goes back to the last checkpoint to go on without it.

        Back, because some steps of the call that failed are done, and nobody knows how many.

        Raises:
            InputError: these are too many bad records, or other workers have to start anew as well.
            Exception: the error, if it was not for a bad record.
        """
        console.say(f"reading failed ({type(error).__name__}); looking for the record in {self.manifest.folder}")
        if self.data_service:  # nobody knows which shard was being read
            bad_one = corruption.first(self.manifest, "train")
            raise InputError(bad_one.in_words(self.manifest.folder)) if bad_one else error
        ahead = pipeline.order(self.readable, self.schedule, self.progressed.step)
        batches = self.recipe.steps_per_call + AHEAD
        # How far shuffling and other threads have read is not known for certain: the whole split settles it.
        found = corruption.find(
            self.readable, ahead.take(batches * self.recipe.global_batch_size)
        ) or corruption.all_of(self.readable, "train")
        if not found:
            raise error
        self._leave_out(found)
        if self.workers > 1:
            raise TryAgain(
                f"{found[0].in_words(self.manifest.folder)}. It is listed in {self.run_dir / corruption.LIST} now: "
                "start all workers again with --resume to go on without it"
            )
        self.resume()

    def _leave_out(self, found: Sequence[BadRecord]) -> None:
        bad = {*self.bad, *found}
        if len(bad) > self.max_bad_records and found:
            raise InputError(
                f"{found[0].in_words(self.manifest.folder)}. Bad records: {len(bad)} so far, and "
                f"--max_bad_records={self.max_bad_records} may be left out. Build the set again, or go on with more of "
                "them and --resume"
            )
        for each in sorted(bad - set(self.bad)):
            console.say(f"left out: {each.in_words(self.manifest.folder)}")
        if bad != set(self.bad):
            corruption.save(self.run_dir, bad)
            self._use(bad)

    def _train_epoch(self, epoch: int, iterator: Any) -> None:
        end = self.schedule.epoch_end(epoch)
        size, batch = self.schedule.image_size(epoch), self.recipe.global_batch_size
        label = f"epoch {epoch + 1}/{self.schedule.epochs}, {size} px"
        start = self.schedule.epoch_start(epoch)

        def watch() -> None:
            bar.update(task, completed=(int(self.counter.numpy()) - start) * batch)

        self.counter.assign(self.progressed.step)
        bar = console.progress("images/s", watch)
        task = bar.add_task(f"{label}: {self._preparing}", total=(end - start) * batch)
        with bar:
            while self.progressed.step < end:
                steps = range(self.progressed.step, min(self.progressed.step + self.recipe.steps_per_call, end))
                self.profiler.before_call(steps.start)
                self._train_call(iterator, steps)
                means = self.progressed.sums.means()
                bar.update(
                    task, description=f"{label}, loss {means['loss']:.3f}, top-1 {console.percent(means['top1'])}"
                )
                self._heed()
            watch()
        self._preparing = "reading ahead"
        self.profiler.finish()  # what follows is evaluation

    def _heed(self) -> None:
        """Saves when it is time to, and stops when any worker was asked to: all workers must call it alike."""
        due = self.writes and time.monotonic() - self._saved_at > 60 * self.save_minutes
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
        progressed = self.progressed
        for step, rate, each in zip(steps, rates, sums, strict=True):
            if not math.isfinite(each[0]):
                raise InputError(f"the loss became {each[0]} in step {step} (learning rate {rate:g}): {self._advice()}")
            progressed.sums += Sums(*each)
        progressed.step = steps.stop
        progressed.seconds += time.perf_counter() - started

    def _end_epoch(self, epoch: int, events: Any) -> None:
        progressed = self.progressed
        self.save()  # a kill during the evaluation must not cost the epoch
        due = (epoch + 1) % self.recipe.evaluate_every == 0 or epoch + 1 == self.schedule.epochs
        train, val = progressed.sums.means(), self.evaluate("val") if due else {}
        line = {
            "epoch": epoch + 1,
            "image_size": self.schedule.image_size(epoch),
            "learning_rate": self.schedule.learning_rate(progressed.step - 1),
            "train_loss": train["loss"],
            "train_top1": train["top1"],
            **{f"val_{name}": value for name, value in val.items()},
            "images_per_second": progressed.sums.count / progressed.seconds,
            "seconds": progressed.seconds,
        }
        progressed.history.append(line)
        is_best = due and (progressed.kept is None or best.rank(line) > best.rank(progressed.kept))
        if is_best:
            progressed.kept_epoch = epoch + 1
        progressed.sums, progressed.seconds = Sums(), 0.0
        if is_best:
            self.save_best()
        self.save()
        self._write_metrics()
        if self.writes:
            self._report(line, events, is_best)

    def _write_metrics(self) -> None:
        if not self.writes:
            return
        for name, columns in (("metrics.csv", COLUMNS), ("timings.csv", TIMES)):
            text = io.StringIO()
            writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(self.progressed.history)
            files.write_text(self.run_dir / name, text.getvalue())

    def _report(self, line: Line, events: Any, is_best: bool) -> None:
        with events.as_default(step=int(line["epoch"])):
            for name in line.keys() - {"epoch"}:
                tf.summary.scalar(name, line[name])
        events.flush()
        val = ""
        if "val_top1" in line:
            top5 = f", top-5 {console.percent(line['val_top5'])}" if 5 in metrics.ranks(self.network.classes) else ""
            val = f"val loss {line['val_loss']:.3f}, top-1 {console.percent(line['val_top1'])}{top5}"
            val += " (best so far); " if is_best else "; "
        console.say(
            f"epoch {line['epoch']}: train loss {line['train_loss']:.3f}, top-1 {console.percent(line['train_top1'])}; "
            f"{val}{line['images_per_second']:,.0f} images/s"
        )

    def evaluate(self, split: str) -> dict[str, float]:
        """Loss, top-1 and top-5 over every record of a split, each counted once."""
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
        total = tf.zeros([4], tf.float64)
        bar = console.progress("images/s", transient=True)
        task = bar.add_task(f"evaluating on {split}", total=self.manifest.records(split))
        with pipeline.naming_bad_records(self.manifest, split), bar:
            for batch in batches:
                self._heed()
                total += tf.cast(self.eval_step(batch), tf.float64)
                bar.update(task, completed=float(total[3]))
        sums = Sums(*total.numpy().tolist())
        expected = self.manifest.records(split)
        if sums.count != expected:
            raise InputError(f"{sums.count:,.0f} of {expected:,} records of {split} were scored; {pipeline.VERIFY}")
        return sums.means()

    @contextlib.contextmanager
    def _catching_signals(self) -> Iterator[None]:
        def note(signal_number: int, _frame: Any) -> None:
            if self._signal is not None:  # the second time, at once
                raise KeyboardInterrupt
            console.say(f"{signal.Signals(signal_number).name}: finishing this call of steps, then saving")
            self._signal = signal_number

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
