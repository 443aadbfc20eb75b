"""Verifies exported files. Loads each file in its own runtime and compares it with the Keras model on real records.

All files are compared in one pass. Each batch is decoded once and goes through the Keras model and every file. Memory
does not grow with the number of records, except for one byte per record and file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sqznet.core import console, metrics
from sqznet.core.errors import CheckFailed, InputError
from sqznet.data import pipeline
from sqznet.data.manifest import Manifest
from sqznet.export import tflite
from sqznet.network import class_map, coverage
from sqznet.predict import inference
from sqznet.predict.inference import Predictor

BATCH = 8  # more than 1, to detect a fixed batch of 1 in a file that should accept any batch
# Largest difference of a probability from the Keras model, by quantization. float32: rounding only. float16: 11 bits of
# mantissa through 26 layers. dynamic and int8 have no limit here: instead they must give the same classes and keep
# their accuracy.
CONVERSION_TOLERANCES = {"none": 1e-4, "float16": 2e-2, "dynamic": 1.0, "int8": 1.0}
LEAST_AGREEMENT = {"none": 0.0, "float16": 0.0, "dynamic": 0.9, "int8": 0.9}
# Largest difference of a probability of a file from the one that the file's own class map gives. int8: a .tflite file
# has 256 steps for its logits and for its probabilities. With 1,000 classes a step of a logit is 0.2.
MAP_TOLERANCES = {"none": 1e-4, "float16": 2e-2, "dynamic": 1e-4, "int8": 1e-1}
# Largest error of a class map: the root mean square of its difference from the Keras model's map, divided by that of
# the Keras model's map. A map with rows and columns exchanged has about 1.
MAP_ERRORS = {"none": 1e-4, "float16": 2e-2, "dynamic": 0.5, "int8": 0.5}
REMEDY = (
    "try more --calibration_records; a network with ELU loses more in int8 than one with ReLU: train "
    "--recipe=finetune --activation=relu --init_weights=RUN changes it to ReLU in minutes"
)


@dataclass(frozen=True)
class Reference:
    """The Keras model's accuracy on the records that files are compared on."""

    data: Path
    split: str
    labels: np.ndarray  # the correct output of each record, (n,)
    score: metrics.Score
    coverage: coverage.Coverage  # of the model's classes by these records


@dataclass(frozen=True)
class MapVerification:
    """The result of comparing a file's class maps with its probabilities, and with the Keras model's class maps."""

    largest_difference: float  # of a probability of the file from the one that its class map gives
    logit_range: tuple[float, float] | None  # that the file can represent, if it is an int8 .tflite file
    largest_logit_difference: float  # of the class map's average from the Keras model's logit
    relative_error: float  # as MAP_ERRORS


@dataclass(frozen=True)
class Verification:
    """The result of comparing a file with the Keras model."""

    score: metrics.Score
    largest_difference: float  # of any probability, over all records
    agreement: float  # share of records with the same top-1 class
    drop: float  # the Keras model's top-1 minus the file's
    drop_interval: tuple[float, float]  # 95 %
    confusion: list[tuple[int, int, int]]  # (Keras model's class, file's, records) where they differ, most first
    class_map: MapVerification | None = None  # None: the file has no class map


