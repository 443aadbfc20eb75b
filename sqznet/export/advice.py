"""Which file of a bundle to take: for each kind of runtime the smallest one, as all have passed the gates."""

from __future__ import annotations

from typing import Any

from sqznet.export import wording

PLACES = {  # by format: where its files run
    "tflite": "phones: Android and iOS, with LiteRT or MediaPipe",
    "onnx": "ONNX Runtime: servers, desktops, browsers",
    "savedmodel": "TensorFlow: servers",
}
COLUMNS = ["for", "take", "MB", "top-1 lost, points", "1 thread, ms"]


def taken(entries: wording.Entries) -> dict[str, tuple[str, dict[str, Any]]]:
    """By format, the file to take and its entry of the manifest."""
    found = {}
    for format_name in PLACES:
        of_format = [item for item in entries if item[1]["format"] == format_name]
        if of_format:
            # Of files of the same size NHWC comes first, as photographs are.
            found[format_name] = min(
                of_format, key=lambda item: (item[1]["bytes"], item[1]["input"]["layout"] != "NHWC")
            )
    return found


def headline(entries: wording.Entries) -> str:
    """The file to take first of all, and why."""
    format_name, (name, entry) = next(iter(taken(entries).items()))
    others = [item for item in entries if item[1]["format"] == format_name and item[0] != name]
    proof = entry["proof"]
    kind = wording.FORMATS[format_name]
    rank = f"the smallest of {len(others) + 1} {kind} files" if others else f"the only {kind} file here"
    text = (
        f"Take {name} for {PLACES[format_name]}. It is {rank} ({entry['bytes'] / 1000**2:.2f} MB), answers as the "
        f"Keras model on {wording.counted(proof['top1_agreement'], proof['n'])} records, and {_loss(proof)}."
    )
    if proof["drop"] > 0:
        best, other = min(others, key=lambda item: (item[1]["proof"]["drop"], item[1]["bytes"]), default=(name, entry))
        if other["proof"]["drop"] < proof["drop"]:
            text += (
                f" If that is too much, take {best} ({other['bytes'] / 1000**2:.2f} MB): it {_loss(other['proof'])}."
            )
    return text


def _loss(proof: dict[str, Any]) -> str:
    interval = f"95 % interval of the loss {wording.points_of(proof['drop_interval_95'][0])} to "
    interval += f"{wording.points_of(proof['drop_interval_95'][1])} points"
    lost = round(proof["drop"] * proof["n"])
    if lost <= 0:
        return f"loses no top-1 on them ({interval})"
    return f"loses {wording.points_of(proof['drop'])} points of top-1, {lost:,} of {proof['n']:,} records ({interval})"


def rows(entries: wording.Entries) -> list[list[str]]:
    """Lines of a table with COLUMNS."""
    return [
        [
            PLACES[format_name],
            name,
            f"{entry['bytes'] / 1000**2:.2f}",
            wording.points(entry["proof"]["drop"], entry["proof"]["drop_interval_95"]),
            f"{entry['latency']['1']['median_ms']:.2f}" if "1" in entry.get("latency", {}) else "-",
        ]
        for format_name, (name, entry) in taken(entries).items()
    ]
