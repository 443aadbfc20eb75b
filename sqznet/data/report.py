"""The table that ends a build."""

from __future__ import annotations

from sqznet import console
from sqznet.data.manifest import Manifest

NAMED = 10  # classes that are listed by name


def print_counts(manifest: Manifest) -> None:
    rows = []
    for split in manifest.splits:
        counts = manifest.content["splits"][split]
        rows.append(
            [
                split,
                f"{counts['records']:,}",
                _range(counts["per_class"], manifest.classes),
                len(manifest.shards_of(split)),
                f"{counts['bytes']:,}",
            ]
        )
    console.table(
        ["split", "records", "per class", "shards", "bytes"],
        rows,
        title=f"{manifest.folder}: {_classes(manifest.classes)}",
    )
    red, green, blue = manifest.channel_means
    of = "train" if "train" in manifest.splits else " and ".join(manifest.splits)
    console.result(f"channel means of {of}: R {red:.3f}, G {green:.3f}, B {blue:.3f}")
    for note in manifest.content.get("notes", ()):
        console.say(f"note: {note}")
    if manifest.content["rejected"]:
        console.result(f"{manifest.content['rejected']} files rejected: see {manifest.folder / 'rejects.csv'}")


def _classes(classes: tuple[str, ...]) -> str:
    names = ", ".join(classes[:NAMED])
    rest = f", ... and {len(classes) - NAMED:,} more" if len(classes) > NAMED else ""
    return f"{len(classes):,} {'class' if len(classes) == 1 else 'classes'}: {names}{rest}"


def _range(per_class: list[int], classes: tuple[str, ...]) -> str:
    """`357 (n03394916) to 419 (n03028079)`: the smallest class and the largest."""
    low, high = min(per_class), max(per_class)
    if low == high:
        return f"{low:,} each"
    return f"{low:,} ({classes[per_class.index(low)]}) to {high:,} ({classes[per_class.index(high)]})"
