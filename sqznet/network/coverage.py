"""Counts how many of a model's classes occur in the photographs that a network was calibrated or measured on.

A loss that was measured on photographs of ten classes does not predict the loss on the other 990 classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Coverage:
    classes: int  # that occur in the photographs
    of_classes: int  # that the model has
    few_classes: bool  # whether a result may not hold for photographs of other classes

    def __str__(self) -> str:
        return f"{self.classes:,} of {self.of_classes:,} classes"

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def count(labels: Iterable[np.ndarray], of_set: int, of_model: int) -> Coverage:
    """Counts the classes that occur in some photographs.

    There are too few classes if the data set has fewer than half of the model's classes. There are also too few if the
    photographs show fewer than half of the possible number: 128 photographs cannot show more than 128 classes.

    Args:
        labels: the labels of each batch, (n,).
        of_set: number of classes in the data set.
        of_model: number of classes in the model.
    """
    every = np.concatenate([np.zeros(0, np.int64), *labels])
    classes = len(np.unique(every))
    return Coverage(classes, of_model, 2 * of_set < of_model or 2 * classes < min(of_model, len(every)))


def read(content: dict[str, Any]) -> Coverage | None:
    """Reads the coverage from a dictionary with the items of `to_dict`. Returns None if an older version wrote it."""
    names = [field.name for field in dataclasses.fields(Coverage)]
    return Coverage(*(content[name] for name in names)) if set(names) <= set(content) else None


def warning(measured: Coverage | None, fitted: Coverage | None) -> str | None:
    """Returns the warning to print beside a measured loss if classes are missing.

    Returns None if enough classes are covered.

    Args:
        measured: coverage of the photographs that the loss was measured on.
        fitted: coverage of the photographs for calibration, or None if there was no calibration.
    """
    parts = []
    if measured is not None and measured.few_classes:
        others = measured.of_classes - measured.classes
        parts.append(
            f"The losses were measured on photographs of {measured}; they say little about the other {others:,}, which "
            "may lose more."
        )
    if fitted is not None and fitted.few_classes:
        others = fitted.of_classes - fitted.classes
        parts.append(f"The photographs calibrated on show {fitted}: the other {others:,} may lose more.")
    return " ".join(parts) or None
