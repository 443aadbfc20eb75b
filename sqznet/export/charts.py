"""Computes the axis of the charts in report.html. templates/charts.html.j2 draws the charts."""

from __future__ import annotations

import math


def axis(low: float, high: float, most: int = 5) -> list[float]:
    """Returns two to `most` round numbers, from at or below `low` to at or above `high`, within 0 and 1."""
    digits = -4
    while True:
        for factor in (1, 2, 5):
            step = factor * 10.0**digits
            first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
            last = max(last, first + 1)
            if last * step > 1 + 1e-9:  # only where low and high are both 1
                first, last = first - 1, last - 1
            if last - first < most:
                return [round(number * step, 6) for number in range(first, last + 1)]
        digits += 1
