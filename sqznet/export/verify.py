"""The proof of an exported file: reloaded in its own runtime, compared with the Keras model on real records."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sqznet import console, coverage, inference, metrics
from sqznet.data import pipeline
from sqznet.errors import CheckFailed, InputError

if TYPE_CHECKING:
    from sqznet.data.manifest import Manifest
    from sqznet.inference import Predictor

BATCH = 8  # shows whether the batch is really free, where it is said to be
# Largest difference of any probability. float32: rounding only. float16: 11 bits of mantissa through 26 layers.
# The others are held to their agreement and to the accuracy that they lose.
TOLERANCES = {"none": 1e-4, "float16": 2e-2, "dynamic": 1.0, "int8": 1.0}
LEAST_AGREEMENT = {"none": 0.0, "float16": 0.0, "dynamic": 0.9, "int8": 0.9}


@dataclass(frozen=True)
class Reference:
    """The Keras model's answers on the records that files are compared on."""

    data: Path
    split: str
    images: list[np.ndarray]  # uint8 (n, size, size, 3) each
    labels: np.ndarray  # (n,)
    probabilities: np.ndarray  # float32 (n, classes)
    coverage: coverage.Coverage  # of the model's classes by these records

    @property
    def score(self) -> metrics.Score:
        return metrics.score(self.probabilities, self.labels)


@dataclass(frozen=True)
class Proof:
    """How a file compares."""

    score: metrics.Score
    largest_difference: float  # of any probability, over all records
    agreement: float  # share of records on which the likeliest class is the same
    drop: float  # the Keras model's top-1 less the file's
    drop_interval: tuple[float, float]  # 95 %
    confusion: list[tuple[int, int, int]]  # (Keras model's answer, file's, records) where they differ, most first


def reference(predictor: Predictor, manifest: Manifest, split: str, count: int | None) -> Reference:
    """Runs the Keras model on the first `count` records of a split (None: all)."""
    outputs = predictor.outputs_of(manifest.classes, manifest.folder)
    images, labels, probabilities = [], [], []
    if not manifest.records(split):
        raise InputError(f"{manifest.folder} has no records in {split} to compare on")
    for some, some_labels in pipeline.examples(manifest, split, predictor.card.preprocessing, count, BATCH):
        images.append(some)
        labels.append(outputs[some_labels])
        probabilities.append(predictor.predict(some))
    covered = coverage.count(labels, len(manifest.classes), predictor.runtime.classes)
    return Reference(manifest.folder, split, images, np.concatenate(labels), np.concatenate(probabilities), covered)


def prove(path: Path, quantize: str, against: Reference, max_drop: float) -> Proof:
    """Runs a file on the reference's records and compares.

    Args:
        max_drop: most top-1 accuracy that the file may lose, as a share.

    Raises:
        InputError: it gives values that are no probabilities, differs by more than the format's tolerance, answers
            otherwise too often, or loses too much accuracy; with both numbers.
    """
    predictor = inference.load(path)
    outputs = []
    with console.progress("images/s") as bar:
        task = bar.add_task(f"proving {path.name.split('-')[-1]}", total=len(against.labels))
        for images in against.images:
            outputs.append(predictor.predict(images))
            bar.advance(task, len(images))
    # The last record once more, alone: a batch of 1 must work wherever the batch is free.
    alone = predictor.predict(against.images[-1][-1:])
    probabilities = np.concatenate(outputs)
    everything = np.concatenate([probabilities, alone])
    expected = np.concatenate([against.probabilities, against.probabilities[-1:]])
    difference = float(np.abs(everything - expected).max())
    if difference > TOLERANCES[quantize]:
        raise CheckFailed(
            f"{path.name} is not equal to the Keras model: the largest difference of a probability is "
            f"{difference:.2e} on {len(against.labels)} records of {against.split}, and {TOLERANCES[quantize]:.0e} "
            "is allowed; nothing was written. This is a fault of the conversion: please report it with the run folder"
        )
    answers, wanted = probabilities.argmax(axis=1), against.probabilities.argmax(axis=1)
    agreement = float((answers == wanted).mean())
    if agreement < LEAST_AGREEMENT[quantize]:
        raise CheckFailed(
            f"{path.name} agrees with the Keras model on {console.percent(agreement)} of {len(answers)} records of "
            f"{against.split} only, and {console.percent(LEAST_AGREEMENT[quantize])} is asked for; {_ADVICE}"
        )
    score = metrics.score(probabilities, against.labels)
    drop, interval = metrics.drop(score, against.score)
    if drop > max_drop + 1e-9:
        raise CheckFailed(
            f"{path.name} loses {100 * drop:.2f} points of top-1 (95 % interval {100 * interval[0]:.2f} to "
            f"{100 * interval[1]:.2f}) on {len(answers)} records of {against.split}: {console.percent(score.top1)} "
            f"where the Keras model has {console.percent(against.score.top1)}, and --max_drop={100 * max_drop:g} is "
            f"allowed; {_ADVICE}"
        )
    return Proof(score, difference, agreement, drop, interval, _changed(wanted, answers))


_ADVICE = (
    "nothing was written. Try more --calibration_records; a network with ELU loses more in int8 than one with ReLU: "
    "train --recipe=finetune --activation=relu --init_weights=RUN goes over to ReLU in minutes"
)


def _changed(wanted: np.ndarray, answers: np.ndarray) -> list[tuple[int, int, int]]:
    pairs = Counter((int(a), int(b)) for a, b in zip(wanted, answers, strict=True) if a != b)
    return [(a, b, count) for (a, b), count in sorted(pairs.items(), key=lambda each: (-each[1], each[0]))]
