"""Defines when a classifier answers "not sure": below which largest probability, and what it gains (El-Yaniv 2010)."""

from __future__ import annotations

from typing import Any

import numpy as np

from sqznet.core import metrics

# An int8 file gives at most 255/256, so a threshold above it would refuse every answer of such a file.
THRESHOLDS = (
    *(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8),
    *(0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995),
)
ROW = {"threshold": float, "n": int, "share": float, "accuracy": float, "accuracy_interval_95": tuple[float, float]}


def table(confidences: np.ndarray, hits: np.ndarray) -> list[dict[str, Any]]:
    """Returns a row for each of THRESHOLDS: which records are answered there, and how many of the answers are right.

    A record is answered if its largest probability is at least the threshold.

    Args:
        confidences: the largest probability of each record, 0 to 1, (n,).
        hits: whether the top-1 class of each record is correct, bool (n,).

    Returns:
        Rows with the fields of ROW: the threshold, the number of answered records, their share of all records, the
        share of correct answers among them, and its 95 % interval (Wilson). Thresholds without an answer have no row.
    """
    rows = []
    for threshold in THRESHOLDS:
        answered = confidences.astype(np.float64) >= threshold
        n, right = int(answered.sum()), int(hits[answered].sum())
        if n:
            row = {"threshold": threshold, "n": n, "share": n / len(hits), "accuracy": right / n}
            rows.append({**row, "accuracy_interval_95": list(metrics.wilson_interval(right, n))})
    return rows


def lowest(rows: list[dict[str, Any]], min_precision: float) -> dict[str, Any] | None:
    """Returns the row with the lowest threshold whose accuracy is at least `min_precision`, or None if none has it."""
    return min(
        (row for row in rows if row["accuracy"] >= min_precision), key=lambda row: row["threshold"], default=None
    )
