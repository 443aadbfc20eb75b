"""What ends a build: how many photographs there are of each class, and what is to be known of the set."""

from __future__ import annotations

from sqznet.core import console
from sqznet.data.manifest import Manifest
from sqznet.data.sources import listing
from sqznet.images import colour
from sqznet.network import labels
from sqznet.runs import best

NAMED = 10  # classes in the line of names
LISTED = 20  # classes in the table: of more, the smallest, which are where a set is weak


def print_counts(manifest: Manifest) -> None:
    classes = console.counted(len(manifest.classes), "class", "classes")
    console.table(
        ["split", "records", "per class", "shards", "bytes"],
        [
            [
                split,
                f"{counts['records']:,}",
                _range(counts["per_class"], manifest.classes),
                len(manifest.shards_of(split)),
                f"{counts['bytes']:,}",
            ]
            for split, counts in _counts(manifest).items()
        ],
        title=f"{manifest.folder}: {classes}",
    )
    more = f", ... and {len(manifest.classes) - NAMED:,} more" if len(manifest.classes) > NAMED else ""
    console.result(f"classes: {', '.join(manifest.classes[:NAMED])}{more}")
    _print_classes(manifest)
    red, green, blue = manifest.channel_means
    of = "train" if "train" in manifest.splits else " and ".join(manifest.splits)
    console.result(f"channel means of {of}: R {red:.3f}, G {green:.3f}, B {blue:.3f}")
    colours = manifest.content.get("colours", {})  # sets of earlier versions do not say
    _print_colours(colours.get(colour.CONVERTED, 0), "converted from another colour profile to sRGB", "")
    _print_colours(colours.get(colour.BROKEN, 0), "taken as sRGB", "have a broken colour profile and ")
    for note in manifest.content.get("notes", ()):
        console.say(f"note: {note}")
    for note in _warnings(manifest):
        console.say(f"note: {note}")
    rejected = manifest.content["rejected"]
    if rejected:
        console.result(f"{console.counted(rejected, 'file')} rejected: see {manifest.folder / 'rejects.csv'}")


def _counts(manifest: Manifest) -> dict[str, dict]:
    return {split: manifest.content["splits"][split] for split in manifest.splits}


def _print_classes(manifest: Manifest) -> None:
    """A line a class; of many classes, those with the fewest photographs in the first split."""
    splits = _counts(manifest)
    columns = [counts["per_class"] for counts in splits.values()]
    order = list(range(len(manifest.classes)))
    title = "photographs of each class"
    if len(manifest.classes) > LISTED:
        order = sorted(order, key=lambda label: (columns[0][label], label))[:LISTED]
        title = f"the {LISTED} smallest of {len(manifest.classes):,} classes, by photographs in {next(iter(splits))}"
    rows = []
    for label in order:
        name, words = manifest.classes[label], labels.readable([manifest.classes[label]])[0]
        shown = name if words == name else f"{name} ({words})"
        rows.append([shown, *(f"{column[label]:,}" for column in columns)])
    console.table(["class", *splits], rows, title=title)


def _warnings(manifest: Manifest) -> list[str]:
    """What of the set will be felt in training."""
    notes, said = [], manifest.content.get("notes", ())
    for split in manifest.splits:
        without = manifest.classes_without(split)
        # The source has said so already, unless all photographs of a class were rejected.
        if without and not any(note.startswith(f"{split}: ") and "no photographs" in note for note in said):
            verb = "has" if len(without) == 1 else "have"
            notes.append(
                f"{split}: {len(without):,} of {len(manifest.classes):,} classes {verb} no photographs "
                f"({listing.listed(without)})"
            )
    coarse = best.coarseness(manifest.records("val")) if {"train", "val"} <= set(manifest.splits) else None
    return [*notes, coarse] if coarse else notes


def _print_colours(count: int, what: str, because: str) -> None:
    if count:
        have = because.replace("have", "has") if count == 1 else because
        console.result(f"{console.counted(count, 'photograph')} {have}{'was' if count == 1 else 'were'} {what}")


def _range(per_class: list[int], classes: tuple[str, ...]) -> str:
    """`357 (n03394916) to 419 (n03028079)`: the smallest class and the largest."""
    low, high = min(per_class), max(per_class)
    if low == high:
        return f"{low:,} each"
    return f"{low:,} ({classes[per_class.index(low)]}) to {high:,} ({classes[per_class.index(high)]})"
