"""The proof of an exported file: reloaded in its own runtime, compared with the Keras model on real records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sqznet import console, inference, metrics
from sqznet.data import pipeline
from sqznet.errors import InputError

if TYPE_CHECKING:
    from sqznet.data.manifest import Manifest
    from sqznet.inference import Predictor

BATCH = 8  # shows whether the batch is really free, where it is said to be
# Largest difference of any probability. float32: rounding only. float16: 11 bits of mantissa through 26 layers.
TOLERANCES = {"none": 1e-4, "float16": 2e-2}


@dataclass(frozen=True)
class Reference:
    """The Keras model's answers on the records that files are compared on."""

    data: Path
    split: str
    images: list[np.ndarray]  # uint8 (n, size, size, 3) each
    labels: np.ndarray  # (n,)
    probabilities: np.ndarray  # float32 (n, classes)

    @property
    def score(self) -> metrics.Score:
        return metrics.score(self.probabilities, self.labels)


@dataclass(frozen=True)
class Proof:
    """How a file compares."""

    score: metrics.Score
    largest_difference: float  # of any probability, over all records
    agreement: float  # share of records on which the likeliest class is the same


def reference(predictor: Predictor, manifest: Manifest, split: str, count: int | None) -> Reference:
    """Runs the Keras model on the first `count` records of a split (None: all)."""
    outputs = predictor.outputs_of(manifest.classes, manifest.folder)
    images, labels, probabilities = [], [], []
    for some, some_labels in pipeline.examples(manifest, split, predictor.card.preprocessing, count, BATCH):
        images.append(some)
        labels.append(outputs[some_labels])
        probabilities.append(predictor.predict(some))
    return Reference(manifest.folder, split, images, np.concatenate(labels), np.concatenate(probabilities))


def prove(path: Path, quantize: str, against: Reference) -> Proof:
    """Runs a file on the reference's records and compares.

    Raises:
        InputError: it gives values that are not numbers, or differs by more than the format's tolerance; with
            both numbers.
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
    if not np.isfinite(everything).all():
        raise InputError(f"{path.name} puts out values that are not numbers")
    expected = np.concatenate([against.probabilities, against.probabilities[-1:]])
    difference = float(np.abs(everything - expected).max())
    if difference > TOLERANCES[quantize]:
        raise InputError(
            f"{path.name} is not equal to the Keras model: the largest difference of a probability is "
            f"{difference:.2e} on {len(against.labels)} records of {against.split}, and {TOLERANCES[quantize]:.0e} "
            "is allowed; nothing was written. This is a fault of the conversion: please report it with the run folder"
        )
    agreement = (probabilities.argmax(axis=1) == against.probabilities.argmax(axis=1)).mean()
    return Proof(metrics.score(probabilities, against.labels), difference, float(agreement))
