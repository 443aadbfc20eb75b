"""Sample predictions of report.html: the golden inputs as pictures, with what a file of the bundle answers."""

from __future__ import annotations

import base64
import json
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from sqznet.core import metrics
from sqznet.export import formatting, page

GUESSES = 3  # classes shown of each photograph


def section(folder: Path, entries: formatting.Entries, labels: tuple[str, ...]) -> str:
    """The section of report.html; `folder` has golden/, `entries` are those of manifest.json."""
    golden = json.loads((folder / "golden" / "golden.json").read_text())
    name, entry = _shown([item for item in entries if item[0] in golden["expected"]])
    expected = golden["expected"][name]
    dtype = np.dtype(expected["dtype"]).newbyteorder("<")
    values = np.fromfile(folder / "golden" / expected["file"], dtype).reshape(expected["shape"])
    output = entry["output"]
    probabilities = output["scale"] * (values.astype(np.float64) - output["zero_point"])  # (count, classes)
    cards = "".join(
        _sample(folder / "golden" / f"{number}.png", probabilities[number], label, labels)
        for number, label in enumerate(golden["labels"] or [None] * golden["count"])
    )
    return page.section(
        "Sample predictions",
        page.paragraph(
            f"The golden inputs, pixel for pixel what the network sees, and what {name} answers."
            + ("" if golden["labels"] else " They are drawings, of none of the classes: no answer is right.")
        ),
        f'<div class="cards samples">{cards}</div>',
    )


def _shown(entries: formatting.Entries) -> tuple[str, dict[str, Any]]:
    """The file whose answers are shown: a float32 one that phones load, where there is one."""
    for wanted in ("tflite", "onnx"):
        for name, entry in entries:
            if entry["format"] == wanted and entry["quantize"] == "none":
                return name, entry
    return entries[0]


def _sample(picture: Path, probabilities: np.ndarray, label: int | None, labels: tuple[str, ...]) -> str:
    """One picture, with its class and whether the answer is right, where it has a class."""
    best = [int(each) for each in metrics.ranking(probabilities)[:GUESSES]]
    name, verdict = "a drawing", ""
    if label is not None:
        right = best[0] == label
        name = labels[label]
        said = "✓ right" if right else f"✗ taken for {labels[best[0]]}"
        verdict = f'<span class="{"right" if right else "wrong"}">{escape(said)}</span>'
    guesses = "".join(
        f'<div class="guess"><span>{escape(labels[each])}</span><span>{100 * probabilities[each]:.1f} %</span>'
        f'<svg height="5" aria-hidden="true"><rect class="bar{int(each != label)}" rx="2" height="5" '
        f'width="{max(100 * probabilities[each], 0.5):.1f}%"/></svg></div>'
        for each in best
    )
    content = base64.b64encode(picture.read_bytes()).decode()
    return (
        f'<figure class="card"><img src="data:image/png;base64,{content}" alt="{escape(name)}">'
        f"<figcaption><b>{escape(name)}</b> {verdict}{guesses}</figcaption></figure>\n"
    )
