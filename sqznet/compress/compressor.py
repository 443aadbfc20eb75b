"""All stages of a compression, in order: prune, round, learn, encode, measure."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sqznet.compress import distilling, rate_search
from sqznet.core import console, files, metrics, plots
from sqznet.core.errors import InputError
from sqznet.data import pipeline
from sqznet.export import verify
from sqznet.network import coverage
from sqznet.network.coverage import Coverage
from sqznet.network.quantization import bit_price, pruning, sensitivity
from sqznet.network.quantization.rounding import Rounder
from sqznet.network.quantization.sensitivity import Sensitivity
from sqznet.network.sqz import convert, decoder, encoder
from sqznet.predict import inference

if TYPE_CHECKING:
    import keras

    from sqznet.data.manifest import Manifest
    from sqznet.network.keras_file import Card

BATCH = 32
LEARNING_BATCH = 16
GROWTH = 0.985  # of a target that is left for what learning adds
COARSER = 1.5  # price after learning, of that before it
SPREAD = (0.75, 1.35)  # further points of a curve lie between these multiples of the chosen size


@dataclass(frozen=True)
class Stages:
    """What is done; all but pruning and learning is worth having always, and off only to see what it is worth."""

    measure: bool = True
    compensate: bool = True
    count_bits: bool = True
    sparsity: float = 0.0
    finetune_minutes: float = 0.0


class Compressor:
    """A trained network, made ready to be compressed at any price.

    Args:
        source: where `trained` and its card come from, for messages.
        manifest: photographs to calibrate on, in its train split, and to measure on, in `split`.
        records: to measure on; None means all.
    """

    def __init__(
        self,
        source: Path,
        trained: keras.Model,
        card: Card,
        manifest: Manifest,
        *,
        stages: Stages,
        split: str,
        records: int | None,
        calibration_records: int,
    ) -> None:
        if "train" not in manifest.splits or split == "train":
            raise InputError(
                f"{manifest.folder} has the splits {', '.join(manifest.splits)}: a network is compressed on train and "
                "measured on another, or what is measured would be what it was fitted to"
            )
        self.source, self.card, self.manifest, self.stages = source, card, manifest, stages
        self.model = convert.without_batch_norm(trained, card.preprocessing.image_size)
        self.stored = convert.of_keras(self.model, card)
        self.photographs, shown = [], []
        for images, labels in pipeline.examples(manifest, "train", card.preprocessing, calibration_records, BATCH):
            self.photographs.append(images)
            shown.append(labels)
        self.fitted_to = coverage.count(shown, len(manifest.classes), trained.output_shape[-1])
        console.say(f"rounding is fitted to {sum(map(len, shown)):,} records of train, which show {self.fitted_to}")
        some = np.concatenate(self.photographs)[: sensitivity.PHOTOGRAPHS]
        kernels = {name: kernel for name, (kernel, _) in self.stored.layers.items()}
        self.sensitivities = (
            sensitivity.measure(self.model, self.photographs, sensitivity.Answers(self.model, some))
            if stages.measure or stages.count_bits
            else {}
        )
        if not stages.measure:
            self.sensitivities = {
                name: Sensitivity(
                    self.sensitivities[name].of_outputs if stages.count_bits else 0.0, 1 / float(kernel.var())
                )
                for name, kernel in kernels.items()
            }
        kept = pruning.keep(kernels, self.sensitivities, stages.sparsity) if stages.sparsity else None
        self.rounder = Rounder(
            self.model,
            self.photographs,
            self.sensitivities,
            compensate=stages.compensate,
            count_bits=stages.count_bits,
            kept=kept,
        )
        self.estimate = bit_price.estimator(kernels, self.sensitivities)
        self.split, self.records = split, records
        self.reference = self._measure_real(inference.of_keras(source, trained, card))

    def _measure_real(self, real: inference.Predictor) -> verify.Reference:
        """Runs the uncompressed network; its probabilities go to a file, as they may be too many for the memory."""
        self.real = tempfile.TemporaryFile()  # noqa: SIM115
        tally, labels = metrics.Tally(real.runtime.classes), []
        for _, some_labels, probabilities in self._answers(real, "running the uncompressed network"):
            tally.add(probabilities, some_labels)
            labels.append(some_labels)
            self.real.write(probabilities.astype(np.float32).tobytes())
        covered = coverage.count(labels, len(self.manifest.classes), real.runtime.classes)
        return verify.Reference(self.manifest.folder, self.split, np.concatenate(labels), tally.score(), covered)

    def _answers(self, predictor: inference.Predictor, doing: str) -> Iterator[tuple[np.ndarray, ...]]:
        return verify.answers(predictor, self.manifest, self.split, self.records, doing)

    def at(self, price: float) -> rate_search.Point:
        """The network compressed at a price, and what is left of it."""
        return self._measured(price, self.rounder.round(price))

    def learned(self, price: float, minutes: float) -> rate_search.Point:
        """Likewise, but after rounding it learns from the uncompressed network for so long."""
        integers = self.rounder.round(price)
        teacher, _ = convert.to_keras(self.stored)
        integers = distilling.distill(self.model, teacher, integers, self._stream(), minutes)
        return self._measured(price, integers)

    def _stream(self) -> Iterator[np.ndarray]:
        """Photographs of train, again and again."""
        while True:
            for images, _ in pipeline.examples(self.manifest, "train", self.card.preprocessing, None, LEARNING_BATCH):
                yield images

    def compress(
        self, target: int | None, max_drop: float | None, further: int = 0
    ) -> tuple[list[rate_search.Point], rate_search.Point | None]:
        """All points that were tried, and the one that holds to what was asked for, if any does."""
        minutes = self.stages.finetune_minutes
        if target is not None:
            points = rate_search.by_size(self.at, self.estimate, round(target * (GROWTH if minutes else 1)))
        else:
            assert max_drop is not None
            size = sum(kernel.size for kernel, _ in self.stored.layers.values()) / 4  # two bits a weight, to begin with
            points = rate_search.by_drop(self.at, bit_price.at_size(self.estimate, size), max_drop)
        chosen = rate_search.best(points, target, None if minutes and target is not None else max_drop)
        if minutes and chosen is not None:
            # What is won by learning is spent on size where accuracy is given, and on accuracy where size is.
            points.append(self.learned(chosen.price * (COARSER if target is None else 1), minutes))
            chosen = rate_search.best(points, target, max_drop)
        if chosen is not None:
            sizes = np.geomspace(*SPREAD, further) * chosen.bytes
            factor = self.estimate(chosen.price) / chosen.bytes
            points += [self.at(bit_price.at_size(self.estimate, factor * size)) for size in sizes]
        return points, chosen

    def _measured(self, price: float, integers: dict[str, encoder.Integers]) -> rate_search.Point:
        data = encoder.encode(convert.of_keras(self.model, self.card), integers)
        model, card = convert.to_keras(decoder.decode(data))
        predictor = inference.of_keras(self.source, model, card)
        tally, divergence = metrics.Tally(predictor.runtime.classes), 0.0
        self.real.seek(0)
        for _, labels, probabilities in self._answers(predictor, f"measuring {len(data):,} bytes"):
            tally.add(probabilities, labels)
            real = np.frombuffer(self.real.read(4 * probabilities.size), np.float32).reshape(probabilities.shape)
            divergence += float(rate_search.divergence(real, probabilities).sum())
        score = tally.score()
        drop, interval = metrics.drop(score, self.reference.score)
        made = rate_search.Point(price, data, score.top1, score.top5, drop, interval, divergence / score.n, score.n)
        console.say(
            f"{made.bytes:,} bytes: top-1 {console.percent(made.top1)}, {100 * made.drop:.2f} points lost "
            f"({100 * made.interval[0]:.2f} to {100 * made.interval[1]:.2f}), n = {made.n:,}"
        )
        return made


def curve_of(out: Path, suffix: str) -> Path:
    return out.with_name(f"{out.stem}-curve{suffix}")


def write_curve(
    points: list[rate_search.Point],
    chosen: rate_search.Point,
    real_top1: float,
    out: Path,
    title: str,
    *,
    measured: Coverage,
    fitted_to: Coverage,
) -> None:
    """All points as CSV and as a plot, beside the .sqz file, with the classes measured and fitted to."""
    points = sorted(points, key=lambda each: each.bytes)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(
        [
            *("bytes", "top1", "top5", "drop", "drop_low_95", "drop_high_95", "divergence", "price", "n", "chosen"),
            *("classes", "calibrated_classes", "of_classes"),
        ]
    )
    for each in points:
        figures = [each.top1, each.top5, each.drop, *each.interval, each.divergence, each.price]
        classes = [measured.classes, fitted_to.classes, measured.of_classes]
        table.writerow([each.bytes, *(f"{figure:.6g}" for figure in figures), each.n, int(each is chosen), *classes])
    files.write_text(curve_of(out, ".csv"), text.getvalue())
    plots.size_curve(
        [(each.bytes, each.top1, each.interval) for each in points],
        points.index(chosen),
        real_top1,
        curve_of(out, ".png"),
        title,
    )
