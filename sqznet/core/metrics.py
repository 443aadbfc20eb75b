"""Computes the accuracy of classifiers: top-1 (rank-1), top-5 (rank-5), intervals, confusion matrix, F1 by class."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sqznet.core import probabilities as quality

Z_95 = 1.959964  # two-sided 95 % quantile of the standard normal
LARGEST_EXCESS = 0.01  # tolerance of the sum of 1,000 probabilities: float16 has 11 bits


def wilson_interval(hits: int, n: int) -> tuple[float, float]:
    """Returns the 95 % score interval of a share (Wilson 1927, JASA 22).

    The interval is also valid near 0 and 1, and for small n.
    """
    if n == 0:
        return 0.0, 1.0
    share, square = hits / n, Z_95**2
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = Z_95 * math.sqrt(share * (1 - share) / n + square / (4 * n * n)) / (1 + square / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def paired_interval(differences: np.ndarray) -> tuple[float, float]:
    """Returns the 95 % interval of the difference of two proportions on the same records.

    The method is that of Agresti and Min 2005 (Statistics in Medicine 24). The method adds half a record to each kind
    of disagreement. Therefore the interval has a width even without disagreement.

    Args:
        differences: (n,). For each record, 1 if only the first model is right, -1 if only the second model is right,
            else 0.
    """
    n = len(differences) + 2
    ups, downs = int((differences > 0).sum()) + 0.5, int((differences < 0).sum()) + 0.5
    mean = (ups - downs) / n
    half = Z_95 * math.sqrt(max(0.0, ups + downs - (ups - downs) ** 2 / n)) / n
    return mean - half, mean + half


def ranks(classes: int) -> tuple[int, ...]:
    """Returns each k for which top-k accuracy is meaningful. With up to five classes, top-5 is always 100 %."""
    return (1, 5) if classes > 5 else (1,)


def ranking(probabilities: np.ndarray) -> np.ndarray:
    """Sorts the classes by falling probability, int (classes,).

    If probabilities are equal, the lower class comes first.
    """
    return np.argsort(-probabilities.astype(np.float64), kind="stable")


def rank_of_label(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the rank (1 first) of each true class, int (n,). If probabilities are equal, the lower class ranks first.

    This is the order of `argmax` and of a stable sort, as in apps. The 256 values of int8 files make equal
    probabilities common. A model with equal probabilities for all classes has the score of a model that always predicts
    class 0.
    """
    own = np.take_along_axis(probabilities, labels[:, None].astype(np.int64), axis=1)
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    return 1 + ((probabilities > own) | ((probabilities == own) & earlier)).sum(axis=1)


def check_probabilities(rows: np.ndarray, step: float = 0.0) -> None:
    """Raises ValueError if the values of a row are not probabilities: from 0 to 1, with sum 1.

    Args:
        rows: (n, classes).
        step: the quantization step of the probabilities, such as 1/256 of an int8 file, or 0 if they are not quantized.
            The tolerance of the sum is one step for each class.
    """
    lowest, highest, sums = rows.min(axis=1), rows.max(axis=1), rows.sum(axis=1)
    tolerance = LARGEST_EXCESS + step * rows.shape[1]
    # NaN fails every comparison.
    wrong = ~((lowest >= 0) & (highest <= 1 + LARGEST_EXCESS) & (np.abs(sums - 1) <= tolerance))
    if not wrong.any():
        return
    row = int(wrong.argmax())
    of = f"image {row + 1} of {len(rows)}"
    if not np.isfinite(rows[row]).all():
        raise ValueError(f"puts out values that are not numbers (NaN or infinite) for {of}")
    if lowest[row] < 0 or highest[row] > 1 + LARGEST_EXCESS:
        likely = "these are logits: the network lacks its softmax"
    else:
        likely = "each class has a score of its own, as after a sigmoid: the network lacks its softmax"
    raise ValueError(
        f"does not put out probabilities: for {of} the values are {lowest[row]:.4g} to {highest[row]:.4g} with sum "
        f"{sums[row]:.4g}; expected 0 to 1 with sum 1. Probably {likely}"
    )


@dataclass(frozen=True)
class Score:
    """The result of an evaluation over n labelled records."""

    hits: np.ndarray  # 1 for each record with a correct top-1 prediction, else 0; int8 (n,)
    top5_hits: int
    confusion: np.ndarray  # int (classes, classes): rows true, columns predicted
    confidences: np.ndarray  # the largest probability of each record, float32 (n,)
    nll: float  # mean negative log-likelihood, in nats
    brier: float  # mean Brier score, 0 to 2

    @property
    def n(self) -> int:
        return len(self.hits)

    @property
    def top1_hits(self) -> int:
        return int(self.hits.sum())

    @property
    def top1(self) -> float:
        return self.top1_hits / self.n

    @property
    def top5(self) -> float:
        return self.top5_hits / self.n

    @property
    def top1_interval(self) -> tuple[float, float]:
        return wilson_interval(self.top1_hits, self.n)

    @property
    def top5_interval(self) -> tuple[float, float]:
        return wilson_interval(self.top5_hits, self.n)

    @property
    def reliability(self) -> list[quality.Bin]:
        return quality.reliability(self.confidences, self.hits)

    @property
    def ece(self) -> float:
        return quality.calibration_error(self.reliability)

    @property
    def by_class(self) -> ByClass:
        return ByClass.of(self.confusion)


