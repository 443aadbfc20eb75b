"""Compresses a network: prunes, rounds, fine-tunes, encodes and measures it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from sqznet.compress import distilling, rate_search
from sqznet.core import console, metrics
from sqznet.core.errors import InputError
from sqznet.data import pipeline
from sqznet.data.manifest import Manifest
from sqznet.export import verify
from sqznet.network import coverage, fold
from sqznet.network.keras_file import Card
from sqznet.network.quantization import bit_price, pruning, sensitivity
from sqznet.network.quantization.rounding import Rounder
from sqznet.network.quantization.sensitivity import Sensitivity
from sqznet.network.sqz import convert, decoder, encoder
from sqznet.predict import inference

BATCH = 32
FINETUNING_BATCH = 16
GROWTH = 0.985  # of the target size before fine-tuning, which makes the file larger
COARSER = 1.5  # factor of the price if fine-tuning may regain the accuracy
START_BITS = 2  # bits of a weight at the first point of a search for accuracy
SPREAD = (0.75, 1.35)  # the further points of a curve lie between these multiples of the chosen size


@dataclass(frozen=True)
class CompressionSettings:
    """The flags of the command. At least one of `target` and `max_drop` is set."""

    target: int | None = None  # largest size in bytes
    max_drop: float | None = None  # largest loss of top-1, in points
    points: int = 0  # further points of the curve, around the chosen one
    measure: bool = True  # this stage and the next two can be turned off to measure their effect
    compensate: bool = True
    count_bits: bool = True
    sparsity: float = 0.0  # fraction of all weights to prune
    finetune_minutes: float = 0.0
    split: str | None = None  # to measure on; None: test, or val if there is no test
    records: int | None = None  # to measure on; None: all
    calibration_records: int = 256

    @property
    def max_loss(self) -> float | None:
        """`max_drop` as a fraction."""
        return None if self.max_drop is None else self.max_drop / 100


class Compressor:
    """Compresses one trained network at any price of a bit.

    Args:
        source: path of the trained network, for messages.
        manifest: data set. Its train split is for calibration, its other splits are for measuring.
    """

    def __init__(
        self, source: Path, trained: keras.Model, card: Card, manifest: Manifest, settings: CompressionSettings
    ) -> None:
        self.split = settings.split or ("test" if "test" in manifest.splits else "val")
        if "train" not in manifest.splits or self.split == "train":
            raise InputError(
                f"{manifest.folder} has the splits {', '.join(manifest.splits)}: a network is calibrated on train and "
                "measured on another split, because it is fitted to the photographs of train"
            )
        self.source, self.card, self.manifest, self.settings = source, card, manifest, settings
        self.model = fold.without_batch_norm(trained, card.preprocessing.image_size, card.divisor)
        self.stored = convert.of_keras(self.model, card)
        examples = pipeline.examples(manifest, "train", card.preprocessing, settings.calibration_records, BATCH)
        photographs, labels = zip(*examples, strict=True)
        self.calibrated = coverage.count(labels, len(manifest.classes), trained.output_shape[-1])
        console.say(f"calibrating on {sum(map(len, labels)):,} records of train, which show {self.calibrated}")
        kernels = {name: kernel for name, (kernel, _) in self.stored.layers.items()}
        self.sensitivities = self._sensitivities(kernels, list(photographs))
        sparsity = settings.sparsity
        self.rounder = Rounder(
            self.model,
            list(photographs),
            self.sensitivities,
            compensate=settings.compensate,
            count_bits=settings.count_bits,
            kept=pruning.masks(kernels, self.sensitivities, sparsity) if sparsity else None,
        )
        self.estimate = bit_price.estimator(kernels, self.sensitivities)
        self.reference = self._measure_reference(inference.of_keras(source, trained, card))

    def _sensitivities(self, kernels: dict[str, np.ndarray], photographs: list[np.ndarray]) -> dict[str, Sensitivity]:
        """Measures the sensitivities of the layers if the settings require it.

        Otherwise steps are proportional to the standard deviation of the weights.
        """
        found: dict[str, Sensitivity] = {}
        if self.settings.measure or self.settings.count_bits:
            some = np.concatenate(photographs)[: sensitivity.PHOTOGRAPHS]
            found = sensitivity.measure(self.model, photographs, sensitivity.ReferenceLogits(self.model, some))
        if self.settings.measure:
            return found
        return {
            name: Sensitivity(found[name].per_output if found else 0.0, 1 / float(kernel.var()))
            for name, kernel in kernels.items()
        }

    def _measure_reference(self, uncompressed: inference.Predictor) -> verify.Reference:
        """Runs the uncompressed network.

        Writes its probabilities to a file, because they may be too large for the memory.
        """
        self.probabilities = tempfile.TemporaryFile()  # noqa: SIM115
        tally, labels = metrics.Tally(uncompressed.runtime.classes), []
        for _, some_labels, probabilities in self._answers(uncompressed, "running the uncompressed network"):
            tally.add(probabilities, some_labels)
            labels.append(some_labels)
            self.probabilities.write(probabilities.astype(np.float32).tobytes())
        covered = coverage.count(labels, len(self.manifest.classes), uncompressed.runtime.classes)
        return verify.Reference(self.manifest.folder, self.split, np.concatenate(labels), tally.score(), covered)

    def _answers(self, predictor: inference.Predictor, doing: str) -> Iterator[tuple[np.ndarray, ...]]:
        return verify.answers(predictor, self.manifest, self.split, self.settings.records, doing)

    def at(self, price: float) -> rate_search.Point:
        """Compresses the network at a price of a bit, and measures its accuracy."""
        return self._measured(price, self.rounder.round(price))

    def finetuned(self, price: float, minutes: float) -> rate_search.Point:
        """Compresses as `at` does, with fine-tuning after rounding."""
        integers = self.rounder.round(price)
        teacher, _ = convert.to_keras(self.stored)
        integers = distilling.distill(self.model, teacher, integers, self._endless_photographs(), minutes)
        return self._measured(price, integers)

    def _endless_photographs(self) -> Iterator[np.ndarray]:
        while True:
            preprocessing = self.card.preprocessing
            for images, _ in pipeline.examples(self.manifest, "train", preprocessing, None, FINETUNING_BATCH):
                yield images

    def compress(self) -> tuple[list[rate_search.Point], rate_search.Point | None]:
        """Returns all points that were tried, and the best point within the limits.

        The best point is None if no point is within the limits.
        """
        target, max_loss, minutes = self.settings.target, self.settings.max_loss, self.settings.finetune_minutes
        if target is not None:
            points = rate_search.by_size(self.at, self.estimate, round(target * (GROWTH if minutes else 1)))
        else:
            assert max_loss is not None
            size = START_BITS / 8 * sum(kernel.size for kernel, _ in self.stored.layers.values())
            points = rate_search.by_drop(self.at, bit_price.at_size(self.estimate, size), max_loss)
        chosen = rate_search.best(points, target, None if minutes and target is not None else max_loss)
        if minutes and chosen is not None:
            # Without a target size, fine-tuning allows a smaller file. With a target size, it increases the accuracy.
            points.append(self.finetuned(chosen.price * (COARSER if target is None else 1), minutes))
            chosen = rate_search.best(points, target, max_loss)
        if chosen is not None:
            sizes = np.geomspace(*SPREAD, self.settings.points) * chosen.bytes
            factor = self.estimate(chosen.price) / chosen.bytes
            points += [self.at(bit_price.at_size(self.estimate, factor * size)) for size in sizes]
        return points, chosen

    def _measured(self, price: float, integers: dict[str, encoder.Integers]) -> rate_search.Point:
        data = encoder.encode(convert.of_keras(self.model, self.card), integers)
        model, card = convert.to_keras(decoder.decode(data))
        predictor = inference.of_keras(self.source, model, card)
        tally, divergence = metrics.Tally(predictor.runtime.classes), 0.0
        self.probabilities.seek(0)
        for _, labels, probabilities in self._answers(predictor, f"measuring {len(data):,} bytes"):
            tally.add(probabilities, labels)
            stored = self.probabilities.read(4 * probabilities.size)
            reference = np.frombuffer(stored, np.float32).reshape(probabilities.shape)
            divergence += float(rate_search.divergence(reference, probabilities).sum())
        score = tally.score()
        drop, interval = metrics.drop(score, self.reference.score)
        made = rate_search.Point(price, data, score.top1, score.top5, drop, interval, divergence / score.n, score.n)
        console.say(
            f"{made.bytes:,} bytes: top-1 {console.percent(made.top1)}, {100 * made.drop:.2f} points lost "
            f"({100 * made.interval[0]:.2f} to {100 * made.interval[1]:.2f}), n = {made.n:,}"
        )
        return made
