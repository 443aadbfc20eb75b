"""Prepares the figures by class in report.html: the confusion matrix or its largest entries, and accuracies."""

from __future__ import annotations

from typing import Any

import numpy as np

from sqznet.core import metrics
from sqznet.export import formatting

DRAWN = 20  # largest number of classes in a drawn matrix: with more, the most frequent confusions are listed
LISTED = 20  # lines of a table at most
LEAST_RECORDS = 10  # smallest number of records for a meaningful accuracy, if not all classes are listed


def tables(confusion: np.ndarray, labels: tuple[str, ...]) -> dict[str, Any]:
    """Returns the content of the section, as report.html.j2 takes it.

    Args:
        confusion: records by class, rows true and columns predicted, (classes, classes).
    """
    shown = np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1))
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    is_drawn = len(shown) <= DRAWN
    by_class, note = _by_class(confusion, wrong, labels)
    return {
        "hits": int(np.trace(confusion)),
        "n": int(confusion.sum()),
        "matrix": [(labels[each], confusion[each, shown].tolist()) for each in shown] if is_drawn else [],
        "confusions": [
            [labels[true], labels[answer], f"{wrong[true, answer]:,} of {confusion[true].sum():,}"]
            for true, answer in sorted(np.argwhere(wrong), key=lambda pair: (-wrong[tuple(pair)], tuple(pair)))[:LISTED]
        ],
        "by_class": by_class,
        "note": note,
    }


def _by_class(confusion: np.ndarray, wrong: np.ndarray, labels: tuple[str, ...]) -> tuple[list[list[str]], str]:
    """Returns a line for each class, or for the worst of many, and a note about this choice."""
    totals, hits = confusion.sum(axis=1), np.diag(confusion)
    shown, note = [int(each) for each in np.flatnonzero(totals)], ""
    if len(shown) > LISTED:
        enough = [each for each in shown if totals[each] >= LEAST_RECORDS]
        if not enough:
            return [], f"No class has {LEAST_RECORDS} records or more: too few for the accuracy of a single class."
        shown = sorted(enough, key=lambda each: (hits[each] / totals[each], each))[:LISTED]
        note = f"The {len(shown)} worst of {len(enough):,} classes with {LEAST_RECORDS} records or more:"
    rows = []
    for each in shown:
        n, right, others = int(totals[each]), int(hits[each]), wrong[each]
        taken = f"{labels[others.argmax()]} ({others.max():,})" if others.any() else "-"
        rows.append([labels[each], formatting.share(right / n, metrics.wilson_interval(right, n), n), taken])
    return rows, note
