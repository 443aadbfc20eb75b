"""The table that ends a build."""

from __future__ import annotations

from sqznet import console
from sqznet.data import colour
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
        title=f"{manifest.folder}: {len(manifest.classes):,} {'class' if len(manifest.classes) == 1 else 'classes'}",
    )
    more = f", ... and {len(manifest.classes) - NAMED:,} more" if len(manifest.classes) > NAMED else ""
    console.result(f"classes: {', '.join(manifest.classes[:NAMED])}{more}")
    red, green, blue = manifest.channel_means
    of = "train" if "train" in manifest.splits else " and ".join(manifest.splits)
    console.result(f"channel means of {of}: R {red:.3f}, G {green:.3f}, B {blue:.3f}")
    colours = manifest.content.get("colours", {})  # sets of earlier versions do not say
    if colours.get(colour.CONVERTED):
        console.result(f"{colours[colour.CONVERTED]:,} photographs were converted from their colour profile to sRGB")
    if colours.get(colour.BROKEN):
        console.result(f"{colours[colour.BROKEN]:,} photographs have a broken colour profile and were taken as sRGB")
    for note in manifest.content.get("notes", ()):
        console.say(f"note: {note}")
    rejected = manifest.content["rejected"]
    if rejected:
        console.result(f"{rejected:,} file{'s' * (rejected > 1)} rejected: see {manifest.folder / 'rejects.csv'}")


def _range(per_class: list[int], classes: tuple[str, ...]) -> str:
    """`357 (n03394916) to 419 (n03028079)`: the smallest class and the largest."""
    low, high = min(per_class), max(per_class)
    if low == high:
        return f"{low:,} each"
    return f"{low:,} ({classes[per_class.index(low)]}) to {high:,} ({classes[per_class.index(high)]})"
