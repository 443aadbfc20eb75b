"""Searches for the price of a bit (the Lagrange multiplier) that gives a wanted size or accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sqznet.network.quantization import bit_price

CLOSE_ENOUGH = 0.99  # of the target size, to stop the search
PASSES = 5
STRIDE = 3.0  # factor between prices until the limit is between two of them
BISECTIONS = 2  # after that


@dataclass(frozen=True)
class Point:
    """One compressed file, and its accuracy on n records."""

    price: float  # nats of divergence a bit
    data: bytes
    top1: float
    top5: float
    drop: float  # of top-1, as a fraction
    interval: tuple[float, float]  # of the drop, 95 %, paired
    divergence: float  # nats, from the uncompressed model's probabilities
    n: int

    @property
    def bytes(self) -> int:
        return len(self.data)


def divergence(reference: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Computes the Kullback-Leibler divergence of probabilities (n, classes) from `reference`, in nats, float64."""
    reference, other = (np.maximum(each.astype(np.float64), 1e-12) for each in (reference, other))
    return (reference * np.log(reference / other)).sum(axis=1)


def by_size(compress: Callable[[float], Point], estimate: Callable[[float], float], target: int) -> list[Point]:
    """Returns points that approach `target` bytes from below.

    The last point that is small enough is the largest of these.

    Args:
        compress: makes a point at a price.
        estimate: estimated bytes at a price (`bit_price.estimator`).
    """
    points: list[Point] = []
    low, high = bit_price.FINEST, bit_price.COARSEST  # prices: the file is too large at `low` and fits at `high`
    price = bit_price.at_size(estimate, target)
    for _ in range(PASSES):
        points.append(compress(price))
        size = points[-1].bytes
        if CLOSE_ENOUGH * target <= size <= target:
            break
        low, high = (max(low, price), high) if size > target else (low, min(high, price))
        # This assumes that the estimate is wrong by the same factor at all prices. It aims between CLOSE_ENOUGH and 1.
        wanted = (1 + CLOSE_ENOUGH) / 2 * target * estimate(price) / size
        price = bit_price.at_size(estimate, wanted)
        if not low < price < high:
            price = math.sqrt(low * high)
    return points


def by_drop(compress: Callable[[float], Point], start: float, max_drop: float) -> list[Point]:
    """Returns points at geometric prices until one is on the other side of `max_drop` (a fraction), then bisects."""
    points: list[Point] = []
    fits, exceeds = 0.0, math.inf  # the largest price within `max_drop`, and the smallest beyond it

    def add(price: float) -> None:
        nonlocal fits, exceeds
        points.append(compress(price))
        if points[-1].drop <= max_drop:
            fits = price
        else:
            exceeds = price

    add(start)
    factor = STRIDE if fits else 1 / STRIDE
    while fits == 0 or exceeds == math.inf:
        price = points[-1].price * factor
        if not bit_price.FINEST < price < bit_price.COARSEST:
            return points
        add(price)
    for _ in range(BISECTIONS):
        add(math.sqrt(fits * exceeds))
    return points


def best(points: list[Point], target: int | None, max_drop: float | None) -> Point | None:
    """Chooses a point within both limits.

    With a target, chooses the point of least divergence, else the smallest file.
    """
    fit = [
        each
        for each in points
        if (target is None or each.bytes <= target) and (max_drop is None or each.drop <= max_drop + 1e-9)
    ]
    return min(fit, key=lambda each: each.bytes if target is None else each.divergence, default=None)
