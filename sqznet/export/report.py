"""Writes report.html of a bundle: the recommended file, accuracy by file and by class, size, speed and input.

The report is one file without scripts and without network access, so that it can be sent by mail. The same bundle gives
the same bytes. The layout is templates/report.html.j2.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np

from sqznet.core import files, metrics, sizes
from sqznet.core.probabilities import Bin
from sqznet.export import advice, by_class, charts, formatting, rendering, samples, transfer

FILE = "report.html"
PAIRS = 8  # changed answers shown of each file


def write(
    folder: Path,
    manifest: dict[str, Any],
    labels: tuple[str, ...],
    budget: int,
    reference: dict[str, Any],
    confusion: np.ndarray,
    curve: Path | None = None,
) -> None:
    """Writes `folder`/report.html. Needs golden/ in `folder`.

    Args:
        manifest: the content of manifest.json.
        labels: the classes in words, in the order of the outputs.
        budget: maximum bytes of a file.
        reference: the Keras model's accuracy on the records that all files were compared on, with the bins of its
            reliability diagram.
        confusion: confusion matrix of the Keras model on these records: rows true, columns predicted, (classes,
            classes).
        curve: a PNG of the training, if there is one.
    """
    entries = formatting.in_order(manifest)
    scores = [("Keras model", reference), *((name, entry["proof"]) for name, entry in entries)]
    intervals = [score["top1_interval_95"] for _, score in scores]
    content = rendering.render(
        "report.html.j2",
        name=formatting.name_of(folder),
        manifest=manifest,
        entries=entries,
        labels=labels,
        budget=budget,
        reference=reference,
        records=formatting.records(reference["n"], reference),
        formatting=formatting,
        advice=advice,
        classes=by_class.tables(confusion, labels),
        samples=samples.read(folder, entries),
        compressors=list(transfer.COMPRESSORS),
        size_bars=[(name, (entry["bytes"],), sizes.describe(entry["bytes"])) for name, entry in entries],
        size_rows=[
            [name, f"{entry['bytes']:,}", *(f"{entry['transfer'][each]:,}" for each in transfer.COMPRESSORS)]
            for name, entry in entries
        ],
        ticks=charts.axis(min(low for low, _ in intervals), max(high for _, high in intervals)),
        accuracy_dots=[
            (name, each["top1"], each["top1_interval_95"], formatting.accuracy(each, "top1")) for name, each in scores
        ],
        accuracy_rows=[_comparison(name, entry["proof"])[: 5 if len(labels) > 5 else 4] for name, entry in entries],
        bins=[_of_bin(each) for each in reference["reliability"]],
        quality_rows=[[name, *formatting.quality(score)] for name, score in scores],
        map_rows=[_of_map(name, entry) for name, entry in entries if "class_map" in entry],
        curve=base64.b64encode(curve.read_bytes()).decode() if curve else None,
        ports=[formatting.ports(name, entry) for name, entry in entries],
        origin=_origin(manifest),
        **_speed(entries),
    )
    files.write_text(folder / FILE, content)


def _comparison(name: str, result: dict[str, Any]) -> list[str]:
    return [
        name,
        formatting.same_answers(result),
        formatting.points(result["drop"], result["drop_interval_95"]),
        f"{result['largest_difference']:.1e}",
        formatting.accuracy(result, "top5"),
    ]


def _of_bin(each: Bin) -> tuple[float, float, tuple[float, float]]:
    """Returns confidence, accuracy and the 95 % interval of the accuracy of a bin."""
    return each.confidence, each.accuracy, metrics.wilson_interval(round(each.accuracy * each.n), each.n)


def _of_map(name: str, entry: dict[str, Any]) -> list[str]:
    maps, result = entry["class_map"], entry["proof"]["class_map"]
    return [
        name,
        f"{maps['side']} x {maps['side']}",
        f"{maps['bytes']:,}",
        f"{result['largest_difference']:.1e}",
        f"{result['largest_logit_difference']:.1e}",
        f"{result['relative_error']:.1e}",
    ]


def _speed(entries: formatting.Entries) -> dict[str, Any]:
    """Returns the values for latency that the template needs, by number of threads."""
    timed = [(name, entry["latency"]) for name, entry in entries if "latency" in entry]
    threads = sorted({count for _, latency in timed for count in latency if count.isdecimal()}, key=int)
    named = [f"{count} {'thread' if count == '1' else 'threads'}" for count in threads]
    bars, rows = [], []
    for name, latency in timed:
        times = [latency[count] for count in threads]
        medians = tuple(time["median_ms"] for time in times)
        bars.append((name, medians, f"{' / '.join(f'{median:.2f}' for median in medians)} ms"))
        both = [f"{time['median_ms']:.2f} / {time['p90_ms']:.2f}" for time in times]
        rows.append([name, *both, f"{latency['peak_mib']:.1f}"])
    return {
        "threads": named,
        "speed_bars": bars,
        "speed_columns": [f"{each}, median / p90 ms" for each in named],
        "speed_rows": rows,
        "fastest": min(((latency["1"]["median_ms"], name) for name, latency in timed if "1" in latency), default=None),
    }


def _origin(manifest: dict[str, Any]) -> list[tuple[str, str | None]]:
    versions = {"sqznet": manifest["sqznet"], **manifest["converters"]}
    return [
        ("weights", formatting.origin(manifest)),
        ("licence", formatting.licence(manifest["weights"])),
        ("int8 calibration", formatting.calibration(manifest)),
        ("sha256 of the weights", manifest["model_sha256"]),
        ("made with", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("check", "python -m sqznet.export --check=FOLDER compares every file with manifest.json and golden/"),
    ]
