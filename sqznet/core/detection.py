"""Measures how well a score separates photographs of the classes (own) from others (foreign): AUROC and FPR.

A higher score means that a photograph is more likely to be one of the classes. All intervals are percentile bootstrap
intervals with a fixed seed (Efron 1979). Each bootstrap draws own and foreign records with replacement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

DRAWS = 1000
SEED = 0
TPR = 0.95  # share of the own photographs that are answered, for `fpr_at_tpr`

Measure = Callable[[np.ndarray, np.ndarray], float]  # of the scores of own and of foreign photographs


@dataclass(frozen=True)
class Figure:
    """A measured value with its 95 % interval."""

    value: float
    interval_95: tuple[float, float]


def energy(logits: np.ndarray) -> np.ndarray:
    """Returns the energy score of each record, log(sum(exp(logits))), float64 (n,).

    It is the negative energy of Liu et al. 2020 (arXiv 2010.03759, equation 4, temperature 1).

    Args:
        logits: (n, classes), divided by the temperature of a calibrated network.
    """
    highest = logits.max(axis=1, keepdims=True).astype(np.float64)
    return (highest + np.log(np.exp(logits - highest).sum(axis=1, keepdims=True)))[:, 0]


def auroc(own: np.ndarray, foreign: np.ndarray) -> float:
    """Returns the area under the ROC curve: how often an own record has the higher score. Equal scores count half.

    Args:
        own: scores of own records, (n,).
        foreign: scores of foreign records, (m,).
    """
    ordered = np.sort(foreign)
    below, up_to = np.searchsorted(ordered, own, side="left"), np.searchsorted(ordered, own, side="right")
    return float((below + up_to).mean() / (2 * len(foreign)))


def threshold_at(own: np.ndarray, share: float) -> float:
    """Returns the highest score that at least this share of the own records reaches."""
    return float(np.sort(own)[::-1][max(0, int(np.ceil(share * len(own) - 1e-9)) - 1)])


def fpr_at_tpr(own: np.ndarray, foreign: np.ndarray) -> float:
    """Returns the share of foreign records that are answered where at least TPR of the own records are answered."""
    return float((foreign >= threshold_at(own, TPR)).mean())


def measured(measure: Measure, own: np.ndarray, foreign: np.ndarray) -> Figure:
    """Returns a measure of one score with its interval."""
    return _bootstrap(measure(own, foreign), lambda i, j: measure(own[i], foreign[j]), len(own), len(foreign))


def difference(measure: Measure, first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> Figure:
    """Returns the measure of the first score minus that of the second, on the same records (paired), with its interval.

    Args:
        first: the scores of own records and of foreign records.
        second: those of the second score, for the same records in the same order.
    """

    def of(i: np.ndarray | slice, j: np.ndarray | slice) -> float:
        return measure(first[0][i], first[1][j]) - measure(second[0][i], second[1][j])

    return _bootstrap(of(slice(None), slice(None)), of, len(first[0]), len(first[1]))


def _bootstrap(value: float, of: Callable[[np.ndarray, np.ndarray], float], own: int, foreign: int) -> Figure:
    random = np.random.default_rng(SEED)
    drawn = [of(random.integers(own, size=own), random.integers(foreign, size=foreign)) for _ in range(DRAWS)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Figure(value, (float(low), float(high)))
