"""The table that ends a build."""

from __future__ import annotations

from sqznet import console
from sqznet.data import colour
from sqznet.data.manifest import Manifest


def print_counts(manifest: Manifest) -> None:
    rows = []
    for split in manifest.splits:
        counts = manifest.content["splits"][split]
        per_class = counts["per_class"]
        rows.append(
            [
                split,
                f"{counts['records']:,}",
                f"{min(per_class):,} to {max(per_class):,}",
                len(manifest.shards_of(split)),
                f"{counts['bytes']:,}",
            ]
        )
    console.table(
        ["split", "records", "per class", "shards", "bytes"],
        rows,
        title=f"{manifest.folder}: {len(manifest.classes)} classes",
    )
    red, green, blue = manifest.channel_means
    console.result(f"channel means of train: R {red:.3f}, G {green:.3f}, B {blue:.3f}")
    colours = manifest.content.get("colours", {})  # sets of earlier versions do not say
    if colours.get(colour.CONVERTED):
        console.result(f"{colours[colour.CONVERTED]:,} photographs were converted from their colour profile to sRGB")
    if colours.get(colour.BROKEN):
        console.result(f"{colours[colour.BROKEN]:,} photographs have a broken colour profile and were taken as sRGB")
    if manifest.content["rejected"]:
        console.result(f"{manifest.content['rejected']} files rejected: see {manifest.folder / 'rejects.csv'}")
