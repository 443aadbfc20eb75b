"""Which file of a bundle to take: for each kind of runtime a small and quick one, as all have passed the gates."""

from __future__ import annotations

from typing import Any

from sqznet.export import formatting

PLACES = {  # by format: where its files run
    "tflite": "phones: Android and iOS, with LiteRT or MediaPipe",
    "onnx": "ONNX Runtime: servers, desktops, browsers",
    "savedmodel": "TensorFlow: servers",
}
COLUMNS = ["for", "take", "MB", "top-1 lost, points", "1 thread, ms"]


NEAR = 1.1  # times the smallest: of files about as small, the quickest is taken


def taken(entries: formatting.Entries) -> dict[str, tuple[str, dict[str, Any]]]:
    """By format, the file to take and its entry of the manifest."""
    found = {}
    for format_name in PLACES:
        of_format = [item for item in entries if item[1]["format"] == format_name]
        # Photographs are NHWC; NCHW is for who asks for it.
        candidates = [item for item in of_format if item[1]["input"]["layout"] == "NHWC"] or of_format
        if candidates:
            smallest = min(entry["bytes"] for _, entry in candidates)
            small = [item for item in candidates if item[1]["bytes"] <= NEAR * smallest]
            found[format_name] = min(small, key=lambda item: (_milliseconds(item[1]) or 0.0, item[1]["bytes"]))
    return found


def _milliseconds(entry: dict[str, Any]) -> float | None:
    """The median time of one photograph with one thread, where it was measured."""
    latency = entry.get("latency", {})
    return latency["1"]["median_ms"] if "1" in latency else None


def headline(entries: formatting.Entries) -> str:
    """The file to take first of all, and why."""
    format_name, (name, entry) = next(iter(taken(entries).items()))
    others = [item for item in entries if item[1]["format"] == format_name and item[0] != name]
    proof = entry["proof"]
    kind = formatting.FORMATS[format_name]
    rank = f"the only {kind} file here"
    if others:
        near = [item for item in others if item[1]["bytes"] <= NEAR * entry["bytes"]]
        how = "the quickest of the smallest" if near else "the smallest"
        rank = f"{how} of {len(others) + 1} {kind} files"
    text = (
        f"Take {name} for {PLACES[format_name]}. It is {rank} ({entry['bytes'] / 1000**2:.2f} MB), answers as the "
        f"Keras model on {formatting.counted(proof['top1_agreement'], proof['n'])} records, and {_loss(proof)}."
    )
    if proof["drop"] > 0:
        best, other = min(others, key=lambda item: (item[1]["proof"]["drop"], item[1]["bytes"]), default=(name, entry))
        if other["proof"]["drop"] < proof["drop"]:
            text += (
                f" If that is too much, take {best} ({other['bytes'] / 1000**2:.2f} MB): it {_loss(other['proof'])}."
            )
    return text


def _loss(proof: dict[str, Any]) -> str:
    interval = f"95 % interval of the loss {formatting.points_of(proof['drop_interval_95'][0])} to "
    interval += f"{formatting.points_of(proof['drop_interval_95'][1])} points"
    lost = round(proof["drop"] * proof["n"])
    if lost <= 0:
        return f"loses no top-1 on them ({interval})"
    return (
        f"loses {formatting.points_of(proof['drop'])} points of top-1, {lost:,} of {proof['n']:,} records ({interval})"
    )


def rows(entries: formatting.Entries) -> list[list[str]]:
    """Lines of a table with COLUMNS."""
    return [
        [
            PLACES[format_name],
            name,
            f"{entry['bytes'] / 1000**2:.2f}",
            formatting.points(entry["proof"]["drop"], entry["proof"]["drop_interval_95"]),
            "-" if (median := _milliseconds(entry)) is None else f"{median:.2f}",
        ]
        for format_name, (name, entry) in taken(entries).items()
    ]
