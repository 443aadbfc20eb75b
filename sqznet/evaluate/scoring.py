"""Scores a model on a split: every record once. Also compares the model with another model on the same records."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from sqznet.core import console, metrics, remote
from sqznet.core.errors import InputError
from sqznet.core.metrics import Score
from sqznet.data.manifest import Manifest
from sqznet.images.preprocessing import RUNTIME_RESIZES
from sqznet.predict.inference import Predictor

BATCH = 64


@dataclasses.dataclass(frozen=True)
class Loss:
    """The accuracy that a model loses against a second model on the same records, as shares: 0.01 is one point."""

    against: str  # the second model
    top1: float  # of the second model
    top5: float
    drop: float  # of top-1; negative where the first model is better
    drop_interval_95: tuple[float, float]  # paired
    preprocessing: dict[str, Any]  # of the second model

    @classmethod
    def of(cls, score: Score, against: Predictor, other: Score) -> Loss:
        preprocessing = against.card.preprocessing.to_dict()
        return cls(remote.published(against.path), other.top1, other.top5, *metrics.drop(score, other), preprocessing)


def at_size(geometry: dict[str, Any], size: int, other: int) -> dict[str, Any]:
    """Changes the geometry flags for a model of size `size` to one of size `other`. The crop keeps its share."""
    if "resize_to" not in geometry:
        return geometry
    return {**geometry, "resize_to": round(geometry["resize_to"] * other / size)}


def resizing_as(predictor: Predictor, runtime: str) -> Predictor:
    """Returns the same model with the preprocessing of one of RUNTIME_RESIZES."""
    preprocessing = RUNTIME_RESIZES[runtime].at(predictor.image_size)
    return dataclasses.replace(predictor, card=dataclasses.replace(predictor.card, preprocessing=preprocessing))


def default_split(manifest: Manifest) -> str:
    """Returns `test`, or `val` for a set without a test split."""
    return "test" if "test" in manifest.splits else "val"


class Mistakes:
    """Keeps the records whose wrong top-1 class has the highest probability, most confident first."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.kept: list[Mistake] = []

    def add(self, images: np.ndarray, probabilities: np.ndarray, labels: np.ndarray, first: int) -> None:
        """Adds a batch: images uint8 (n, size, size, 3), probabilities (n, classes), and the true outputs (n,).

        Args:
            first: number of the first record in its split, 0 first.
        """
        predicted, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1)
        wrong = np.flatnonzero(predicted != labels)
        wrong = wrong[np.argsort(-confidences[wrong], kind="stable")][: self._count]
        found = [
            Mistake(float(confidences[i]), first + int(i), int(labels[i]), int(predicted[i]), images[i].copy())
            for i in wrong
        ]
        self.kept = sorted([*self.kept, *found], key=lambda each: (-each.confidence, each.record))[: self._count]


@dataclasses.dataclass(frozen=True)
class Mistake:
    confidence: float  # the probability of the predicted class
    record: int  # its number in the split, 0 first
    label: int  # the true output
    predicted: int  # the predicted output
    image: np.ndarray  # the input of the network, uint8 (size, size, 3)


def evaluate(
    predictor: Predictor,
    manifest: Manifest,
    split: str,
    mistakes: Mistakes | None = None,
    kept: list[np.ndarray] | None = None,
) -> Score:
    """Scores every record of a split once. Adds its mistakes to `mistakes`, and its probabilities to `kept`.

    Args:
        kept: gets float32 arrays (records, classes of the data). They need 4 MB for 1,000 records of 1,000 classes.

    Raises:
        InputError: the split does not exist or is empty, the model and the data have different classes, or the outputs
            are not probabilities.
    """
    from sqznet.data import pipeline  # imports TensorFlow

    outputs = predictor.outputs_of(manifest.classes, manifest.folder)
    total = manifest.records(split)
    if not total:
        raise InputError(f"{manifest.folder} has no records in {split} to evaluate on")
    # Without `kept`, the probabilities are not kept: they could fill the memory.
    tally, done = metrics.Tally(predictor.runtime.classes, getattr(predictor.runtime, "step", 0.0)), 0
    with console.progress("images/s") as bar:
        task = bar.add_task(f"evaluating {predictor.path.name} on {split}", total=total)
        for images, labels in pipeline.examples(manifest, split, predictor.card.preprocessing, None, BATCH):
            probabilities = _predict(predictor, images, f"{split} of {manifest.folder}", done)
            tally.add(probabilities, outputs[labels])
            if mistakes is not None:
                mistakes.add(images, probabilities, outputs[labels], done)
            if kept is not None:
                kept.append(probabilities[:, outputs].astype(np.float32))
            done += len(labels)
            bar.advance(task, len(labels))
    score = tally.score()
    if score.n != total:
        raise InputError(f"{score.n:,} of {total:,} records of {split} were scored; {pipeline.VERIFY}")
    return score


def _predict(predictor: Predictor, images: np.ndarray, where: str, first: int) -> np.ndarray:
    """Runs `Predictor.predict`, and names the records in its error message."""
    try:
        return predictor.predict(images)
    except InputError as error:
        raise InputError(f"{error} (records {first} to {first + len(images) - 1}, 0 first, of {where})") from None
