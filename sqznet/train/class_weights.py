"""Computes the weight of each class in the loss of training.

`balanced` is the inverse of the number of records. `effective` is the inverse of the effective number of records
(Cui et al. 2019, arXiv 1901.05555): (1 - BETA^n) / (1 - BETA) for n records. For few records the effective number is
about n. For many records it approaches 1 / (1 - BETA) = 1,000, so the weights of large classes are nearly equal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BETA = 0.999  # the paper tries 0.9 to 0.9999


def of(kind: str, per_class: Sequence[int], seen: Sequence[float]) -> np.ndarray | None:
    """Returns the weight of each class, float32 (classes,), or None for the kind `none`.

    The weights are scaled so that their mean over the records of an epoch is 1. A class without records has weight 0.

    Args:
        kind: `none`, `balanced` or `effective`.
        per_class: the records of each class. At least one is above 0.
        seen: the records of each class in an epoch, which the sampling decides.
    """
    if kind == "none":
        return None
    numbers = np.array(per_class, np.float64)
    if kind == "effective":
        numbers = (1 - BETA**numbers) / (1 - BETA)
    weights = np.divide(1, numbers, out=np.zeros_like(numbers), where=numbers > 0)
    share = np.array(seen, np.float64) / np.sum(seen)
    return (weights / (share @ weights)).astype(np.float32)
