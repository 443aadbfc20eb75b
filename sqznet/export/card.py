"""Writes MODEL_CARD.md of a bundle from templates/MODEL_CARD.md.j2: intended use, origin, accuracy and licence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqznet.core import files
from sqznet.export import advice, formatting, readme, rendering

FILE = "MODEL_CARD.md"
HUB_LICENCES = {"BSD-2-Clause": "bsd-2-clause"}  # licences of the catalogue of weights, as model hubs name them
PUBLISHED = {"format": "format", "sha256": "sha256", "stated_accuracy": "stated top-1, top-5"}  # of a published file


def write(folder: Path, manifest: dict[str, Any], labels: tuple[str, ...], reference: dict[str, Any]) -> None:
    """Writes `folder`/MODEL_CARD.md. It starts with the metadata of model hubs, as YAML.

    Args:
        manifest: the content of manifest.json.
        labels: the classes in words, in the order of the outputs.
        reference: the Keras model's accuracy on the records that all files were compared on.
    """
    entries, weights = formatting.in_order(manifest), manifest["weights"] or {}
    names = {"top-1 (rank-1)": "top1", "top-5 (rank-5)": "top5"}
    content = rendering.render(
        "MODEL_CARD.md.j2",
        name=formatting.name_of(folder),
        manifest=manifest,
        entries=entries,
        labels=labels,
        reference=reference,
        formatting=formatting,
        advice=advice,
        hub_licences=HUB_LICENCES,
        licence_file=readme.LICENCE,
        tags=["squeezenet", "image-classification", *dict.fromkeys(entry["format"] for _, entry in entries)],
        hub_metrics=_hub_metrics(entries, reference, len(labels)),
        published=[
            f"{what} {formatting.markdown(weights[key])}" for key, what in PUBLISHED.items() if weights.get(key)
        ],
        accuracy=[[name, formatting.accuracy(reference, key)] for name, key in names.items()],
        by_file=[_line(name, entry) for name, entry in entries],
        quality=[["Keras model", *formatting.quality(reference)]]
        + [[f"`{name}`", *formatting.quality(entry["proof"])] for name, entry in entries],
        ports=[[f"`{name}`", *formatting.ports(name, entry)[1:]] for name, entry in entries],
    )
    files.write_text(folder / FILE, content)


def _hub_metrics(entries: formatting.Entries, reference: dict[str, Any], classes: int) -> list[tuple[str, float]]:
    """Returns the accuracies for model hubs, each with a description. All files were compared on the same n records."""
    n = f"{reference['n']:,} records"
    found = [(f"top-1 of the Keras model, {n}", reference["top1"])]
    if classes > 5:  # the top-5 of five classes is always 100 %
        found.append((f"top-5 of the Keras model, {n}", reference["top5"]))
    return found + [(f"top-1 of {name}, {n}", entry["proof"]["top1"]) for name, entry in entries]


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
