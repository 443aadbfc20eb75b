"""The proof of exported files: reloaded in their own runtimes, compared with the Keras model on real records.

All files are compared in one pass. Each batch is decoded once, goes through the Keras model and every file, and is
given up: what is kept does not grow with the records, but for a byte a record and file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sqznet.core import console, metrics
from sqznet.core.errors import CheckFailed, InputError
from sqznet.data import pipeline
from sqznet.network import coverage
from sqznet.predict import inference

if TYPE_CHECKING:
    from sqznet.data.manifest import Manifest
    from sqznet.predict.inference import Predictor

BATCH = 8  # shows whether the batch is really free, where it is said to be
# Largest difference of any probability. float32: rounding only. float16: 11 bits of mantissa through 26 layers.
# The others are held to their agreement and to the accuracy that they lose.
TOLERANCES = {"none": 1e-4, "float16": 2e-2, "dynamic": 1.0, "int8": 1.0}
LEAST_AGREEMENT = {"none": 0.0, "float16": 0.0, "dynamic": 0.9, "int8": 0.9}


@dataclass(frozen=True)
class Reference:
    """How the Keras model does on the records that files are compared on."""

    data: Path
    split: str
    labels: np.ndarray  # the output that is right, (n,)
    score: metrics.Score
    coverage: coverage.Coverage  # of the model's classes by these records


@dataclass(frozen=True)
class Proof:
    """How a file compares."""

    score: metrics.Score
    largest_difference: float  # of any probability, over all records
    agreement: float  # share of records on which the likeliest class is the same
    drop: float  # the Keras model's top-1 less the file's
    drop_interval: tuple[float, float]  # 95 %
    confusion: list[tuple[int, int, int]]  # (Keras model's answer, file's, records) where they differ, most first


def answers(
    predictor: Predictor, manifest: Manifest, split: str, count: int | None, doing: str
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Runs a model on the first `count` records of a split (None: all), with a progress bar.

    Yields:
        images uint8 (n, size, size, 3), the outputs that are right (n,), and probabilities float32 (n, classes).
    """
    outputs = predictor.outputs_of(manifest.classes, manifest.folder)
    total = manifest.records(split)
    if not total:
        raise InputError(f"{manifest.folder} has no records in {split} to compare on")
    with console.progress("images/s") as bar:
        task = bar.add_task(doing, total=min(count or total, total))
        for images, labels in pipeline.examples(manifest, split, predictor.card.preprocessing, count, BATCH):
            yield images, outputs[labels], predictor.predict(images)
            bar.advance(task, len(images))


class _Comparison:
    """One file on its way through the records."""

    def __init__(self, path: Path, quantize: str, classes: int, split: str) -> None:
        self.path, self.quantize, self.split = path, quantize, split
        self.predictor = inference.load(path)
        self.tally = metrics.Tally(classes)
        self.difference, self.records = 0.0, 0
        self.changed: Counter[tuple[int, int]] = Counter()

    def add(self, images: np.ndarray, labels: np.ndarray, expected: np.ndarray) -> None:
        """Runs the file on a batch of which the Keras model says `expected`."""
        probabilities = self.predictor.predict(images)
        self.records += len(images)
        self._differ(probabilities, expected)
        self.tally.add(probabilities, labels)
        pairs = zip(expected.argmax(axis=1), probabilities.argmax(axis=1), strict=True)
        self.changed.update((int(wanted), int(answer)) for wanted, answer in pairs if wanted != answer)

    def add_alone(self, image: np.ndarray, expected: np.ndarray) -> None:
        """A batch of 1 must work wherever the batch is free."""
        self._differ(self.predictor.predict(image), expected)

    def _differ(self, probabilities: np.ndarray, expected: np.ndarray) -> None:
        self.difference = max(self.difference, float(np.abs(probabilities - expected).max()))
        if self.difference > TOLERANCES[self.quantize]:
            raise CheckFailed(
                f"{self.path.name} is not equal to the Keras model: the largest difference of a probability is "
                f"{self.difference:.2e} on {self.records} records of {self.split}, and {TOLERANCES[self.quantize]:.0e} "
                "is allowed. This is a fault of the conversion: please report it with the run folder"
            )

    def proof(self, against: metrics.Score, max_drop: float) -> Proof:
        """What was found, if it holds to the gates."""
        name, score = self.path.name, self.tally.score()
        agreement = (score.n - self.changed.total()) / score.n
        if agreement < LEAST_AGREEMENT[self.quantize]:
            raise CheckFailed(
                f"{name} agrees with the Keras model on {console.percent(agreement)} of {score.n} records of "
                f"{self.split} only, and {console.percent(LEAST_AGREEMENT[self.quantize])} is asked for; {_ADVICE}"
            )
        drop, interval = metrics.drop(score, against)
        if drop > max_drop + 1e-9:
            raise CheckFailed(
                f"{name} loses {100 * drop:.2f} points of top-1 (95 % interval {100 * interval[0]:.2f} to "
                f"{100 * interval[1]:.2f}) on {score.n} records of {self.split}: {console.percent(score.top1)} "
                f"where the Keras model has {console.percent(against.top1)}, and --max_drop={100 * max_drop:g} is "
                f"allowed; {_ADVICE}"
            )
        pairs = sorted(self.changed.items(), key=lambda each: (-each[1], each[0]))
        return Proof(score, self.difference, agreement, drop, interval, [(*pair, count) for pair, count in pairs])


def prove(
    keras_model: Predictor,
    files: dict[Path, str],
    manifest: Manifest,
    split: str,
    count: int | None,
    max_drop: float,
) -> tuple[Reference, dict[str, Proof]]:
    """Runs the Keras model and files on records and compares.

    Args:
        files: to prove, and the quantization of each.
        count: records of the split to compare on, the first ones; None means all.
        max_drop: most top-1 accuracy that a file may lose, as a share.

    Returns:
        How the Keras model does, and the proof of each file by its name.

    Raises:
        CheckFailed: a file differs by more than the format's tolerance, answers otherwise too often, or loses too much
            accuracy; with both numbers.
        InputError: it gives values that are no probabilities.
    """
    classes = keras_model.runtime.classes
    tally = metrics.Tally(classes)
    compared = [_Comparison(path, quantize, classes, split) for path, quantize in files.items()]
    labels = []
    doing = f"comparing {len(files)} {'file' if len(files) == 1 else 'files'} with the Keras model"
    for images, some_labels, expected in answers(keras_model, manifest, split, count, doing):
        tally.add(expected, some_labels)
        labels.append(some_labels)
        for each in compared:
            each.add(images, some_labels, expected)
    for each in compared:
        each.add_alone(images[-1:], expected[-1:])
    covered = coverage.count(labels, len(manifest.classes), classes)
    reference = Reference(manifest.folder, split, np.concatenate(labels), tally.score(), covered)
    return reference, {each.path.name: each.proof(reference.score, max_drop) for each in compared}


_ADVICE = (
    "try more --calibration_records; a network with ELU loses more in int8 than one with ReLU: train "
    "--recipe=finetune --activation=relu --init_weights=RUN goes over to ReLU in minutes"
)