@dataclass(frozen=True)
class ByClass:
    """Precision, recall and F1 of each class, 0 to 1, float64 (classes,).

    Precision is 0 for a class that is never predicted. Recall is 0 for a class without records. The averages count only
    the classes that have records.
    """

    records: np.ndarray  # of each class, int (classes,)
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray

    @classmethod
    def of(cls, confusion: np.ndarray) -> ByClass:
        """Computes the values from a confusion matrix, rows true, columns predicted."""
        return cls.of_counts(np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0))

    @classmethod
    def of_counts(cls, hits: np.ndarray, records: np.ndarray, predicted: np.ndarray) -> ByClass:
        """Computes the values from the hits, the records and the predictions of each class, (classes,)."""
        return cls(
            records,
            hits / np.maximum(predicted, 1),
            hits / np.maximum(records, 1),
            2 * hits / np.maximum(records + predicted, 1),
        )

    def macro(self) -> dict[str, float]:
        """Returns the means over the classes that have records. The mean of the recalls is the balanced accuracy."""
        present = self.records > 0
        means = {name: float(getattr(self, name)[present].mean()) for name in ("precision", "recall", "f1")}
        return {"balanced_accuracy": means["recall"], **{f"macro_{name}": value for name, value in means.items()}}


class Tally:
    """Accumulates a score over batches. A Tally keeps five bytes for each record."""

    def __init__(self, classes: int, step: float = 0.0) -> None:
        """Starts empty. `step` is the quantization step of the probabilities, or 0."""
        self._step = step
        self._hits: list[np.ndarray] = []
        self._confidences: list[np.ndarray] = []
        self._top5_hits = 0
        self._nll = self._brier = 0.0  # sums
        self._confusion = np.zeros((classes, classes), np.int64)

    def add(self, probabilities: np.ndarray, labels: np.ndarray) -> None:
        """Adds a batch: probabilities (n, classes) and labels (n,).

        Raises:
            ValueError: a probability is not finite.
        """
        if not np.isfinite(probabilities).all():
            raise ValueError("the model put out values that are not numbers (NaN or infinite)")
        ranks = rank_of_label(probabilities, labels)
        np.add.at(self._confusion, (labels, probabilities.argmax(axis=1)), 1)
        self._hits.append((ranks == 1).astype(np.int8))
        self._confidences.append(probabilities.max(axis=1).astype(np.float32))
        self._nll += float(quality.log_losses(probabilities, labels, self._step).sum())
        self._brier += float(quality.brier_scores(probabilities, labels).sum())
        self._top5_hits += int((ranks <= min(5, probabilities.shape[1])).sum())

    def score(self) -> Score:
        hits = np.concatenate([np.zeros(0, np.int8), *self._hits])
        confidences = np.concatenate([np.zeros(0, np.float32), *self._confidences])
        n = max(1, len(hits))
        return Score(hits, self._top5_hits, self._confusion, confidences, self._nll / n, self._brier / n)


def score(probabilities: np.ndarray, labels: np.ndarray) -> Score:
    """Scores probabilities (n, classes) against labels (n,).

    Raises:
        ValueError: a probability is not finite.
    """
    tally = Tally(probabilities.shape[1])
    tally.add(probabilities, labels)
    return tally.score()


def records_for(max_drop: float) -> int:
    """Returns the number of records for which the 95 % interval of a loss is `max_drop` (a fraction) to each side.

    The number is valid in the best case, in which no prediction changes.
    """
    return math.ceil(Z_95 / max_drop - 1e-9) - 2


def too_few_records(n: int, total: int, max_drop: float | None) -> str | None:
    """Returns a warning if n records are too few to measure a loss of `max_drop` (a fraction), or else None.

    Args:
        total: size of the split.
    """
    if max_drop is None:
        return None
    at_best = f"even with no answer changed the loss may be {100 * Z_95 / (n + 2):.2f} points (95 %)"
    if max_drop <= 0:
        return (
            f"no number of records can show that nothing is lost: with {n:,}, {at_best}. A drop of 0 demands only that "
            "on these records as many answers are right as before"
        )
    if n >= records_for(max_drop):
        return None
    needed, points = records_for(max_drop), f"{100 * max_drop:g} {'point' if max_drop == 0.01 else 'points'}"
    is_coarse = 1 / n > max_drop
    one = f"one record is {100 / n:.2f} points, and " if is_coarse else ""
    strict = ", and a single record lost is refused" if is_coarse else ""
    remedy = f"give another --split or build a larger set (this split has {total:,})"
    if n < total and needed <= total:
        remedy = "give --records=0"
    return (
        f"{n:,} records cannot show a loss of {points}: {one}{at_best}{strict}. That takes {needed:,} records: {remedy}"
    )


def drop(score: Score, against: Score) -> tuple[float, tuple[float, float]]:
    """Returns the loss of top-1 against another model on the same records in the same order, and its 95 % interval.

    Both are fractions. The loss is negative if the first model is better.
    """
    lost = against.hits - score.hits
    return float(lost.mean()), paired_interval(lost)
