"""Ranks likely label errors by the probabilities of a model: confident learning (Northcutt et al. 2021, JAIR 70)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Suspect:
    """A record whose label is likely wrong."""

    record: int  # row of the predictions
    likely: int  # the class that the model predicts with confidence
    margin: float  # probability of the label minus the largest probability of another class, -1 to 1


def suspects(labels: np.ndarray, probabilities: np.ndarray) -> list[Suspect]:
    """Returns the likely label errors, the most likely first.

    The threshold of a class is the mean probability of the class over the records with this label (section 3.1). A
    record is suspect if the most probable of the classes over their thresholds is not its label. Suspects are ranked by
    the normalized margin (section 3.2).

    Args:
        labels: of each record, int (n,).
        probabilities: from a model that was not trained on these records, float (n, classes).
    """
    n, classes = probabilities.shape
    own = probabilities[np.arange(n), labels]
    records = np.bincount(labels, minlength=classes)
    # A class without records has no threshold. No record can be confidently of this class.
    thresholds = np.where(records, np.bincount(labels, own, classes) / np.maximum(records, 1), np.inf)
    is_over = probabilities >= thresholds
    likely = np.where(is_over, probabilities, -1.0).argmax(axis=1)
    others = probabilities.copy()
    others[np.arange(n), labels] = -1.0
    margins = own - others.max(axis=1) if classes > 1 else np.ones(n)
    chosen = np.flatnonzero(is_over.any(axis=1) & (likely != labels))
    order = chosen[np.lexsort((chosen, margins[chosen]))]
    return [Suspect(int(row), int(likely[row]), float(margins[row])) for row in order]
