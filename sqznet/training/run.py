"""One training run: its objects, its epochs, its state on disk. `start.train` is the way in."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sqznet import console, files, keras_file, model
from sqznet.data import pipeline
from sqznet.data.manifest import Manifest
from sqznet.errors import InputError
from sqznet.inference import Predictor
from sqznet.keras_file import Card
from sqznet.recipes import Recipe
from sqznet.training import checkpoint, finetune, loop, run_folder, schedule
from sqznet.training import strategy as strategies
from sqznet.training.loop import Sums

COLUMNS = (
    "epoch", "image_size", "learning_rate", "train_loss", "train_top1", "val_loss", "val_top1", "val_top5",
    "images_per_second", "seconds",
)  # fmt: skip


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
    best_top1: float = -1.0
    history: list[dict[str, float]] = field(default_factory=list)  # the lines of metrics.csv

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "sums": vars(self.sums)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Progressed:
        return cls(**{**content, "sums": Sums(**content["sums"])})


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
    ) -> None:
        """
        Args:
            stems_from: what is known of the weights that the run starts from (`finetune.Origin.stored`); None for
                random ones. What they subtract from the pixels stays; random weights get the training split's means.
            teacher: a model to learn from besides the labels.
        """
        replicas = strategy.num_replicas_in_sync
        if recipe.global_batch_size % replicas:
            raise InputError(
                f"a global batch of {recipe.global_batch_size} cannot be divided among {replicas} replicas: "
                f"choose a --global_batch_size that is a multiple of {replicas}"
            )
        if "val" not in manifest.splits:
            raise InputError(f"{manifest.folder} has no val split, which picks the best model; build it with one")
        self.manifest, self.recipe, self.strategy, self.run_dir = manifest, recipe, strategy, run_dir
        self.teacher = teacher
        self.channel_means = tuple(stems_from["channel_means"]) if stems_from else manifest.channel_means
        self.channel_deviations = tuple(stems_from["channel_deviations"]) if stems_from else (1.0, 1.0, 1.0)
        self.card = self._make_card(stems_from or {})
        self.schedule = schedule.plan(recipe, manifest.records("train"))
        self.network = model.Network(
            classes=len(manifest.classes),
            arch=recipe.arch,
            activation=recipe.activation,
            batch_norm=recipe.batch_norm,
            bypass=recipe.bypass,
            conv10_padding=recipe.conv10_padding,
            image_size=recipe.image_size,
        )
        self.writes = strategies.is_chief(strategy)
        self.progressed = Progressed()
        if teacher:
            teacher.outputs_of(manifest.classes, manifest.folder)  # raises where it knows other classes
        for _, size in recipe.train_sizes:
            model.pool_paddings(recipe.arch, size)  # raises where it is too small
        keras.utils.set_random_seed(recipe.seed)
        # TensorFlow's own global seed is not needed (Keras passes its seeds on), and tf.data takes no tensor as the
        # seed of a shuffle while it is set.
        tf.random.set_seed(None)
        with strategy.scope():
            self.model = self._build_model()
            finetune.freeze(self.model, recipe)
            self.optimizer = loop.make_optimizer(recipe)
            self.optimizer.build(self.model.trainable_variables)
        self.variables = checkpoint.variables(self.model, self.optimizer)
        self.train_steps = loop.make_train_steps(self.model, self.optimizer, recipe, strategy)
        self.eval_step = loop.make_eval_step(self.model, strategy)
        self._signal: int | None = None

    def _make_card(self, stems_from: dict[str, Any]) -> Card:
        taught_by = self.teacher.card.pretrained_on if self.teacher else None
        return Card(
            classes=self.manifest.classes,
            preprocessing=self.recipe.preprocessing,
            data=str(self.manifest.folder),
            # A student has learnt from what its teacher has seen, too.
            pretrained_on=stems_from.get("pretrained_on") or taught_by,
            weights=stems_from.get("weights"),
        )

    def _build_model(self) -> keras.Model:
        return model.build(
            self.network,
            channel_means=self.channel_means,
            channel_deviations=self.channel_deviations,
            dropout=self.recipe.dropout,
            seed=self.recipe.seed,
        )

    # State on disk.

    def resume(self) -> None:
        path = self.run_dir / checkpoint.FILE
        arrays, progress = checkpoint.load(path)
        checkpoint.restore(self.variables, arrays, path)
        self.progressed = Progressed.from_json(progress)

    def save(self) -> None:
        arrays = checkpoint.read(self.variables)  # on all workers: some variables are averaged when read
        for name, array in arrays.items():
            # Not left to the loss: a ReLU makes 0 of what is not a number, and the loss stays that of chance.
            if not np.isfinite(array).all():
                raise InputError(f"{name} is no longer finite by step {self.progressed.step}: {ADVICE}")
        if self.writes:
            checkpoint.save(self.run_dir / checkpoint.FILE, arrays, self.progressed.to_json())

    def save_best(self) -> None:
        arrays = checkpoint.read(self.variables)
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
            InputError: the loss is no longer finite, or a shard cannot be read.
        """
        batches = self.strategy.distribute_datasets_from_function(
            lambda context: pipeline.training_batches(
                self.manifest,
                self.schedule,
                replicas=self.strategy.num_replicas_in_sync,
                start_step=self.progressed.step,
                worker=context.input_pipeline_id,
                workers=context.num_input_pipelines,
                teacher=self.teacher,
            )
        )
        iterator = iter(batches)
        events = tf.summary.create_file_writer(str(self.run_dir / "events")) if self.writes else None
        with self._catching_signals(), pipeline.naming_corrupt_shards(self.manifest):
            # An epoch is over when its line stands in the history; stopped before that, it is only evaluated.
            for epoch in range(len(self.progressed.history), self.schedule.epochs):
                self._train_epoch(epoch, iterator)
                self._end_epoch(epoch, events)

    def _train_epoch(self, epoch: int, iterator: Any) -> None:
        end = self.schedule.epoch_end(epoch)
        size, batch = self.schedule.image_size(epoch), self.recipe.global_batch_size
        label = f"epoch {epoch + 1}/{self.schedule.epochs}, {size} px"
        with console.progress("images/s") as bar:
            images = (end - epoch * self.schedule.steps_per_epoch) * batch
            done = (self.progressed.step - epoch * self.schedule.steps_per_epoch) * batch
            task = bar.add_task(label, total=images, completed=done)
            while self.progressed.step < end:
                steps = range(self.progressed.step, min(self.progressed.step + self.recipe.steps_per_call, end))
                self._train_call(iterator, steps)
                means = self.progressed.sums.means()
                description = f"{label}, loss {means['loss']:.3f}, top-1 {console.percent(means['top1'])}"
                bar.update(task, advance=len(steps) * batch, description=description)
                self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        if self._signal is not None:
            self.save()
            raise Stopped(self._signal)

    def _train_call(self, iterator: Any, steps: range) -> None:
        started = time.perf_counter()
        rates = tf.constant([self.schedule.learning_rate(step) for step in steps], tf.float32)
        sums = Sums(*self.train_steps(iterator, rates).numpy().tolist())
        if not math.isfinite(sums.loss):
            raise InputError(
                f"the loss became {sums.loss} in steps {steps.start} to {steps.stop - 1} (learning rate "
                f"{float(rates[-1]):g}): {ADVICE}"
            )
        progressed = self.progressed
        progressed.sums += sums
        progressed.step = steps.stop
        progressed.seconds += time.perf_counter() - started

    def _end_epoch(self, epoch: int, events: Any) -> None:
        progressed = self.progressed
        self.save()  # a kill during the evaluation must not cost the epoch
        train, val = progressed.sums.means(), self.evaluate("val")
        line = {
            "epoch": epoch + 1,
            "image_size": self.schedule.image_size(epoch),
            "learning_rate": self.schedule.learning_rate(progressed.step - 1),
            "train_loss": train["loss"],
            "train_top1": train["top1"],
            "val_loss": val["loss"],
            "val_top1": val["top1"],
            "val_top5": val["top5"],
            "images_per_second": progressed.sums.count / progressed.seconds,
            "seconds": progressed.seconds,
        }
        progressed.history.append(line)
        is_best = val["top1"] > progressed.best_top1
        progressed.best_top1 = max(val["top1"], progressed.best_top1)
        progressed.sums, progressed.seconds = Sums(), 0.0
        if is_best:
            self.save_best()
        self.save()
        if self.writes:
            self._report(line, events, is_best)

    def _report(self, line: dict[str, float], events: Any, is_best: bool) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.progressed.history)
        files.write_text(self.run_dir / "metrics.csv", text.getvalue())
        with events.as_default(step=int(line["epoch"])):
            for name in COLUMNS[1:]:
                tf.summary.scalar(name, line[name])
        events.flush()
        console.say(
            f"epoch {line['epoch']}: train loss {line['train_loss']:.3f}, top-1 "
            f"{console.percent(line['train_top1'])}; val top-1 {console.percent(line['val_top1'])}, top-5 "
            f"{console.percent(line['val_top5'])}{' (best so far)' if is_best else ''}; "
            f"{line['images_per_second']:,.0f} images/s"
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
        for batch in batches:
            self._stop_if_asked()
            total += tf.cast(self.eval_step(batch), tf.float64)
        sums = Sums(*total.numpy().tolist())
        expected = self.manifest.records(split)
        assert sums.count == expected, f"scored {sums.count} of {expected} records of {split}"
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
