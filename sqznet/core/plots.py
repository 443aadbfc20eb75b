"""Writes plots as PNG files: training curve, sheets, confusion matrix, reliability, rates, sizes."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sqznet.core import console, files, metrics
from sqznet.core.probabilities import Bin

SHEET = 48  # maximum number of photographs on a prediction sheet
SHEET_COLUMNS = 8
NAMED = 40  # maximum number of classes whose names and counts fit into a confusion matrix
LONGEST = 28  # maximum length of a name in a plot, in characters


def _figure(width: float, height: float) -> Any:
    # Not pyplot, which needs a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _literal(text: str) -> str:
    """Escapes the dollar signs in a name. Matplotlib sets text between dollar signs as a formula."""
    return console.printable(text).replace("$", r"\$")


def _save(figure: Any, path: Path) -> None:
    with files.replacing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # characters that the font lacks become boxes
        figure.savefig(temporary, dpi=100, format="png")


def _short(name: str) -> str:
    return _literal(name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…")


def training_curve(
    history: Sequence[dict[str, float]],
    path: Path,
    title: str,
    *,
    kept: dict[str, float] | None = None,
    classes: int | None = None,
) -> None:
    """Plots loss and accuracy over the epochs as PNG.

    Args:
        history: the lines of metrics.csv.
        kept: the line of the epoch in best.keras. None means that no epoch is marked.
        classes: number of classes. With up to five, top-5 is always 100 % and is left out.
    """
    from matplotlib.ticker import MaxNLocator

    figure = _figure(10, 4)
    loss, accuracy = figure.subplots(1, 2)
    shares = ("train_top1", "val_top1", "val_top5")[: 3 if classes is None or 5 in metrics.ranks(classes) else 2]
    for axes, names, label in ((loss, ("train_loss", "val_loss"), "cross-entropy"), (accuracy, shares, "accuracy, %")):
        scale = 100 if axes is accuracy else 1
        for name in names:
            points = [(each["epoch"], scale * each[name]) for each in history if name in each]
            axes.plot(*zip(*points, strict=True), label=name.replace("_", " "), marker="o", markersize=4)
        if kept:
            value = scale * kept[names[1]]
            axes.axvline(kept["epoch"], linestyle=":", color="black", linewidth=1)
            shown = f"{value:.2f} %" if axes is accuracy else f"{value:.3f}"
            axes.plot(
                kept["epoch"], value, marker="*", markersize=13, color="black", linestyle="none",
                label=f"kept: epoch {kept['epoch']:.0f}, {names[1].replace('_', ' ')} {shown}",
            )  # fmt: skip
        axes.set(xlabel="epoch", ylabel=label, xlim=(0.5, max(each["epoch"] for each in history) + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(_literal(title))
    _save(figure, path)


def prediction_sheet(images: Sequence[np.ndarray], captions: Sequence[str], path: Path) -> None:
    """Writes the first SHEET images (uint8 RGB) with their captions as PNG."""
    images, captions = images[:SHEET], captions[:SHEET]
    columns = min(SHEET_COLUMNS if len(images) > 12 else 4, len(images))
    rows = -(-len(images) // columns)
    figure = _figure(2.4 * columns, 2.9 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, caption in zip(grid.flat, images, captions, strict=False):
        axes.imshow(image)
        lines = [part for line in caption.split("\n") for part in textwrap.wrap(line, 34, max_lines=2, placeholder="…")]
        axes.set_title(_literal("\n".join(lines)), fontsize=8)
    _save(figure, path)


def confusion_matrix(
    counts: np.ndarray, classes: Sequence[str], path: Path, title: str, *, totals: np.ndarray | None = None
) -> None:
    """Plots the confusion matrix as PNG, with true classes in rows. The colour is the percentage of the true class.

    Args:
        totals: number of photographs of each true class, if some predicted classes are not in `counts`.
    """
    totals = counts.sum(axis=1) if totals is None else totals
    shares = 100 * counts / np.maximum(totals, 1)[:, None]
    names = [f"{_short(name)} ({total:,})" for name, total in zip(classes, totals, strict=True)]
    side = max(4.5, min(14.0, 0.6 * len(classes) + 2.5))
    figure = _figure(side + 1.5, side)
    axes = figure.subplots()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(drawn, ax=axes, label="% of the true class")
    axes.set(xlabel="predicted class", ylabel="true class (photographs)")
    figure.suptitle(_literal("\n".join(textwrap.wrap(title, 60))))  # as wide as the figure
    if len(classes) <= NAMED:
        few = len(classes) <= 12
        turned = {"rotation": 45, "ha": "right"} if few else {"rotation": 90}
        axes.set_xticks(range(len(classes)), map(_short, classes), **turned)
        axes.set_yticks(range(len(classes)), names)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                share = shares[row, column]
                colour = "white" if share > 50 else "black"
                text = f"{count:,}\n{share:.0f} %" if few else f"{count:,}"
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    _save(figure, path)


def reliability(bins: Sequence[Bin], ece: float, path: Path, title: str) -> None:
    """Plots a reliability diagram as PNG: accuracy over confidence, with the 95 % interval of each bin."""
    figure = _figure(5, 5)
    axes = figure.subplots()
    intervals = [metrics.wilson_interval(round(each.n * each.accuracy), each.n) for each in bins]
    confidences, shares = ([100 * getattr(each, name) for each in bins] for name in ("confidence", "accuracy"))
    below = [max(0.0, share - 100 * low) for share, (low, _) in zip(shares, intervals, strict=True)]
    above = [max(0.0, 100 * high - share) for share, (_, high) in zip(shares, intervals, strict=True)]
    axes.plot([0, 100], [0, 100], linestyle="--", color="gray", label="accuracy = confidence")
    label = f"{len(bins)} bins of equal mass, ECE {100 * ece:.2f} %"
    axes.errorbar(confidences, shares, [below, above], marker="o", markersize=4, capsize=2, linewidth=1, label=label)
    axes.set(xlabel="confidence, %", ylabel="accuracy, %", xlim=(0, 101), ylim=(0, 101), aspect="equal")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    figure.suptitle(_literal("\n".join(textwrap.wrap(title, 50))))
    _save(figure, path)


def answered(rows: Sequence[dict[str, Any]], threshold: float, path: Path, title: str) -> None:
    """Plots the answered shares of own and foreign photographs, and the accuracy of the own answers, as PNG.

    Args:
        rows: of `evaluate.none_of_these.by_threshold`.
        threshold: that the figures are for.
    """
    figure = _figure(7, 4.5)
    axes = figure.subplots()
    places = range(len(rows))  # the thresholds are closer together near 1
    for name, label in (
        ("accuracy", "right, of the answered own photographs"),
        ("own_answered", "answered, of the own photographs"),
        ("foreign_answered", "answered, of the foreign photographs"),
    ):
        values = [float("nan") if row[name] is None else 100 * row[name] for row in rows]
        axes.plot(places, values, marker="o", markersize=4, label=label)
    place = float(np.interp(threshold, [row["threshold"] for row in rows], places))
    axes.axvline(place, linestyle="--", color="gray", label=f"threshold {threshold:.4g}")
    axes.set_xticks(places, [f"{row['threshold']:g}" for row in rows], rotation=90)
    axes.set(xlabel="threshold of the largest probability", ylabel="%", ylim=(0, 101))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    figure.suptitle(_literal("\n".join(textwrap.wrap(title, 70))))
    _save(figure, path)


def rates(values: np.ndarray, losses: Sequence[float], means: np.ndarray, suggested: float, path: Path) -> None:
    """Plots the raw and the smoothed loss at each learning rate as PNG, and marks the suggested rate."""
    figure = _figure(7, 4)
    axes = figure.subplots()
    axes.plot(values, losses, alpha=0.3, label="loss of a batch")
    axes.plot(values, means, label="smoothed")
    axes.axvline(suggested, linestyle="--", color="black", label=f"suggested: {suggested:.2g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss", ylim=(0, 1.5 * float(means[0])))
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def parallel_coordinates(names: Sequence[str], rows: Sequence[Sequence[Any]], path: Path) -> None:
    """Writes a parallel-coordinates plot as PNG: one line for each row, one axis for each column.

    The last column sets the colour of a line. Axes of numbers go from the lowest to the highest value. Other axes are
    in alphabetical order.
    """
    figure = _figure(max(6.0, 1.5 * len(names)), 4.5)
    axes = figure.subplots()
    columns = [list(column) for column in zip(*rows, strict=True)]
    heights = []
    for place, values in enumerate(columns):
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            low, high = min(values), max(values)
            scaled = [(value - low) / (high - low) if high > low else 0.5 for value in values]
            marks = {(0.0 if high > low else 0.5): f"{low:.3g}", (1.0 if high > low else 0.5): f"{high:.3g}"}
        else:
            levels = sorted({str(value) for value in values})
            step = 1 / max(1, len(levels) - 1)
            scaled = [levels.index(str(value)) * step for value in values]
            marks = {index * step: _literal(level) for index, level in enumerate(levels)}
        heights.append(scaled)
        axes.axvline(place, color="black", linewidth=0.8)
        for height, text in marks.items():
            axes.text(place + 0.03, height, text, fontsize=7, va="center", bbox={"color": "white", "alpha": 0.7})
    from matplotlib import colormaps

    shades = heights[-1]
    for row, shade in sorted(zip(zip(*heights, strict=True), shades, strict=True), key=lambda each: each[1]):
        axes.plot(range(len(names)), row, color=colormaps["viridis"](shade), alpha=0.8)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8)
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(names) - 0.6)
    _save(figure, path)


def size_curve(
    points: Sequence[tuple[int, float, tuple[float, float]]], chosen: int, uncompressed: float, path: Path, title: str
) -> None:
    """Plots top-1 over file size as PNG.

    Args:
        points: for each point the bytes, top-1 (a fraction), and the 95 % interval of the loss of top-1.
        chosen: index of the chosen point.
        uncompressed: top-1 of the uncompressed network (a fraction).
    """
    figure = _figure(8, 4.5)
    axes = figure.subplots()
    sizes = [size / 1000 for size, _, _ in points]
    top1 = [100 * share for _, share, _ in points]
    low = [100 * (uncompressed - lost[1]) for _, _, lost in points]
    high = [100 * (uncompressed - lost[0]) for _, _, lost in points]
    axes.fill_between(sizes, low, high, alpha=0.2, label="95 % interval of the difference")
    axes.plot(sizes, top1, marker=".", label="compressed")
    axes.plot(sizes[chosen], top1[chosen], marker="o", markersize=9, linestyle="none", label="chosen")
    axes.axhline(100 * uncompressed, linestyle="--", color="gray", label="uncompressed")
    axes.set(xlabel="file size, kB", ylabel="top-1, %", title=_literal(title))
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)
