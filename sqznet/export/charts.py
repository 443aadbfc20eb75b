"""Charts of report.html: rows of name, picture and figure, in inline SVG that is as wide as the page lets it be.

Everything horizontal is in per cent of the width, so that a chart fits a phone and a desktop, and dots stay round.
Colours are classes of `page.STYLE`. Names and figures are escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

ROW_HEIGHT = 26  # pixels
BAR_HEIGHT = 12
MARGIN = 1.5  # per cent on either side, so that a dot at the end is whole


@dataclass(frozen=True)
class Bars:
    """A row: a bar for each value, one under the other."""

    name: str
    values: tuple[float, ...]
    figure: str


@dataclass(frozen=True)
class Dot:
    """A row: a value with its interval."""

    name: str
    value: float
    interval: tuple[float, float]
    figure: str


def bars(rows: Sequence[Bars], limit: tuple[float, str] | None = None) -> str:
    """Bars from 0; `limit` is a value drawn as a line through all rows, and what it is called."""
    end = max([value for row in rows for value in row.values] + ([limit[0] * 1.02] if limit else []) + [1e-9])
    line = _line(100 * limit[0] / end, "limit") if limit else ""
    drawn = []
    if limit:
        text = f'<text x="{100 * limit[0] / end - 1:.2f}%" y="16" text-anchor="end">{escape(limit[1])}</text>'
        drawn.append(_row("", text + line, "", ROW_HEIGHT))
    for row in rows:
        height = max(ROW_HEIGHT, (BAR_HEIGHT + 2) * len(row.values) + 8)
        top = (height - (BAR_HEIGHT + 2) * len(row.values) + 2) / 2
        marks = "".join(
            f'<rect class="bar{index}" x="0" y="{top + index * (BAR_HEIGHT + 2):g}" rx="2" '
            f'width="{max(100 * value / end, 0.3):.2f}%" height="{BAR_HEIGHT}"/>'
            for index, value in enumerate(row.values)
        )
        drawn.append(_row(row.name, marks + line, row.figure, height))
    return f'<div class="chart">{"".join(drawn)}</div>'


def dots(rows: Sequence[Dot], reference: float) -> str:
    """Shares with their intervals on an axis that is as long as they need; a line through all rows at `reference`."""
    ticks = axis(min(row.interval[0] for row in rows), max(row.interval[1] for row in rows))
    low, high = ticks[0], ticks[-1]

    def place(value: float) -> float:
        return MARGIN + (100 - 2 * MARGIN) * (value - low) / (high - low)

    grid = "".join(_line(place(tick), "grid") for tick in ticks) + _line(place(reference), "reference")
    drawn = []
    for row in rows:
        start, end = (place(bound) for bound in row.interval)
        middle = ROW_HEIGHT / 2
        mark = (
            f'<line class="interval" x1="{start:.2f}%" x2="{end:.2f}%" y1="{middle:g}" y2="{middle:g}"/>'
            f'<circle class="dot" cx="{place(row.value):.2f}%" cy="{middle:g}" r="5"/>'
        )
        drawn.append(_row(row.name, grid + mark, row.figure, ROW_HEIGHT))
    anchors = ["start", *["middle"] * (len(ticks) - 2), "end"]
    texts = "".join(
        f'<text x="{place(tick):.2f}%" y="16" text-anchor="{anchor}">{_percent(tick)}</text>'
        for tick, anchor in zip(ticks, anchors, strict=True)
    )
    drawn.append(_row("", texts, "", ROW_HEIGHT))
    return f'<div class="chart">{"".join(drawn)}</div>'


def axis(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from at or below `low` to at or above `high`, two to `most` of them, within 0 and 1."""
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


def legend(names: Sequence[str]) -> str:
    """What the bars of a row stand for, first to last."""
    keys = "".join(f'<span><i class="key bar{index}"></i>{escape(name)}</span>' for index, name in enumerate(names))
    return f'<p class="legend">{keys}</p>'


def _row(name: str, marks: str, figure: str, height: float) -> str:
    empty = "" if name else " axis"
    return (
        f'<div class="row{empty}"><span class="name">{escape(name)}</span>'
        f'<svg class="plot" height="{height:g}" aria-hidden="true">{marks}</svg>'
        f'<span class="figure">{escape(figure)}</span></div>'
    )


def _line(place: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{place:.2f}%" x2="{place:.2f}%" y1="0" y2="100%"/>'


def _percent(value: float) -> str:
    return f"{100 * value:g} %"
