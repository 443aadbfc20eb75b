"""Recommends a small and fast file of a bundle for each kind of runtime. All files have passed the checks."""

from __future__ import annotations

from typing import Any

from sqznet.export import formatting

PLACES = {  # by format: where its files run
    "tflite": "phones: Android and iOS, with LiteRT or MediaPipe",
    "onnx": "ONNX Runtime: servers, desktops, browsers",
    "savedmodel": "TensorFlow: servers",
}
NEAR = 1.1  # The fastest file is recommended among those at most this many times as large as the smallest.


def recommended(entries: formatting.Entries) -> dict[str, tuple[str, dict[str, Any]]]:
    """Returns by format the recommended file and its entry of the manifest."""
    found = {}
    for format_name in PLACES:
        of_format = [item for item in entries if item[1]["format"] == format_name]
        # Decoded photographs are NHWC; NCHW files are for users who ask for that layout.
        candidates = [item for item in of_format if item[1]["input"]["layout"] == "NHWC"] or of_format
        if candidates:
            smallest = min(entry["bytes"] for _, entry in candidates)
            small = [item for item in candidates if item[1]["bytes"] <= NEAR * smallest]
            found[format_name] = min(small, key=lambda item: (_milliseconds(item[1]) or 0.0, item[1]["bytes"]))
    return found


def _milliseconds(entry: dict[str, Any]) -> float | None:
    """Returns the median latency of one photograph with one thread, or None if the latency was not measured."""
    return entry.get("latency", {}).get("1", {}).get("median_ms")


def headline(entries: formatting.Entries) -> str:
    """Describes the first recommended file, and the reason."""
    format_name, (name, entry) = next(iter(recommended(entries).items()))
    others = [item for item in entries if item[1]["format"] == format_name and item[0] != name]
    result, kind = entry["proof"], formatting.FORMAT_NAMES[format_name]
    rank = f"the only {kind} file here"
    if others:
        is_near = any(other["bytes"] <= NEAR * entry["bytes"] for _, other in others)
        rank = f"the {'fastest of the smallest' if is_near else 'smallest'} of {len(others) + 1} {kind} files"
    text = (
        f"Take {name} for {PLACES[format_name]}. It is {rank} ({entry['bytes'] / 1000**2:.2f} MB), gives the same "
        f"answer as the Keras model on {formatting.counted(result['top1_agreement'], result['n'])} records, and "
        f"{_loss(result)}."
    )
    best, other = min(others, key=lambda item: (item[1]["proof"]["drop"], item[1]["bytes"]), default=(name, entry))
    if other["proof"]["drop"] < result["drop"] > 0:
        text += f" If that is too much, take {best} ({other['bytes'] / 1000**2:.2f} MB): it {_loss(other['proof'])}."
    return text


def _loss(result: dict[str, Any]) -> str:
    low, high = map(formatting.points_of, result["drop_interval_95"])
    interval = f"95 % interval of the loss {low} to {high} points"
    lost = round(result["drop"] * result["n"])
    if lost <= 0:
        return f"loses no top-1 on them ({interval})"
    points = formatting.points_of(result["drop"])
    return f"loses {points} points of top-1, {lost:,} of {result['n']:,} records ({interval})"


def rows(entries: formatting.Entries) -> list[list[str]]:
    """Returns a line for each runtime: where it runs, the file, MB, top-1 lost, latency in ms."""
    return [
        [
            PLACES[format_name],
            name,
            f"{entry['bytes'] / 1000**2:.2f}",
            formatting.points(entry["proof"]["drop"], entry["proof"]["drop_interval_95"]),
            "-" if (median := _milliseconds(entry)) is None else f"{median:.2f}",
        ]
        for format_name, (name, entry) in recommended(entries).items()
    ]
