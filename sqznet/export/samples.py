"""Computes the sample predictions of report.html: the golden inputs as pictures, with the answers of a file."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sqznet.core import metrics
from sqznet.export import formatting
from sqznet.predict import class_maps, inference

GUESSES = 3  # classes shown of each photograph


def read(folder: Path, entries: formatting.Entries) -> dict[str, Any]:
    """Returns the content of the section, as report.html.j2 takes it.

    Args:
        folder: the bundle, with its golden/.
        entries: those of manifest.json.
    """
    golden = json.loads((folder / "golden" / "golden.json").read_text())
    name, entry = _shown([item for item in entries if item[0] in golden["expected"]])
    expected, output = golden["expected"][name], entry["output"]
    dtype = np.dtype(expected["dtype"]).newbyteorder("<")
    values = np.fromfile(folder / "golden" / expected["file"], dtype).reshape(expected["shape"])
    probabilities = output["scale"] * (values.astype(np.float64) - output["zero_point"])  # (count, classes)
    overlays = None
    if "class_map" in entry:
        pixels = np.fromfile(folder / "golden" / golden["inputs"]["file"], np.uint8).reshape(golden["inputs"]["shape"])
        overlays = _overlays(folder, name, pixels)
    return {
        "file": name,
        "labelled": golden["labels"] is not None,
        "pictures": [
            {
                "png": base64.b64encode((folder / "golden" / f"{number}.png").read_bytes()).decode(),
                "label": label,
                "guesses": [(int(each), float(row[each])) for each in metrics.ranking(row)[:GUESSES]],
                "overlay": None if overlays is None else overlays[number],
            }
            for number, (label, row) in enumerate(
                zip(golden["labels"] or [None] * golden["count"], probabilities, strict=True)
            )
        ],
    }


def _overlays(folder: Path, name: str, pixels: np.ndarray) -> list[str]:
    """Returns pictures of the class maps of a file for these inputs, each for the likeliest class: PNG in base64."""
    predictor = inference.load(folder / name)
    grid = predictor.require_class_map()
    found = []
    for image in pixels:  # one after the other, as a phone does
        (probabilities,), (maps,) = predictor.predict_with_class_map(image[None])
        drawn = class_maps.draw_on_input(image, maps[..., metrics.ranking(probabilities)[0]], grid)
        buffer = io.BytesIO()
        Image.fromarray(drawn).save(buffer, "PNG", optimize=True)
        found.append(base64.b64encode(buffer.getvalue()).decode())
    return found


def _shown(entries: formatting.Entries) -> tuple[str, dict[str, Any]]:
    """Chooses the file whose answers are shown: a float32 TFLite file if there is one, else a float32 ONNX file."""
    for wanted in ("tflite", "onnx"):
        for name, entry in entries:
            if entry["format"] == wanted and entry["quantize"] == "none":
                return name, entry
    return entries[0]
