"""How many of a model's classes the photographs show that a network was fitted to, or measured on.

What is lost on photographs of ten classes says little about the other 990.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Coverage:
    classes: int  # that some photograph shows
    of_classes: int  # that the model has
    few_classes: bool  # whether so few that other photographs may be another matter

    def __str__(self) -> str:
        return f"{self.classes:,} of {self.of_classes:,} classes"

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def count(labels: Iterable[np.ndarray], of_set: int, of_model: int) -> Coverage:
    """Counts the classes of some photographs.

    They are few if the set they are from has fewer than half of the model's, or they show fewer than half of those that
    so many photographs could show: 128 photographs of a thousand classes cannot show more than 128.

    Args:
        labels: of each batch, (n,).
        of_set: classes that the set of photographs has.
        of_model: classes that the model has.
    """
    shown = np.concatenate([np.zeros(0, np.int64), *labels])
    classes = len(np.unique(shown))
    return Coverage(classes, of_model, 2 * of_set < of_model or 2 * classes < min(of_model, len(shown)))


def read(content: dict[str, Any]) -> Coverage | None:
    """What `to_dict` wrote, among other things; None where an older version wrote nothing of the kind."""
    names = [field.name for field in dataclasses.fields(Coverage)]
    return Coverage(*(content[name] for name in names)) if set(names) <= set(content) else None


def warning(measured: Coverage | None, fitted: Coverage | None) -> str | None:
    """What to keep in mind of a loss that was measured on some photographs after fitting to some; None if nothing.

    Args:
        measured: of the photographs that the loss was measured on.
        fitted: of those that weights were rounded for, or ranges found on; None where there are none.
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
