"""Pictures: the training curve, a sheet of predictions, a confusion matrix."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sqznet import console, files


def _figure(width: float, height: float) -> Any:
    # The object interface: pyplot would look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _literal(text: str) -> str:
    """A name as it is: dollar signs would set what is between them as a formula."""
    return console.printable(text).replace("$", r"\$")


def _save(figure: Any, path: Path) -> None:
    with files.replacing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box stands for it
        figure.savefig(temporary, dpi=100, format="png")


def training_curve(history: Sequence[dict[str, float]], path: Path, title: str) -> None:
    """Loss and accuracy over the epochs, as PNG; `history` holds the lines of metrics.csv."""
    figure = _figure(10, 4)
    loss, accuracy = figure.subplots(1, 2)
    for axes, names, label in (
        (loss, ("train_loss", "val_loss"), "cross-entropy"),
        (accuracy, ("train_top1", "val_top1", "val_top5"), "accuracy, %"),
    ):
        scale = 100 if axes is accuracy else 1
        for name in names:
            points = [(line["epoch"], scale * line[name]) for line in history if name in line]
            axes.plot(*zip(*points, strict=True), label=name.replace("_", " "), marker=".")
        axes.set(xlabel="epoch", ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(_literal(title))
    _save(figure, path)


def prediction_sheet(images: Sequence[np.ndarray], captions: Sequence[str], path: Path) -> None:
    """Images (uint8 RGB) in rows of four, each with its caption, as PNG."""
    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    figure = _figure(2.4 * columns, 2.9 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, caption in zip(grid.flat, images, captions, strict=False):
        axes.imshow(image)
        axes.set_title(_literal(caption), fontsize=8)
    _save(figure, path)


def confusion_matrix(shares: np.ndarray, classes: Sequence[str], path: Path, title: str) -> None:
    """Rows are the true classes, columns the predicted ones, shares in per cent of the true class, as PNG."""
    side = max(4.0, min(12.0, 0.45 * len(classes) + 2))
    figure = _figure(side + 1, side)
    axes = figure.subplots()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(drawn, ax=axes, label="% of the true class")
    axes.set(xlabel="predicted", ylabel="true", title=_literal(title))
    if len(classes) <= 40:
        classes = [_literal(name) for name in classes]
        axes.set_xticks(range(len(classes)), classes, rotation=90)
        axes.set_yticks(range(len(classes)), classes)
        if len(classes) <= 20:
            for (row, column), share in np.ndenumerate(shares):
                if share >= 0.5:
                    colour = "white" if share > 50 else "black"
                    axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=7, color=colour)
    _save(figure, path)


def rates(values: np.ndarray, losses: Sequence[float], means: np.ndarray, suggested: float, path: Path) -> None:
    """The loss at each learning rate, smoothed and as it was, with the suggested rate marked, as PNG."""
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
    """A line for each row across one axis for each column, coloured by the last column, as PNG.

    Axes of numbers run from the lowest to the highest; of anything else, in the order of their texts.
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
    """Top-1 over file size, as PNG.

    Args:
        points: bytes, top-1 as a share, and the 95 % interval of what it lost, each.
        chosen: index of the point that was kept.
        uncompressed: top-1 of the network as it was, as a share.
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
