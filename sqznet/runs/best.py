"""Chooses the best epoch of a run, for `best.keras`, the curve, `runs` and `tune`.

The recipe's field `best` names the figure of val that decides: top-1, balanced accuracy, macro F1, or the loss. With a
small val split, several epochs often have the same accuracy. Then the epoch with the lowest val loss is the best. If
these losses are equal too, the first of these epochs is the best.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from sqznet.core import console, metrics

Line = dict[str, float]  # the metrics of an epoch, as in metrics.csv

NAMES = {"top1": "top-1", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1", "loss": "loss"}


def rank(line: Line, by: str = "top1") -> tuple[float, float]:
    """Returns a sort key that is larger for a better epoch. NaN is the worst.

    Args:
        by: the deciding figure, a key of NAMES. An epoch without this figure is the worst.
    """
    loss = line.get("val_loss", math.inf)
    loss = -math.inf if math.isnan(loss) else -loss
    figure = loss if by == "loss" else line.get(f"val_{by}", math.nan)
    return -math.inf if math.isnan(figure) else figure, loss


def of(history: Iterable[Line], by: str = "top1") -> Line | None:
    """Returns the best of the evaluated epochs, or None if there is none. `by` is the deciding figure."""
    return max((line for line in history if "val_top1" in line), key=lambda line: rank(line, by), default=None)


def out_of_patience(history: Sequence[Line], patience: int, by: str = "top1") -> bool:
    """Returns whether a run ends after its last epoch, because its figure has not risen for `patience` epochs.

    An epoch with an equal figure and a lower loss is kept, but it does not count as better here. An epoch that was not
    evaluated does not end a run.

    Args:
        history: the finished epochs.
        patience: 0 means that a run does not end early.
        by: the figure, a key of NAMES.
    """
    evaluated = [line for line in history if "val_top1" in line]
    if not patience or not evaluated or evaluated[-1] is not history[-1]:
        return False
    first = max(evaluated, key=lambda line: rank(line, by)[0])  # the first of those with the best figure
    return history[-1]["epoch"] - first["epoch"] >= patience


def no_better(by: str, patience: int) -> str:
    """Returns the reason why a run has ended early."""
    return f"no better val {NAMES[by]} in {console.counted(patience, 'epoch')} (patience={patience})"


def explained(kept: Line, history: Sequence[Line], records: int, classes: int, by: str = "top1") -> str:
    """Describes the best epoch in a sentence: its number, its metrics, and the reason why it is the best.

    Args:
        kept: the line of the epoch that is in `best.keras`.
        records: size of the val split.
        by: the deciding figure.
    """
    figure = f"val_{by}"
    equal = sum(line.get(figure) == kept[figure] for line in history)
    which = "it has the lowest loss" if by != "loss" else "it is the first"
    why = f"; {equal} epochs have this {NAMES[by]}, and of these {which}" if equal > 1 else ""
    top5 = f", top-5 (rank-5) {console.percent(kept['val_top5'])}" if 5 in metrics.ranks(classes) else ""
    other = f", {NAMES[by]} {console.percent(kept[figure])}" if by in ("balanced_accuracy", "macro_f1") else ""
    return (
        f"kept epoch {kept['epoch']:.0f} of {len(history)}: val top-1 (rank-1) "
        f"{console.percent(kept['val_top1'])}{top5}{other} (n = {records:,}), val loss {kept['val_loss']:.3f}{why}"
    )


def small_split_warning(records: int) -> str | None:
    """Returns a warning if val has fewer than 100 photographs. One photograph is then more than a point of top-1."""
    if records >= 100:
        return None
    return (
        f"val has {console.counted(records, 'photograph')}, and one of them is {100 / records:.1f} points of top-1: "
        "smaller differences mean nothing; 100 or more would say more"
    )
