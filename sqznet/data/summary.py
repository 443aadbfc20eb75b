"""Prints the result of a build: the photographs of each class, and warnings about the set."""

from __future__ import annotations

from sqznet.core import console
from sqznet.data.manifest import Manifest
from sqznet.data.sources import listing
from sqznet.images import colour
from sqznet.network import labels
from sqznet.runs import best

MOST_NAMES = 10  # class names in one line
MOST_ROWS = 20  # classes in the table; of more classes, the table has those with the fewest photographs


def print_counts(manifest: Manifest) -> None:
    splits, classes = {split: manifest.content["splits"][split] for split in manifest.splits}, manifest.classes
    rows = [
        [
            split,
            f"{counts['records']:,}",
            _range(counts["per_class"], classes),
            len(manifest.shards_of(split)),
            f"{counts['bytes']:,}",
        ]
        for split, counts in splits.items()
    ]
    title = f"{manifest.folder}: {console.counted(len(classes), 'class', 'classes')}"
    console.table(["split", "records", "per class", "shards", "bytes"], rows, title=title)
    more = f", ... and {len(classes) - MOST_NAMES:,} more" if len(classes) > MOST_NAMES else ""
    console.result(f"classes: {', '.join(classes[:MOST_NAMES])}{more}")
    _print_classes(splits, classes)
    red, green, blue = manifest.channel_means
    of = "train" if "train" in splits else " and ".join(splits)
    console.result(f"channel means of {of}: R {red:.3f}, G {green:.3f}, B {blue:.3f}")
    colours = manifest.content.get("colours", {})  # missing in sets of earlier versions
    if count := colours.get(colour.CONVERTED, 0):
        were = "was" if count == 1 else "were"
        console.result(f"{console.counted(count, 'photograph')} {were} converted from another colour profile to sRGB")
    if count := colours.get(colour.BROKEN, 0):
        have, were = ("has", "was") if count == 1 else ("have", "were")
        photographs = console.counted(count, "photograph")
        console.result(f"{photographs} {have} a broken colour profile and {were} taken as sRGB")
    for note in (*manifest.content.get("notes", ()), *_warnings(manifest)):
        console.say(f"note: {note}")
    rejected = manifest.content["rejected"]
    if rejected:
        console.result(f"{console.counted(rejected, 'file')} rejected: see {manifest.folder / 'rejects.csv'}")


def _print_classes(splits: dict[str, dict], classes: tuple[str, ...]) -> None:
    """Prints one row for each class.

    If there are many classes, prints those with the fewest photographs in the first split.
    """
    columns = [counts["per_class"] for counts in splits.values()]
    order = list(range(len(classes)))
    title = "photographs of each class"
    if len(classes) > MOST_ROWS:
        order = sorted(order, key=lambda label: (columns[0][label], label))[:MOST_ROWS]
        title = f"the {MOST_ROWS} smallest of {len(classes):,} classes, by photographs in {next(iter(splits))}"
    rows = []
    for label in order:
        name, words = classes[label], labels.readable([classes[label]])[0]
        rows.append([name if words == name else f"{name} ({words})", *(f"{column[label]:,}" for column in columns)])
    console.table(["class", *splits], rows, title=title)


def _warnings(manifest: Manifest) -> list[str]:
    """Returns warnings about properties of the set that affect training."""
    notes, known = [], manifest.content.get("notes", ())
    for split in manifest.splits:
        without = manifest.classes_without(split)
        # The source has reported such classes, unless all photographs of a class were rejected.
        if without and not any(note.startswith(f"{split}: ") and "no photographs" in note for note in known):
            verb = "has" if len(without) == 1 else "have"
            notes.append(
                f"{split}: {len(without):,} of {len(manifest.classes):,} classes {verb} no photographs "
                f"({listing.abbreviated(without)})"
            )
    coarse = best.small_split_warning(manifest.records("val")) if {"train", "val"} <= set(manifest.splits) else None
    return [*notes, coarse] if coarse else notes


def _range(per_class: list[int], classes: tuple[str, ...]) -> str:
    """Describes the smallest and the largest class, such as `357 (n03394916) to 419 (n03028079)`."""
    low, high = min(per_class), max(per_class)
    if low == high:
        return f"{low:,} each"
    return f"{low:,} ({classes[per_class.index(low)]}) to {high:,} ({classes[per_class.index(high)]})"
