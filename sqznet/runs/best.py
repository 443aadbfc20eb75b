"""Chooses the best epoch of a run, for `best.keras`, the curve, `runs` and `tune`.

The best epoch has the highest val top-1. With a small val split, several epochs often have the same top-1. Then the
epoch with the lowest val loss is the best. If these losses are equal too, the first of these epochs is the best.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from sqznet.core import console, metrics

Line = dict[str, float]  # the metrics of an epoch, as in metrics.csv


def rank(line: Line) -> tuple[float, float]:
    """Returns a sort key that is larger for a better epoch. NaN is the worst."""
    top1, loss = line["val_top1"], line.get("val_loss", math.inf)
    return -math.inf if math.isnan(top1) else top1, -math.inf if math.isnan(loss) else -loss


def of(history: Iterable[Line]) -> Line | None:
    """Returns the best of the evaluated epochs, or None if there is none."""
    return max((line for line in history if "val_top1" in line), key=rank, default=None)


def explained(kept: Line, history: Sequence[Line], records: int, classes: int) -> str:
    """Describes the best epoch in a sentence: its number, its metrics, and the reason why it is the best.

    Args:
        kept: the line of the epoch that is in `best.keras`.
        records: size of the val split.
    """
    equal = sum(line.get("val_top1") == kept["val_top1"] for line in history)
    why = f"; {equal} epochs have this top-1, and of these it has the lowest loss" if equal > 1 else ""
    top5 = f", top-5 (rank-5) {console.percent(kept['val_top5'])}" if 5 in metrics.ranks(classes) else ""
    return (
        f"kept epoch {kept['epoch']:.0f} of {len(history)}: val top-1 (rank-1) "
        f"{console.percent(kept['val_top1'])}{top5} (n = {records:,}), val loss {kept['val_loss']:.3f}{why}"
    )


def small_split_warning(records: int) -> str | None:
    """Returns a warning if val has fewer than 100 photographs. One photograph is then more than a point of top-1."""
    if records >= 100:
        return None
    return (
        f"val has {console.counted(records, 'photograph')}, and one of them is {100 / records:.1f} points of top-1: "
        "smaller differences mean nothing; 100 or more would say more"
    )
