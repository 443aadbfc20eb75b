"""Measures whether probabilities are right: calibration error, likelihood, Brier score. Fits a temperature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 15  # of the reliability diagram and of the calibration error
LEAST_PROBABILITY = 1e-12  # smaller probabilities count as this one in the NLL, which would be infinite for 0
LIMITS = (0.05, 20.0)  # of a temperature
STEPS = 60  # of the bisection: the last interval is below the precision of float64


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the probabilities of logits (n, classes), float32."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class Bin:
    """Describes one bin of a reliability diagram."""

    n: int  # records
    confidence: float  # mean of the largest probabilities
    accuracy: float  # share of the records with a correct top-1 class


def reliability(confidences: np.ndarray, hits: np.ndarray) -> list[Bin]:
    """Returns BINS bins of equal mass, sorted by confidence. There are fewer bins if there are fewer records.

    Each bin has the same number of records, plus or minus one (adaptive bins: Nguyen and O'Connor 2015, EMNLP; Nixon et
    al. 2019, arXiv 1904.01685). Records with equal confidence share their hits, so the result does not depend on the
    order of the records. int8 files have many records with equal confidence.

    Args:
        confidences: the largest probability of each record, 0 to 1, (n,).
        hits: 1 for each record with a correct top-1 class, else 0, (n,).
    """
    if not len(confidences):
        return []
    _, group, sizes = np.unique(confidences, return_inverse=True, return_counts=True)
    shares = (np.bincount(group, weights=hits) / sizes)[group]
    order = np.argsort(confidences, kind="stable")
    parts = np.array_split(order, min(BINS, len(order)))
    return [
        Bin(len(part), float(confidences[part].mean(dtype=np.float64)), float(shares[part].mean())) for part in parts
    ]


def calibration_error(bins: list[Bin]) -> float:
    """Returns the expected calibration error (ECE), 0 to 1 (Guo et al. 2017, arXiv 1706.04599, equation 3).

    The ECE is the mean of |accuracy - confidence| over the bins, weighted by the records of each bin.
    """
    total = sum(each.n for each in bins)
    return sum(each.n * abs(each.accuracy - each.confidence) for each in bins) / total


def log_losses(probabilities: np.ndarray, labels: np.ndarray, step: float = 0.0) -> np.ndarray:
    """Returns -log of the probability of the true class, float64 (n,). The mean is the negative log-likelihood (NLL).

    Args:
        probabilities: (n, classes).
        labels: the true class of each record, (n,).
        step: the quantization step of the probabilities, or 0. A probability below half a step counts as half a step.
    """
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return -np.log(np.maximum(own, max(step / 2, LEAST_PROBABILITY)))


def brier_scores(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the sum of (probability - truth)^2 over the classes for each record, float64 (n,).

    The mean is the Brier score, from 0 to 2 (Brier 1950, Monthly Weather Review 78).
    """
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    squares = np.einsum("nc,nc->n", probabilities, probabilities, dtype=np.float64)
    return squares - 2 * own + 1


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the temperature T with the least NLL of softmax(logits / T) (Guo et al. 2017, section 4.2).

    The NLL is convex in 1/T. Therefore bisection of its derivative finds the minimum.

    Args:
        logits: (n, classes).
        labels: the true class of each record, (n,).

    Raises:
        ValueError: the minimum is outside LIMITS, for example because every record is classified correctly.
    """
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    own = logits[np.arange(len(labels)), labels]

    def slope(inverse: float) -> float:
        """Returns the derivative of the mean NLL by 1/T."""
        weights = np.exp(logits * inverse)
        return float(((weights * logits).sum(axis=1) / weights.sum(axis=1) - own).mean())

    low, high = 1 / LIMITS[1], 1 / LIMITS[0]
    if slope(low) >= 0 or slope(high) <= 0:
        raise ValueError(f"no temperature from {LIMITS[0]:g} to {LIMITS[1]:g} has the least NLL")
    for _ in range(STEPS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / (low * high) ** 0.5
