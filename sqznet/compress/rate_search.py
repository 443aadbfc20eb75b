"""Finds the price of a bit at which a file has the size, or the accuracy, that was asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sqznet.core import console, metrics
from sqznet.network.coverage import Coverage
from sqznet.network.quantization import bit_price

NEAR_ENOUGH = 0.99  # of the target: a hundredth less is not worth another pass
PASSES = 5
STRIDE = 3.0  # factor between prices while the search still goes outwards


@dataclass(frozen=True)
class Point:
    """One compression of the network, and what is left of it on n records."""

    price: float  # nats of divergence a bit
    data: bytes
    top1: float
    top5: float
    drop: float  # of top-1, as a share
    interval: tuple[float, float]  # of the drop, 95 %, paired
    divergence: float  # nats, from the uncompressed model's probabilities
    n: int

    @property
    def bytes(self) -> int:
        return len(self.data)


def divergence(real: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Nats from the probabilities of the real network to those of the compressed one, of each record: float64 (n,)."""
    real, other = (np.maximum(each.astype(np.float64), 1e-12) for each in (real, other))
    return (real * np.log(real / other)).sum(axis=1)


def by_size(compress: Callable[[float], Point], estimate: Callable[[float], float], target: int) -> list[Point]:
    """Points nearer and nearer below `target` bytes; the last one that fits is the largest.

    Args:
        compress: makes a point at a price.
        estimate: bytes at a price, roughly, without any work.
    """
    points: list[Point] = []
    low, high = bit_price.FINEST, bit_price.COARSEST  # prices: at `low` the file is too large, at `high` it fits
    price = bit_price.at_size(estimate, target)
    for _ in range(PASSES):
        points.append(compress(price))
        size = points[-1].bytes
        if NEAR_ENOUGH * target <= size <= target:
            break
        low, high = (max(low, price), high) if size > target else (low, min(high, price))
        # As if the estimate were wrong by the same factor everywhere; aims into the middle of what is near enough.
        wanted = (1 + NEAR_ENOUGH) / 2 * target * estimate(price) / size
        price = bit_price.at_size(estimate, wanted)
        if not low < price < high:
            price = math.sqrt(low * high)
    return points


def by_drop(compress: Callable[[float], Point], start: float, max_drop: float) -> list[Point]:
    """Points coarser and coarser up to `max_drop` (a share of records), then between the last two."""
    points = [compress(start)]
    outwards = points[0].drop <= max_drop
    fine, coarse = (start, math.inf) if outwards else (0.0, start)
    while fine == 0 or coarse == math.inf:
        price = points[-1].price * (STRIDE if outwards else 1 / STRIDE)
        if not bit_price.FINEST < price < bit_price.COARSEST:
            return points
        points.append(compress(price))
        if points[-1].drop <= max_drop:
            fine = price
        else:
            coarse = price
    for _ in range(2):
        points.append(compress(math.sqrt(fine * coarse)))
        if points[-1].drop <= max_drop:
            fine = points[-1].price
        else:
            coarse = points[-1].price
    return points


def best(points: list[Point], target: int | None, max_drop: float | None) -> Point | None:
    """Of those that hold to both: with a target the most faithful one, else the smallest."""
    fit = [each for each in points if target is None or each.bytes <= target]
    fit = [each for each in fit if max_drop is None or each.drop <= max_drop + 1e-9]
    if not fit:
        return None
    return min(fit, key=lambda each: each.bytes if target is None else each.divergence)


def print_table(points: list[Point], chosen: Point | None, real_top1: float, measured: Coverage) -> None:
    columns: dict[str, Callable[[Point], str]] = {
        "bytes": lambda each: f"{each.bytes:,}",
        "top-1": lambda each: console.percent(each.top1),
        "points lost": lambda each: f"{100 * each.drop:.2f}",
        "95 % interval": lambda each: f"{100 * each.interval[0]:.2f} to {100 * each.interval[1]:.2f}",
        "top-5": lambda each: console.percent(each.top5),
        "divergence, nats": lambda each: f"{each.divergence:.4f}",
        "chosen": lambda each: "<-" if each is chosen else "",
    }
    if 5 not in metrics.ranks(measured.of_classes):
        del columns["top-5"]
    console.table(
        list(columns),
        [[cell(each) for cell in columns.values()] for each in sorted(points, key=lambda each: each.bytes)],
        title=f"n = {points[0].n:,}, {measured}; uncompressed top-1 {console.percent(real_top1)}",
    )
