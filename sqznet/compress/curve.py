"""Reports all points of a compression: a table, a CSV file and a plot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqznet.compress.rate_search import Point
from sqznet.core import console, files, metrics, plots
from sqznet.network.coverage import Coverage


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


def path_of(out: Path, suffix: str) -> Path:
    return out.with_name(f"{out.stem}-curve{suffix}")


def write(
    points: list[Point],
    chosen: Point,
    real_top1: float,
    out: Path,
    title: str,
    measured: Coverage,
    calibrated: Coverage,
) -> None:
    """Writes all points as CSV and as a plot beside the .sqz file.

    Args:
        measured, calibrated: class coverage of the photographs for the measurement and for the calibration.
    """
    points = sorted(points, key=lambda each: each.bytes)
    rows = []
    for each in points:
        figures = [each.top1, each.top5, each.drop, *each.interval, each.divergence, each.price]
        classes = [measured.classes, calibrated.classes, measured.of_classes]
        rows.append([each.bytes, *(f"{figure:.6g}" for figure in figures), each.n, int(each is chosen), *classes])
    columns = "bytes top1 top5 drop drop_low_95 drop_high_95 divergence price n chosen"
    files.write_csv(path_of(out, ".csv"), [*columns.split(), "classes", "calibrated_classes", "of_classes"], rows)
    marks = [(each.bytes, each.top1, each.interval) for each in points]
    plots.size_curve(marks, points.index(chosen), real_top1, path_of(out, ".png"), title)
