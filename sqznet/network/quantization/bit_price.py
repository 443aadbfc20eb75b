"""Computes the price of a bit in nats of divergence.

The price is the Lagrange multiplier of rate-distortion optimisation.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from sqznet.network.quantization import rounding
from sqznet.network.quantization.sensitivity import Sensitivity

FINEST, COARSEST = 1e-12, 1e3  # nats a bit


def estimator(kernels: dict[str, np.ndarray], sensitivities: dict[str, Sensitivity]) -> Callable[[float], float]:
    """Returns a function that estimates the bytes of a file at a price.

    It uses the entropy after rounding to nearest.
    """

    @functools.cache
    def estimate(price: float) -> float:
        bits = 0.0
        for name, kernel in kernels.items():
            step = rounding.step_of(sensitivities[name], kernel, price)
            counts = np.unique(np.round(kernel / step), return_counts=True)[1]
            bits -= float((counts * np.log2(counts / kernel.size)).sum())
        return bits / 8 + 2 * sum(kernel.shape[-1] for kernel in kernels.values())

    return estimate


def at_size(estimate: Callable[[float], float], size: float) -> float:
    """Finds by bisection the price at which a file has an estimated size of `size` bytes."""
    low, high = math.log(FINEST), math.log(COARSEST)
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if estimate(math.exp(middle)) > size else (low, middle)
    return math.exp(high)
