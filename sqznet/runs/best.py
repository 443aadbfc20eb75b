"""Which epoch of a run is the best one. All commands go by this: `best.keras`, the curve, `runs` and `tune`.

The highest val top-1 decides. Small val splits tie all the time; of equal epochs the one with the lower val loss is
surer of its answers. Of epochs that are equal in both, the first stays: a later one would say nothing new.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from sqznet.core import console, metrics

Line = dict[str, float]  # of an epoch, as in metrics.csv


def rank(line: Line) -> tuple[float, float]:
    """A key that is larger for a better epoch: val top-1, then the val loss, from high to low. NaN is the worst."""
    top1, loss = line["val_top1"], line.get("val_loss", math.inf)
    return -math.inf if math.isnan(top1) else top1, -math.inf if math.isnan(loss) else -loss


def of(history: Iterable[Line]) -> Line | None:
    """The best of the epochs that were evaluated; None if there is none."""
    return max((line for line in history if "val_top1" in line), key=rank, default=None)


def explained(kept: Line, history: Sequence[Line], records: int, classes: int) -> str:
    """Which epoch was kept, and why.

    Args:
        kept: the line of the epoch that `best.keras` is of.
        records: in the val split.
    """
    equal = sum(line.get("val_top1") == kept["val_top1"] for line in history)
    why = f"; {equal} epochs have this top-1, and of these it has the lowest loss" if equal > 1 else ""
    top5 = f", top-5 (rank-5) {console.percent(kept['val_top5'])}" if 5 in metrics.ranks(classes) else ""
    return (
        f"kept epoch {kept['epoch']:.0f} of {len(history)}: val top-1 (rank-1) "
        f"{console.percent(kept['val_top1'])}{top5} (n = {records:,}), val loss {kept['val_loss']:.3f}{why}"
    )


def coarseness(records: int) -> str | None:
    """A warning where one photograph of val is more than a point of top-1, so that it cannot tell models apart."""
    if records >= 100:
        return None
    return (
        f"val has {console.counted(records, 'photograph')}, and one of them is {100 / records:.1f} points of top-1: "
        "smaller differences mean nothing; 100 or more would say more"
    )
