"""Writes MODEL_CARD.md of a bundle from templates/MODEL_CARD.md.j2: intended use, origin, accuracy and licence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqznet.core import files
from sqznet.export import advice, formatting, rendering

FILE = "MODEL_CARD.md"
PUBLISHED = {"format": "format", "sha256": "sha256", "stated_accuracy": "stated top-1, top-5"}  # of a published file


def write(folder: Path, manifest: dict[str, Any], labels: tuple[str, ...], reference: dict[str, Any]) -> None:
    """Writes `folder`/MODEL_CARD.md.

    Args:
        manifest: the content of manifest.json.
        labels: the classes in words, in the order of the outputs.
        reference: the Keras model's accuracy on the records that all files were compared on.
    """
    entries, weights = formatting.in_order(manifest), manifest["weights"] or {}
    measures = {"top-1 (rank-1)": "top1", "top-5 (rank-5)": "top5"}
    content = rendering.render(
        "MODEL_CARD.md.j2",
        name=formatting.name_of(folder),
        manifest=manifest,
        entries=entries,
        labels=labels,
        reference=reference,
        formatting=formatting,
        advice=advice,
        published=[
            f"{what} {formatting.markdown(weights[key])}" for key, what in PUBLISHED.items() if weights.get(key)
        ],
        accuracy=[[name, formatting.accuracy(reference, key)] for name, key in measures.items()],
        by_file=[_line(name, entry) for name, entry in entries],
        ports=[[f"`{name}`", *formatting.ports(name, entry)[1:]] for name, entry in entries],
    )
    files.write_text(folder / FILE, content)


def _line(name: str, entry: dict[str, Any]) -> list[str]:
    result = entry["proof"]
    return [
        f"`{name}`",
        formatting.kind(entry),
        f"{entry['bytes']:,}",
        formatting.accuracy(result, "top1"),
        formatting.points(result["drop"], result["drop_interval_95"]),
        formatting.same_answers(result),
    ]