def answers(
    predictor: Predictor, manifest: Manifest, split: str, count: int | None, doing: str
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Runs a model on the first `count` records of a split, with a progress bar. A `count` of None means all records.

    Yields:
        images uint8 (n, size, size, 3), the correct outputs (n,), and probabilities float32 (n, classes).
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


class _MapComparison:
    """The running comparison of one file's class maps."""

    def __init__(self, name: str, quantize: str, limits: tuple[float, float] | None, divisor: float = 1.0) -> None:
        self.name, self.quantize, self.limits, self.divisor = name, quantize, limits, divisor
        self.difference = self.logit_difference = self.squared_error = self.squared_maps = 0.0

    def add(self, maps: np.ndarray, probabilities: np.ndarray, expected: np.ndarray) -> None:
        """Adds the file's maps and probabilities of a batch, for which the Keras model gives the maps `expected`."""
        difference = np.abs(class_map.probabilities(maps, self.limits, divisor=self.divisor) - probabilities).max()
        logits = np.abs(class_map.logits(maps) - class_map.logits(expected)).max()
        self.difference = float(np.maximum(self.difference, difference))  # keeps NaN, unlike max
        self.logit_difference = float(np.maximum(self.logit_difference, logits))
        self.squared_error += float(np.square(maps - expected, dtype=np.float64).sum())
        self.squared_maps += float(np.square(expected, dtype=np.float64).sum())

    def result(self) -> MapVerification:
        """Returns the comparison over all records, if it passes the gate."""
        error = (self.squared_error / self.squared_maps) ** 0.5 if self.squared_maps else self.squared_error
        tolerance, largest = MAP_TOLERANCES[self.quantize], MAP_ERRORS[self.quantize]
        fault = None
        if not self.difference <= tolerance:  # NaN fails every comparison
            fault = (
                "does not give the probabilities of the file: the largest difference of a probability is "
                f"{self.difference:.2e}, and {tolerance:.0e} is allowed"
            )
        elif not error <= largest:
            fault = f"is not that of the Keras model: its relative error is {error:.2e}, and {largest:g} is allowed"
        if fault:
            raise CheckFailed(
                f"the class map of {self.name} {fault}. This is a fault of the conversion: please report it with the "
                "run folder"
            )
        return MapVerification(self.difference, self.limits, self.logit_difference, error)


class _Comparison:
    """The running comparison of one file."""

    def __init__(self, path: Path, quantize: str, classes: int, split: str) -> None:
        self.path, self.quantize, self.split = path, quantize, split
        self.predictor = inference.load(path)
        self.tally = metrics.Tally(classes, getattr(self.predictor.runtime, "step", 0.0))
        self.difference, self.records = 0.0, 0
        self.changed: Counter[tuple[int, int]] = Counter()
        grid = self.predictor.runtime.grid
        limits = tflite.logit_range(path) if grid else None
        self.maps = _MapComparison(path.name, quantize, limits, grid.divisor) if grid else None

    def add(self, images: np.ndarray, labels: np.ndarray, expected: np.ndarray, maps: np.ndarray | None) -> None:
        """Runs the file on a batch.

        Args:
            expected: the probabilities of the Keras model.
            maps: the class maps of the Keras model. Only files with a class map need them.
        """
        if self.maps is None:
            probabilities = self.predictor.predict(images)
        else:
            probabilities, own_maps = self.predictor.predict_with_class_map(images)
            assert maps is not None
            self.maps.add(own_maps, probabilities, maps)
        self.records += len(images)
        self._check_difference(probabilities, expected)
        self.tally.add(probabilities, labels)
        pairs = zip(expected.argmax(axis=1), probabilities.argmax(axis=1), strict=True)
        self.changed.update((int(wanted), int(answer)) for wanted, answer in pairs if wanted != answer)

    def add_alone(self, image: np.ndarray, expected: np.ndarray) -> None:
        """Runs the file on a batch of 1, which every file has to accept."""
        self._check_difference(self.predictor.predict(image), expected)

    def _check_difference(self, probabilities: np.ndarray, expected: np.ndarray) -> None:
        self.difference = max(self.difference, float(np.abs(probabilities - expected).max()))
        tolerance = CONVERSION_TOLERANCES[self.quantize]
        if self.difference > tolerance:
            raise CheckFailed(
                f"{self.path.name} is not equal to the Keras model: the largest difference of a probability is "
                f"{self.difference:.2e} on {self.records} records of {self.split}, and {tolerance:.0e} is allowed. "
                "This is a fault of the conversion: please report it with the run folder"
            )

    def result(self, against: metrics.Score, max_drop: float) -> Verification:
        """Returns the comparison over all records, if it passes the gates."""
        name, score = self.path.name, self.tally.score()
        agreement = (score.n - self.changed.total()) / score.n
        if agreement < LEAST_AGREEMENT[self.quantize]:
            raise CheckFailed(
                f"{name} agrees with the Keras model on only {console.percent(agreement)} of {score.n} records of "
                f"{self.split}, and {console.percent(LEAST_AGREEMENT[self.quantize])} is required; {REMEDY}"
            )
        drop, interval = metrics.drop(score, against)
        if drop > max_drop + 1e-9:
            raise CheckFailed(
                f"{name} loses {100 * drop:.2f} points of top-1 (95 % interval {100 * interval[0]:.2f} to "
                f"{100 * interval[1]:.2f}) on {score.n} records of {self.split}: {console.percent(score.top1)}, and "
                f"the Keras model has {console.percent(against.top1)}. --max_drop={100 * max_drop:g} is allowed; "
                f"{REMEDY}"
            )
        pairs = sorted(self.changed.items(), key=lambda each: (-each[1], each[0]))
        confusion = [(*pair, n) for pair, n in pairs]
        maps = None if self.maps is None else self.maps.result()
        return Verification(score, self.difference, agreement, drop, interval, confusion, maps)


def verify_files(
    keras_model: Predictor,
    files: dict[Path, str],
    manifest: Manifest,
    split: str,
    count: int | None,
    max_drop: float,
) -> tuple[Reference, dict[str, Verification]]:
    """Runs the Keras model and files on records and compares them.

    Args:
        files: the paths, and the quantization of each.
        count: number of records to compare on, from the beginning of the split. None means all.
        max_drop: maximum loss of top-1 accuracy of a file, as a share.

    Returns:
        The Keras model's accuracy, and the result of each file by its name.

    Raises:
        CheckFailed: a file differs by more than the format's tolerance, agrees too rarely, or loses too much accuracy,
            or its class map does. The error contains both numbers.
        InputError: a file gives values that are not probabilities.
    """
    classes = keras_model.runtime.classes
    tally = metrics.Tally(classes)
    compared = [_Comparison(path, quantize, classes, split) for path, quantize in files.items()]
    labels = []
    doing = f"comparing {len(files)} {'file' if len(files) == 1 else 'files'} with the Keras model"
    for images, some_labels, expected in answers(keras_model, manifest, split, count, doing):
        tally.add(expected, some_labels)
        labels.append(some_labels)
        maps = keras_model.predict_with_class_map(images)[1] if any(each.maps for each in compared) else None
        for each in compared:
            each.add(images, some_labels, expected, maps)
    for each in compared:
        each.add_alone(images[-1:], expected[-1:])
    covered = coverage.count(labels, len(manifest.classes), classes)
    reference = Reference(manifest.folder, split, np.concatenate(labels), tally.score(), covered)
    return reference, {each.path.name: each.result(reference.score, max_drop) for each in compared}
